"""The figure of the critical dynamics: correlation lengths, their growth and the softening of Fourier modes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softmode.critical import growth_rate
from softmode.estimate import median
from softmode.plots.caption import caption, is_probe
from softmode.plots.curve_lines import trajectories_and_median
from softmode.plots.eigenvalue_panel import shell_eigenvalues
from softmode.plots.length_panel import equilibrium_length
from softmode.plots.marks import draw_marks, marked
from softmode.plots.noise_axis import time_axis, top_noise_axis
from softmode.plots.null_lines import null_line
from softmode.plots.strip import even_strip, has_images
from softmode.runs.run import Run

# inches of a figure across, of two rows of panels, and of a strip of images above them
WIDTH, HEIGHT, STRIP = 13.0, 9.2, 1.8
XI_OF = {"xi_sign": r"of sign$(x)$", "xi_moment": "second moment of $x$"}
# what each panel marks, the most important first; the theory's time comes first where there is one
MARKED = (("t_c_score_omega",), ("xi_eq_gain_peak",), ("growth_peak", "growth_onset"), ("lambda_0_zero",))
TITLES = ("correlations of the state", "correlations at equilibrium", "growth of correlations", "softening of modes")


def critical_dynamics(run: Run) -> Figure:
    r"""Draw correlation lengths, growth rate and drift eigenvalues against time, each with its critical times.

    (a) $\xi_x(t)$. (b) The convention-free $\xi_{\mathrm{eq}}(t)$, with the bands where its median is undefined.
    (c) $-d\xi_x/d\log t$. (d) $|\lambda_n(t)|$ of three shells, negative values dashed. Thin curves are trajectories,
    thick ones medians over them, bands around the marked times 95 % intervals. Dashed in grey is the Gaussian null
    model of a probe, which has the denoised state of one trajectory above as a strip of images. Other conventions,
    shells and critical times are in the figure of details.

    Args:
        run: A finished run of a patch model or a probe.

    Source: paper Figs. 1, 3, 6 and 7; E.11 and G.7.
    """
    strip = is_probe(run) and has_images(run)
    figure = Figure(figsize=(WIDTH, HEIGHT + STRIP * strip), layout="constrained")
    grid = figure.add_gridspec(2 + strip, 2, height_ratios=[*[0.35] * strip, 1, 1])
    first = figure.add_subplot(grid[-2, 0])
    panels = [first, *(figure.add_subplot(grid[place], sharex=first) for place in ((-2, 1), (-1, 0), (-1, 1)))]
    if strip:
        even_strip(figure.add_subplot(grid[0, :]), run)
    lettered(panels, TITLES)
    for ax in panels:
        time_axis(ax, run)
    for draw, ax, kinds in zip((_length, equilibrium_length, _growth, shell_eigenvalues), panels, MARKED, strict=True):
        draw(ax, run)
        draw_marks(ax, marked(run.results, kinds))
    for ax in panels[:2]:
        ax.tick_params(labelbottom=False)
        ax.set_xlabel("")
        top_noise_axis(ax, run)
    # lines are the same in all panels, and growth has ended where generation ends
    panels[2].legend(loc="upper right", bbox_to_anchor=(1, 0.85))
    if panels[3].get_legend_handles_labels()[1]:
        panels[3].legend(loc="lower right")
    figure.suptitle(caption(run), parse_math=False, fontsize="medium")
    return figure


def lettered(panels: Sequence[Axes], titles: Sequence[str]) -> None:
    """Give panels a letter and a title each."""
    for letter, ax, title in zip("abcdef", panels, titles, strict=False):
        ax.set_title(f"({letter}) {title}", loc="left")


def _length(ax: Axes, run: Run) -> None:
    data, times = run.dataset, run.dataset["time"].to_numpy()
    name = run.identity["model"]["xi"] if is_probe(run) else "xi_sign"
    xi = data[name].to_numpy()
    trajectories_and_median(ax, times, xi)
    if "null_xi_x" in data:
        null_line(ax, run, median(data["null_xi_x"].to_numpy()))
    ax.set_ylim(bottom=min(0.0, float(np.nanmin(xi, initial=0.0))))
    ax.set_ylabel(rf"$\xi_x$ {XI_OF[name]} (sites)")


def _growth(ax: Axes, run: Run) -> None:
    data, times = run.dataset, run.dataset["time"].to_numpy()
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    trajectories_and_median(ax, times, data["growth"].to_numpy())
    if "null_xi_x" in data:
        null_line(ax, run, median(growth_rate(data["null_xi_x"].to_numpy(), times)))
    ax.set_ylabel(r"growth rate $-d\xi_x/d\log t$ (sites)")
