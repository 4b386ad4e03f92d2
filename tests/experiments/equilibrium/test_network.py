"""The frozen score of models whose equilibrium is known: Gaussians, and two classes that cannot be left."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import softmode as sm
from helpers.errors import refused
from helpers.models import null_model, ornstein_zernike, two_gaussians
from helpers.random import normal
from softmode.estimate import Estimate
from softmode.experiments.equilibrium.network_analyse import Level, extrapolated, levels_of, peak
from softmode.experiments.equilibrium.network_measure import STARTS
from softmode.experiments.equilibrium.network_memory import Memory, Remembered
from softmode.process import VE, VP

SIDE = 8


def images(path: Path, scale: float = 1.0) -> str:
    np.savez(path / "data.npz", images=scale * normal(2, 1, SIDE, SIDE).float().numpy())
    return str(path / "data.npz")


def gaussian(process: sm.Process | None = None) -> sm.Model:
    """Return a Gaussian model, which is its own null."""
    known = null_model(SIDE, SIDE)
    denoiser = sm.GaussianDenoiser(known["spectrum"][0].double())
    return sm.Model("gaussian", process or VE(), (1, SIDE, SIDE), lambda _label: denoiser, **known)  # type: ignore[arg-type]


def classes(norm: float, spread: float) -> sm.Model:
    """Return two classes of either sign."""
    mu = torch.full((1, SIDE, SIDE), norm / SIDE, dtype=torch.float64)
    mixture = two_gaussians(mu, spread)
    return sm.Model("classes", VE(), (1, SIDE, SIDE), lambda _label: mixture.denoiser())


def equilibrium(model: sm.Model, path: Path, **settings: Any) -> sm.Run:
    chosen = {
        "levels": 3,
        "sigma_range": "1:4",
        "duration": 40.0,
        "shells": 2,
        "classifier": "none",
        "data": images(path),
    }
    return sm.equilibrium(model=model, **chosen | settings)


def test_a_gaussian_has_its_closed_susceptibility_from_every_start(tmp_path: Path) -> None:
    """(S_k + sigma^2) / sigma^2 of every shell, within 4 standard errors over chains; the null is the model itself."""
    run = equilibrium(gaussian(), tmp_path, trajectories=16, block=16, duration=150.0, sigma_range="2:4")
    spectrum = ornstein_zernike(SIDE, SIDE, mass=0.4).numpy()
    for start in STARTS:
        for level in levels_of(run, start):
            for shell in range(3):
                truth = 1 + spectrum[shell, 0] / level.sigma**2
                chains = level.kept[:, :, shell].var(1).mean((1, 2)) / level.sigma**2
                error = chains.std(ddof=1) / math.sqrt(len(chains))
                # a chain's own mean takes 2 tau / T of the variance
                lost = 2 * truth**2 * 1.0 / (level.kept.shape[1] * level.step)
                assert abs(chains.mean() - truth + lost) < 4 * error + 0.3 * lost
    rows = run.results.values["rows"]
    assert all(row["settled"] and row["times"] > 50 for row in rows)
    assert all(abs(row["whole"].value - row["data"]) < 4 * row["whole"].stderr + 0.02 * row["data"] for row in rows)
    assert all(abs(row["memory"].value) < 4 * row["memory"].stderr for row in rows)
    assert math.isnan(run.results["memory_level"].estimate.value)
    assert "has its start forgotten at every level" in run.results.answer


def test_the_autocorrelation_time_is_that_of_a_process_with_one_rate() -> None:
    """h (1 + a)/(1 - a) of an AR(1) process, within 4 of Sokal's errors of 4 %."""
    rng, decay, step = np.random.default_rng(5), 0.9, 0.5
    series = np.empty((32, 8000))
    series[:, 0] = rng.standard_normal(32) / math.sqrt(1 - decay**2)
    for i in range(1, 8000):
        series[:, i] = decay * series[:, i - 1] + rng.standard_normal(32)
    amplitude = np.broadcast_to(series[:, :, None, None, None], (32, 8000, 2, 1, 2))
    level = Level(1.0, step, series, amplitude, np.full(1, 0.8))
    assert level.time == pytest.approx(step * (1 + decay) / (1 - decay), rel=0.15)
    assert level.times == pytest.approx(32 * (8000 - level.cut[0]) * step / level.time)


def test_the_reverse_sde_is_colder(tmp_path: Path) -> None:
    """T / (kappa - G) in units of sigma^2 of a VP process's frozen reverse SDE, another number than 1 / (1 - G)."""
    chosen = {"dynamics": "reverse-sde", "trajectories": 16, "block": 16, "duration": 100.0, "sigma_range": "2:4"}
    run = equilibrium(gaussian(VP()), tmp_path, **chosen)
    spectrum = float(ornstein_zernike(SIDE, SIDE, mass=0.4)[1, 0])
    for level in levels_of(run, "disordered"):
        square = level.sigma**2
        kappa, gain = 1 - square / (1 + square) / 2, spectrum / (spectrum + square)
        truth = 0.5 / (kappa - gain) if kappa > gain else math.inf
        found = level.within[:, 1]
        if truth < 3:
            assert abs(found.mean() - truth) < 4 * found.std() / math.sqrt(16) + 0.05 * truth
    assert any("half the temperature" in note for note in run.results.notes)


def test_two_far_classes_are_remembered_below_their_scale_and_forgotten_above(tmp_path: Path) -> None:
    """|mu| = 8, width 0.5: at sigma = 1 no chain crosses, at 16 all do; both starts differ where it is remembered."""
    np.savez(tmp_path / "mu.npz", images=np.full((1, 1, SIDE, SIDE), 1.0, np.float32))
    run = equilibrium(
        classes(8.0, 0.5), tmp_path, sigma_range="1:16", trajectories=16, block=16, data=str(tmp_path / "mu.npz")
    )
    low, _, high = run.results.values["rows"]
    assert low["memory"].value == pytest.approx(1, abs=0.1)
    assert low["memory_time"] is None, "NaN, as JSON has it"
    assert abs(high["memory"].value) < 4 * high["memory"].stderr
    assert high["memory_time"] < 20
    level = run.results["memory_level"].estimate
    assert 1 <= level.low < level.high <= 16
    assert "its start is remembered" in low["chi"][0].reason
    assert low["order_ordered"].value == pytest.approx(1, abs=0.05)
    assert abs(low["difference"].value) > 3 * low["difference"].stderr
    # within a valley the mode is stiff: (s^2 + sigma^2) / sigma^2 of one class, over all chains it is not
    assert low["chi"][0].value == pytest.approx(1.25, abs=4 * low["chi"][0].stderr + 0.05)
    assert low["whole"].value > 10


def test_chains_do_not_depend_on_their_blocks(tmp_path: Path) -> None:
    """Each has its own random numbers."""
    one, other = (
        equilibrium(gaussian(), tmp_path, trajectories=4, block=block, duration=20.0).dataset["amplitude"].to_numpy()
        for block in (2, 4)
    )
    np.testing.assert_allclose(one, other, atol=2e-4)


def test_memory_is_that_of_planted_overlaps() -> None:
    """Half of the sites in common: 1/2; the time of 1/e lies where the curve says."""
    rng = np.random.default_rng(0)
    shared, count, sites = rng.choice([-1.0, 1.0], 10_000), 12, 10_000
    shares = np.array([1.0, 0.5, 0.25, 0.0])
    common = np.stack([
        np.stack([np.where(rng.random(sites) < math.sqrt(s), shared, rng.choice([-1.0, 1.0], sites)) for s in shares])
        for _ in range(count)
    ])  # fmt: skip
    apart = rng.choice([-1.0, 1.0], (count, 4, sites))
    seen = np.array([[[3, 3, 3, place % 2 * 3]] for place in range(count)])
    memory = Memory(np.array([0.0, 1.0, 2.0, 4.0]), common[:, None], apart[:, None], seen)
    for share, found in zip(shares, memory.curve(0), strict=True):
        assert found.value == pytest.approx(share, abs=4 * max(found.stderr, 1e-3))
    assert memory.time(0) == pytest.approx(1 + (0.5 - math.exp(-1)) / 0.25, abs=0.1)
    assert memory.same_class(0).value == pytest.approx(0.5)


def test_the_sentence_on_memory_follows_from_the_memories() -> None:
    """Remembered is what exceeds 0 by 3 errors, forgotten what has less than 1/e left; between, neither is said."""
    sigmas = [0.3, 1.0, 3.0, 9.0]

    def said(*values: tuple[float, float]) -> tuple[str, Estimate]:
        found = Remembered.of(sigmas, [Estimate(value, error, 8) for value, error in values])
        return str(found), found.level

    text, level = said((0.95, 0.01), (0.5, 0.2), (0.1, 0.2), (0.0, 0.1))
    assert "remembers its start up to sigma = 0.3 (memory 0.95(1))" in text
    assert "has forgotten it from 3 on (memory 0.1(2))" in text
    assert "between, it is not known (sigma = 1: 0.5(2))" in text
    assert (level.low, level.high) == (0.3, 3.0)
    text, level = said((0.95, 0.01), (0.5, 0.1), (0.2, 0.1), (0.0, 0.1))
    assert "between" not in text
    assert (level.low, level.high) == (1.0, 3.0)
    # remembered above one that forgets: forgotten is what is so at all levels above
    text, level = said((0.95, 0.01), (0.1, 0.1), (0.5, 0.1), (0.0, 0.1))
    assert (level.low, level.high) == (0.3, 9.0)
    assert "sigma = 1: 0.1(1), 3: 0.5(1)" in text
    for values, words in (
        ([(0.9, 0.1)] * 4, "has its start remembered at every level"),
        ([(0.1, 0.1)] * 4, "has its start forgotten at every level"),
        ([(0.6, 0.4)] * 4, "not known at any level whether the network remembers"),
        ([(0.6, 0.4)] * 2 + [(0.1, 0.1)] * 2, "the network has forgotten it from 3 on"),
        ([(0.9, 0.1)] * 2 + [(0.6, 0.4)] * 2, "remembers its start up to sigma = 1"),
    ):
        text, level = said(*values)
        assert words in text
        assert math.isnan(level.value)


def test_few_levels_are_said_to_be_few(tmp_path: Path) -> None:
    """Three levels, of which two at most forget, say nothing of a peak; what the table doubts the sentence doubts."""
    np.savez(tmp_path / "mu.npz", images=np.full((1, 1, SIDE, SIDE), 1.0, np.float32))
    run = equilibrium(classes(8.0, 0.5), tmp_path, sigma_range="1:16", duration=40.0, trajectories=16, block=16,
                      data=str(tmp_path / "mu.npz"))  # fmt: skip
    answer, rows = run.results.answer, run.results.values["rows"]
    assert "remembers its start up to sigma = " in answer
    assert "Too few levels to tell whether the susceptibility has a peak" in answer
    assert "peaks at" not in answer
    assert rows[0]["chi"][0].reason == "its start is remembered"
    assert "?: in doubt (its start is remembered" in run.results.tables["levels"].caption
    drawn = run.figure("forgetting").axes[0]
    assert 1 <= len(drawn.containers) <= 4
    for curve in drawn.containers:
        assert all(np.ptp(segment[:, 1]) <= 0.6 for segment in curve.lines[2][0].get_segments())


def test_a_drift_is_cut_and_one_without_end_is_told() -> None:
    """An exponential approach within a tenth of the time is cut; one that goes on is not settled."""
    rng, time = np.random.default_rng(1), np.linspace(0, 1, 400)
    noise = rng.standard_normal((16, 400))
    for rate, settled in ((30.0, True), (0.5, False)):
        order = 5 * np.exp(-rate * time) + noise
        level = Level(1.0, 0.5, order, rng.standard_normal((16, 400, 3, 2, 2)), np.full(2, 0.8))
        first, found = level.cut
        assert found == settled
        assert first >= 40


def test_a_peak_is_found_between_levels_with_its_interval() -> None:
    """Of a parabola in logarithms exactly; none at an end."""
    levels = np.geomspace(0.5, 8, 9)
    curve = np.exp(-((np.log(levels) - math.log(2.3)) ** 2))
    rng = np.random.default_rng(2)
    chains = curve * (1 + 0.02 * rng.standard_normal((24, 9)))
    found = peak(chains, levels)
    assert found.value == pytest.approx(2.3, abs=4 * found.stderr)
    assert found.low < 2.3 < found.high
    assert "at an end" in peak(levels[None] * np.ones((4, 1)), levels).reason


def test_the_step_is_extrapolated_at_second_order() -> None:
    """f = 2 + 3 h^2 at h and h/2 gives 2, and errors of 4/3 and 1/3."""
    coarse, fine = Estimate(2 + 3 * 0.25, 0.03, 8), Estimate(2 + 3 * 0.0625, 0.06, 8)
    found = extrapolated(coarse, fine)
    assert found.value == pytest.approx(2)
    assert found.stderr == pytest.approx(math.hypot(0.08, 0.01))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sigma_range": "4:1"}, "sigma_range: got '4:1'; expected two rising noise levels"),
        ({"sigma_range": "1"}, "sigma_range: got '1'; expected two rising noise levels"),
        ({"sigma_range": "0:2"}, "sigma_range: got '0:2'; expected two rising noise levels"),
        ({"step": 2.0}, "step: got 2; expected above 0 and below 2, .*: use 0.5"),
        ({"duration": 5.0}, "duration: got 5; expected at least 20 in units of sigma\\^2"),
        ({"trajectories": 3}, "trajectories: got 3; expected at least 4"),
        ({"shells": 4}, "shells: got 4; expected at most 3"),
        ({"data": ""}, "data: 'gaussian' comes without an image"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    """In one line, before anything is computed."""
    with refused(words):
        equilibrium(gaussian(), tmp_path, **settings)


def test_a_level_that_the_model_does_not_know_is_refused(tmp_path: Path) -> None:
    """By name, with the levels that it knows."""
    model = gaussian()
    known = sm.Model("narrow", VE(), model.shape, model.bind, levels=(0.5, 3.0))
    with refused("sigma_range: got 4; expected 0.5 to 3, the noise levels of 'narrow'"):
        equilibrium(known, tmp_path)
