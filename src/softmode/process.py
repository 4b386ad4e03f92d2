r"""Forward processes: time to (alpha, sigma) and back, time grids, reverse drifts and their eigenvalues.

Every convention of the literature lives here and nowhere else. A state of the process, $x_t = \alpha x_0 +
\sigma\epsilon$, is the EDM state $x_t/\alpha$ at noise level $\sigma/\alpha$. Every drift used for sampling is affine
in the denoiser there,

$$ b(x, t) = a(t)\,x + c(t)\,D(x/\alpha, \sigma/\alpha), $$

so a mode of gain G has the drift eigenvalue $\lambda = a + c\,G/\alpha$, whatever the convention.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.beta import Constant, Cosine, Linear, Schedule, Time, as_time

Convention = Literal["score", "sde", "ode"]
PAPER_SCHEDULE = Constant(1.0)


class Drift(NamedTuple):
    """Coefficients of a drift b = a x + c D(x / alpha, sigma / alpha), each of the shape of the time."""

    a: Tensor
    c: Tensor


class Process(ABC):
    """A forward process x_t = alpha(t) x_0 + sigma(t) eps in its own time t, with its reverse dynamics."""

    @property
    def t_end(self) -> float:
        """Time up to which the process is defined."""
        return math.inf

    @abstractmethod
    def alpha(self, t: Time) -> Tensor:
        """Return the signal amplitude."""

    @abstractmethod
    def sigma(self, t: Time) -> Tensor:
        """Return the noise amplitude in the process's own coordinates."""

    @abstractmethod
    def time(self, noise_level: Time) -> Tensor:
        """Return the time at which sigma / alpha, the EDM noise level, takes the given value."""

    @abstractmethod
    def drift(self, t: Time, convention: Convention = "sde") -> Drift:
        """Return the drift's coefficients: of the score, of the reverse SDE or of the probability-flow ODE."""

    @abstractmethod
    def diffusion(self, t: Time) -> Tensor:
        """Return g(t), the amplitude of the noise in dx = b dt + g dW."""

    def noise_level(self, t: Time) -> Tensor:
        """Return the EDM noise level sigma(t) / alpha(t)."""
        return self.sigma(t) / self.alpha(t)

    def evaluate(
        self, denoiser: Callable[[Tensor, Tensor], Tensor], x: Tensor, t: Time, convention: Convention = "sde"
    ) -> Tensor:
        """Return the drift field b(x, t) = a x + c D(x / alpha, sigma / alpha), of the shape of x.

        Args:
            denoiser: Denoiser in EDM coordinates.
            x: States in the process's own coordinates, [batch, channel, *space].
            t: One time for all states.
            convention: `score`, `sde` or `ode`.
        """
        a, c = (float(value) for value in self.drift(t, convention))
        return a * x + c * denoiser(x / float(self.alpha(t)), self.noise_level(t))

    def eigenvalue(self, gain: Tensor, t: Time, convention: Convention = "sde") -> Tensor:
        r"""Return the drift eigenvalue $\lambda = a + c\,G/\alpha$ of a mode of denoiser gain G.

        | convention | VP | VE |
        |---|---|---|
        | score | -(1-G)/s^2 | -(1-G)/sigma^2 |
        | sde | beta (-1/2 + (1-G)/s^2) | 2 (1-G)/sigma |
        | ode | beta (-1/2 + (1-G)/(2 s^2)) | (1-G)/sigma |

        Args:
            gain: Mode gains G, broadcast against the times.
            t: Times, in the process's own unit.
            convention: Which drift.

        Returns:
            Eigenvalues per unit of the process's own time (for `score`: per unit of x squared).

        Source: paper Eqs. 58 and 64, App. A and G.4.
        """
        a, c = self.drift(t, convention)
        return a + c / self.alpha(t) * gain


@dataclass(frozen=True)
class VP(Process):
    r"""Variance-preserving process: $\alpha = e^{-B(t)/2}$, $\sigma^2 = 1 - \alpha^2$ with $B = \int_0^t\beta$.

    Args:
        schedule: The noise rate beta(t); constant 1 as in the paper.

    Source: paper Sec. 2 and Eqs. 50-53.
    """

    schedule: Schedule = PAPER_SCHEDULE

    @property
    def t_end(self) -> float:
        """Time at which the schedule ends."""
        return self.schedule.t_end

    def alpha(self, t: Time) -> Tensor:
        """Return exp(-B(t) / 2)."""
        return torch.exp(-0.5 * self.schedule.integral(t))

    def sigma(self, t: Time) -> Tensor:
        """Return sqrt(1 - alpha^2), free of cancellation at small t."""
        return (-torch.expm1(-self.schedule.integral(t))).sqrt()

    def time(self, noise_level: Time) -> Tensor:
        """Return the time at which sigma / alpha = noise_level: B(t) = log(1 + noise_level^2)."""
        return self.schedule.time(torch.log1p(as_time(noise_level).square()))

    def drift(self, t: Time, convention: Convention = "sde") -> Drift:
        """Return the coefficients of s, of -beta x / 2 - beta s, or of -beta x / 2 - beta s / 2, with s the score.

        Source: paper Eqs. 2 and 57, 58; song2021 for the ODE.
        """
        alpha, variance, beta = self.alpha(t), self.sigma(t).square(), self.schedule.beta(t)
        if convention == "score":
            return Drift(-1 / variance, alpha / variance)
        rate = {"sde": beta, "ode": 0.5 * beta}[convention]
        return Drift(rate / variance - 0.5 * beta, -rate * alpha / variance)

    def diffusion(self, t: Time) -> Tensor:
        """Return the root of beta."""
        return self.schedule.beta(t).sqrt()


@dataclass(frozen=True)
class VE(Process):
    """Variance-exploding process in EDM form: alpha = 1, sigma = t. Source: karras2022; paper App. G."""

    def alpha(self, t: Time) -> Tensor:
        """Return 1."""
        return torch.ones_like(as_time(t))

    def sigma(self, t: Time) -> Tensor:
        """Return t."""
        return as_time(t)

    def time(self, noise_level: Time) -> Tensor:
        """Return the noise level itself."""
        return as_time(noise_level)

    def drift(self, t: Time, convention: Convention = "sde") -> Drift:
        """Return the coefficients of s, of -2 sigma s or of -sigma s = (x - D) / sigma, with s the score.

        Source: paper G.1 and G.4; song2021 for the SDE.
        """
        t = as_time(t)
        if convention == "score":
            return Drift(-1 / t.square(), 1 / t.square())
        factor = {"sde": 2 / t, "ode": 1 / t}[convention]
        return Drift(factor, -factor)

    def diffusion(self, t: Time) -> Tensor:
        """Return sqrt(2 sigma), so that d(sigma^2)/dt = g^2."""
        return (2 * as_time(t)).sqrt()


def parse_process(text: str) -> Process:
    """Build a process from its command-line form.

    Args:
        text: `vp:BETA` (constant rate), `vp-linear:START:END`, `vp-cosine:OFFSET` or `ve`; numbers may be left out.

    Raises:
        ValueError: If the text is none of these forms or a number is out of range.
    """
    kind, *values = text.split(":")
    schedules: dict[str, tuple[type[Schedule], int]] = {
        "vp": (Constant, 1), "vp-linear": (Linear, 2), "vp-cosine": (Cosine, 1)
    }  # fmt: skip
    remedy = "expected vp:1, vp-linear:0.1:20, vp-cosine:0.008 or ve"
    if kind == "ve" and not values:
        return VE()
    if kind not in schedules or len(values) > schedules[kind][1]:
        raise ValueError(f"schedule: got {text!r}; {remedy}")
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        raise ValueError(f"schedule: got {text!r}; {remedy}") from None
    if not all(0 < number < math.inf for number in numbers):
        raise ValueError(f"schedule: got {text!r}; expected positive finite numbers")
    return VP(schedules[kind][0](*numbers))


def process_name(process: Process) -> str:
    """Return the command-line form of a process, from which `parse_process` makes it; empty if it has none."""
    if isinstance(process, VE):
        return "ve"
    match process.schedule if isinstance(process, VP) else None:
        case Constant(rate):
            return f"vp:{rate!r}"
        case Linear(start, end, 1.0):
            return f"vp-linear:{start!r}:{end!r}"
        case Cosine(offset, 1.0):
            return f"vp-cosine:{offset!r}"
    return ""


def log_grid(t_max: float, t_min: float, steps: int) -> Float[Tensor, " time"]:
    r"""Return the reverse-time grid $t_k = \exp(\log T + \frac{k}{N}(\log t_{\min} - \log T))$, k = 0..N.

    Args:
        t_max: First time T, in the process's own unit.
        t_min: Last time, positive and below T.
        steps: Number of steps N, at least 1.

    Returns:
        N + 1 falling times, float64; the two ends are exact.

    Raises:
        ValueError: If T <= t_min, t_min <= 0, a time is not finite, or steps < 1.

    Source: paper Eq. 59.
    """
    if steps < 1:
        raise ValueError(f"steps: got {steps}; expected at least 1")
    if not 0 < t_min < t_max < math.inf:
        raise ValueError(f"t_max: got {t_max:g} with t_min {t_min:g}; expected 0 < t_min < t_max, both finite")
    grid = torch.linspace(math.log(t_max), math.log(t_min), steps + 1, dtype=torch.float64).exp()
    grid[0], grid[-1] = t_max, t_min
    return grid


def rho_grid(
    sigma_max: float = 80.0, sigma_min: float = 0.002, levels: int = 32, rho: float = 7.0
) -> Float[Tensor, " time"]:
    r"""Return the EDM noise levels, evenly spaced in their 1/rho-th power.

    $\sigma_i = (\sigma_{\max}^{1/\rho} + \frac{i}{N-1}(\sigma_{\min}^{1/\rho} - \sigma_{\max}^{1/\rho}))^\rho$.

    Args:
        sigma_max: First noise level; 80 in the paper.
        sigma_min: Last noise level, positive; 0.002 in the paper.
        levels: Number of levels N, at least 2; 32 is EDM2's default.
        rho: Exponent; 7 in the paper.

    Returns:
        N falling noise levels, float64; the two ends are exact.

    Raises:
        ValueError: If the levels are not positive, finite and falling, levels < 2 or rho is not positive and finite.

    Source: paper G.2; karras2022.
    """
    if levels < 2 or not 0 < rho < math.inf:
        raise ValueError(f"levels, rho: got {levels}, {rho:g}; expected at least 2 levels and a positive finite rho")
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(
            f"sigma_max: got {sigma_max:g} with sigma_min {sigma_min:g}; expected 0 < sigma_min < sigma_max"
        )
    ends = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    grid = torch.linspace(*ends, levels, dtype=torch.float64) ** rho
    grid[0], grid[-1] = sigma_max, sigma_min
    return grid
