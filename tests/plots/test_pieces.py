"""What figures share: curves, marks, labels, rows of estimates."""

import math

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from helpers.figures import line, vertical_lines
from softmode.estimate import Estimate
from softmode.plots.curve_lines import OPAQUE, shell_colours, signed_line, trajectories_and_median
from softmode.plots.end_labels import apart, end_labels
from softmode.plots.intervals import Row, interval_rows
from softmode.plots.length_panel import length_limit
from softmode.plots.marks import draw_marks, marked, value_text
from softmode.runs.results import Quantity, Results

ROUGH = Estimate(2.0, 0.1, 4, 1.8, 2.2)
DOUBTFUL = Estimate(1.0, 0.1, 4, 0.9, 1.1, "found in 60 % of resamples")


def panel() -> Axes:
    ax = Figure(figsize=(6, 4)).add_subplot()
    ax.set_xscale("log")
    ax.set_xlim(10, 0.1)
    ax.set_ylim(0, 1)
    return ax


def times(kind: str, *estimates: Estimate) -> list[Quantity]:
    return [Quantity(kind, place, estimate, "") for place, estimate in enumerate(estimates, 1)]


def test_a_point_between_two_gaps_is_marked() -> None:
    ax = Figure().add_subplot()
    solid, dashed = signed_line(ax, np.arange(5.0), np.array([1.0, 2.0, -3.0, 4.0, np.nan]), color="black")
    assert list(solid.get_markevery()) == [3]
    assert list(dashed.get_markevery()) == [2]


def test_the_thick_line_is_the_median_not_the_mean() -> None:
    ax = Figure().add_subplot()
    trajectories_and_median(ax, np.arange(2.0), np.array([[0.0, 1.0], [1.0, 2.0], [8.0, 9.0]]))
    np.testing.assert_array_equal(line(ax, "median").get_ydata(), [1.0, 2.0])


def test_many_trajectories_are_fainter_and_have_one_entry() -> None:
    shown = []
    for count in (4, 40):
        ax = Figure().add_subplot()
        trajectories_and_median(ax, np.arange(3.0), np.zeros((count, 3)))
        shown.append(ax.lines[0].get_alpha())
        assert ax.get_legend_handles_labels()[1] == ["trajectory", "median"]
    assert shown[1] / shown[0] == pytest.approx(OPAQUE / 40)


@pytest.mark.parametrize("shells", [1, 2, 7, 20])
def test_every_shell_is_dark_enough_for_a_text_on_white(shells: int) -> None:
    colors = [to_rgb(color) for color in shell_colours(shells)(np.arange(shells))]
    # relative luminance; viridis ends at 0.77
    assert max(0.2126 * r**2.2 + 0.7152 * g**2.2 + 0.0722 * b**2.2 for r, g, b in colors) < 0.5
    assert len(set(colors)) == shells


def test_marks_are_lines_with_bands_and_values() -> None:
    ax = panel()
    draw_marks(ax, [("growth_onset", ROUGH), ("growth_peak", Estimate.exact(1.0))])
    assert [line.get_xdata()[0] for line in vertical_lines(ax)] == [2.0, 1.0]
    (band,) = (patch for patch in ax.patches if patch.get_gid() == "growth_onset")
    assert sorted((band.get_x(), band.get_x() + band.get_width())) == pytest.approx([1.8, 2.2])
    assert [text.get_text() for text in ax.texts] == ["onset 2.0(1)", "fastest 1"]
    # what was shown before is below both labels, and those are apart
    heights = [text.xy[1] for text in ax.texts]
    assert heights[0] - heights[1] > 0.05
    assert 1 / ax.get_ylim()[1] < heights[1] - 0.05


def test_labels_are_on_the_side_with_more_room() -> None:
    ax = panel()
    draw_marks(ax, [("growth_onset", Estimate.exact(9.0)), ("growth_peak", Estimate.exact(0.2))])
    assert [text.get_ha() for text in ax.texts] == ["left", "right"]


def test_a_panel_marks_three_sure_times_at_most() -> None:
    later = [Estimate(value, 0.01, 4, value, value) for value in (0.5, 0.4, 0.3)]
    results = Results("", (*times("growth_peak", ROUGH, DOUBTFUL), *times("growth_onset", *later)))
    kinds = ("growth_peak", "growth_onset")
    assert marked(results, kinds) == [("growth_peak", ROUGH), *(("growth_onset", e) for e in later[:2])]
    assert marked(Results("", tuple(times("growth_peak", Estimate.missing(4, "none")))), kinds) == []


def test_values_are_written_with_their_errors_and_doubts() -> None:
    texts = [value_text(e) for e in (ROUGH, DOUBTFUL, Estimate.exact(math.pi), Estimate(0.12345, math.nan, 1))]
    assert texts == ["2.0(1)", "1.0(1)?", "3.142", "0.123"]


def test_labels_that_would_overlap_are_moved_apart() -> None:
    np.testing.assert_allclose(apart(np.array([0.1, 0.5]), 0.2), [0.1, 0.5])
    np.testing.assert_allclose(apart(np.array([0.5, 0.5, 0.5]), 0.2), [0.3, 0.5, 0.7])
    np.testing.assert_allclose(apart(np.array([1.0, 1.0]), 0.2), [0.8, 1.0])


def test_labels_are_at_the_ends_of_their_curves() -> None:
    ax = panel()
    ax.set_yscale("log")
    ax.set_ylim(1, 1000)
    end_labels(ax, [(100.0, "high", "black"), (2.0, "low", "black"), (math.nan, "nowhere", "black")])
    found = {text.get_text(): text.xy[1] for text in ax.texts}
    assert found["high"] == pytest.approx(100)
    assert found["low"] == pytest.approx(2)
    assert set(found) == {"high", "low", "nowhere"}


def test_rows_show_estimates_intervals_windows_and_values() -> None:
    figure = Figure()
    ax = figure.add_subplot()
    rows = [
        Row("one", [ROUGH, DOUBTFUL], gid="one"),
        Row("many", [Estimate.exact(v) for v in (4.0, 3.0, 2.0, 1.0)], window=(5.0, 0.5), gid="many"),
    ]
    interval_rows(ax, rows)
    points = [line for line in ax.lines if line.get_gid() in ("one", "many")]
    assert [float(np.ravel(line.get_xdata())[0]) for line in points] == [2.0, 1.0, 4.0, 3.0, 2.0, 1.0]
    assert [line.get_markerfacecolor() == "white" for line in points] == [False, True, *[False] * 4]
    assert [text.get_text() for text in ax.texts] == ["2.0(1), 1.0(1)?", "4, 3, 2, … (4 in all)"]
    drawn = [tuple(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2]
    assert drawn == [(1.8, 2.2), (0.9, 1.1), (5.0, 0.5)]
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [entry[:6] for entry in entries] == ["95 % i", "window", "?: in "]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one", "many"]


def test_the_axis_of_xi_eq_holds_the_curve_not_the_divergence() -> None:
    curve, nothing = np.full(20, 2.0), np.full(20, np.nan)
    spike = curve.copy()
    spike[3] = 50.0
    assert length_limit(curve, None) == pytest.approx(2.2)
    assert length_limit(spike, None) == pytest.approx(4.4)
    assert length_limit(curve, curve + 1) == pytest.approx(3.3)
    assert length_limit(curve, 10 * curve) == pytest.approx(4.4)
    assert length_limit(nothing, curve) == pytest.approx(2.2)
    assert length_limit(nothing, None) == 1.0
