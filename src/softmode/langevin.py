r"""Langevin dynamics of a score whose noise level is frozen: the equilibrium that Sec. 5 defines.

In EDM coordinates, with time in units of $\sigma^2$, the relaxation time of the restoring force,

$$ dx = (D(x, \sigma) - x)\,d\tau + \sqrt 2\,\sigma\,dW. $$
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.streams import TrajectoryNoise


@torch.no_grad()
def frozen_langevin(
    denoiser: Denoiser, x: Tensor, sigma: float, step: float, noise: TrajectoryNoise
) -> Iterator[tuple[Tensor, Tensor]]:
    r"""Yield every state from the first one on, with what the denoiser makes of it, without end.

    Each step solves the equation exactly for a denoiser that stays as it is during the step,
    $x \to D + e^{-h}(x - D) + \sigma\sqrt{1 - e^{-2h}}\,\eta$, so that a step of any length h leaves the variance of a
    constant denoiser right.

    Args:
        denoiser: Denoiser in EDM coordinates.
        x: First states, [batch, channel, *space]; left as they are.
        sigma: EDM noise level at which the score is frozen.
        step: h, in units of sigma^2.
        noise: Random numbers of these states.

    Yields:
        State and denoised state, both of the shape of x.

    Source: paper Sec. 5, the equilibrium of the score at one time; the exponential integrator is that of Ornstein and
        Uhlenbeck's process.
    """
    keep = math.exp(-step)
    kick, eta = sigma * math.sqrt(1 - keep**2), torch.empty_like(x)
    while True:
        denoised = denoiser(x, sigma)
        yield x, denoised
        x = torch.lerp(denoised, x, keep).add_(noise.fill_(eta), alpha=kick)
