"""Small files of a run: JSON written atomically and read with one line for whatever is wrong with it, and the lock."""

import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

LOCK = ".lock"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain data as JSON, atomically; NaN and infinity become null."""
    staged = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        staged.write_text(json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def read_json(path: Path, keys: tuple[str, ...], remedy: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Args:
        path: The file.
        keys: What it must hold.
        remedy: What to do about a file that is missing or damaged.

    Raises:
        ValueError: If the file is missing, no JSON, no object, or lacks a key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path.name}: {str(path.parent)!r} has none; {remedy}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: {str(path)!r} is damaged ({str(error)[:80]}); {remedy}") from None
    lacking = [key for key in keys if not isinstance(content, dict) or key not in content]
    if not isinstance(content, dict) or lacking:
        what = f"lacks {', '.join(lacking)}" if isinstance(content, dict) else "holds no object"
        raise ValueError(f"{path.name}: {str(path)!r} is damaged ({what}); {remedy}")
    return content


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Hold a directory against every other process that wants to write a run there; it is made if it is missing.

    Raises:
        ValueError: If another process holds it, or it cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / LOCK)
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(
            f"out: {str(directory)!r} is being written by another process; wait for it, or choose another directory"
        ) from None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"out: cannot write to {str(directory)!r}, {reason}; choose another") from None
    try:
        yield
    finally:
        lock.release()


def check_writable(directory: Path) -> None:
    """Raise a ValueError unless a directory could be made and written to."""
    if not str(directory).strip() or str(directory) == ".":
        raise ValueError(f"out: got {str(directory)!r}; name a directory of its own for the run, for example runs/mine")
    try:
        parent = next(p for p in (directory, *directory.absolute().parents) if p.exists())
    except OSError as error:
        raise ValueError(f"out: cannot use {_short(directory)!r}, {error.strerror}; choose another") from None
    longest = max(len(os.fsencode(part)) for part in directory.parts)
    if longest > 255:
        raise ValueError(f"out: got a name of {longest} bytes; expected at most 255: choose a shorter one")
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"out: cannot write to {_short(directory)!r}; choose a directory under a writable one")


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) < 120 else f"...{text[-100:]}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
