"""A picture of a model's first samples beside the first real images, none chosen."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from softmode.runs.draw import styled
from softmode.runs.files import staged

# rows and columns
SIDE = 4


def write_sheet(path: str, images: Tensor, real: Tensor, titles: Sequence[str], wrong: Sequence[bool]) -> None:
    """Draw the first sixteen samples, and beside them the first sixteen real images.

    Args:
        path: PNG file.
        images: Samples [sample, channel, height, width] with values in [-1, 1].
        real: Held-out images.
        titles: What each sample was to be, above it; none where a model has no classes.
        wrong: Whether the classifier sees something else, which is written in red.
    """
    with styled():
        figure = Figure(figsize=(10.0, 5.3 + 0.7 * bool(titles)), layout="constrained")
        blocks = figure.subfigures(1, 2, squeeze=False, wspace=0.05)[0]
        for block, name, shown in zip(blocks, ("samples", "held-out images"), (images, real), strict=True):
            block.suptitle(f"{min(len(shown), SIDE**2)} {name}", fontsize=14)
            panels = block.subplots(SIDE, SIDE).ravel()
            for ax in panels:
                ax.set_axis_off()
            for ax, image in zip(panels, (shown.clamp(-1, 1) + 1) / 2, strict=False):
                ax.imshow(np.moveaxis(image.numpy(), 0, -1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            for ax, title, red in zip(panels, titles if shown is images else (), wrong, strict=False):
                ax.set_title(title, color="tab:red" if red else "black", fontsize=11)
        with staged(Path(path)) as stage:
            FigureCanvasAgg(figure).print_png(str(stage))  # type: ignore[no-untyped-call] # matplotlib leaves it so
