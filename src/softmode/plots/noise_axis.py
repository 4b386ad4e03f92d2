"""Axes that show the noise level sigma/alpha, falling from left to right as generation runs."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from softmode.estimate import Array
from softmode.runs.run import Run

LABEL = r"noise level $\sigma/\alpha$"
# least distance of two ticks, as a share of the axis
TICK_DISTANCE = 0.11
# ratio of the ends of an axis below which powers of ten are too few ticks
FEW_DECADES = 200.0
# factor between the outermost levels and the ends of their axis
MARGIN = 1.2


def variance_exploding(run: Run) -> bool:
    """Return whether a run's time is its noise level."""
    process = run.identity["model"]["process"] if "model" in run.identity else run.config["schedule"]
    return str(process).lower() == "ve"


def noise_axis(ax: Axes, first: float, last: float) -> None:
    """Make the x axis the log of the noise level, from `first` down to `last`."""
    ax.set_xscale("log")
    ax.set_xlim(first, last)
    if first < FEW_DECADES * last:
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(rf"{LABEL} (generation $\rightarrow$)")


def time_axis(ax: Axes, run: Run) -> None:
    """Make the x axis log t over the run's times, falling from left to right as generation runs."""
    times = run.dataset["time"].to_numpy()
    ax.set_xscale("log")
    ax.set_xlim(times[0], times[-1])
    name = r"noise level $t=\sigma$" if variance_exploding(run) else "diffusion time $t$"
    ax.set_xlabel(rf"{name} (generation $\rightarrow$)")


def noise_ticks(run: Run) -> tuple[list[float], list[int]]:
    """Return the times of some round noise levels, and the powers of ten that these are.

    From sigma/alpha = 1 outward, those that are far enough from each other on an axis of log t.
    """
    times, levels = (np.log(run.dataset[name].to_numpy()[::-1]) for name in ("time", "noise_level"))
    ends = levels[0] / math.log(10), levels[-1] / math.log(10)
    powers = np.arange(math.ceil(ends[0]), math.floor(ends[1]) + 1)
    at = np.interp(powers * math.log(10), levels, times)
    least = TICK_DISTANCE * (times[-1] - times[0])
    chosen: list[int] = []
    for i in np.argsort(np.abs(powers), kind="stable"):
        if all(abs(at[i] - at[j]) >= least for j in chosen):
            chosen.append(int(i))
    chosen.sort()
    return np.exp(at[chosen]).tolist(), powers[chosen].tolist()


def top_noise_axis(ax: Axes, run: Run) -> None:
    """Show the noise level on top of an axis of time, unless time is the noise level."""
    if variance_exploding(run):
        return
    top = ax.secondary_xaxis("top")
    times, powers = noise_ticks(run)
    top.set_xticks(times, [f"$10^{{{power}}}$" for power in powers])
    top.set_xticks([], minor=True)
    top.set_xlabel(LABEL)


def interval(levels: Array) -> tuple[float, float]:
    """Return limits of a noise axis a little wider than some levels."""
    return MARGIN * float(levels.max()), float(levels.min()) / MARGIN
