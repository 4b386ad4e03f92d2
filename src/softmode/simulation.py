"""Sampling: one loop that drives a sampler, measures along the way and stops at a state that is not finite."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.observe.state import Observable, State
from softmode.process import Process
from softmode.rounding import within
from softmode.samplers import EulerMaruyama, Sampler
from softmode.streams import TrajectoryNoise

# steps between two looks at whether states are finite: each look waits for the device
LOOK_EVERY = 32
REVERSE_SDE = EulerMaruyama()


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


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What `simulate` measured; every array is on the CPU and keeps its trajectories apart.

    Args:
        times: Measured times, falling, [time].
        values: What the observables returned, by name, [trajectory, time, ...].
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
    sampler: Sampler = REVERSE_SDE,
    observables: Sequence[Observable] = (),
    measure_at: Sequence[int] = (),
    snapshots_at: Sequence[int] = (),
    seen: Denoiser | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Trajectory:
    """Run a batch of trajectories down a time grid, measuring along the way.

    Args:
        denoiser: Denoiser in EDM coordinates.
        process: Process in whose coordinates x lives.
        x: States at times[0], [batch, channel, *space]; left as it is.
        times: Falling times, float64.
        noise: Random numbers of these trajectories; needed by stochastic samplers.
        sampler: How the states move.
        observables: What to measure; no two of them may name an array alike.
        measure_at: Grid indices at which to measure, rising; 0 is the start.
        snapshots_at: Grid indices at which to keep the state, rising.
        seen: The denoiser that observables see, such as the same one in full precision; the one that moves the states
            when left out.
        on_step: Called after each step, for a progress bar.

    Returns:
        Everything measured, per trajectory.

    Raises:
        NonFiniteStateError: At the first state that is NaN or infinite.
        ValueError: If an index is not one of the grid's, or two observables name an array alike.
    """
    for name, indices in (("measure_at", measure_at), ("snapshots_at", snapshots_at)):
        if not all(0 <= k < len(times) for k in indices):
            raise ValueError(f"{name}: got indices {list(indices)}; expected grid indices from 0 to {len(times) - 1}")
    measured, kept = set(measure_at), set(snapshots_at)
    names = [name for observable in observables for name in observable.variables]
    if len(set(names)) < len(names):
        raise ValueError(f"observables: got {names}, in which a name comes twice; measure each once")
    values: dict[str, list[Tensor]] = {name: [] for name in names}
    snapshots = torch.empty(x.shape[0], len(kept), *x.shape[1:], dtype=x.dtype)
    places = {k: place for place, k in enumerate(sorted(kept))}
    trajectories = noise.trajectories if noise else range(x.shape[0])
    watch = _Watch(times, trajectories)

    def record(k: int, state: Tensor) -> None:
        if k in measured:
            at = State(denoiser if seen is None else seen, process, state, times[k], k, trajectories)
            for observable in observables:
                for name, value in observable(at).items():
                    # a copy: an observable may return a view of the state, which the sampler overwrites
                    values[name].append(value.detach().to("cpu", copy=True))
        if k in kept:
            snapshots[:, places[k]] = state.detach().cpu()

    x = x.clone()
    watch.see(0, x)
    record(0, x)
    for k, state in enumerate(sampler.steps(denoiser, process, x, times, noise), start=1):
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


class Clones(NamedTuple):
    """Final states of trajectories and of their copies.

    Attributes:
        parent: Final states of the trajectories, [trajectory, channel, *space].
        copies: Final states of their copies, [trajectory, start, copy, channel, *space].
    """

    parent: Tensor
    copies: Tensor


def clone(
    denoiser: Denoiser,
    process: Process,
    x: Float[Tensor, "trajectory channel *space"],
    times: Float[Tensor, " time"],
    noise: TrajectoryNoise,
    starts: Sequence[int],
    copies: int,
    noise_of_copy: Callable[[int, int], TrajectoryNoise],
    on_step: Callable[[], None] = lambda: None,
) -> Clones:
    """Run trajectories down a time grid, copy each at some of its times, and run every copy on to the end.

    Args:
        denoiser: Denoiser in EDM coordinates.
        process: Process in whose coordinates x lives.
        x: States at times[0]; left as they are.
        times: Falling times, float64.
        noise: Random numbers of the trajectories themselves.
        starts: Grid indices at which to copy.
        copies: Copies of each trajectory at each of these times, at least 1.
        noise_of_copy: Maps (grid index, number of the copy) to the random numbers of those copies, in the order of x.
        on_step: Called after each step, for a progress bar.

    Returns:
        Final states of the trajectories and of the copies, on the CPU.

    Raises:
        NonFiniteStateError: At the first state that is NaN or infinite.
        ValueError: If a start is not one of the grid's indices.

    Source: biroli2024.
    """
    parent = simulate(denoiser, process, x, times, noise, snapshots_at=starts, on_step=on_step)
    places = {k: place for place, k in enumerate(sorted(set(starts)))}
    final = [
        simulate(
            denoiser, process, parent.snapshots[:, places[k]].to(x.device), times[k:], noise_of_copy(k, c),
            on_step=on_step,
        ).state
        for k in starts
        for c in range(copies)
    ]  # fmt: skip
    return Clones(parent.state, torch.stack(final, 1).unflatten(1, (len(starts), copies)))


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


def nearest_steps(name: str, wanted: Sequence[float], times: Float[Tensor, " time"]) -> list[int]:
    """Return the grid indices nearest to some times in log t, each once, rising.

    Raises:
        ValueError: If a time lies outside the grid.
    """
    first, last = float(times[0]), float(times[-1])
    if len(wanted) > len(times):
        raise ValueError(f"{name}: got {len(wanted)} times; expected at most {len(times)}, those of the grid")
    beyond = [t for t in wanted if not within(t, last, first)]
    if beyond:
        raise ValueError(f"{name}: got {float(beyond[0]):g}; expected times in [{last:g}, {first:g}]")
    return sorted({int((times.log() - math.log(t)).abs().argmin()) for t in wanted})


def measured_steps(steps: int, every: int) -> list[int]:
    """Return the grid indices of measurements, every so many steps, both ends among them."""
    return sorted({*range(0, steps, every), steps})
