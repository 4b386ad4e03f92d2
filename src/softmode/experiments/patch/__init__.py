"""The patch experiment: sample a local patch model and read off every critical quantity (Sec. 6.2, App. E)."""
