"""The quench experiment: how large the domains are that a patch model makes, against the rate of its quench."""
