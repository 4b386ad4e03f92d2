"""The susceptibility curve: the same pulse of guidance at many noise levels, and where it changes samples most."""
