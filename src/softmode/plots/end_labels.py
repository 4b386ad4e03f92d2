"""Labels of curves at their ends, in the margin to the right of a panel."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from softmode.estimate import Array

# least distance of two labels, as a share of the panel's height
APART = 0.1


def end_labels(ax: Axes, ends: Sequence[tuple[float, str, Any]]) -> None:
    """Write labels to the right of a panel at the heights where their curves end, moved apart where these are close.

    Args:
        ax: Where, with the limits of y set.
        ends: Last value of each curve, its label and its colour.
    """
    scale = ax.yaxis.get_transform()
    low, high = scale.transform(list(ax.get_ylim()))
    shares = (scale.transform([value for value, _, _ in ends]) - low) / (high - low)
    shares = np.clip(np.nan_to_num(shares, nan=0.5), 0.0, 1.0)
    order = np.argsort(shares, kind="stable")
    heights = scale.inverted().transform(low + (high - low) * apart(shares[order], APART))
    for place, y in zip(order, heights, strict=True):
        _, text, color = ends[place]
        ax.annotate(
            text, (1.015, y), xycoords=("axes fraction", "data"), color=color, va="center", annotation_clip=False
        )


def apart(places: Array, least: float) -> Array:
    """Return rising places moved so that neighbours are at least so far apart and none is above 1."""
    moved = places.copy()
    for i in range(1, len(places)):
        moved[i] = max(moved[i], moved[i - 1] + least)
    # about where they were
    moved -= (moved - places).mean()
    return np.asarray(moved - max(0.0, moved[-1] - 1.0))
