"""The window: in which noise levels to guide a model, from a probe and clones of it."""
