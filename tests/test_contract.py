"""What every exact denoiser must do, whatever its model: each test runs on all of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch

from helpers.dense import jacobian, patches, rayleigh_quotients
from helpers.errors import refused
from helpers.models import LOPSIDED, probabilities, real_dictionary, skewed_spectrum
from helpers.random import normal
from softmode.denoiser import ExactDenoiser
from softmode.exact.dictionary import paper_dictionary, random_dictionary
from softmode.exact.empirical import EmpiricalDenoiser, TwoPrototypes
from softmode.exact.gaussian import GaussianDenoiser
from softmode.exact.patch import PatchDenoiser, TwoStatePatch, full_dispersion
from softmode.lattice import Lattice, ReceptiveField

TRAJECTORIES = 3


@dataclass
class Case:
    """A denoiser, the shape of one state, its mean at infinite noise and its values at none."""

    denoiser: ExactDenoiser
    shape: tuple[int, ...]
    prior_mean: torch.Tensor
    noiseless: Callable[[torch.Tensor], torch.Tensor]  # states -> D at sigma -> 0

    def states(self, sigma=1.0, seed=1):
        """Return states [batch, channel, *space] as spread as a noised model of order one."""
        return (1 + sigma) * normal(TRAJECTORIES, *self.shape, seed=seed)

    @property
    def lattice(self):
        return Lattice(self.shape[1:])

    @property
    def shells(self):
        return min(2, (min(self.shape[1:]) - 1) // 2)


def nearest(points, x):
    """Return the data point nearest to each state."""
    distance = (x[:, None] - points).flatten(2).square().sum(2)
    return points[distance.argmin(1)]


def empirical(data, prior=None):
    mean = data.mean(0) if prior is None else torch.tensordot(prior, data, dims=1)
    likely = data if prior is None else data[prior > 0]
    return Case(EmpiricalDenoiser(data, prior), tuple(data.shape[1:]), mean, lambda x: nearest(likely, x))


def prototypes(mu):
    pair = torch.stack([mu, -mu])
    return Case(TwoPrototypes(mu), tuple(mu.shape), torch.zeros_like(mu), lambda x: nearest(pair, x))


def gaussian(space, mean=0.0, channels=1, zeros=False):
    spectrum = skewed_spectrum(*space)
    band = (Lattice(space).wave_vectors().square().sum(-1) < 2) if zeros else torch.ones(space, dtype=torch.bool)
    axes = tuple(range(-len(space), 0))

    def project(x):
        return mean + torch.fft.ifftn(band * torch.fft.fftn(x - mean, dim=axes), dim=axes).real

    shape = (channels, *space)
    prior_mean = torch.as_tensor(mean, dtype=torch.float64).expand(shape)
    return Case(GaussianDenoiser(spectrum * band, mean), shape, prior_mean, project)


def patch_model(dictionary, space):
    likely = dictionary.prior > 0
    patterns, centre = dictionary.patterns[likely], dictionary.centre[likely]
    pattern_column = patterns.reshape(1, *patterns.shape, *[1] * len(space))

    def winner(x):
        distance = (patches(x, dictionary.receptive_field)[:, None] - pattern_column).square().sum(2)
        return centre[distance.argmin(1)][:, None]

    mean = (dictionary.prior @ dictionary.centre).expand(1, *space)
    return Case(PatchDenoiser(dictionary), (1, *space), mean, winner)


def two_state(field, space):
    def sign(x):
        return patches(x, field).sum(1, keepdim=True).sign()

    return Case(TwoStatePatch(field), (1, *space), torch.zeros(1, *space, dtype=torch.float64), sign)


CASES = {
    "empirical-1d": lambda: empirical(normal(5, 1, 9)),
    "empirical-1d-3-channels": lambda: empirical(normal(4, 3, 7)),
    "empirical-2d-prior": lambda: empirical(normal(4, 1, 5, 6), probabilities(1, 2, 3, 4)),
    "empirical-2d-2-channels-zero-prior": lambda: empirical(normal(4, 2, 4, 5), probabilities(1, 0, 3, 0)),
    "empirical-3d": lambda: empirical(normal(5, 1, 3, 4, 5)),
    "prototypes-1d": lambda: prototypes(normal(1, 8)),
    "prototypes-2d-2-channels": lambda: prototypes(0.5 * normal(2, 5, 4)),
    "prototypes-3d": lambda: prototypes(normal(1, 3, 4, 3)),
    "gaussian-1d": lambda: gaussian((9,)),
    "gaussian-2d-mean": lambda: gaussian((5, 6), mean=normal(1, 5, 6)),
    "gaussian-2d-2-channels": lambda: gaussian((5, 4), mean=normal(2, 1, 1), channels=2),
    "gaussian-2d-zeros": lambda: gaussian((6, 5), mean=-0.4, zeros=True),
    "gaussian-3d": lambda: gaussian((3, 4, 5)),
    "two-state-1d-box": lambda: two_state(ReceptiveField.box(3, 1), (8,)),
    "two-state-2d-box": lambda: two_state(ReceptiveField.box(5, 2), (7, 6)),
    "two-state-2d-ball": lambda: two_state(ReceptiveField.ball(2.0, 2), (6, 7)),
    "two-state-2d-offsets": lambda: two_state(LOPSIDED, (6, 5)),
    "two-state-3d-cross": lambda: two_state(ReceptiveField.cross(1, 3), (4, 3, 5)),
    "two-state-3d-box": lambda: two_state(ReceptiveField.box(3, 3), (3, 4, 5)),
    "patch-paper": lambda: patch_model(paper_dictionary(0, ReceptiveField.box(3, 2)), (6, 5)),
    "patch-random": lambda: patch_model(random_dictionary(4, 1, ReceptiveField.box(5, 2)), (6, 7)),
    "patch-1d-box": lambda: patch_model(real_dictionary(ReceptiveField.box(5, 1), 1, 2, 3), (9,)),
    "patch-1d-offsets": lambda: patch_model(real_dictionary(ReceptiveField(((0,), (1,), (3,))), 3, 1), (8,)),
    "patch-1d-cross": lambda: patch_model(real_dictionary(ReceptiveField.cross(2, 1), 1, 0, 4), (7,)),
    "patch-2d-box": lambda: patch_model(real_dictionary(ReceptiveField.box(3, 2), 1, 5, 2, 1), (5, 7)),
    "patch-2d-ball": lambda: patch_model(real_dictionary(ReceptiveField.ball(1.5, 2), 1, 1, 0, 2), (6, 5)),
    "patch-2d-cross": lambda: patch_model(real_dictionary(ReceptiveField.cross(2, 2), 2, 1, 2), (5, 6)),
    "patch-2d-offsets": lambda: patch_model(real_dictionary(LOPSIDED, 1, 2, 3, 4), (7, 5)),
    "patch-3d-box": lambda: patch_model(real_dictionary(ReceptiveField.box(3, 3), 1, 2), (3, 4, 5)),
    "patch-3d-ball": lambda: patch_model(real_dictionary(ReceptiveField.ball(1.0, 3), 2, 0, 1), (4, 3, 5)),
    "patch-3d-offsets": lambda: patch_model(
        real_dictionary(ReceptiveField(((0, 0, 0), (0, 0, 2), (1, 0, -1), (0, -1, 0))), 1, 3, 2), (3, 4, 5)
    ),
}
PATCH_CASES = [name for name in CASES if name.startswith(("patch", "two-state"))]

SIGMAS = (0.4, 1.0, 4.0)
EXTREME_SIGMAS = (1e-3, 0.1, 1.0, 1e2, 1e6, 1e10)


@pytest.fixture(params=CASES, scope="module")
def case(request):
    return CASES[request.param]()


@pytest.fixture(params=PATCH_CASES, scope="module")
def patch_case(request):
    return CASES[request.param]()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_are_kept(case, dtype):
    """D and (dD/dx) v have the shape and dtype of the states, whatever the dtype or type of sigma."""
    x = case.states().to(dtype)
    k = case.lattice.shell_vectors(case.shells)
    for sigma in (0.7, torch.tensor(0.7), torch.full((TRAJECTORIES,), 0.7, dtype=torch.float32)):
        for out in (case.denoiser(x, sigma), case.denoiser.jvp(x, sigma, x)):
            assert (out.shape, out.dtype) == (x.shape, dtype)
        assert case.denoiser.dispersion(x, sigma, k).shape == (TRAJECTORIES, *k.shape[:-1])
        assert case.denoiser.dispersion(x, sigma, k[1, 0]).shape == (TRAJECTORIES,)


def test_states_are_not_changed(case):
    """No method writes into its arguments."""
    x, v = case.states(), case.states(seed=2)
    copies = x.clone(), v.clone()
    case.denoiser(x, 0.7)
    case.denoiser.jvp(x, 0.7, v)
    case.denoiser.dispersion(x, 0.7, case.lattice.shell_vectors(case.shells))
    assert torch.equal(x, copies[0])
    assert torch.equal(v, copies[1])


def results(case, x, sigma, v):
    """Return everything that a denoiser computes, each [batch, ...]."""
    k = case.lattice.shell_vectors(case.shells)
    return case.denoiser(x, sigma), case.denoiser.jvp(x, sigma, v), case.denoiser.dispersion(x, sigma, k)


def test_noise_levels_may_differ_within_a_batch(case):
    """One sigma per state gives each state the result of that scalar; a state alone gives its result in the batch."""
    x, v = case.states(), case.states(seed=2)
    together = results(case, x, torch.tensor(SIGMAS, dtype=torch.float64), v)
    for i, sigma in enumerate(SIGMAS):
        alone = results(case, x[i : i + 1], sigma, v[i : i + 1])
        scalar = results(case, x, sigma, v)
        for a, b, c in zip(together, alone, scalar, strict=True):
            torch.testing.assert_close(a[i], b[0], rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(a[i], c[i], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shift", [0.0, 1.0], ids=["signal", "noise"])
def test_results_are_finite_at_every_noise_level(case, dtype, shift):
    """From sigma = 1e-3 to 1e10 nothing overflows, on states of order one and on states of order sigma."""
    for sigma in EXTREME_SIGMAS:
        x = case.states(shift * sigma).to(dtype)
        for result in results(case, x, sigma, torch.ones_like(x)):
            assert result.isfinite().all(), sigma


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_noise_gives_the_data(case, dtype):
    """As sigma -> 0, D is the nearest data point, the centre of the nearest pattern, or the state's own support."""
    x = case.states()
    expected = case.noiseless(x).to(dtype)
    torch.testing.assert_close(case.denoiser(x.to(dtype), 1e-3), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_infinite_noise_gives_the_prior_mean(case, dtype):
    """As sigma -> infinity, D is the prior mean, on states of order one and on states of order sigma."""
    for spread in (0.0, 1e8):
        out = case.denoiser(case.states(spread).to(dtype), 1e8)
        torch.testing.assert_close(out, case.prior_mean.to(dtype).expand_as(out), rtol=1e-5, atol=1e-5)


def test_jvp_is_the_forward_derivative(case):
    """The closed-form (dD/dx) v is forward-mode AD of D; a v that broadcasts gives what its expansion gives."""
    x = case.states()
    for sigma in SIGMAS:
        for v in (case.states(seed=2), normal(1, *case.shape, seed=2), normal(*case.shape[1:], seed=2)):
            whole = v.expand_as(x).clone()
            expected = torch.func.jvp(partial(case.denoiser, sigma=sigma), (x,), (whole,))[1]
            torch.testing.assert_close(case.denoiser.jvp(x, sigma, v), expected, rtol=1e-10, atol=1e-10)


def test_dispersion_is_the_rayleigh_quotient(case):
    """The gain of a shell and axis is v.(dD/dx)v of the dense Jacobian, averaged over the cosine and the sine."""
    x, modes = case.states(), case.lattice.modes(case.shells)
    channels = case.shape[0]  # move together: v is the mode in every channel, of unit norm over all
    v = (modes[:, :, :, None] / math.sqrt(channels)).expand(*modes.shape[:3], *case.shape).flatten(3)
    for sigma in SIGMAS:
        found = case.denoiser.dispersion(x, sigma, case.lattice.shell_vectors(case.shells))
        for i in range(TRAJECTORIES):
            dense = jacobian(partial(case.denoiser, sigma=sigma), x[i : i + 1])
            expected = torch.einsum("napi,ij,napj->na", v, dense, v) / 2
            torch.testing.assert_close(found[i], expected, rtol=1e-10, atol=1e-10)


def test_dispersion_takes_any_wave_vector_of_the_lattice(case):
    """At every k of the lattice, Nyquist included, the gain is Re e*.(dD/dx)e of the unit plane wave e."""
    x, k = case.states(), case.lattice.wave_vectors()
    dense = jacobian(partial(case.denoiser, sigma=0.8), x[:1])
    expected = rayleigh_quotients(dense, case.shape[1:], case.shape[0])
    torch.testing.assert_close(case.denoiser.dispersion(x, 0.8, k)[0], expected, rtol=1e-10, atol=1e-10)


def test_full_dispersion_is_the_whole_spectrum(patch_case):
    """One FFT of a patch model's kernel gives the phase-averaged Rayleigh quotient at every wave vector."""
    x = patch_case.states()
    for sigma in SIGMAS:
        found = full_dispersion(patch_case.denoiser, x, sigma)
        for i in range(TRAJECTORIES):
            dense = jacobian(partial(patch_case.denoiser, sigma=sigma), x[i : i + 1])
            expected = rayleigh_quotients(dense, patch_case.shape[1:])
            torch.testing.assert_close(found[i], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sigma", [0.4, 4.0])
def test_kernel_is_the_mean_jacobian_row(patch_case, sigma):
    """K(u) is the mean over sites i of dD_i/dx_{i+u}, and rows vanish outside the receptive field."""
    x, lattice = patch_case.states(), patch_case.lattice
    field, axes = patch_case.denoiser.receptive_field, tuple(range(lattice.dimensions))
    found = patch_case.denoiser.kernel(x, sigma)
    assert found.dtype == torch.float64
    site = torch.arange(lattice.sites)
    for n in range(TRAJECTORIES):
        dense = jacobian(partial(patch_case.denoiser, sigma=sigma), x[n : n + 1])
        outside = dense.clone()
        for j, u in enumerate(field.offsets):
            neighbour = site.reshape(lattice.shape).roll(tuple(-c for c in u), axes).flatten()  # i + u
            torch.testing.assert_close(found[n, j], dense[site, neighbour].mean(), rtol=1e-10, atol=1e-10)
            outside[site, neighbour] = 0
        assert outside.abs().max() == 0


def test_bad_noise_levels_are_refused(case):
    """A sigma that is neither a scalar nor one per state is refused by name, in one line."""
    for shape in ((TRAJECTORIES + 1,), (TRAJECTORIES, 1, 1)):
        with refused(r"^sigma: got shape"):
            case.denoiser(case.states(), torch.ones(shape))


def test_gradients_survive_inference_mode():
    """A call in inference mode leaves nothing behind that a later derivative could not use."""
    denoiser = PatchDenoiser(random_dictionary(2, 0, ReceptiveField.box(3, 2)))
    with torch.inference_mode():
        denoiser(torch.zeros(1, 1, 5, 5), 1.0)
    x = normal(1, 1, 5, 5).float().requires_grad_()
    assert torch.autograd.grad(denoiser(x, 1.0).sum(), x)[0].abs().sum() > 0
