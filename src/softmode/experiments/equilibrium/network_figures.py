"""x."""

FIGURES = {}
