"""Trained denoisers: the U-Net, the classifier, and the registry that finds models by name, path or function."""
