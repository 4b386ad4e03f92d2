"""Pulse experiments: which levels each condition guides, the summary by hand, resumption, and unusable input."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from softmode.config import PulseConfig, SusceptibilityConfig
from softmode.estimate import Estimate
from softmode.exact.mixture import GaussianMixture
from softmode.experiments import guided, guided_run, pulse, susceptibility
from softmode.experiments.guided_setup import prepare
from softmode.experiments.pulse_summary import by_trial, dose
from softmode.experiments.susceptibility_summary import contains, distance
from softmode.guidance_report import print_check, print_pulse, print_susceptibility
from softmode.model import Model
from softmode.observe.alignment import diversity, frechet_distance
from softmode.process import VE, rho_grid
from softmode.store import Run

LEVELS = rho_grid(levels=32)
NAMES = ["unguided", "critical", "random", "random_log", "random_step", "spread", "constant", "window", "interval"]


class Nearest:
    """A classifier of four corners: its features are the means of the rows' two halves."""

    channels, classes = 1, 3

    def features(self, x: Tensor) -> Tensor:
        return torch.stack([x[..., :4].mean((1, 2, 3)), x[..., 4:].mean((1, 2, 3)), x.std((1, 2, 3))], 1)

    def head(self, features: Tensor) -> Tensor:
        a, b, _ = features.T
        return torch.stack([a + b, a - b, -a - b], 1)

    def __call__(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def model(name: str = "corners") -> Model:
    left = torch.cat([torch.ones(8, 4), -torch.ones(8, 4)], 1)
    mixture = GaussianMixture(torch.stack([torch.ones(8, 8), left, -torch.ones(8, 8)]).unsqueeze(1) * 0.7, 0.3)
    return Model(name, VE(), (1, 8, 8), mixture.denoiser, classes=3)


CONFIG = PulseConfig("corners", classes=3, trials=6, sigma_c=3.0, block=4, weight=1.5)


def settled(**changes: Any) -> PulseConfig:
    return replace(CONFIG, **{"half_width": 1.5} | changes)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Run:
    images = torch.randn(30, 1, 8, 8, generator=torch.Generator().manual_seed(0)).numpy()
    home = tmp_path_factory.mktemp("pulse")
    np.savez(home / "real.npz", images=images)
    return pulse.run(replace(CONFIG, data=str(home / "real.npz")), home / "run", model(), None, Nearest())


def weights(name: str, trials: range, **changes: Any) -> Tensor:
    """Return the weight of every trial of class 1 at every level under a condition."""
    (condition,) = (c for c in pulse.build(settled(**changes), LEVELS, (1.0, 6.0)) if c.name == name)
    assert condition.weight is not None
    weight = condition.weight(1, trials)
    return torch.stack([weight(level).expand(len(trials)) for level in LEVELS], 1)


def test_fixed_conditions_guide_the_levels_that_they_say() -> None:
    inside = ((LEVELS > 1.5) & (LEVELS <= 4.5)).double()
    count = int(inside.sum())
    assert count > 2
    assert torch.equal(weights("critical", range(2)), 1.5 * inside.expand(2, -1))
    assert torch.equal(weights("window", range(1))[0], 1.5 * ((LEVELS > 1) & (LEVELS <= 6)).double())
    assert torch.equal(weights("interval", range(1))[0], 1.5 * ((LEVELS > 0.19) & (LEVELS <= 1.61)).double())
    spread = weights("spread", range(1))[0].nonzero().flatten()
    assert len(spread) == count
    gaps = spread.diff()
    assert int(gaps.max() - gaps.min()) <= 1
    constant = weights("constant", range(1))[0]
    assert (constant == constant[0]).all()
    calls = guided.calls_at(LEVELS).double()
    assert float((constant * calls).sum()) == pytest.approx(float((1.5 * inside * calls).sum()))


def test_random_pulses_have_the_critical_one_s_width_in_their_own_coordinate() -> None:
    """Places are uniform there: quartiles over 2000 trials within 4 standard errors, which are small."""
    trials = range(2000)
    conditions = {c.name: c for c in pulse.build(settled(), LEVELS, None)}
    ends = {n: conditions[n].weight(1, trials) for n in ("random", "random_log")}
    sigma, log = ends["random"], ends["random_log"]
    centre = sigma.high - 1.5
    assert torch.allclose(sigma.low, (centre - 1.5).clamp(min=0))
    assert torch.allclose((log.high / log.low).log(), torch.tensor(math.log(3.0), dtype=torch.float64))
    for values, first, last in (
        (centre, 0.002, 80.0), ((log.high * log.low).sqrt().log(), math.log(0.002), math.log(80.0)),
    ):  # fmt: skip
        share = (values - first) / (last - first)
        assert 0 <= float(share.min()) < float(share.max()) <= 1
        for quartile in (0.25, 0.5, 0.75):
            error = math.sqrt(quartile * (1 - quartile) / 2000)
            assert error < 0.012
            assert abs(float((share < quartile).double().mean()) - quartile) < 4 * error
    steps = weights("random_step", trials) != 0
    count = int((weights("critical", range(1)) != 0).sum())
    assert (steps.sum(1) == count).all()
    assert {int(row.nonzero()[-1] - row.nonzero()[0]) for row in steps} == {count - 1}, "consecutive"
    assert steps.any(0).all(), "the first and the last levels too"


def test_a_random_place_belongs_to_its_trial() -> None:
    (cond,) = (c for c in pulse.build(settled(), LEVELS, None) if c.name == "random")
    assert cond.weight is not None
    every, some = cond.weight(1, range(5)), cond.weight(1, [3])
    assert every.high[3] == some.high[0]
    assert len(set(every.high.tolist())) == 5
    assert cond.weight(2, [3]).high[0] != some.high[0]


def test_conditions_are_counted_by_hand(stored: Run) -> None:
    data, rows = stored.arrays, {row["name"]: row for row in stored.summary["conditions"]}
    assert list(rows) == [name for name in NAMES if name != "window"], "no window without one"
    real = data["real_features"].to_numpy()
    for place, (name, row) in enumerate(rows.items()):
        weight = data["weight"].to_numpy()[:, place]
        assert row["unguided_trials"] == int((weight == 0).all(1).sum())
        assert row["guided_steps"]["mean"] == pytest.approx((weight != 0).sum(1).mean())
        probability = data["probability"].to_numpy()[:, place].reshape(3, 6)
        assert row["probability"]["value"] == pytest.approx(probability.mean())
        assert row["probability"]["stderr"] == pytest.approx(probability.mean(1).std(ddof=1) / math.sqrt(3))
        features = data["features"].to_numpy()[:, place].reshape(3, 6, -1)
        assert row["diversity"]["value"] == pytest.approx(np.mean([diversity(f) for f in features]))
        without = [np.mean([diversity(np.delete(f, i, 0)) for f in features]) for i in range(6)]
        assert row["diversity"]["stderr"] == pytest.approx(math.sqrt(5) * np.std(without))
        assert row["frechet"]["value"] == pytest.approx(frechet_distance(features.reshape(18, -1), real))
        assert row["frechet_change"]["value"] == pytest.approx(
            row["frechet"]["value"] - rows["unguided"]["frechet"]["value"]
        )
        assert name != "random" or 0 < row["unguided_trials"] < 18, "some pulses fall between the levels"
    # weight times the log of the ratio of its ends, but for half a step
    assert rows["critical"]["dose"] == pytest.approx(1.5 * math.log(3), rel=0.3)
    assert rows["unguided"]["diversity_ratio"] == rows["unguided"]["diversity_ratio"] | {"value": 1.0, "stderr": 0.0}
    top1 = by_trial(stored, "top1")
    labels = np.repeat([0, 1, 2], 6)
    assert top1[1].mean() == pytest.approx((data["predicted"].to_numpy()[:, 1] == labels).mean())


def test_comparisons_are_paired_differences(stored: Run) -> None:
    summary = stored.summary
    rows = {(row["measure"], row["baseline"]): row for row in summary["comparisons"]}
    assert len(rows) == 3 * 7
    logit = by_trial(stored, "logit")
    row = rows["logit", "random"]
    difference = (logit[1] - logit[2]).mean(1)
    assert [entry["value"] for entry in row["by_class"]] == pytest.approx(difference.tolist())
    assert row["pooled"]["value"] == pytest.approx(difference.mean())
    assert [entry["label"] for entry in row["by_class"]] == [0, 1, 2]
    assert row["p_holm"] >= row["p"]


def test_the_dose_of_a_constant_weight_is_the_log_of_the_range() -> None:
    assert dose(np.full(32, 2.0), LEVELS.numpy()).sum() == pytest.approx(2 * math.log(80 / 0.002))


def test_an_interrupted_run_resumes_at_the_condition_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pulse.run(CONFIG, tmp_path / "whole", model(), None, Nearest())
    calls, measure = [], guided.measure

    def failing(*arguments: Any) -> Any:
        calls.append(arguments[2].name)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(guided_run, "measure", failing)
    with pytest.raises(KeyboardInterrupt):
        pulse.run(CONFIG, tmp_path / "cut", model(), None, Nearest())
    assert calls[:8] == [name for name in NAMES if name != "window"]
    cut = Run.open(tmp_path / "cut")
    assert cut.arrays.sizes["trajectory"] == 4, "only trials with every condition are shown"
    del calls[:]
    monkeypatch.setattr(guided_run, "measure", lambda *a: calls.append(a[2].name) or measure(*a))
    resumed = pulse.run(CONFIG, tmp_path / "cut", model(), None, Nearest())
    assert calls[0] == "random_log"
    assert len(calls) == 5 * 8 - 11
    for name in whole.arrays.data_vars:
        np.testing.assert_array_equal(resumed.arrays[name].to_numpy(), whole.arrays[name].to_numpy())


def test_sigma_c_is_measured_first_and_the_window_is_a_condition(tmp_path: Path) -> None:
    """Without one, a window is found in the run's own directory over all classes; a second run takes it from there."""
    config = replace(CONFIG, sigma_c=None, trials=2, classifier="none")
    run = pulse.run(config, tmp_path / "run", model(), None, Nearest())
    answer = json.loads((tmp_path / "run" / "window" / "window.json").read_text())
    assert run.config["sigma_c"] == answer["sigma_c"]["value"]
    assert answer["config"]["labels"] == "0,1,2"
    assert [row["name"] for row in run.summary["conditions"]] == NAMES
    again = replace(config, window=str(tmp_path / "run" / "window"))
    other = pulse.run(again, tmp_path / "other", model(), None, Nearest())
    np.testing.assert_array_equal(other.arrays["logit"], run.arrays["logit"])
    with pytest.raises(ValueError, match=r"window: .* is of 'corners', not of 'others'"):
        pulse.run(again, tmp_path / "third", model("others"), None, Nearest())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": math.inf}, "weight: got inf; expected a finite number"),
        ({"trials": 0}, "trials: got 0; expected at least 1"),
        ({"classes": 4}, "classes: got 4; expected at most 3"),
        ({"labels": "1,5"}, "labels: got 5; expected 0 to 2"),
        ({"half_width": 3.5}, "half_width: got 3.5; expected less than sigma_c = 3"),
        ({"half_width": 0.01}, "half_width: got 0.01; .* the nearest is"),
        ({"half_width": -1.0}, "half_width: got -1.0; expected a positive number"),
        ({"sigma_c": -1.0}, "sigma_c: got -1.0; expected a positive noise level"),
        ({"interval": (2.0, 1.0)}, r"interval: got \(2, 1\]; expected 0 <= low < high"),
        ({"steps": 1}, "at least 2 levels"),
        ({"window": "nowhere"}, "directory: 'nowhere' holds no softmode run"),
        ({"guide": "nothing-such"}, "guide: cannot use 'nothing-such'"),
        ({"data": "none.npz"}, "data: cannot read 'images'"),
    ],
)
def test_bad_input(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        pulse.run(replace(CONFIG, **change), tmp_path / "run", model(), None, Nearest())
    assert not (tmp_path / "run").exists()


def test_another_experiments_directory_is_left_alone(stored: Run) -> None:
    """No window is measured into it first."""
    before = sorted(path.name for path in stored.directory.iterdir())
    with pytest.raises(ValueError, match=r"out: .* holds a run of pulse; choose another directory"):
        susceptibility.run(replace(SHORT, sigma_c=None), stored.directory, model(), None, Nearest())
    assert sorted(path.name for path in stored.directory.iterdir()) == before


def test_models_that_cannot_be_guided_are_refused(tmp_path: Path) -> None:
    free = Model("free", VE(), (1, 8, 8), lambda _label: model().denoiser(0))
    with pytest.raises(ValueError, match="model: 'corners' has no classes"):
        prepare(CONFIG, free, None, Nearest())

    def bind(label: int | None) -> Any:
        if label is None:
            raise ValueError("labels: this model has no class for all of them")
        return model().denoiser(label)

    with pytest.raises(ValueError, match=r"guide: 'stubborn' cannot drop its label .* name another model"):
        prepare(CONFIG, Model("stubborn", VE(), (1, 8, 8), bind, classes=3), None, Nearest())
    with pytest.raises(
        ValueError, match="classifier: no agreement of classes: fashion-mnist-classifier tells those of"
    ):
        prepare(CONFIG, model())


SHORT = SusceptibilityConfig(
    "corners", classes=3, trials=4, sigma_c=2.0, centres=4, highest=20.0, lowest=0.1, weight=1.0
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centres": 2}, "centres: got 2; expected at least 3"),
        ({"width": 0.0}, "width: got 0.0; expected a positive number"),
        ({"width": 1e-3}, "holds no level of the sampler: use a wider one or more steps"),
        ({"highest": 100.0}, "lowest, highest: got 0.1 and 100"),
    ],
)
def test_bad_susceptibilities(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        susceptibility.run(replace(SHORT, **change), tmp_path / "run", model(), None, Nearest())
    assert not (tmp_path / "run").exists()


def test_a_window_is_checked_against_chi(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = susceptibility.run(SHORT, tmp_path / "chi", model(), None, Nearest())
    top = run.summary["argmax"]["logit"]
    window = {
        "model": {"name": "corners"}, "answer": "guide", "sigma_lo": {"value": 0.5 * top["low"]},
        "sigma_hi": {"value": 2 * top["high"]},
    }  # fmt: skip
    (row,) = (row for row in contains(window, run) if row["measure"] == "logit")
    assert (row["inside"], row["certain"]) == (True, True)
    print_check(window, [row])
    assert "inside the window" in capsys.readouterr().out
    window["sigma_hi"]["value"] = top["value"] * (1 + 1e-9)
    (row,) = (row for row in contains(window, run) if row["measure"] == "logit")
    assert (row["inside"], row["certain"]) == (True, top["high"] <= window["sigma_hi"]["value"])
    window["sigma_lo"]["value"] = top["value"]
    assert [r["inside"] for r in contains(window, run) if r["measure"] == "logit"] == [False]
    window["sigma_lo"]["value"] = None
    assert {r["inside"] for r in contains(window, run)} == {None}
    with pytest.raises(ValueError, match=r"check: .* is of 'corners', the window of 'others'"):
        contains(window | {"model": {"name": "others"}}, run)
    print_susceptibility(run)
    assert "maximum  of chi of probability" in capsys.readouterr().out


def test_the_distance_is_a_log_ratio_with_both_errors() -> None:
    found = distance(Estimate(2.0, 0.2, 40), Estimate(4.0, 0.8, 20))
    assert found.value == pytest.approx(math.log(0.5))
    assert found.stderr == pytest.approx(math.hypot(0.1, 0.2))


def test_tables_fit_eighty_columns(
    stored: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_pulse(stored)
    printed = capsys.readouterr().out
    assert "…" not in printed
    for words in ("no step", "random_step", "corrected", "Fréchet", "critical less random pulse, by class"):
        assert words in printed
