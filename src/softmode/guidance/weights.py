r"""Guidance by noise level: the weight w(sigma) of a window, a pulse or a schedule, and the steps that it falls on.

Weights are the paper's: $D + w(\sigma)(D - D_{\mathrm{guide}})$, so w = 0 is unguided. The guidance scale of pipelines,
$D_{\mathrm{guide}} + s\,(D - D_{\mathrm{guide}})$, is s = 1 + w.

Windows are open below and closed above. A level that equals an end up to rounding counts as that end: it is guided at
the upper one and not at the lower one, so that adjoining windows guide every level between them once.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from softmode.message import refusal
from softmode.rounding import above, rounding_at

# w(sigma): weights at noise levels of any shape
Weight = Callable[[Tensor], Tensor]


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

    def __post_init__(self) -> None:
        """Raise a ValueError unless the levels fall and each has a finite weight."""
        levels, weights = self.levels, self.weights
        if levels.ndim != 1 or levels.shape != weights.shape or not len(levels):
            shapes = f"shape {tuple(weights.shape)} for levels of {tuple(levels.shape)}"
            raise refusal(f"weights: got {shapes}; expected one for each level")
        if not bool((levels[1:] < levels[:-1]).all()) or not 0 < float(levels[-1]) <= float(levels[0]) < math.inf:
            ends = f"{float(levels[0]):.4g} to {float(levels[-1]):.4g}"
            raise refusal(f"levels: got {len(levels)} from {ends}; expected finite noise levels above 0 that fall")
        if not bool(weights.isfinite().all()):
            place = int((~weights.isfinite()).nonzero()[0])
            raise refusal(f"weights: got {float(weights[place])} at level {place}; expected finite numbers")

    @property
    def edges(self) -> Tensor:
        """Half way in log sigma between every two levels, where one weight gives way to the next, [level - 1]."""
        return (self.levels[1:] * self.levels[:-1]).sqrt()

    def __call__(self, sigma: Tensor) -> Tensor:
        """Return the weight at noise levels of any shape."""
        return self.weights.flip(0).to(sigma)[torch.bucketize(sigma, self.edges.flip(0).to(sigma))]


def guided_steps(weight: Weight, levels: Tensor) -> list[int]:
    """Return the steps that are guided.

    Args:
        weight: The weight w(sigma).
        levels: Noise level at which each step calls the network, [step].

    Raises:
        ValueError: If none is.
    """
    steps = torch.nonzero(weight(levels)).flatten().tolist()
    if steps:
        return steps
    if not isinstance(weight, Interval):
        ends = f"{float(levels[0]):.4g} to {float(levels[-1]):.4g}"
        raise refusal(
            f"sampler_steps: w(sigma) is 0 at all of these {len(levels)}, from {ends}: use more steps, or other weights"
        )
    if weight.weight:
        higher = above(levels, weight.high, rounding_at(weight.high))
        nearest = [f"{float(side):.4g}" for side in (*levels[higher][-1:], *levels[~higher][:1])]
        raise ValueError(
            f"sampler_steps: none of these {len(levels)} falls into ({weight.low:.4g}, {weight.high:.4g}]; the "
            f"nearest are at {' and '.join(nearest)}: use more steps"
        )
    return steps
