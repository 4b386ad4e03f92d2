"""Theory: every critical time and Ginzburg-Landau parameter of a patch model, without simulation."""
