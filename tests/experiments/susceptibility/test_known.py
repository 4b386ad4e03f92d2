"""What is gained beside what is known of the label: distances, the figure, and runs that do not fit."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.errors import refused
from helpers.figures import line
from helpers.guidance import cheap_window, corners, guide, nearest, stored_window, window_results
from softmode.experiments.call import call, experiment
from softmode.experiments.information.analyse import labels_of
from softmode.experiments.susceptibility.adjoint_figures import classes, strength, susceptibility
from softmode.experiments.susceptibility.adjoint_trials import trials_of
from softmode.experiments.susceptibility.config import Config
from softmode.experiments.susceptibility.measure import prepare
from softmode.runs.run import Run

CORNERS = Config(model="corners", classes=3, trials=3, weight=1.0, steps=10, nodes=3, dtype="float64", sigma_c=3.0)


def information(out: Path, **settings: Any) -> Run:
    chosen: Any = {"model": corners(), "trajectories": 6, "levels": 12, "states": "samples", "block": 6}
    return call(experiment("information"), out, **chosen | settings)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return information(tmp_path_factory.mktemp("known") / "info")


def test_the_distance_to_what_is_known_of_the_label(known: Run, tmp_path: Path) -> None:
    """Each in a row, with the curve in the figure; the run needs the other no more."""
    home = tmp_path / "info"
    shutil.copytree(known.directory, home)
    run = guide("susceptibility", replace(CORNERS, information=str(home)), tmp_path / "run")
    shutil.rmtree(home)
    half, top = (run.results[name].estimate for name in ("information_half", "argmax"))
    own = known.results["sigma_half"].estimate
    assert half.value == pytest.approx(own.value, rel=1e-9)
    assert half.stderr == pytest.approx(own.stderr, rel=1e-9)
    found = run.results["distance_information"].estimate
    assert found.value == pytest.approx(math.log(top.value / half.value))
    rows = {row[0]: row[1].value for row in run.results.tables["compared"].rows}
    assert rows["ln(most / half known)"] == pytest.approx(found.value)
    assert rows["ln(most / sigma_c)"] == pytest.approx(math.log(top.value / 3.0))
    figure = susceptibility(run)
    assert len(figure.axes) == 3
    curve = line(figure.axes[2], "known")
    levels, told = known.dataset["level"].to_numpy(), labels_of(known)[0].information.mean(0)
    np.testing.assert_allclose(curve.get_ydata(), np.diff(told) / -np.diff(np.log(levels)))
    assert line(figure.axes[2], "half").get_xdata()[0] == half.value
    assert len(experiment("susceptibility").analyse(run).tables["gain"].rows) <= 8


def test_every_class_has_its_interval_and_its_panel(tmp_path: Path) -> None:
    """In the table of classes, in the values, and drawn with its trials; without real images no strength is drawn."""
    run = guide("susceptibility", CORNERS, tmp_path / "run")
    trials, found = trials_of(run), run.results.values["classes"]
    table = run.results.tables["classes"]
    place = table.columns.index("80 % in sigma")
    for label, row in zip((0, 1, 2), table.rows, strict=True):
        own = found[str(label)]
        mean = (trials.share / trials.widths)[trials.labels == label].mean(0)
        np.testing.assert_allclose(own["gain"], mean)
        low, high = (end.value for end in own["interval"])
        assert row[place] == f"{low:.2g} to {high:.2g}"
        assert low < own["argmax"].value < high
    figure = classes(run)
    assert figure is not None
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert len(shown) == 3
    np.testing.assert_allclose(line(shown[2], "chi").get_ydata(), found["2"]["gain"])
    assert len([each for each in shown[2].lines if each.get_gid() == "trial"]) == 3
    assert strength(run) is None
    assert "no real images are known" in run.results["w_knee"].estimate.reason


def test_the_information_in_a_window_is_found(known: Run, tmp_path: Path) -> None:
    with cheap_window(window_results(2.5)):
        stored_window(tmp_path / "window")
        config = replace(CORNERS, sigma_c=None, window=str(tmp_path / "window"))
        given = {"model": corners(), "classifier": nearest()}
        without: Any = prepare(config, given)
        assert without.known is None
        shutil.copytree(known.directory, tmp_path / "window" / "information")
        ready: Any = prepare(config, given)
    assert ready.known.half.value == known.results["sigma_half"].estimate.value
    assert ready.identity["information"]["images"] == 6


def test_runs_that_do_not_fit_are_refused(known: Run, tmp_path: Path) -> None:
    given = {"model": corners(), "classifier": nearest()}
    other = {"model": corners("others"), "classifier": nearest()}
    run = guide("susceptibility", replace(CORNERS, nodes=3, trials=1), tmp_path / "run")
    for directory, what, message in (
        (tmp_path / "nowhere", given, "holds no information run; make one with softmode information"),
        (run.directory, given, "holds no information run"),
        (known.directory, other, "is of 'corners', not of 'others'"),
    ):
        with refused(f"^information: .*{message}"):
            prepare(replace(CORNERS, information=str(directory)), what)
