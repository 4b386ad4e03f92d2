"""The clone curve: agreement of copies against the time at which they are made, above the final states themselves."""

import math
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from softmode.data import CLASSES
from softmode.estimate import Array
from softmode.plots.marks import doubt_note, value_text
from softmode.plots.noise_axis import LABEL, variance_exploding
from softmode.runs.report import estimate_of
from softmode.runs.run import Run

Handle = Artist | Container

KINDS = {"class": ("classes", "tab:red", "o"), "sign": ("signs", "tab:blue", "s")}
# room beside the first and last copy time, as a share of the axis
MARGIN = 0.04
# least distance of two tick labels at the top, as a share of the axis
TICK_SPACING = 0.04
# span of copy times above which ticks at 1, 2, 5 are many enough
ROUND_TICKS = 10.0
# final states in a row, and the height of a row in inches
PANELS = 9
PANEL = 2.1
# share of all site values inside the grey scale, as single sites can lie far outside
COLOUR_SHARE = 0.95


def clone_curve(run: Run) -> Figure:
    r"""Draw how far copies agree against the time t* at which they were made, and the final states of one trajectory.

    Above: mean over trajectories of the agreement of classes and of signs, with standard errors; faint points are the
    sign agreement of single trajectories. Vertical lines mark where a mean rises through the agreement of two equal
    classes at their speciation, with the 95 % interval as a band. Below: the final state of the run's first trajectory
    and of its first copy from each t*.

    Args:
        run: A finished run.

    Source: biroli2024.
    """
    summary = run.summary
    rows = -(-(run.dataset.sizes["copy_time"] + 1) // PANELS)
    figure = Figure(figsize=(12, 7 + PANEL * rows), layout="constrained")
    parts = figure.subfigures(2, 1, height_ratios=[6.2, PANEL * rows], squeeze=False)
    above, below = parts[0, 0], parts[1, 0]
    ax = above.subplots()
    handles: list[Handle] = [artist for kind in summary["agreement"] for artist in _agreement(ax, run, kind)]
    threshold = summary["threshold"]
    handles.append(
        ax.axhline(
            threshold, color="0.35", linestyle=":", linewidth=1.4, zorder=1, gid="threshold",
            label=f"{threshold:g} (speciation of two equal classes, Biroli et al. 2024)",
        )
    )  # fmt: skip
    handles += _crossings(ax, run)
    ax.set_ylim(-0.03, 1.03)
    ax.set_ylabel("agreement of a trajectory and its copies")
    _time_axes(ax, run)
    above.legend(handles=handles, loc="outside lower center", ncols=2)
    _final_states(below, run, rows)
    figure.suptitle(_caption(run), parse_math=False, fontsize="medium")
    return figure


def _agreement(ax: Axes, run: Run, kind: str) -> list[Handle]:
    """Draw the mean agreement with standard errors; of signs, also every trajectory's."""
    name, color, marker = KINDS[kind]
    times, rows = run.dataset["copy_time"].to_numpy(), run.summary["agreement"][kind]
    mean, stderr = (
        np.array([math.nan if row[key] is None else row[key] for row in rows]) for key in ("value", "stderr")
    )
    if kind == "sign":
        for curve in run.dataset["sign_agreement"].to_numpy():
            ax.plot(times, curve, color=color, linestyle="", marker=".", markersize=4, alpha=0.3, gid="trajectory")
    bars = ax.errorbar(
        times, mean, np.nan_to_num(stderr), color=color, marker=marker, markersize=6, capsize=3, linewidth=1.8, zorder=3
    )
    bars.lines[0].set_gid(kind)
    count = run.dataset.sizes["trajectory"]
    error = f", mean ± standard error of {count}" if count > 1 else ""
    bars.set_label(f"agreement of {name}{error}")
    return [bars]


def _crossings(ax: Axes, run: Run) -> list[Handle]:
    """Mark the times at which the means rise through the threshold, and say of the others why there is none."""
    handles: list[Handle] = []
    threshold = run.summary["threshold"]
    for quantity, level in zip(run.summary["quantities"], run.summary["noise_levels"], strict=True):
        kind = quantity["name"].partition("_")[0]
        noun, color, _ = KINDS[kind]
        at, sigma = estimate_of(quantity), estimate_of(level)
        if math.isnan(at.value):
            reason = at.reason.partition(":")[0].replace("the mean", f"mean agreement of {noun}")
            handles.append(Line2D([], [], linestyle="", label=reason))
            continue
        line = ax.axvline(at.value, color=color, linestyle="--", linewidth=1.4, zorder=2, gid=f"{kind} time")
        if math.isfinite(at.low) and math.isfinite(at.high):
            ax.axvspan(at.low, at.high, color=color, alpha=0.1, linewidth=0, zorder=0, gid=f"{kind} interval")
        there = rf"$t^*=${value_text(at)}, $\sigma/\alpha=${value_text(sigma)}"
        if variance_exploding(run):
            there = rf"$t^*=\sigma=${value_text(at)}"
        line.set_label(f"agreement of {noun} rises through {threshold:g} at {there}")
        handles.append(line)
    lines = [handle for handle in handles if isinstance(handle, Line2D)]
    return [*handles, *doubt_note(lines)]


def _time_axes(ax: Axes, run: Run) -> None:
    """Make the x axis log t*, falling from left to right as generation runs, with sigma/alpha of the copies on top."""
    data = run.dataset
    times, levels = data["copy_time"].to_numpy(), data["copy_level"].to_numpy()
    ax.set_xscale("log")
    room = max(MARGIN * math.log(times[0] / times[-1]), 0.1)
    ax.set_xlim(times[0] * math.exp(room), times[-1] * math.exp(-room))
    kept = spaced(np.log(times), TICK_SPACING * (math.log(times[0] / times[-1]) + 2 * room))
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    if times[0] / times[-1] < ROUND_TICKS:
        ax.xaxis.set_major_locator(FixedLocator(times[kept].tolist()))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda t, _: f"{t:.3g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    name = r"noise level $t^*=\sigma$" if variance_exploding(run) else "time $t^*$"
    ax.set_xlabel(rf"{name} at which trajectories are copied (generation $\rightarrow$)")
    if variance_exploding(run):
        return
    top = ax.secondary_xaxis("top")
    top.xaxis.set_major_locator(FixedLocator(times[kept].tolist()))
    top.xaxis.set_major_formatter(FixedFormatter([f"{level:.3g}" for level in levels[kept]]))
    top.xaxis.set_minor_locator(NullLocator())
    top.set_xlabel(LABEL)


def spaced(places: Array, least: float) -> Array:
    """Return indices of falling places, the first among them, no two of which are closer than `least`."""
    kept = [0]
    for i in range(1, len(places)):
        if places[kept[-1]] - places[i] >= least:
            kept.append(i)
    return np.array(kept)


def _final_states(figure: SubFigure, run: Run, rows: int) -> None:
    """Draw the final state of the first trajectory and of its first copy from each t*, titled with their classes."""
    data = run.dataset.isel(trajectory=0)
    columns = -(-(data.sizes["copy_time"] + 1) // rows)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in panels:
        ax.set_axis_off()
    states = np.concatenate([data["parent"].to_numpy()[None], data["first_copy"].to_numpy()])
    limit = float(np.quantile(np.abs(states), COLOUR_SHARE)) or 1.0
    times, levels = data["copy_time"].to_numpy(), data["copy_level"].to_numpy()
    titles = ["trajectory"]
    for t, level in zip(times, levels, strict=True):
        titles.append(f"$t^*={t:.3g}$" + ("" if variance_exploding(run) else f"\n$\\sigma/\\alpha={level:.3g}$"))
    for ax, state, title in zip(panels, states, titles, strict=False):
        _state(ax, state, limit)
        ax.set_title(title, fontsize="medium")
    if "parent_class" in data:
        own, others = int(data["parent_class"]), data["copy_class"].to_numpy()[:, 0].tolist()
        for ax, label in zip(panels, [own, *others], strict=False):
            color = "black" if label == own else "tab:red"
            ax.text(0.5, -0.04, _class_name(run, label), color=color, transform=ax.transAxes, ha="center", va="top")
    number = int(data["trajectory"])
    middle = " (central slice)" if states.ndim == 5 else ""
    figure.suptitle(f"Final states{middle}: trajectory {number}, and its first copy from each $t^*$ $\\rightarrow$")


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


def _caption(run: Run) -> str:
    """Return one line that says which run a figure shows."""
    config, count = run.config, run.dataset.sizes["trajectory"]
    trajectories = "1 trajectory" if count == 1 else f"{count} trajectories"
    copies = "1 copy" if config["copies"] == 1 else f"{config['copies']} copies"
    label = f", class {config['labels']}" if config["labels"] else ""
    name = Path(run.identity["model"]["name"]).name
    return f"{name}{label}, {trajectories}, {copies} each, {config['steps']} steps, seed {config['seed']}"
