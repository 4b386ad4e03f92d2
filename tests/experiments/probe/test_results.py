"""What a probe says: an answer, gains with errors, the bound, the response's structure, the cost."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.models import ornstein_zernike, two_states
from helpers.probes import TINY, exact_model
from helpers.runs import run
from softmode.beta import Custom
from softmode.exact.gaussian import GaussianDenoiser
from softmode.experiments.call import open as open_run
from softmode.experiments.probe import measure
from softmode.experiments.probe.analyse import analyse
from softmode.observe.gains import evaluations
from softmode.process import VP
from softmode.runs.results import Results


def bound(tmp_path: Path, name: str, factor: float) -> dict:
    """Return the bound check of the Gaussian model with its gains multiplied by a factor above sigma = 1."""
    exact = GaussianDenoiser(ornstein_zernike(8, 8, mass=0.4), 0.2)

    def denoiser(x: Tensor, sigma: Tensor | float) -> Tensor:
        return exact(x, sigma) * (factor if float(sigma) > 1 else 1.0)

    made = replace(exact_model("gaussian"), bind=lambda _label: denoiser)
    settings = TINY | {"states": "forward", "trajectories": 9, "method": "difference"}
    return run("probe", tmp_path / name, model=made, **settings).results.values["bound"]


def test_a_score_above_the_bound_is_reported_with_where(tmp_path: Path) -> None:
    """The Gaussian saturates the bound and passes; 5 % more gain above sigma = 1 is found there, in every shell."""
    honest, wrong = bound(tmp_path, "honest", 1.0), bound(tmp_path, "wrong", 1.05)
    assert honest["checked"]
    assert honest["violations"] == []
    assert {v["shell"] for v in wrong["violations"]} == {0, 1, 2, 3}
    assert min(v["sigma_to"] for v in wrong["violations"]) > 1


def test_a_gaussian_has_no_peak_and_the_bound_is_not_checked_on_samples(tmp_path: Path) -> None:
    results = run("probe", tmp_path / "reverse", model=exact_model("gaussian"), **TINY).results
    assert not results.values["bound"]["checked"]
    assert "not checked" in results.tables["bound"].note
    assert results.answer.startswith("No softening of the long waves of gaussian stands out")
    assert results.answer.endswith("has no peak.")


def test_two_states_are_softest_where_they_part(tmp_path: Path) -> None:
    """The answer names the first peak of the convention-free xi_eq, in noise levels, with its error; null or not."""
    field = torch.cos(2 * math.pi * torch.arange(8) / 8).expand(1, 8, 8).mT.double() + 1.2
    settings = TINY | {"steps": 240, "measure_every": 6, "t_max": 9.0}
    found = run("probe", tmp_path / "run", model=two_states(field), **settings)
    (first, *_) = found.results.of("xi_eq_gain_peak")
    assert float(field.norm()) / 2.5 < first.level < 2.5 * float(field.norm())
    assert first.level == pytest.approx(math.sqrt(math.expm1(first.estimate.value)))
    answer = found.results.answer
    assert answer.startswith("The long waves of two are softest at sigma/alpha = ")
    assert f"(t = {first.estimate})" in answer
    assert answer.endswith("there is no Gaussian null model to compare with.")
    assert any("--data" in note for note in found.results.notes)
    rows = next(iter(found.results.tables.values())).rows
    assert 1 < len(rows) <= 8


def test_results_come_from_what_is_stored_alone(tmp_path: Path) -> None:
    """Analysed again from its directory, without the model, a run says the same; so does what JSON keeps."""
    found = run("probe", tmp_path / "run", model=exact_model("patch"), **TINY)
    again = open_run(tmp_path / "run")
    plain = analyse(again).plain()
    assert plain == Results.from_plain(plain).plain()
    assert plain == found.results.plain()


@pytest.mark.filterwarnings("ignore:steps")
def test_a_schedule_of_ones_own_keeps_its_noise_levels(tmp_path: Path) -> None:
    """A process that no text can name is read off the stored grid."""
    process = VP(Custom(lambda t: 1 + t, t_end=8.0))
    exact = replace(exact_model("prototypes"), process=process)
    found = run("probe", tmp_path / "run", model=exact, **TINY)
    assert found.identity["model"]["schedule"] == ""
    times = [q for q in found.results.quantities if math.isfinite(q.estimate.value)]
    assert times
    for q in times:
        assert q.level == pytest.approx(float(process.noise_level(q.estimate.value)), rel=0.05)


@pytest.mark.filterwarnings("ignore:steps")
def test_locality_of_the_two_state_model_at_the_symmetric_point(tmp_path: Path) -> None:
    """At high noise each site answers to its nine neighbours: Omega 9, t_c = log 10, odd and equivariant."""
    settings = TINY | {"t_max": 12.0, "t_min": 1.0, "steps": 150, "snapshots": (11.0,), "trajectories": 24, "block": 24}
    row = run("probe", tmp_path / "run", model=exact_model("patch"), **settings).results.values["locality"][0]
    omega, radius = row["omega"], row["radius"]
    assert omega.stderr < 2.0
    assert abs(omega.value - 9) < 4 * omega.stderr
    assert row["t_c"] == pytest.approx(math.log(1 + omega.value))
    assert abs(radius.value - math.sqrt(12 / 9)) < 4 * radius.stderr
    assert row["equivariance"].value < 1e-9
    assert row["oddness"].value < 1e-9


@pytest.mark.parametrize("settings", [{}, {"sampler": "heun", "steps": 12, "measure_every": 3}, {"states": "forward"}])
def test_the_evaluations_that_were_spent_are_stated(
    settings: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count is the number of states that went through the denoiser, those of the checks before the run left out."""
    monkeypatch.setattr(measure, "warn_if_unsound", lambda *_: None)
    exact, seen = exact_model("prototypes"), []
    inner = exact.denoiser()

    def counting(x: Tensor, sigma: Tensor | float) -> Tensor:
        seen.append(len(x))
        return inner(x, sigma)

    found = run("probe", tmp_path / "run", model=replace(exact, bind=lambda _label: counting), **TINY | settings)
    spent = found.results.values["evaluations"]
    checks = 3 * 3 + 2  # of the denoiser's contract
    prints = 3  # of its identity
    assert spent["total"] == sum(seen) - checks - prints
    # every fourth time with two steps
    times = found.dataset.sizes["time"] + -(-found.dataset.sizes["time"] // 4)
    assert spent["gains"] == 5 * times * evaluations("multiplexed", 3, 2)


def test_gains_come_with_standard_errors(tmp_path: Path) -> None:
    """Medians over trajectories, and errors that a constant gain does not have."""
    found = run("probe", tmp_path / "run", model=exact_model("prototypes"), **TINY | {"method": "difference"})
    gains, table = found.dataset["gain"].to_numpy(), found.results.values["gain"]
    np.testing.assert_allclose(table["median"], np.median(gains, 0))
    spread = gains.std(0, ddof=1) / math.sqrt(len(gains))
    ratio = np.median(np.array(table["stderr"])[spread > 1e-3] / spread[spread > 1e-3])
    assert 0.5 < ratio < 2.5
