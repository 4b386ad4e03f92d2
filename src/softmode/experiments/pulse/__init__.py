"""Pulses: short guidance at the critical noise level against the same guidance elsewhere (H.4 to H.7)."""
