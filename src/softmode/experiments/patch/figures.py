"""The states of a patch run along the generation, below its dictionary."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure

from softmode.estimate import Array
from softmode.experiments.patch.dispersion import dispersion
from softmode.plots.caption import caption
from softmode.plots.critical_details import critical_details
from softmode.plots.critical_dynamics import critical_dynamics
from softmode.plots.fields import COLOURS
from softmode.plots.snapshots import shown_states, snapshot_title, state_symbol
from softmode.process import parse_process
from softmode.runs.run import Run

PATTERNS_SHOWN = 12
PANELS_PER_ROW = 6
# share of all shown site values inside the colour scale: at high noise states have Gaussian tails
COLOUR_SHARE = 0.95


def snapshots(run: Run) -> Figure:
    r"""Draw the patch dictionary above snapshots of the state of the run's first trajectory.

    States are shown as $x_t/\sqrt{\alpha^2 + \sigma^2}$, which is $x_t$ itself for a variance-preserving process. In
    d = 1 they are curves, in d = 3 their central slice.

    Args:
        run: A finished run.

    Source: paper Figs. 2 and 5.
    """
    states = _states(run)
    rows = -(-len(states) // PANELS_PER_ROW)
    columns = -(-len(states) // rows)
    top, panel = (1.7, min(3.0, 11.5 / columns) + 0.8) if states.ndim > 2 else (1.4, 2.7)
    figure = Figure(figsize=(13, 0.5 + top + panel * rows), layout="constrained")
    parts = figure.subfigures(2, 1, height_ratios=[top, panel * rows], squeeze=False)
    above, below = parts[0, 0], parts[1, 0]
    figure.suptitle(caption(run), parse_math=False, fontsize="medium")
    patterns = run.dataset["patterns"].to_numpy()
    shown = np.concatenate([states.ravel(), patterns.ravel()])
    limit = float(np.quantile(np.abs(shown), COLOUR_SHARE)) or 1.0
    norm = Normalize(-limit, limit)
    draw_dictionary(above, run, norm)
    if states.ndim == 2:
        _curves(below, run, states, columns, rows)
        owner, label = above, "pattern $p_k(u)$"
    else:
        _images(below, run, states, norm, columns, rows)
        owner, label = below, f"state {state_symbol(run)}, pattern $p_k$"
    beyond = bool(np.abs(shown).max() > limit)
    owner.colorbar(
        ScalarMappable(norm, COLOURS),
        ax=owner.axes,
        label=label,
        extend="both" if beyond else "neither",
        aspect=15 * rows,
    )
    return figure


def draw_dictionary(figure: Figure | SubFigure, run: Run, norm: Normalize) -> None:
    """Draw the most probable patterns on their offsets, each with its prior probability under it.

    Sites outside the receptive field stay blank; in d = 3 the central slice is drawn.

    Args:
        figure: Where.
        run: A run with `patterns`, `prior` and `offsets`.
        norm: Colour scale.
    """
    data = run.dataset
    offsets, prior = data["offsets"].to_numpy(), data["prior"].to_numpy()
    order = np.argsort(-prior, kind="stable")[:PATTERNS_SHOWN]
    row = figure.subplots(1, PATTERNS_SHOWN, squeeze=False)[0]
    for ax in row:
        ax.set_axis_off()
    for ax, k in zip(row[(PATTERNS_SHOWN - len(order)) // 2 :], order, strict=False):
        ax.imshow(on_offsets(data["patterns"].to_numpy()[k], offsets), cmap=COLOURS, norm=norm)
        ax.set_title(f"{prior[k]:.3g}", y=0, va="top", pad=-4, fontsize="medium")
    count = f"{len(order)} most probable of {len(prior)}" if len(order) < len(prior) else f"{len(prior)}"
    middle = " (central slice)" if offsets.shape[1] == 3 else ""
    figure.suptitle(f"Patch dictionary{middle}: {count} patterns with their prior probabilities $\\pi_k$")


def on_offsets(pattern: Array, offsets: Array) -> Array:
    """Return a pattern [omega] as an image of its receptive field's bounding box, NaN outside the field.

    Args:
        pattern: Values [omega].
        offsets: Offsets u [omega, d]; in d = 1 the image has one row, in d = 3 it is the plane through the site.

    Returns:
        Image [rows, columns].
    """
    if offsets.shape[1] == 3:
        plane = offsets[:, 0] == 0
        pattern, offsets = pattern[plane], offsets[plane, 1:]
    if offsets.shape[1] == 1:
        offsets = np.concatenate([np.zeros_like(offsets), offsets], axis=1)
    corner = offsets.min(0)
    image = np.full(offsets.max(0) - corner + 1, np.nan)
    image[tuple((offsets - corner).T)] = pattern
    return image


def _states(run: Run) -> Array:
    """Return the first trajectory's snapshots [snapshot, *space] as they are shown, in d = 3 the central slice."""
    states = shown_states(run)
    return np.asarray(states[:, states.shape[1] // 2] if states.ndim == 4 else states)


def _panels(figure: SubFigure, run: Run, columns: int, rows: int) -> list[Axes]:
    """Return one titled panel per snapshot, in falling order of time."""
    data, process = run.dataset, parse_process(run.config["schedule"])
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    times = data["snapshot"].to_numpy()
    for ax in panels[len(times) :]:
        ax.set_axis_off()
    for ax, t in zip(panels, times, strict=False):
        ax.set_title(snapshot_title(t, float(process.noise_level(float(t)))), fontsize="medium")
    middle = f" (central slice, $z={run.config['size'] // 2}$)" if run.config["dimensions"] == 3 else ""
    first = int(data["trajectory"].to_numpy()[0])
    figure.suptitle(f"State of trajectory {first}{middle} along the generation $\\rightarrow$")
    return panels[: len(times)]


def _images(figure: SubFigure, run: Run, states: Array, norm: Normalize, columns: int, rows: int) -> None:
    for ax, state in zip(_panels(figure, run, columns, rows), states, strict=True):
        ax.imshow(state, cmap=COLOURS, norm=norm, interpolation="nearest")
        ax.set_xticks([])
        ax.set_yticks([])


def _curves(figure: SubFigure, run: Run, states: Array, columns: int, rows: int) -> None:
    limit = 1.05 * float(np.abs(states).max())
    panels = _panels(figure, run, columns, rows)
    for ax, state in zip(panels, states, strict=True):
        ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        ax.plot(state, color="black", linewidth=0.8)
        ax.set_ylim(-limit, limit)
        ax.set_xlabel("site")
    for ax in panels[::columns]:
        ax.set_ylabel(f"state {state_symbol(run)}")


FIGURES = {
    "critical_dynamics": critical_dynamics,
    "critical_dynamics_details": critical_details,
    "snapshots": snapshots,
    "dispersion": dispersion,
}
