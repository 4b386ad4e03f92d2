"""The conditions of a pulse experiment (paper H.4): the critical pulse, the same elsewhere, and other ways to guide.

The critical pulse is [sigma_c - Delta, sigma_c + Delta]. Every baseline moves or spreads that same pulse in a
coordinate of its own: rigidly in sigma (the paper's), in log sigma, in the index of the step, evenly over all steps, or
thinly over all of them.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from softmode.experiments.pulse.config import Config
from softmode.experiments.pulse.trials import SAMPLER, Condition, Weight, fixed
from softmode.guidance.weights import AtLevels, Interval, Pulses, sigma_pulse
from softmode.streams import place_seed

# conditions where a window was found; one fewer without
MOST = 9


def build(config: Config, levels: Float[Tensor, " level"], window: tuple[float, float] | None) -> list[Condition]:
    """Return the conditions of H.4 and the fair ones beside.

    Args:
        config: The config, with sigma_c and half_width.
        levels: Falling noise levels of the sampler.
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
    edges = torch.cat([levels, levels.new_zeros(1)])
    calls = SAMPLER.calls(edges)[:-1]
    share = float(calls[inside].sum() / calls.sum())
    even = levels[((torch.arange(count) + 0.5) * len(levels) / count).long()]

    def in_sigma(rng: np.random.Generator) -> tuple[float, float]:
        pulse = sigma_pulse(rng.uniform(last, first), half_width, w)
        return pulse.low, pulse.high

    def in_log(rng: np.random.Generator) -> tuple[float, float]:
        centre = math.exp(rng.uniform(math.log(last), math.log(first)))
        return centre / ratio, centre * ratio

    def in_steps(rng: np.random.Generator) -> tuple[float, float]:
        k = int(rng.integers(len(levels) - count + 1))
        return float(edges[k + count]), float(edges[k])

    def drawn(kind: int, draw: Callable[[np.random.Generator], tuple[float, float]]) -> Callable[..., Weight]:
        def weight(label: int, trials: Sequence[int]) -> Weight:
            seeds = [place_seed(config.seed, trial, label, kind) for trial in trials]
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
