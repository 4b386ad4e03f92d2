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
from softmode.plots.noise_axis import LABEL, interval, noise_axis
from softmode.runs.run import Run

# factor between the values and the ends of a log axis, which longer intervals overrun
MARGIN = 4.0
# share of the largest response below which the kernel's axis is linear
LINEAR_SHARE = 0.01
# ratio of two series' noise levels, so that their intervals stay apart
SHIFT = 1.05
OMEGA, RADIUS = "tab:blue", "#c00000"
ERRORS = {
    "equivariance": (r"equivariance error, $|D(\tau x)-\tau D(x)|/|D(x)|$", "tab:blue", "o"),
    "oddness": ("oddness error, $|D(-x)+D(x)|/2|D(x)|$", "#f08000", "s"),
    "antisymmetric": (r"antisymmetric share of $|\partial D/\partial x|$", "tab:green", "^"),
}


def response_kernel(run: Run) -> Figure:
    r"""Draw what a site of D(x) answers to: the response kernel, its range, and how far D is from a symmetric field.

    Left: the response at a site to a push at a distance, averaged over sites and trajectories, with the standard error
    over trajectories. Middle: the effective receptive field $\Omega=(\sum_u K)^2/\sum_u K^2$ and the root mean square
    radius of $K^2$, with 95 % intervals; a patch model of that receptive field would soften (r = 0) where
    $\Omega=(\sigma/\alpha)^2$. Right: the errors of translation equivariance and of $x\to-x$, and the share of the
    Jacobian's norm in its antisymmetric part.

    Args:
        run: A finished run of a probe.

    Source: paper C.1 and Eqs. 18-22.
    """
    figure = Figure(figsize=(16, 6.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _kernel(left, run)
    _range(middle, run)
    _symmetry(right, run)
    for ax in (middle, right):
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
    ax.set_title("Response kernel" + (r" ($\pm$ standard error)" if stderr is not None else ""))
    ax.figure.colorbar(colors, ax=ax, label=LABEL, aspect=30)


def _range(ax: Axes, run: Run) -> None:
    omega = _series(ax, run, "omega", r"effective receptive field $\Omega$", OMEGA, "o", 1.0)
    levels = run.dataset["snapshot_level"].to_numpy()
    softening = ax.plot(
        levels, levels**2, color="0.5", linestyle=":", label=r"$\Omega=(\sigma/\alpha)^2$: $r=0$ of a patch model"
    )
    twin = ax.twinx()
    radius = _series(twin, run, "radius", "radius (right axis)", RADIUS, "s", SHIFT)
    if np.isnan(np.asarray(radius.get_ydata())).any():
        radius.set_label("radius (right axis); missing: no real value")
    ax.set_yscale("log", nonpositive="clip")
    values = np.asarray(omega.get_ydata())
    values = values[values > 0]
    if len(values):
        ax.set_ylim(values.min() / MARGIN, values.max() * MARGIN)
    twin.set_ylim(bottom=0)
    ax.set_ylabel(r"effective receptive field $\Omega$ (sites)", color=OMEGA)
    twin.set_ylabel(r"radius of $K^2$ (sites)", color=RADIUS)
    ax.tick_params(axis="y", colors=OMEGA)
    twin.tick_params(axis="y", colors=RADIUS)
    ax.set_title("Range of the response")
    ax.legend(handles=[omega, radius, *softening], loc="upper center", bbox_to_anchor=(0.5, -0.16))


def _symmetry(ax: Axes, run: Run) -> None:
    handles = [
        _series(ax, run, name, label, color, marker, SHIFT ** (place - 1))
        for place, (name, (label, color, marker)) in enumerate(ERRORS.items())
    ]
    ax.set_ylim(bottom=0)
    ax.set_ylabel("relative error")
    ax.set_title("Errors of symmetry")
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.16))


def _series(ax: Axes, run: Run, name: str, label: str, color: str, marker: str, shift: float) -> Line2D:
    """Plot one column of the locality table against the noise level, with its 95 % intervals where it has them."""
    rows = run.results.values["locality"]
    columns = [[row["sigma"], row[name].value, row[name].low, row[name].high] for row in rows]
    level, value, low, high = np.array(columns).T
    ax.vlines(level * shift, low, high, color=color, linewidth=1.2, alpha=0.6)
    return ax.plot(level * shift, value, color=color, marker=marker, markersize=6, label=label, gid=name)[0]
