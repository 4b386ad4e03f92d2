"""Time a susceptibility curve whose pulses begin from their unguided twins against sampling each from the start.

Both give the same samples, bit for bit.

    python benchmarks/guidance.py --turns 3
    python benchmarks/guidance.py --small      # a few seconds, to see that it works
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from softmode.denoiser import Guided
from softmode.experiments.pulse.sampling import Trials, guided, trial_noise, unguided
from softmode.experiments.pulse.trials import EDM, SAMPLER, Condition, Guidance, find_guidance
from softmode.experiments.susceptibility.config import Config
from softmode.experiments.susceptibility.pulses_measure import build
from softmode.samplers import initial_state
from softmode.simulation import simulate

LABEL = 3
CONFIG = Config(model="fashion-mnist", method="pulses", labels=(LABEL,), trials=8, centres=8, steps=32, width=1.5)
SMALL = replace(CONFIG, trials=2, centres=3, steps=8, width=3.0, lowest=0.2)

Work = Callable[[Guidance, list[Condition]], list[torch.Tensor]]


def from_twins(guidance: Guidance, conditions: list[Condition]) -> list[torch.Tensor]:
    """Return the samples of every condition, each begun from the states of the unguided twins."""
    trials = Trials.of(LABEL, range(guidance.config.trials))
    twins = unguided(guidance, trials)
    return [guided(guidance, trials, condition, twins).final for condition in conditions]


def from_the_start(guidance: Guidance, conditions: list[Condition]) -> list[torch.Tensor]:
    """Return the samples of every condition, each sampled whole."""
    trials, samples = range(guidance.config.trials), []
    for condition in conditions:
        noise = trial_noise(guidance, Trials.of(LABEL, trials))
        x = initial_state(EDM, float(guidance.levels[0]), noise, guidance.model.shape, guidance.dtype)
        denoiser, guide = guidance.denoisers[LABEL]
        if condition.weight is not None:
            denoiser = Guided(denoiser, guide, condition.weight(LABEL, trials))
        samples.append(simulate(denoiser, EDM, x, guidance.times, noise, sampler=SAMPLER).state)
    return samples


def timed(work: Work, guidance: Guidance, conditions: list[Condition]) -> tuple[float, list[torch.Tensor]]:
    start = time.perf_counter()
    samples = work(guidance, conditions)
    return time.perf_counter() - start, samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="one turn with few steps, to see that it works")
    chosen = parser.parse_args()
    config, turns = (SMALL, 1) if chosen.small else (CONFIG, chosen.turns)
    guidance = find_guidance(config, {})
    conditions = build(config, guidance.levels)
    ratios, own = [], []
    for _ in range(turns):
        ours, samples = timed(from_twins, guidance, conditions)
        theirs, whole = timed(from_the_start, guidance, conditions)
        if not all(torch.equal(a, b) for a, b in zip(samples, whole, strict=True)):
            raise SystemExit("samples begun from twins differ from those sampled whole")
        ratios.append(theirs / ours)
        own.append(ours)
    print(f"{len(conditions)} conditions, {config.trials} trials, {torch.get_num_threads()} thread(s), {turns} turn(s)")
    print(f"begun from twins: {statistics.median(own):.1f} s")
    print(f"from the start:   {statistics.median(ratios):.2f} times that ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
