"""Score every criterion on models whose answer is known."""
