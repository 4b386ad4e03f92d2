"""Guidance pulses (paper H.4): the critical pulse against pulses elsewhere and other ways to spend the guidance.

The critical pulse is [sigma_c - Delta, sigma_c + Delta]. Every baseline moves or spreads that same pulse in a
coordinate of its own: rigidly in sigma (the paper's), in log sigma, in the index of the step, evenly over all steps, or
thinly over all of them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from softmode.config import PulseConfig
from softmode.dynamics import trajectory_seed
from softmode.experiments import guided_run
from softmode.experiments.guided import calls_at
from softmode.experiments.guided_setup import Condition, Weight, prepare
from softmode.experiments.pulse_summary import summarise
from softmode.guidance import AtLevels, Interval, Pulses, sigma_pulse
from softmode.model import Model
from softmode.networks.classifier import ImageClassifier
from softmode.store import Run

# stream of the random places, beside those of the trials
PLACE = 3


def run(
    config: PulseConfig,
    out: str | Path,
    model: Model | None = None,
    guide: Model | None = None,
    classifier: ImageClassifier | None = None,
    progress: bool = False,
) -> Run:
    """Run the experiment, or resume it, and return the stored run.

    Args:
        config: What to guide and how.
        out: Directory of the run; one that holds an unfinished run of the same config is resumed. Where the config
            names no sigma_c and no window, a window is measured in its directory `window` first (H.3).
        model: The model, where it is at hand; loaded by the config's name when left out.
        guide: The model of the guide, where it is at hand.
        classifier: The classifier, where it is at hand.
        progress: Whether to show progress bars.

    Raises:
        ValueError: If the config, a model or the directory is unusable, or there is no sigma_c.
        NonFiniteStateError: If a state becomes NaN or infinite; finished blocks stay readable.
    """
    guidance = prepare(config, model, guide, classifier)
    check(config)
    sigma_c, window = guided_run.critical_level("pulse", guidance, out, clones=0, progress=progress)
    half_width = config.half_width if config.half_width is not None else sigma_c / 2
    settled = replace(config, sigma_c=sigma_c, half_width=half_width)
    guidance = replace(guidance, config=settled)
    conditions = build(settled, guidance.levels, window)
    return guided_run.run("pulse", guidance, conditions, out, summarise, progress)


def check(config: PulseConfig) -> None:
    """Raise a ValueError unless the pulse's own fields are in range."""
    if config.half_width is not None and not 0 < config.half_width < math.inf:
        raise ValueError(f"half_width: got {config.half_width}; expected a positive number")
    if config.sigma_c is not None and config.half_width is not None and config.half_width >= config.sigma_c:
        raise ValueError(
            f"half_width: got {config.half_width:g}; expected less than sigma_c = {config.sigma_c:g}, or the pulse has "
            "no width in log sigma"
        )
    Interval(*config.interval, config.weight)


def build(config: PulseConfig, levels: Tensor, window: tuple[float, float] | None) -> list[Condition]:
    """Return the conditions of H.4 and the fair ones beside.

    Args:
        config: The config, with sigma_c and half_width.
        levels: Falling noise levels of the sampler [level].
        window: The window that was found, low and high; None without one.

    Raises:
        ValueError: If no level falls into the critical pulse.

    Source: paper H.4 for the first three.
    """
    sigma_c, half_width, w = float(config.sigma_c or 0), float(config.half_width or 0), config.weight
    critical = sigma_pulse(sigma_c, half_width, w)
    inside = critical(levels) != 0
    count = int(inside.sum())
    if not count or critical.low == 0:
        nearest = float(levels[(levels.log() - math.log(sigma_c)).abs().argmin()])
        raise ValueError(
            f"half_width: got {half_width:g}; expected below sigma_c = {sigma_c:.4g}, and wide enough that the pulse "
            f"holds a level of the sampler, the nearest is {nearest:.4g}; or use more steps"
        )
    first, last = float(levels[0]), float(levels[-1])
    ratio = math.sqrt(critical.high / critical.low)
    share = float(calls_at(levels)[inside].sum() / calls_at(levels).sum())
    edges = torch.cat([levels, levels.new_zeros(1)]).tolist()
    even = levels[((torch.arange(count) + 0.5) * len(levels) / count).long()]

    def in_sigma(rng: np.random.Generator) -> tuple[float, float]:
        pulse = sigma_pulse(rng.uniform(last, first), half_width, w)
        return pulse.low, pulse.high

    def in_log(rng: np.random.Generator) -> tuple[float, float]:
        centre = math.exp(rng.uniform(math.log(last), math.log(first)))
        return centre / ratio, centre * ratio

    def in_steps(rng: np.random.Generator) -> tuple[float, float]:
        k = int(rng.integers(len(levels) - count + 1))
        return edges[k + count], edges[k]

    def fixed(weight: Weight) -> Callable[[int, Sequence[int]], Weight]:
        return lambda _label, _trials: weight

    def drawn(kind: int, draw: Callable[[np.random.Generator], tuple[float, float]]) -> Callable[..., Weight]:
        def weight(label: int, trials: Sequence[int]) -> Weight:
            seeds = [trajectory_seed(config.seed, trial, label, PLACE, kind) for trial in trials]
            ends = torch.tensor([draw(np.random.default_rng(seed)) for seed in seeds], dtype=torch.float64)
            return Pulses(ends[:, 0], ends[:, 1], w)

        return weight

    pulse = f"w = {w:g} in ({critical.low:.3g}, {critical.high:.3g}]"
    found = [
        Condition("unguided", "no guidance", "H.4", None),
        Condition("critical", f"{pulse}, around sigma_c", "H.4", fixed(critical)),
        Condition("random", "the same pulse, its centre uniform in sigma", "H.4", drawn(0, in_sigma)),
        Condition("random_log", "the same width in log sigma, its centre uniform there", "ours", drawn(1, in_log)),
        Condition("random_step", f"{count} consecutive levels, uniform in their index", "ours", drawn(2, in_steps)),
        Condition("spread", f"{count} levels, evenly spaced in their index", "ours", fixed(AtLevels(even, w))),
        Condition(
            "constant", f"w = {w * share:.3g} at every level: the same sum over calls", "ho2022",
            fixed(Interval(0.0, math.inf, w * share)),
        ),
    ]  # fmt: skip
    if window is not None:
        low, high = window
        text = f"w = {w:g} in the whole window ({low:.3g}, {high:.3g}]"
        found.append(Condition("window", text, "softmode window", fixed(Interval(low, high, w))))
    low, high = config.interval
    text = f"w = {w:g} in ({low:.3g}, {high:.3g}]"
    found.append(Condition("interval", text, "kynkaanniemi2024", fixed(Interval(low, high, w))))
    return found
