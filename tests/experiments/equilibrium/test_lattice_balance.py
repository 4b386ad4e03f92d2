"""Entropy production of finite-size runs: what is stored of it, and what is said."""

import math

import numpy as np
import pytest
import torch

from helpers.random import normal
from softmode.estimate import Estimate, of_mean
from softmode.exact.patch import TwoStatePatch
from softmode.exact.patch_balance import entropy_production, irreciprocity
from softmode.exact.patch_dynamics import follow, frozen_steps
from softmode.experiments.equilibrium import lattice_figures
from softmode.experiments.equilibrium.lattice_balance import Balance, Point, _at
from softmode.experiments.equilibrium.lattice_found import Found
from softmode.experiments.equilibrium.lattice_series import followed
from softmode.experiments.equilibrium.lattice_stages import BLOCKS
from softmode.lattice import ReceptiveField
from softmode.runs.run import Run

BOX = TwoStatePatch(ReceptiveField.box(3))


def test_states_are_seen_at_the_ends_of_blocks_with_a_kick() -> None:
    steps, x, keys = frozen_steps(1.2, 0.5, 4), 1.2 * normal(2, 1, 8, 8).float(), torch.tensor([3, 4])
    seen = followed(BOX, x, steps, 5, (3, 7), keys, torch.Generator().manual_seed(1))
    whole, series = follow(BOX, x, steps, 5 + 3 * 7, keys, 0, "three-point")
    assert np.array_equal(seen.series, series)
    assert torch.equal(seen.last, whole)
    ends = torch.cat([follow(BOX, x, steps, rounds, keys, 0, "three-point")[0] for rounds in (12, 19, 26)])
    kick = torch.randn(ends.shape, generator=torch.Generator().manual_seed(1))
    states = ends + 1.2 * math.sqrt(0.5 / 2) * kick
    expected = entropy_production(BOX, states, 1.2).reshape(3, 2).T
    assert np.allclose(seen.production, expected, rtol=1e-6, atol=1e-9)
    assert np.allclose(seen.irreciprocity, irreciprocity(BOX, states[4:], 1.2), rtol=1e-6)


def test_many_sites_are_measured_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    steps, x, keys = frozen_steps(1.2, 0.5, 4), normal(2, 1, 8, 8).float(), torch.tensor([3, 4])
    found = []
    for together in (2**16, 130, 1):
        monkeypatch.setattr("softmode.experiments.equilibrium.lattice_series.TOGETHER", together)
        found.append(followed(BOX, x, steps, 0, (3, 2), keys, torch.Generator().manual_seed(1)))
    for other in found[1:]:
        assert np.allclose(other.production, found[0].production, rtol=1e-10)
        assert np.allclose(other.irreciprocity, found[0].irreciprocity, rtol=1e-10)


def test_the_value_at_a_time_is_that_of_a_parabola_with_its_error() -> None:
    rng, times, errors = np.random.default_rng(0), np.linspace(1.3, 1.8, 7), np.linspace(0.01, 0.03, 7)
    truth = 0.2 + 0.5 * (times - 1.6) - 2 * (times - 1.6) ** 2
    away = []
    for _ in range(400):
        values = truth + errors * rng.normal(size=7)
        points = [
            Point(float(t), 1.0, Estimate(float(v), float(e), 10), Estimate.exact(0.3))
            for t, v, e in zip(times, values, errors, strict=True)
        ]
        found = _at(points, 1.6)
        away.append((found.value - 0.2) / found.stderr)
    assert abs(np.mean(away)) < 4 / math.sqrt(400)
    assert np.std(away) == pytest.approx(1, abs=4 / math.sqrt(800))
    assert found.samples == 70


def test_the_steady_state_is_none_of_equilibrium(run: Run) -> None:
    e = run.results["entropy_production"].estimate
    # 0.020 at the transition of large lattices, by benchmarks/entropy_production.py; t_c of small ones is less sharp
    assert e.value == pytest.approx(0.020, abs=4 * e.stderr)
    assert 0 < e.stderr < 0.005
    assert "It is no equilibrium: at t_c the steady state produces 0.0" in run.results.answer
    rows = {row[0]: row for row in run.results.tables["balance"].rows}
    below, at, most, far = (rows[name][4] for name in ("below", "at t_c", "most", "far above"))
    assert abs(below.value) < at.value - 3 * at.stderr
    assert most.value > at.value
    assert far.value < most.value - 3 * far.stderr
    # the share falls as the denoiser becomes linear
    shares = [rows[name][5].value for name in ("below", "at t_c", "above", "far above")]
    assert sorted(shares, reverse=True) == shares
    assert all(0 < share < 0.5 for share in shares)


def test_half_the_step_is_taken_into_account(run: Run) -> None:
    balance = Balance.of(Found.of(run))
    assert balance is not None
    assert balance.at_transition.value == pytest.approx(balance.at_step.value + 2 * balance.shift.value)
    assert balance.at_transition.stderr > math.hypot(balance.at_step.stderr, 2 * balance.shift.stderr)
    # both starts count above the transition, ordered ones alone below
    t_c = Found.of(run).t_c.value
    for point in balance.curve:
        assert point.production.samples == 4 * BLOCKS * (2 if point.time > t_c else 1)
    values = run.dataset["production"].to_numpy()[:, -1]
    assert balance.largest[3].production == of_mean(values[:, 3].ravel())


def test_a_run_that_was_made_before_says_nothing_of_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Run.dataset.fget
    without = property(lambda self: stored(self).drop_vars(["production", "irreciprocity"]))
    monkeypatch.setattr(Run, "dataset", without)
    assert Balance.of(Found.of(run)) is None
    results = run.experiment.analyse(run)
    assert "balance" not in results.tables
    assert "equilibrium:" not in results.answer
    assert lattice_figures.FIGURES["balance"](run) is None
    assert "t_c" in results
