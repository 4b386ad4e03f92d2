import itertools
import math

import pytest
import torch

from helpers.dense import orders
from helpers.errors import refused
from helpers.models import LinearDenoiser
from helpers.random import normal
from softmode.exact.dictionary import paper_dictionary
from softmode.exact.empirical import EmpiricalDenoiser
from softmode.exact.patch import PatchDenoiser, TwoStatePatch
from softmode.lattice import Lattice, ReceptiveField
from softmode.observe.gains import (
    difference_gains,
    exact_gains,
    jvp_gains,
    luminance_and_chroma,
    mode_signs,
    multiplexed_gains,
    paper_step,
)
from softmode.process import VP

BOX = ReceptiveField.box(5, 2)
PATCH_MODELS = {"two-state": TwoStatePatch(BOX), "paper": PatchDenoiser(paper_dictionary(0))}
patch_models = pytest.mark.parametrize("denoiser", PATCH_MODELS.values(), ids=PATCH_MODELS)


def relative_error(found, expected):
    """Return the largest difference as a share of the largest gain."""
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("shape", [(1, 7), (3, 5), (1, 5, 6), (2, 4, 3), (1, 3, 4, 5)], ids=str)
def test_gains_of_a_linear_map_are_rayleigh_quotients(shape):
    """For D = A x both probes give v.Av / v.v of Eqs. 65 and 66 with all channels moving together, phases averaged."""
    space, size = shape[1:], math.prod(shape)
    shells, denoiser = (min(space) - 1) // 2, LinearDenoiser(normal(size, size))
    expected = torch.zeros(shells + 1, len(space), dtype=torch.float64)
    for n, axis, wave in itertools.product(range(shells + 1), range(len(space)), (torch.cos, torch.sin)):
        site = torch.arange(space[axis], dtype=torch.float64)
        along = wave(2 * math.pi * n / space[axis] * site) if n else torch.ones_like(site)
        v = along.reshape([-1 if a == axis else 1 for a in range(len(space))]).expand(shape).flatten()
        expected[n, axis] += (v @ denoiser.matrix @ v) / (v @ v) / 2
    x = normal(2, *shape, seed=1)
    for gains in (difference_gains(denoiser, x, 1.0, shells, 1e-3), jvp_gains(denoiser, x, 1.0, shells)):
        torch.testing.assert_close(gains, expected.expand(2, -1, -1), rtol=1e-9, atol=1e-9)


def test_paper_step():
    """max(5e-5, 1e-3 s^2) of the VP state's noise amplitude s, divided by alpha, with the floor at low noise."""
    process = VP()
    for t in (1e-4, 0.01, 0.0513, 0.2, 1.0, 4.0, 20.0):
        variance = float(process.sigma(t)) ** 2
        expected = max(5e-5, 1e-3 * variance) / float(process.alpha(t))
        assert float(paper_step(process.noise_level(t))) == pytest.approx(expected, rel=1e-12)
    assert float(paper_step(0.0)) == 5e-5
    levels = torch.tensor([0.1, 5.0], dtype=torch.float64)
    torch.testing.assert_close(paper_step(levels), torch.stack([paper_step(0.1), paper_step(5.0)]))


@pytest.mark.parametrize("step", [None, 0.02])
def test_a_step_is_the_largest_displacement_of_a_site(step):
    """Every probe moves states both ways by modes whose largest displacement of a site is the step."""
    x, sigma, denoiser = normal(2, 2, 4, 8), 5.0, LinearDenoiser(torch.eye(64, dtype=torch.float64))
    difference_gains(denoiser, x, sigma, 1, step)
    size = float(paper_step(sigma)) if step is None else step
    shifts = torch.stack([called - x for called in denoiser.seen])
    assert len(shifts) == 2 * (1 + 2 * 2)
    torch.testing.assert_close(shifts[::2], -shifts[1::2], rtol=0, atol=1e-12)
    # on 4 and 8 sites the cosine and the sine both reach 1
    peaks = shifts.abs().flatten(1).amax(1)
    torch.testing.assert_close(peaks, torch.full_like(peaks, size), rtol=1e-9, atol=0)


@patch_models
@pytest.mark.parametrize("sigma", [1.0, 5.0, 30.0])
def test_differences_converge_with_order_2(denoiser, sigma):
    """Halving the step divides the error by four, from a step at which the posterior answers noticeably."""
    x = sigma * normal(2, 1, 8, 8)
    exact = exact_gains(denoiser, x, sigma, 2)
    steps = [0.2 * sigma**2 / BOX.size / 2**i for i in range(4)]
    errors = [relative_error(difference_gains(denoiser, x, sigma, 2, step), exact) for step in steps]
    assert orders(errors).tolist() == pytest.approx([2] * 3, abs=0.1)


@patch_models
@pytest.mark.parametrize(("sigma", "bound"), [(1.0, 4e-5), (5.0, 6e-6), (30.0, 5e-7)])
def test_error_of_the_papers_step(denoiser, sigma, bound):
    """The paper's adaptive step, the default, has at most the stated error, as a share of the largest gain."""
    x = sigma * normal(4, 1, 8, 8)
    assert relative_error(difference_gains(denoiser, x, sigma, 3), exact_gains(denoiser, x, sigma, 3)) < bound


@pytest.mark.parametrize(("sigma", "size"), [(0.25, 2.0e-4), (1.0, 1.0e-4), (5.0, 8.0e-6), (30.0, 2.3e-7)])
def test_error_of_the_papers_step_at_the_symmetric_point(sigma, size):
    """At x = 0, D = tanh(S / sigma^2) puts the constant mode's error at -(|Omega| step / sigma^2)^2 / 3: about 1e-4."""
    x = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    found = float(difference_gains(PATCH_MODELS["two-state"], x, sigma, 0)[0, 0, 0])
    error = found / (25 / sigma**2) - 1
    assert error == pytest.approx(-((25 * float(paper_step(sigma)) / sigma**2) ** 2) / 3, rel=1e-2)
    assert error == pytest.approx(-size, rel=0.1)


def test_gains_of_multichannel_states():
    """On three channels all probes give v.Jv of the dense Jacobian, v the mode in every channel, of unit norm."""
    denoiser, x, sigma = EmpiricalDenoiser(normal(5, 3, 5, 4)), normal(2, 3, 5, 4, seed=1), 1.5
    v = Lattice((5, 4)).modes(1)[:, :, :, None].expand(2, 2, 2, 3, 5, 4).flatten(3) / math.sqrt(3)
    expected = torch.einsum("napi,bij,napj->bna", v, denoiser.jacobian(x, sigma), v) / 2
    torch.testing.assert_close(exact_gains(denoiser, x, sigma, 1), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(jvp_gains(denoiser, x, sigma, 1), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(difference_gains(denoiser, x, sigma, 1, 1e-5), expected, rtol=1e-7, atol=1e-9)


def test_gains_by_channel():
    """Every entry is v_c.J v_c' of the dense Jacobian, by all probes; luminance and chroma are its quadratic forms."""
    denoiser, x, sigma = EmpiricalDenoiser(normal(5, 3, 5, 4)), normal(2, 3, 5, 4, seed=1), 1.5
    jacobian = denoiser.jacobian(x, sigma).unflatten(1, (3, 20)).unflatten(3, (3, 20))
    v = Lattice((5, 4)).modes(1).flatten(3)
    expected = torch.einsum("napi,bcidj,napj->bnacd", v, jacobian, v) / 2
    found = jvp_gains(denoiser, x, sigma, 1, by_channel=True)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert float((found - found.mT).abs().max()) < 1e-9  # an exact score is a gradient; no channel may be mixed up
    torch.testing.assert_close(
        difference_gains(denoiser, x, sigma, 1, 1e-5, by_channel=True), expected, rtol=1e-7, atol=1e-9
    )
    signs = mode_signs(4, range(2), 0, 0)
    constant = multiplexed_gains(denoiser, x, sigma, 1, signs, 1e-5, by_channel=True)[:, 0]
    torch.testing.assert_close(constant, expected[:, 0], rtol=1e-7, atol=1e-9)
    luminance, chroma = luminance_and_chroma(expected)
    torch.testing.assert_close(luminance, exact_gains(denoiser, x, sigma, 1), rtol=1e-10, atol=1e-12)
    across = torch.tensor([[1, 0, -1], [0.5, -1, 0.5]], dtype=torch.float64) / torch.tensor([[2**0.5], [1.5**0.5]])
    torch.testing.assert_close(chroma, torch.einsum("dc,bnace,de->bna", across, expected, across) / 2)


def test_multiplexed_gains_by_channel_are_exact_where_modes_do_not_mix():
    """A map that mixes channels and not sites: the matrix is the channels' own, at every shell."""
    mixing = normal(3, 3, seed=4)

    def denoiser(x, sigma):
        return torch.einsum("cd,bdyx->bcyx", mixing, x)

    x, signs = normal(2, 3, 8, 8), mode_signs(8, range(2), 3, 1)
    found = multiplexed_gains(denoiser, x, 1.0, 2, signs, 1e-2, by_channel=True)
    torch.testing.assert_close(found, mixing.expand_as(found), rtol=1e-9, atol=1e-9)
    together = multiplexed_gains(denoiser, x, 1.0, 2, signs, 1e-2)
    torch.testing.assert_close(luminance_and_chroma(found)[0], together, rtol=1e-9, atol=1e-9)


def test_dtype_of_gains():
    """Probes return the states' dtype; in float32 differences keep about three digits at the paper's step."""
    denoiser, x, sigma = PATCH_MODELS["paper"], 5 * normal(2, 1, 8, 8), 5.0
    exact = exact_gains(denoiser, x, sigma, 2)
    for probe, tolerance in ((jvp_gains, 1e-5), (difference_gains, 5e-3)):
        found = probe(denoiser, x.float(), sigma, 2)
        assert found.dtype == torch.float32
        assert relative_error(found.double(), exact) < tolerance


def test_probes_leave_the_states_alone():
    """Neither probe writes into the given states."""
    x = normal(1, 1, 6, 6)
    before = x.clone()
    difference_gains(PATCH_MODELS["paper"], x, 2.0, 1)
    jvp_gains(PATCH_MODELS["paper"], x, 2.0, 1)
    assert torch.equal(x, before)


@pytest.mark.parametrize("probe", [exact_gains, difference_gains, jvp_gains])
def test_too_many_shells_are_refused(probe):
    """A shell at or beyond half the lattice is refused by name."""
    with refused(r"^shells: got 3"):
        probe(PATCH_MODELS["paper"], normal(1, 1, 6, 8), 2.0, 3)


@pytest.mark.parametrize(("sigma", "within"), [(0.01, 0.04), (0.1, 0.01), (0.3, 0.01), (1.0, 1e-3), (80.0, 1e-5)])
def test_single_precision_gives_the_softness_of_a_linear_denoiser(sigma: float, within: float) -> None:
    """D = c x in float32: 1 - G to a part of itself, where the step alone would be wrong by more than all of it.

    A quotient over the wanted displacement in place of the one that was made gives -0.0006 for 0.0003 at sigma = 0.1.
    """
    c = 1 / (1 + sigma**2)
    x = math.sqrt(1 + sigma**2) * torch.randn(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    signs = mode_signs(12, range(64), 0, 0)
    softness = 1 - multiplexed_gains(lambda z, _: c * z, x, sigma, 3, signs).double().mean((0, 2))
    torch.testing.assert_close(softness, torch.full((4,), 1 - c).double(), rtol=within, atol=0)
    few = 1 - difference_gains(lambda z, _: c * z, x[:16], sigma, 2).double().mean((0, 2))
    torch.testing.assert_close(few, torch.full((3,), 1 - c).double(), rtol=within, atol=0)
