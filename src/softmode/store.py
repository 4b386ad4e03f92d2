"""A run on disk: labelled arrays in zarr, resumable by blocks of trajectories, and a summary in JSON.

`DIR/run.zarr` holds every array and, as attributes, the config and the versions that made it; it is a function of those
alone, so an interrupted run that is resumed ends bit-identical to one that was not. `DIR/summary.json` adds what may
differ.
"""

import json
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from softmode.estimate import Array

DONE = "block_done"
# dimensions with a chunk for every entry
SINGLE = ("snapshot", "condition")


@dataclass(frozen=True)
class ArraySpec:
    """Layout of one stored array.

    Args:
        dims: Names of its dimensions; a leading `trajectory` is chunked by blocks.
        shape: Its shape.
        dtype: NumPy dtype name.
        attrs: Units, long name, source.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    attrs: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Run:
    """A stored run: config, arrays and summary.

    Args:
        directory: The run's directory.
    """

    directory: Path

    @classmethod
    def open(cls, directory: str | Path) -> "Run":
        """Open an existing run.

        Raises:
            ValueError: If the directory holds no softmode run.
        """
        run = cls(Path(directory))
        if not is_run(directory):
            raise ValueError(
                f"directory: {str(directory)!r} holds no softmode run; make one with: softmode patch --out {directory}"
            )
        return run

    @classmethod
    def create(
        cls,
        directory: str | Path,
        identity: Mapping[str, Any],
        constants: Mapping[str, tuple[ArraySpec, Array]],
        curves: Mapping[str, ArraySpec],
        block: int,
        parts: int = 1,
    ) -> "Run":
        """Create a run's directory, or open it if it was begun with the same identity.

        Args:
            directory: Where; created if missing, refused if it holds anything else.
            identity: Config and versions, as JSON: what the arrays are a function of.
            constants: Arrays known from the start.
            curves: Arrays to be filled by blocks of trajectories; their first dimension is `trajectory`.
            block: Trajectories per block.
            parts: Conditions of a block that are written one by one, where curves have the dimension `condition`.

        Raises:
            ValueError: If the directory cannot be written, holds foreign files, or a run of another identity.
        """
        run = cls(Path(directory))
        check_directory(directory, identity)
        if (run.directory / "run.zarr").exists():
            for partial in run.directory.glob("run.zarr/**/*.partial"):
                partial.unlink()
            return run
        try:
            run.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"out: cannot make {str(directory)!r}, {error.strerror}; choose another") from None
        for left_over in run.directory.glob(".run-*.zarr"):
            shutil.rmtree(left_over)
        staged = run.directory / f".run-{uuid.uuid4().hex}.zarr"
        group = zarr.open_group(staged, mode="w", attributes={"softmode": dict(identity)})
        for name, (spec, values) in constants.items():
            _add(group, name, spec, spec.shape)[...] = values
        trajectories = next(iter(curves.values())).shape[0]
        for name, spec in curves.items():
            # a snapshot can be large: one chunk each, so that writing needs no second copy of them all; conditions are
            # written one by one, and no chunk may have two writers
            rest = (1 if dim in SINGLE else size for dim, size in zip(spec.dims[1:], spec.shape[1:], strict=True))
            _add(group, name, spec, (block, *rest))
        blocks = -(-trajectories // block)
        done = ArraySpec(("block", "part"), (blocks, parts), "bool", {"long_name": "part of a block finished"})
        _add(group, DONE, done, (1, 1))
        staged.rename(run.directory / "run.zarr")
        return run

    def pending(self, block: int, trajectories: int) -> Iterator[tuple[int, range]]:
        """Yield (block, its trajectories) for every block that is not finished."""
        for index, _, which in self.pending_parts(block, trajectories):
            yield index, which

    def pending_parts(self, block: int, trajectories: int) -> Iterator[tuple[int, int, range]]:
        """Yield (block, part, the block's trajectories) for every part of a block that is not finished."""
        done = _array(zarr.open_group(self.directory / "run.zarr", mode="r"), DONE)[...]
        for index, part in np.argwhere(~np.asarray(done)).tolist():
            yield index, part, range(index * block, min((index + 1) * block, trajectories))

    def write(self, index: int, trajectories: range, values: Mapping[str, Array], part: int | None = None) -> None:
        """Write arrays [trajectory, ...] of one block, or of one condition of it, then mark that finished."""
        group = zarr.open_group(self.directory / "run.zarr", mode="r+")
        rows = slice(trajectories.start, trajectories.stop)
        for name, value in values.items():
            _array(group, name)[rows if part is None else (rows, part)] = value
        _array(group, DONE)[index, part or 0] = True

    def finish(self) -> None:
        """Consolidate the metadata, once every block is written."""
        with warnings.catch_warnings():
            # zarr warns that consolidated metadata are no part of the v3 format yet; readers without them still work
            warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
            zarr.consolidate_metadata(str(self.directory / "run.zarr"))

    @property
    def identity(self) -> dict[str, Any]:
        """Config and versions that the arrays are a function of."""
        return dict(_attributes(self.directory)["softmode"])

    @property
    def config(self) -> dict[str, Any]:
        """The experiment's config."""
        return dict(self.identity["config"])

    @cached_property
    def arrays(self) -> xr.Dataset:
        """Every array of the run, of finished trajectories only, with named dimensions and coordinates."""
        data = xr.open_zarr(self.directory / "run.zarr", consolidated=False, chunks=None)
        finished = data[DONE].all("part").to_numpy()
        if not finished.all():
            block = int(self.config["block"])
            keep = [i for i in range(data.sizes["trajectory"]) if finished[i // block]]
            data = data.isel(trajectory=keep)
        return data.drop_vars(DONE)

    @property
    def summary(self) -> dict[str, Any]:
        """The stored summary.

        Raises:
            ValueError: If the run was not finished.
        """
        path = self.directory / "summary.json"
        if not path.is_file():
            raise ValueError(
                f"directory: {str(self.directory)!r} has no summary yet; finish the run with the same command"
            )
        return dict(json.loads(path.read_text()))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the summary atomically; NaN becomes null."""
        write_json(self.directory / "summary.json", summary)

    def figure_path(self, name: str) -> Path:
        """Return where a figure of this name goes, without extension; its folder is made."""
        (self.directory / "figures").mkdir(exist_ok=True)
        return self.directory / "figures" / name


def is_run(directory: str | Path) -> bool:
    """Return whether a directory holds a run."""
    return (Path(directory) / "run.zarr" / "zarr.json").is_file()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain data as JSON, atomically; NaN becomes null."""
    staged = path.parent / f".{path.name}"
    staged.write_text(json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n")
    staged.replace(path)


def check_directory(directory: str | Path, identity: Mapping[str, Any]) -> None:
    """Raise a ValueError unless a run of this identity may be created, resumed or repeated in the directory."""
    path = Path(directory)
    if path.exists() and not path.is_dir():
        raise ValueError(f"out: {str(directory)!r} is a file; choose a directory")
    if (path / "run.zarr").exists():
        try:
            attributes = _attributes(path)["softmode"]
        except (OSError, ValueError, KeyError):
            raise ValueError(
                f"out: {str(directory)!r} holds a run.zarr that is not softmode's; choose another"
            ) from None
        changed = _differences(attributes, identity)
        if changed:
            raise ValueError(
                f"out: {str(directory)!r} holds a run with {changed}; choose another directory or remove it"
            )
        return
    # a run inside, such as the window that an experiment measures first, is its own
    if path.is_dir() and any(not (entry.name.startswith(".run-") or is_run(entry)) for entry in path.iterdir()):
        raise ValueError(f"out: {str(directory)!r} is not empty and holds no softmode run; choose another directory")
    parent = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"out: cannot write to {str(directory)!r}; choose a directory under a writable one")


def _attributes(directory: Path) -> dict[str, Any]:
    return dict(json.loads((directory / "run.zarr" / "zarr.json").read_text())["attributes"])


def _differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Name what differs between two identities, config fields first; empty if nothing does."""
    parts = {"config": "", "model": "model ", "versions": ""}
    old, new = (
        {prefix + key: item for part, prefix in parts.items() for key, item in value.get(part, {}).items()}
        for value in (stored, json.loads(json.dumps(wanted)))
    )
    return ", ".join(
        f"{key} {old.get(key)!r} instead of {new.get(key)!r}" for key in {**new, **old} if old.get(key) != new.get(key)
    )


def _array(group: zarr.Group, name: str) -> "zarr.Array[Any]":
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise ValueError(f"run.zarr: {name!r} is not an array; the store was changed by something else")
    return array


def _add(group: zarr.Group, name: str, spec: ArraySpec, chunks: tuple[int, ...]) -> "zarr.Array[Any]":
    fill = np.nan if np.dtype(spec.dtype).kind == "f" else 0
    return group.create_array(
        name,
        shape=spec.shape,
        chunks=tuple(min(c, s) for c, s in zip(chunks, spec.shape, strict=True)),
        dtype=spec.dtype,
        fill_value=fill,
        dimension_names=spec.dims,
        attributes=dict(spec.attrs),
    )


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
