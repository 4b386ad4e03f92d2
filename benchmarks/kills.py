"""Kill tiny runs of every experiment at random places and resume them: they must end bit-identical.

Each start of a command is killed without warning after a random time, and the same command started again, until it
finishes by itself. Its arrays are compared file by file, and its results number by number, with those of a run that
was left alone.

    python benchmarks/kills.py --count 100
    python benchmarks/kills.py --count 20 --experiment patch
    python benchmarks/kills.py --small      # one kill, to see that it works
"""

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import tempfile
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

from softmode.cli import main
from softmode.experiments import EXPERIMENTS
from softmode.runs.report import print_table
from softmode.runs.results import Table

TINY = {
    "patch": "--size 16 --receptive-field box:3 --t-max 20 --steps 600 --trajectories 6 --block 1 --shells 3",
    "probe": "fashion-mnist-binary --trajectories 3 --steps 60 --measure-every 6 --block 1 --t-max 8 --shells 3",
    "clones": "fashion-mnist --trajectories 4 --steps 30 --copies 2 --labels 3,5 --block 2",
    "window": "fashion-mnist --trajectories 4 --clones 4 --clone-steps 30 --steps 20 --block 2",
    "pulse": "fashion-mnist --classes 2 --trials 3 --steps 14 --sigma-c 3 --block 2",
    "susceptibility": "fashion-mnist --classes 2 --trials 2 --nodes 3 --steps 20 --sigma-c 3 --block 2",
}
# of a summary: what differs between runs of the same numbers
SITTINGS = ("seconds", "hosts", "machine", "digest")
STORE = "run.zarr"
EARLY, BETWEEN, LATE = "early", "between blocks", "late"
# a server that has imported everything forks at once, so that no kill is wasted on imports
SERVER = multiprocessing.get_context("forkserver")


def start(name: str, out: Path) -> BaseProcess:
    process = SERVER.Process(target=command, args=(name, out))
    process.start()
    return process


def command(name: str, out: Path) -> None:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        main([name, *TINY[name].split(), "--out", str(out)])


def arrays(directory: Path) -> dict[str, str]:
    """Return the hash of every file of every store below a directory."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and STORE in path.parts)
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def results(directory: Path) -> dict[str, object]:
    """Return the results of every experiment that was run below a directory."""
    files = (path for path in sorted(directory.rglob("*.json")) if STORE not in path.parts)
    found = {str(path.relative_to(directory)): json.loads(path.read_text()) for path in files}
    return {name: {k: v for k, v in content.items() if k not in SITTINGS} for name, content in found.items()}


def place(directory: Path) -> str:
    """Return where in its work a process was killed."""
    if (directory / "summary.json").exists():
        return LATE
    return BETWEEN if any(directory.rglob("block_done/c")) else EARLY


def survive(name: str, kills: int, rng: random.Random, scratch: Path) -> tuple[Counter[str], int, int]:
    """Return where the kills fell, how many runs were compared, and how many of them differ."""
    start(name, scratch / "warm").join()
    began = time.monotonic()
    left_alone, took = start(name, scratch / "alone"), 0.0
    while left_alone.exitcode is None:
        left_alone.join(0.01)
        if not took and (scratch / "alone" / "summary.json").exists():
            took = time.monotonic() - began
    if left_alone.exitcode:
        raise SystemExit(f"{name}: exit code {left_alone.exitcode}")
    wanted, said = arrays(scratch / "alone"), results(scratch / "alone")
    places, compared, different = Counter[str](), 0, 0
    while places.total() < kills:
        out = scratch / f"run{compared}"
        while places.total() < kills:
            process = start(name, out)
            # what follows, the figures, takes about as long again; a tenth of it is enough
            process.join(rng.uniform(0, 1.1 * took))
            if process.exitcode is not None:
                break
            process.kill()
            process.join()
            places[place(out)] += 1
            if place(out) == LATE:
                break
        last = start(name, out)
        last.join()
        compared += 1
        same = last.exitcode == 0 and arrays(out) == wanted and results(out) == said
        different += not same
        if not same:
            print(f"{name}: {out} differs (exit code {last.exitcode})", flush=True)
    return places, compared, different


def kill_all(count: int, names: list[str], seed: int) -> int:
    """Print a table and return how many runs differ."""
    rows, total = [], 0
    for position, name in enumerate(names):
        share = count // len(names) + (position < count % len(names))
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="softmode-kills-") as scratch:
            places, compared, different = survive(name, share, random.Random(f"{seed} {name}"), Path(scratch))
        total += different
        fell = (places[where] for where in (EARLY, BETWEEN, LATE))
        rows.append((name, places.total(), *fell, compared, different, round(time.monotonic() - began)))
    columns = ("", "kills", EARLY, BETWEEN, LATE, "runs", "differ", "seconds")
    note = "early: before a block was finished; late: after all of them, at the results or the figures"
    print_table(Table("Runs that were killed and resumed", columns, tuple(rows), note))
    return total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="kills in all")
    parser.add_argument("--experiment", choices=list(TINY), action="append", help="only this one; may be repeated")
    parser.add_argument("--small", action="store_true", help="one kill of patch, to see that it works")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    chosen = parser.parse_args()
    count, names = (1, ["patch"]) if chosen.small else (chosen.count, chosen.experiment or list(TINY))
    SERVER.set_forkserver_preload(
        [
            "softmode.cli",
            "softmode.runs.html",
            *(f"{EXPERIMENTS[n]}.{m}" for n in names for m in ("measure", "analyse", "figures")),
        ]
    )
    raise SystemExit(kill_all(count, names, chosen.seed) > 0)
