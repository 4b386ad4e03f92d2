"""The information experiment: at which noise levels, and in which modes, a sample and its label are decided."""
