"""What a clone run is found to say: its times against the exact ones, honest about what is missing."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from helpers.clones import SMALL, clones, uniform
from helpers.models import by_sign
from softmode.beta import Custom
from softmode.estimate import bootstrap
from softmode.experiments.clones import analyse
from softmode.experiments.clones.analyse import THRESHOLD, agreement_estimates, rise_time
from softmode.experiments.clones.config import Config
from softmode.model import Model
from softmode.networks.load import load_model
from softmode.process import VE, VP
from softmode.runs.classifier import find_classifier
from softmode.runs.results import Results
from softmode.runs.run import Run

TIMES = np.array([8.0, 4.0, 2.0, 1.0, 0.5])


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """Spend little time on intervals."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analyse, "bootstrap", partial(bootstrap, resamples=100))
        yield


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Run:
    times = (5.0, 2.5, 1.5, 0.9, 0.4)
    config = replace(SMALL, trajectories=100, copies=2, block=100, t_max=6.0, t_min=0.02, steps=110, times=times)
    return clones(config, tmp_path_factory.mktemp("large") / "run", classifier=by_sign)


def level(t: float) -> float:
    return math.sqrt(math.expm1(t)) if t > 0 else math.nan


def test_the_times_of_two_equal_classes_are_those_of_their_speciation(large: Run) -> None:
    """Agreement passes 0.775 where alpha^2 |mu|^2 = sigma^2, at sigma/alpha = |mu| = 2 and t = log 5."""
    results = large.results
    kinds = ("sign", "class")
    assert [q.name for q in results.quantities] == [f"{k}_agreement_{of}" for k in kinds for of in ("time", "level")]
    for kind in kinds:
        at, noise = results[f"{kind}_agreement_time"], results[f"{kind}_agreement_level"]
        assert at.estimate.stderr < 0.25
        assert abs(at.estimate.value - math.log(5)) < 4 * at.estimate.stderr
        assert at.estimate.low < at.estimate.value < at.estimate.high
        assert at.estimate.samples == 100
        for key in ("low", "high"):
            assert getattr(noise.estimate, key) == pytest.approx(level(getattr(at.estimate, key)), rel=2e-2)
        assert at.level == noise.level == noise.estimate.value == pytest.approx(level(at.estimate.value), rel=1e-9)
        assert at.what.startswith(f"mean {kind} agreement of copies rises through 0.775")


def test_the_results_hold_means_errors_baseline_and_cost(large: Run) -> None:
    """Means over trajectories with their bootstrap errors; the baseline is the earliest; every step is counted."""
    values, data = large.results.values, large.dataset
    for kind in ("class", "sign"):
        curves = data[f"{kind}_agreement"].to_numpy()
        each = values["agreement"][kind]
        np.testing.assert_allclose([e.value for e in each], curves.mean(0), rtol=1e-12)
        np.testing.assert_allclose([e.stderr for e in each], curves.std(0, ddof=1) / math.sqrt(100), rtol=0.35)
        assert values["baseline"][kind] == each[0]
        assert abs(each[0].value - 0.5) < 0.1
    assert values["baseline"]["copy_time"] == data["copy_time"][0]
    left = 110 - data["copy_step"].to_numpy()
    assert values["evaluations"] == {
        "trajectories": 100 * 110, "copies": 100 * 2 * left.sum(), "total": 100 * (110 + 2 * left.sum())
    }  # fmt: skip
    assert values["threshold"] == THRESHOLD


def test_the_answer_names_the_noise_levels_with_their_intervals(large: Run) -> None:
    """The first table is the evidence, earliest copies first; everything survives JSON."""
    results = large.results
    noise = results["class_agreement_level"].estimate
    assert f"in class at sigma/alpha = {noise.value:.3g} [{noise.low:.3g}, {noise.high:.3g}] (t = " in results.answer
    assert results.answer.endswith("earlier the sample is undecided.")
    table = next(iter(results.tables.values()))
    assert table.columns == ("sigma/alpha", "t*", "sign agreement", "class agreement")
    np.testing.assert_allclose([row[1] for row in table.rows], large.dataset["copy_time"])
    assert [row[2] for row in table.rows] == results.values["agreement"]["sign"]
    assert Results.from_plain(json.loads(json.dumps(results.plain()))) == results


def test_of_many_times_the_first_table_shows_eight(tmp_path: Path) -> None:
    """Both ends among them; the other table has all."""
    run = clones(replace(SMALL, times=tuple(np.geomspace(3, 0.06, 12).tolist())), tmp_path / "run")
    some, every = (run.results.tables[name] for name in ("agreement", "intervals"))
    assert len(some.rows) == 8
    assert "8 of 12 times" in some.note
    assert len(every.rows) == 12
    assert [some.rows[i][:2] for i in (0, -1)] == [every.rows[i][:2] for i in (0, -1)]


def test_a_class_that_never_changes_has_no_time_and_the_answer_says_so(tmp_path: Path) -> None:
    run = clones(replace(SMALL, labels=(1,)), tmp_path / "run", uniform(1, 2, 2, classes=2), by_sign)
    estimate = run.results["class_agreement_time"].estimate
    assert math.isnan(estimate.value)
    assert estimate.reason.startswith("the mean stays above 0.775: it is at least 1.000")
    assert "In class, their mean agreement stays above 0.775: it is at least 1.000" in run.results.answer


def test_no_classifier_judges_data_that_it_does_not_know(tmp_path: Path) -> None:
    run = clones(replace(SMALL, classifier=Config(model="m").classifier), tmp_path / "run")
    assert "class_agreement" not in run.dataset
    assert list(run.results.values["agreement"]) == ["sign"]
    assert [q.kind for q in run.results.quantities] == ["sign_agreement_time", "sign_agreement_level"]
    (note,) = run.results.notes
    assert "no agreement of classes: no classifier is known for the data of" in note
    digits = Model("digits", VP(), (1, 28, 28), lambda _label: lambda x, sigma: x, classes=10)
    assert find_classifier("auto", digits, torch.device("cpu"))[0] is None, "states of the same shape say nothing"
    assert find_classifier("auto", load_model("fashion-mnist"), torch.device("cpu"))[0] is not None


@pytest.mark.parametrize(
    ("shape", "process", "change"),
    [
        ((1, 6), VP(), {}),
        ((3, 2, 3), VP(), {"dtype": "float32"}),
        ((1, 2, 2, 2), VP(), {"trajectories": 1, "copies": 2}),
        ((1, 2, 2), VE(), {"t_max": 20.0, "t_min": 0.1, "steps": 80, "times": (10.0, 1.0)}),
    ],
)
def test_every_kind_of_state_runs_to_its_results(shape, process, change, tmp_path: Path) -> None:
    run = clones(replace(SMALL, **change), tmp_path / "run", uniform(*shape, process=process), by_sign)
    parent = run.dataset["parent"]
    assert parent.shape[1:] == shape
    assert parent.dtype == change.get("dtype", "float64")
    assert (abs(abs(parent) - 1) < 1).all()
    assert len(run.results.quantities) == 4


def test_a_process_without_a_name_has_levels_too(tmp_path: Path) -> None:
    """The run keeps its grid: a rate of 1 that is only known as a function gives the same level, interpolated."""
    config = replace(SMALL, trajectories=100, block=100, times=(2.5, 1.5, 0.9))
    runs = [
        clones(config, tmp_path / str(i), uniform(1, 2, 2, process=process), by_sign)
        for i, process in enumerate((VP(), VP(Custom(lambda t: 1.0, t_end=10.0))))
    ]
    named, nameless = (run.results["sign_agreement_time"] for run in runs)
    assert nameless.estimate.value == pytest.approx(named.estimate.value, rel=1e-6)
    assert nameless.level == pytest.approx(named.level, rel=1e-3)


def test_the_rise_is_interpolated_in_log_t() -> None:
    """From 0.5 at t = 4 to 0.9 at t = 2 the value 0.775 lies at 0.6875 of the way."""
    curve = np.array([0.3, 0.5, 0.9, 1.0, 1.0])
    assert rise_time(curve, TIMES) == pytest.approx(4 * 2**-0.6875, rel=1e-12)


def test_a_fall_is_no_rise_and_the_last_rise_counts() -> None:
    up, down = 4 * 2**-0.6875, 4 * 2**-0.3125
    assert math.isnan(rise_time(np.array([1.0, 0.9, 0.5, 0.3, 0.3]), TIMES))
    assert rise_time(np.array([1.0, 0.9, 0.5, 0.9, 0.9]), TIMES) == pytest.approx(up / 2, rel=1e-12)
    assert rise_time(np.array([0.5, 0.9, 0.5, 0.9, 1.0]), TIMES) == pytest.approx(up / 2, rel=1e-12)
    assert rise_time(np.array([0.3, 0.5, 0.9, 0.5, 0.3]), TIMES) == pytest.approx(up, rel=1e-12)
    assert down != up
    # a curve that starts on the threshold
    assert rise_time(np.array([THRESHOLD, 0.5, 0.9, 1.0, 1.0]), TIMES) == pytest.approx(up, rel=1e-12)
    assert math.isnan(rise_time(np.array([THRESHOLD, 0.9, 0.9, 1.0, 1.0]), TIMES))


def test_the_time_is_that_of_the_mean_not_of_the_median() -> None:
    """Of ten trajectories six agree from t = 4 on and four from t = 1: the median is 1 long before the mean rises."""
    curves = np.array([[0, 1, 1, 1, 1]] * 6 + [[0, 0, 0, 1, 1]] * 4, dtype=float)
    at, noise = agreement_estimates(curves, TIMES, level)
    # from 0.6 at t = 2 to 1 at t = 1
    assert at.value == pytest.approx(2 * 2 ** (-0.175 / 0.4), rel=1e-12)
    assert noise.value == pytest.approx(level(at.value), rel=1e-12)
    assert at.low < at.value < at.high
    assert at.samples == 10


@pytest.mark.parametrize(
    ("curve", "reason"),
    [
        ([0.5, 0.6, 0.7, 0.75, 0.7], "the mean stays below 0.775: it is at most 0.750, at t = 1"),
        ([0.9, 0.8, 0.9, 0.9, 1.0], "the mean stays above 0.775: it is at least 0.800, at t = 4"),
        ([0.9, 0.8, 0.6, 0.6, 0.7], "the mean falls through 0.775 as t falls, and never rises through it"),
    ],
)
@pytest.mark.parametrize("trajectories", [1, 3])
def test_without_a_rise_the_time_is_undefined_and_says_why(curve: list, reason: str, trajectories: int) -> None:
    curves: NDArray[np.float64] = np.array([curve] * trajectories)
    for estimate in agreement_estimates(curves, TIMES, level):
        assert math.isnan(estimate.value)
        assert math.isnan(estimate.stderr)
        assert estimate.reason == reason


def test_one_trajectory_has_no_error_bar() -> None:
    at, _ = agreement_estimates(np.array([[0.0, 0.5, 0.9, 1.0, 1.0]]), TIMES, level)
    assert math.isfinite(at.value)
    assert math.isnan(at.stderr)
    assert at.reason == "one trajectory has no error bar"
