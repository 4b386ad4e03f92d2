r"""Dynamics of a score whose noise level is frozen: the equilibrium that Sec. 5 defines, and the frozen reverse SDE.

In EDM coordinates, with time in units of $\sigma^2$, the relaxation time of the restoring force, both are

$$ dx = (D(x, \sigma) - \kappa x)\,d\tau + \sqrt{2T}\,\sigma\,dW. $$
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.message import refusal
from softmode.process import Process
from softmode.samplers import Heun
from softmode.streams import TrajectoryNoise


@dataclass(frozen=True)
class Frozen:
    r"""Which frozen dynamics: Langevin's on the score, $\kappa = T = 1$, or another.

    Args:
        stiffness: kappa of the restoring force.
        temperature: T of the noise.

    Source: paper Sec. 5.
    """

    stiffness: float = 1.0
    temperature: float = 1.0


LANGEVIN = Frozen()


def frozen_reverse_sde(process: Process, sigma: float) -> Frozen:
    r"""Return a process's reverse SDE with its time frozen, which is not the equilibrium of the score.

    Its noise is that of half the temperature. A VP process has $\kappa = 1 - \sigma^2/2(1 + \sigma^2)$, a VE process 1.

    Args:
        process: The process.
        sigma: EDM noise level at which it is frozen.

    Source: paper Eqs. 2 and 58, at one time.
    """
    t = process.time(sigma)
    drift, alpha = process.drift(t, "sde"), float(process.alpha(t))
    rate = -float(drift.c) / alpha
    return Frozen(float(drift.a) / rate, (float(process.diffusion(t)) / (alpha * sigma)) ** 2 / (2 * rate))


class FrozenStep(NamedTuple):
    r"""One step, $y = x + b\sigma\eta$ and $x' = k\,y + p\,D(y) + a\sigma\eta$ with the same $\eta$; y is what is seen.

    Attributes:
        before: b.
        keep: k.
        pull: p.
        after: a.
    """

    before: float
    keep: float
    pull: float
    after: float


def exponential_euler(step: float, dynamics: Frozen = LANGEVIN) -> FrozenStep:
    r"""Return the step that is exact for a denoiser that stays as it is during the step, whatever its length h.

    $x \to e^{-\kappa h}x + (1 - e^{-\kappa h})D/\kappa + \sigma\sqrt{T(1 - e^{-2\kappa h})/\kappa}\,\eta$. The error of
    averages is of order h.

    Args:
        step: h, in units of sigma^2.
        dynamics: Which dynamics.

    Source: the exponential integrator of Ornstein and Uhlenbeck's process.
    """
    kappa, keep = dynamics.stiffness, math.exp(-dynamics.stiffness * step)
    return FrozenStep(0.0, keep, (1 - keep) / kappa, math.sqrt(dynamics.temperature * (1 - keep**2) / kappa))


def leimkuhler_matthews(step: float, dynamics: Frozen = LANGEVIN) -> FrozenStep:
    r"""Return the step whose averages have an error of order h^2 for the gradient of a density, and none of a Gaussian.

    $y' = y + h(D(y) - \kappa y) + \sigma\sqrt{Th/2}\,(\eta + \eta')$.

    Args:
        step: h, in units of sigma^2.
        dynamics: Which dynamics.

    Raises:
        ValueError: If the step is unstable where the denoiser does not answer: if kappa h is 2 or more.

    Source: leimkuhler2013.
    """
    if not 0 < step * dynamics.stiffness < 2:
        most = 2 / dynamics.stiffness
        raise refusal(
            f"step: got {step:g}; expected above 0 and below {most:.3g}, in units of sigma^2, from where on states "
            f"grow without end: use {most / 4:.2g}"
        )
    kick = math.sqrt(dynamics.temperature * step / 2)
    return FrozenStep(kick, 1 - dynamics.stiffness * step, step, kick)


@torch.no_grad()
def frozen(
    denoiser: Denoiser, x: Tensor, sigma: float, step: FrozenStep, noise: TrajectoryNoise
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every state from the first one on, with what the denoiser makes of it, without end.

    Args:
        denoiser: Denoiser in EDM coordinates.
        x: First states, [batch, channel, *space]; left as they are.
        sigma: EDM noise level at which the score is frozen.
        step: The step.
        noise: Random numbers of these states.

    Yields:
        State and denoised state, both of the shape of x.

    Source: paper Sec. 5, the equilibrium of the score at one time.
    """
    eta = torch.empty_like(x)
    while True:
        noise.fill_(eta)
        seen = x.add(eta, alpha=step.before * sigma) if step.before else x
        denoised = denoiser(seen, sigma)
        yield seen, denoised
        x = _moved(seen, denoised, eta, sigma, step)


def _moved(seen: Tensor, denoised: Tensor, eta: Tensor, sigma: float, step: FrozenStep) -> Tensor:
    """Return x' of a step."""
    return (step.keep * seen).add_(denoised, alpha=step.pull).add_(eta, alpha=step.after * sigma)


def frozen_langevin(
    denoiser: Denoiser, x: Tensor, sigma: float, step: float, noise: TrajectoryNoise
) -> Iterator[tuple[Tensor, Tensor]]:
    r"""Yield the states of Langevin's dynamics by exponential steps, as `frozen` does.

    Each step solves the equation exactly for a denoiser that stays as it is during the step, so that a step of any
    length h leaves the variance of a constant denoiser right.

    Args:
        denoiser: Denoiser in EDM coordinates.
        x: First states, [batch, channel, *space]; left as they are.
        sigma: EDM noise level at which the score is frozen.
        step: h, in units of sigma^2.
        noise: Random numbers of these states.

    Yields:
        State and denoised state, both of the shape of x.

    Source: paper Sec. 5.
    """
    return frozen(denoiser, x, sigma, exponential_euler(step), noise)


@runtime_checkable
class KnownDensity(Denoiser, Protocol):
    """A denoiser that knows the density whose score is its own."""

    def log_density(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return log p_sigma(x) up to a constant, [batch]."""
        ...


@torch.no_grad()
def metropolis_langevin(
    denoiser: KnownDensity, x: Tensor, sigma: float, step: float, noise: TrajectoryNoise
) -> Iterator[tuple[Tensor, Bool[Tensor, " batch"]]]:
    r"""Yield every state of Langevin's dynamics with Metropolis' correction, whose averages have no error of the step.

    $x' = x + h(D(x) - x) + \sigma\sqrt{2h}\,\eta$ is taken with probability
    $\min(1, p(x')q(x|x')/p(x)q(x'|x))$, q the density of that proposal; else the state stays.

    Args:
        denoiser: Denoiser in EDM coordinates that knows its density.
        x: First states, [batch, channel, *space]; left as they are.
        sigma: EDM noise level at which the score is frozen.
        step: h, in units of sigma^2.
        noise: Random numbers of these states.

    Yields:
        State, of the shape of x, and whether the step to it was taken, [batch]; the first ones count as taken.

    Source: roberts1996.
    """
    eta, coin = torch.empty_like(x), x.new_empty(len(x), 1)
    log_p, mean = denoiser.log_density(x, sigma), torch.lerp(x, denoiser(x, sigma), step)
    taken = torch.ones(len(x), dtype=torch.bool, device=x.device)
    while True:
        yield x, taken
        proposal = mean.add(noise.fill_(eta), alpha=sigma * math.sqrt(2 * step))
        log_new, mean_new = denoiser.log_density(proposal, sigma), torch.lerp(proposal, denoiser(proposal, sigma), step)
        log_q = _squares(proposal - mean) - _squares(x - mean_new)
        # the normal distribution function of a normal number is uniform
        uniform = torch.special.ndtr(noise.fill_(coin).flatten())
        taken = uniform.log() < log_new - log_p + log_q / (4 * step * sigma**2)
        choose = taken.reshape(-1, *[1] * (x.ndim - 1))
        x, mean = torch.where(choose, proposal, x), torch.where(choose, mean_new, mean)
        log_p = torch.where(taken, log_new, log_p)


def _squares(x: Tensor) -> Float[Tensor, " batch"]:
    return x.flatten(1).square().sum(1)


@dataclass(frozen=True)
class Corrected(Heun):
    """Heun's method on the probability flow, with steps of the frozen Langevin dynamics at the levels that it comes to.

    Args:
        correctors: Corrector steps at each time of the grid; none at a first time, nor at one without noise.
        length: Length of one, in units of sigma^2.

    Source: song2021, Algorithm 1, with karras2022's predictor.
    """

    name: ClassVar[str] = "corrected"
    correctors: tuple[int, ...] = ()
    length: float = 0.2

    def calls(self, times: Float[Tensor, " time"]) -> Int[Tensor, " time"]:
        """Return Heun's calls, and one for each corrector step."""
        return super().calls(times) + torch.tensor(self.correctors)

    def steps(
        self,
        denoiser: Denoiser,
        process: Process,
        x: Float[Tensor, "trajectory channel *space"],
        times: Float[Tensor, " time"],
        noise: TrajectoryNoise | None = None,
    ) -> Iterator[Tensor]:
        """Yield the state after each step and its corrections."""
        if noise is None:
            raise ValueError("noise: got None; correctors need the random numbers of their trajectories")
        step, eta = exponential_euler(self.length), torch.empty_like(x)
        for k in range(1, len(times)):
            x = next(super().steps(denoiser, process, x, times[k - 1 : k + 1]))
            alpha, level = float(process.alpha(times[k])), float(process.noise_level(times[k]))
            for _ in range(self.correctors[k]):
                edm = x / alpha
                x = alpha * _moved(edm, denoiser(edm, level), noise.fill_(eta), level, step)
            yield x
