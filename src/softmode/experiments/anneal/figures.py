"""What effort buys in each place: distance and recognition against cost, and samples of the same noise."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softmode.experiments.anneal.conditions import ABOVE, BELOW, MORE, PLAIN, SPREAD, WINDOW
from softmode.plots.fields import COLOURS, NORM, visible
from softmode.plots.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION
from softmode.runs.run import Run

STYLES = {
    MORE: (GREY, "s", "more levels"),
    SPREAD: (BLUE, "o", "correctors at all levels"),
    WINDOW: (VERMILLION, "D", "inside the window"),
    ABOVE: (GREEN, "^", "above it"),
    BELOW: (PURPLE, "v", "below it"),
}
PANELS = {"frechet": "Fréchet distance to real images", "recognised": "recognised share", "xi_x": r"$\xi_x$ (sites)"}
# places of one cost are drawn beside each other, by this factor
BESIDE = 1.03
# samples in a row
SHOWN = 10


def effort(run: Run) -> Figure:
    """Draw distance, recognition and correlation length against the network calls of a sample, for every place.

    Args:
        run: A finished run; without classes there is no share that is recognised.
    """
    values = run.results.values
    rows, real = values["conditions"], values["real"]
    shown = {name: text for name, text in PANELS.items() if np.isfinite(rows[0][name].value)}
    figure = Figure(figsize=(4.4 * len(shown), 5.2), layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for ax, (name, text) in zip(panels, shown.items(), strict=True):
        _panel(ax, rows, name)
        ax.set_ylabel(text)
        if np.isfinite(real[name].value):
            ax.axhline(real[name].value, color=ORANGE, linestyle=":", linewidth=2, label="real images", gid="real")
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    figure.suptitle(_caption(run), parse_math=False, fontsize="medium", wrap=True)
    return figure


def _panel(ax: Axes, rows: list[dict[str, Any]], name: str) -> None:
    """Draw one measure of every condition with 95 % intervals."""
    (plain,) = (row for row in rows if row["kind"] == PLAIN)
    for place, (kind, (color, marker, text)) in enumerate(STYLES.items()):
        own = [row for row in rows if row["kind"] == kind]
        calls = np.array([row["calls"] for row in own]) * BESIDE ** (place - 2)
        found = [row[name] for row in own]
        low, high = (np.array([abs(getattr(each, end) - each.value) for each in found]) for end in ("low", "high"))
        ax.errorbar(calls, [each.value for each in found], (low, high), color=color, marker=marker, markersize=8,
                    linewidth=1.2, capsize=3, label=text, gid=kind)  # fmt: skip
    each = plain[name]
    ax.errorbar([plain["calls"]], [each.value], ([each.value - each.low], [each.high - each.value]), color="black",
                marker="*", markersize=13, linestyle="", capsize=3, label="plain sampler", gid=PLAIN)  # fmt: skip
    ax.set_xscale("log")
    ticks = sorted({row["calls"] for row in rows})
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("network calls of a sample")


def samples(run: Run) -> Figure | None:
    """Draw samples of the same noise: of the plain sampler, and of each place at the largest effort.

    Args:
        run: A finished run of images.
    """
    images = run.dataset["image"]
    if images.ndim != 5:
        return None
    made = run.identity["conditions"]
    most = max(each["effort"] for each in made)
    rows = [(i, each) for i, each in enumerate(made) if each["effort"] in (0, most)]
    count = min(SHOWN, images.sizes["trajectory"])
    figure = Figure(figsize=(1.05 * count + 1.6, 1.1 * len(rows) + 0.7), layout="constrained")
    panels = figure.subplots(len(rows), count, squeeze=False)
    for row, (place, each) in enumerate(rows):
        for column, ax in enumerate(panels[row]):
            ax.imshow(visible(images[column, place].to_numpy()), cmap=COLOURS, norm=NORM, interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
        text = f"{each['kind']}\n{each['calls']} calls"
        panels[row][0].set_ylabel(text, rotation=0, ha="right", va="center", fontsize=13)
    figure.suptitle(_caption(run), parse_math=False, fontsize="medium", wrap=True)
    return figure


def _caption(run: Run) -> str:
    low, high = run.identity["window"]
    name, config = Path(run.identity["model"]["name"]).name, run.config
    return (
        f"{name}, window {low:.3g} to {high:.3g}, {config['trajectories']} samples of the same noise, corrector step "
        f"{config['length']:g} sigma^2, seed {config['seed']}"
    )


FIGURES = {"effort": effort, "samples": samples}
