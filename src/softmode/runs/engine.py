"""The engine: from a plan to a finished run. It is the only loop over blocks."""

import math
import sys
import time
import warnings
from pathlib import Path

from rich.console import Console

from softmode.bounds import shown_path
from softmode.message import refusal
from softmode.runs import log, provenance
from softmode.runs.experiment import Experiment, Plan
from softmode.runs.files import claimed, write_json, written
from softmode.runs.progress import duration, progress_bar
from softmode.runs.room import check_room
from softmode.runs.run import Run
from softmode.runs.store import Block, Store, blocks, check_directory, is_run
from softmode.settings import as_config

# work beyond this is announced with its estimate
LONG = 20.0


def execute(
    experiment: Experiment, plan: Plan, out: str | Path, progress: bool = False, whole: Path | None = None
) -> Run:
    """Compute a plan, or what is left of it, and return the finished run.

    Args:
        experiment: The experiment.
        plan: Its plan.
        out: Directory of the run; one that holds an unfinished run of the same plan is resumed.
        progress: Whether to say how long it will take and, on a terminal, to show a progress bar.
        whole: Directory of the run that needs this one, which messages name in its place.

    Raises:
        ValueError: If the directory is unusable, or the run would not fit on this machine; nothing is written then.
        NonFiniteStateError: If a state becomes NaN or infinite; finished blocks stay readable.
        OSError: If the disk is full or takes no more; finished blocks stay readable.
    """
    home = plan.home(Path(out))
    whole = whole or home
    _check_place(experiment, plan, home, whole)
    if progress and plan.needs():
        _announce_all(experiment, plan, home)
    needed = {
        place: execute(other, its_plan, home / place, progress, whole)
        for place, (other, its_plan) in plan.needs().items()
    }
    plan = plan.settled(needed)
    if plan.variables:
        identity = {"experiment": experiment.name, "config": as_config(plan.config), **plan.identity,
                    "versions": provenance.versions()}  # fmt: skip
        check_directory(home, identity, whole)
        check_room(plan, home)
    with claimed(home):
        if plan.variables:
            with written(home):
                store = Store.create(home, identity, plan.constants, plan.variables, plan.config.block, plan.parts)
            _compute(experiment, plan, store, progress)
        return _finish(Run(home, experiment))


def _compute(experiment: Experiment, plan: Plan, store: Store, progress: bool) -> None:
    """Measure and store every block that is left."""
    pending = store.blocks(done=False)
    if progress and pending:
        _announce(experiment, plan, pending)
    with progress_bar(progress and bool(pending), plan.steps(pending), experiment.name) as advance:
        for block in pending:
            start = time.perf_counter()
            values = plan.measure(block, advance)
            store.write(block, values, time.perf_counter() - start)
    store.finish()


def _finish(run: Run) -> Run:
    """Analyse a run whose arrays are complete and write its results."""
    if run.store.blocks(done=False):
        raise refusal(f"{shown_path(run.directory)} is not finished; run its own command, with the same options")
    entries = log.entries(run.directory)
    seconds: float | None = round(math.fsum(entry.seconds for entry in entries), 3)
    logged = {(entry.block, entry.part) for entry in entries}
    if any((block.index, block.part) not in logged for block in run.store.blocks(done=True)):
        warnings.warn(
            f"{log.LOG}: {shown_path(run.directory / log.LOG)} has lost entries, so the seconds that the run took are "
            "not known; its numbers are as they were",
            stacklevel=2,
        )
        seconds = None
    made = {"machine": provenance.machine(), "seconds": seconds, "hosts": sorted({entry.host for entry in entries})}
    write_json(run.results_file, {**run.identity, **made, **run.experiment.analyse(run).plain()})
    return Run(run.directory, run.experiment)


def outlook(home: Path) -> str:
    """Return what the same command does after a run has ended early."""
    # a run keeps those that it needs below its own directory
    homes = [home, *home.glob("*/"), *home.glob("*/*/")]
    done = sum(len(Store(each).blocks(done=True)) for each in homes if is_run(each))
    return f"the same command resumes, with {done} finished block{'' if done == 1 else 's'} kept"


def seconds_left(plan: Plan, home: Path) -> float:
    """Return about how long what is left of a plan takes, and of those that it needs (s).

    Args:
        plan: The plan.
        home: Directory of its run; none may be there yet.
    """
    own = 0.0
    if plan.variables:
        own = plan.seconds(Store(home).blocks(done=False) if is_run(home) else plan.blocks())
    return own + math.fsum(seconds_left(other, home / place) for place, (_, other) in plan.needs().items())


def _check_place(experiment: Experiment, plan: Plan, home: Path, whole: Path) -> None:
    """Raise a ValueError if there is no place for a run, or for one of those that it needs."""
    if plan.variables:
        check_directory(home, {"experiment": experiment.name}, whole)
        check_room(plan, home)
    for place, (other, its_plan) in plan.needs().items():
        _check_place(other, its_plan, home / place, whole)


def _announce_all(experiment: Experiment, plan: Plan, home: Path) -> None:
    """Say how long all runs that a plan needs will take together, where that is long."""
    seconds = seconds_left(plan, home)
    if seconds > LONG:
        _say(experiment, [f"about {duration(seconds)} in all; interrupted, the same command resumes"])


def _announce(experiment: Experiment, plan: Plan, pending: list[Block]) -> None:
    """Say how long the run will take, where that is long, and what is done already."""
    every = len(blocks(plan.trajectories, plan.config.block, plan.parts))
    text = [f"{every - len(pending)} of {every} blocks are done already"] if len(pending) < every else []
    seconds = plan.seconds(pending)
    if seconds > LONG:
        text.append(f"about {duration(seconds)} on {plan.config.device}; interrupted, the same command resumes")
    if text:
        _say(experiment, text)


def _say(experiment: Experiment, text: list[str]) -> None:
    line = f"{experiment.name}: {'; '.join(text)}"
    Console(file=sys.stderr).print(line, highlight=False, markup=False, soft_wrap=True)
