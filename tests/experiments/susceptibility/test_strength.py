"""How strongly: the knee of curves that are known, where there is none, and up to where linear response holds."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicHermiteSpline

from helpers.guidance import corners, guide, nearest
from softmode.experiments.pulse.trials import find_guidance
from softmode.experiments.susceptibility.adjoint_measure import adjoint_of
from softmode.experiments.susceptibility.adjoint_trials import slopes_of
from softmode.experiments.susceptibility.config import Config
from softmode.experiments.susceptibility.linear import MISSED, linear_range, linear_up_to
from softmode.experiments.susceptibility.outcomes import class_outcome
from softmode.experiments.susceptibility.strength import knee_of, strength_from

WEIGHTS = np.linspace(0.0, 4.0, 9)
CORNERS = Config(model="corners", classes=3, trials=4, weight=1.5, steps=12, nodes=5, dtype="float64")


def test_the_knee_is_the_furthest_from_the_chord() -> None:
    """Of a = 2u - u^2 and d = u^2, u = w / 4, where 2u - 2u^2 is largest: u = 1/2, whatever the units of both."""
    u = WEIGHTS / 4
    assert knee_of(WEIGHTS, 2 * u - u**2, u**2) == pytest.approx(2.0, abs=0.05)
    assert knee_of(WEIGHTS, 7 + 3 * (2 * u - u**2), 100 * u**2 - 5) == pytest.approx(2.0, abs=0.05)
    # where alignment is had at once, almost no weight
    assert knee_of(WEIGHTS, np.minimum(WEIGHTS, 0.5), u) == pytest.approx(0.5, abs=0.05)
    assert math.isnan(knee_of(WEIGHTS, np.ones(9), u))


def samples(rise: np.ndarray, noise: float) -> np.ndarray:
    """Return alignments of two classes and eight trials, [class, trial, node]."""
    own = np.random.default_rng(0).normal(scale=noise, size=(2, 8, 1))
    return rise + own * np.linspace(0, 1, len(rise))


def distance(growth: np.ndarray, noise: float = 0.01) -> Callable[[np.ndarray], np.ndarray]:
    """Return Fréchet distances that depend on which trials are kept."""
    own = np.random.default_rng(1).normal(scale=noise, size=(8, 1))
    return lambda keep: growth * (1 + own[keep].mean())


def test_a_strength_is_recommended_with_its_interval_or_a_reason() -> None:
    u = WEIGHTS / 4
    found = strength_from(WEIGHTS, samples(2 * u - u**2, 0.05), distance(10 * u**2))
    assert found.knee.value == pytest.approx(2.0, abs=0.2)
    assert 0 <= found.knee.low <= found.knee.value <= found.knee.high <= 4
    assert "knee of alignment against Fréchet distance is at w = " in found.sentence
    away = strength_from(-WEIGHTS, samples(2 * u - u**2, 0.05), distance(10 * u**2))
    assert away.knee.value == pytest.approx(-found.knee.value)
    assert away.knee.low <= away.knee.value <= away.knee.high
    for values, far, reason in (
        (samples(2 * u - u**2, 0.05), None, "no real images are known"),
        (samples(0 * u, 0.05), distance(10 * u**2), "alignment does not rise"),
        (samples(2 * u - u**2, 0.05), distance(10 - u), "does not grow up to w = 4, the largest tried"),
    ):
        none = strength_from(WEIGHTS, values, far)
        assert math.isnan(none.knee.value)
        assert reason in none.knee.reason
        assert reason in none.sentence


@pytest.mark.parametrize("bend", [-0.3, 0.2])
def test_linear_response_of_a_parabola_ends_where_it_is_known(bend: float) -> None:
    r"""Of $A = w + b w^2$, where $|b| w^2 = (w + b w^2)/10$; of what is linear nowhere, with no weight in use to it."""
    places = np.array([0.0, 0.4, 1.3, 2.0])
    slopes = 1 + 2 * bend * places
    expected = MISSED / (abs(bend) - MISSED * bend)
    assert linear_up_to(places, places + bend * places**2, slopes) == pytest.approx(expected, rel=1e-3)
    straight = np.ones(4)
    assert math.isnan(linear_up_to(places, 3 + places, straight))
    same = linear_range(places, np.stack([3 + places] * 4), np.stack([straight] * 4), np.zeros(4, int))
    assert math.isnan(same.value)
    assert "holds up to w = 2" in same.reason
    rows = np.stack([places + bend * places**2] * 4), np.stack([slopes] * 4)
    ahead, back = (linear_range(sign * places, rows[0], sign * rows[1], np.zeros(4, int)) for sign in (1, -1))
    assert ahead.value == -back.value == pytest.approx(expected, rel=1e-3)


def test_linear_response_of_a_mixture_ends_where_dense_sampling_says(tmp_path: Path) -> None:
    """Of the mean log-probability of three classes, sampled at sixty weights; its bend is the curvature there."""
    config = Config(**vars(CORNERS) | {"alignment": "log-probability"})
    run = guide("susceptibility", config, tmp_path / "run")
    guidance = find_guidance(config, {"model": corners(), "classifier": nearest()})
    dense, outcomes = np.linspace(0, 1.5, 61), []
    curvature = []
    for label in guidance.labels:
        adjoint, outcome = adjoint_of(guidance, label, [0, 1, 2, 3]), class_outcome(guidance, label, "log-probability")
        ones = torch.ones(4, 12, dtype=torch.float64)
        outcomes.append(torch.stack([outcome(adjoint.guided(float(w) * ones)) for w in dense], 1))
        curvature.append(adjoint.curvature(0 * ones, ones, outcome))
    mean = torch.cat(outcomes).mean(0).numpy()
    slopes = slopes_of(run)
    start = slopes[2][:, 0].mean()
    missed = np.abs(mean - mean[0] - dense * start) - MISSED * np.abs(mean - mean[0])
    exact = dense[1:][missed[1:] > 0][0]
    found = run.results["w_linear"].estimate
    assert 0.05 < exact < 1.4
    assert found.value == pytest.approx(exact, rel=0.05)
    assert found.low <= found.value <= found.high
    assert f"linear response holds up to w = {found}" in run.results.notes[0]
    curve = CubicHermiteSpline(slopes[0], slopes[1].mean(0), slopes[2].mean(0))
    assert float(curve(0.0, 2)) == pytest.approx(float(torch.cat(curvature).mean()), rel=0.1)
