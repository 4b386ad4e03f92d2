"""Whether a run fits on this machine, before anything is allocated or written."""

import math
import shutil
from pathlib import Path
from typing import Any

from softmode.message import refusal
from softmode.runs import provenance
from softmode.runs.experiment import Plan
from softmode.runs.layout import SPACE
from softmode.runs.store import Store, is_run

# a block's arrays are held once while they are measured and once while they are written
COPIES = 3
# bytes of one chunk that zarr's compressors take
LARGEST_CHUNK = 2e9


def check_room(plan: Plan, home: Path) -> None:
    """Raise a ValueError naming the number that fits, unless a run fits on the disk and a block of it in memory."""
    count, arrays = plan.trajectories, plan.variables
    each = math.fsum(spec.bytes for spec in arrays.values()) / count
    one, room = COPIES * each / plan.parts + plan.memory, provenance.free_memory()
    disk = shutil.disk_usage(next(path for path in (home, *home.absolute().parents) if path.exists())).free
    if one > room:
        raise _too_large(plan, one, room, "memory")
    if each > disk:
        raise _too_large(plan, each, disk, "disk")
    left = _unfinished(home, plan.parts) if is_run(home) else count
    if each * left > disk:
        got = getattr(plan.config, plan.counted)
        raise refusal(
            f"{plan.counted}: got {got}; expected at most {int((disk / each + count - left) * got / count)}: the run "
            f"takes up to {_bytes(each * left)} of disk, of which {_bytes(disk)} are free"
        )
    size = min(plan.config.block, count)
    chunk = max(math.prod(spec.chunks(1)) * spec.bytes / math.prod(spec.shape) for spec in arrays.values())
    most = int(min(room / one, LARGEST_CHUNK / chunk))
    if size > most:
        raise refusal(
            f"block: got {plan.config.block}; expected at most {most}: a block takes about {_bytes(one * size)} of "
            f"memory, of which {_bytes(room)} are free, and its largest array {_bytes(chunk * size)}"
        )


def _unfinished(home: Path, parts: int) -> float:
    """Return how many trajectories are left of a run that was begun."""
    return sum(len(block.trajectories) for block in Store(home).blocks(done=False)) / parts


def _too_large(plan: Plan, needed: float, free: float, where: str) -> ValueError:
    """Return the error of a trajectory that is too large by itself, with the size that fits where that is the cause."""
    takes = f"one trajectory takes about {_bytes(needed)} of {where}, of which {_bytes(free)} are free"
    name, spec = max(plan.variables.items(), key=lambda item: item[1].bytes)
    if plan.memory < needed / 2 and not set(SPACE) & set(spec.dims):
        sizes = ", ".join(f"{dim} {size}" for dim, size in list(zip(spec.dims, spec.shape, strict=True))[1:])
        return refusal(f"{where}: {takes}, most of it for {name} ({sizes}): measure less")
    got = getattr(plan.config, plan.shrink)
    return refusal(f"{plan.shrink}: got {got}; expected at most {_fits(got, free / needed, plan.power)}: {takes}")


def _fits(got: Any, share: float, power: int) -> Any:
    """Return a size, or a shape of channels and sides, that takes a share of the memory."""
    if isinstance(got, tuple):
        channels, *sides = got
        return (channels, *(int(side * share ** (1 / len(sides))) for side in sides))
    return int(got * share ** (1 / power))


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} TiB"
