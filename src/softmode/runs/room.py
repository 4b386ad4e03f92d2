"""Whether a run fits on this machine, before anything is allocated or written."""

import math
import shutil
from pathlib import Path

from softmode.message import refusal
from softmode.runs import provenance
from softmode.runs.experiment import Plan
from softmode.runs.layout import SPACE
from softmode.runs.store import Store, is_run

# a block's arrays are held once while they are measured and once while they are written
COPIES = 3
# bytes of one chunk that zarr's compressors take
LARGEST_CHUNK = 2e9
# dimensions of arrays that grow with the sides of a state
GROWING = (*SPACE, "distance")
# of what is free, where a smaller size is named: sides are whole numbers
MARGIN = 0.98


def check_room(plan: Plan, home: Path) -> None:
    """Raise a ValueError naming the number that fits, unless a run fits on the disk and a block of it in memory."""
    count, arrays = plan.trajectories, plan.variables
    each = math.fsum(spec.bytes for spec in arrays.values()) / count
    one, room = COPIES * each / plan.parts + plan.memory, provenance.free_memory()
    parent = next(path for path in (home, *home.absolute().parents) if path.exists())
    disk = float(shutil.disk_usage(parent).free)
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
    """Return the error of a trajectory that is too large by itself, with the size that fits where there is one."""
    takes = f"one trajectory takes about {_bytes(needed)} of {where}, of which {_bytes(free)} are free"
    got = getattr(plan.config, plan.shrink)
    share = _share(plan, free, where)
    if share * min(got[1:] if isinstance(got, tuple) else (got,)) < 2:
        name, spec = max(plan.variables.items(), key=lambda item: item[1].bytes)
        sizes = ", ".join(f"{dim} {size}" for dim, size in list(zip(spec.dims, spec.shape, strict=True))[1:])
        return refusal(f"{where}: {takes}; its largest array is {name} ({sizes}): measure less")
    fits = (got[0], *(int(side * share) for side in got[1:])) if isinstance(got, tuple) else int(got * share)
    return refusal(f"{plan.shrink}: got {got}; expected at most {fits}: {takes}")


def _share(plan: Plan, free: float, where: str) -> float:
    """Return by how much sides must shrink for a trajectory to fit; 0 where that is not enough."""
    got = getattr(plan.config, plan.shrink)
    power = len(got) - 1 if isinstance(got, tuple) else plan.power

    def needed(share: float) -> float:
        copies, least = (COPIES / plan.parts, plan.memory) if where == "memory" else (1, 0)
        arrays = (
            spec.bytes / plan.trajectories * share ** sum(dim in GROWING for dim in spec.dims)
            for spec in plan.variables.values()
        )
        return copies * math.fsum(arrays) + least * share**power

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if needed(middle) < MARGIN * free else (low, middle)
    return low


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} TiB"
