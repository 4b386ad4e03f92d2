"""The structure of a denoiser's response at a state (paper C.1): its range, its symmetries, from random signs."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from softmode.observe.gains import difference_gains, evaluations
from softmode.observe.jacobian import equivariance_error, locality, oddness_error, random_signs, responses
from softmode.observe.state import State, Variable
from softmode.streams import response_seed

# random-sign fields per state
PROBES = 4
# shifts of the equivariance error, in sites along every axis: no multiples of a network's stride
SHIFTS = (1, 3)


@dataclass(frozen=True)
class Response:
    """How D answers to a push at a state: the response kernel, its norms, and errors of symmetry.

    Args:
        seed: Seed of the run, from which every trajectory has random signs of its own at every step.

    Source: paper C.1.
    """

    seed: int

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Description of what it returns."""
        described = {
            "kernel": ("response of D to a push at a distance", "1"),
            "total": ("sum of the response kernel", "1"),
            "square": ("sum of its squares", "1"),
            "spread": ("sum of its squares times distance^2", "site^2"),
            "symmetric": ("squared norm of the Jacobian's symmetric part", "1"),
            "antisymmetric": ("squared norm of its antisymmetric part", "1"),
            "equivariance": ("relative error under shifts", "1"),
            "oddness": ("|D(-x) + D(x)| / 2 |D(x)|", "1"),
        }
        return {
            name: Variable(("distance",) if name == "kernel" else (), long_name, units, "C.1", "state")
            for name, (long_name, units) in described.items()
        }

    @torch.no_grad()
    def __call__(self, state: State) -> Mapping[str, Tensor]:
        """Return the structure of the response at every trajectory's state."""
        denoiser, x, sigma = state.denoiser, state.edm, state.sigma
        streams = [
            torch.Generator(x.device).manual_seed(response_seed(self.seed, i, state.step)) for i in state.trajectories
        ]
        signs = random_signs(x, PROBES, streams)
        found: dict[str, Tensor] = locality(signs, responses(denoiser, x, sigma, signs))._asdict()
        if x.shape[1] == 1:
            # the sum of the kernel is the constant mode's gain, which one difference gives without the probes' noise
            found["total"] = difference_gains(denoiser, x, sigma, 0)[:, 0, 0]
        shifts = [(distance,) * (x.ndim - 2) for distance in SHIFTS]
        found["equivariance"] = equivariance_error(denoiser, x, sigma, shifts)
        found["oddness"] = oddness_error(denoiser, x, sigma)
        return found


@dataclass(frozen=True)
class Denoised:
    """What the denoiser makes of a state.

    Args:
        space: Names of the lattice's axes.
    """

    space: tuple[str, ...]

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Description of what it returns."""
        return {"denoised": Variable(("channel", *self.space), "denoised state D(x)", "1", "E[x_0 | x]", "state")}

    def __call__(self, state: State) -> Mapping[str, Tensor]:
        """Return D(x) of every trajectory."""
        return {"denoised": state.denoised}


def response_evaluations(channels: int) -> int:
    """Return how often one state goes through the network for its response."""
    constant_mode = evaluations("difference", 0, 1) if channels == 1 else 0
    return 2 * PROBES + constant_mode + (1 + len(SHIFTS)) + 2
