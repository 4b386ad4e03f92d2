"""How good a network is, measured the same way for each: errors, bounds, labels and samples."""
