"""Training: what can be trained, its steps, and what is kept on disk so that it can be resumed."""
