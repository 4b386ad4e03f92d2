"""Final states of a clone run: of one trajectory, and of its first copy from each time of copying."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from softmode.data import CLASSES
from softmode.estimate import Array
from softmode.runs.run import Run

# states in a row
COLUMNS = 9
# share of all site values inside the grey scale, as single sites can lie far outside
COLOUR_SHARE = 0.95


def rows_of(states: int) -> int:
    """Return how many rows so many states take."""
    return -(-states // COLUMNS)


def final_states(figure: Figure | SubFigure, run: Run, places: Sequence[int], titles: Sequence[str]) -> None:
    """Draw the final state of the run's first trajectory and of its first copies, with their classes below.

    A copy whose class is not the trajectory's is named in red.

    Args:
        figure: Where.
        run: A clone run.
        places: Which copies, by their place among the copy times.
        titles: Title of each of these.
    """
    data = run.dataset.isel(trajectory=0)
    states = np.concatenate([data["parent"].to_numpy()[None], data["first_copy"].to_numpy()[list(places)]])
    limit = float(np.quantile(np.abs(states), COLOUR_SHARE)) or 1.0
    panels = list(figure.subplots(rows_of(len(states)), min(len(states), COLUMNS), squeeze=False).flat)
    for ax in panels:
        ax.set_axis_off()
    for ax, state, title in zip(panels, states, ["trajectory", *titles], strict=False):
        _state(ax, state, limit)
        ax.set_title(title)
    if "parent_class" in data:
        own = int(data["parent_class"])
        for ax, label in zip(panels, [own, *data["copy_class"].to_numpy()[list(places), 0].tolist()], strict=False):
            color = "black" if label == own else "tab:red"
            ax.text(0.5, -0.04, _class_name(run, label), color=color, transform=ax.transAxes, ha="center", va="top")


def _state(ax: Axes, state: Array, limit: float) -> None:
    """Draw a state [channel, *space]: a curve in d = 1, an image in d = 2, a central slice in d = 3."""
    if state.ndim == 4:
        state = state[:, state.shape[1] // 2]
    if state.ndim == 2:
        ax.plot(state.mean(0), color="black", linewidth=0.8)
        ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        ax.set_ylim(-1.2 * limit, 1.2 * limit)
        return
    if state.shape[0] == 3:
        ax.imshow(np.clip(0.5 + 0.5 * np.moveaxis(state, 0, -1) / limit, 0, 1), interpolation="nearest")
        return
    ax.imshow(state.mean(0), cmap="gray", vmin=-limit, vmax=limit, interpolation="nearest")


def _class_name(run: Run, label: int) -> str:
    return CLASSES[label] if run.identity["classifier"]["data"] == "Fashion-MNIST" else f"class {label}"
