"""Information along the noise levels: labels, their pairs, and the sample's Fourier modes."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from softmode.cumulative import rates, simultaneous
from softmode.estimate import Estimate
from softmode.experiments.information.analyse import Known, labels_of, pair_levels
from softmode.plots.noise_axis import interval, noise_axis
from softmode.plots.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, SHADE, VERMILLION
from softmode.runs.run import Run

COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, "black")
TEXT = 13


def information(run: Run) -> Figure:
    """Draw what is known of each label down to each noise level, and below it how fast it is gained.

    Several labels are drawn as shares of their entropies. Bands hold the whole curve with 95 %. Without labels: the
    rates at which the sample, and its departure from the Gaussian null model, are decided.

    Args:
        run: A finished run.

    Source: the path posterior; guo2005.
    """
    known, levels = labels_of(run), run.dataset["level"].to_numpy()
    figure = Figure(figsize=(10, 8 if known else 5), layout="constrained")
    if not known:
        _sample(figure.subplots(), run)
    else:
        top, bottom = figure.subplots(2, 1, sharex=True)
        for place, each in enumerate(known):
            _known(top, bottom, each, levels, COLOURS[place % len(COLOURS)], len(known) > 1)
        top.axhline(1 if len(known) > 1 else known[0].entropy, color=GREY, linestyle=":", linewidth=1.4)
        top.set_ylim(bottom=0)
        top.set_ylabel("known, share of entropy" if len(known) > 1 else f"known of the {known[0].name} (nats)")
        bottom.set_ylabel(r"gained per unit of $\log\sigma$")
        bottom.axhline(0, color=GREY, linewidth=1)
        if len(known) == 1:
            _window(run, (top, bottom))
            unknown = bool(np.isnan(known[0].score).any())
            line = "dotted: log K" if unknown else "dotted: log K; dashed: log K + log q(true)"
            top.text(0.985, 0.06, line, transform=top.transAxes, ha="right", fontsize=TEXT)
        else:
            top.legend(loc="upper left", fontsize=TEXT)
        noise_axis(bottom, *interval(levels))
    figure.suptitle(_caption(run), parse_math=False, fontsize="medium", wrap=True)
    return figure


def _known(top: Axes, bottom: Axes, known: Known, levels: np.ndarray, color: str, shares: bool) -> None:
    unit = known.entropy if shares else 1.0
    groups = known.truth.tolist()
    for ax, curves, at in (
        (top, known.information, levels),
        (bottom, rates(known.information, levels), np.sqrt(levels[1:] * levels[:-1])),
    ):
        mean, low, high = simultaneous(curves / unit, groups)
        ax.fill_between(at, low, high, color=color, alpha=0.2, linewidth=0)
        ax.plot(at, mean, color=color, linewidth=2.2, label=known.name, gid="information")
    if not shares and not np.isnan(known.score).any():
        top.plot(levels, known.score.mean(0), "--", color="black", linewidth=1.4, gid="score")


def _window(run: Run, panels: tuple[Axes, ...]) -> None:
    found = run.results
    low, high, half = (found[name].estimate for name in ("sigma_lo", "sigma_hi", "sigma_half"))
    for ax in panels:
        ax.axvspan(high.value, low.value, color=SHADE, linewidth=0, zorder=0, gid="window")
        ax.axvline(half.value, color=VERMILLION, linestyle="--", linewidth=1.8, gid="half")
    share, words = run.config["share"], f"{low.value:.2g} to {high.value:.2g}"
    panels[0].text(0.015, 0.95, f"grey: {share:.0%} of it, {words}\nhalf by {_said(half)}", va="top", fontsize=TEXT,
                   transform=panels[0].transAxes)  # fmt: skip


def _said(estimate: Estimate) -> str:
    return rf"$\sigma$ = {estimate}"


def _sample(ax: Axes, run: Run) -> None:
    levels = run.dataset["level"].to_numpy()
    error = run.dataset["error"].to_numpy().sum(2)
    lines = [("the sample", error, BLUE)]
    if "null_error" in run.dataset:
        lines.append(("its departure from a Gaussian", run.dataset["null_error"].to_numpy().sum(2) - error, VERMILLION))
    for name, curves, color in lines:
        mean, low, high = simultaneous(curves)
        ax.fill_between(levels, low, high, color=color, alpha=0.2, linewidth=0)
        ax.plot(levels, mean, color=color, linewidth=2.2, label=name)
    ax.axhline(0, color=GREY, linewidth=1)
    ax.set_ylabel(r"decided per unit of $\log\sigma$ (nats)")
    ax.legend(fontsize=TEXT)
    noise_axis(ax, *interval(levels))


def modes(run: Run) -> Figure:
    """Draw the information about the sample that each band of Fourier modes gains at each noise level, per mode.

    Args:
        run: A finished run.

    Source: guo2005; by Parseval over Fourier modes.
    """
    data = run.dataset
    levels, sizes = data["level"].to_numpy(), data["band_size"].to_numpy()
    rate = data["error"].to_numpy().mean(0) / sizes
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    ax = figure.subplots()
    image = ax.pcolormesh(
        levels, np.arange(len(sizes)), rate.T, norm=LogNorm(max(float(rate.max()) * 1e-3, 1e-12), float(rate.max())),
        cmap="viridis", shading="nearest",
    )  # fmt: skip
    figure.colorbar(image, ax=ax, label=r"nats per mode and unit of $\log\sigma$", extend="min")
    ax.set_ylabel("wavenumber, of the lowest")
    noise_axis(ax, float(levels[0]), float(levels[-1]))
    figure.suptitle(_caption(run), parse_math=False, fontsize="medium", wrap=True)
    return figure


def pairs(run: Run) -> Figure | None:
    """Draw the noise level by which half of what tells two values of a label apart is known, for every pair.

    Args:
        run: A finished run; of several labels, or of one with two values, there is nothing to draw.
    """
    known = labels_of(run)
    if len(known) != 1 or len(known[0].values) < 3:
        return None
    levels, names = run.dataset["level"].to_numpy(), known[0].values
    half = pair_levels(run.dataset["likelihood"].to_numpy(), known[0].truth, levels)
    side = max(6.0, 0.62 * len(names) + 2.2)
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(half, norm=LogNorm(), cmap="viridis")
    middle = float(np.sqrt(np.nanmin(half) * np.nanmax(half)))
    for a, b in zip(*np.nonzero(np.isfinite(half)), strict=True):
        dark = half[a, b] < middle
        ax.text(b, a, f"{half[a, b]:.2g}", ha="center", va="center", color="white" if dark else "black", fontsize=TEXT)
    ax.set_xticks(range(len(names)), names, rotation=90)
    ax.set_yticks(range(len(names)), names)
    figure.colorbar(image, ax=ax, label=r"noise level by which half is known", shrink=0.8)
    figure.suptitle(_caption(run), parse_math=False, fontsize="medium", wrap=True)
    return figure


def _caption(run: Run) -> str:
    count, noised = run.dataset.sizes["trajectory"], run.identity["noised"]
    return f"{run.identity['model']['name']}: {count} of {noised}, noised along paths, seed {run.config['seed']}"


FIGURES = {"information": information, "pairs": pairs, "modes": modes}
