import math
from functools import partial

import pytest
import torch

from helpers.dense import jacobian, sites
from helpers.errors import refused
from helpers.models import LinearDenoiser, ornstein_zernike
from helpers.random import generator, normal
from softmode.exact.dictionary import paper_dictionary, two_state_dictionary
from softmode.exact.empirical import EmpiricalDenoiser
from softmode.exact.gaussian import GaussianDenoiser
from softmode.exact.patch import PatchDenoiser, TwoStatePatch
from softmode.lattice import Lattice, ReceptiveField
from softmode.observe.correlation import radial_average
from softmode.observe.gains import paper_step
from softmode.observe.jacobian import (
    Locality,
    effective_omega,
    effective_radius,
    equivariance_error,
    locality,
    oddness_error,
    random_signs,
    response_kernel,
    responses,
)

BOX = ReceptiveField.box(3, 2)


def generators(count, seed=0):
    return [generator(seed + index) for index in range(count)]


def dense_kernel(matrix, shape):
    """Return the mean over sites i and channels of J_{i, i+u}, by loops over sites, [*space]."""
    channels, space = shape[0], shape[1:]
    entries = matrix.reshape(*shape, *shape)
    kernel = torch.zeros(space, dtype=matrix.dtype)
    for u in sites(space):
        for i in sites(space):
            j = tuple((a + b) % n for a, b, n in zip(i, u, space, strict=True))
            kernel[u] += sum(entries[(c, *i, c, *j)] for c in range(channels)) / (channels * math.prod(space))
    return kernel


def dense_locality(matrix, shape):
    """Return every quantity of `Locality` from the dense Jacobian of one state."""
    kernel = dense_kernel(matrix, shape)
    return Locality(
        radial_average(kernel[None])[0],
        kernel.sum(),
        kernel.square().sum(),
        (Lattice(shape[1:]).distances() * kernel).square().sum(),
        ((matrix + matrix.T) / 2).square().sum(),
        ((matrix - matrix.T) / 2).square().sum(),
    )


def every_sign(probes, shape):
    """Return every tuple of sign fields as a batch, whose mean is the expectation over independent probes."""
    size = probes * math.prod(shape)
    bits = torch.arange(2**size)[:, None] >> torch.arange(size) & 1
    return (2.0 * bits - 1).double().reshape(-1, probes, *shape).transpose(0, 1)


@pytest.mark.parametrize(
    ("probes", "shape"),
    [(2, (1, 5)), (3, (1, 4)), (2, (2, 3)), (2, (1, 2, 4)), (2, (1, 4, 2)), (2, (1, 2, 2, 2)), (3, (1, 2, 2))],
    ids=str,
)
def test_expectations_over_all_probes(probes, shape):
    """The mean over every combination of probes is the dense Jacobian's value to rounding: nothing is biased."""
    size = math.prod(shape)
    matrix, signs = normal(size, size), every_sign(probes, shape)
    found = locality(signs, (signs.flatten(2) @ matrix.T).reshape(signs.shape))
    for name, values, expected in zip(Locality._fields, found, dense_locality(matrix, shape), strict=True):
        assert values.shape == (signs.shape[1], *expected.shape)
        torch.testing.assert_close(values.mean(0), expected, rtol=1e-11, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}")


def test_a_non_stationary_jacobian_of_36_sites():
    """From 8 probes per state, everything agrees with the dense Jacobian within 4 standard errors, which are small."""
    shape, batch = (1, 6, 6), 600
    matrix, x = normal(36, 36), normal(1, *shape, seed=1).expand(batch, -1, -1, -1)
    signs = random_signs(x, 8, generators(batch))
    found, exact = locality(signs, responses(LinearDenoiser(matrix), x, 1.0, signs)), dense_locality(matrix, shape)
    # one probe's K(u) has noise |J| / N = 1, a pair's estimate of a norm relative noise sqrt(2)
    bounds = (0.015, 0.1, 0.06, 0.45, 8.5, 10)
    for name, values, expected, bound in zip(Locality._fields, found, exact, bounds, strict=True):
        stderr = values.std(0) / math.sqrt(batch)
        assert bool(((values.mean(0) - expected).abs() < 4 * stderr).all()), name
        assert float(stderr.max()) < bound, name


@pytest.mark.parametrize("u", [(1, 2), (3, 0), (0, 4)])
def test_the_kernel_stands_at_the_offset_of_the_push(u):
    """D_i = x_{i+u} has K = 1 at u, in every probe, and 0 elsewhere on average: the patch models' convention."""
    x = torch.zeros(200, 1, 4, 5, dtype=torch.float64)
    signs = random_signs(x, 2, generators(200))
    kernel = response_kernel(signs, responses(lambda x, sigma: x.roll((-u[0], -u[1]), (2, 3)), x, 1.0, signs))
    torch.testing.assert_close(kernel[(..., *u)], torch.ones(2, 200, dtype=torch.float64), rtol=0, atol=1e-9)
    rest = kernel.mean((0, 1))
    rest[u] = 0
    assert float(rest.abs().max()) < 5 / math.sqrt(20 * 400)


def test_the_kernel_of_a_patch_model():
    """The mean over all sign fields is the patch model's own site-averaged Jacobian row, of a lopsided Omega too."""
    field = ReceptiveField.parse("offsets:0,0;0,1;1,1;1,2")
    denoiser, sigma, signs = PatchDenoiser(paper_dictionary(0, field)), 1.5, every_sign(1, (1, 3, 4))
    x = normal(1, 1, 3, 4).expand_as(signs[0])
    found = response_kernel(signs, responses(denoiser, x, sigma, signs, 1e-4)).mean((0, 1))
    expected = torch.zeros(3, 4, dtype=torch.float64)
    expected[tuple(field.tensor().long().T)] = denoiser.kernel(x[:1], sigma)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("shape", [(8,), (7,), (3, 4), (5, 2)], ids=str)
def test_a_gaussian_model(shape):
    """The mean kernel is the inverse Fourier transform of the gains, |J|^2 the sum of their squares, J is symmetric."""
    denoiser, sigma, signs = GaussianDenoiser(ornstein_zernike(*shape)), 0.8, every_sign(1, (1, *shape))
    x = normal(1, 1, *shape).expand_as(signs[0])
    gain = denoiser.gain(sigma)
    kernel = response_kernel(signs, responses(denoiser, x, sigma, signs)).mean((0, 1))
    torch.testing.assert_close(kernel, torch.fft.ifftn(gain).real, rtol=0, atol=1e-9)
    signs = random_signs(x[:400], 6, generators(min(400, len(x))))
    found = locality(signs, responses(denoiser, x[:400], sigma, signs))
    assert float(found.symmetric.mean()) == pytest.approx(float(gain.square().sum()), rel=0.1)
    assert float(found.antisymmetric.max()) < 1e-18 * float(gain.square().sum())
    assert float(equivariance_error(denoiser, x[:1], sigma, [(1,) * len(shape), (2,) * len(shape)])) < 1e-13


def test_symmetry_of_posterior_means():
    """Given the whole state the antisymmetric part is 0; a patch model's equals that of its dense Jacobian."""
    x, sigma = normal(1, 1, 4, 4), 1.5
    batch = x.expand(400, -1, -1, -1)
    signs = random_signs(batch, 6, generators(400))
    whole = locality(signs, responses(EmpiricalDenoiser(normal(5, 1, 4, 4, seed=1)), batch, sigma, signs, 1e-4))
    assert float(whole.antisymmetric.max()) < 1e-12 * float(whole.symmetric.mean())
    denoiser = TwoStatePatch(BOX)
    local = locality(signs, responses(denoiser, batch, sigma, signs, 1e-4))
    exact = dense_locality(jacobian(partial(denoiser, sigma=sigma), x), x.shape[1:])
    assert float(exact.antisymmetric) > 0.02 * float(exact.symmetric)
    for name in ("symmetric", "antisymmetric"):
        assert float(getattr(local, name).mean()) == pytest.approx(float(getattr(exact, name)), rel=0.1), name


def test_two_state_patches_in_1d_exactly():
    """At x = 0 the kernel is flat: over all pairs of probes omega = |Omega| = 3 and the radius is sqrt(2/3)."""
    denoiser = PatchDenoiser(two_state_dictionary(ReceptiveField.box(3, 1)))
    signs = every_sign(2, (1, 5))
    x = torch.zeros(signs.shape[1:], dtype=torch.float64)
    found = locality(signs, responses(denoiser, x, 3.0, signs))
    total, square, spread = found.total.mean(), found.square.mean(), found.spread.mean()
    assert float(effective_omega(total, square)) == pytest.approx(3, rel=1e-5)
    assert float(effective_radius(spread, square)) == pytest.approx(math.sqrt(2 / 3), rel=1e-5)


def test_two_state_patches_in_2d():
    """At x = 0, from 8 probes on each of 1500 states, omega is near |Omega| = 9 and the radius near sqrt(12/9)."""
    x = torch.zeros(1500, 1, 6, 6, dtype=torch.float64)
    signs = random_signs(x, 8, generators(1500))
    found = locality(signs, responses(PatchDenoiser(two_state_dictionary(BOX)), x, 3.0, signs))
    total, square, spread = found.total.mean(), found.square.mean(), found.spread.mean()
    # the noise of the total, sqrt(2/12000) of it, dominates
    assert float(effective_omega(total, square)) == pytest.approx(9, rel=4 * 2 * math.sqrt(2 / 12000))
    assert float(effective_radius(spread, square)) == pytest.approx(math.sqrt(12 / 9), rel=0.02)
    # the claim of Locality.total about one state's standard error
    assert float(found.total.std() / total) == pytest.approx(math.sqrt(2 / 8), rel=0.1)


def test_undefined_sizes_are_nan():
    """Estimates of a vanishing kernel scatter around 0: sizes are NaN then, value by value, in the given dtype."""
    square = torch.tensor([-0.1, 0.0, 0.5, 0.5])
    spread = torch.tensor([-0.2, 1.0, -0.1, 2.0])
    omega, radius = effective_omega(torch.ones(4), square), effective_radius(spread, square)
    assert omega.isnan().tolist() == [True, True, False, False]
    assert radius.isnan().tolist() == [True, True, True, False]
    assert float(omega[3]) == float(radius[3]) == 2
    assert omega.dtype == radius.dtype == torch.float32


def test_probes_move_every_site_by_the_step():
    """Each probe costs two evaluations, at x + step z and x - step z, with one step per state."""
    x, levels = normal(2, 1, 4), torch.tensor([0.5, 3.0], dtype=torch.float64)
    signs = random_signs(x, 3, generators(2))
    for step in (None, torch.tensor([0.1, 0.2], dtype=torch.float64), 0.3):
        denoiser = LinearDenoiser(torch.eye(4, dtype=torch.float64))
        found = responses(denoiser, x, levels, signs, step)
        torch.testing.assert_close(found, signs, rtol=1e-9, atol=0)
        size = torch.as_tensor(paper_step(levels) if step is None else step, dtype=torch.float64).expand(2)
        shifts = torch.stack(denoiser.seen).unflatten(0, (3, 2)) - x
        expected = size[:, None, None] * torch.stack([signs, -signs], 1)
        torch.testing.assert_close(shifts, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.05, 1.0, 30.0])
def test_float32(sigma):
    """In float32 differences keep about three digits at the paper's step, and a symmetric J stays symmetric."""
    denoiser, x = GaussianDenoiser(ornstein_zernike(8, 8)), sigma * normal(3, 1, 8, 8)
    signs = random_signs(x, 4, generators(3))
    exact = locality(signs, responses(denoiser, x, sigma, signs))
    found = locality(signs.float(), responses(denoiser, x.float(), sigma, signs.float()))
    for name in ("kernel", "total", "square", "spread", "symmetric"):
        value, expected = getattr(found, name), getattr(exact, name)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected, rtol=0, atol=2e-3 * float(expected.abs().max()))
    assert float(found.antisymmetric.max()) < 2e-6 * float(exact.symmetric.mean())


def test_random_signs():
    """Signs are ±1 in the states' dtype, fair, different between probes and states."""
    signs = random_signs(torch.zeros(3, 2, 16, 16), 4, generators(3))
    assert signs.shape == (4, 3, 2, 16, 16)
    assert signs.dtype == torch.float32
    assert bool((signs.abs() == 1).all())
    fields = signs.flatten(2).flatten(0, 1)
    overlaps = fields @ fields.T / fields.shape[1] - torch.eye(12)
    assert float(overlaps.abs().max()) < 5 / math.sqrt(512)
    assert float(fields.mean(1).abs().max()) < 5 / math.sqrt(512)


def test_independence_of_batching():
    """States one by one give what they give together, the signs bit for bit."""
    denoiser, x = PatchDenoiser(paper_dictionary(0, BOX)), 3 * normal(3, 1, 6, 5)
    levels = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    shifts = [(1, 0), (2, 3)]

    def measure(x, sigma, own):
        signs = random_signs(x, 3, own)
        found = locality(signs, responses(denoiser, x, sigma, signs))
        errors = equivariance_error(denoiser, x[:, :, 1:], sigma, shifts), oddness_error(denoiser, x + 1, sigma)
        return signs, (*found, *errors)

    signs, together = measure(x, levels, generators(3))
    for index, own in enumerate(generators(3)):
        one_signs, alone = measure(x[index : index + 1], levels[index : index + 1], [own])
        assert torch.equal(one_signs[:, 0], signs[:, index])
        for one, all_ in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], all_[index], rtol=1e-9, atol=1e-13)


def test_channels():
    """The kernel averages channels, each to itself; a map between channels enters the norms only."""
    x = torch.zeros(50, 2, 3, 3, dtype=torch.float64)
    signs = random_signs(x, 2, generators(50))
    scales = torch.tensor([1.0, 3.0], dtype=torch.float64).reshape(1, 2, 1, 1)
    kernel = response_kernel(signs, responses(lambda x, sigma: scales * x, x, 1.0, signs))
    torch.testing.assert_close(kernel[..., 0, 0], torch.full((2, 50), 2.0, dtype=torch.float64))
    # channel 1 answers to channel 0 only: nothing of it in the mean kernel, all of it in the norms
    signs = every_sign(2, (2, 3))
    answer = torch.stack([torch.zeros_like(signs[:, :, 0]), signs[:, :, 0]], 2)
    found = locality(signs, answer)
    assert float(found.kernel.mean(0).abs().max()) < 1e-12
    # 3 entries of J are 1, off the diagonal
    assert float(found.symmetric.mean()) == pytest.approx(1.5)
    assert float(found.antisymmetric.mean()) == pytest.approx(1.5)


def test_equivariance_by_hand():
    """D = m x with m = (2, 1, 1, 1) at x = (1, 2, 3, 4): (m - tau m) tau x, 17 for one site's shift and 10 for two."""
    mask = torch.tensor([2.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]], [[1.0, 0.0, 0.0, 0.0]]], dtype=torch.float64)
    found = equivariance_error(lambda x, sigma: mask * x, x, 1.0, [(1,), (2,)])
    # the second state moves off the doubled site: (2 - 1)^2 each time, over 2^2
    expected = torch.tensor([math.sqrt(13.5 / 33), 0.5], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)


def test_equivariance_sees_each_axis():
    """A mask along the second axis does not break translations along the first."""
    x, mask = normal(2, 1, 4, 6), torch.arange(1.0, 7.0, dtype=torch.float64)

    def masked(x, sigma):
        return mask * x

    assert float(equivariance_error(masked, x, 1.0, [(1, 0), (3, 0)]).max()) == 0
    assert float(equivariance_error(masked, x, 1.0, [(0, 1)]).min()) > 0.1


@pytest.mark.parametrize(
    "denoiser", [TwoStatePatch(BOX), PatchDenoiser(paper_dictionary(0, BOX))], ids=["two", "paper"]
)
def test_patch_models_are_equivariant(denoiser):
    """On a periodic lattice patch models commute with translations to rounding."""
    shifts = [(1, 0), (0, 2), (-3, 4)]
    assert float(equivariance_error(denoiser, 3 * normal(2, 1, 6, 7), 2.0, shifts).max()) < 1e-13


def test_oddness():
    """0 for an odd denoiser, 1 for an even one, and 1 / sqrt(2) for x + x^2 at x = ±1 in equal numbers."""
    x = normal(3, 1, 6, 6)
    assert float(oddness_error(TwoStatePatch(BOX), x, 2.0).max()) < 1e-13
    assert float(oddness_error(PatchDenoiser(two_state_dictionary(BOX)), x, 2.0).max()) < 1e-13
    ones = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(oddness_error(lambda x, sigma: x.square(), x, 2.0), ones, rtol=1e-13, atol=0)
    halves = torch.tensor([[[1.0, -1.0]]], dtype=torch.float64)
    assert float(oddness_error(lambda x, sigma: x + x.square(), halves, 2.0)) == pytest.approx(math.sqrt(0.5))


def test_bad_input_is_refused_by_name():
    x = normal(2, 1, 4, 4)
    with refused(r"^generators: got 3; expected one per state, 2"):
        random_signs(x, 1, generators(3))
    signs = random_signs(x, 1, generators(2))
    with refused(r"^signs: got 1 probe; expected at least two"):
        locality(signs, signs)
    for shifts in ([], [(1, 0), (1,)]):
        with refused(r"^shifts: got"):
            equivariance_error(TwoStatePatch(BOX), x, 1.0, shifts)
