"""The dictionary experiment: random patch dictionaries, each analysed by itself before any average over disorder."""
