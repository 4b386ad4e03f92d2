import math

import pytest
import torch

from helpers.dense import plane_waves
from helpers.errors import refused
from helpers.models import skewed_spectrum
from helpers.random import generator, normal
from softmode.exact.empirical import EmpiricalDenoiser
from softmode.exact.gaussian import GaussianDenoiser, power_spectrum
from softmode.lattice import Lattice

SPACES = [(9,), (6, 5), (3, 4, 4)]
spaces = pytest.mark.parametrize("space", SPACES, ids=["1d", "2d", "3d"])


def covariance(spectrum):
    """Return the dense covariance matrix of the field by summing plane waves, [sites, sites]."""
    waves = plane_waves(spectrum.shape).flatten(0, -2)
    return torch.einsum("k,ki,kj->ij", spectrum.flatten().to(waves), waves, waves.conj()).real


@spaces
@pytest.mark.parametrize("sigma", [0.3, 2.0])
def test_denoiser_is_the_matrix_wiener_filter(space, sigma):
    """D = m + C (C + sigma^2)^-1 (x - m) with the dense covariance C, the posterior mean of a Gaussian."""
    spectrum, mean = skewed_spectrum(*space), normal(1, *space, seed=3)
    C, x = covariance(spectrum), normal(2, 1, *space)
    filtered = torch.linalg.solve(C + sigma**2 * torch.eye(len(C), dtype=torch.float64), (x - mean).flatten(1).T)
    expected = mean + (C @ filtered).T.reshape(x.shape)
    torch.testing.assert_close(GaussianDenoiser(spectrum, mean)(x, sigma), expected, rtol=1e-11, atol=1e-11)


@spaces
def test_gain_is_the_wiener_gain(space):
    """The gain is S / (S + sigma^2) at every wave vector and state, and the dispersion is the same numbers."""
    spectrum, k = skewed_spectrum(*space), Lattice(space).wave_vectors()
    denoiser, x = GaussianDenoiser(spectrum), normal(3, 1, *space)
    levels = torch.tensor([0.1, 1.0, 20.0], dtype=torch.float64)
    expected = torch.stack([spectrum / (spectrum + s**2) for s in levels.tolist()])
    torch.testing.assert_close(denoiser.gain(levels), expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(denoiser.gain(20.0), expected[2], rtol=1e-13, atol=0)
    torch.testing.assert_close(denoiser.dispersion(x, levels, k), expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(denoiser.dispersion(x, 0.1, k), expected[:1].expand(3, *space), rtol=1e-13, atol=0)


@spaces
def test_samples_have_the_spectrum(space):
    """Over 4000 samples the mean power of every mode is S_k and the mean is the mean, within 4 standard errors."""
    spectrum, count = skewed_spectrum(*space), 4000
    samples = GaussianDenoiser(spectrum, mean=0.7).sample(count, generator())
    assert samples.shape == (count, 1, *space)
    assert samples.dtype == torch.float64
    axes = tuple(range(1, 1 + len(space)))
    power = torch.fft.fftn(samples[:, 0] - 0.7, dim=axes, norm="ortho").abs().square()
    stderr = power.std(0) / math.sqrt(count)
    assert (stderr / spectrum).max() < 0.03
    assert ((power.mean(0) - spectrum).abs() < 4 * stderr).all()
    stderr = samples.std(0) / math.sqrt(count)
    assert stderr.max() < 0.05
    assert ((samples.mean(0) - 0.7).abs() < 4 * stderr).all()


def test_samples_are_stationary_gaussian_fields():
    """The covariance of any two sites of 4000 samples is the model's, within 4 standard errors; samples reproduce."""
    spectrum, count = skewed_spectrum(4, 3), 4000
    model = GaussianDenoiser(spectrum)
    samples = model.sample(count, generator()).flatten(1)
    products = samples[:, :, None] * samples[:, None]
    stderr = products.std(0) / math.sqrt(count)
    assert stderr.max() < 0.1
    assert ((products.mean(0) - covariance(spectrum)).abs() < 4 * stderr).all()
    assert torch.equal(samples, model.sample(count, generator()).flatten(1))
    assert not torch.equal(samples, model.sample(count, generator(1)).flatten(1))


def test_denoising_samples_leaves_the_posterior_variance():
    """E|x_0 - D|^2 per mode is S sigma^2 / (S + sigma^2), within 4 standard errors: sampler and denoiser agree."""
    spectrum, count, sigma = skewed_spectrum(6, 5), 3000, 1.3
    model = GaussianDenoiser(spectrum, mean=-0.2)
    clean = model.sample(count, generator())
    noisy = clean + sigma * normal(*clean.shape, seed=1)
    error = torch.fft.fftn((clean - model(noisy, sigma))[:, 0], dim=(1, 2), norm="ortho").abs().square()
    stderr = error.std(0) / math.sqrt(count)
    expected = spectrum * sigma**2 / (spectrum + sigma**2)
    assert (stderr / expected).max() < 0.03
    assert ((error.mean(0) - expected).abs() < 4 * stderr).all()


@spaces
def test_power_spectrum_is_the_variance_along_modes(space):
    """power_spectrum is the unbiased variance of v.x over fields, averaged over the cosine and sine of each mode."""
    fields, lattice = normal(7, 1, *space) + 5, Lattice(space)
    shells = (min(space) - 1) // 2
    projections = fields.flatten(1) @ lattice.modes(shells).flatten(3).flatten(0, 2).T
    expected = projections.var(0).reshape(shells + 1, len(space), 2).mean(-1)
    found = power_spectrum(fields)[lattice.index_of(lattice.shell_vectors(shells))]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_power_spectrum_of_channels_is_their_mean():
    """Channels are separate fields of one spectrum: each has its own mean field removed, and they are averaged."""
    fields = normal(6, 3, 4, 5) + normal(3, 4, 5, seed=1)
    expected = torch.stack([power_spectrum(fields[:, c : c + 1]) for c in range(3)]).mean(0)
    torch.testing.assert_close(power_spectrum(fields), expected, rtol=1e-12, atol=1e-13)


def test_power_spectrum_of_one_field_is_refused():
    """A variance needs two fields: fewer are refused by name."""
    for count in (0, 1):
        with refused(r"^fields: got"):
            power_spectrum(torch.zeros(count, 1, 4, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("space", [(32,), (15, 21), (32, 32), (64, 64), (8, 9, 10)])
def test_the_spectrum_of_smooth_data_makes_a_null_model(dtype, space):
    """The measured spectrum of fields with almost no power at short waves is accepted, uneven by rounding as it is."""
    k = Lattice(space).wave_vectors().to(dtype)
    smooth = torch.exp(-4 * k.square().sum(-1))
    axes = tuple(range(2, 2 + len(space)))
    fields = torch.fft.ifftn(smooth * torch.fft.fftn(normal(5, 1, *space).to(dtype), dim=axes), dim=axes).real
    spectrum = power_spectrum(fields)
    assert float(spectrum.min() / spectrum.max()) < 1e-12
    x = fields[:2]
    assert GaussianDenoiser(spectrum)(x, 0.1).dtype == dtype


@pytest.mark.parametrize(
    "spectrum",
    [
        torch.tensor([1.0, -0.1, 0.5, -0.1]),
        torch.tensor([1.0, math.nan, 0.5, math.nan]),
        torch.tensor([math.inf, 1.0, 0.5, 1.0]),
        torch.tensor([1.0, 0.2, 0.5, 0.3]),
        torch.tensor([[1.0, 0.5, 0.5], [0.3, 0.2, 0.1], [0.3, 0.2, 0.1]]),  # even in each axis' index, not in k
    ],
)
def test_bad_spectra_are_refused(spectrum):
    """A spectrum that is negative, not finite or not even in k is refused by name, in one line."""
    with refused(r"^spectrum: got"):
        GaussianDenoiser(spectrum)


def test_mean_field_of_another_dtype_or_rank():
    """A float64 mean keeps float32 states float32; a number, one field and one field per channel broadcast alike."""
    x = normal(2, 3, 4, 5)
    spectrum = skewed_spectrum(4, 5)
    expected = GaussianDenoiser(spectrum, 0.3)(x, 0.8)
    for mean in (torch.full((4, 5), 0.3), torch.full((1, 4, 5), 0.3), torch.full((3, 1, 1), 0.3)):
        denoiser = GaussianDenoiser(spectrum, mean.double())
        torch.testing.assert_close(denoiser(x, 0.8), expected, rtol=1e-7, atol=1e-7)
        assert denoiser(x.float(), 0.8).dtype == torch.float32


@pytest.mark.parametrize("sigma", [0.3, 0.8, 2.0, 8.0])
def test_gaussian_bound_on_the_gains_of_any_data(sigma):
    """Averaged over x ~ p_sigma, G_k <= S_k / (S_k + sigma^2) within 4 standard errors, at every k (facts 11)."""
    space, count = (5, 4), 4000
    data = normal(6, 1, *space)
    S = power_spectrum(data) * 5 / 6  # the variance of the six points themselves, not of what they were drawn from
    chosen = torch.randint(6, (count,), generator=generator(1))
    x = data[chosen] + sigma * normal(count, 1, *space, seed=2)
    gains = EmpiricalDenoiser(data).dispersion(x, sigma, Lattice(space).wave_vectors())
    stderr = gains.std(0) / math.sqrt(count)
    bound = GaussianDenoiser(S).gain(sigma)
    assert stderr.max() < 0.02
    assert (gains.mean(0) < bound + 4 * stderr).all()
    if sigma == 8.0:  # at high noise any data look Gaussian, and the bound is nearly reached
        assert (gains.mean(0) > 0.8 * bound).all()
    if sigma == 0.3:  # at low noise the decision is made, far below it
        assert (gains.mean(0) < 0.1 * bound).all()
