"""The figure of what a site of D(x) answers to: the response kernel, its range and its symmetries."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from softmode.plots.caption import caption
from softmode.plots.critical_dynamics import WIDTH, lettered
from softmode.plots.marks import SIZE, raise_top
from softmode.plots.noise_axis import LABEL, interval, noise_axis
from softmode.plots.palette import BLUE, GREEN, GREY, VERMILLION
from softmode.runs.run import Run

# factor between the values and the ends of a log axis, which longer intervals overrun
MARGIN = 4.0
# share of the largest response below which the kernel's axis is linear
LINEAR_SHARE = 0.01
# ratio of two series' noise levels, so that their intervals stay apart
SHIFT = 1.05
OMEGA, RADIUS = BLUE, VERMILLION
ERROR_BARS = (r" ($\pm$ standard error)", *[" (95 % intervals)"] * 3)
TITLES = ("response kernel", "effective receptive field", "range of the response", "errors of symmetry")
ERRORS = {
    "equivariance": (r"shifts: $|D(\tau x)-\tau D(x)|/|D(x)|$", BLUE, "o"),
    "oddness": ("oddness: $|D(-x)+D(x)|/2|D(x)|$", VERMILLION, "s"),
    "antisymmetric": (r"antisymmetric part of $|\partial D/\partial x|$", GREEN, "^"),
}


def response_kernel(run: Run) -> Figure:
    r"""Draw what a site of D(x) answers to: the response kernel, its range, and how far D is from a symmetric field.

    (a) The response at a site to a push at a distance, averaged over sites and trajectories, with the standard error
    over trajectories. (b) The effective receptive field $\Omega=(\sum_u K)^2/\sum_u K^2$ with 95 % intervals; a patch
    model of that receptive field would soften (r = 0) where $\Omega=(\sigma/\alpha)^2$. (c) The root mean square radius
    of $K^2$. (d) The errors of translation equivariance and of $x\to-x$, and the share of the Jacobian's norm in its
    antisymmetric part.

    Args:
        run: A finished run of a probe.

    Source: paper C.1 and Eqs. 18-22.
    """
    figure = Figure(figsize=(WIDTH, 9.4), layout="constrained")
    panels = list(figure.subplots(2, 2).flat)
    errors = ERROR_BARS if run.dataset.sizes["trajectory"] > 1 else ("",) * len(TITLES)
    lettered(panels, [f"{title}{error}" for title, error in zip(TITLES, errors, strict=True)])
    for draw, ax in zip((_kernel, _omega, _radius, _symmetry), panels, strict=True):
        draw(ax, run)
    for ax in panels[1:]:
        noise_axis(ax, *interval(run.dataset["snapshot_level"].to_numpy()))
    figure.suptitle(caption(run), parse_math=False, fontsize="medium")
    return figure


def _kernel(ax: Axes, run: Run) -> None:
    data = run.dataset
    kernel, levels = data["kernel"].to_numpy().astype(float), data["snapshot_level"].to_numpy()
    count, distance = len(kernel), np.arange(kernel.shape[-1])
    mean = kernel.mean(0)
    stderr = kernel.std(0, ddof=1) / math.sqrt(count) if count > 1 else None
    norm = LogNorm(*interval(levels)[::-1])
    colors = ScalarMappable(norm, "plasma")
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    for place, level in enumerate(levels):
        ax.errorbar(
            distance, mean[place], None if stderr is None else stderr[place], color=colors.to_rgba(level),
            linewidth=1.4, elinewidth=1.0, marker="o", markersize=4, gid=f"kernel_{place}",
        )  # fmt: skip
    largest = float(np.nanmax(np.abs(mean), initial=0.0)) or 1.0
    ax.set_yscale("symlog", linthresh=10.0 ** math.floor(math.log10(LINEAR_SHARE * largest)))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("distance $|u|$ (sites)")
    ax.set_ylabel(r"response $K=\langle\partial D_i/\partial x_{i+u}\rangle_i$")
    ax.figure.colorbar(colors, ax=ax, label=LABEL, aspect=30)


def _omega(ax: Axes, run: Run) -> None:
    omega = _series(ax, run, "omega", "measured", OMEGA, "o", 1.0)
    levels = run.dataset["snapshot_level"].to_numpy()
    ax.plot(levels, levels**2, color=GREY, linestyle=":", label=r"$(\sigma/\alpha)^2$: $r=0$ of a patch model")
    ax.set_yscale("log", nonpositive="clip")
    values = np.asarray(omega.get_ydata())
    values = values[values > 0]
    if len(values):
        ax.set_ylim(values.min() / MARGIN, values.max() * MARGIN)
    ax.set_ylabel(r"$\Omega$ (sites)")
    ax.legend(loc="best")


def _radius(ax: Axes, run: Run) -> None:
    radius = _series(ax, run, "radius", "", RADIUS, "s", 1.0)
    ax.set_ylim(bottom=0)
    if np.isnan(np.asarray(radius.get_ydata())).any():
        raise_top(ax, 1)
        ax.annotate("gaps: no real value", (0.98, 0.97), xycoords="axes fraction", ha="right", va="top", fontsize=SIZE)
    ax.set_ylabel("radius of $K^2$ (sites)")


def _symmetry(ax: Axes, run: Run) -> None:
    for place, (name, (label, color, marker)) in enumerate(ERRORS.items()):
        _series(ax, run, name, label, color, marker, SHIFT ** (place - 1))
    top = ax.get_ylim()[1]
    ax.set_ylim(0, top)
    raise_top(ax, len(ERRORS))
    ax.set_ylabel("relative error")
    ax.legend(loc="upper right")


def _series(ax: Axes, run: Run, name: str, label: str, color: str, marker: str, shift: float) -> Line2D:
    """Plot one column of the locality table against the noise level, with its 95 % intervals where it has them."""
    rows = run.results.values["locality"]
    columns = [[row["sigma"], row[name].value, row[name].low, row[name].high] for row in rows]
    level, value, low, high = np.array(columns).T
    ax.vlines(level * shift, low, high, color=color, linewidth=1.2, alpha=0.6)
    return ax.plot(level * shift, value, color=color, marker=marker, markersize=6, label=label, gid=name)[0]
