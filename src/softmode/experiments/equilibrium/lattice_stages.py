r"""Which noise levels a finite-size run measures, and how long: from a wide search to the points that count.

Stages: `coarse` searches a wide range on the three smallest sides; `half` measures those near what it found, with half
the step; `main` measures all sides, as long as the wanted error needs by what `half` saw.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from softmode.estimate import Array
from softmode.finite_size.curves import Curves
from softmode.finite_size.moments import MOMENTS, Moments
from softmode.finite_size.scaling import OMEGA, joint_fit
from softmode.finite_size.series import LEAST_TIMES, Thermalised, block_means, thermalised

Stage = Literal["coarse", "half", "main"]
# points of each stage, and rounds, each of two replicas from opposite starts
POINTS: dict[Stage, int] = {"coarse": 24, "half": 7, "main": 7}
ROUNDS: dict[Stage, int] = {"coarse": 4, "half": 8, "main": 16}
REPLICAS = 2
# means over a replica's series that are kept, of which the start is found and the blocks of errors are made
BLOCKS = 32
# the moment whose series tells where equilibrium begins
SQUARE = MOMENTS.index("m^2")
# sides of the first two stages
FEW = 3
# measurements of a series of the coarse stage, and steps between two
COARSE, EVERY = 2000, 4
# autocorrelation times, by the stage before, that are cut at the start at least, and that a series keeps at least
CUT, LEAST = 20, 100
# dynamic exponent of model A, and nu, by which times and windows are carried to larger sides
Z, NU = 2.17, {1: 1.0, 2: 1.0, 3: 0.63}
# a fall of U4 with the side by this share of the steepest marks where the disordered side begins
FALL = 0.15
# U4 to which the window of the smallest side reaches on its disordered side, below its value at the transition
EDGE = {1: 0.5, 2: 0.5, 3: 0.35}
# ends of a window, in units of its width
LOW, HIGH = -1.3, 0.9
# resamples of a fit that only says where to measure
FEW_RESAMPLES = 50


class Work(NamedTuple):
    """What a stage measures, all by side.

    Attributes:
        times: Process times, [side, point], rising.
        every: Steps between two measurements.
        counts: Measurements that are kept of each series.
        cut: Measurements before them, to reach equilibrium.
    """

    times: Float[np.ndarray, "side point"]
    every: tuple[int, ...]
    counts: tuple[int, ...]
    cut: tuple[int, ...]

    @property
    def steps(self) -> list[int]:
        """Steps of one series of every side."""
        return [e * (n + c) for e, n, c in zip(self.every, self.counts, self.cut, strict=True)]


@dataclass(frozen=True)
class Seen:
    """What a stage saw.

    Args:
        sides: L.
        times: Process times, [side, point].
        points: Moments of every side and point, in the order of both.
        tau: Autocorrelation times of m^2 in steps, [side, point], averaged over rounds.
        steps: Steps of one series after what was cut of it, [side, point].
        cut: Steps that were found to be no equilibrium, beyond those that are cut in any case, [side, point].
        series: Number of series of a point.
        starts: Whether both starts and halves agree, of every side and point.
    """

    sides: tuple[int, ...]
    times: Array
    points: Sequence[Sequence[Moments]]
    tau: Array
    steps: Array
    cut: Array
    series: int
    starts: Sequence[Sequence[Thermalised]]

    @classmethod
    def of(cls, data: xr.Dataset, sides: Sequence[int], dimensions: int) -> "Seen":
        """Return that of a stored stage: its start found in the mean over rounds, errors by blocks of 10 tau."""
        times, tau = data["time"].to_numpy()[0], data["tau"].to_numpy().mean(0)
        means, steps = data["means"].to_numpy(), data["steps"].to_numpy()[0]
        rounds, moments = len(means), means.shape[-1]
        blocks = means.shape[3] // REPLICAS
        points: list[list[Moments]] = []
        starts: list[list[Thermalised]] = []
        for s, side in enumerate(sides):
            points.append([])
            starts.append([])
            for p, time in enumerate(times[s]):
                own = means[:, s, p].reshape(rounds, REPLICAS, blocks, moments)
                start = thermalised(own[..., SQUARE])
                kept = own[:, :, start.first :].reshape(rounds * REPLICAS, -1, moments)
                units = block_means(kept, float(tau[s, p]) * blocks / steps[s])
                points[s].append(Moments(side, dimensions, float(time), units))
                starts[s].append(start)
        cut = np.array([[each.first for each in row] for row in starts]) * steps[:, None] / blocks
        return cls(tuple(sides), times, points, tau, steps[:, None] - cut, cut, REPLICAS * rounds, starts)

    @property
    def lengths(self) -> Array:
        """Autocorrelation times that one series of every side and point is long, [side, point]."""
        return np.asarray(self.steps / np.maximum(self.tau, 1))

    @property
    def sure(self) -> Array:
        """Whether a point may be quoted: its series are long enough, and both starts and halves agree."""
        agrees = np.array([[each.agrees for each in row] for row in self.starts])
        return (self.lengths >= LEAST_TIMES) & agrees

    def quoted(self, side: int) -> list[Moments]:
        """Return the points of a side that may be quoted."""
        return [point for point, sure in zip(self.points[side], self.sure[side], strict=True) if sure]

    def binder(self, side: int) -> Array:
        """Return U4 of a side at every point."""
        return np.array([point.observables()["U4"].value for point in self.points[side]])


def coarse_work(times: Float[np.ndarray, " point"], sides: Sequence[int]) -> Work:
    """Return the work of the coarse stage: the same points and length at all of its sides."""
    count, length = len(sides), BLOCKS * (COARSE // BLOCKS)
    return Work(np.tile(times, (count, 1)), (EVERY,) * count, (length,) * count, (COARSE // 4,) * count)


def transition(seen: Seen) -> tuple[float, float] | None:
    """Return about where U4 begins to fall with the side, and how far its fall reaches on the smallest side.

    Args:
        seen: The coarse stage.

    Returns:
        Process time of the transition, and the width of its window at the smallest side; None where U4 falls with the
        side at all points, or at none.
    """
    times, small, large = seen.times[0], seen.binder(0), seen.binder(len(seen.sides) - 1)
    edge = EDGE[seen.points[0][0].dimensions]
    fall = large - small
    lowest = int(np.argmin(fall))
    low = FALL * fall[lowest]
    before = np.flatnonzero(fall[:lowest] > low)
    # order is seen at the lower end, and is lost on the larger side first
    if fall[lowest] > -0.05 or before.size == 0 or small[: lowest + 1].max() < edge or small[-1] > edge:
        return None
    i = int(before[-1])
    share = (fall[i] - low) / (fall[i] - fall[i + 1])
    centre = float(times[i] + share * (times[i + 1] - times[i]))
    beyond = np.flatnonzero((times > centre) & (small < edge))
    if beyond.size == 0:
        return None
    j = int(beyond[0])
    reached = times[j - 1] + (small[j - 1] - edge) / (small[j - 1] - small[j]) * (times[j] - times[j - 1])
    width = float(np.clip(float(reached) - centre, 0.02 * centre, 0.7 * centre))
    return centre, width


def near(centre: float, width: float, sides: Sequence[int], dimensions: int, points: int) -> Array:
    r"""Return times around a transition, [side, point], in windows that shrink as $L^{-1/\nu}$.

    They reach farther down than up: on the ordered side U4 changes less, and crossings come from above.
    """
    scale = (np.array(sides) / sides[0]) ** (-1 / NU[dimensions])
    return np.asarray(centre + width * scale[:, None] * np.linspace(LOW, HIGH, points))


def refined(seen: Seen, dimensions: int) -> tuple[float, float]:
    """Return the time of the transition by the joint fit of a stage, and the width of its window at the smallest side.

    Where the curves do not cross, or cross outside of what was measured, the centre stays.
    """
    width = float(np.ptp(seen.times[0])) / (HIGH - LOW)
    centre = float(seen.times[0, 0]) - LOW * width
    try:
        curves = Curves.of([point for row in seen.points for point in row], resamples=FEW_RESAMPLES)
        at = joint_fit(curves, OMEGA.get(dimensions)).t_c
    except ValueError:
        return centre, width
    return (at.value if at.stderr < width / 2 else centre), width


def planned(
    seen: Seen, times: Float[np.ndarray, "side point"], sides: Sequence[int], error: float, finer: float, rounds: int
) -> Work:
    """Return how long every side has to be measured for a wanted error of U4, by what an earlier stage saw.

    Args:
        seen: The earlier stage.
        times: Process times to be measured.
        sides: L.
        error: Wanted standard error of U4 at the transition, all points of a side together.
        finer: Steps of this stage that make one of the earlier stage's.
        rounds: Rounds of this stage.
    """
    every, counts, cut = [], [], []
    for side, middle in zip(sides, times.mean(1), strict=True):
        known = max(s for s, own in enumerate(seen.sides) if own <= max(side, seen.sides[0]))
        point = int(np.argmin(np.abs(seen.times[known] - middle)))
        longer = finer * (side / seen.sides[known]) ** Z
        tau = longer * max(1.0, float(seen.tau[known, point]))
        spread = seen.points[known][point].observables()["U4"].stderr
        # half of a side's points stand for the transition
        whole = longer * seen.series * seen.steps[known, point] * (spread / error) ** 2 / (times.shape[1] / 2)
        length = max(LEAST * tau, whole / (REPLICAS * rounds))
        every.append(max(EVERY, round(tau / 20)))
        counts.append(BLOCKS * math.ceil(length / every[-1] / BLOCKS))
        cut.append(math.ceil(CUT * tau / every[-1]))
    return Work(times, tuple(every), tuple(counts), tuple(cut))
