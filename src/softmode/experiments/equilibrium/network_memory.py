r"""How much chains from one image have in common, beyond what chains from noise have.

With $q = \frac1N\sum_i D_i^a D_i^b$ of two chains, the memory is
$(q_\mathrm{common} - q_\mathrm{apart})/(q_\mathrm{self} - q_\mathrm{apart})$: 1 where all chains make the same of their
states, 0 where they have forgotten that they began alike.
"""

import math
from dataclasses import dataclass

import numpy as np

from softmode.estimate import Array, Estimate, jackknife, of_share
from softmode.experiments.equilibrium.network_measure import STARTS
from softmode.runs.run import Run


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
        below = np.flatnonzero(values < math.exp(-1))
        if not len(below) or below[0] == 0:
            return 0.0 if len(below) else math.nan
        a = int(below[0])
        share = (values[a - 1] - math.exp(-1)) / (values[a - 1] - values[a])
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


def _pairs(overlaps: Array) -> float:
    """Return the mean over pairs of different chains."""
    count = len(overlaps)
    return float((overlaps.sum() - np.trace(overlaps)) / (count * (count - 1)))
