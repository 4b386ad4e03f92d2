"""The log of a run's blocks: which was computed where, and how long it took, over all sittings."""

import json
import math
import os
import socket
from pathlib import Path
from typing import NamedTuple

LOG = "blocks.jsonl"


class Entry(NamedTuple):
    """A line of the log.

    Attributes:
        block: Which block of trajectories.
        part: Which of its parts.
        host: Where it was computed.
        seconds: How long that took.
    """

    block: int
    part: int
    host: str
    seconds: float


def append(directory: Path, block: int, part: int, seconds: float) -> None:
    """Add a block to the log."""
    line = json.dumps(Entry(block, part, socket.gethostname(), round(seconds, 3))._asdict())
    with (directory / LOG).open("ab+") as file:
        # a process that was killed may have left a line without its end
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read())[1] != b"\n":
            file.write(b"\n")
        file.write(f"{line}\n".encode())


def entries(directory: Path) -> list[Entry]:
    """Return every line of the log; one that was cut off or damaged is left out."""
    try:
        lines = (directory / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [entry for line in lines for entry in _entry(line)]


def _entry(line: str) -> list[Entry]:
    try:
        found = json.loads(line)
        entry = Entry(int(found["block"]), int(found["part"]), str(found["host"]), float(found["seconds"]))
        return [entry] if math.isfinite(entry.seconds) and entry.seconds >= 0 else []
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return []
