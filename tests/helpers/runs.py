"""Runs on disk."""

import hashlib
from pathlib import Path


def digest(directory: Path) -> dict[str, str]:
    """Return the hash of every file of a run's store, by its path in the run's directory."""
    files = (path for path in sorted((directory / "run.zarr").rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
