"""Entropy production of frozen patch models: against dense derivatives, a solved equation, and controls."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd.functional import hessian, jacobian

from helpers.random import normal
from softmode.estimate import Estimate, of_mean
from softmode.exact.dictionary import PatchDictionary, paper_dictionary
from softmode.exact.patch import PatchDenoiser, TwoStatePatch
from softmode.exact.patch_balance import entropy_production, irreciprocity
from softmode.exact.patch_dynamics import PatchModel, follow, frozen_steps
from softmode.lattice import ReceptiveField

SIGMA = 1.2
PAIR = ReceptiveField(((0,), (1,)))


def dictionary(field: ReceptiveField, patterns: list[list[float]], prior: list[float]) -> PatchDenoiser:
    values = (torch.tensor(each, dtype=torch.float64) for each in (patterns, prior))
    return PatchDenoiser(PatchDictionary(field, *values))


def lopsided() -> PatchDenoiser:
    """Return a model of two neighbours that counts the other site for more than its own."""
    return dictionary(PAIR, [[1.0, 2.0], [-1.0, -2.0]], [0.55, 0.45])


def disguised() -> PatchDenoiser:
    """Return a model of one site in the guise of a patch of two: the other pixel is always 0."""
    return dictionary(PAIR, [[1.0, 0.0], [-1.0, 0.0]], [0.5, 0.5])


def patch_sum(model: PatchModel, x: Tensor, sigma: float) -> Tensor:
    """Return sum_j log Z_j sigma^2/|Omega|, gathered patch by patch."""
    field, axes = model.receptive_field, tuple(range(x.ndim))
    patches = torch.stack([x.roll([-c for c in u], axes) for u in field.offsets], -1)
    if isinstance(model, TwoStatePatch):
        patterns = torch.stack([torch.ones(field.size), -torch.ones(field.size)]).double()
        log_prior = torch.full((2,), -math.log(2.0), dtype=torch.float64)
    else:
        patterns, log_prior = model.dictionary.patterns, model.dictionary.prior.log()
    logits = (patches @ patterns.T - patterns.square().sum(1) / 2) / sigma**2 + log_prior
    return logits.logsumexp(-1).sum() * sigma**2 / field.size


CASES = [
    ("box:3", (5, 6)), ("cross:1", (4, 5)), ("offsets:0;1;3", (7,)), ("offsets:0;1", (2,)), ("offsets:0;2", (4,)),
    ("cross:1", (3, 3, 4)),
]  # fmt: skip


@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize(("field", "shape"), CASES)
def test_single_states_have_what_dense_derivatives_give(field: str, shape: tuple[int, ...], states: bool) -> None:
    omega = ReceptiveField.parse(field, len(shape))
    model = TwoStatePatch(omega) if states else PatchDenoiser(paper_dictionary(3, omega))
    x, sites = normal(*shape, seed=2), math.prod(shape)
    each = jacobian(lambda y: model(y[None, None], SIGMA)[0, 0], x).reshape(sites, sites)
    whole = jacobian(lambda y: patch_sum(model, y, SIGMA), x)
    curvature = hessian(lambda y: patch_sum(model, y, SIGMA), x).reshape(sites, sites)
    own = model(x[None, None], SIGMA)[0, 0]
    expected = ((own - whole) * (own - x)).sum() / SIGMA**2 + (each - curvature).trace()
    both = torch.stack([x, -2 * x])[:, None]
    assert torch.allclose(entropy_production(model, both, SIGMA)[0], expected / sites, rtol=1e-10, atol=1e-12)
    share = (each - each.T).square().sum() / 4 / each.square().sum()
    assert torch.allclose(irreciprocity(model, both, SIGMA)[0], share, rtol=1e-10, atol=1e-12)


def stationary(model: PatchModel, sigma: float, points: int = 51, reach: float = 9.0) -> tuple[Tensor, Tensor, float]:
    """Solve the stationary Fokker-Planck equation of two sites by Fourier collocation, on an odd number of points.

    Returns:
        States [point, 1, 2], their probabilities, and the dissipation of the current, int |J|^2/(sigma^2 p), per site.
    """
    axis = reach * (2 * np.arange(points) / points - 1)
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    states = torch.from_numpy(x)[:, None]
    force = model(states, sigma)[:, 0].numpy() - x
    wave = 1j * np.pi / reach * np.fft.fftfreq(points, 1 / points)
    single = np.fft.ifft(wave[:, None] * np.fft.fft(np.eye(points), axis=0), axis=0).real
    along = [np.kron(single, np.eye(points)), np.kron(np.eye(points), single)]
    current = [np.diag(force[:, k]) - sigma**2 * along[k] for k in range(2)]
    flow = sum(along[k] @ current[k] for k in range(2))
    # one row, which the others imply, gives way to the norm
    flow[0] = 1.0
    p = np.linalg.solve(flow, np.eye(1, points**2)[0])
    assert p.min() > -1e-8
    held = p > 1e-9
    dissipated = sum((current[k] @ p)[held] ** 2 / p[held] for k in range(2)).sum() / sigma**2
    return states, torch.from_numpy(p), dissipated / 2


@pytest.fixture(scope="module")
def solved() -> tuple[Tensor, Tensor, float]:
    return stationary(lopsided(), SIGMA)


def test_the_average_is_the_dissipation_of_the_current(solved: tuple[Tensor, Tensor, float]) -> None:
    states, p, dissipated = solved
    assert dissipated > 1e-3
    assert float(p @ entropy_production(lopsided(), states, SIGMA)) == pytest.approx(dissipated, rel=2e-3)
    # and that of the definition, |f|^2/sigma^2 + div f
    x = states.clone().requires_grad_()
    slope = torch.zeros(len(x), dtype=torch.float64)
    for site in range(2):
        denoised = lopsided()(x, SIGMA)[:, 0, site].sum()
        slope += torch.autograd.grad(denoised, x)[0][:, 0, site]
    force = (lopsided()(states, SIGMA) - states)[:, 0]
    plain = force.square().sum(1) / SIGMA**2 + slope - 2
    assert float(p @ plain) / 2 == pytest.approx(dissipated, rel=2e-3)


def test_a_density_produces_nothing() -> None:
    """Test one site in disguise, whose single states give numbers that only average to 0."""
    states, p, dissipated = stationary(disguised(), SIGMA)
    each = entropy_production(disguised(), states, SIGMA)
    assert abs(dissipated) < 1e-9
    assert float(each.std()) > 0.1
    assert float(p @ each) == pytest.approx(0, abs=1e-9)
    assert irreciprocity(disguised(), states, SIGMA).abs().max() < 1e-12


def test_where_all_sites_see_all_there_is_a_density() -> None:
    model, x = TwoStatePatch(ReceptiveField.box(3)), normal(2, 1, 3, 3)
    assert entropy_production(model, x, SIGMA).abs().max() < 1e-12
    assert irreciprocity(model, x, SIGMA).abs().max() < 1e-12


def averaged(model: PatchModel, step: float) -> Estimate:
    """Return the entropy production of two sites under the compiled dynamics."""
    replicas, every = 4000, round(3 / step)
    steps, x = frozen_steps(SIGMA, step, every), SIGMA * normal(replicas, 1, 2, seed=1).float()
    kick = SIGMA * math.sqrt(step / 2)
    values = []
    for k in range(60):
        x, _ = follow(model, x, steps, 1, torch.arange(replicas), k * every, "three-point")
        if k >= 10:
            values.append(entropy_production(model, x + kick * normal(*x.shape, seed=k).float(), SIGMA))
    return of_mean(torch.stack(values).mean(0).numpy())


def test_the_dynamics_produces_what_the_solved_equation_says(solved: tuple[Tensor, Tensor, float]) -> None:
    found = averaged(lopsided(), 0.1)
    assert found.stderr < solved[2] / 10
    assert abs(found.value - solved[2]) < 4 * found.stderr


def test_the_dynamics_of_a_density_produces_nothing() -> None:
    """With the steps and the precision of a run, extrapolated as one."""
    whole, half = (averaged(disguised(), step) for step in (0.5, 0.25))
    error = math.hypot(4 * half.stderr, whole.stderr) / 3
    assert abs(4 * half.value - whole.value) / 3 < 4 * error < 0.004
