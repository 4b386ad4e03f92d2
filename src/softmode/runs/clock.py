"""Times of a run and their noise levels, each from the other, from what is stored alone."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.interpolate import PchipInterpolator

from softmode.estimate import Array
from softmode.process import Process, parse_process
from softmode.runs.run import Run


@dataclass(frozen=True, eq=False)
class Clock:
    """Which noise level a time has: exact for a process that has a name, interpolated in logarithms for another.

    Args:
        times: Falling times [time], at least two.
        levels: Their noise levels sigma/alpha [time].
        process: The process, if it is known.
    """

    times: Array
    levels: Array
    process: Process | None = None

    @classmethod
    def of(cls, run: Run, time: str = "time", level: str = "noise_level") -> "Clock":
        """Return the clock of a run that keeps times and noise levels under these names."""
        name = str(run.identity.get("model", run.config)["schedule"])
        process = parse_process(name) if name else None
        return cls(run.dataset[time].to_numpy(), run.dataset[level].to_numpy(), process)

    def level(self, t: float) -> float:
        """Return the noise level of a time; NaN of one that is undefined, or beyond the grid of a nameless process."""
        if not t > 0:
            return math.nan
        return math.exp(self._level(math.log(t))) if self.process is None else float(self.process.noise_level(t))

    def time(self, level: float) -> float:
        """Return the time of a noise level; NaN of one that is undefined, or beyond the grid of a nameless process."""
        if not level > 0:
            return math.nan
        return math.exp(self._time(math.log(level))) if self.process is None else float(self.process.time(level))

    @cached_property
    def _level(self) -> PchipInterpolator:
        return PchipInterpolator(np.log(self.times[::-1]), np.log(self.levels[::-1]), extrapolate=False)

    @cached_property
    def _time(self) -> PchipInterpolator:
        return PchipInterpolator(np.log(self.levels[::-1]), np.log(self.times[::-1]), extrapolate=False)
