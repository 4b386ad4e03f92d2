"""Observables, measured along a trajectory."""
