"""Figures."""
FIGURES = {}
