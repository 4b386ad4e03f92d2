"""One file per experiment: run(config) -> Run."""
