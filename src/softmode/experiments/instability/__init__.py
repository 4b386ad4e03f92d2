"""The instability experiment: the softest mode of each state, when it goes unstable, and how far it extends."""
