"""A run's arrays on disk: labelled, in zarr, resumable by blocks of trajectories, every block with its checksum.

`DIR/run.zarr` holds every array and, as attributes, what they are a function of; it is a function of that alone, so an
interrupted run that is resumed ends bit-identical to one that was not. `DIR/blocks.jsonl` is the log of who computed
which block, and how long it took.
"""

import json
import shutil
import socket
import uuid
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import xarray as xr
import zarr

from softmode.estimate import Array
from softmode.runs.files import LOCK, check_writable, read_json

STORE = "run.zarr"
LOG = "blocks.jsonl"
DONE, DIGEST = "block_done", "block_digest"
# dimensions with a chunk for every entry
SINGLE = ("snapshot", "condition")
# what zarr and its codecs raise for a store that something else has changed
DAMAGE = (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, NotImplementedError)


class ArraySpec(NamedTuple):
    """Layout of one stored array.

    Attributes:
        dims: Names of its dimensions; a leading `trajectory` is chunked by blocks.
        shape: Its shape.
        dtype: NumPy dtype name.
        attrs: Units, long name, source.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    attrs: Mapping[str, str]

    @property
    def bytes(self) -> int:
        """Its size, uncompressed."""
        return int(np.prod(self.shape, dtype=float)) * np.dtype(self.dtype).itemsize


class Block(NamedTuple):
    """What is computed and stored at once.

    Attributes:
        index: Which block of trajectories.
        part: Which of the conditions that are written one by one; 0 where there are none.
        trajectories: The block's trajectories.
    """

    index: int
    part: int
    trajectories: range


def blocks(trajectories: int, size: int, parts: int = 1) -> list[Block]:
    """Return every block of a run, in order."""
    return [
        Block(i, part, range(i * size, min((i + 1) * size, trajectories)))
        for i in range(-(-trajectories // size))
        for part in range(parts)
    ]


@dataclass(frozen=True, eq=False)
class Store:
    """The arrays of one run.

    Args:
        directory: The run's directory.
    """

    directory: Path

    @classmethod
    def create(
        cls,
        directory: Path,
        identity: Mapping[str, Any],
        constants: Mapping[str, tuple[ArraySpec, Array]],
        variables: Mapping[str, ArraySpec],
        size: int,
        parts: int = 1,
    ) -> "Store":
        """Create a run's store, or take up one that was begun with the same identity; hold the directory's claim.

        Args:
            directory: Where; made already.
            identity: What the arrays are a function of, as JSON.
            constants: Arrays known from the start.
            variables: Arrays to be filled by blocks; their first dimension is `trajectory`.
            size: Trajectories per block.
            parts: Conditions of a block that are written one by one, where variables have the dimension `condition`.

        Raises:
            ValueError: If the directory holds foreign files, a run of another identity, or a damaged one.
        """
        store = cls(directory)
        check_directory(directory, identity)
        if (directory / STORE).exists():
            for partial in directory.glob(f"{STORE}/**/*.partial"):
                partial.unlink()
            store.verify()
            return store
        for left_over in directory.glob(".run-*.zarr"):
            shutil.rmtree(left_over)
        (directory / LOG).unlink(missing_ok=True)
        staged = directory / f".run-{uuid.uuid4().hex}.zarr"
        digests = {name: _digest(values) for name, (_, values) in constants.items()}
        group = zarr.open_group(staged, mode="w", attributes={"softmode": dict(identity), "constants": digests})
        for name, (spec, values) in constants.items():
            _add(group, name, spec, spec.shape)[...] = values
        trajectories = next(iter(variables.values())).shape[0]
        for name, spec in variables.items():
            # a snapshot can be large: one chunk each, so that writing needs no second copy of them all; conditions are
            # written one by one, and no chunk may have two writers
            rest = (1 if dim in SINGLE else length for dim, length in zip(spec.dims[1:], spec.shape[1:], strict=True))
            _add(group, name, spec, (size, *rest))
        count = -(-trajectories // size)
        done = ArraySpec(("block", "part"), (count, parts), "bool", {"long_name": "part of a block finished"})
        _add(group, DONE, done, (1, 1))
        attrs = {"long_name": "CRC-32 of what was written", "variables": " ".join(variables)}
        digest = ArraySpec((*done.dims, "variable"), (count, parts, len(variables)), "uint32", attrs)
        _add(group, DIGEST, digest, (1, 1, len(variables)))
        staged.rename(directory / STORE)
        return store

    @property
    def identity(self) -> dict[str, Any]:
        """What the arrays are a function of: experiment, config, inputs, versions."""
        return dict(_attributes(self.directory)["softmode"])

    def blocks(self, done: bool) -> list[Block]:
        """Return the blocks that are finished, or those that are not."""
        flags = np.asarray(self._array(DONE)[...])
        trajectories = self._array(self._variables()[0]).shape[0]
        every = blocks(trajectories, int(self.identity["config"]["block"]), flags.shape[1])
        return [block for block in every if bool(flags[block.index, block.part]) == done]

    def write(self, block: Block, values: Mapping[str, Array], seconds: float) -> None:
        """Write the arrays [trajectory, ...] of a block, then mark it finished, then log it."""
        group = zarr.open_group(self.directory / STORE, mode="r+")
        parts = _as_array(group, DONE).shape[1]
        names = _names(group)
        lacking = set(names) ^ set(values)
        if lacking:
            raise TypeError(f"block {block.index}: measured {sorted(values)}, but the plan describes {sorted(names)}")
        digests = []
        for name in names:
            array = _as_array(group, name)
            stored = np.ascontiguousarray(values[name], dtype=array.dtype)
            array[_where(block, parts)] = stored
            digests.append(_digest(stored))
        _as_array(group, DIGEST)[block.index, block.part] = np.array(digests, "uint32")
        _as_array(group, DONE)[block.index, block.part] = True
        entry = {"block": block.index, "part": block.part, "host": socket.gethostname(), "seconds": round(seconds, 3)}
        with (self.directory / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def log(self) -> list[dict[str, Any]]:
        """Return who computed which block and how long it took; a line that was cut off is left out."""
        try:
            lines = (self.directory / LOG).read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        return [entry for line in lines for entry in _entry(line)]

    def verify(self) -> None:
        """Read every finished block and raise a ValueError if one is not what was written."""
        try:
            group = zarr.open_group(self.directory / STORE, mode="r")
            for name, digest in dict(group.attrs.get("constants", {})).items():  # type: ignore[call-overload]
                if _digest(np.asarray(_as_array(group, name)[...])) != digest:
                    raise ValueError(f"array {name!r} is not what was written")
            digests, parts = np.asarray(_as_array(group, DIGEST)[...]), _as_array(group, DONE).shape[1]
            for block in self.blocks(done=True):
                for place, name in enumerate(_names(group)):
                    stored = np.asarray(_as_array(group, name)[_where(block, parts)])
                    if _digest(stored) != digests[block.index, block.part, place]:
                        raise ValueError(f"array {name!r} of trajectories {block.trajectories} is not what was written")
        except DAMAGE as error:
            raise _damaged(self.directory, error) from None

    def finish(self) -> None:
        """Consolidate the metadata, once every block is written."""
        with warnings.catch_warnings():
            # zarr warns that consolidated metadata are no part of the v3 format yet; readers without them still work
            warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
            zarr.consolidate_metadata(str(self.directory / STORE))

    @cached_property
    def arrays(self) -> xr.Dataset:
        """Every array of the run, of finished trajectories only, with named dimensions and coordinates."""
        try:
            data = xr.open_zarr(self.directory / STORE, consolidated=False, chunks=None)
            finished = data[DONE].all("part").to_numpy()
            if not finished.all():
                size = int(self.identity["config"]["block"])
                data = data.isel(trajectory=[i for i in range(data.sizes["trajectory"]) if finished[i // size]])
            return data.drop_vars([DONE, DIGEST], errors="ignore")
        except DAMAGE as error:
            raise _damaged(self.directory, error) from None

    def _variables(self) -> list[str]:
        return _names(zarr.open_group(self.directory / STORE, mode="r"))

    def _array(self, name: str) -> "zarr.Array[Any]":
        try:
            return _as_array(zarr.open_group(self.directory / STORE, mode="r"), name)
        except DAMAGE as error:
            raise _damaged(self.directory, error) from None


def is_run(directory: str | Path) -> bool:
    """Return whether a directory holds a run."""
    try:
        return (Path(directory) / STORE / "zarr.json").is_file()
    except OSError:
        return False


def check_directory(directory: Path, identity: Mapping[str, Any]) -> None:
    """Raise a ValueError unless a run of this identity may be created, resumed or repeated in the directory.

    Args:
        directory: Where.
        identity: What is known of it already: one of other values under the same keys is another run.
    """
    check_writable(directory)
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"out: {str(directory)!r} is a file; choose a directory")
    if (directory / STORE).exists():
        changed = _differences(_attributes(directory)["softmode"], identity)
        if changed:
            raise ValueError(
                f"out: {str(directory)!r} holds a run with {changed}; choose another directory or remove it"
            )
        return
    foreign = [entry for entry in _entries(directory) if not (entry.name.startswith(".run-") or is_run(entry))]
    if any(entry.name not in (LOCK, LOG) for entry in foreign):
        raise ValueError(f"out: {str(directory)!r} is not empty and holds no softmode run; choose another directory")


def _entries(directory: Path) -> Iterator[Path]:
    return directory.iterdir() if directory.is_dir() else iter(())


def _entry(line: str) -> list[dict[str, Any]]:
    try:
        entry = json.loads(line)
        return [{"host": str(entry["host"]), "seconds": float(entry["seconds"])}]
    except (ValueError, TypeError, KeyError):
        return []


def _attributes(directory: Path) -> dict[str, Any]:
    remedy = f"remove {str(directory)!r} or choose another directory"
    found = read_json(directory / STORE / "zarr.json", ("attributes",), remedy)["attributes"]
    identity = found.get("softmode") if isinstance(found, dict) else None
    if not isinstance(identity, dict) or not isinstance(identity.get("config"), dict):
        raise ValueError(f"out: {str(directory)!r} holds a run.zarr that is not softmode's; choose another")
    return dict(found)


def _damaged(directory: Path, error: Exception) -> ValueError:
    reason = str(error).partition("\n")[0][:120] or type(error).__name__
    return ValueError(
        f"{STORE}: {str(directory / STORE)!r} is damaged ({reason}); remove {str(directory)!r} and run it again"
    )


def _differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Name what differs between two identities, config fields first; empty if nothing does."""
    found = []
    for part, value in json.loads(json.dumps(wanted)).items():
        old = stored.get(part)
        if not isinstance(value, dict):
            found += [f"{part} {old!r} instead of {value!r}"] if old != value else []
            continue
        old = old if isinstance(old, dict) else {}
        for key in {**value, **old}:
            if old.get(key) != value.get(key):
                found.append(_difference(part, key, old.get(key), value.get(key)))
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def _difference(part: str, key: str, old: Any, new: Any) -> str:
    if part == "inputs":
        return f"another {key} than this one, by its content"
    prefix = "" if part in ("config", "versions") else f"{part} "
    return f"{prefix}{key} {_short(old)} instead of {_short(new)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _where(block: Block, parts: int) -> Any:
    rows = slice(block.trajectories.start, block.trajectories.stop)
    return rows if parts == 1 else (rows, block.part)


def _digest(values: Any) -> int:
    return crc32(np.ascontiguousarray(values).tobytes())


def _names(group: zarr.Group) -> list[str]:
    """Return the names of the arrays that are filled by blocks, in the order of their checksums."""
    if DIGEST not in group:
        raise ValueError("it has no checksums: an older version began it")
    return str(_as_array(group, DIGEST).attrs["variables"]).split()


def _as_array(group: zarr.Group, name: str) -> "zarr.Array[Any]":
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise ValueError(f"{name!r} is not an array")
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
