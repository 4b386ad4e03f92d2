"""A soft sector in a picture: eigenvalues, the whole spectrum, the signs of U, and the modes themselves."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from softmode.experiments.sector.analyse import shares
from softmode.experiments.sector.sectors import Sectors
from softmode.plots.fields import draw_signed
from softmode.plots.palette import BLUE, GREY, SHADE, VERMILLION
from softmode.runs.run import Run

# states whose modes are shown
STATES = 3
# eigenvalues at which the share above is drawn
POINTS = 200
TEXT = 13


def sector(run: Run) -> Figure:
    """Draw the eigenvalues of the modes of every state, the share of all above a level, and the range of U.

    Args:
        run: A finished run.

    Source: paper C.5; r = 0 of any mode, Eq. 4.
    """
    sectors = Sectors.of(run)
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _eigenvalues(left, sectors)
    _spectrum(middle, run, sectors)
    _signs(right, sectors)
    figure.suptitle(_caption(run), parse_math=False, fontsize="medium", wrap=True)
    return figure


def modes(run: Run) -> Figure | None:
    """Draw the softest modes of the first states, with their eigenvalues.

    Args:
        run: A finished run; a chain's modes are no images.
    """
    fields = run.dataset["mode"].to_numpy()[:STATES]
    if fields.ndim < 5:
        return None
    values = Sectors.of(run).values
    figure = Figure(figsize=(max(2.0 * fields.shape[1] + 0.4, 6.4), 2.2 * len(fields) + 0.7), layout="constrained")
    panels = figure.subplots(len(fields), fields.shape[1], squeeze=False)
    for row, state in enumerate(fields):
        for ax, field, value in zip(panels[row], state, values[row], strict=True):
            draw_signed(ax, field.sum(0, keepdims=True))
            ax.set_title(f"{value:.2f}", fontsize=TEXT, color=VERMILLION if value > 1 else "black")
    figure.suptitle(f"{_caption(run)}\neach row a state, above each mode its eigenvalue", parse_math=False,
                    fontsize="medium", wrap=True)  # fmt: skip
    return figure


def _eigenvalues(ax: Axes, sectors: Sectors) -> None:
    places = np.arange(1, sectors.values.shape[1] + 1)
    ax.plot(places, sectors.values.T, color=SHADE, linewidth=1, marker=".", markersize=5)
    ax.plot(places, np.median(sectors.values, axis=0), color="black", linewidth=2.2)
    ax.axhline(1, color=GREY, linewidth=1.2)
    ax.set_xticks(places)
    ax.set_xlabel("mode of a state")
    ax.set_ylabel("eigenvalue of $dD/dx$")
    ax.set_title("(a) softest modes", loc="left", fontsize=TEXT)


def _spectrum(ax: Axes, run: Run, sectors: Sectors) -> None:
    levels = np.linspace(-0.2, 1.05 * float(sectors.values.max()), POINTS)
    low, high = shares(run, levels)
    ax.fill_between(levels, low, high, color=BLUE, alpha=0.4, linewidth=0)
    ax.axvline(1, color=GREY, linewidth=1.2)
    ax.set_yscale("log")
    ax.set_ylim(0.5 / np.prod(run.identity["model"]["shape"]), 1.5)
    ax.set_xlabel(r"eigenvalue $\lambda$")
    ax.set_ylabel(r"share of eigenvalues above $\lambda$")
    ax.set_title("(b) whole spectrum, bounds", loc="left", fontsize=TEXT)


def _signs(ax: Axes, sectors: Sectors) -> None:
    """Draw the least and the largest value of U over directions, in units of the larger size, sorted."""
    order = np.argsort(sectors.low / sectors.size)
    softest = sectors.quartic[:, 0, 0, 0, 0]
    low, high, own = (each[order] / sectors.size[order] for each in (sectors.low, sectors.high, softest))
    places = np.arange(1, len(low) + 1)
    ax.vlines(places, low, high, color=SHADE, linewidth=3)
    ax.plot(places, own, "o", color="black", markersize=5)
    ax.axhline(0, color=GREY, linewidth=1.2)
    ax.set_ylim(-1.1, 1.1)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("state, sorted")
    ax.set_ylabel("$U(q, q, q, q)$ / largest size")
    ax.set_title("(c) range of U; dot: softest mode", loc="left", fontsize=TEXT)


def _caption(run: Run) -> str:
    where = {"forward": "noised data", "reverse": "states of the flow", "symmetric": "x = 0"}[run.config["states"]]
    count = run.dataset.sizes["trajectory"]
    at = where if run.config["states"] == "symmetric" else f"{count} {where}"
    return f"soft sector of {run.identity['model']['name']} at sigma = {run.config['sigma']:.3g}, {at}"


FIGURES = {"sector": sector, "modes": modes}
