"""The helper that every test of figures uses refuses what breaks a rule, each by itself."""

from collections.abc import Callable

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.figures import check_rules, nothing_is_clipped
from softmode.runs.draw import styled


def many_entries(ax: Axes) -> None:
    for n in range(5):
        ax.plot([0, 1], [n, n], label=str(n))
    ax.legend()


def many_entries_of_the_figure(ax: Axes) -> None:
    for n in range(3):
        ax.plot([0, 1], [n, n], label=str(n))
    ax.figure.legend()
    ax.figure.legend()


def many_lines(ax: Axes) -> None:
    for x in (0.2, 0.4, 0.6, 0.8):
        ax.axvline(x)


def small_text(ax: Axes) -> None:
    ax.text(0.5, 0.5, "small", fontsize=11)


BREACHES = {
    "entries": many_entries,
    "entries of the figure": many_entries_of_the_figure,
    "lines": many_lines,
    "text": small_text,
    "a twin": lambda ax: ax.twinx(),
    "a second y": lambda ax: ax.secondary_yaxis("right"),
}


def figure_of(change: Callable[[Axes], object]) -> Figure:
    with styled():
        figure = Figure(figsize=(13, 5))
        change(figure.add_subplot())
    return figure


@pytest.mark.parametrize("breach", BREACHES.values(), ids=BREACHES)
def test_a_breach_is_found(breach: Callable[[Axes], object]) -> None:
    with pytest.raises(AssertionError):
        check_rules(figure_of(breach))


def test_what_keeps_to_the_rules_passes() -> None:
    def proper(ax: Axes) -> None:
        for n in range(4):
            ax.plot([0, 1], [n, n], label=str(n))
        for x in (0.2, 0.4, 0.6):
            ax.axvline(x)
        ax.legend()
        ax.secondary_xaxis("top")

    check_rules(figure_of(proper))


def test_a_wide_figure_needs_larger_texts() -> None:
    with styled():
        figure = Figure(figsize=(20, 5))
        figure.add_subplot()
    with pytest.raises(AssertionError):
        check_rules(figure)


def test_what_is_off_the_page_is_found() -> None:
    figure = figure_of(lambda ax: ax.annotate("beyond", (1.2, 0.5), xycoords="axes fraction", annotation_clip=False))
    with pytest.raises(AssertionError):
        nothing_is_clipped(figure)
