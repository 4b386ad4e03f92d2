"""Samplers: each knows its time grid, its steps, its network calls and whose drift its modes feel, in one class."""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.process import VE, Convention, Process, log_grid, rho_grid
from softmode.rounding import above
from softmode.streams import TrajectoryNoise

# Euler-Maruyama's relative error of the local stationary variance above which a grid is called too coarse
VARIANCE_ERROR = 0.1
# first and last time of the paper's reverse SDE (F.5), and noise level of its probability flow (G.2)
SDE_TIMES = (50.0, 1e-3)
FLOW_LEVELS = (80.0, 0.002)


class CoarseStepWarning(UserWarning):
    """The time grid is too coarse for the drift's stiffness."""


@runtime_checkable
class Sampler(Protocol):
    """How states move down a falling time grid.

    Attributes:
        name: What a user calls it.
        default_steps: Steps of a grid when a user names none.
        default_every: Steps between two measurements when a user names none.
    """

    name: ClassVar[str]
    default_steps: ClassVar[int]
    default_every: ClassVar[int]

    @property
    def convention(self) -> Convention:
        """Drift whose eigenvalues its modes feel."""
        ...

    def ends(self, process: Process) -> tuple[float, float]:
        """Return the first and the last time of the paper's grid in a process."""
        ...

    def grid(self, process: Process, t_max: float, t_min: float, steps: int) -> Float[Tensor, " time"]:
        """Return steps + 1 falling times, float64."""
        ...

    def calls(self, times: Float[Tensor, " time"]) -> Int[Tensor, " time"]:
        """Return how often the network is called at each time of a grid."""
        ...

    def check(self, process: Process, times: Float[Tensor, " time"]) -> None:
        """Warn of a grid that is too coarse for the method."""
        ...

    def steps(
        self,
        denoiser: Denoiser,
        process: Process,
        x: Float[Tensor, "trajectory channel *space"],
        times: Float[Tensor, " time"],
        noise: TrajectoryNoise | None,
    ) -> Iterator[Tensor]:
        """Yield the state after each step.

        Args:
            denoiser: Denoiser in EDM coordinates.
            process: Process in whose coordinates x lives.
            x: States at times[0]; may be overwritten.
            times: Falling times, float64.
            noise: Random numbers of these trajectories; a deterministic sampler needs none.
        """
        ...


def euler_maruyama(process: Process, times: Float[Tensor, " time"]) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return what each step of the reverse SDE makes of x: $x' = k\,x + p\,D + c\,\eta$, [step] each, float64.

    Args:
        process: The process in whose coordinates x lives.
        times: Falling times, float64.

    Source: paper Eqs. 58 and 60.
    """
    step = times.diff()
    a, c = process.drift(times[:-1], "sde")
    return 1 + a * step, c * step, process.diffusion(times[:-1]) * step.abs().sqrt()


@dataclass(frozen=True)
class EulerMaruyama:
    r"""The reverse SDE, $x_{k+1} = x_k + b(x_k, t_k)\,\Delta t + g(t_k)\sqrt{|\Delta t|}\,\eta_k$, evenly in log t.

    Source: paper Eqs. 58-60.
    """

    name: ClassVar[str] = "euler-maruyama"
    convention: Convention = "sde"
    default_steps: ClassVar[int] = 2000
    default_every: ClassVar[int] = 20

    def ends(self, process: Process) -> tuple[float, float]:
        """Return T and t_min of F.5 for a VP process, and the times of G.2's noise levels for a VE process."""
        return flow_ends(process) if isinstance(process, VE) else SDE_TIMES

    def grid(self, process: Process, t_max: float, t_min: float, steps: int) -> Float[Tensor, " time"]:
        """Return the grid of Eq. 59."""
        return log_grid(t_max, t_min, steps)

    def calls(self, times: Float[Tensor, " time"]) -> Int[Tensor, " time"]:
        """Return one call at every time but the last."""
        calls = torch.ones(len(times), dtype=torch.int64)
        calls[-1] = 0
        return calls

    def check(self, process: Process, times: Float[Tensor, " time"]) -> None:
        r"""Warn if steps are too coarse for the drift's stiffness where the denoiser is flat (G = 0).

        At restoring rate $\lambda$ a step inflates the stationary variance by $1/(1 - \lambda|\Delta t|/2)$ and
        diverges at $\lambda|\Delta t| = 2$; the warning comes at 10 % inflation and names the number of steps that
        would do. A last step to zero noise is not checked: it has no stationary variance.
        """
        times = times[times > 0]
        if len(times) < 2:
            return
        rate = process.drift(times[:-1], "sde").a
        stiffness, k = (rate * times.diff().abs()).max(0)
        limit = 2 * VARIANCE_ERROR / (1 + VARIANCE_ERROR)
        if float(stiffness) <= limit:
            return
        # in log t, so that the number is exact however coarse the grid: |dt| = t (1 - exp(-|d log t|))
        shrink = limit / float(stiffness) * float(1 - times[k + 1] / times[k])
        steps = math.ceil((len(times) - 1) * float((times[k] / times[k + 1]).log()) / -math.log1p(-shrink))
        effect = (
            "diverges"
            if float(stiffness) >= 2
            else f"inflates the variance by {50 * stiffness / (1 - stiffness / 2):.0f} %"
        )
        warnings.warn(
            f"steps: {len(times) - 1} are too coarse: the step from t = {float(times[k]):.4g} {effect}; "
            f"use at least {steps} steps, or a smaller t_max",
            CoarseStepWarning,
            stacklevel=2,
        )

    def steps(
        self,
        denoiser: Denoiser,
        process: Process,
        x: Float[Tensor, "trajectory channel *space"],
        times: Float[Tensor, " time"],
        noise: TrajectoryNoise | None,
    ) -> Iterator[Tensor]:
        """Yield the state after each step, in place.

        Raises:
            ValueError: If there is no noise.
        """
        if noise is None:
            raise ValueError("noise: got None; Euler-Maruyama needs the random numbers of its trajectories")
        keep, pull, kick = (value.tolist() for value in euler_maruyama(process, times))
        alpha, level = process.alpha(times).tolist(), process.noise_level(times)
        eta = torch.empty_like(x)
        for k in range(len(keep)):
            denoised = denoiser(x / alpha[k], level[k])
            x.mul_(keep[k]).add_(denoised, alpha=pull[k]).add_(noise.fill_(eta), alpha=kick[k])
            yield x


@dataclass(frozen=True)
class Heun:
    """Heun's method on the probability flow, on EDM's noise levels (rho 7); a last step to zero noise is Euler's.

    Source: karras2022, Algorithm 1; paper G.2.
    """

    name: ClassVar[str] = "heun"
    convention: Convention = "ode"
    # whether each step is corrected by the slope at its end
    corrected: ClassVar[bool] = True
    # the paper gives no number in G.2; EDM2's 31 leave the peak of xi_eq to a few levels
    default_steps: ClassVar[int] = 63
    default_every: ClassVar[int] = 1

    def ends(self, process: Process) -> tuple[float, float]:
        """Return the times of noise levels 80 and 0.002 (G.2)."""
        return flow_ends(process)

    def grid(self, process: Process, t_max: float, t_min: float, steps: int) -> Float[Tensor, " time"]:
        """Return the times of EDM's noise levels between two times, the ends exact."""
        log_grid(t_max, t_min, 1)  # for its checks
        first, last = (float(process.noise_level(t)) for t in (t_max, t_min))
        times = process.time(rho_grid(first, last, steps + 1))
        times[0], times[-1] = t_max, t_min
        return times

    def calls(self, times: Float[Tensor, " time"]) -> Int[Tensor, " time"]:
        """Return one call at the first time, two at the others, one at the last and none there without noise.

        Without its correction a step calls once, where it begins.
        """
        calls = torch.full((len(times),), 1 + self.corrected, dtype=torch.int64)
        calls[0], calls[-1] = 1, int(self.corrected and times[-1] > 0)
        return calls

    def check(self, process: Process, times: Float[Tensor, " time"]) -> None:
        """Nothing to warn of: the flow has no noise to inflate."""

    def steps(
        self,
        denoiser: Denoiser,
        process: Process,
        x: Float[Tensor, "trajectory channel *space"],
        times: Float[Tensor, " time"],
        noise: TrajectoryNoise | None = None,
    ) -> Iterator[Tensor]:
        """Yield the state after each step; the last time may be 0."""
        for t, t_next in pairwise(times):
            step = float(t_next - t)
            slope = process.evaluate(denoiser, x, t, "ode")
            proposal = x + step * slope
            if self.corrected and float(process.sigma(t_next)) > 0:
                proposal = x + 0.5 * step * (slope + process.evaluate(denoiser, proposal, t_next, "ode"))
            x = proposal
            yield x


@dataclass(frozen=True)
class Euler(Heun):
    r"""Heun's method without its correction; of a VE process the steps of DDIM, $x' = D + (\sigma'/\sigma)(x - D)$.

    Source: karras2022 (Algorithm 1, line 6); song2021ddim (Eq. 13).
    """

    name: ClassVar[str] = "euler"
    corrected: ClassVar[bool] = False


@dataclass(frozen=True, eq=False)
class Noising:
    r"""Noised data $x_t = \alpha x_0 + \sigma\epsilon$ at every time of a grid, in place of a sampled state.

    Args:
        data: x_0, [trajectory, channel, *space].
        along: The sampler whose grid and convention these states stand in for.
    """

    data: Tensor
    along: Sampler
    name: ClassVar[str] = "noising"
    default_steps: ClassVar[int] = 1
    default_every: ClassVar[int] = 1

    @property
    def convention(self) -> Convention:
        """Drift of the sampler whose place this takes."""
        return self.along.convention

    def ends(self, process: Process) -> tuple[float, float]:
        """Return those of the sampler."""
        return self.along.ends(process)

    def grid(self, process: Process, t_max: float, t_min: float, steps: int) -> Float[Tensor, " time"]:
        """Return that of the sampler."""
        return self.along.grid(process, t_max, t_min, steps)

    def calls(self, times: Float[Tensor, " time"]) -> Int[Tensor, " time"]:
        """Return no call: noise needs no network."""
        return torch.zeros(len(times), dtype=torch.int64)

    def check(self, process: Process, times: Float[Tensor, " time"]) -> None:
        """Nothing to warn of: every state is drawn afresh."""

    def start(self, process: Process, t: Tensor, noise: TrajectoryNoise) -> Tensor:
        """Return the noised data at one time."""
        return next(self._at(process, t.reshape(1), noise))

    def steps(
        self,
        denoiser: Denoiser,
        process: Process,
        x: Float[Tensor, "trajectory channel *space"],
        times: Float[Tensor, " time"],
        noise: TrajectoryNoise | None,
    ) -> Iterator[Tensor]:
        """Yield the noised data at every time after the first."""
        if noise is None:
            raise ValueError("noise: got None; noised data need random numbers")
        return self._at(process, times[1:], noise)

    def _at(self, process: Process, times: Tensor, noise: TrajectoryNoise) -> Iterator[Tensor]:
        for t in times:
            drawn = noise.fill_(torch.empty_like(self.data))
            yield float(process.alpha(t)) * self.data + float(process.sigma(t)) * drawn


SAMPLERS: dict[str, Sampler] = {sampler.name: sampler for sampler in (EulerMaruyama(), Heun())}


def sampler_for(name: str, process: Process) -> Sampler:
    """Return the sampler of a name; `auto` is Euler-Maruyama for a VP process and Heun for a VE process."""
    if name == "auto":
        name = Heun.name if isinstance(process, VE) else EulerMaruyama.name
    return SAMPLERS[name]


def flow_ends(process: Process) -> tuple[float, float]:
    """Return the times of FLOW_LEVELS in a process."""
    first, last = (float(process.time(level)) for level in FLOW_LEVELS)
    return first, last


def check_start(process: Process, t_max: float, dtype: torch.dtype) -> None:
    """Raise a ValueError unless a process can start at t_max: in its range, with x / alpha representable."""
    if above(t_max, process.t_end):
        raise ValueError(f"t_max: got {t_max:g}; expected at most {process.t_end:g}, where this schedule ends")
    level = float(process.noise_level(t_max))
    if not level < math.sqrt(torch.finfo(dtype).max):
        raise ValueError(f"t_max: got {t_max:g}, noise level {level:.3g}, beyond {dtype}; use a smaller t_max")


def initial_state(
    process: Process, t: float, noise: TrajectoryNoise, shape: Sequence[int], dtype: torch.dtype
) -> Tensor:
    """Draw x ~ N(0, sigma(t)^2), the state from which sampling starts, [batch, *shape].

    Raises:
        ValueError: If x / alpha at this time is beyond the range of `dtype`.
    """
    check_start(process, t, dtype)
    x = torch.empty(len(noise.trajectories), *shape, dtype=dtype, device=noise.device)
    return noise.fill_(x).mul_(float(process.sigma(t)))
