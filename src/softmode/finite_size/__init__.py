"""Finite-size scaling: a continuous transition from the moments of an order parameter on lattices of several sides."""
