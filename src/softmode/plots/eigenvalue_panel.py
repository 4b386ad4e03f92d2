"""The panels of the drift's eigenvalues: of three shells beside their trajectories, and of all shells by colour."""

import numpy as np
from matplotlib.axes import Axes

from softmode.estimate import Array, median
from softmode.plots.curve_lines import magnitudes, shell_colourbar, shell_colours, shown_shells, signed_line
from softmode.plots.end_labels import end_labels
from softmode.plots.palette import GREY
from softmode.runs.run import Run

LABEL = r"drift eigenvalue $|\lambda_n|$ (1 / time)"
GROWS = r"$\lambda_n<0$, mode grows"


def shell_eigenvalues(ax: Axes, run: Run) -> None:
    r"""Draw $|\lambda_n|$, averaged over the axes, of three shells against time, each labelled at its end.

    Source: paper Figs. 3, 6 and 7, right; Eq. 64.
    """
    values, times = run.dataset["eigenvalue"].to_numpy().mean(-1), run.dataset["time"].to_numpy()
    shown, colors = shown_shells(values.shape[2]), shell_colours(values.shape[2])
    for n in shown:
        for curve in values[:, :, n]:
            signed_line(ax, times, curve, color=colors(n), linewidth=0.7, alpha=0.25)
        signed_line(ax, times, median(values[:, :, n]), color=colors(n), linewidth=2.2, gid=f"lambda_{n}")
    medians = median(values[:, :, shown])
    _scale(ax, medians)
    end_labels(ax, [(_last(medians[:, i]), f"$n={n}$", colors(n)) for i, n in enumerate(shown)])
    if (medians < 0).any():
        ax.plot([], [], color=GREY, linewidth=2.2, linestyle="--", label=GROWS)


def all_eigenvalues(ax: Axes, run: Run) -> None:
    r"""Draw the median $|\lambda_n|$ of every shell by colour, and the null model's of three shells, dotted."""
    data = run.dataset
    values, times = data["eigenvalue"].to_numpy().mean(-1), data["time"].to_numpy()
    colors, medians = shell_colours(values.shape[2]), median(values)
    for n in range(values.shape[2]):
        signed_line(ax, times, medians[:, n], color=colors(n), linewidth=1.6, gid=f"lambda_{n}")
    if (medians < 0).any():
        ax.plot([], [], color=GREY, linewidth=1.6, linestyle="--", label=GROWS)
    limits = [medians]
    if "null_eigenvalue" in data:
        null, shown = np.abs(data["null_eigenvalue"].to_numpy().mean(-1)), shown_shells(values.shape[2])
        for n in shown:
            name = f"Gaussian null, $n={', '.join(map(str, shown))}$" if n == shown[0] else "_nolegend_"
            ax.plot(times, null[:, n], color=colors(n), linewidth=1.4, linestyle=":", label=name, gid=f"null_{n}")
        limits.append(null[:, shown])
    _scale(ax, np.concatenate([part.ravel() for part in limits]))
    shell_colourbar(ax, values.shape[2])


def _scale(ax: Axes, values: Array) -> None:
    ax.set_yscale("log")
    ax.set_ylim(*magnitudes(values))
    ax.set_ylabel(LABEL)


def _last(values: Array) -> float:
    """Return the magnitude of the last defined value; NaN without one."""
    defined = np.abs(values[np.isfinite(values)])
    return float(defined[-1]) if len(defined) else np.nan
