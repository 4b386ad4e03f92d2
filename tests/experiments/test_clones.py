"""The clone experiment: its times against the exact ones, reproducible, resumable, honest about what is missing."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from softmode.config import ClonesConfig
from softmode.estimate import Array, bootstrap
from softmode.exact.empirical import EmpiricalDenoiser
from softmode.experiments import clones, clones_summary
from softmode.experiments.clones_summary import THRESHOLD, agreement_estimates, rise_time, steps
from softmode.model import Model
from softmode.networks.card import Card, save_weights
from softmode.process import VE, VP, Process
from softmode.store import Run

SMALL = ClonesConfig(
    model="two", classifier="none", trajectories=5, times=(2.5, 1.0, 0.3), t_max=3.0, t_min=0.05,
    steps=40, block=2, dtype="float64",
)  # fmt: skip


def two(*shape: int, process: Process | None = None, scale: float = 1.0, classes: int = 0) -> Model:
    """A model of the two uniform states ±1; a label leaves only one of them."""
    data = scale * torch.stack([torch.ones(shape), -torch.ones(shape)]).double()

    def bind(label: int | None) -> EmpiricalDenoiser:
        return EmpiricalDenoiser(data if label is None else data[[label]])

    return Model("two", process or VP(), shape, bind, classes)


def by_sign(x: torch.Tensor) -> torch.Tensor:
    """Logits of class 0 (negative) and class 1 (positive)."""
    total = x.flatten(1).sum(1)
    return torch.stack([-total, total], 1)


def digest(directory: Path) -> dict[str, str]:
    store = directory / "run.zarr"
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


def named(entries: list[dict], name: str) -> dict:
    return next(entry for entry in entries if entry["name"] == name)


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """Spend little time on intervals."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clones_summary, "bootstrap", partial(bootstrap, resamples=100))
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return clones.run(SMALL, tmp_path_factory.mktemp("small") / "run", two(1, 2, 2), by_sign)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Run:
    times = (5.0, 2.5, 1.5, 0.9, 0.4)
    config = replace(SMALL, trajectories=100, copies=2, block=100, t_max=6.0, t_min=0.02, steps=110, times=times)
    return clones.run(config, tmp_path_factory.mktemp("large") / "run", two(1, 2, 2), by_sign)


def test_the_times_of_two_equal_classes_are_those_of_their_speciation(large: Run) -> None:
    """Agreement passes 0.775 where alpha^2 |mu|^2 = sigma^2, at sigma/alpha = |mu| = 2 and t = log 5."""
    quantities, levels = large.summary["quantities"], large.summary["noise_levels"]
    assert [q["name"] for q in quantities] == ["class_agreement_time", "sign_agreement_time"]
    for kind in ("class", "sign"):
        at, level = named(quantities, f"{kind}_agreement_time"), named(levels, f"{kind}_agreement_level")
        assert at["stderr"] < 0.25
        assert abs(at["value"] - math.log(5)) < 4 * at["stderr"]
        assert at["low"] < at["value"] < at["high"]
        assert at["samples"] == 100
        for key in ("value", "low", "high"):
            assert level[key] == pytest.approx(math.sqrt(math.expm1(at[key])), rel=2e-2)
        assert at["noise_level"] == level["value"] == pytest.approx(math.sqrt(math.expm1(at["value"])), rel=1e-9)
        assert at["definition"].startswith(f"mean {kind} agreement of copies rises through 0.775")


def test_the_summary_holds_means_errors_baseline_and_cost(large: Run) -> None:
    """Means over trajectories with their bootstrap errors; the baseline is the earliest; every step is counted."""
    summary, data = large.summary, large.arrays
    for kind in ("class", "sign"):
        curves = data[f"{kind}_agreement"].to_numpy()
        rows = summary["agreement"][kind]
        np.testing.assert_allclose([row["value"] for row in rows], curves.mean(0), rtol=1e-12)
        np.testing.assert_allclose([row["stderr"] for row in rows], curves.std(0, ddof=1) / math.sqrt(100), rtol=0.35)
        assert summary["baseline"][kind] == rows[0]
        assert abs(rows[0]["value"] - 0.5) < 0.1
    assert summary["baseline"]["copy_time"] == data["copy_time"][0]
    left = 110 - data["copy_step"].to_numpy()
    assert summary["evaluations"] == {
        "trajectories": 100 * 110, "copies": 100 * 2 * left.sum(), "total": 100 * (110 + 2 * left.sum())
    }  # fmt: skip
    assert summary["threshold"] == THRESHOLD
    assert len(set(summary["trajectory_seeds"])) == 100


def test_every_evaluation_and_every_step_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The summary counts the states that go through the network, the progress bar's total the steps of all blocks."""
    honest, seen, counted, totals = two(1, 2, 2), [], [], []
    bar, measure = clones.progress_bar, clones.measure

    def bind(_label: int | None) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        def counting(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            seen.append(len(x))
            return honest.bind(None)(x, sigma)

        return counting

    monkeypatch.setattr(clones, "progress_bar", lambda show, total: (totals.append(total), bar(show, total))[1])
    monkeypatch.setattr(clones, "measure", lambda c, t, _: measure(c, t, lambda: counted.append(1)))
    run = clones.run(replace(SMALL, copies=2), tmp_path / "run", replace(honest, bind=bind), progress=True)
    # nine more states check and identify the network
    assert sum(seen) == run.summary["evaluations"]["total"] + 9
    assert totals == [len(counted)]


def test_stored_arrays_belong_together(large: Run) -> None:
    """Classes are those of the stored states, agreements those of the classes, with names, units and coordinates."""
    data = large.arrays
    assert data["first_copy"].dims == ("trajectory", "copy_time", "channel", "y", "x")
    assert data["parent"].dims == ("trajectory", "channel", "y", "x")
    own, copied = data["parent_class"].to_numpy(), data["copy_class"].to_numpy()
    np.testing.assert_array_equal(own, data["parent"].to_numpy().sum((1, 2, 3)) > 0)
    np.testing.assert_array_equal(copied[:, :, 0], data["first_copy"].to_numpy().sum((2, 3, 4)) > 0)
    pairs = [own[:, None] == copied[..., 0], own[:, None] == copied[..., 1], copied[..., 0] == copied[..., 1]]
    np.testing.assert_allclose(data["class_agreement"], np.mean(pairs, axis=0), rtol=1e-12)
    np.testing.assert_allclose(data["sign_agreement"], data["class_agreement"], rtol=1e-12)
    np.testing.assert_allclose(data["copy_level"], np.sqrt(np.expm1(data["copy_time"])), rtol=1e-12)
    assert (np.diff(data["copy_time"]) < 0).all()
    assert all(data[name].attrs["units"] and data[name].attrs["long_name"] for name in data.variables)


def test_interrupted_and_resumed_is_bit_identical(small: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that dies in its second block keeps the first, and ends with the bytes of another run of its config."""
    honest = clones.measure

    def dies(cloning, trajectories, on_step):
        if trajectories.start == 2:
            raise KeyboardInterrupt
        return honest(cloning, trajectories, on_step)

    monkeypatch.setattr(clones, "measure", dies)
    with pytest.raises(KeyboardInterrupt):
        clones.run(SMALL, tmp_path / "run", two(1, 2, 2), by_sign)
    assert Run.open(tmp_path / "run").arrays.sizes["trajectory"] == 2
    assert not (tmp_path / "run" / "summary.json").exists()
    monkeypatch.setattr(clones, "measure", honest)
    resumed = clones.run(SMALL, tmp_path / "run", two(1, 2, 2), by_sign)
    assert digest(resumed.directory) == digest(small.directory)
    assert resumed.summary["quantities"] == small.summary["quantities"]


def test_repeating_a_finished_run_computes_nothing(small: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clones, "measure", lambda *_: pytest.fail("simulated again"))
    clones.run(SMALL, small.directory, two(1, 2, 2), by_sign)


def test_a_run_is_not_resumed_with_other_weights(small: Run) -> None:
    """The message names the weights, of the model or of the classifier."""
    for model, classifier, name in (
        (two(1, 2, 2, scale=0.9), by_sign, "model fingerprint"),
        (two(1, 2, 2), lambda x: 2 * by_sign(x), "model classifier"),
        (two(1, 2, 2), None, "model classifier"),
    ):
        with pytest.raises(ValueError, match=f"out: .* holds a run with {name}"):
            clones.run(SMALL, small.directory, model, classifier)


def states(run: Run) -> dict[str, Array]:
    return {name: run.arrays[name].to_numpy() for name in ("parent", "first_copy", "sign_agreement", "class_agreement")}


@pytest.mark.parametrize("block", [1, 3])
def test_results_do_not_depend_on_batching(block: int, small: Run, tmp_path: Path) -> None:
    other = clones.run(replace(SMALL, block=block), tmp_path / "run", two(1, 2, 2), by_sign)
    for name, values in states(small).items():
        np.testing.assert_allclose(states(other)[name], values, rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_copy_depends_on_nothing_but_its_own_key(small: Run, tmp_path: Path) -> None:
    """More trajectories, more copies or other times leave a trajectory and its first copies as they are."""
    config = replace(SMALL, trajectories=6, copies=2, times=(3.0, 2.5, 1.7, 1.0, 0.3))
    more = states(clones.run(config, tmp_path / "run", two(1, 2, 2), by_sign))
    np.testing.assert_allclose(more["parent"][:5], small.arrays["parent"], rtol=1e-12)
    np.testing.assert_allclose(more["first_copy"][:5, [1, 3, 4]], small.arrays["first_copy"], rtol=1e-12)


def test_copies_trajectories_and_seeds_are_all_different(small: Run, tmp_path: Path) -> None:
    """No final state occurs twice, within a run or in one of another seed."""
    other = clones.run(replace(SMALL, seed=1), tmp_path / "run", two(1, 2, 2), by_sign)
    final = [
        state
        for run in (small, other)
        for name in ("parent", "first_copy")
        for state in states(run)[name].reshape(-1, 4).tolist()
    ]
    assert len({tuple(state) for state in final}) == len(final) == 2 * (5 + 15)


def test_copies_at_the_end_are_the_trajectory(tmp_path: Path) -> None:
    run = clones.run(replace(SMALL, times=(0.05, 3.0), copies=2), tmp_path / "run", two(1, 2, 2), by_sign)
    np.testing.assert_array_equal(run.arrays["first_copy"][:, 1], run.arrays["parent"])
    assert (run.arrays["sign_agreement"][:, 1] == 1).all()
    assert run.arrays["copy_step"].to_numpy().tolist() == [0, 40]


def test_a_label_binds_the_model(tmp_path: Path) -> None:
    config = replace(SMALL, labels="1")
    run = clones.run(config, tmp_path / "run", two(1, 2, 2, classes=2), by_sign)
    assert (run.arrays["parent_class"] == 0).all()
    assert (run.arrays["class_agreement"] == 1).all()
    at = named(run.summary["quantities"], "class_agreement_time")
    assert at["value"] is None
    assert at["reason"].startswith("the mean stays above 0.775: it is at least 1.000")


TIMES = np.array([8.0, 4.0, 2.0, 1.0, 0.5])


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
    at, level = agreement_estimates(curves, TIMES, VP())
    # from 0.6 at t = 2 to 1 at t = 1
    assert at.value == pytest.approx(2 * 2 ** (-0.175 / 0.4), rel=1e-12)
    assert level.value == pytest.approx(math.sqrt(math.expm1(at.value)), rel=1e-12)
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
    for estimate in agreement_estimates(np.array([curve] * trajectories), TIMES, VP()):
        assert math.isnan(estimate.value)
        assert math.isnan(estimate.stderr)
        assert estimate.reason == reason


def test_one_trajectory_has_no_error_bar() -> None:
    at, _ = agreement_estimates(np.array([[0.0, 0.5, 0.9, 1.0, 1.0]]), TIMES, VP())
    assert math.isfinite(at.value)
    assert math.isnan(at.stderr)
    assert at.reason == "one trajectory has no error bar"


def test_steps_of_copies() -> None:
    assert steps(10, 3, [0, 4, 10]) == (10, 3 * (10 + 6 + 0))


def classifier_file(path: Path, size: tuple[int, ...] = (8, 8), values: str = "grey") -> str:
    torch.manual_seed(0)
    card = Card("classifier", 1, size, 10, "Fashion-MNIST", values)
    save_weights(path / "classifier.safetensors", card.build(), card, {})
    return str(path / "classifier.safetensors")


def test_a_classifier_by_path_tells_the_classes(tmp_path: Path) -> None:
    """Its card says which data set the classes are of; grey images of training are noted for binary states."""
    config = replace(SMALL, classifier=classifier_file(tmp_path), trajectories=2, times=(1.0,))
    run = clones.run(config, tmp_path / "run", two(1, 8, 8))
    assert run.identity["classifier"] == {"used": True, "data": "Fashion-MNIST", "note": ""}
    assert run.arrays["copy_class"].isin(np.arange(10)).all()
    binary = clones.prepare(config, replace(two(1, 8, 8), binary=True))
    assert "trained on grey images" in binary.note


def test_the_default_classifier_is_left_out_of_other_states_with_a_note(tmp_path: Path) -> None:
    config = replace(SMALL, classifier=ClonesConfig("m").classifier)
    run = clones.run(config, tmp_path / "run", two(1, 2, 2))
    assert "class_agreement" not in run.arrays
    assert list(run.summary["agreement"]) == ["sign"]
    assert [q["name"] for q in run.summary["quantities"]] == ["sign_agreement_time"]
    note = run.summary["classifier"]["note"]
    assert "fashion-mnist-classifier tells those of states (1, 28, 28), not (1, 2, 2)" in note


def test_none_leaves_classes_out(tmp_path: Path) -> None:
    run = clones.run(SMALL, tmp_path / "run", two(1, 2, 2))
    assert "parent_class" not in run.arrays
    assert "on request" in run.summary["classifier"]["note"]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["config"] == asdict(SMALL) | {
        "times": [2.5, 1.0, 0.3], "shape": []
    }  # fmt: skip


def test_default_times_are_even_in_the_log_of_the_noise_level() -> None:
    for process, span in ((VP(), (20, 0.2)), (VE(), (10, 0.2))):
        config = replace(SMALL, times=(), t_max=10.0, t_min=1e-3, steps=2000)
        prepared = clones.prepare(config, two(1, 2, 2, process=process))
        levels = process.noise_level(prepared.times[prepared.starts]).numpy()
        np.testing.assert_allclose(levels[[0, -1]], span, rtol=0.02)
        if isinstance(process, VP):
            np.testing.assert_allclose(levels, np.geomspace(20, 0.2, 8), rtol=0.02)


@pytest.mark.parametrize(
    ("shape", "process", "change"),
    [
        ((1, 6), VP(), {}),
        ((3, 2, 3), VP(), {"dtype": "float32"}),
        ((1, 2, 2, 2), VP(), {"trajectories": 1, "copies": 2}),
        ((1, 2, 2), VE(), {"t_max": 20.0, "t_min": 0.1, "steps": 80, "times": (10.0, 1.0)}),
    ],
)
def test_every_kind_of_state_runs_to_a_summary(shape, process, change, tmp_path: Path) -> None:
    run = clones.run(replace(SMALL, **change), tmp_path / "run", two(*shape, process=process), by_sign)
    assert run.arrays["parent"].shape[1:] == shape
    assert run.arrays["parent"].dtype == change.get("dtype", "float64")
    assert (abs(abs(run.arrays["parent"]) - 1) < 1).all()
    assert len(run.summary["quantities"]) == 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"trajectories": 0}, "trajectories: got 0"),
        ({"copies": 0}, "copies: got 0"),
        ({"block": 0}, "block: got 0"),
        ({"seed": -1}, "seed: got -1"),
        ({"steps": 0}, "steps: got 0"),
        ({"t_max": 0.001}, "t_max: got 0.001"),
        ({"t_max": 150.0, "dtype": "float32"}, "t_max: got 150"),
        ({"times": (30.0,)}, "times: got"),
        ({"times": (1.0, math.nan)}, "times: got"),
        ({"times": (1e-4,)}, "times: got"),
        ({"device": "abacus"}, "device: got 'abacus'"),
        ({"labels": "3"}, "labels: got 3"),
        ({"labels": "3", "classes": 2}, "labels: got 3; expected 0 to 1"),
        ({"classifier": "nobody"}, "classifier: cannot use 'nobody'"),
        ({"classifier": "8x8"}, r"classifier: '.*' tells the classes of states \(1, 8, 8\), not \(1, 2, 2\)"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(change: dict, named: str, tmp_path: Path) -> None:
    """One line that starts with the argument and its value; the directory is not even made."""
    if change.get("classifier") == "8x8":
        change = {"classifier": classifier_file(tmp_path)}
    model = two(1, 2, 2, classes=change.pop("classes", 0)) if "classes" in (change := dict(change)) else two(1, 2, 2)
    with pytest.raises(ValueError, match=f"^{named}") as caught:
        clones.run(replace(SMALL, **change), tmp_path / "run", model)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("classifier", "named"),
    [
        (torch.nn.Linear(3, 2).double(), "classifier: cannot tell the classes of states"),
        (lambda x: x.flatten(1).sum(1), r"classifier: returned \(2,\) for two states"),
        (lambda x: by_sign(x) / 0, r"classifier: returned \(2, 2\) for two states; expected finite"),
        (lambda x: "dress", "classifier: returned str"),
    ],
)
def test_a_classifier_that_does_not_fit_is_an_error(classifier: clones.Classify, named: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^{named}") as caught:
        clones.run(SMALL, tmp_path / "run", two(1, 2, 2), classifier)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_model_of_another_shape_is_an_error(tmp_path: Path) -> None:
    wrong = replace(two(1, 2, 2), shape=(1, 3, 3))
    with pytest.raises((ValueError, RuntimeError)):
        clones.run(SMALL, tmp_path / "run", wrong)
    assert not (tmp_path / "run").exists()
