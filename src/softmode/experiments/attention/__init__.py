"""The attention experiment: what attention and the statistics of norms add to a Jacobian, and over which distances."""
