"""Critical times as vertical lines: a few of each panel, their 95 % intervals as bands, labelled in the panel."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from softmode.estimate import Estimate
from softmode.plots.palette import BLUE, GREEN, PURPLE, VERMILLION
from softmode.runs.results import Results

# vertical lines in a panel
MOST = 3
# height of a label, as a share of its panel's
LINE = 0.09
# points of a label, which is read at half the width too
SIZE = 12
# an alpha at which curves stay visible through a band
BAND = 0.15
DOUBT = "?: in doubt, as the report says"


class Style(NamedTuple):
    """How a kind of critical time is marked."""

    text: str
    color: str
    linestyle: str


STYLES = {
    "t_c_score_omega": Style(r"theory, $r=0$:", GREEN, "-"),
    "xi_eq_gain_peak": Style("peak", VERMILLION, "--"),
    "sigma_c": Style(r"$\sigma_c$ =", VERMILLION, "--"),
    "growth_onset": Style("onset", BLUE, ":"),
    "growth_peak": Style("fastest", BLUE, "--"),
    "lambda_0_zero": Style(r"$\lambda_0=0$:", PURPLE, "--"),
}


def value_text(estimate: Estimate) -> str:
    """Return a value with its error as figures show it, with a question mark if it is in doubt."""
    if not math.isfinite(estimate.stderr):
        return f"{estimate.value:.3g}"
    if estimate.stderr == 0:
        return f"{estimate.value:.4g}"
    return f"{estimate}" + ("?" if estimate.reason else "")


def doubt_note(handles: Sequence[Artist]) -> list[Line2D]:
    """Return a legend's entry that explains the question mark of a value in doubt, if one of its handles has it."""
    doubtful = any("?" in str(handle.get_label()) for handle in handles)
    return [Line2D([], [], linestyle="", label=DOUBT)] if doubtful else []


def in_doubt(estimate: Estimate) -> bool:
    """Return whether an estimate was found in too few resamples; a single trajectory has none."""
    return bool(estimate.reason) and math.isfinite(estimate.stderr)


def marked(results: Results, kinds: Sequence[str]) -> list[tuple[str, Estimate]]:
    """Return the times that a panel marks, in falling order: the first few of those that are not in doubt.

    Args:
        results: What was found.
        kinds: Kinds of quantities, those that matter most first.
    """
    sure = [(kind, q.estimate) for kind in kinds for q in results.of(kind) if not in_doubt(q.estimate)]
    return sorted(sure[:MOST], key=lambda pair: -pair[1].value)


def draw_marks(ax: Axes, marks: Sequence[tuple[str, Estimate]], above: bool = True) -> None:
    """Draw times as vertical lines with their 95 % intervals as bands, and label them at the top of the panel.

    Args:
        ax: Where, with the limits of both axes set.
        marks: Kinds and values.
        above: Whether the upper limit of y is raised, so that the labels are above what is drawn.
    """
    if above:
        raise_top(ax, len(marks))
    for row, (kind, estimate) in enumerate(marks):
        style = STYLES[kind]
        ax.axvline(estimate.value, color=style.color, linestyle=style.linestyle, linewidth=1.6, zorder=1.5, gid=kind)
        if estimate.low < estimate.high:
            ax.axvspan(estimate.low, estimate.high, color=style.color, alpha=BAND, linewidth=0, zorder=0, gid=kind)
        label(ax, estimate.value, row, f"{style.text} {value_text(estimate)}", style.color)


def label(ax: Axes, x: float, row: int, text: str, color: str) -> None:
    """Write a text beside a vertical line, on a row from the top, to the side where there is more room."""
    share = float(ax.transAxes.inverted().transform(ax.transData.transform((x, ax.get_ylim()[0])))[0])
    side = 1 if share < 0.5 else -1
    ax.annotate(
        text, (x, 0.985 - LINE * row), xycoords=("data", "axes fraction"), xytext=(5 * side, 0),
        textcoords="offset points", ha="left" if side > 0 else "right", va="top", color=color, fontsize=SIZE,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}, zorder=4,
    )  # fmt: skip


def raise_top(ax: Axes, rows: int) -> None:
    """Raise the upper limit of y so that some rows of labels fit above what is shown now."""
    scale = ax.yaxis.get_transform()
    low, high = scale.transform(list(ax.get_ylim()))
    top = scale.inverted().transform([low + (high - low) / (1 - LINE * rows)])[0]
    ax.set_ylim(top=float(top))
