r"""The susceptibility curve chi(sigma), and on the same axis xi_eq, the clone curve and the window."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softmode.estimate import median
from softmode.experiments import window as windows
from softmode.experiments.guided_run import WINDOW
from softmode.experiments.notions import softness
from softmode.plots.length_panel import GAIN
from softmode.plots.noise_axis import interval, noise_axis
from softmode.figures.pulse_twins import caption
from softmode.runs.report import estimate_of
from softmode.runs.run import Run

BAND, CENTRE = "#f6d8b0", "#c00000"
PANELS = (
    ("probability", r"$\chi_p = \Delta p / w\,\Delta\log\sigma$", "tab:blue"),
    ("logit", r"$\chi_z = \Delta z / w\,\Delta\log\sigma$", "tab:purple"),
    ("change", r"rms change$/w\,\Delta\log\sigma$", "tab:brown"),
)


def susceptibility(run: Run) -> Figure:
    r"""Draw chi against the centre of the pulse with 95 % intervals, its maximum, and the window that a probe found.

    Below, on the same axis, $\xi_{\mathrm{eq}}$ of the window's probe, and how far clones agree. The dashed red line is
    sigma_c, the band the window; the dotted lines are the maxima of chi with their 95 % intervals.

    Args:
        run: A finished run of a susceptibility experiment.
    """
    summary = run.summary
    config = run.config
    home = Path(config["window"]) if config["window"] else run.directory / WINDOW
    found = Run.open(home) if (home / windows.FILE).is_file() else None
    figure = Figure(figsize=(11, 3.2 * (len(PANELS) + (found is not None))), layout="constrained")
    panels = figure.subplots(len(PANELS) + (found is not None), 1, sharex=True, squeeze=False)[:, 0]
    centres = np.array(summary["centres"])
    for ax, (measure, label, color) in zip(panels, PANELS, strict=False):
        _chi(ax, centres, summary["curves"][measure], summary["argmax"][measure], color)
        ax.set_ylabel(label)
    if found is not None:
        _window_curves(panels[-1], found)
    for ax in panels:
        _mark(ax, summary["sigma_c"]["value"], None if found is None else windows.read(found))
    noise_axis(panels[-1], *interval(centres))
    for ax in panels[: len(PANELS)]:
        ax.legend(loc="upper right", fontsize="small")
    if found is not None:
        # below the axis, as its curves fill the panel
        panels[-1].legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=3, fontsize="small")
    figure.suptitle(
        f"{caption(run)}\npulses of width {config['width']:g} in log sigma",
        parse_math=False,
        fontsize="medium",
        wrap=True,
    )
    return figure


def _chi(ax: Axes, centres: np.ndarray, curve: Sequence[Any], argmax: Any, color: str) -> None:
    estimates = [estimate_of(entry) for entry in curve]
    ax.axhline(0, color="0.4", linewidth=1)
    ax.fill_between(
        centres, [e.low for e in estimates], [e.high for e in estimates], color=color, alpha=0.2, linewidth=0
    )
    ax.plot(centres, [e.value for e in estimates], "o-", color=color, gid="chi", label="mean, 95 %")
    top = estimate_of(argmax)
    ax.axvline(top.value, color=color, linestyle=":", linewidth=1.8, gid="argmax", label=f"maximum: {top}")
    ax.axvspan(top.high, top.low, color=color, alpha=0.1, linewidth=0)


def _window_curves(ax: Axes, found: Run) -> None:
    """Draw xi_eq of the window's probe, and the clones' agreement on an axis of its own."""
    levels, answer = found.arrays["noise_level"].to_numpy(), windows.read(found)
    curves = np.sqrt(np.expm1(softness(found, answer["intercept"])))
    for values in curves:
        ax.plot(levels, values, color=GAIN, linewidth=0.7, alpha=0.2)
    middle = median(curves)
    ax.plot(levels, middle, color=GAIN, linewidth=2.2, label=r"$\xi_{\mathrm{eq}}$, convention-free, median")
    inside = middle[(levels < 40) & (levels > 0.04)]
    ax.set_ylim(0, 2 * float(inside.max()) if len(inside) else None)
    ax.set_ylabel(r"$\xi_{\mathrm{eq}}$ (sites)")
    home = found.directory / windows.CLONES
    if not (home / "summary.json").is_file():
        return
    clones, twin = Run.open(home), ax.twinx()
    for kind, rows in clones.summary["agreement"].items():
        style = {"class": "s--", "sign": "^--"}[kind]
        at = clones.arrays["copy_level"].to_numpy()
        twin.plot(at, [row["value"] for row in rows], style, color="0.35", markersize=5, linewidth=1)
        ax.plot([], [], style, color="0.35", label=f"clones agree in {kind} (right)")
    twin.set_ylim(0, 1.05)
    twin.set_ylabel("agreement of clones")


def _mark(ax: Axes, sigma_c: float, answer: Any) -> None:
    if answer is not None and answer["verdict"] != "none":
        low, high = answer["sigma_lo"]["value"], answer["sigma_hi"]["value"]
        ax.axvspan(high, low, color=BAND, linewidth=0, zorder=0, gid="window", label="window, found without guidance")
    ax.axvline(
        sigma_c, color=CENTRE, linestyle="--", linewidth=1.4, gid="sigma_c", label=rf"$\sigma_c$ = {sigma_c:.3g}"
    )
