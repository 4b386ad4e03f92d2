"""The equilibrium experiment: the dynamics of a score that is frozen at one noise level."""
