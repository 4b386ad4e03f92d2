"""Small files of a run: written whole or not at all, read with one line for whatever is wrong, and the claim."""

import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

from filelock import FileLock, Timeout

from softmode import files
from softmode.bounds import shown_path
from softmode.message import refusal, shorten

LOCK = ".lock"
# key of the checksum of a JSON object, over everything else in it
SEAL = "digest"


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield where to write a file, which appears under its name only when it is complete.

    Raises:
        OSError: In one line with the path and the remedy, if it cannot be written.
    """
    stage = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    with written(path):
        try:
            yield stage
            stage.replace(path)
        finally:
            stage.unlink(missing_ok=True)


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Say of an error of the file system where it happened and what to do: make room, and go on."""
    try:
        yield
    except OSError as error:
        reason = shorten(error.strerror or str(error), 80)
        raise OSError(
            f"cannot write {shown_path(path)} ({reason}); finished blocks are kept: mend that and run the same command"
        ) from None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain data as JSON with a checksum of itself, atomically; NaN and infinity become null."""
    with staged(path) as stage:
        text = json.dumps(sealed(_without_nan(content)), indent=2, allow_nan=False)
        stage.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, keys: tuple[str, ...], remedy: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Args:
        path: The file.
        keys: What it must hold.
        remedy: What to do about a file that is missing or damaged.

    Raises:
        ValueError: If the file is missing, no JSON, no object, or lacks a key.
    """
    if not os.path.lexists(path):
        raise refusal(f"{path.name}: {shown_path(path.parent)} has none; {remedy}")
    try:
        content = files.read_json(path.name, path)
    except ValueError:
        raise damaged(path, "no JSON object", remedy) from None
    lacking = [key for key in keys if key not in content]
    if lacking:
        raise damaged(path, f"lacks {', '.join(lacking)}", remedy)
    return content


def damaged(path: Path, reason: str, remedy: str) -> ValueError:
    """Return the error of a file that is not what was written."""
    return refusal(f"{path.name}: {shown_path(path)} is damaged ({shorten(reason, 80)}); {remedy}")


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain data with a checksum of all of it."""
    return {**content, SEAL: _checksum(content)}


def is_sealed(content: Mapping[str, Any]) -> bool:
    """Tell whether data with a checksum are what was written."""
    return content.get(SEAL) == _checksum({key: value for key, value in content.items() if key != SEAL})


def _checksum(content: Mapping[str, Any]) -> int:
    return crc32(json.dumps(content, sort_keys=True).encode())


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Hold a directory against every other process that wants to write a run there; it is made if it is missing.

    The system lets go of the claim of a process that dies.

    Raises:
        ValueError: If another process holds it, or it cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / LOCK)
        lock.acquire(blocking=False)
    except Timeout:
        raise refusal(
            f"out: {shown_path(directory)} is being written by another process; wait for it, or choose another"
        ) from None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise refusal(f"out: cannot write to {shown_path(directory)} ({reason}); choose another") from None
    try:
        yield
    finally:
        lock.release()


def check_writable(directory: Path) -> None:
    """Raise a ValueError unless a directory could be made and written to."""
    if not str(directory).strip() or str(directory) == ".":
        raise refusal(f"out: got {str(directory)!r}; name a directory of its own for the run, for example runs/mine")
    if "\0" in str(directory):
        raise refusal(f"out: got {shown_path(directory)}, which no file system takes; choose another")
    longest = max(len(os.fsencode(part)) for part in directory.parts)
    if longest > 255:
        raise refusal(f"out: got a name of {longest} bytes; expected at most 255: choose a shorter one")
    try:
        parent = next(p for p in (directory, *directory.absolute().parents) if p.exists())
    except (OSError, ValueError) as error:
        raise refusal(f"out: cannot use {shown_path(directory)} ({error}); choose another") from None
    if parent == directory and not directory.is_dir():
        raise refusal(f"out: {shown_path(directory)} is a file; choose a directory")
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise refusal(f"out: cannot write to {shown_path(directory)}; choose a directory under a writable one")


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
