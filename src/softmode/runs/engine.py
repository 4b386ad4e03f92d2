"""The engine: from a plan to a finished run. It is the only loop over blocks."""

import math
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from softmode.runs import provenance
from softmode.runs.experiment import Experiment, Plan
from softmode.runs.files import claimed, write_json
from softmode.runs.progress import duration, progress_bar
from softmode.runs.run import Run
from softmode.runs.store import Block, Store, blocks, check_directory
from softmode.settings import as_config

# work beyond this is announced with its estimate
LONG = 20.0
# a block's arrays are held once while they are measured and once while they are written
COPIES = 3


def execute(experiment: Experiment, plan: Plan, out: str | Path, progress: bool = False) -> Run:
    """Compute a plan, or what is left of it, and return the finished run.

    Args:
        experiment: The experiment.
        plan: Its plan.
        out: Directory of the run; one that holds an unfinished run of the same plan is resumed.
        progress: Whether to show a progress bar and how long it will take.

    Raises:
        ValueError: If the directory is unusable, or the run would not fit on this machine; nothing is written then.
        NonFiniteStateError: If a state becomes NaN or infinite; finished blocks stay readable.
    """
    home = plan.home(Path(out))
    if plan.variables:
        check_directory(home, {"experiment": experiment.name})
        check_room(plan, home)
    needed = {
        place: execute(other, its_plan, home / place, progress) for place, (other, its_plan) in plan.needs().items()
    }
    plan = plan.settled(needed)
    run = Run(home, experiment)
    if not plan.variables:
        with claimed(home):
            return _finish(run)
    identity = {"experiment": experiment.name, "config": as_config(plan.config), **plan.identity,
                "versions": provenance.versions()}  # fmt: skip
    check_directory(home, identity)
    check_room(plan, home)
    with claimed(home):
        store = Store.create(home, identity, plan.constants, plan.variables, plan.config.block, plan.parts)
        pending = store.blocks(done=False)
        if progress and pending:
            _announce(experiment, plan, pending)
        with progress_bar(progress and bool(pending), plan.steps(pending), experiment.name) as advance:
            for block in pending:
                start = time.perf_counter()
                values = plan.measure(block, advance)
                _write(store, block, values, time.perf_counter() - start)
        store.finish()
        return _finish(run)


def _write(store: Store, block: Block, values: Mapping[str, Any], seconds: float) -> None:
    try:
        store.write(block, values, seconds)
    except OSError as error:
        raise OSError(
            f"{error.strerror or error} while writing to {str(store.directory)!r}; finished blocks are kept: "
            "make room and run the same command"
        ) from None


def _finish(run: Run) -> Run:
    """Analyse a run whose arrays are complete and write its results."""
    log = run.store.log()
    summary = {
        **run.identity,
        "machine": provenance.machine(),
        "seconds": round(math.fsum(entry["seconds"] for entry in log), 3),
        "hosts": sorted({entry["host"] for entry in log}),
        **run.experiment.analyse(run).plain(),
    }
    write_json(run.results_file, summary)
    return Run(run.directory, run.experiment)


def check_room(plan: Plan, home: Path) -> None:
    """Raise a ValueError naming the number that fits, unless the run fits on the disk and a block in memory."""
    count, name = plan.trajectories, plan.counted
    each = math.fsum(spec.bytes for spec in plan.variables.values()) / count
    parent = next(path for path in (home, *home.absolute().parents) if path.exists())
    free = shutil.disk_usage(parent).free
    if each > free:
        raise ValueError(
            f"{plan.shrink}: got {getattr(plan.config, plan.shrink)}; one trajectory takes up to {_bytes(each)} of "
            f"disk, of which {_bytes(free)} are free: use less"
        )
    if each * count > free:
        got = getattr(plan.config, name)
        raise ValueError(
            f"{name}: got {got}; expected at most {int(free / each * got / count)}: the run takes up to "
            f"{_bytes(each * count)} of disk, of which {_bytes(free)} are free"
        )
    one, size, room = COPIES * each / plan.parts + plan.memory, min(plan.config.block, count), provenance.free_memory()
    if one > room:
        raise ValueError(
            f"{plan.shrink}: got {getattr(plan.config, plan.shrink)}; one trajectory takes about {_bytes(one)} of "
            f"memory, of which {_bytes(room)} are free: use less"
        )
    if one * size > room:
        raise ValueError(
            f"block: got {plan.config.block}; expected at most {int(room / one)}: a block takes about "
            f"{_bytes(one * size)} of memory, of which {_bytes(room)} are free"
        )


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} TiB"


def _announce(experiment: Experiment, plan: Plan, pending: list[Block]) -> None:
    """Say how long the run will take, where that is long, and what is done already."""
    every = len(blocks(plan.trajectories, plan.config.block, plan.parts))
    text = [f"{every - len(pending)} of {every} blocks are done already"] if len(pending) < every else []
    seconds = plan.seconds(pending)
    if seconds > LONG:
        text.append(f"about {duration(seconds)} on {plan.config.device}; interrupted, the same command resumes")
    if text:
        Console(file=sys.stderr).print(f"{experiment.name}: {'; '.join(text)}", highlight=False, markup=False)
