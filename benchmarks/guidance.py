"""Time a susceptibility curve whose pulses begin from their unguided twins against sampling each from the start.

Both give the same samples, bit for bit. Run with: python benchmarks/guidance.py [turns]
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from softmode.config import SusceptibilityConfig
from softmode.dynamics import heun, initial_state, simulate
from softmode.experiments.guided_setup import Condition, Guidance, prepare

from softmode.denoiser import Guided
from softmode.experiments import guided
from softmode.experiments.susceptibility import build

TRIALS = 8
CONFIG = SusceptibilityConfig("fashion-mnist-labelled", labels="3", trials=TRIALS, centres=8, steps=32, width=1.5)


def from_twins(guidance: Guidance, conditions: list[Condition]) -> list[torch.Tensor]:
    """Return the samples of every condition, each begun from the states of the unguided twins."""
    twins = guided.unguided(guidance, 3, range(TRIALS))
    return [guided.guided(guidance, 3, range(TRIALS), condition, twins).final for condition in conditions]


def from_the_start(guidance: Guidance, conditions: list[Condition]) -> list[torch.Tensor]:
    """Return the samples of every condition, each sampled whole."""
    times = torch.cat([guidance.levels, torch.zeros(1, dtype=torch.float64)])
    samples = []
    for condition in conditions:
        noise = guided.trial_noise(guidance, 3, range(TRIALS))
        x = initial_state(guided.EDM, float(guidance.levels[0]), noise, guidance.model.shape, guidance.dtype)
        denoiser, guide = guidance.denoisers[3]
        if condition.weight is not None:
            denoiser = Guided(denoiser, guide, condition.weight(3, range(TRIALS)))
        samples.append(simulate(denoiser, guided.EDM, x, times, noise, stepper=heun).state)
    return samples


def timed(work: Callable[[Guidance, list[Condition]], list[torch.Tensor]], *arguments: object) -> tuple[float, list]:
    start = time.perf_counter()
    samples = work(*arguments)
    return time.perf_counter() - start, samples


def main(turns: int) -> None:
    guidance = prepare(CONFIG)
    conditions = build(CONFIG, guidance.levels)
    ratios, own = [], []
    for _ in range(turns):
        ours, samples = timed(from_twins, guidance, conditions)
        theirs, whole = timed(from_the_start, guidance, conditions)
        assert all(torch.equal(a, b) for a, b in zip(samples, whole, strict=True))
        ratios.append(theirs / ours)
        own.append(ours)
    print(f"{len(conditions)} conditions, {TRIALS} trials, {torch.get_num_threads()} thread(s), {turns} turns")
    print(f"begun from twins: {statistics.median(own):.1f} s")
    print(f"from the start:   {statistics.median(ratios):.2f} times that ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
