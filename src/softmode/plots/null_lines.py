"""The Gaussian null model's curves, in grey beside those of a probed model; a run without the null has none."""

from matplotlib.axes import Axes

from softmode.critical import fit_dispersion
from softmode.estimate import Array
from softmode.plots.palette import GREY
from softmode.runs.run import Run

NULL = "Gaussian null"


def null_length(run: Run) -> Array | None:
    """Return the null model's convention-free xi_eq [time] (sites), or None for a run without the null.

    Source: paper Eq. 69 on 1 - G_n with G_n = S_n / (S_n + sigma^2).
    """
    data = run.dataset
    if "null_gain" not in data:
        return None
    return fit_dispersion(1 - data["null_gain"].to_numpy(), data["k"].to_numpy()).length


def null_line(ax: Axes, run: Run, values: Array) -> None:
    """Plot a curve [time] of the null model, below the model's own curves."""
    times = run.dataset["time"].to_numpy()
    ax.plot(times, values, color=GREY, linestyle="--", linewidth=1.8, label=NULL, gid="null", zorder=1.8)
