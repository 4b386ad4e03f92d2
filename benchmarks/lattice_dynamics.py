"""Time the frozen dynamics of patch models against the best that eager PyTorch does, all in one run on the same work.

Two states on 5 x 5: eager PyTorch adds shifted slices, row by row and column by column, in place where it can, with its
own normal numbers; softmode takes three points, which serve averages, or normal numbers, which serve trajectories.
Ten patterns: eager PyTorch unfolds or convolves. The ways take turns, and ratios are taken turn by turn.

    python benchmarks/lattice_dynamics.py --threads 2 --turns 5
    python benchmarks/lattice_dynamics.py --small      # a few seconds, to see that it works
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from softmode.exact.dictionary import paper_dictionary
from softmode.exact.patch import PatchDenoiser, TwoStatePatch
from softmode.exact.patch_dynamics import advance, compiled, frozen_steps
from softmode.lattice import ReceptiveField

SIGMA, STEP = 2.5, 0.5


def box_sum(x: Tensor) -> Tensor:
    """Sums over 5 x 5 neighbours by shifted slices of a padded copy, one axis after the other."""
    for axis in (-1, -2):
        side = x.shape[axis]
        padded = torch.cat([x.narrow(axis, side - 2, 2), x, x.narrow(axis, 0, 2)], axis)
        x = padded.narrow(axis, 0, side) + padded.narrow(axis, 1, side)
        for shift in (2, 3, 4):
            x.add_(padded.narrow(axis, shift, side))
    return x


def eager(x: Tensor, steps: int, mean: Callable[[Tensor], Tensor]) -> Tensor:
    """The same steps as one would write them in PyTorch."""
    kick = SIGMA * (STEP / 2) ** 0.5
    x, noise = x.clone(), torch.empty_like(x)
    for _ in range(steps):
        noise.normal_(std=kick)
        x.add_(noise)
        pull = mean(x)
        x.mul_(1 - STEP).add_(pull, alpha=STEP).add_(noise)
    return x


def two_states(y: Tensor) -> Tensor:
    return box_sum(y).mul_(SIGMA**-2).tanh_()


def ten_patterns(unfolded: bool) -> Callable[[Tensor], Tensor]:
    dictionary = paper_dictionary(0)
    patterns, log_prior = dictionary.patterns.float(), dictionary.prior.float().log()[:, None, None]
    centre = dictionary.centre.float()

    def mean(y: Tensor) -> Tensor:
        padded = functional.pad(y, (2, 2, 2, 2), mode="circular")
        if unfolded:
            patches = functional.unfold(padded, 5).reshape(len(y), 25, *y.shape[2:])
            overlap = torch.einsum("bphw,kp->bkhw", patches, patterns)
        else:
            overlap = functional.conv2d(padded, patterns.reshape(-1, 1, 5, 5))
        weights = torch.softmax(log_prior + SIGMA**-2 * overlap, 1)
        return torch.einsum("bkhw,k->bhw", weights, centre)[:, None]

    return mean


def compare(title: str, ways: dict[str, Callable[[], object]], updates: int, turns: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, work in ways.items():
            start = time.perf_counter()
            work()
            if turn > 0:  # the first turn warms up
                times[name].append(time.perf_counter() - start)
    base = next(iter(ways))
    print(title)
    for name, values in times.items():
        faster = statistics.median(a / b for a, b in zip(times[base], values, strict=True))
        print(f"  {name:24s} {1e9 * statistics.median(values) / updates:7.2f} ns per site and step   {faster:5.1f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="one turn on small lattices, to see that it works")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print(f"{chosen.threads} thread(s), {'compiled' if compiled() else 'without numba: torch alone'}, float32")
    field, turns = ReceptiveField.box(5), 1 if chosen.small else chosen.turns
    for side, replicas, steps in ((16, 2, 5), (32, 1, 5)) if chosen.small else ((64, 16, 400), (2048, 1, 12)):
        x, keys = torch.randn(replicas, 1, side, side), torch.arange(replicas)
        plan, model = frozen_steps(SIGMA, STEP, steps), TwoStatePatch(field)
        ways: dict[str, Callable[[], object]] = {
            "eager, shifted slices": lambda x=x, steps=steps: eager(x, steps, two_states),
            "softmode, three points": lambda x=x, p=plan, k=keys, m=model: advance(m, x, p, k, 0, "three-point"),
            "softmode, normal": lambda x=x, p=plan, k=keys, m=model: advance(m, x, p, k, 0, "gaussian"),
        }
        compare(f"two states, {side} x {side}, {replicas} replica(s)", ways, x.numel() * steps, turns)
    side, steps = (16, 5) if chosen.small else (80, 400)
    x, keys, ten = torch.randn(4, 1, side, side), torch.arange(4), PatchDenoiser(paper_dictionary(0))
    unfold, convolve = ten_patterns(True), ten_patterns(False)
    ways = {
        "eager, unfold + einsum": lambda: eager(x, steps, unfold),
        "eager, conv2d": lambda: eager(x, steps, convolve),
        "softmode, normal": lambda: advance(ten, x, frozen_steps(SIGMA, STEP, steps), keys),
    }
    compare(f"ten patterns, {side} x {side}, 4 replicas", ways, x.numel() * steps, turns)


if __name__ == "__main__":
    main()
