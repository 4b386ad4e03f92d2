"""Information of models whose posterior is known, in the default floating type."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

import softmode as sm
from softmode.cumulative import accumulated, rates, shortest, simultaneous
from softmode.experiments.information.analyse import pair_levels
from softmode.process import VE

SIDE = 4


def classes(means: Tensor, spread: float) -> sm.Model:
    mixture = sm.GaussianMixture(means, spread=spread)
    return sm.Model("classes", VE(), tuple(means.shape[1:]), mixture.denoiser, classes=len(means))


def two(norm: float, spread: float) -> sm.Model:
    mu = torch.full((1, SIDE, SIDE), norm / SIDE)
    return classes(torch.stack([mu, -mu]), spread)


def binary_information(ratio: float) -> float:
    """I(Z; y) of y = +-ratio + normal noise, by quadrature (nats)."""

    def integrand(y: float) -> float:
        return float(stats.norm.pdf(y) * np.logaddexp(0, -2 * ratio * (ratio + y)))

    return math.log(2) - float(integrate.quad(integrand, -12, 12, limit=200)[0])


def test_two_classes_follow_the_exact_curve() -> None:
    """I(Z; X_sigma) depends on |mu|/sqrt(s^2 + sigma^2) alone; the end is log 2, calibrated."""
    run = sm.information(two(4.0, 0.1), trajectories=600, levels=64, block=200)
    levels = run.dataset["level"].to_numpy()
    curve = run.results.values
    assert curve["share"] == 0.8
    found = sm_curve(run)
    spread = found.std(0, ddof=1) / math.sqrt(len(found))
    exact = np.array([binary_information(4 / math.hypot(0.1, level)) for level in levels])
    assert bool((np.abs(found.mean(0) - exact) < 4 * spread + 0.02 * exact).all())
    total = run.results["information"].estimate
    assert total.value == pytest.approx(math.log(2), rel=0.005)
    assert abs(run.results["calibration"].estimate.value) < 0.06
    half = run.results["sigma_half"].estimate
    at = float(np.exp(np.interp(-math.log(2) / 2, -exact[::-1], np.log(levels)[::-1])))
    assert half.value == pytest.approx(at, rel=0.1)
    assert half.low < at < half.high
    low, high = (run.results[name].estimate.value for name in ("sigma_lo", "sigma_hi"))
    assert low < half.value < high


def sm_curve(run: sm.Run) -> np.ndarray:
    from softmode.experiments.information.analyse import labels_of

    return labels_of(run)[0].information


def test_many_classes_end_at_log_k_and_pairs_in_the_order_of_their_distance() -> None:
    """Four points, two of them near each other: log 4, and the near pair is decided last."""
    means = torch.zeros(4, 1, SIDE, SIDE)
    for place, (site, height) in enumerate(((0, 8.0), (5, 8.0), (10, 8.0), (10, 6.0))):
        means[place].view(-1)[site] = height
    run = sm.information(classes(means, 0.05), trajectories=80, levels=48)
    assert run.results["information"].estimate.value == pytest.approx(math.log(4), rel=0.005)
    half = pair_levels(
        run.dataset["likelihood"].to_numpy(), run.dataset["truth"].to_numpy()[:, 0], run.dataset["level"].to_numpy()
    )
    assert half[2, 3] < 0.5 * min(half[0, 1], half[0, 2], half[1, 3])
    assert run.results.tables["pairs"].rows[-1][0] == "2 or 3"
    assert "of 1.386" in run.results.answer


def test_independent_pixels_give_log_2_each_in_bands_that_add_up(tmp_path: Path) -> None:
    """The information about +-1 pixels is N log 2; their departure from a Gaussian is its known excess."""
    side, count = 32, 640  # a pixel's path gives log 2 with an error of about 1
    pixels = sm.Model("pixels", VE(), (1, side, side), lambda label: lambda x, sigma: torch.tanh(x / sigma**2))
    images = np.sign(np.random.default_rng(0).standard_normal((count, 1, side, side))).astype(np.float32)
    np.savez(tmp_path / "images.npz", images=images)
    run = sm.information(pixels, data=str(tmp_path / "images.npz"), trajectories=count, levels=64, block=64)
    total = run.results["sample_information"].estimate
    sites = side**2
    assert total.stderr < 0.003 * total.value
    assert abs(total.value - sites * math.log(2)) < 4 * total.stderr
    rows = run.results.tables["bands"].rows
    assert sum(row[1] for row in rows) == sites  # type: ignore[misc]
    assert sum(row[2].value for row in rows) == pytest.approx(total.value, rel=1e-5)  # type: ignore[union-attr]
    last = run.dataset["level"].to_numpy()[-1]
    # of a white Gaussian of variance 1, down to the last level
    gaussian = sites * 0.5 * (math.log1p(1 / last**2) - math.log1p(1 / 80**2))
    departure = run.results["departure"].estimate
    assert abs(departure.value - (gaussian - sites * math.log(2))) < 4 * departure.stderr + 0.01 * gaussian
    assert run.results.answer.startswith("This model takes no labels.")


def test_a_given_choice_of_labels_is_told_apart_alone() -> None:
    """Two of four classes: log 2, of samples of these two."""
    means = torch.eye(4).mul(6)[:, None, :, None].expand(4, 1, 4, 4).clone()
    run = sm.information(classes(means, 0.2), labels=[1, 3], trajectories=20, levels=24)
    assert run.results["information"].estimate.value == pytest.approx(math.log(2), rel=0.01)
    assert run.identity["targets"] == {"label": ["1", "3"]}
    assert run.identity["noised"] == "the model's own samples"


def test_the_shortest_interval_that_gains_a_share() -> None:
    """A curve that rises linearly in log sigma within two decades of four: 80 % takes 1.6 decades of it."""
    levels = np.logspace(2, -2, 81)
    curve = np.clip((1 - np.log10(levels)) / 2, 0, 1)
    low, high, half = shortest(curve, levels, 0.8)
    assert math.log10(high / low) == pytest.approx(1.6, abs=0.02)
    assert half == pytest.approx(1, rel=0.02)
    late = shortest(np.where(levels < 0.1, 1.0, np.where(levels < 10, 0.15, 0.0)), levels, 0.8)
    assert late.high < 0.12
    assert math.isnan(shortest(np.zeros(81), levels, 0.8).low)


def test_the_shortest_interval_of_a_curve_that_also_falls_begins_before_it_ends() -> None:
    """Against all pairs of places, of curves with gains of either sign."""
    levels = np.geomspace(10.0, 0.1, 7)
    rng, found = np.random.default_rng(0), 0
    for _ in range(40):
        curve = np.append(0.0, rng.normal(0.3, 1.0, 6).cumsum())
        low, high, _ = shortest(curve, levels, 0.8)
        if not curve[-1] > 0:
            assert np.isnan(low)
            continue
        fine = np.linspace(np.log(10.0), np.log(0.1), 16 * 6 + 1)
        known = np.interp(fine, np.log(levels)[::-1], curve[::-1])
        widths = fine[:, None] - fine
        widths[(known - known[:, None] < 0.8 * curve[-1]) | (widths < 0)] = np.inf
        begin, end = np.unravel_index(np.argmin(widths), widths.shape)
        assert (low, high) == pytest.approx((np.exp(fine[end]), np.exp(fine[begin])))
        found += 1
    assert found > 10


def test_a_rate_is_integrated_from_the_highest_level_down() -> None:
    """Constant, and back again from the integral."""
    levels = np.logspace(1, -1, 21)
    total = accumulated(np.full((2, 21), 3.0), levels)
    np.testing.assert_allclose(total[:, -1], 3 * math.log(100))
    np.testing.assert_allclose(rates(total, levels), 3)


def test_a_simultaneous_band_holds_whole_curves() -> None:
    """Of 200 samples of a known mean about 95 % of bands hold all of it, where pointwise ones would not."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        band = simultaneous(rng.standard_normal((60, 12)))
        held += bool(((band.low <= 0) & (band.high >= 0)).all())
    assert 0.88 <= held / 200 <= 0.99


def test_one_class_holds_no_information() -> None:
    with pytest.raises(ValueError, match="model: 'classes' knows one class, about which there is nothing to know"):
        sm.information(classes(torch.ones(1, 1, SIDE, SIDE), 0.1))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"labels": (1,)}, "labels: got 1 alone; which of one label a sample is needs no information"),
        ({"share": 1.0}, "share: got 1"),
        ({"highest": 0.01}, "highest: got 0.01; expected a noise level above lowest = 0.05"),
        ({"states": "data"}, "states: got data, which this model lacks"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    """In one line, before anything is computed."""
    with pytest.raises(ValueError, match=words) as caught:
        sm.information(two(4.0, 0.1), **settings)
    assert "\n" not in str(caught.value)


def test_a_model_without_an_unlabelled_denoiser_has_that_of_its_labels() -> None:
    """E[x_0 | x] is the posterior's mean of E[x_0 | x, z]: the errors are those of the exact mixture."""
    whole = two(4.0, 0.1)

    def only(label: int | None) -> sm.Denoiser:
        if label is None:
            raise ValueError("labels: name one")
        return whole.denoiser(label)

    settings: dict[str, Any] = {"trajectories": 40, "levels": 96, "block": 40}
    labelled = sm.Model("only", VE(), whole.shape, only, classes=2)
    expected, found = (sm.information(model, labels=(0, 1), **settings) for model in (whole, labelled))
    # whose path posterior is exact up to the width of a step
    ours, theirs = (run.dataset["error"].to_numpy().sum(-1).mean(0) for run in (found, expected))
    np.testing.assert_allclose(ours, theirs, rtol=0.05, atol=0.05)
    total = found.results["information"].estimate
    assert total.value == pytest.approx(math.log(2), rel=0.01)
