"""Whether D is what softmode takes it for: what holds for the posterior mean of any data, looked at on a few states."""

import math
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.levels import flow_levels
from softmode.message import quote
from softmode.model import Model
from softmode.observe.gains import difference_gains, probe_step
from softmode.process import VE
from softmode.samplers import Heun, initial_state
from softmode.simulation import NonFiniteStateError, simulate
from softmode.streams import TrajectoryNoise

# where the noise levels at which states are looked at lie, if the model reaches so far
LOWEST, HIGHEST = 0.03, 20.0
# D's error in units of the noise, 1 for D = x; learned ones exceed it a little at low noise
MOST_ERROR = 1.5
# in units of a site's deviation, what D may still move a sample by at the lowest noise
MOST_STRAY = 0.5
# what a mean gain may leave [0, 1] by, and how much it may change with the step of its difference
GAIN_MARGIN, MOST_CHANGE = 0.2, 0.05
# highest noise level in units of the strongest mode's deviation below which a sampler begins inside the data
ENOUGH = 2.0
# answer to a label, in units of the deviation of a site, below which it is none
DEAF = 1e-3


class UnsoundWarning(UserWarning):
    """D does something that no posterior mean does."""


class Effort(NamedTuple):
    """How closely a denoiser is looked at.

    Attributes:
        samples: Samples that are drawn.
        steps: Steps of each.
        levels: Noise levels at which they are looked at.
        shells: Highest Fourier shell whose gain is taken.
    """

    samples: int
    steps: int
    levels: int
    shells: int


# some hundred and some twenty calls of the network
THOROUGH, QUICK = Effort(4, 12, 5, 1), Effort(4, 6, 3, 0)


@dataclass(frozen=True)
class Finding:
    """One property of a denoiser.

    Args:
        name: What was looked at.
        found: What was found, in a few words.
        expected: What holds for any posterior mean.
        fine: Whether it does here; None where it could not be told.
        remedy: What to look into where it does not.
    """

    name: str
    found: str
    expected: str
    fine: bool | None
    remedy: str = ""


def own_samples(
    denoiser: Denoiser, model: Model, dtype: torch.dtype, device: torch.device, effort: Effort
) -> Float[Tensor, "sample channel *space"] | None:
    """Return a few samples by few steps of the probability flow; None if they become NaN or infinite."""
    high, low = flow_levels(model)
    noise, sampler, process = TrajectoryNoise(0, range(effort.samples), device), Heun(), VE()
    times = torch.cat([sampler.grid(process, high, low, effort.steps), torch.zeros(1, dtype=torch.float64)])
    x = initial_state(process, high, noise, model.shape, dtype)
    try:
        return simulate(denoiser, process, x, times, sampler=sampler).state.to(device)
    except NonFiniteStateError:
        return None


def levels_of(model: Model, count: int = THOROUGH.levels) -> list[float]:
    """Return the noise levels at which states are looked at, falling."""
    high, low = flow_levels(model)
    return np.geomspace(min(high, HIGHEST), max(low, LOWEST), count).tolist()


@torch.no_grad()
def relative_error(denoiser: Denoiser, x0: Float[Tensor, "sample channel *space"], sigma: float) -> float:
    r"""Return $\mathrm{rms}(D(x_0 + \sigma\epsilon) - x_0)/\sigma$, at most 1 for the posterior mean of x_0.

    No estimate has a smaller mean square error than the posterior mean, and $x = x_0 + \sigma\epsilon$ is one that has
    $\sigma^2$.

    Source: robbins1956.
    """
    stream = torch.Generator().manual_seed(1)
    eps = torch.randn(x0.shape, generator=stream, dtype=torch.float64).to(x0)
    error = denoiser(x0 + sigma * eps, torch.tensor(sigma, dtype=torch.float64)) - x0
    return float(error.double().square().mean().sqrt()) / sigma


@torch.no_grad()
def gain_and_change(
    denoiser: Denoiser, x0: Float[Tensor, "sample channel *space"], sigma: float, shells: int
) -> tuple[float, float]:
    r"""Return the mean gain of the longest shells, and the rms change of a gain with twice the step.

    The mean gain of an exact denoiser is the posterior variance of a mode in units of $\sigma^2$, between 0 and 1. One
    that rounds inside answers a small push by jumps, and its gains change with the step.
    """
    stream = torch.Generator().manual_seed(2)
    x = x0 + sigma * torch.randn(x0.shape, generator=stream, dtype=torch.float64).to(x0)
    once, twice = (difference_gains(denoiser, x, sigma, shells, step * probe_step(x, sigma)) for step in (1, 2))
    return float(once.mean()), float((twice - once).square().mean().sqrt())


def look(
    denoiser: Denoiser, model: Model, dtype: torch.dtype, device: torch.device, effort: Effort = THOROUGH
) -> tuple[list[Finding], Tensor | None]:
    """Return what a few network calls tell of a denoiser, and the samples that were drawn for it.

    Args:
        denoiser: Of the model, for one label.
        model: The model.
        dtype: Floating type of the states.
        device: Their device.
        effort: How closely.
    """
    samples = own_samples(denoiser, model, dtype, device, effort)
    if samples is None:
        unusable = Finding(
            "samples", "NaN or infinite", "finite", False,
            "D may return the noise or a velocity: see sm.from_noise, sm.from_velocity, sm.from_score",
        )  # fmt: skip
        return [unusable], None
    levels = levels_of(model, effort.levels)
    gains = _gains(denoiser, samples, levels[1:], effort.shells)
    return [_scale(samples, model), _error(denoiser, samples, levels), *gains], samples


def warn_if_unsound(denoiser: Denoiser, model: Model, dtype: torch.dtype, device: torch.device) -> None:
    """Warn of each property of a posterior mean that a denoiser lacks, before hours are spent on it."""
    for finding in look(denoiser, model, dtype, device, QUICK)[0]:
        if finding.fine is False:
            warnings.warn(
                f"model: {finding.name} of {quote(model.name)}: {finding.found}, expected {finding.expected}: "
                f"{finding.remedy}; softmode check tells more",
                UnsoundWarning,
                stacklevel=2,
            )


def label_response(
    first: Denoiser, second: Denoiser, samples: Float[Tensor, "sample channel *space"], model: Model
) -> Finding:
    """Return how far the denoisers of two labels are apart, at most over noise levels."""
    stream = torch.Generator().manual_seed(3)
    eps, scale = torch.randn(samples.shape, generator=stream, dtype=torch.float64).to(samples), deviation(samples)
    apart = {}
    with torch.no_grad():
        for sigma in levels_of(model):
            x = samples + sigma * eps
            difference = (first(x, sigma) - second(x, sigma)).double().square().mean().sqrt()
            apart[sigma] = float(difference) / scale
    level = max(apart, key=lambda sigma: apart[sigma])
    return Finding(
        "answer to the label", f"D of two labels differ by {apart[level]:.2g} of a site's deviation, at sigma = "
        f"{level:.2g}", "a difference", apart[level] > DEAF, "the label may not reach the network",
    )  # fmt: skip


def deviation(samples: Float[Tensor, "sample channel *space"]) -> float:
    """Return the standard deviation of a site of some samples."""
    return max(float(samples.double().std()), torch.finfo(torch.float32).tiny)


def _scale(samples: Tensor, model: Model) -> Finding:
    """Compare the highest noise level with the strongest Fourier mode of the samples: above it nothing is decided."""
    high, axes = flow_levels(model)[0], tuple(range(2, samples.ndim))
    centred = (samples - samples.mean(0)).double()
    power = torch.fft.fftn(centred, dim=axes, norm="ortho").abs().square().sum(0) / (len(samples) - 1)
    strongest = max(float(power.max().sqrt()), torch.finfo(torch.float32).tiny)
    return Finding(
        "highest noise level", f"{high:.3g}, {high / strongest:.2g} times the deviation of the samples' strongest mode",
        f"at least {ENOUGH:g} times", high >= ENOUGH * strongest,
        "sampling starts inside the data, and what is decided above cannot be seen",
    )  # fmt: skip


def _error(denoiser: Denoiser, samples: Tensor, levels: list[float]) -> Finding:
    errors = {sigma: relative_error(denoiser, samples, sigma) for sigma in levels}
    worst = max(errors, key=lambda sigma: errors[sigma] if math.isfinite(errors[sigma]) else math.inf)
    # a few coarse steps end beside the data, from where D leads back to them: that is less than the data's own spread
    small = errors[worst] * worst <= MOST_STRAY * deviation(samples)
    return Finding(
        "error of D", f"{errors[worst]:.2g} of the noise, at sigma = {worst:.2g}",
        f"at most 1, as x itself has ({MOST_ERROR:g} passes)",
        errors[worst] <= MOST_ERROR or small,
        "D may return the noise, a velocity or a score: see sm.from_noise, sm.from_velocity, sm.from_score",
    )  # fmt: skip


def _gains(denoiser: Denoiser, samples: Tensor, levels: list[float], shells: int) -> list[Finding]:
    found = {sigma: gain_and_change(denoiser, samples, sigma, shells) for sigma in levels}
    beyond = {sigma: max(gain - 1, -gain) for sigma, (gain, _) in found.items()}
    worst = max(beyond, key=lambda sigma: beyond[sigma])
    rough = max(found, key=lambda sigma: found[sigma][1])
    return [
        Finding(
            "gain of long waves", f"{found[worst][0]:.2g} in the mean, at sigma = {worst:.2g}", "0 to 1",
            beyond[worst] <= GAIN_MARGIN, "no posterior mean answers so: is D in units of the data?",
        ),
        Finding(
            "rounding", f"a gain changes by {found[rough][1]:.2g} with the step, at sigma = {rough:.2g}",
            f"below {MOST_CHANGE:g}", found[rough][1] <= MOST_CHANGE,
            "the network may compute in half precision: give it in float32, and --precision for sampling",
        ),
    ]  # fmt: skip
