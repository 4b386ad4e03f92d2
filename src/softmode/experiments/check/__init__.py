"""Is a model what softmode takes it for? Asked before hours are spent on it."""
