"""Every experiment made tiny, and what a user could get wrong about each of its settings."""

import hashlib
import json
import math
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from softmode.bounds import Bounds
from softmode.experiments import EXPERIMENTS
from softmode.experiments.call import experiment

from .clones import classifier_file
from .guidance import corners, nearest
from .models import small_network
from .random import normal


def _write_images(path: Path, seed: int) -> None:
    np.savez(path, images=normal(6, 1, 8, 8, seed=seed).float().numpy())


def _write_dictionary(path: Path, seed: int) -> None:
    patterns = normal(2, 9, seed=seed).sign().numpy()
    np.savez(path, patterns=np.concatenate([patterns, -patterns]), prior=np.full(4, 0.25))


def _write_classifier(path: Path, seed: int) -> None:
    assert Path(classifier_file(path.parent, seed=seed)) == path


class Tiny(NamedTuple):
    """A run that takes a second.

    Attributes:
        settings: Its settings, as `experiments.call.plan` takes them.
        option: Setting that names a file; empty where none does.
        file: Name of that file.
        write: Writes one such file for every seed.
    """

    settings: Callable[[], dict[str, Any]]
    option: str = ""
    file: str = ""
    write: Callable[[Path, int], None] = lambda path, seed: None

    def made(self, folder: Path) -> dict[str, Any]:
        """Return the settings with the file, which is written if it is missing."""
        if not self.option:
            return self.settings()
        path = folder / self.file
        if not path.exists():
            self.write(path, 0)
        return self.settings() | {self.option: str(path)}


def _probe() -> dict[str, Any]:
    return {
        "model": corners(), "trajectories": 5, "block": 2, "steps": 12, "shells": 3, "measure_every": 3,
        "snapshots": (5.0, 1.0), "sampler": "heun", "labels": (0, 2),
    }  # fmt: skip


def _guided() -> dict[str, Any]:
    return {"model": corners(), "classifier": nearest(), "classes": 2, "trials": 3, "block": 2, "steps": 10,
            "sigma_c": 3.0}  # fmt: skip


TINY = {
    "patch": Tiny(
        lambda: {"size": 12, "receptive_field": "box:3", "t_max": 20.0, "t_min": 0.1, "steps": 300, "trajectories": 5,
                 "shells": 3, "block": 2, "measure_every": 40, "snapshots": (5.0, 1.0)},
        "dictionary", "dictionary.npz", _write_dictionary,
    ),
    "probe": Tiny(_probe, "data", "images.npz", _write_images),
    "instability": Tiny(
        lambda: {"model": corners(), "trajectories": 5, "block": 2, "levels": 4, "states": "forward", "labels": (0, 2)},
        "data", "images.npz", _write_images,
    ),
    "sector": Tiny(
        lambda: {"model": corners(), "sigma": 1.0, "trajectories": 5, "block": 2, "modes": 2, "labels": (0, 2)},
        "data", "images.npz", _write_images,
    ),
    "attention": Tiny(
        lambda: {"model": small_network(), "trajectories": 5, "block": 2, "sigma": (3.0, 0.5), "labels": (0, 2)},
        "data", "images.npz", _write_images,
    ),
    "information": Tiny(
        lambda: {"model": corners(), "trajectories": 5, "block": 2, "levels": 8, "labels": (0, 2), "states": "auto"},
        "data", "images.npz", _write_images,
    ),
    "clones": Tiny(
        lambda: {"model": corners(), "trajectories": 5, "block": 2, "steps": 120, "times": (5.0, 1.0), "copies": 2},
        "classifier", "classifier.safetensors", _write_classifier,
    ),
    "window": Tiny(
        lambda: _probe() | {"clones": 3, "clone_steps": 120, "classifier": "none"}, "data", "images.npz", _write_images
    ),
    "pulse": Tiny(_guided, "data", "images.npz", _write_images),
    "susceptibility": Tiny(
        lambda: _guided() | {"nodes": 3}, "data", "images.npz", _write_images,
    ),
    "schedule": Tiny(
        lambda: {"model": corners(), "classifier": nearest(), "classes": 2, "trials": 3, "block": 3, "steps": 8,
                 "guided_steps": 2, "search_trials": 2, "grid": 2},
        "data", "images.npz", _write_images,
    ),
    "anneal": Tiny(
        lambda: {"model": corners(), "classifier": nearest(), "window": "0.5:5", "trajectories": 6, "block": 3,
                 "steps": 7, "correctors": (0, 2)},
        "data", "images.npz", _write_images,
    ),
    "equilibrium": Tiny(
        lambda: {"model": corners(), "trajectories": 4, "block": 2, "levels": 3, "sigma_range": "0.5:8",
                 "duration": 20.0, "shells": 2, "classifier": "none"},
        "data", "images.npz", _write_images,
    ),
    "dictionary": Tiny(
        lambda: {"patterns": 2, "receptive_field": "box:3", "disorder": 5, "replicas": 4, "sizes": (6, 8), "steps": 170,
                 "t_max": 8.0, "uniform": (0.0, 0.5), "waits": (0.4, 2.0), "block": 2},
    ),
    "quench": Tiny(
        lambda: {"rates": (0.5, 1.0, 2.0), "size": 12, "receptive_field": "box:3", "trajectories": 5, "block": 2,
                 "step": 1.0},
        "dictionary", "dictionary.npz", _write_dictionary,
    ),
    "validate": Tiny(lambda: {"nulls": 1, "transitions": 2, "quick": True, "block": 1}),
}  # fmt: skip


def tiny(name: str) -> Tiny:
    """Return an experiment made tiny."""
    if name not in TINY:
        pytest.fail(f"tests/helpers/experiments.py: the experiment {name!r} has no tiny settings; add an entry to TINY")
    return TINY[name]


def digests(directory: Path) -> dict[str, str]:
    """Return the hash of every stored array and of all results, by path; not of when and where they were made."""
    found = {}
    for path in sorted(directory.rglob("*")):
        place = path.relative_to(directory)
        if path.is_file() and "run.zarr" in place.parts:
            found[str(place)] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.suffix == ".json" and "run.zarr" not in place.parts:
            results = json.loads(path.read_text())
            found[str(place)] = json.dumps([results[key] for key in ("answer", "quantities", "tables", "values")])
    return found


def contents(*folders: Path) -> list[tuple[str, int]]:
    """Return every file and directory in some folders, with the time of its last change."""
    return sorted((str(path), path.stat().st_mtime_ns) for folder in folders for path in folder.rglob("*"))


def bad_settings(name: str) -> Iterator[tuple[str, Any]]:
    """Yield every setting of an experiment with every kind of value that it must refuse, as its type says."""
    config = experiment(name).config
    for field, hint in get_type_hints(config, include_extras=True).items():
        for value in _bad(hint):
            yield field, value


def _bad(hint: Any, bounds: Bounds | None = None) -> list[Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        own = next((each for each in arguments if isinstance(each, Bounds)), bounds)
        return _bad(arguments[0], own)
    if origin in (Union, types.UnionType):
        return [value for value in _bad(next(a for a in arguments if a is not type(None)), bounds) if value is not None]
    if origin is Literal:
        return ["nothing of the kind", 3, None, ("a",), *[word.upper() for word in arguments if word.islower()]]
    if origin is tuple:
        each = _bad(arguments[0], bounds)
        fixed = arguments[1:] != (...,)
        return [
            3,
            "3",
            None,
            {},
            *((1.0, value) if fixed else (value,) for value in each),
            *([(1.0,)] if fixed else []),
        ]
    if hint is bool:
        return [None, 3, "yes"]
    if hint is str:
        return [None, 3, ("a",), b"a"]
    if hint is int:
        return ["3", None, 1.5, math.nan, math.inf, True, (1,), 10**400, *_beyond(bounds, 1)]
    if hint is float:
        return ["3", None, math.nan, math.inf, -math.inf, True, (1.0,), 10**400, *_beyond(bounds, 0.5)]
    raise AssertionError(f"no bad values are known for {hint}; add them")


def _beyond(bounds: Bounds | None, step: float) -> list[Any]:
    """Return the nearest numbers outside some bounds."""
    if bounds is None:
        return []
    numbers = (bounds.low - step, bounds.high + step, bounds.above, bounds.below)
    return [type(step)(number) for number in numbers if math.isfinite(number)]


def required(name: str) -> list[str]:
    """Return the settings of an experiment that have no default."""
    return [field.name for field in fields(experiment(name).config) if field.default is MISSING]


NAMES: Mapping[str, str] = EXPERIMENTS
