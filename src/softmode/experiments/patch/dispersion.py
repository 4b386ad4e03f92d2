"""The dispersion of the reverse drift as a map over wavenumber and time."""

import itertools
import math
from collections.abc import Callable

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import AsinhNorm, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from softmode.estimate import Array, median
from softmode.lattice import ReceptiveField
from softmode.plots.caption import caption
from softmode.plots.critical_dynamics import WIDTH
from softmode.plots.marks import draw_marks, marked
from softmode.plots.noise_axis import time_axis
from softmode.plots.palette import ORANGE
from softmode.process import parse_process
from softmode.runs.run import Run

WAVENUMBERS = 181
# growing modes have small ratios: a scale that is linear at zero and flattens beyond 0.3 shows them and the rest
NORM = AsinhNorm(0.3, vmin=-1, vmax=1)
# light ends, on which lines stand out
COLOURS = LinearSegmentedColormap.from_list("light RdBu", matplotlib.colormaps["RdBu"](np.linspace(0.12, 0.88, 256)))


def dispersion(run: Run) -> Figure:
    r"""Draw the drift eigenvalue $\lambda(k, t)$ along the axes and, in d >= 2, along the diagonals.

    The map shows $\lambda(k, t)/\lambda_{G=0}(t)$, relative to a mode that the denoiser does not answer at all: it has
    the sign of $\lambda$ and stays bounded at small t, where $\lambda$ itself grows like $1/\sigma^2$.

    Args:
        run: A finished run.

    Source: paper Eqs. 7 and 58; E.8.
    """
    d = int(run.config["dimensions"])
    directions = [np.eye(d)]
    if d > 1:
        directions.append(np.array([(1, *signs) for signs in itertools.product((1, -1), repeat=d - 1)], dtype=float))
    figure = Figure(figsize=(WIDTH if d > 1 else 0.7 * WIDTH, 6.2), layout="constrained")
    axes = list(figure.subplots(1, len(directions), sharex=True, sharey=True, squeeze=False)[0])
    for ax, vectors in zip(axes, directions, strict=True):
        mesh, lines = _map(ax, run, vectors)
        time_axis(ax, run)
        draw_marks(ax, marked(run.results, ("t_c_score_omega",)), above=False)
    axes[0].set_title("along an axis" + (f" (mean of the {d})" if d > 1 else ""))
    for ax in axes[1:]:
        title = rf"along a diagonal (mean of the {len(vectors)}), $|k_\mu|=k$, $|\mathbf{{k}}|=\sqrt{{{d}}}\,k$"
        ax.set_title(title)
    axes[0].set_ylabel("wavenumber $k$ (radians per site)")
    axes[0].set_yticks([0, math.pi / 2, math.pi], ["0", r"$\pi/2$", r"$\pi$"])
    ticks = [-1, -0.5, -0.2, 0, 0.2, 0.5, 1]
    figure.colorbar(
        mesh, ax=axes, extend="both", ticks=ticks, format="{x:g}", label=r"$\lambda(k,t)\,/\,\lambda_{G=0}(t)$"
    )
    figure.legend(handles=lines, loc="outside lower center", ncols=2)
    figure.suptitle(caption(run), parse_math=False, fontsize="medium")
    return figure


def relative_eigenvalue(run: Run, k: Array, directions: Array) -> Array:
    r"""Return $\lambda(k, t)/\lambda_{G=0}(t)$ of the reverse SDE's drift, for wave vectors k times each direction.

    Args:
        run: A run with `kernel`, the site-averaged Jacobian row of the denoiser, and `offsets`.
        k: Wavenumbers [k] (radians per site).
        directions: Directions [direction, d], averaged over; not normalised.

    Returns:
        Ratios [trajectory, time, k].
    """
    data = run.dataset
    field = ReceptiveField(tuple(tuple(int(c) for c in u) for u in data["offsets"].to_numpy()))
    vectors = torch.tensor(k[:, None, None] * directions)
    gain = field.transform(vectors, torch.tensor(data["kernel"].to_numpy())).real.mean(-1)
    process, t = parse_process(run.config["schedule"]), torch.tensor(data["time"].to_numpy())[:, None]
    ratio = process.eigenvalue(gain, t, "sde") / process.eigenvalue(torch.zeros((), dtype=torch.float64), t, "sde")
    return np.asarray(ratio.numpy())


def _map(ax: Axes, run: Run, directions: Array) -> tuple[QuadMesh, list[Line2D]]:
    """Draw one map with its zero contour and growing edge; return those that it has, for the legend."""
    data, k = run.dataset, np.linspace(0.0, math.pi, WAVENUMBERS)
    times = data["time"].to_numpy()
    values = median(relative_eigenvalue(run, k, directions)).T
    mesh = ax.pcolormesh(
        cell_edges(np.log(times), np.exp), cell_edges(k), values, cmap=COLOURS, norm=NORM, rasterized=True
    )
    handles = []
    if values.min() < 0 < values.max():
        ax.contour(times, k, values, levels=[0.0], colors="black", linewidths=1.6)
        handles.append(
            Line2D([], [], color="black", linewidth=1.6, label=r"$\lambda(k,t)=0$, median; inside, modes grow")
        )
    # the fit's edge is a length |k|; along a diagonal each component is shorter by sqrt(d)
    edge = median(data["growing_edge"].to_numpy()) / float(np.linalg.norm(directions[0]))
    if np.isfinite(edge).any():
        label = "growing edge $k^*$ of the quadratic fit, median"
        handles += ax.plot(times, edge, color=ORANGE, linewidth=2.0, linestyle="--", label=label, gid="growing_edge")
    ax.set_ylim(0, math.pi)
    return mesh, handles


def cell_edges(centres: Array, scale: Callable[[Array], Array] = np.asarray) -> Array:
    """Return the edges [n + 1] of cells around n >= 2 centres, halfway between them, mapped by `scale`."""
    inner = (centres[1:] + centres[:-1]) / 2
    return scale(np.concatenate([[centres[0]], inner, [centres[-1]]]))
