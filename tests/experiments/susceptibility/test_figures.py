"""Figures of the susceptibility: chi, its maximum, sigma_c with its error, and the window, from the run alone."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from helpers.clones import SMALL, clones, uniform
from helpers.figures import legend_entries, line
from helpers.guidance import SUSCEPTIBILITY, cheap_window, guide, stored_window, window_results
from softmode.experiments.susceptibility.pulses_figures import PANELS, susceptibility, susceptibility_details
from softmode.runs.draw import styled
from softmode.runs.run import Run


@pytest.fixture(scope="module", autouse=True)
def _window() -> Iterator[None]:
    with cheap_window(window_results(2.5)):
        yield


@pytest.fixture(scope="module")
def chi(tmp_path_factory: pytest.TempPathFactory) -> Run:
    home = tmp_path_factory.mktemp("chi")
    stored_window(home / "window")
    clones(SMALL, home / "window" / "clones", uniform(1, 2, 2))
    config = replace(SUSCEPTIBILITY, trials=3, sigma_c=None, window=str(home / "window"))
    return guide("susceptibility", config, home / "run")


def test_chi_is_drawn_with_its_maximum_beside_the_window(chi: Run) -> None:
    figure, values = susceptibility(chi), chi.results.values
    for ax, measure in zip(figure.axes, PANELS, strict=True):
        curve = line(ax, "chi")
        np.testing.assert_array_equal(curve.get_ydata(), [e.value for e in values["curves"][measure]])
        np.testing.assert_array_equal(curve.get_xdata(), values["centres"])
        assert line(ax, "argmax").get_xdata()[0] == values["argmax"][measure].value
        assert line(ax, "sigma_c").get_xdata()[0] == 2.5
        assert list(line(ax, "sigma_c_interval").get_xdata()) == [2.0, 3.0]
        (band,) = (patch for patch in ax.patches if patch.get_gid() == "window")
        assert sorted(band.get_extents().transformed(ax.transData.inverted()).intervalx) == pytest.approx([1.0, 6.0])
    assert r"$\sigma_c$ = 2.5(2)" in legend_entries(figure) or r"$\sigma_c$ = 2.5(3)" in legend_entries(figure)


def test_the_window_s_curves_are_details(chi: Run) -> None:
    figure = susceptibility_details(chi)
    assert figure is not None
    lengths, agreement = figure.axes
    assert lengths.get_ylabel() == r"$\xi_{\mathrm{eq}}$ (sites)"
    assert agreement.get_ylabel() == "agreement of clones"
    assert {text.get_text() for text in agreement.texts} == {"in sign"}
    for ax in (lengths, agreement):
        assert line(ax, "sigma_c").get_xdata()[0] == 2.5


def test_a_window_that_has_moved_leaves_sigma_c_its_error(chi: Run, tmp_path: Path) -> None:
    """Everything but the window's own curves is in the run."""
    moved = Run(tmp_path / "run", chi.experiment)
    shutil.copytree(chi.directory, moved.directory)
    away = tmp_path / "away"
    shutil.move(chi.config["window"], away)
    try:
        figure = susceptibility(moved)
        assert list(line(figure.axes[0], "sigma_c_interval").get_xdata()) == [2.0, 3.0]
        assert any(patch.get_gid() == "window" for patch in figure.axes[0].patches)
        assert susceptibility_details(moved) is None
        assert {path.stem for path in moved.draw()} == {"susceptibility"}
    finally:
        shutil.move(away, chi.config["window"])


def test_without_a_window_there_is_no_band_and_no_error(tmp_path: Path) -> None:
    run = guide("susceptibility", SUSCEPTIBILITY, tmp_path / "run")
    figure = susceptibility(run)
    for ax in figure.axes:
        assert line(ax, "sigma_c").get_xdata()[0] == 2.0
        assert not [patch for patch in ax.patches if patch.get_gid() == "window"]
        assert not [drawn for drawn in ax.lines if drawn.get_gid() == "sigma_c_interval"]
    assert susceptibility_details(run) is None


def drawn(chi: Run) -> list[Figure]:
    with styled():
        found = [susceptibility(chi), susceptibility_details(chi)]
    return [figure for figure in found if figure is not None]


def test_figures_are_plain_and_readable(chi: Run) -> None:
    """One axis a panel, at most three vertical lines and four legend entries, 13 points on 11 inches."""
    for figure in drawn(chi):
        positions = [ax.get_subplotspec() for ax in figure.axes]
        assert len(set(map(str, positions))) == len(positions), "no twin axes"
        for ax in figure.axes:
            assert len([each for each in ax.lines if each.get_gid() in ("sigma_c", "argmax")]) <= 3
        assert len(legend_entries(figure)) <= 4
        shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
        assert min(text.get_fontsize() for text in shown) >= 13 * figure.get_figwidth() / 11


def test_every_figure_is_written(chi: Run) -> None:
    assert [path.name for path in chi.draw()] == [
        f"{name}.{kind}" for name in ("susceptibility", "susceptibility_details") for kind in ("png", "pdf")
    ]
