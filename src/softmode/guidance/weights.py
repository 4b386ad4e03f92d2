r"""Guidance in a window of noise levels: the weight w(sigma), and the steps that it falls on.

Weights are the paper's: $D + w(\sigma)(D - D_{\mathrm{guide}})$, so w = 0 is unguided. The guidance scale of pipelines,
$D_{\mathrm{guide}} + s\,(D - D_{\mathrm{guide}})$, is s = 1 + w.

Windows are open below and closed above. A level that equals an end up to rounding counts as that end: it is guided at
the upper one and not at the lower one, so that adjoining windows guide every level between them once.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from softmode.rounding import above, rounding_at


@dataclass(frozen=True)
class Interval:
    """Constant guidance inside an interval of noise levels, low < sigma <= high, and none outside: a weight w(sigma).

    Args:
        low: Lower end, sigma/alpha, not included; nor is a level that equals it up to a scheduler's float32.
        high: Upper end, included, as is a level that equals it up to that rounding.
        weight: The weight inside.

    Source: kynkaanniemi2024, whose intervals are open below and closed above; paper H.4.
    """

    low: float
    high: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Raise a ValueError unless the ends are ordered and the weight is finite."""
        if not 0 <= self.low < self.high or math.isnan(self.high):
            raise ValueError(f"interval: got ({self.low:g}, {self.high:g}]; expected 0 <= low < high")
        if not math.isfinite(self.weight):
            raise ValueError(f"weight: got {self.weight}; expected a finite number")

    def __call__(self, sigma: Tensor) -> Tensor:
        """Return the weight at noise levels of any shape."""
        inside = above(sigma, self.low, rounding_at(self.low)) & ~above(sigma, self.high, rounding_at(self.high))
        return inside.to(sigma) * self.weight


def sigma_pulse(centre: float, half_width: float, weight: float) -> Interval:
    r"""Return the pulse of constant weight where $|\sigma - \sigma_c| \le \Delta$.

    Args:
        centre: Its centre, a noise level.
        half_width: Half its width, in sigma; a pulse that would begin below 0 begins there.
        weight: The weight inside.

    Source: paper H.4.
    """
    return Interval(max(centre - half_width, 0.0), centre + half_width, weight)


def log_pulse(centre: float, width: float, weight: float) -> Interval:
    r"""Return the pulse of constant weight where $|\log(\sigma/\sigma_c)| \le$ width / 2.

    Args:
        centre: Its centre, a noise level.
        width: Its width in log sigma.
        weight: The weight inside.
    """
    return Interval(centre * math.exp(-width / 2), centre * math.exp(width / 2), weight)


@dataclass(frozen=True, eq=False)
class Pulses:
    """An interval of its own for every state of a batch: a weight w(sigma) that differs between them.

    Args:
        low: Lower ends, not included, float64 [batch]; NaN for a state that is never guided. Levels within a relative
            1e-9 of an end are that end, as those of a float64 grid are.
        high: Upper ends, included, [batch].
        weight: The weight inside.
    """

    low: Tensor
    high: Tensor
    weight: float

    def __call__(self, sigma: Tensor) -> Tensor:
        """Return the weights at one noise level, or at one for every state, [batch]."""
        return (above(sigma, self.low) & ~above(sigma, self.high)).double() * self.weight


@dataclass(frozen=True, eq=False)
class AtLevels:
    """Guidance at some noise levels of a sampler and no others: a weight w(sigma).

    Args:
        levels: The guided levels, float64 [level]; what equals one up to a scheduler's float32 is that level.
        weight: The weight there.
    """

    levels: Tensor
    weight: float

    def __call__(self, sigma: Tensor) -> Tensor:
        """Return the weight at noise levels of any shape."""
        levels = self.levels.to(sigma)
        same = (sigma[..., None] - levels).abs() <= levels * rounding_at(levels)
        return same.any(-1).to(sigma) * self.weight


@dataclass(frozen=True, eq=False)
class Weights:
    """A weight for each noise level of a sampler, and between them that of the nearest in log sigma: a weight w(sigma).

    Args:
        levels: Falling noise levels, float64 [level].
        weights: Their weights, float64 [level].
    """

    levels: Tensor
    weights: Tensor

    def __call__(self, sigma: Tensor) -> Tensor:
        """Return the weight at noise levels of any shape."""
        rising = self.levels.flip(0).to(sigma)
        middle = (rising[1:] * rising[:-1]).sqrt()
        return self.weights.flip(0).to(sigma)[torch.bucketize(sigma, middle)]


def guided_steps(interval: Interval, levels: Tensor) -> list[int]:
    """Return the steps that an interval guides.

    Args:
        interval: The interval.
        levels: Noise level at which each step calls the network, [step].

    Raises:
        ValueError: If no step falls into the interval.
    """
    steps = torch.nonzero(interval(levels)).flatten().tolist()
    if not steps and interval.weight:
        higher = above(levels, interval.high, rounding_at(interval.high))
        ends = [f"{float(side):.4g}" for side in (*levels[higher][-1:], *levels[~higher][:1])]
        raise ValueError(
            f"sampler_steps: none of these {len(levels)} falls into ({interval.low:.4g}, {interval.high:.4g}]; the "
            f"nearest are at {' and '.join(ends)}: use more steps"
        )
    return steps
