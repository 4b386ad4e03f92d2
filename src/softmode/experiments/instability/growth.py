"""How much a push along a mode has grown at the end of generation."""

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.per_state import of_rows, twice
from softmode.process import VE
from softmode.samplers import FLOW_LEVELS, Heun
from softmode.simulation import simulate

# steps of the flow from a noise level to the last one
STEPS = 12
# norm of the push, in noise levels
PUSH = 0.1
# evaluations that it takes
EVALUATIONS = 2 * (2 * STEPS)

States = Float[Tensor, "batch channel *space"]


def growth(denoiser: Denoiser, x: States, sigma: float, modes: States) -> Float[Tensor, " batch"]:
    r"""Return how many times farther apart two states end than they are now, pushed to either side along a mode.

    Both follow the probability flow. Where p is log-concave from here on no push grows.

    Args:
        denoiser: Any denoiser.
        x: States in EDM coordinates.
        sigma: Their noise level.
        modes: Unit directions.
    """
    push = PUSH * sigma * modes
    both = torch.cat([x + push, x - push])
    last = min(FLOW_LEVELS[1], sigma / 10)
    times = Heun().grid(VE(), sigma, last, STEPS)
    ends = simulate(of_rows(denoiser, twice(len(x))), VE(), both, times, sampler=Heun()).state.to(x.device)
    apart = (ends[: len(x)] - ends[len(x) :]).flatten(1)
    return torch.linalg.vector_norm(apart, dim=1) / (2 * PUSH * sigma)
