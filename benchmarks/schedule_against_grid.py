"""How much of the best interval's gain softmode schedule reaches, and at which share of a grid's network calls.

    python benchmarks/schedule_against_grid.py fashion-mnist attention --out runs/against-grid
    python benchmarks/schedule_against_grid.py avatars --options "--labels hat=1,hat=0 --trials 40"
    python benchmarks/schedule_against_grid.py --small

Every network and seed has a run of its own below --out; the same command resumes where it was interrupted.
"""

import argparse
import shlex
import tempfile
from pathlib import Path
from typing import Any

import softmode as sm
from softmode.cli import main as softmode
from softmode.runs.store import is_run

# what makes a run tiny, to see that it works, on the quickest of the shipped networks
QUICK = "fashion-mnist-guide"
SMALL = "--classes 2 --trials 1 --steps 6 --guided-steps 2 --search-trials 1 --grid 3"


def row(model: str, seed: int, out: Path, options: list[str]) -> list[str]:
    """Return the cells of one network and seed, its run made if it is not finished."""
    home = out / f"{model.replace('/', '-').replace(':', '-')}-{seed}"
    if not (is_run(home) and (home / "summary.json").is_file()):
        softmode(["schedule", model, "--grid", "100", *options, "--seed", str(seed), "--out", str(home)])
    found: dict[str, Any] = sm.open(home).results.values
    if found["best"] is None:
        return [model, str(seed), "no level gains", "", "", "", ""]
    grid, every = (found["shares"][of] for of in ("grid", "all"))
    ratio = found["calls"]["grid"] / found["calls"]["search"]
    gain = found["gains"][found["best"]]
    return [model, str(seed), found["best"], f"{gain}", f"{grid} {grid.interval}", f"{every}", f"{ratio:.2g}"]


def main() -> None:
    """Print a table with a row for every network and seed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("models", nargs="*", default=["fashion-mnist"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--options", default="", help="further options of softmode schedule")
    parser.add_argument("--out", default="runs/against-grid")
    parser.add_argument("--small", action="store_true", help="two classes and few levels, to see that it works")
    arguments = parser.parse_args()
    options = shlex.split(arguments.options)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch if arguments.small else arguments.out)
        seeds = [0] if arguments.small else arguments.seeds
        options = [*options, *shlex.split(SMALL)] if arguments.small else options
        models = [QUICK] if arguments.small else arguments.models
        rows = [row(model, seed, out, options) for model in models for seed in seeds]
    heads = ["network", "seed", "form", "gain", "of the best of the grid", "of all levels", "calls of grid / search"]
    for cells in (heads, ["---"] * len(heads), *rows):
        print(" | ".join(cells))


if __name__ == "__main__":
    main()
