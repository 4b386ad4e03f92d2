"""Times of a run and their noise levels, each from the other, from what is stored alone."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.interpolate import PchipInterpolator

from softmode.estimate import Array
from softmode.runs.run import Run


@dataclass(frozen=True, eq=False)
class Clock:
    """Times and noise levels between those of a grid, interpolated in logarithms, in which every process is smooth.

    Args:
        times: Falling times [time], at least two.
        levels: Their noise levels sigma/alpha [time].
    """

    times: Array
    levels: Array

    @classmethod
    def of(cls, run: Run, time: str = "time", level: str = "noise_level") -> "Clock":
        """Return the clock of a run that keeps times and noise levels under these names."""
        return cls(run.dataset[time].to_numpy(), run.dataset[level].to_numpy())

    @cached_property
    def _level(self) -> PchipInterpolator:
        return PchipInterpolator(np.log(self.times[::-1]), np.log(self.levels[::-1]), extrapolate=False)

    @cached_property
    def _time(self) -> PchipInterpolator:
        return PchipInterpolator(np.log(self.levels[::-1]), np.log(self.times[::-1]), extrapolate=False)

    def level(self, t: float) -> float:
        """Return the noise level of a time; NaN of one that is undefined or beyond the grid."""
        return math.exp(self._level(math.log(t))) if t > 0 else math.nan

    def time(self, level: float) -> float:
        """Return the time of a noise level; NaN of one that is undefined or beyond the grid."""
        return math.exp(self._time(math.log(level))) if level > 0 else math.nan
