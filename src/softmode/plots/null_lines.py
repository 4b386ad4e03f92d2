"""The Gaussian null model's curves, in grey beside those of a probed model; a run without the null gets none."""

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from softmode.critical import fit_dispersion, growth_rate
from softmode.estimate import Array, median
from softmode.plots.curve_lines import shown_shells
from softmode.runs.run import Run

GREY = "0.45"


def null_length(run: Run) -> Array | None:
    """Return the null model's convention-free xi_eq [time] (sites), or None for a run without the null.

    Source: paper Eq. 69 on 1 - G_n with G_n = S_n / (S_n + sigma^2).
    """
    data = run.dataset
    if "null_gain" not in data:
        return None
    return fit_dispersion(1 - data["null_gain"].to_numpy(), data["k"].to_numpy()).length


def null_equilibrium_lines(ax: Axes, run: Run) -> list[Line2D]:
    """Plot the null model's convention-free xi_eq, dashed."""
    length = null_length(run)
    label = r"$\xi_{\mathrm{eq}}$ of the null model, convention-free (right axis)"
    return [] if length is None else _line(ax, run, length, label, "--")


def null_correlation_lines(ax: Axes, run: Run) -> list[Line2D]:
    """Plot the median xi_x of the null model's own trajectories."""
    if "null_xi_x" not in run.dataset:
        return []
    return _line(ax, run, median(run.dataset["null_xi_x"].to_numpy()), r"$\xi_x$ of the null model, median")


def null_growth_lines(ax: Axes, run: Run) -> list[Line2D]:
    """Plot the median growth rate of the null model's xi_x."""
    data = run.dataset
    if "null_xi_x" not in data:
        return []
    growth = median(growth_rate(data["null_xi_x"].to_numpy(), data["time"].to_numpy()))
    return _line(ax, run, growth, r"$-d\xi_x/d\log t$ of the null model, median")


def null_eigenvalue_lines(ax: Axes, run: Run) -> list[Line2D]:
    """Plot the null model's |lambda_n|, averaged over the axes, of the few shells shown in full.

    Returns:
        One line, labelled with the shells in the order in which they end.
    """
    if "null_eigenvalue" not in run.dataset:
        return []
    values = abs(run.dataset["null_eigenvalue"].to_numpy().mean(-1))
    shells = sorted(shown_shells(values.shape[1]), key=lambda n: -values[-1, n])
    label = f"null model, $n={', '.join(str(n) for n in shells)}$ (from the top, at the end)"
    lines = [_line(ax, run, values[:, n], label, ":", width=1.1, gid=f"null_{n}") for n in shells]
    return lines[0]


def _line(
    ax: Axes, run: Run, values: Array, label: str, linestyle: str = "-", width: float = 1.8, gid: str = "null"
) -> list[Line2D]:
    times = run.dataset["time"].to_numpy()
    (line,) = ax.plot(times, values, color=GREY, linestyle=linestyle, linewidth=width, label=label, gid=gid)
    # below the model's own curves
    line.set_zorder(1.8)
    return [line]
