"""Trained denoisers and classifiers: the networks, a file for each family, and what loads one by its name."""
