"""The denoised state of one trajectory along the generation, as a strip of images."""

from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes

from softmode.estimate import Array
from softmode.plots.fields import COLOURS, NORM, visible
from softmode.plots.marks import SIZE
from softmode.runs.run import Run


def has_images(run: Run) -> bool:
    """Return whether a probe's states can be drawn as images: with two axes, or three."""
    return bool(run.dataset["denoised"].ndim >= 5)


def denoised_strip(ax: Axes, run: Run) -> None:
    """Draw D(x) of the first trajectory, each snapshot centred over its noise level.

    Args:
        ax: Axes whose x axis is the log of the noise level, its limits already set.
        run: A probe of states that can be drawn as images.

    Source: paper Fig. 1, top.
    """
    first, last = np.log(ax.get_xlim())
    levels = run.dataset["snapshot_level"].to_numpy()
    _draw(ax, run, (np.log(levels) - first) / (last - first), "{:.2g}")  # the axis below says of what


def even_strip(ax: Axes, run: Run) -> None:
    """Draw D(x) of the first trajectory, the snapshots side by side.

    Source: paper Fig. 1, top.
    """
    count = run.dataset.sizes["snapshot"]
    _draw(ax, run, (np.arange(count) + 0.5) / count, r"$\sigma/\alpha$ = {:.2g}")


def _draw(ax: Axes, run: Run, where: Array, title: str) -> None:
    """Draw the images with their centres at shares of the axes' width, and their noise levels in the title's form."""
    ax.set_axis_off()
    data = run.dataset
    fields, levels = data["denoised"].to_numpy()[0], data["snapshot_level"].to_numpy()
    box = ax.get_window_extent()
    room = min((abs(b - a) for a, b in pairwise(where)), default=1.0)
    # a square image as high as the axes, if neighbours leave that much room
    width = min(float(box.height / box.width), float(room))
    for field, level, x in zip(fields, levels, where, strict=True):
        panel = ax.inset_axes((x - width / 2, 0.0, width, 0.85))
        panel.imshow(visible(field), cmap=COLOURS, norm=NORM, interpolation="nearest")
        panel.set_title(title.format(level), fontsize=SIZE, pad=3)
        panel.set_xticks([])
        panel.set_yticks([])
