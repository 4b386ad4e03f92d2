"""What a guided sampler does, whichever it is: where it begins, the noise levels at which it calls, and its steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.process import VE
from softmode.samplers import Sampler, initial_state
from softmode.streams import TrajectoryNoise

EDM = VE()


@runtime_checkable
class Steps(Protocol):
    """A deterministic sampler with its steps."""

    @property
    def levels(self) -> Float[Tensor, " level"]:
        """Falling noise levels at which the network is called, float64."""

    @property
    def calls(self) -> Int[Tensor, " level"]:
        """How often it is called at each."""

    @property
    def identity(self) -> dict[str, Any]:
        """What its states are a function of besides the levels, as plain data."""

    def asked(self, denoiser: Denoiser) -> Denoiser:
        """Return what is called at a state of this sampler and one of its levels, in place of a denoiser.

        Guidance of it, $F + w (F - F_{guide})$, is that of the denoisers.

        Raises:
            ValueError: If this sampler cannot call it.
        """

    def start(self, noise: TrajectoryNoise, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return the states from which it begins, [trial, channel, *space]."""

    def states(self, function: Denoiser, x: Tensor) -> Iterator[Tensor]:
        """Yield the state after each step, of what `asked` returned; the last is the sample."""


@dataclass(frozen=True, eq=False)
class FlowSteps:
    """A sampler of the probability flow in EDM's coordinates, down to no noise.

    Args:
        sampler: The sampler.
        levels: Falling noise levels, float64 [level].
    """

    sampler: Sampler
    levels: Float[Tensor, " level"]

    @property
    def times(self) -> Float[Tensor, " time"]:
        """Its grid: the levels, and no noise at the end."""
        return torch.cat([self.levels, self.levels.new_zeros(1)])

    @property
    def calls(self) -> Int[Tensor, " level"]:
        """How often the network is called at each level."""
        return self.sampler.calls(self.times)[:-1]

    @property
    def identity(self) -> dict[str, Any]:
        """Nothing: the config names the sampler."""
        return {}

    def asked(self, denoiser: Denoiser) -> Denoiser:
        """Return the denoiser itself."""
        return denoiser

    def start(self, noise: TrajectoryNoise, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return noise of the highest level."""
        return initial_state(EDM, float(self.levels[0]), noise, shape, dtype)

    def states(self, function: Denoiser, x: Tensor) -> Iterator[Tensor]:
        """Yield the state after each step."""
        yield from self.sampler.steps(function, EDM, x.clone(), self.times, None)
