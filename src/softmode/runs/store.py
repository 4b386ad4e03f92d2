"""A run's arrays on disk: labelled, in zarr, resumable by blocks of trajectories, every block with its checksum.

`DIR/run.zarr` holds every array and, as attributes, what they are a function of; it is a function of that alone, so an
interrupted run that is resumed ends bit-identical to one that was not.
"""

import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple
from zlib import crc32

import numpy as np
import xarray as xr
import zarr

from softmode.bounds import shown_path
from softmode.estimate import Array
from softmode.message import first_line, refusal
from softmode.runs import log
from softmode.runs.attributes import METADATA, STORE, attributes, differences, is_finished, read_attributes, repeat
from softmode.runs.files import LOCK, check_writable, damaged, written

DONE, DIGEST = "block_done", "block_digest"
# dimensions with a chunk for every entry
SINGLE = ("snapshot", "condition", "node")
STAGE = ".run-"


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
    def bytes(self) -> float:
        """Its size, uncompressed."""
        return np.prod(self.shape, dtype=float) * np.dtype(self.dtype).itemsize

    def chunks(self, size: int) -> tuple[int, ...]:
        """Return the shape of its chunks, for blocks of so many trajectories."""
        # a snapshot can be large: one chunk each, so that writing needs no second copy of them all; conditions are
        # written one by one, and no chunk may have two writers
        rest = (1 if dim in SINGLE else length for dim, length in zip(self.dims[1:], self.shape[1:], strict=True))
        return (min(size, self.shape[0]), *rest)


@dataclass(frozen=True)
class Block:
    """What is computed and stored at once.

    Args:
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
        if is_run(directory):
            for partial in (directory / STORE).rglob("*.partial"):
                partial.unlink()
            store.verify()
            return store
        for left_over in directory.glob(f"{STAGE}*"):
            shutil.rmtree(left_over)
        (directory / log.LOG).unlink(missing_ok=True)
        stage = directory / f"{STAGE}{uuid.uuid4().hex}.zarr"
        try:
            group = zarr.open_group(stage, mode="w")
            for name, (spec, values) in constants.items():
                _add(group, name, spec, spec.shape)[...] = values
            for name, spec in variables.items():
                _add(group, name, spec, spec.chunks(size))
            count = -(-next(iter(variables.values())).shape[0] // size)
            done = ArraySpec(("block", "part"), (count, parts), "bool", {"long_name": "part of a block finished"})
            _add(group, DONE, done, (1, 1))
            attrs = {"long_name": "CRC-32 of what was written", "variables": " ".join(variables)}
            digest = ArraySpec((*done.dims, "variable"), (count, parts, len(variables)), "uint32", attrs)
            _add(group, DIGEST, digest, (1, 1, len(variables)))
            digests = {name: _digest(values) for name, (_, values) in constants.items()}
            metadata = {name: crc32((stage / name / METADATA).read_bytes()) for name in sorted(group.array_keys())}
            group.update_attributes(attributes(identity, digests, metadata))
            stage.rename(directory / STORE)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
        return store

    @property
    def identity(self) -> dict[str, Any]:
        """What the arrays are a function of: experiment, config, inputs, versions."""
        return dict(read_attributes(self.directory)["softmode"])

    def blocks(self, done: bool) -> list[Block]:
        """Return the blocks that are finished, or those that are not."""
        size = int(self.identity["config"]["block"])
        with self._readable(DONE):
            group = self._group()
            flags = np.asarray(_array(group, DONE)[...])
            trajectories = _array(group, _variables(group)[0]).shape[0]
        every = blocks(trajectories, size, flags.shape[1])
        return [block for block in every if bool(flags[block.index, block.part]) == done]

    def write(self, block: Block, values: Mapping[str, Array], seconds: float) -> None:
        """Write the arrays [trajectory, ...] of a block, log it, then mark it as finished.

        Raises:
            OSError: In one line, if the disk is full or takes no more; what is finished stays.
        """
        group = self._group("r+")
        arrays = {name: _array(group, name) for name in _variables(group)}
        if arrays.keys() != values.keys():
            raise TypeError(f"{block}: measured {sorted(values)}, but the plan describes {sorted(arrays)}")
        done, digests = _array(group, DONE), []
        where = _where(block, done.shape[1])
        with written(self.directory / STORE):
            for name, array in arrays.items():
                stored = np.ascontiguousarray(values[name], dtype=array.dtype)
                if stored.dtype.kind == "f":
                    # one NaN of all: zarr leaves out what is NaN throughout, and reads its own
                    stored = np.where(np.isnan(stored), np.nan, stored).astype(array.dtype)
                wanted = (len(block.trajectories), *array.shape[1 if done.shape[1] == 1 else 2 :])
                if stored.shape != wanted:
                    raise TypeError(f"{block}: {name} has the shape {stored.shape}, but the plan describes {wanted}")
                array[where] = stored
                digests.append(_digest(stored))
            _array(group, DIGEST)[block.index, block.part] = np.array(digests, "uint32")
            log.append(self.directory, block.index, block.part, seconds)
            done[block.index, block.part] = True

    def verify(self) -> None:
        """Read all that is stored and raise a ValueError, naming where, unless it is what was written."""
        sealed, root = read_attributes(self.directory), self.directory / STORE
        for path in root.rglob("*"):
            with self._readable(str(path.relative_to(root))):
                # to read from a pipe may wait for ever
                if not (path.is_file() or path.is_dir()):
                    raise ValueError("no regular file")
        for name, digest in sealed["metadata"].items():
            with self._readable(f"{name}/{METADATA}"):
                _same((root / name / METADATA).read_bytes(), digest)
        group = self._group()
        for name, digest in sealed["constants"].items():
            with self._readable(name):
                _same(np.asarray(_array(group, name)[...]), digest)
        finished = self.blocks(done=True)
        with self._readable(DIGEST):
            digests, parts = np.asarray(_array(group, DIGEST)[...]), _array(group, DONE).shape[1]
        for place, name in enumerate(_variables(group)):
            array = _array(group, name)
            for block in finished:
                with self._readable(name, block.trajectories):
                    _same(np.asarray(array[_where(block, parts)]), int(digests[block.index, block.part, place]))

    def finish(self) -> None:
        """Consolidate the metadata, once every block is written."""
        with written(self.directory / STORE), warnings.catch_warnings():
            # zarr warns that consolidated metadata are no part of the v3 format yet; readers without them still work
            warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
            zarr.consolidate_metadata(str(self.directory / STORE))

    @cached_property
    def arrays(self) -> xr.Dataset:
        """Every array of the run, of finished trajectories only, with named dimensions and coordinates.

        Raises:
            ValueError: If something in the store is not what was written.
        """
        self.verify()
        unfinished = {block.index for block in self.blocks(done=False)}
        if unfinished and is_finished(self.directory):
            path, lost = self.directory / STORE / DONE, f"blocks without their mark: {len(unfinished)}"
            raise damaged(path, lost, "run the same command again")
        size = int(self.identity["config"]["block"])
        with self._readable():
            data = xr.open_zarr(self.directory / STORE, consolidated=False, chunks=None).drop_vars([DONE, DIGEST])
            if unfinished:
                data = data.isel(trajectory=[i for i in range(data.sizes["trajectory"]) if i // size not in unfinished])
            return data

    def _group(self, mode: Literal["r", "r+"] = "r") -> zarr.Group:
        with self._readable():
            # consolidated metadata are a copy, for other readers, that has no checksum of its own
            return zarr.open_group(self.directory / STORE, mode=mode, use_consolidated=False)

    @contextmanager
    def _readable(self, name: str = "", trajectories: Sequence[int] = ()) -> Iterator[None]:
        """Say of whatever is wrong with what is read where it is and what to do."""
        try:
            yield
        # damage shows in zarr and in its codecs, each with errors of its own
        except Exception as error:
            reason = str(error) if isinstance(error, _ChangedError) else first_line(error)
            of = f", trajectories {trajectories[0]} to {trajectories[-1]}" if trajectories else ""
            raise damaged(self.directory / STORE / name, reason + of, repeat(self.directory)) from None


class _ChangedError(ValueError):
    """Something has another checksum than what was written."""


def is_run(directory: str | Path) -> bool:
    """Return whether a directory holds a run, be it damaged."""
    try:
        return (Path(directory) / STORE).is_dir()
    except (OSError, ValueError):
        return False


def check_directory(directory: Path, identity: Mapping[str, Any], whole: Path | None = None) -> None:
    """Raise a ValueError unless a run of this identity may be created, resumed or repeated in the directory.

    Args:
        directory: Where.
        identity: What is known of it already: one of other values under the same keys is another run.
        whole: Directory that the message names: that of the run of which this is a part, which is what a user chose.
    """
    named = shown_path(directory if whole is None else whole)
    check_writable(directory)
    if is_run(directory):
        changed = differences(read_attributes(directory)["softmode"], identity)
        if changed:
            raise refusal(f"out: {named} holds a run with {changed}; choose another directory or remove it")
    elif directory.is_dir() and _holds_more_than_runs(directory):
        raise refusal(f"out: {named} is not empty and holds no softmode run; choose another directory")


def _holds_more_than_runs(directory: Path) -> bool:
    """Tell whether anything lies in a directory that no run, begun or finished, has left there."""
    left = [entry for entry in directory.iterdir() if entry.name not in (LOCK, log.LOG, STORE)]
    return any(
        not entry.name.startswith(STAGE)
        and not (entry.is_dir() and (is_run(entry) or not _holds_more_than_runs(entry)))
        for entry in left
    )


def _where(block: Block, parts: int) -> Any:
    rows = slice(block.trajectories.start, block.trajectories.stop)
    return rows if parts == 1 else (rows, block.part)


def _digest(values: Any) -> int:
    return crc32(np.ascontiguousarray(values).tobytes())


def _same(found: Array | bytes, digest: int) -> None:
    if (crc32(found) if isinstance(found, bytes) else _digest(found)) != digest:
        raise _ChangedError("not what was written")


def _variables(group: zarr.Group) -> list[str]:
    """Return the names of the arrays that are filled by blocks, in the order of their checksums."""
    return str(_array(group, DIGEST).attrs["variables"]).split()


def _array(group: zarr.Group, name: str) -> "zarr.Array[Any]":
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{name} is no array")
    return array


def _add(group: zarr.Group, name: str, spec: ArraySpec, chunks: tuple[int, ...]) -> "zarr.Array[Any]":
    fill = np.nan if np.dtype(spec.dtype).kind == "f" else 0
    return group.create_array(
        name,
        shape=spec.shape,
        chunks=chunks,
        dtype=spec.dtype,
        fill_value=fill,
        dimension_names=spec.dims,
        attributes=dict(spec.attrs),
    )
