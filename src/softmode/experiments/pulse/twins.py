"""Guided samples beside their unguided twins, and how the two part along the generation (paper Fig. 4A, H.9)."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from softmode.estimate import Array
from softmode.experiments.pulse_summary import CRITICAL, names_of, shape_of
from softmode.plots.fields import COLOURS, NORM, visible
from softmode.runs.run import Run

UNGUIDED = "unguided"
# classes whose first trials are shown side by side, and along the generation
TWINS, PATHS = 10, 3
PANEL = 1.25
MARK = "#c00000"


def caption(run: Run) -> str:
    """Return one line that says which experiment on guidance a figure shows."""
    config = run.config
    classes, trials = shape_of(run)
    name = "/".join(Path(run.identity["model"]["name"]).parts[-2:])
    return (
        f"model {name}, guide {Path(config['guide']).name}, w = {config['weight']:g}, "
        f"{classes} classes × {trials} trials, {config['steps']} levels, seed {config['seed']}"
    )


def twins(run: Run) -> Figure:
    """Draw the sample of each class's first trial without guidance, and below it that of the critical pulse.

    Each has the classifier's probability of the target class above it.

    Args:
        run: A finished run of a pulse experiment.

    Source: paper Fig. 4A.
    """
    shown, trials = min(TWINS, shape_of(run)[0]), shape_of(run)[1]
    names, labels = names_of(run), run.identity["model"]["labels"]
    figure = Figure(figsize=(1.2 + PANEL * shown, 3.9), layout="constrained")
    panels = figure.subplots(2, shown, squeeze=False)
    for row, name in enumerate((UNGUIDED, CRITICAL)):
        at = run.dataset.isel(condition=names.index(name))
        for place in range(shown):
            sample = at.isel(trajectory=place * trials)
            _image(panels[row, place], sample["image"].to_numpy())
            title = f"p = {float(sample['probability']):.2f}"
            panels[row, place].set_title(title if row else f"class {labels[place]}\n{title}", fontsize="small")
        panels[row, 0].set_ylabel({UNGUIDED: "unguided", CRITICAL: "critical pulse"}[name])
    figure.suptitle(
        f"{caption(run)}\nfirst trial of every class, from the same noise; p: probability of the class",
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
    figure = Figure(figsize=(1.2 + PANEL * len(levels), 1.1 + 2.7 * shown), layout="constrained")
    panels = figure.subplots(2 * shown, len(levels), squeeze=False)
    for place in range(shown):
        for below, name in enumerate((UNGUIDED, CRITICAL)):
            row = panels[2 * place + below]
            at = data["path"].isel(condition=names.index(name), trajectory=place * trials).to_numpy()
            for ax, field, inside in zip(row, at, guided, strict=True):
                _image(ax, field)
                if inside and below:
                    ax.add_patch(
                        Rectangle(
                            (0, 0), 1, 1, transform=ax.transAxes, fill=False, edgecolor=MARK, linewidth=4, gid="pulse"
                        )
                    )
            row[0].set_ylabel(f"class {labels[place]}\n{('unguided', 'critical')[below]}", fontsize="small")
    for ax, level in zip(panels[0], levels, strict=True):
        ax.set_title(rf"$\sigma$ = {level:.2g}", fontsize="small")
    figure.suptitle(
        f"{caption(run)}\nD(x) of first trials along the generation →; framed: the pulse acts", parse_math=False,
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
