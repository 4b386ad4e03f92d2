"""Do independent images give the same answer? Windows and instabilities of disjoint sets of the shipped networks.

    python benchmarks/disjoint_sets.py --out runs/disjoint      # an hour or two on one core; interrupted, it goes on
    python benchmarks/disjoint_sets.py --small

It needs Fashion-MNIST, as Debian's package dataset-fashion-mnist has it, or softmode train fashion-mnist --download.
Four sets of 64 images or states, as many as a window of 16 trajectories takes, each analysed apart.
"""

import argparse
import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import softmode as sm
from softmode.cumulative import shortest
from softmode.data import fashion_mnist
from softmode.estimate import Estimate, bootstrap_draws
from softmode.experiments.information.analyse import Known, labels_of
from softmode.experiments.instability.analyse import Curves, levels_of
from softmode.experiments.window.decided import by_labels
from softmode.networks.load import load_model
from softmode.runs.run import Run

PARTITIONS = 60
# states of a window of a model with labels
FEW = 16
LABELLED, BINARY = "fashion-mnist", "fashion-mnist-binary"
# the quickest of the shipped networks
GUIDE = "fashion-mnist-guide"
SHARE = 0.8


def part(known: Known, which: slice) -> Known:
    """Return what some of the images tell."""
    return known._replace(information=known.information[which], score=known.score[which], truth=known.truth[which])


def some(curves: Curves, which: slice) -> Curves:
    """Return what some of the states tell."""
    names = ("values", "residuals", "antisymmetric", "extents")
    return replace(curves, **{name: getattr(curves, name)[which] for name in names})


def overlap(sets: Sequence[Estimate]) -> str:
    """Return how many pairs of intervals overlap; of independent ones of one truth 99 % should."""
    pairs = list(itertools.combinations(sets, 2))
    met = sum(one.low <= other.high and other.low <= one.high for one, other in pairs)
    return f"{met} of {len(pairs)} pairs overlap"


def text(e: Estimate) -> str:
    """Return a value with its interval and half of the width of that in per cent."""
    return f"{e.value:.3g} [{e.low:.3g}, {e.high:.3g}] +-{50 * (e.high - e.low) / e.value:.0f} %"


def windows(run: Run, sets: int) -> None:
    """Print the window of the class by each set of images."""
    levels, (known,) = run.dataset["level"].to_numpy(), labels_of(run)
    size = len(known.information) // sets
    found = [by_labels([part(known, slice(i * size, (i + 1) * size))], levels, SHARE).main for i in range(sets)]
    print(f"\n{LABELLED}: the window of the class, {sets} sets of {size} images")
    for name in ("sigma_c", "low", "high"):
        estimates = [getattr(each, name) for each in found]
        print(f"{name:<8} {'; '.join(map(text, estimates))}: {overlap(estimates)}")


def spread(run: Run, sets: int) -> None:
    """Print how much sigma_c differs between disjoint sets, over many partitions at random, and what intervals say."""
    levels, (known,) = run.dataset["level"].to_numpy(), labels_of(run)
    rng, size = np.random.default_rng(0), len(known.information) // sets
    variances, stated = [], []
    for _ in range(PARTITIONS):
        # the classes are dealt out in turn: shuffled within each
        order = np.empty(len(known.truth), dtype=np.int64)
        for value in np.unique(known.truth):
            own = np.flatnonzero(known.truth == value)
            order[own] = rng.permutation(own)
        parts = [known.information[order[i * size : (i + 1) * size]] for i in range(sets)]
        halves = [shortest(each.mean(0), levels, SHARE).half for each in parts]
        variances.append(np.var(np.log(halves), ddof=1))
        groups = known.truth[order[:size]].tolist()
        draws = bootstrap_draws(size, groups, PARTITIONS)
        stated.append(np.var([np.log(shortest(parts[0][draw].mean(0), levels, SHARE).half) for draw in draws], ddof=1))
    found, said = (100 * np.sqrt(np.mean(each)) for each in (variances, stated))
    print(
        f"spread   of sigma_c between sets, over {PARTITIONS} partitions: {found:.1f} %; by the bootstrap {said:.1f} %"
    )


def instabilities(run: Run, model: str, sets: int) -> None:
    """Print where half of the states are unstable by each set of them, and by all."""
    curves = Curves.of(run)
    size = len(curves.values) // sets
    found = [levels_of(some(curves, slice(i * size, (i + 1) * size)), 0.5) for i in range(sets)]
    whole = levels_of(curves, 0.5)
    print(f"\n{model}: half of the states unstable, {sets} sets of {size} states, and all of them")
    for place, name in enumerate(("sigma_c", "sites")):
        estimates = [each[place] for each in found]
        print(f"{name:<8} {'; '.join(map(text, estimates))}: {overlap(estimates)}; all: {text(whole[place])}")
    few = [levels_of(some(curves, slice(i, i + FEW)), 0.5)[0] for i in range(0, len(curves.values), FEW)]
    hold = sum(each.low <= whole[0].value <= each.high for each in few)
    print(f"sigma_c  of sets of {FEW}: {hold} of {len(few)} intervals hold that of all")


def main() -> None:
    """Measure, and print every set beside the others."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", default="runs/disjoint")
    parser.add_argument("--small", action="store_true", help="few images and levels, to see that it works")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch if arguments.small else arguments.out)
        tiny: dict[str, Any] = {"trajectories": 4, "levels": 8} if arguments.small else {"trajectories": 256}
        # the shipped excerpt of the test set has too few of some classes
        networks = (GUIDE, GUIDE) if arguments.small else (LABELLED, BINARY)
        labelled = replace(load_model(networks[0]), images=fashion_mnist("test", "grey"))
        run, sets = sm.information(labelled, out=out / "information", **tiny), 2 if arguments.small else 4
        windows(run, sets)
        spread(run, sets)
        tiny = {"trajectories": 4, "levels": 3} if arguments.small else {"trajectories": 256}
        for model in networks[::-1]:
            run = sm.instability(model, out=out / f"instability-{model}", growth=False, **tiny)
            with np.errstate(all="ignore"):
                instabilities(run, model, sets)


if __name__ == "__main__":
    main()
