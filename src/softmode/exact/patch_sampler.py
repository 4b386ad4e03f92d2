"""The reverse SDE of a patch model: all the steps between two times at which somebody looks, in one go."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.exact.patch import PatchDenoiser, TwoStatePatch
from softmode.exact.patch_dynamics import Steps, advance
from softmode.process import Process
from softmode.samplers import EulerMaruyama, euler_maruyama
from softmode.streams import TrajectoryNoise


def euler_maruyama_steps(process: Process, times: Float[Tensor, " time"]) -> Steps:
    r"""Return the reverse SDE's steps in EDM coordinates, $x/\alpha$, by Euler and Maruyama.

    Args:
        process: The process.
        times: Falling times, float64.

    Source: paper Eqs. 58-60.
    """
    keep, pull, kick = euler_maruyama(process, times)
    now, later = process.alpha(times[:-1]), process.alpha(times[1:])
    values = process.noise_level(times[:-1]), torch.zeros_like(kick), keep * now / later, pull / later, kick / later
    return Steps(*(value.numpy() for value in values))


@dataclass(frozen=True, eq=False, kw_only=True)
class PatchEulerMaruyama(EulerMaruyama):
    """Euler and Maruyama's steps of a patch model, as `advance` takes them, with counted random numbers.

    Args:
        fine: Times of all steps, falling, float64; a grid that is sampled holds some of them, and its states are the
            same whichever.
    """

    fine: Tensor

    def steps(
        self,
        denoiser: Denoiser,
        process: Process,
        x: Float[Tensor, "trajectory 1 *space"],
        times: Float[Tensor, " time"],
        noise: TrajectoryNoise | None,
    ) -> Iterator[Tensor]:
        """Yield the state at every time after the first.

        Raises:
            ValueError: If there is no noise, the denoiser is no patch model, or a time is none of the fine ones.
        """
        if noise is None:
            raise ValueError("noise: got None; Euler-Maruyama needs the random numbers of its trajectories")
        if not isinstance(denoiser, PatchDenoiser | TwoStatePatch):
            raise ValueError(f"denoiser: got {type(denoiser).__name__}; expected a patch model")
        places = torch.searchsorted(-self.fine, -times).clamp(max=len(self.fine) - 1)
        if not torch.equal(self.fine[places], times):
            raise ValueError(f"times: got {times.tolist()}; expected some of the times of the steps")
        keys, alpha = torch.tensor(noise.seeds), process.alpha(times).tolist()
        x = x / alpha[0]
        for k, (first, last) in enumerate(pairwise(places.tolist()), start=1):
            steps = euler_maruyama_steps(process, self.fine[first : last + 1])
            x = advance(denoiser, x, steps, keys, first)
            yield alpha[k] * x
