"""Runs: what is kept on disk, how it is computed, and how its results are shown."""
