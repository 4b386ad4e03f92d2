"""The directory of a training: one training at a time works in it, and no file in it is ever half written."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from softmode.bounds import shown_path
from softmode.training.workers import Workers

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"
HISTORY = "history.json"
LOCK = ".lock"


@contextmanager
def claim(out: Path, workers: Workers) -> Iterator[None]:
    """Make the directory of a training, or take it up, and keep every other training out of it.

    Raises:
        ValueError: If it cannot be made, holds something else, or another training is at work in it.
    """
    lock, refusal = FileLock(out / LOCK, blocking=False), ""
    if workers.rank == 0:
        try:
            _take(out, lock)
        except ValueError as error:
            refusal = str(error)
    refusal = workers.first(refusal)
    if refusal:
        raise ValueError(refusal)
    try:
        yield
    finally:
        lock.release()


def _take(out: Path, lock: FileLock) -> None:
    """Lock the directory, and remove what a training that was killed while it wrote has left."""
    name = shown_path(out)
    try:
        foreign = out.exists() and (not out.is_dir() or set(out.iterdir()) - {out / LOCK, *_staged(out)})
        if foreign and not (out / CHECKPOINT).exists():
            raise ValueError(f"out: {name} exists and holds no training; choose another directory")
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        for left in _staged(out):
            left.unlink(missing_ok=True)
    except Timeout:
        raise ValueError(f"out: another training is at work in {name}; wait for it or choose another") from None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"out: cannot make or lock {name} ({reason}); choose another directory") from None


def _staged(out: Path) -> list[Path]:
    return [path for name in (CHECKPOINT, WEIGHTS, HISTORY) for path in out.glob(f".{name}-*")]


def outlook(out: Path) -> str:
    """Return what the same command does after a training has ended early."""
    if (out / CHECKPOINT).is_file():
        return "the same command resumes at the last checkpoint"
    return "there is no checkpoint yet, so the same command begins anew"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file and the way on where it cannot be written, for example on a full disk."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"out: cannot write {shown_path(path)} ({reason}); {outlook(path.parent)}") from None


def write_text(path: Path, text: str) -> None:
    """Write a text atomically."""
    staged = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with staged.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def read_text(path: Path) -> str | None:
    """Return a file's text; None where it is missing or no text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
