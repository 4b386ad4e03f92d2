r"""How much chains from one image have in common, beyond what chains from noise have.

With $q = \frac1N\sum_i D_i^a D_i^b$ of two chains, the memory is
$(q_\mathrm{common} - q_\mathrm{apart})/(q_\mathrm{self} - q_\mathrm{apart})$: 1 where all chains make the same of their
states, 0 where they have forgotten that they began alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from softmode.estimate import Array, Estimate, jackknife, of_share
from softmode.experiments.equilibrium.network_measure import STARTS
from softmode.runs.run import Run

# standard errors by which memory must exceed 0 to be one, and what is left of a memory that is lost
SURE, LOST = 3.0, math.exp(-1)


@dataclass(frozen=True, eq=False)
class Memory:
    """Denoised states of chains from one image and from noise.

    Args:
        times: Times at which they were kept, in units of sigma^2, [kept].
        common: From one image, [chain, level, kept, site].
        apart: From noise.
        predicted: Classes seen of the former, [chain, level, kept]; -1 unknown.
    """

    times: Array
    common: Array
    apart: Array
    predicted: Array

    @classmethod
    def of(cls, run: Run) -> "Memory":
        """Return that of a run."""
        data = run.dataset
        states = data["denoised"].to_numpy().astype(float)
        states = states.reshape(*states.shape[:4], -1)
        ordered = STARTS.index("ordered")
        return cls(
            data["kept_time"].to_numpy(), states[:, ordered], states[:, STARTS.index("disordered")],
            data["predicted"].to_numpy()[:, ordered],
        )  # fmt: skip

    def curve(self, level: int) -> list[Estimate]:
        """Return the memory at every kept time of a level, leaving out one chain of each start at a time."""
        return [self._at(level, time) for time in range(len(self.times))]

    def left(self, level: int) -> Estimate:
        """Return what is left at the end."""
        return self._at(level, len(self.times) - 1)

    def time(self, level: int) -> float:
        """Return the time at which the memory falls below 1/e, between kept times; NaN if it never does."""
        values = np.array([each.value for each in self.curve(level)])
        below = np.flatnonzero(values < LOST)
        if not len(below) or below[0] == 0:
            return 0.0 if len(below) else math.nan
        a = int(below[0])
        share = (values[a - 1] - LOST) / (values[a - 1] - values[a])
        return float(self.times[a - 1] + share * (self.times[a] - self.times[a - 1]))

    def same_class(self, level: int) -> Estimate:
        """Return the share of chains from one image that are seen at the end as what most were at the start."""
        first, last = self.predicted[:, level, 0], self.predicted[:, level, -1]
        if (first < 0).any():
            return Estimate.missing(len(first), "no classifier")
        return of_share(int((last == np.bincount(first).argmax()).sum()), len(first))

    def _at(self, level: int, time: int) -> Estimate:
        common, apart = self.common[:, level, time], self.apart[:, level, time]
        own, other = common @ common.T / common.shape[1], apart @ apart.T / apart.shape[1]

        def statistic(kept: Array) -> float:
            a, b = own[np.ix_(kept, kept)], other[np.ix_(kept, kept)]
            self_overlap, shared = np.trace(a) / len(a), _pairs(a)
            return float((shared - _pairs(b)) / (self_overlap - _pairs(b)))

        return jackknife(len(common), statistic)


class Remembered(NamedTuple):
    """At which noise levels the start is remembered, at which it is forgotten; at those between neither is known.

    Attributes:
        sigmas: Rising noise levels.
        left: Memory at the end, at each of them.
        below: How many of the lowest levels all remember: their memory exceeds 0 by three standard errors.
        above: First level from which on all forget: less than 1/e is left, and not surely anything.
    """

    sigmas: Sequence[float]
    left: Sequence[Estimate]
    below: int
    above: int

    @classmethod
    def of(cls, sigmas: Sequence[float], left: Sequence[Estimate]) -> "Remembered":
        """Return that of memories at rising levels."""
        surely = [each.value > SURE * each.stderr for each in left]
        forgot = [each.value < LOST and not sure for each, sure in zip(left, surely, strict=True)]
        below = next((i for i, sure in enumerate(surely) if not sure), len(left))
        above = next((i + 1 for i in reversed(range(len(left))) if not forgot[i]), 0)
        return cls(sigmas, left, below, above)

    def doubt(self, place: int) -> str:
        """Return why what a level's chains see in their time may not be its equilibrium; empty where they forget."""
        if place >= self.above:
            return ""
        return "its start is remembered" if place < self.below else "whether its start is remembered is not known"

    @property
    def level(self) -> Estimate:
        """The noise level below which the start is remembered, between the two levels around it."""
        chains, count = self.left[0].samples, len(self.left)
        if self.below == count:
            return Estimate.missing(chains, "remembered at every level")
        if self.above in (0, count) or self.below == 0:
            return Estimate.missing(
                chains, "forgotten at every level" if self.above == 0 else "not surely remembered and forgotten both"
            )
        low, high = self.sigmas[self.below - 1], self.sigmas[self.above]
        return Estimate(math.sqrt(low * high), math.nan, chains, low, high, "between two levels")

    def __str__(self) -> str:
        """Return a sentence on the network."""
        count = len(self.left)
        if self.below == count or self.above == 0:
            return f"the network has its start {self.level.reason}."
        said = []
        if self.below:
            at = self.below - 1
            said.append(f"remembers its start up to sigma = {self.sigmas[at]:.3g} (memory {self.left[at]})")
        if self.above < count:
            at = self.above
            said.append(f"has forgotten it from {self.sigmas[at]:.3g} on (memory {self.left[at]})")
        between = ", ".join(f"{self.sigmas[i]:.3g}: {self.left[i]}" for i in range(self.below, self.above))
        if not said:
            return f"it is not known at any level whether the network remembers its start (memory {between})."
        open_ = f"; between, it is not known (sigma = {between})" if between else ""
        return f"the network {' and '.join(said)}{open_}."


def _pairs(overlaps: Array) -> float:
    """Return the mean over pairs of different chains."""
    count = len(overlaps)
    return float((overlaps.sum() - np.trace(overlaps)) / (count * (count - 1)))
