"""Soft sectors of models whose modes are known: one mode, a star of waves, several, none."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import softmode as sm
from helpers.errors import refused
from helpers.models import ornstein_zernike, two_gaussians
from helpers.runs import run
from softmode.exact.dictionary import PatchDictionary
from softmode.exact.gaussian import GaussianDenoiser
from softmode.exact.patch import PatchDenoiser, TwoStatePatch
from softmode.experiments.sector import analyse, measure
from softmode.experiments.sector.sectors import Sectors
from softmode.formulas.landau import ginzburg_landau, kappa_tensor
from softmode.formulas.softest_wave import softest_wave
from softmode.lattice import Lattice, ReceptiveField
from softmode.process import VE
from softmode.runs.run import Run

SIDE = 16
BOX = ReceptiveField.box(3)


def model(denoiser: Any, side: int = SIDE, **known: Any) -> sm.Model:
    return sm.Model("exact", VE(), (1, side, side), lambda _label: denoiser, **known)


def at_zero(denoiser: Any, folder: Path, sigma: float, **settings: Any) -> Run:
    return run("sector", folder / "run", model=model(denoiser), sigma=sigma, states="symmetric", **settings)


def striped() -> PatchDictionary:
    """Four phases of a wave of four sites along the last axis, on patches of 5 by 5."""
    field = ReceptiveField.box(5)
    phase = math.pi / 2 * field.tensor()[:, 1]
    patterns = torch.stack([torch.cos(phase + (turn + 0.5) * math.pi / 2) for turn in range(4)]).sign()
    return PatchDictionary(field, patterns, torch.full((4,), 0.25, dtype=torch.float64))


def test_the_two_state_model_has_one_soft_mode_with_the_papers_coefficients(tmp_path: Path) -> None:
    """Just below sigma = 3 its uniform mode alone is unstable; M, K and U are r, kappa and 6 u of Eqs. 15 to 17."""
    sigma = 2.95
    found = at_zero(TwoStatePatch(BOX), tmp_path, sigma, dtype="float64")
    theory, t = ginzburg_landau(VE(), torch.tensor(sigma, dtype=torch.float64), BOX), found.results
    assert t.values["verdict"] == "scalar"
    assert t["mass"].estimate.value == pytest.approx(float(theory.r), rel=1e-5)
    assert t["stiffness"].estimate.value == pytest.approx(float(theory.kappa), rel=5e-3)
    assert t["quartic"].estimate.value == pytest.approx(6 * float(theory.u), rel=1e-4)
    assert t["sites"].estimate.value == pytest.approx(SIDE**2, rel=1e-4)
    assert t["mass"].estimate.interval == "exact"
    assert "one mode is soft, a scalar order parameter" in t.answer
    kappa = torch.from_numpy(found.dataset["stiffness"].to_numpy()[0, 0, 0])
    torch.testing.assert_close(kappa, kappa_tensor(VE(), torch.tensor(sigma), BOX), rtol=5e-3, atol=1e-6)


def test_stripes_have_one_order_parameter_of_two_components(tmp_path: Path) -> None:
    """The wave that the theory names, cosine and sine, as soft as each other: no competition."""
    dictionary = striped()
    wave = softest_wave(dictionary, shape=(SIDE, SIDE))
    assert wave.k == pytest.approx((0, math.pi / 2))
    sigma = math.sqrt(wave.strength) - 0.05
    found = at_zero(PatchDenoiser(dictionary), tmp_path, sigma, dtype="float64")
    assert found.results.values["verdict"] == "star"
    assert found.results["alike"].estimate.value == 2
    assert found.results["soft"].estimate.value == 2
    values = found.dataset["eigenvalue"].to_numpy()[0]
    assert values[:2] == pytest.approx([wave.strength / sigma**2] * 2)
    assert values[2] < 1
    assert found.dataset["wave"].to_numpy()[0, :2].tolist() == [[0, SIDE / 4]] * 2
    assert "the waves of one star" in found.results.answer


def test_no_gaussian_has_a_soft_mode(tmp_path: Path) -> None:
    """However soft its waves; at x = 0, where it is the same as anywhere."""
    found = at_zero(GaussianDenoiser(ornstein_zernike(SIDE, SIDE)), tmp_path, 0.3, modes=2)
    assert found.results.values["verdict"] == "none"
    assert "no mode is soft there" in found.results.answer
    assert abs(found.results["quartic"].estimate.value) < 1e-3


def test_the_mode_of_two_classes_is_the_same_at_all_states(tmp_path: Path) -> None:
    """Sampled states below the critical level: those that are unstable are so along the difference of the classes."""
    field = torch.cos(Lattice((SIDE, SIDE)).phase((2, 1)))[None]
    mixture = two_gaussians(8 * field / field.norm(), 1.0)
    found = run("sector", tmp_path / "run", model=model(mixture.denoiser(), levels=(0.05, 80.0)), sigma=7.0,
                states="reverse", trajectories=12, modes=2, block=6)  # fmt: skip
    sectors = Sectors.of(found)
    unstable = sectors.soft > 0
    assert 0 < unstable.sum() < 12
    assert set(sectors.soft) <= {0, 1}
    modes = found.dataset["mode"].to_numpy()[unstable, 0, 0]
    overlap = np.abs((modes * (field[0] / field.norm()).numpy()).sum((1, 2)))
    assert overlap == pytest.approx(np.ones(len(modes)), abs=1e-3)


def test_the_spectrum_counts_the_modes_above_a_level(tmp_path: Path) -> None:
    """Its bounds hold the exact number of a Gaussian's within four standard errors of the random fields."""
    spectrum = ornstein_zernike(SIDE, SIDE)
    found = at_zero(GaussianDenoiser(spectrum), tmp_path, 1.0, modes=2)
    exact = (spectrum / (spectrum + 1)).flatten()
    for level in (0.3, 0.5, 0.7):
        low, high = analyse.shares(found, np.array([level]))
        truth = float((exact > level).double().mean())
        error = 4 * math.sqrt(2 * truth * (1 - truth) / SIDE**2 / measure.FIELDS)
        assert low[0] - error <= truth <= high[0] + error


def made(**changed: Any) -> Sectors:
    """Return two states with two modes each, both unstable and told apart, nothing in common."""
    one, two = np.ones(2), np.ones((2, 2))
    plain: dict[str, Any] = {
        "values": np.array([[1.5, 1.2]] * 2), "errors": 1e-3 * two, "antisymmetric": 0 * one, "extents": two,
        "waves": np.zeros((2, 2, 2)), "stars": 0 * two, "mass": np.array([[[-2.0, 0], [0, -1.0]]] * 2),
        "stiffness": np.array([[[2.0, 0.5], [0.5, 1.0]]] * 2), "stiffness_error": np.full((2, 2, 2), 0.01),
        "quartic": np.ones((2, 2, 2, 2, 2)), "low": -one, "high": one, "quartic_error": 0.1 * one,
        "overlaps": np.array([0.1]),
    }  # fmt: skip
    return Sectors(**plain | changed)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({}, "frustrated"),
        ({"values": np.array([[0.9, 0.5]] * 2)}, "none"),
        ({"values": np.array([[1.5, 0.5]] * 2)}, "scalar"),
        ({"values": np.array([[1.1, 0.95]] * 2), "antisymmetric": np.full(2, 0.3)}, "undecided"),
        ({"values": np.full((2, 2), 1.5), "stars": np.ones((2, 2))}, "star"),
        ({"low": np.full(2, 0.2)}, "several"),
        ({"low": np.full(2, -0.05)}, "several"),
        ({"stiffness": np.array([[[2.0, 0.0], [0.0, 1.0]]] * 2)}, "several"),
    ],
)
def test_the_word_follows_from_the_numbers(changed: dict[str, Any], word: str) -> None:
    """Several modes compete only if U takes both signs beyond its error and M and K do not commute."""
    assert analyse.verdict_of(made(**changed)) == word


def test_a_search_that_does_not_converge_says_how_far_it_got(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves no block."""
    monkeypatch.setattr(measure, "MOST", 3)
    with pytest.raises(ArithmeticError, match=r"modes: after \d+ products mode \d of state 0 is known to"):
        at_zero(GaussianDenoiser(ornstein_zernike(SIDE, SIDE)), tmp_path, 1.0, modes=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": 100.0}, "sigma: got 100; expected 0.05 to 80, the noise levels of 'exact'"),
        ({"sigma": -1.0}, "sigma: got -1; expected above 0"),
        ({"modes": 9}, "modes: got 9; expected at least 2 and at most 8"),
        ({"states": "forward"}, "data: --states forward needs data, which this model lacks"),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    """In one line, before anything is written."""
    known = {"model": model(TwoStatePatch(BOX), levels=(0.05, 80.0)), "sigma": 1.0, "states": "reverse"}
    with refused(message):
        run("sector", tmp_path / "run", **known | settings)
    assert not (tmp_path / "run").exists()


def test_all_of_a_state_is_no_sector(tmp_path: Path) -> None:
    """As many modes as values select everything."""
    chain = sm.Model("chain", VE(), (1, 4), lambda _label: GaussianDenoiser(ornstein_zernike(4)))
    with refused("modes: got 4; expected less than the 4 values of a state: all of it is no sector"):
        run("sector", tmp_path / "run", model=chain, sigma=1.0, states="symmetric", modes=4)


@pytest.mark.parametrize(("side", "modes", "message"), [(3, 2, "shape: got sides"), (4, 8, "")])
def test_a_state_must_be_larger_than_its_sector(tmp_path: Path, side: int, modes: int, message: str) -> None:
    """Sides of 4 at least, for waves of two lengths."""
    small = model(GaussianDenoiser(ornstein_zernike(side, side)), side)
    settings = {"model": small, "sigma": 1.0, "states": "symmetric", "modes": modes, "dtype": "float64"}
    if message:
        with refused(message):
            run("sector", tmp_path / "run", **settings)
    else:
        assert run("sector", tmp_path / "run", **settings).dataset["eigenvalue"].shape == (1, 8)
