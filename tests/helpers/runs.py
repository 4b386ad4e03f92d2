"""Runs on disk."""

import hashlib
from pathlib import Path
from typing import Any

from softmode.experiments.call import call, experiment
from softmode.runs.run import Run


def run(name: str, out: Path, **settings: Any) -> Run:
    """Run an experiment as a user of Python does; live objects may stand for names."""
    return call(experiment(name), out, **settings)


def digest(directory: Path) -> dict[str, str]:
    """Return the hash of every file of a run's store, by its path in the run's directory."""
    files = (path for path in sorted((directory / "run.zarr").rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
