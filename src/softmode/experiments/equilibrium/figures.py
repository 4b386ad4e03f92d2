"""x"""

FIGURES = {}
