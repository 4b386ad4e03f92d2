"""Figures of dictionaries: they keep to the rules, and show the arrays of the run."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import softmode as sm
from helpers.figures import check_rules, legend_entries, nothing_is_clipped, panel
from softmode.experiments.dictionary.figures import FIGURES
from softmode.runs.draw import styled
from softmode.runs.run import Run

SMALL = {"receptive_field": "box:3", "patterns": 2, "disorder": 3, "replicas": 4, "t_max": 8.0, "steps": 170,
         "sizes": (6, 8), "waits": (0.4, 2.0)}  # fmt: skip


@pytest.fixture(scope="module", params=["one", "masses", "site"])
def run(request: pytest.FixtureRequest) -> Run:
    changed = {"one": {}, "masses": {"uniform": (0.0, 0.2, 0.5, 0.9)}, "site": {"disorder_of": "site"}}[request.param]
    return sm.dictionary(**SMALL | changed)


def drawn(run: Run, name: str) -> Figure:
    with styled():
        figure = FIGURES[name](run)
    assert figure is not None
    return figure


@pytest.mark.parametrize("name", FIGURES)
def test_figures_keep_to_the_rules(run: Run, name: str) -> None:
    """For one mass and for several, and where every site has a dictionary of its own."""
    with styled():
        check_rules(drawn(run, name))
        nothing_is_clipped(drawn(run, name))


def test_the_main_figure_has_every_realisation_or_mass(run: Run) -> None:
    """Lines of realisations have their values; of many masses a few are shown, with their means over disorder."""
    ax = panel(drawn(run, "order"), "S(k")
    heights = run.dataset["bragg"].to_numpy()[..., 0]
    lines = [np.asarray(line.get_ydata(), float) for line in ax.lines]
    if len(run.config["uniform"]) == 1:
        for curve in heights[:, 0]:
            assert any(np.allclose(curve, line) for line in lines if len(line) == len(curve))
    else:
        entries = legend_entries(drawn(run, "order"))
        assert entries == ["uniform mass 0", "uniform mass 0.5", "uniform mass 0.9"]
        assert any(np.allclose(heights[:, 2].mean(0), line) for line in lines if len(line) == 2)


def test_ageing_is_drawn_as_it_is_and_over_translations(run: Run) -> None:
    """Means over realisations of every waiting time; where sites differ there is nothing to move."""
    figure = drawn(run, "ageing")
    site = run.config["disorder_of"] == "site"
    assert len(figure.axes) == (1 if site else 2)
    names = ["ageing"] if site else ["ageing", "ageing_moved"]
    for ax, name in zip(figure.axes, names, strict=True):
        for i, wait in enumerate(run.dataset["wait"].to_numpy()):
            (line,) = (line for line in ax.lines if f"= {wait:g}" in str(line.get_label()))
            np.testing.assert_allclose(line.get_ydata(), run.dataset[name].to_numpy()[:, 0, i].mean(0))


def test_a_chain_has_no_image() -> None:
    """Its states are no pictures."""
    assert FIGURES["states"](sm.dictionary(**SMALL | {"dimensions": 1, "sizes": (8,), "disorder": 2})) is None
