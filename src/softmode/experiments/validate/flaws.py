"""What a denoiser may be wrong by without knowing anything else: errors of its output, and half precision inside."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from softmode.denoiser import Denoiser, per_sample

# wave number of the error's dependence on a site, which a difference cannot resolve
ROUGH = 1e5


@dataclass(frozen=True, eq=False)
class Noisy:
    """A denoiser whose output is off by an error that varies rapidly with the state, as one of rounding does.

    Args:
        denoiser: The denoiser.
        size: Standard deviation of the error (data units). Derivatives do not see it.
        phase: Which error: another for each label.
    """

    denoiser: Denoiser
    size: float
    phase: float = 0.0

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return D(x) with its error, the same for the same state."""
        state = x.detach()
        around = state + 0.37 * state.roll(1, -1) + 0.61 * state.roll(1, -2)
        return self.denoiser(x, sigma) + self.size * math.sqrt(2) * torch.sin(ROUGH * around + self.phase)


@dataclass(frozen=True, eq=False)
class HalfPrecision:
    """A denoiser as a network gives it whose output is in bfloat16.

    Args:
        denoiser: The denoiser.
        scale: Standard deviation of the data, which sets what of D the network has to say.

    Source: the preconditioning of karras2022.
    """

    rounds: ClassVar[bool] = True

    denoiser: Denoiser
    scale: float

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return D(x) with the network's part of it rounded."""
        square = per_sample(sigma, x).square()
        skip = (self.scale**2 / (self.scale**2 + square)).to(x.dtype)
        size = (square * self.scale**2 / (self.scale**2 + square)).sqrt().to(x.dtype)
        inner = (self.denoiser(x, sigma) - skip * x) / size
        return skip * x + size * inner.to(torch.bfloat16).to(x.dtype)


# name -> a denoiser with the flaw, from one without, the standard deviation of its data, and the place of its label
FLAWS: dict[str, Callable[[Denoiser, float, int], Denoiser]] = {
    "none": lambda denoiser, scale, place: denoiser,
    "error of 1e-5": lambda denoiser, scale, place: Noisy(denoiser, 1e-5 * scale, float(place)),
    "error of 1e-4": lambda denoiser, scale, place: Noisy(denoiser, 1e-4 * scale, float(place)),
    "error of 1e-3": lambda denoiser, scale, place: Noisy(denoiser, 1e-3 * scale, float(place)),
    "bfloat16": lambda denoiser, scale, place: HalfPrecision(denoiser, scale),
}
