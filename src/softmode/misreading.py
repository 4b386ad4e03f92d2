r"""Whether a network that is read as one thing is another: what a posterior mean answers to pure noise.

$D(x, \sigma) = \mathrm E[x_0 | x]$ is the gradient of a convex function of x, so for any two states
$(D(x) - D(y)) \cdot (x - y) \ge 0$. Between the states $\pm\sigma\epsilon$ that makes the echo

$$ c(\sigma) = \frac{(D(\sigma\epsilon) - D(-\sigma\epsilon)) \cdot \epsilon}{2 |\epsilon|^2}, $$

of Gaussian data of variance S at every site, $c = \sigma S/(S + \sigma^2)$: never negative, and falling as $S/\sigma$.
A velocity of another kind leaves a share of the noise of the order of 1 in D, of either sign, at every high level. The
opposite of the noise is refused. The noise itself is warned of only, as a network that has learned nothing may echo it.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from softmode.message import refusal

# where the echo is looked at, if the denoiser is asked at such levels anyway
LEVELS = (1.5, 2.0, 3.0, 6.0, 12.0, 24.0, 64.0)
# an echo below the first at two neighbouring levels is no network's error
OPPOSITE = -0.15
# one above the first number at the three highest levels, and at the last still the second number of what it was at the
# one before, would be of data with a standard deviation of 30
SAME, LASTING = 0.75, 0.8


@dataclass(frozen=True, eq=False)
class Checked:
    """A denoiser that is checked when it is first asked at high noise levels: its echo of noise must be possible.

    Args:
        denoiser: The denoiser.
        meant: What its network is read as, and what it may be instead, for the message.
        echoes: Its echo at the levels that were looked at.
    """

    denoiser: Callable[[Tensor, Tensor | float], Tensor]
    meant: str
    echoes: dict[float, float] = field(default_factory=dict)

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x_0 | x], of the shape of x.

        Raises:
            ValueError: If it answers noise with its opposite, as no posterior mean does.
        """
        if len(self.echoes) < len(LEVELS):
            self.check(x, float(torch.as_tensor(sigma).max()))
        return self.denoiser(x, sigma)

    def check(self, like: Tensor, highest: float) -> None:
        """Look at the echo of noise at all levels up to one, and warn if it is the noise itself.

        Args:
            like: States of the shape, type and device that it takes.
            highest: Highest noise level at which it is asked.

        Raises:
            ValueError: If it answers noise with its opposite, as no posterior mean does.
        """
        asked = [level for level in LEVELS if level <= highest and level not in self.echoes]
        if not asked:
            return
        self.echoes.update({level: echo(self.denoiser, like, level) for level in asked})
        levels = [level for level in LEVELS if level in self.echoes]
        found = [self.echoes[level] for level in levels]
        if any(max(pair) < OPPOSITE for pair in pairwise(found)):
            # asked again, it is checked again
            self.echoes.clear()
            told = ", ".join(f"{each:.2g} at {level:g}" for level, each in zip(levels, found, strict=True))
            raise refusal(f"network: {self.meant}; it answers noise with its opposite, by {told} of it")
        if len(found) == len(LEVELS) and min(found[-3:]) > SAME and found[-1] > LASTING * found[-2]:
            # one place and few digits, so that the denoisers of several labels are told of once
            warnings.warn(
                f"network: {self.meant}, unless it is untrained; it answers noise with the noise, by {found[-1]:.1f} "
                f"of it at sigma = {LEVELS[-1]:g}",
                stacklevel=1,
            )


@torch.no_grad()
def echo(denoiser: Callable[[Tensor, Tensor | float], Tensor], like: Tensor, level: float) -> float:
    """Return the echo of noise at one level, in units of the noise; NaN where the denoiser is not defined.

    Args:
        denoiser: Called twice.
        like: States of the shape, type and device that it takes.
        level: Noise level.
    """
    # no stream of the caller's, nor any that a transform of torch would watch
    noise = torch.as_tensor(np.random.default_rng(0).standard_normal(tuple(like.shape))).to(like.device, like.dtype)
    try:
        answer = denoiser(level * noise, level) - denoiser(-level * noise, level)
    # what a network does not know says nothing of how it is read
    except Exception:
        return math.nan
    found = float((answer.double() * noise.double()).sum() / (2 * noise.double().square().sum()))
    return found if math.isfinite(found) else math.nan
