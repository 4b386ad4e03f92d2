"""Equilibrium of a score whose noise level is frozen: finite-size scaling of patch models, and trained networks."""
