"""What an observable is: a formula of the state at one time, with the description of what it returns beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.process import Process


@dataclass(frozen=True)
class Variable:
    """Description of one array: what stands in every place of it.

    Args:
        dims: Names of its dimensions after `trajectory`.
        long_name: What it is, in a few words.
        units: Its unit; 1 for none.
        source: Equation, section or key of a publication.
        dtype: NumPy's name; `state` stands for the states' own.
    """

    dims: tuple[str, ...]
    long_name: str
    units: str = "1"
    source: str = ""
    dtype: str = "float64"

    def along(self, dim: str) -> "Variable":
        """Return the description of the series of these arrays, with one more dimension in front."""
        return replace(self, dims=(dim, *self.dims))


@dataclass(frozen=True, eq=False)
class State:
    """A batch of states at one time of a simulation.

    Args:
        denoiser: Denoiser that moves them, in EDM coordinates.
        process: Process in whose coordinates x lives.
        x: The states, [trajectory, channel, *space].
        t: Time, float64 [].
        step: Index of the time on the grid.
        trajectories: Global index of each trajectory.
    """

    denoiser: Denoiser
    process: Process
    x: Tensor
    t: Tensor
    step: int = 0
    trajectories: Sequence[int] = ()

    @cached_property
    def edm(self) -> Tensor:
        """The states in EDM coordinates, x / alpha."""
        return self.x / float(self.process.alpha(self.t))

    @cached_property
    def sigma(self) -> Tensor:
        """Their EDM noise level sigma / alpha, float64 []."""
        return self.process.noise_level(self.t)

    @cached_property
    def denoised(self) -> Tensor:
        """What the denoiser makes of them, of the shape of x."""
        with torch.no_grad():
            return self.denoiser(self.edm, self.sigma)


@runtime_checkable
class Observable(Protocol):
    """A quantity of every trajectory's state, never averaged over the batch."""

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Description of every array that it returns."""
        ...

    def __call__(self, state: State) -> Mapping[str, Tensor]:
        """Return the arrays [trajectory, ...] by name."""
        ...


def along(dim: str, *observables: Observable) -> dict[str, Variable]:
    """Return the descriptions of what some observables return, as series along one more dimension."""
    return {name: variable.along(dim) for each in observables for name, variable in each.variables.items()}
