"""The cascade of softest modes: eigenvalues and extents along the noise levels, and the modes themselves."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softmode.estimate import Estimate, median
from softmode.experiments.instability.analyse import EXTENDED, Curves, shown_levels
from softmode.plots.curve_lines import trajectories_and_median
from softmode.plots.fields import draw_signed
from softmode.plots.noise_axis import interval, noise_axis
from softmode.plots.palette import BLUE, GREEN, GREY, SHADE, VERMILLION
from softmode.runs.run import Run

# modes in a row of the picture, and states in a column
COLUMNS, STATES = 8, 3
# noise levels at which the gains of all waves are mapped
MAPS = 4
# share of the largest of all gains that a map must reach to be shown, and fewest states whose means are no noise
SHOWN_FROM, FEWEST = 0.1, 8
TEXT = 13


def cascade(run: Run) -> Figure:
    """Draw the top eigenvalue of every state and the extent of its mode against the noise level.

    Above 1 a state is unstable. The line across the extents is a tenth of the sites, above which a mode is called
    extended.

    Args:
        run: A finished run.

    Source: paper Sec. 5; r = 0 of any mode.
    """
    curves, results = Curves.of(run), run.results
    figure = Figure(figsize=(10, 8), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    trajectories_and_median(top, curves.levels, curves.values)
    top.axhline(1, color=GREY, linewidth=1.2)
    top.set_ylim(0, 1.15 * float(np.quantile(curves.values, 0.98)))
    top.set_ylabel("top eigenvalue of $dD/dx$")
    top.annotate("unstable", (curves.levels[0], 1), (6, 6), textcoords="offset points", color=GREY, fontsize=TEXT)
    shown = np.where(curves.unstable, curves.extents, np.nan)
    bottom.plot(curves.levels, curves.extents.T, ".", color=SHADE, markersize=5, zorder=1)
    bottom.plot(curves.levels, shown.T, ".", color=BLUE, markersize=5, alpha=0.6, zorder=2)
    bottom.plot(curves.levels, median(curves.extents), color="black", linewidth=2.2, zorder=3)
    bottom.axhline(EXTENDED * curves.sites, color=GREEN, linestyle=":", linewidth=1.6)
    bottom.set_yscale("log")
    bottom.set_ylim(0.8, 1.3 * curves.sites)
    bottom.set_ylabel("sites of the softest mode")
    key = "blue: unstable states, grey: stable ones\nline: median, dotted: a tenth of the sites"
    bottom.text(0.015, 0.06, key, transform=bottom.transAxes, fontsize=TEXT)
    for ax in (top, bottom):
        _mark(ax, results["sigma_c"].estimate)
    if math.isfinite(results["sigma_c"].estimate.value):
        top.text(0.985, 0.95, rf"$\sigma_c$ = {results['sigma_c'].estimate}", transform=top.transAxes, ha="right",
                 va="top", color=VERMILLION, fontsize=TEXT)  # fmt: skip
    noise_axis(bottom, *interval(curves.levels))
    figure.suptitle(_caption(run), parse_math=False, fontsize="medium", wrap=True)
    return figure


def modes(run: Run) -> Figure | None:
    """Draw the softest modes of the first states along the noise levels, each on a scale of its own.

    Args:
        run: A finished run; a chain's modes are no images.
    """
    fields = run.dataset["mode"].to_numpy()[:STATES]
    if fields.ndim < 5:
        return None
    curves = Curves.of(run)
    places = shown_levels(len(curves.levels), COLUMNS)
    figure = Figure(figsize=(1.6 * len(places), 1.75 * len(fields) + 0.9), layout="constrained")
    panels = figure.subplots(len(fields), len(places), squeeze=False)
    for row, state in enumerate(fields):
        for ax, place in zip(panels[row], places, strict=True):
            field = state[place].sum(0, keepdims=True)
            if np.isnan(curves.extents[row, place]):  # of nothing there is no softest mode
                field = np.zeros_like(field)
            draw_signed(ax, field)
            unstable = bool(curves.unstable[row, place])
            extent = curves.extents[row, place]
            words = "no soft mode" if math.isnan(extent) else f"{extent:.0f} site{'s' * (round(extent) != 1)}"
            ax.text(0.5, -0.03, words, transform=ax.transAxes, ha="center", va="top", fontsize=TEXT,
                    color=VERMILLION if unstable else "black")  # fmt: skip
            if row == 0:
                ax.set_title(rf"$\sigma$ = {curves.levels[place]:.2g}", fontsize=TEXT)
    figure.suptitle(
        f"{_caption(run)}\nin colour: sites of an unstable state", parse_math=False, fontsize="medium", wrap=True
    )
    return figure


def waves(run: Run) -> Figure | None:
    """Draw the mean gain of every plane wave at a few noise levels, where it is above 0 by three standard errors.

    Args:
        run: A finished run of images; a chain's waves are no map, and the means of few states are noise.

    Source: paper Eq. 64 for every wave vector.
    """
    gains = run.dataset["wave_gain"].to_numpy().astype(float)
    if gains.ndim != 4 or len(gains) < FEWEST:
        return None
    levels, axes = run.dataset["level"].to_numpy(), (1, 2)
    mean, error = gains.mean(0), gains.std(0, ddof=1) / math.sqrt(len(gains))
    seen = np.fft.fftshift(np.where(mean > 3 * error, mean, 0.0), axes=axes)
    # between the highest noise and the lowest, where nothing answers
    heights = seen.max((1, 2))
    tall = np.flatnonzero(heights >= SHOWN_FROM * max(heights.max(), 1e-9))
    # the highest of all among them
    others = [int(tall[i]) for i in shown_levels(len(tall), MAPS) if tall[i] != heights.argmax()]
    places = sorted({int(heights.argmax()), *others[: MAPS - 1]})
    figure = Figure(figsize=(3.1 * len(places) + 0.8, 4.2), layout="constrained")
    panels = figure.subplots(1, len(places), squeeze=False)[0]
    top, (height, width) = float(seen[places].max()), seen.shape[1:]
    # wave vectors in units of the lowest
    ends = (-(width // 2) - 0.5, width - width // 2 - 0.5, -(height // 2) - 0.5, height - height // 2 - 0.5)
    for ax, place in zip(panels, places, strict=True):
        drawn = ax.imshow(seen[place], cmap="Blues", vmin=0, vmax=top or 1.0, extent=ends, origin="lower")
        ax.set_title(rf"$\sigma$ = {levels[place]:.2g}", fontsize=TEXT)
        ax.set_xlabel(r"$k_x$")
    panels[0].set_ylabel(r"$k_y$ (lowest wave = 1)")
    figure.colorbar(drawn, ax=panels.tolist(), label=r"mean gain $G_k$", shrink=0.8)
    what = _caption(run).removeprefix("softest modes of ")
    text = f"gains of all plane waves of {what}\nwhite: none, or below three standard errors"
    figure.suptitle(text, parse_math=False, fontsize="medium", wrap=True)
    return figure


def _mark(ax: Axes, sigma_c: Estimate) -> None:
    if not math.isfinite(sigma_c.value):
        return
    ax.axvline(sigma_c.value, color=VERMILLION, linestyle="--", linewidth=1.8, gid="sigma_c")
    if math.isfinite(sigma_c.low):
        ax.axvspan(sigma_c.low, sigma_c.high, color=VERMILLION, alpha=0.15, linewidth=0, gid="sigma_c")


def _caption(run: Run) -> str:
    states = "noised data" if run.config["states"] == "forward" else "states of the flow"
    count = run.dataset.sizes["trajectory"]
    return f"softest modes of {run.identity['model']['name']} at {count} {states}, seed {run.config['seed']}"


FIGURES = {"cascade": cascade, "modes": modes, "waves": waves}
