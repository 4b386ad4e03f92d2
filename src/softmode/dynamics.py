"""Sampling: one loop, its steppers, and observables called along the way.

A stepper is a generator that yields the state after each step of a falling time grid; `simulate` drives it, measures,
takes snapshots and stops at the first state that is not finite.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.process import Process
from softmode.rounding import above

Observable = Callable[[Denoiser, Process, Tensor, Tensor], Tensor]
Stepper = Callable[..., Iterator[Tensor]]

# Euler-Maruyama's relative error of the local stationary variance above which a grid is called too coarse
VARIANCE_ERROR = 0.1
# steps between two looks at whether states are finite: each look waits for the device
LOOK_EVERY = 32


class CoarseStepWarning(UserWarning):
    """The time grid is too coarse for the drift's stiffness."""


class NonFiniteStateError(ArithmeticError):
    """A state became NaN or infinite.

    Args:
        trajectory: Index of the first trajectory concerned.
        t: Time at which it appeared.
    """

    def __init__(self, trajectory: int, t: float) -> None:
        super().__init__(
            f"state: trajectory {trajectory} became NaN or infinite at t = {t:.6g}; "
            "use more steps, or check the denoiser at this noise level"
        )
        self.trajectory, self.t = trajectory, t


class TrajectoryNoise:
    """Standard normal numbers, one stream per trajectory, so that results do not depend on how a run is batched.

    Args:
        seed: Seed of the run.
        trajectories: Global index of each trajectory of the batch.
        device: Device on which to draw.
        copy: Key of a copy of the trajectories, whose streams are others; empty for the trajectories themselves.
    """

    def __init__(
        self, seed: int, trajectories: Sequence[int], device: torch.device | str = "cpu", copy: tuple[int, ...] = ()
    ) -> None:
        self.trajectories = list(trajectories)
        self._generators = [
            torch.Generator(device).manual_seed(trajectory_seed(seed, index, *copy)) for index in self.trajectories
        ]

    def fill_(self, out: Tensor) -> Tensor:
        """Overwrite `out` [batch, ...] with the next numbers of each stream and return it."""
        for row, generator in zip(out, self._generators, strict=True):
            row.normal_(generator=generator)
        return out


def trajectory_seed(seed: int, *key: int) -> int:
    """Return the 63-bit seed of one stream of a run, a hash of the seed and the stream's key, its trajectory."""
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0] >> 1)


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
    device = noise._generators[0].device
    x = torch.empty(len(noise.trajectories), *shape, dtype=dtype, device=device)
    return noise.fill_(x).mul_(float(process.sigma(t)))


def euler_maruyama(
    denoiser: Denoiser, process: Process, x: Tensor, times: Float[Tensor, " time"], noise: TrajectoryNoise
) -> Iterator[Tensor]:
    r"""Integrate the reverse SDE, $x_{k+1} = x_k + b(x_k, t_k)\,\Delta t + g(t_k)\sqrt{|\Delta t|}\,\eta_k$.

    Args:
        denoiser: Denoiser in EDM coordinates.
        process: Process in whose coordinates x lives.
        x: States at times[0], [batch, channel, *space]; overwritten.
        times: Falling times, float64.
        noise: Random numbers of these trajectories.

    Yields:
        The state after each step, in place.

    Source: paper Eqs. 58-60.
    """
    step = times.diff()
    a, c = process.drift(times[:-1], "sde")
    keep, pull = (1 + a * step).tolist(), (c * step).tolist()
    kick = (process.diffusion(times[:-1]) * step.abs().sqrt()).tolist()
    alpha, level = process.alpha(times).tolist(), process.noise_level(times)
    eta = torch.empty_like(x)
    for k in range(len(keep)):
        denoised = denoiser(x / alpha[k], level[k])
        x.mul_(keep[k]).add_(denoised, alpha=pull[k]).add_(noise.fill_(eta), alpha=kick[k])
        yield x


def heun(
    denoiser: Denoiser,
    process: Process,
    x: Tensor,
    times: Float[Tensor, " time"],
    noise: TrajectoryNoise | None = None,
) -> Iterator[Tensor]:
    r"""Integrate the probability-flow ODE by Heun's method; a last step to zero noise is an Euler step.

    Args:
        denoiser: Denoiser in EDM coordinates.
        process: Process in whose coordinates x lives.
        x: States at times[0], [batch, channel, *space].
        times: Falling times, float64; the last one may be 0.
        noise: Not used; the flow is deterministic.

    Yields:
        The state after each step.

    Source: karras2022, Algorithm 1; paper G.2.
    """
    for t, t_next in pairwise(times):
        step = float(t_next - t)
        slope = process.evaluate(denoiser, x, t, "ode")
        proposal = x + step * slope
        if float(process.sigma(t_next)) > 0:
            proposal = x + 0.5 * step * (slope + process.evaluate(denoiser, proposal, t_next, "ode"))
        x = proposal
        yield x


def check_steps(process: Process, times: Float[Tensor, " time"]) -> None:
    r"""Warn if Euler-Maruyama's steps are too coarse for the drift's stiffness where the denoiser is flat (G = 0).

    At restoring rate $\lambda$ a step inflates the stationary variance by $1/(1 - \lambda|\Delta t|/2)$ and diverges
    at $\lambda|\Delta t| = 2$; the warning comes at 10 % inflation and names the number of steps of a logarithmic grid
    that would do. A last step to zero noise is not checked: it has no stationary variance.

    Args:
        process: The process.
        times: Falling times, float64.
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


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What `simulate` measured; every array is on the CPU and keeps its trajectories apart.

    Args:
        times: Measured times, falling, [time].
        values: Observables by name, [trajectory, time, ...].
        snapshot_times: Times of the snapshots, [snapshot].
        snapshots: States in the process's coordinates, [trajectory, snapshot, channel, *space].
        state: Final state, [trajectory, channel, *space].
    """

    times: Tensor
    values: dict[str, Tensor]
    snapshot_times: Tensor
    snapshots: Tensor
    state: Tensor


@torch.no_grad()  # or a network's graph would grow over all steps
def simulate(
    denoiser: Denoiser,
    process: Process,
    x: Tensor,
    times: Float[Tensor, " time"],
    noise: TrajectoryNoise | None = None,
    *,
    stepper: Stepper = euler_maruyama,
    observables: Mapping[str, Observable] | None = None,
    measure_at: Sequence[int] = (),
    snapshots_at: Sequence[int] = (),
    on_step: Callable[[], None] = lambda: None,
) -> Trajectory:
    """Run a batch of trajectories down a time grid, measuring along the way.

    Args:
        denoiser: Denoiser in EDM coordinates.
        process: Process in whose coordinates x lives.
        x: States at times[0], [batch, channel, *space]; left as it is.
        times: Falling times, float64.
        noise: Random numbers of these trajectories; needed by stochastic steppers.
        stepper: `euler_maruyama` or `heun`.
        observables: Functions of (denoiser, process, state, time) that return [batch, ...].
        measure_at: Grid indices at which to measure, rising; 0 is the start.
        snapshots_at: Grid indices at which to keep the state, rising.
        on_step: Called after each step, for a progress bar.

    Returns:
        Everything measured, per trajectory.

    Raises:
        NonFiniteStateError: At the first state that is NaN or infinite.
        ValueError: If an index is not one of the grid's.
    """
    for name, indices in (("measure_at", measure_at), ("snapshots_at", snapshots_at)):
        if not all(0 <= k < len(times) for k in indices):
            raise ValueError(f"{name}: got indices {list(indices)}; expected grid indices from 0 to {len(times) - 1}")
    observables, measured, kept = observables or {}, set(measure_at), set(snapshots_at)
    values: dict[str, list[Tensor]] = {name: [] for name in observables}
    snapshots = torch.empty(x.shape[0], len(kept), *x.shape[1:], dtype=x.dtype)
    places = {k: place for place, k in enumerate(sorted(kept))}
    watch = _Watch(times, noise.trajectories if noise else range(x.shape[0]))

    def record(k: int, state: Tensor) -> None:
        if k in measured:
            for name, observable in observables.items():
                # a copy: an observable may return a view of the state, which the stepper overwrites
                value = observable(denoiser, process, state, times[k])
                values[name].append(value.detach().to("cpu", copy=True))
        if k in kept:
            snapshots[:, places[k]] = state.detach().cpu()

    x = x.clone()
    watch.see(0, x)
    record(0, x)
    for k, state in enumerate(stepper(denoiser, process, x, times, noise), start=1):
        watch.see(k, state)
        record(k, state)
        x = state
        on_step()
    watch.look()
    return Trajectory(
        times=times[sorted(measured)],
        values={name: torch.stack(series, 1) for name, series in values.items() if series},
        snapshot_times=times[sorted(kept)],
        snapshots=snapshots,
        state=x.detach().cpu(),
    )


class _Watch:
    """Finds the first step at which a state was not finite, looking only every LOOK_EVERY steps."""

    def __init__(self, times: Tensor, trajectories: Sequence[int]) -> None:
        self._times, self._trajectories = times, trajectories
        self._seen: list[tuple[int, Tensor]] = []

    def see(self, k: int, state: Tensor) -> None:
        self._seen.append((k, state.detach().flatten(1).sum(1)))
        if len(self._seen) == LOOK_EVERY:
            self.look()

    def look(self) -> None:
        if not self._seen:
            return
        bad = ~torch.isfinite(torch.stack([total for _, total in self._seen]))
        if bool(bad.any()):
            row = int(bad.any(1).nonzero()[0])
            raise NonFiniteStateError(
                self._trajectories[int(bad[row].nonzero()[0])], float(self._times[self._seen[row][0]])
            )
        self._seen.clear()
