"""The compiled dynamics of patch models against torch's, whatever is cut or shared; and against known laws."""

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline

from helpers.random import normal
from softmode.counter_noise import Noise
from softmode.exact import patch_dynamics
from softmode.exact.dictionary import PatchDictionary, paper_dictionary, random_dictionary
from softmode.exact.patch import PatchDenoiser, TwoStatePatch
from softmode.exact.patch_dynamics import PatchModel, advance, follow, frozen_steps, reference
from softmode.exact.quench import quench_steps
from softmode.lattice import ReceptiveField
from softmode.streams import stream_seed

FIELDS = [
    ((50,), "box:5"), ((33,), "offsets:0;1;3"), ((20, 17), "box:5"), ((12, 9), "box:7"), ((9, 16), "cross:2"),
    ((9, 16), "offsets:0,0;0,1;2,0"), ((5, 5), "box:5"), ((6, 7, 9), "box:3"), ((6, 7, 9), "cross:1"),
]  # fmt: skip
NOISES: tuple[Noise, ...] = ("gaussian", "three-point")


def lopsided(field: ReceptiveField) -> PatchDictionary:
    """Return patterns of unequal norms, of which not all have a flip, one listed twice."""
    signs = random_dictionary(2, 1, field).patterns
    patterns = torch.cat([signs[:1], 0.5 * signs[1:2], -signs[:1], signs[:1], 2 * signs[1:2]])
    return PatchDictionary(field, patterns, torch.tensor([0.1, 0.3, 0.2, 0.25, 0.15], dtype=torch.float64))


def models(field: ReceptiveField) -> list[PatchModel]:
    return [TwoStatePatch(field), PatchDenoiser(paper_dictionary(0, field)), PatchDenoiser(lopsided(field))]


def keys(count: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor([stream_seed(seed, replica) for replica in range(count)])


@pytest.fixture(autouse=True, scope="module")
def compiled() -> None:
    assert patch_dynamics.compiled(), "the tests need softmode's extra `fast`"


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("shape", "field"), FIELDS)
def test_compiled_steps_are_the_references(shape: tuple[int, ...], field: str, noise: Noise) -> None:
    x = 3 * normal(3, 1, *shape, seed=1).float()
    for model in models(ReceptiveField.parse(field, len(shape))):
        for steps in (frozen_steps(2.5, 0.3, 7), quench_steps(6.0, 1.8, 2.0, 7)):
            fast, slow = (way(model, x, steps, keys(3), 3, noise) for way in (advance, reference))
            # each weight of a posterior carries the rounding of its exponent
            assert torch.allclose(fast, slow, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("shape", "field"), [((40,), "box:5"), ((10, 11), "box:5"), ((6, 7, 8), "box:3")])
def test_a_thousand_steps_stay_together(shape: tuple[int, ...], field: str) -> None:
    model = TwoStatePatch(ReceptiveField.parse(field, len(shape)))
    x = normal(2, 1, *shape, seed=2).float()
    steps = frozen_steps(math.sqrt(model.receptive_field.size), 0.5, 1000)
    for noise in NOISES:
        fast, slow = (way(model, x, steps, keys(2), 0, noise) for way in (advance, reference))
        # at this level modes relax, so that rounding errors of 1e-6 a step are forgotten as fast as they are made
        assert torch.allclose(fast, slow, rtol=0, atol=2e-4)


@pytest.mark.usefixtures("two_threads")
def test_threads_bands_and_company_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for (shape, field), noise in product([((24, 10), "box:5"), ((9, 16), "cross:2"), ((8, 6, 7), "box:3")], NOISES):
        for model in models(ReceptiveField.parse(field, len(shape)))[:2]:
            x, steps = 3 * normal(5, 1, *shape, seed=3).float(), frozen_steps(2.0, 0.5, 9)
            together = advance(model, x, steps, keys(5), 2, noise)
            alone = torch.cat([advance(model, x[i : i + 1], steps, keys(5)[i : i + 1], 2, noise) for i in range(5)])
            with monkeypatch.context() as patch:
                patch.setattr(patch_dynamics, "SHARED_SITES", 1)
                cut = torch.cat([advance(model, x[i : i + 1], steps, keys(5)[i : i + 1], 2, noise) for i in range(5)])
            halves = advance(model, advance(model, x, frozen_steps(2.0, 0.5, 4), keys(5), 2, noise),
                             frozen_steps(2.0, 0.5, 5), keys(5), 6, noise)  # fmt: skip
            for other in (alone, cut, halves):
                assert torch.allclose(other, together, rtol=0, atol=1e-5)
    # the states that were handed over are left as they are
    assert torch.equal(x, 3 * normal(5, 1, *shape, seed=3).float())


@pytest.mark.parametrize(("shape", "field"), [((16,), "box:5"), ((8, 8), "box:3"), ((6, 6, 6), "cross:1")])
def test_what_is_followed_is_the_states_order(
    shape: tuple[int, ...], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = TwoStatePatch(ReceptiveField.parse(field, len(shape))), normal(3, 1, *shape, seed=4).float()
    steps = frozen_steps(2.0, 0.5, 3)
    last, series = follow(model, x, steps, 4, keys(3), 5, "three-point")
    monkeypatch.setattr(patch_dynamics, "compiled", lambda: False)
    slow, known = follow(model, x, steps, 4, keys(3), 5, "three-point")
    assert torch.allclose(last, slow, rtol=0, atol=2e-5)
    assert np.allclose(series, known, rtol=1e-4, atol=1e-4)
    assert np.allclose(series[:, -1, 0], last.flatten(1).mean(1), atol=1e-5)


def exact_square(sigma: float, step: float) -> float:
    """Return E y^2 of one site under Leimkuhler's and Matthews's steps, by the backward equation on a grid."""
    kick = sigma * math.sqrt(step / 2)
    grid = np.linspace(-14 * sigma, 14 * sigma, 3001)
    points, weights = np.polynomial.hermite_e.hermegauss(48)
    weights = weights / weights.sum()
    y = grid[:, None] + kick * points
    following = np.clip((1 - step) * y + step * np.tanh(y / sigma**2) + kick * points, grid[0], grid[-1])
    value = (y**2) @ weights
    for _ in range(math.ceil(30 / step)):
        value = CubicSpline(grid, value)(following) @ weights
    return float(value[len(grid) // 2])


def test_averages_are_of_second_order_in_the_step() -> None:
    sigma = 0.8
    errors = [exact_square(sigma, step) - (1 + sigma**2) for step in (0.2, 0.1, 0.05)]
    assert abs(errors[0]) > 1e-5
    assert errors[0] / errors[1] == pytest.approx(4, abs=0.6)
    assert errors[1] / errors[2] == pytest.approx(4, abs=0.4)


@pytest.mark.parametrize("noise", NOISES)
def test_one_site_alone_has_the_moments_of_its_density(noise: Noise) -> None:
    r"""Test $p \propto e^{-x^2/2\sigma^2}\cosh(x/\sigma^2)$: two Gaussians at +-1."""
    sigma, step = 1.5, 0.2
    model, x = TwoStatePatch(ReceptiveField.box(1, 2)), normal(8, 1, 100, 100, seed=5).float() * sigma
    x = advance(model, x, frozen_steps(sigma, step, 200), keys(8), 0, noise)
    # the state to measure is y: x with a kick of its own
    y = (x + sigma * math.sqrt(step / 2) * normal(8, 1, 100, 100, seed=6)).double().flatten()
    for power, mean in ((2, 1 + sigma**2), (4, 1 + 6 * sigma**2 + 3 * sigma**4)):
        values = y.pow(power)
        error = float(values.std()) / math.sqrt(len(values))
        assert error < 0.02 * mean
        assert abs(float(values.mean()) - mean) < 4 * error + 0.002 * mean


def test_a_chain_agrees_with_an_independent_run() -> None:
    """Test the mean square of m and the pull of neighbours of a ring of 12 sites, by Euler's steps of NumPy."""
    sigma, side, chains = 1.2, 12, 4000
    model = TwoStatePatch(ReceptiveField.box(3, 1))
    x = advance(model, torch.zeros(chains, 1, side), frozen_steps(sigma, 0.1, 400), keys(chains), 0, "gaussian")
    x = x + sigma * math.sqrt(0.05) * normal(chains, 1, side, seed=7).float()
    rng, other, step = np.random.default_rng(8), np.zeros((chains, side)), 0.01
    for _ in range(3000):
        total = other + np.roll(other, 1, 1) + np.roll(other, -1, 1)
        noise = rng.standard_normal(other.shape)
        other += step * (np.tanh(total / sigma**2) - other) + sigma * math.sqrt(2 * step) * noise
    for measure in (lambda s: s.mean(1) ** 2, lambda s: (s * np.roll(s, 1, 1)).mean(1), lambda s: (s**2).mean(1)):
        ours, theirs = measure(x[:, 0].double().numpy()), measure(other)
        error = math.sqrt((ours.var() + theirs.var()) / chains)
        assert error < 0.05 * theirs.mean()
        # Euler's step is wrong by half of itself at most
        assert abs(ours.mean() - theirs.mean()) < 4 * error + 0.005 * theirs.mean()


def test_three_points_give_the_averages_of_normal_numbers() -> None:
    model, sigma = TwoStatePatch(ReceptiveField.box(5, 2)), 2.2
    found = []
    for noise in NOISES:
        start = torch.zeros(64, 1, 16, 16)
        _, series = follow(model, start, frozen_steps(sigma, 0.5, 4), 2000, keys(64, seed=len(found)), 0, noise)
        kept = series[:, 200:]
        found.append(np.stack([kept[..., 0] ** 2, kept[..., 0] ** 4, kept[..., 1]], -1).mean(1))
    for a, b in zip(found[0].T, found[1].T, strict=True):
        error = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a))
        assert error < 0.05 * a.mean()
        assert abs(a.mean() - b.mean()) < 4 * error


def test_going_down_the_levels_ends_at_the_data() -> None:
    """Test that one site alone ends at +-1 with the noise that is left, by the reverse SDE and at a slower rate."""
    model = TwoStatePatch(ReceptiveField.box(1, 2))
    for rate in (1.0, 4.0):
        start = 30 * normal(4, 1, 60, 60, seed=9).float()
        x = advance(model, start, quench_steps(30.0, math.log(100), rate, 800), keys(4)).double().flatten()
        assert float(x.square().mean()) == pytest.approx(1 + 0.3**2, abs=4 * 0.65 / math.sqrt(len(x)) + 0.01)
        assert abs(float(x.sign().mean())) < 4 / math.sqrt(len(x))


def test_without_numba_everything_works(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = TwoStatePatch(ReceptiveField.box(3, 2)), normal(2, 1, 8, 8, seed=10)
    fast = advance(model, x.float(), frozen_steps(2.0, 0.5, 3), keys(2))
    monkeypatch.setattr(patch_dynamics, "compiled", lambda: False)
    assert torch.allclose(advance(model, x.float(), frozen_steps(2.0, 0.5, 3), keys(2)), fast, atol=1e-5)
    # float64 takes the way of torch
    assert torch.allclose(advance(model, x, frozen_steps(2.0, 0.5, 3), keys(2)).float(), fast, atol=1e-5)


def test_a_field_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="receptive_field"):
        advance(TwoStatePatch(ReceptiveField.box(5, 2)), torch.zeros(1, 1, 4, 4), frozen_steps(2.0, 0.5, 1), keys(1))
