"""Clones: copies of trajectories, run on with noise of their own, and when they begin to agree."""
