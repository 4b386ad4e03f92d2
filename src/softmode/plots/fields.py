"""A state as an image: which part of it is drawn, and in which colours."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from softmode.estimate import Array

COLOURS = "RdBu_r"
# of images of one channel, whose data lie between -1 and 1
NORM = Normalize(-1, 1)
SIGNS = Normalize(-1.5, 1.5)


def draw_signed(ax: Axes, field: Array) -> None:
    """Draw a field [channel, *space] of either sign on a colour scale of its own, 0 in the middle, without axes."""
    limit = float(np.abs(field).max()) or 1.0
    ax.imshow(visible(field), cmap=COLOURS, vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set_axis_off()


def draw_signs(ax: Axes, field: Array) -> None:
    """Draw signs [*space] in two colours that are not the darkest, without ticks; of three dimensions a plane."""
    ax.imshow(field if field.ndim == 2 else field[0], cmap=COLOURS, norm=SIGNS, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])


def visible(field: Array) -> Array:
    """Return a field [channel, *space] as it is drawn: a curve [x], an image [y, x] or a colour image [y, x, 3].

    In d = 3 it is the central slice; three channels in d >= 2 are colours from -1 to 1; else the first is taken.
    """
    if field.ndim == 4:
        field = field[:, field.shape[1] // 2]
    if field.ndim == 3 and len(field) == 3:
        return np.clip((np.moveaxis(field, 0, -1) + 1) / 2, 0, 1)
    return np.asarray(field[0])
