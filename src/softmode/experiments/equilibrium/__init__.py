"""Equilibrium of a score whose noise level is frozen: patch models on lattices of rising side, and trained networks."""
