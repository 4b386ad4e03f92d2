"""The instability of models whose softest mode is known in closed form, in the default floating type."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import softmode as sm
from helpers.errors import refused
from softmode.experiments.instability.analyse import Curves, crossing, softest_wave
from softmode.experiments.instability.growth import growth
from softmode.process import VE

SIDE = 8
SITE = torch.arange(float(SIDE))
WAVES = {
    "constant": torch.ones(SIDE, SIDE),
    "diagonal": torch.cos(2 * math.pi * (2 * SITE[:, None] + SITE) / SIDE),
    "checkerboard": (-1) ** (SITE[:, None] + SITE),
    "random": torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(6)),
}


def two_classes(wave: str, norm: float, spread: float) -> sm.Model:
    mu = (norm * WAVES[wave] / WAVES[wave].norm())[None]
    mixture = sm.GaussianMixture(torch.stack([mu, -mu]), spread=spread)
    return sm.Model("two classes", VE(), (1, SIDE, SIDE), mixture.denoiser, classes=2)


def softest(model: Any, **settings: Any) -> sm.Run:
    chosen = {"states": "reverse", "trajectories": 64, "levels": 12, "highest": 20.0, "lowest": 1.0} | settings
    return sm.instability(model, **chosen)


@pytest.mark.parametrize("wave", WAVES)
def test_two_classes_go_unstable_at_their_level_in_any_mode(wave: str) -> None:
    """At sqrt(|mu|^2 - s^2) within 3 %, along mu, though at most a fifth of the states ever are."""
    run = softest(two_classes(wave, 8.0, 1.0), levels=24, lowest=3.0)
    first = run.results["sigma_first"].estimate
    assert first.value == pytest.approx(math.sqrt(63), rel=0.03)
    assert math.isnan(run.results["sigma_c"].estimate.value)
    modes, values = run.dataset["mode"].to_numpy(), run.dataset["eigenvalue"].to_numpy()[:, :, 0]
    mu = (WAVES[wave] / WAVES[wave].norm()).numpy()
    unstable = values > 1
    assert 0.05 < unstable.mean(0).max() < 0.35
    np.testing.assert_allclose(np.abs((modes[unstable] * mu).sum((1, 2, 3))), 1, atol=0.01)
    weights = WAVES[wave].square()
    sites = float(weights.sum() ** 2 / weights.square().sum())
    assert run.results["extent_first"].estimate.value == pytest.approx(sites, rel=0.05)
    assert f"in a mode of {sites:.0f} of 64 sites" in run.results.answer
    assert run.results.values["verdict"] == ("extended" if sites >= 6.4 else "local")


@pytest.mark.parametrize(
    "denoiser",
    [
        sm.GaussianDenoiser(torch.full((SIDE, SIDE), 4.0, dtype=torch.float64)),
        sm.GaussianDenoiser(100 / (1 + torch.minimum(SITE, SIDE - SITE).square().double()).expand(SIDE, SIDE)),
        two_classes("random", 0.9, 1.0).denoiser(),
    ],
    ids=["white", "coloured", "near classes"],
)
def test_no_log_concave_model_has_an_unstable_state(denoiser: sm.Denoiser) -> None:
    """Gaussians and two classes that overlap too far: nothing above 1 at any level, and the answer says so."""
    model = sm.Model("log-concave", VE(), (1, SIDE, SIDE), lambda label: denoiser)
    run = softest(model, lowest=0.05, trajectories=16)
    assert run.results.values["verdict"] == "none"
    assert run.results.answer.startswith("None of 16 states is unstable between sigma = 20 and 0.05")
    assert not (run.dataset["eigenvalue"].to_numpy() - run.dataset["residual"].to_numpy()[..., None] > 1).any()


def test_a_mean_gain_that_no_score_has_is_noticed() -> None:
    """D = 1.02 x exceeds the linear bound wherever its states are; two exact classes never do."""
    wrong = sm.Model("wrong", VE(), (1, SIDE, SIDE), lambda label: lambda x, sigma: 1.02 * x)
    assert Curves.of(softest(wrong, levels=6)).wrong.all()
    right = Curves.of(softest(two_classes("diagonal", 8.0, 1.0), levels=12, lowest=3.0))
    assert not right.wrong.any()
    assert right.certain.any()


def test_independent_pixels_are_unstable_below_one_in_modes_of_one_site() -> None:
    """+-1 at every site: J = (1 - D^2)/sigma^2 is diagonal, so that the first pixel decides at sigma = 1."""
    model = sm.Model("pixels", VE(), (1, SIDE, SIDE), lambda label: lambda x, sigma: torch.tanh(x / sigma**2))
    run = softest(model, levels=40, highest=2.0, lowest=0.4, trajectories=32)
    assert run.results["sigma_first"].estimate.value == pytest.approx(1, rel=0.03)
    half = run.results["sigma_c"].estimate
    assert half.value == pytest.approx(1, rel=0.06)
    assert half.low <= half.value <= half.high
    assert run.results["extent_c"].estimate.value < 3
    assert run.results.values["verdict"] == "local"
    assert "(local)" in run.results.answer


def test_noised_data_are_those_of_the_file_with_the_same_noise_at_every_level(tmp_path: Path) -> None:
    """D(x) = x/2 doubles as a witness: what is left of x after the data is noise of the level's size."""
    images = np.linspace(-3, 3, 3 * SIDE * SIDE, dtype=np.float32).reshape(3, 1, SIDE, SIDE)
    np.savez(tmp_path / "images.npz", images=images)
    seen: list[tuple[float, Tensor]] = []

    def witness(x: Tensor, sigma: Tensor | float) -> Tensor:
        if len(x) == 3 and not torch._C._functorch.is_functorch_wrapped_tensor(x):
            seen.append((float(sigma), x.clone()))
        return x / 2

    model = sm.Model("witness", VE(), (1, SIDE, SIDE), lambda label: witness)
    data = str(tmp_path / "images.npz")
    run = softest(model, states="forward", data=data, trajectories=3, levels=3, highest=9.0, lowest=1.0)
    np.testing.assert_allclose(run.dataset["eigenvalue"].to_numpy()[..., 0], 0.5, rtol=1e-5)
    assert run.identity["inputs"]["data"]


def test_levels_above_the_scale_of_the_data_are_refused(tmp_path: Path) -> None:
    """Nothing is decided there, which does not mean that nothing is decided at all."""
    np.savez(tmp_path / "data.npz", images=np.random.default_rng(0).standard_normal((8, 1, SIDE, SIDE)))
    settings = {"states": "forward", "data": str(tmp_path / "data.npz"), "trajectories": 4, "levels": 3}
    with refused("lowest: got 5; expected less than the scale of the data, 1"):
        softest(two_classes("constant", 8.0, 1.0), lowest=5.0, **settings)
    answer = softest(two_classes("constant", 0.5, 1.0), lowest=0.5, **settings).results.answer
    assert answer.startswith("None of 4 states is unstable between sigma = 20 and 0.5")


def test_a_push_grows_where_classes_part_and_nowhere_else() -> None:
    """The flow keeps ranks: of two classes beside their middle, and of a Gaussian, whose flow only contracts."""
    model = two_classes("constant", 8.0, 0.1)
    mu = (WAVES["constant"] / WAVES["constant"].norm())[None, None]
    apart = growth(model.denoiser(), torch.zeros(1, 1, SIDE, SIDE), 6.0, mu)
    rank = stats.norm.cdf([0.6 - 8, 0.6 + 8], scale=math.hypot(6, 0.1)).mean()
    assert float(apart) == pytest.approx((8 + 0.1 * stats.norm.ppf(2 * rank - 1)) / 0.6, rel=0.01)
    white = sm.GaussianDenoiser(torch.full((SIDE, SIDE), 4.0, dtype=torch.float64))
    shrunk = growth(white, torch.randn(2, 1, SIDE, SIDE), 6.0, mu.expand(2, -1, -1, -1))
    torch.testing.assert_close(shrunk, torch.full((2,), 2 / math.sqrt(40)), rtol=0.03, atol=0)


def test_a_crossing_is_found_between_levels() -> None:
    """Of a power law exactly; none where the curve stays on one side, or begins above."""
    levels = np.array([100.0, 10.0, 1.0])
    assert crossing((3 / levels) ** 2, levels) == pytest.approx(3)
    for curve in ([0.1, 0.2, 0.3], [1.1, 0.5, 1.2]):
        assert math.isnan(crossing(np.array(curve), levels))


def test_states_that_are_unstable_from_the_start_say_to_raise_the_level() -> None:
    """A grid that begins below the instability cannot tell where it is."""
    model = sm.Model("pixels", VE(), (1, SIDE, SIDE), lambda label: lambda x, sigma: torch.tanh(x / sigma**2))
    run = softest(model, highest=0.8, lowest=0.3, levels=3, trajectories=8)
    assert "raise --highest" in run.results["sigma_c"].estimate.reason
    assert "raise --highest" in run.results.answer


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"highest": 1.0, "lowest": 2.0}, "highest: got 1; expected a noise level above lowest = 2"),
        ({"states": "forward"}, "data: --states forward needs data"),
        ({"labels": (7,)}, "labels: got 7; expected 0 to 1"),
        ({"trajectories": 1}, "trajectories: got 1; expected at least 2: fewer have no interval"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    """In one line, before anything is computed."""
    with pytest.raises(ValueError, match=words) as caught:
        softest(two_classes("constant", 8.0, 1.0), **settings)
    assert "\n" not in str(caught.value)


def test_a_model_without_derivative_is_refused() -> None:
    """Code that detaches its answer has no Jacobian."""
    model = sm.Model("opaque", VE(), (1, SIDE, SIDE), lambda label: lambda x, sigma: torch.from_numpy(x.numpy() / 2))
    with pytest.raises(ValueError, match="model: 'opaque' cannot be differentiated") as caught:
        softest(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", ["no_grad", "inference_mode", "input", "output", "half"])
def test_a_model_whose_derivative_is_not_that_of_its_values_is_refused(how: str) -> None:
    """Or none of its states would be unstable; the same model with all of its derivatives is not."""
    mu = (8 * WAVES["diagonal"] / WAVES["diagonal"].norm())[None]
    exact = sm.GaussianMixture(torch.stack([mu, -mu]), spread=1.0).denoiser()

    def cut(x: Tensor, sigma: Tensor | float) -> Tensor:
        found: Tensor
        if how in ("no_grad", "inference_mode"):
            with getattr(torch, how)():
                found = exact(x, sigma)
        elif how == "input":
            found = exact(x.detach(), sigma)
        elif how == "output":
            found = exact(x, sigma).detach()
        else:
            found = (exact(x, sigma) + exact(x.detach(), sigma)) / 2
        return found

    with refused("model: 'cut' (answers .* to a unit push|cannot be diff).* leave out torch.no_grad, inference_mode"):
        softest(cut, shape=(1, SIDE, SIDE))
    assert softest(exact, shape=(1, SIDE, SIDE), trajectories=2, levels=3).results["sigma_first"]


def test_the_softest_plane_wave_is_found_beside_the_softest_mode() -> None:
    """Classes along a diagonal wave: it has the largest gain, which is not that of the noise in so many of them."""
    site = torch.arange(8, dtype=torch.float64)
    wave = torch.cos(2 * math.pi * (site[:, None] - 2 * site) / 8)
    mixture = sm.GaussianMixture(torch.stack([8 * wave, -8 * wave])[:, None] / wave.norm(), 1.0)
    model = sm.Model("diagonal", VE(), (1, 8, 8), lambda _label: mixture.denoiser())
    run = sm.instability(model, states="reverse", trajectories=64, levels=8, highest=20.0, lowest=2.0, growth=False)
    gains = run.dataset["wave_gain"].to_numpy()
    exact = 1 / (1 + run.dataset["level"].to_numpy() ** 2)
    # a wave across mu has the gain of white data
    error = gains[:, :, 0, 3].std(0, ddof=1) / 8
    assert (np.abs(gains[:, :, 0, 3].mean(0) - exact) < 4 * error + 1e-4).all()
    level = int(np.argmin(abs(run.dataset["level"].to_numpy() - 8)))
    k, gain = softest_wave(gains[:, level])
    assert k == (1, -2)
    # half of its power is along mu, whose gain is near the top eigenvalue there
    top = run.dataset["eigenvalue"].to_numpy()[:, level, 0]
    assert gain.value == pytest.approx(top.mean() / 2, abs=4 * gain.stderr + 0.05)
    assert "1, -2" in {row[1] for row in run.results.tables["waves"].rows}


def test_the_largest_of_many_noisy_gains_is_not_too_large() -> None:
    """Noise alone: the mean over many sets is 0 within 4 standard errors, where the plain maximum is far above it."""
    rng = np.random.default_rng(0)
    sets = rng.standard_normal((200, 32, 8, 8))
    found = np.array([softest_wave(each)[1].value for each in sets])
    assert abs(found.mean()) < 4 * found.std() / math.sqrt(200)
    assert np.mean(sets.mean(1).reshape(200, -1).max(1)) > 0.3
    assert math.isnan(softest_wave(sets[0][:3])[1].stderr)
