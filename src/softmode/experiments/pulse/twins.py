"""Guided samples beside their unguided twins, and how the two part along the generation (paper Fig. 4A, H.9)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from softmode.estimate import Array
from softmode.experiments.pulse.analyse import CRITICAL, about, names_of, shape_of
from softmode.plots.fields import COLOURS, NORM, visible
from softmode.runs.run import Run

UNGUIDED = "unguided"
# classes whose first trials are shown side by side, and along the generation
TWINS, PATHS = 10, 3
WIDTH, PANEL = 11.0, 1.0
MARK = "#c00000"


def twins(run: Run, guided: str = CRITICAL, text: str = "critical\npulse") -> Figure:
    """Draw the sample of each class's first trial without guidance, and below it that of the critical pulse.

    Each has the classifier's probability of the target class above it.

    Args:
        run: A finished run of an experiment on guidance.
        guided: Another condition in place of the critical pulse.
        text: What it is called.

    Source: paper Fig. 4A.
    """
    shown, trials = min(TWINS, shape_of(run)[0]), shape_of(run)[1]
    names, labels = names_of(run), run.identity["model"]["labels"]
    figure = Figure(figsize=(max(WIDTH, 1 + PANEL * shown), 3.6), layout="constrained")
    panels = figure.subplots(2, shown, squeeze=False)
    for row, name in enumerate((UNGUIDED, guided)):
        at = run.dataset.isel(condition=names.index(name))
        for place in range(shown):
            sample = at.isel(trajectory=place * trials)
            _image(panels[row, place], sample["image"].to_numpy())
            title = f"p = {float(sample['probability']):.2f}"
            panels[row, place].set_title(title if row else f"class {labels[place]}\n{title}", fontsize="medium")
        panels[row, 0].set_ylabel("unguided" if name == UNGUIDED else text)
    figure.suptitle(
        f"{about(run)}\nfirst trial of every class, from the same noise; p: probability of the class",
        parse_math=False, fontsize="medium", wrap=True,
    )  # fmt: skip
    return figure


def paths(run: Run) -> Figure:
    """Draw D(x) of guided and unguided twins at ten noise levels; those at which the pulse acts are framed.

    Args:
        run: A finished run of a pulse experiment.

    Source: paper H.9.
    """
    shown, trials = min(PATHS, shape_of(run)[0]), shape_of(run)[1]
    names, labels, data = names_of(run), run.identity["model"]["labels"], run.dataset
    levels = data["snapshot_level"].to_numpy()
    weight = data["weight"].isel(trajectory=0, condition=names.index(CRITICAL)).to_numpy()
    guided = weight[[int(np.abs(data["level"].to_numpy() - level).argmin()) for level in levels]] != 0
    figure = Figure(figsize=(WIDTH, 1.2 + 2.15 * PANEL * shown), layout="constrained")
    # the first pair has the noise levels above it
    heights = [2.15 * PANEL + (0.3 if place == 0 else 0) for place in range(shown)]
    pairs = figure.subfigures(shown, 1, hspace=0.06, squeeze=False, height_ratios=heights)[:, 0]
    for place, pair in enumerate(pairs):
        panels = pair.subplots(2, len(levels), squeeze=False)
        for row, name in zip(panels, (UNGUIDED, CRITICAL), strict=True):
            at = data["path"].isel(condition=names.index(name), trajectory=place * trials).to_numpy()
            for ax, field, inside in zip(row, at, guided, strict=True):
                _image(ax, field)
                if inside and name == CRITICAL:
                    ax.add_patch(
                        Rectangle(
                            (0, 0), 1, 1, transform=ax.transAxes, fill=False, edgecolor=MARK, linewidth=4, gid="pulse"
                        )
                    )
            row[0].set_ylabel({UNGUIDED: "unguided", CRITICAL: "pulse"}[name])
        pair.supylabel(f"class {labels[place]}", fontsize="medium", fontweight="bold")
        if place == 0:
            for ax, level in zip(panels[0], levels, strict=True):
                ax.set_title(rf"$\sigma$ = {level:.2g}", fontsize="medium")
    figure.suptitle(
        f"{about(run)}\nD(x) of first trials along the generation →; framed: the pulse acts", parse_math=False,
        fontsize="medium", wrap=True,
    )  # fmt: skip
    return figure


def _image(ax: Axes, field: Array) -> None:
    """Draw a field [channel, *space] with two or three axes as an image, or a curve in one."""
    shown = visible(field)
    if shown.ndim == 1:
        ax.plot(shown, color="black", linewidth=0.8)
        ax.set_ylim(-1.5, 1.5)
    else:
        ax.imshow(shown, cmap=COLOURS, norm=NORM, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
