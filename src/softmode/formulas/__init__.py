"""Formulas without simulation."""
