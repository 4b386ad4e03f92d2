import itertools
import math

import pytest
import torch

from helpers.dense import sites
from helpers.random import generator, normal
from softmode.exact.gaussian import GaussianDenoiser
from softmode.lattice import Lattice
from softmode.observe.correlation import (
    LUMINANCE,
    ROUNDABLE_IN_FLOAT32,
    autocorrelation,
    connected_correlation,
    first_moment_length,
    positive_portion,
    radial_average,
    scalar_fields,
    second_moment_length,
    sign_correlation,
    structure_factor,
    structure_length,
)

SPACES = [(7,), (8,), (5, 6), (6, 5), (3, 4, 5), (4, 2, 3)]
spaces = pytest.mark.parametrize("space", SPACES, ids=str)


def brute_autocorrelation(field):
    """Return (1/N) sum_i f_i f_{i+r} of one field by loops over i and r."""
    space = tuple(field.shape)
    out = torch.zeros(space, dtype=torch.float64)
    for r in sites(space):
        for i in sites(space):
            out[r] += field[i] * field[tuple((a + b) % n for a, b, n in zip(i, r, space, strict=True))]
    return out / math.prod(space)


def brute_radial_average(correlation):
    """Return the mean over all r at each rounded periodic distance up to half the shortest side, by loops."""
    space = tuple(correlation.shape)
    rings = {d: [] for d in range(min(space) // 2 + 1)}
    for r in sites(space):
        distance = round(math.hypot(*(min(c, n - c) for c, n in zip(r, space, strict=True))))
        if distance in rings:
            rings[distance].append(float(correlation[r]))
    return torch.tensor([sum(ring) / len(ring) for ring in rings.values()], dtype=torch.float64)


@spaces
def test_autocorrelation_is_the_double_loop(space):
    """The FFT gives (1/N) sum_i f_i f_{i+r} at every lattice vector, averaged over fields, batch by batch."""
    fields = normal(2, 2, *space)
    found = autocorrelation(fields)
    for n in range(2):
        expected = (brute_autocorrelation(fields[n, 0]) + brute_autocorrelation(fields[n, 1])) / 2
        torch.testing.assert_close(found[n], expected, rtol=1e-12, atol=1e-12)


@spaces
def test_radial_average_is_the_loop(space):
    """Values are averaged over the sites at each rounded distance, 0 to L/2 of the shortest axis."""
    correlation = normal(3, *space)
    found = radial_average(correlation)
    assert found.shape == (3, min(space) // 2 + 1)
    for n in range(3):
        torch.testing.assert_close(found[n], brute_radial_average(correlation[n]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sign_correlation_of_a_sign_field(dtype):
    """C(r) of sign(x) is the loop's to the last digit, whatever the amplitudes: C(0) = 1, and 0 is exactly 0."""
    x = normal(4, 1, 8, 9).to(dtype) * 37
    found = sign_correlation(x)
    assert (found[:, 0] == 1).all()
    assert found.abs().max() <= 1
    for n in range(4):
        expected = brute_radial_average(brute_autocorrelation(x[n, 0].double().sign()))
        torch.testing.assert_close(found[n], expected, rtol=1e-13, atol=1e-13)
    stripes = torch.tensor([2.0, 0.1, -3.0, -4.0], dtype=dtype).repeat(3).reshape(1, 1, 12)
    assert sign_correlation(stripes)[0].tolist() == [1, 0, -1, 0, 1, 0, -1]
    pair = torch.cat([stripes, stripes.roll(1, 2).abs()], 1)
    assert sign_correlation(pair)[0].tolist() == [1, 0.5, 0, 0.5, 1, 0.5, 0]


def test_connected_correlation_removes_the_mean():
    """A constant added to the field changes nothing, and C(0) is the spatial variance."""
    x = normal(3, 1, 6, 7)
    found = connected_correlation(x)
    torch.testing.assert_close(connected_correlation(x + 5), found, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found[:, 0], x.flatten(1).var(1, correction=0))
    assert (connected_correlation(torch.full((1, 1, 4, 4), 0.25)) == 0).all()


@spaces
def test_connected_correlations_sum_to_zero(space):
    """The sum of C(r) over all lattice vectors vanishes identically: the reason for the positive portion."""
    x = normal(2, 1, *space)
    total = autocorrelation(x - x.mean(tuple(range(1, x.ndim)), keepdim=True)).flatten(1).sum(1)
    torch.testing.assert_close(total, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)


def test_rgb_enters_through_its_luminance():
    """Three channels become 0.2989 R + 0.5870 G + 0.1140 B, before the sign is taken."""
    x = normal(2, 3, 6, 5)
    luminance = (0.2989 * x[:, 0] + 0.5870 * x[:, 1] + 0.1140 * x[:, 2])[:, None]
    assert LUMINANCE == (0.2989, 0.5870, 0.1140)
    torch.testing.assert_close(scalar_fields(x), luminance)
    for measure in (sign_correlation, connected_correlation, lambda x: structure_factor(x, 2)):
        torch.testing.assert_close(measure(x), measure(luminance))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_are_averaged(channels):
    """Correlations and structure factors of a latent are the mean over its channels, each centred on its own."""
    x = normal(2, channels, 6, 5) + torch.arange(channels).reshape(1, -1, 1, 1)
    for measure in (sign_correlation, connected_correlation, lambda x: structure_factor(x, 2)):
        expected = torch.stack([measure(x[:, c : c + 1]) for c in range(channels)]).mean(0)
        torch.testing.assert_close(measure(x), expected, rtol=1e-10, atol=1e-12)


CURVE = torch.tensor([[1.0, 0.5, -0.25, 0.125, -0.1], [2.0, 1.0, 0.5, 0.25, 0.125]], dtype=torch.float64)


def test_positive_portions():
    """`cut` ends at the first zero crossing, `clip` keeps later positive values; both leave a positive curve alone."""
    cut, clip = CURVE.clone(), CURVE.clone()
    cut[0, 2:], clip[0, [2, 4]] = 0, 0
    torch.testing.assert_close(positive_portion(CURVE), cut)
    torch.testing.assert_close(positive_portion(CURVE, "clip"), clip)


def test_moment_lengths_of_known_curves():
    """First and second moments of a given C(r), over either positive portion."""
    positive = [0 * 2 + 1 * 1 + 2 * 0.5 + 3 * 0.25 + 4 * 0.125, 2 + 1 + 0.5 + 0.25 + 0.125]
    square = [1 * 1 + 4 * 0.5 + 9 * 0.25 + 16 * 0.125, positive[1]]
    for portion, first, second in (
        ("cut", [0.5, 1.5], [0.5, 1.5]),
        ("clip", [0.5 + 3 * 0.125, 1.625], [0.5 + 9 * 0.125, 1.625]),
    ):
        expected = torch.tensor([first[0] / first[1], positive[0] / positive[1]], dtype=torch.float64)
        torch.testing.assert_close(first_moment_length(CURVE, portion), expected)
        expected = torch.tensor([second[0] / second[1], square[0] / square[1]], dtype=torch.float64).sqrt()
        torch.testing.assert_close(second_moment_length(CURVE, portion), expected)


@pytest.mark.parametrize("length", [2.0, 5.0])
def test_second_moment_length_of_a_gaussian_correlation(length):
    """C = exp(-r^2 / 2 l^2) has the length sqrt(l^3 s / (1/2 + l s)), s = sqrt(pi / 2), by Euler-Maclaurin."""
    C = torch.exp(-(torch.arange(60, dtype=torch.float64) ** 2) / (2 * length**2))
    root = math.sqrt(math.pi / 2)
    expected = math.sqrt(length**3 * root / (0.5 + length * root))
    assert float(second_moment_length(C[None])) == pytest.approx(expected, rel=1e-10)


def test_lengths_are_undefined_without_a_positive_portion():
    """A field without fluctuations has no length: NaN, not 0; a negative first value gives NaN with `cut`."""
    flat = connected_correlation(torch.full((1, 1, 4, 4), 0.25))
    for length in (first_moment_length, second_moment_length):
        assert length(flat).isnan().all()
        assert length(-CURVE).isnan().all()


def test_length_of_an_ordered_field_is_the_mean_distance():
    """C = 1 everywhere: the first moment is L/4, half the largest distance."""
    assert float(first_moment_length(sign_correlation(torch.ones(1, 1, 20, 20)))) == pytest.approx(5, rel=1e-6)


def test_noise_regime():
    """White noise at L = 80: the cut length is about 0, the clipped one about 0.47, as the noise in C(r) predicts."""
    C = sign_correlation(normal(100, 1, 80, 80))
    clip, cut = first_moment_length(C, "clip"), first_moment_length(C)
    count = torch.bincount(Lattice((80, 80)).radial_bins().flatten())[:41].double()
    # C(r) = C(-r): half of the n_r values are independent, of variance 1/N; a clipped normal has mean std / sqrt(2 pi)
    mean = (2 / (6400 * count)).sqrt() / math.sqrt(2 * math.pi)
    mean[0] = 1
    predicted = float((mean @ torch.arange(41.0, dtype=torch.float64)) / mean.sum())
    assert predicted == pytest.approx(0.47, abs=0.005)
    stderr = float(clip.std()) / math.sqrt(100)
    assert stderr < 0.02
    assert float(clip.mean()) == pytest.approx(predicted, abs=4 * stderr)
    assert float(cut.mean()) < 0.02
    assert float(cut.min()) >= 0


def test_second_moment_length_of_a_gaussian_correlated_field():
    """Samples with C(r) = exp(-r^2 / 2 l^2) have the connected correlation and the length that C predicts."""
    space, length, samples = (24, 24), 2.0, 800
    distance = Lattice(space).distances()
    spectrum = torch.fft.fftn(torch.exp(-(distance**2) / (2 * length**2))).real.clamp(min=0)
    x = GaussianDenoiser(spectrum).sample(samples, generator(3))
    spectrum[0, 0] = 0  # removing the spatial mean of a sample removes its mode k = 0, nothing else
    exact = radial_average(torch.fft.ifftn(spectrum).real[None])
    C = connected_correlation(x)
    mean, stderr = C.mean(0), C.std(0) / math.sqrt(samples)
    assert stderr.max() < 0.01
    assert ((mean - exact[0]).abs() < 4 * stderr).all()
    expected = float(second_moment_length(exact))
    jackknife = second_moment_length((C.sum(0) - C) / (samples - 1))
    stderr = float((samples - 1) ** 0.5 * jackknife.std(correction=0))
    assert stderr < 0.02
    assert float(second_moment_length(mean[None])) == pytest.approx(expected, abs=4 * stderr)


@spaces
def test_structure_factor_is_the_fourier_transform(space):
    """S(k) = |sum_i x_i exp(-i k i)|^2 / N at n k_min along each axis, the sum taken site by site."""
    x, shells = normal(2, 1, *space), (min(space) - 1) // 2
    found = structure_factor(x, shells)
    assert found.shape == (2, shells + 1, len(space))
    at = torch.tensor(sites(space), dtype=torch.float64)
    for n, axis in itertools.product(range(shells + 1), range(len(space))):
        wave = torch.exp(-2j * math.pi * n / space[axis] * at[:, axis])
        expected = (x[:, 0].flatten(1).to(wave.dtype) @ wave).abs().square() / math.prod(space)
        torch.testing.assert_close(found[:, n, axis], expected, rtol=1e-12, atol=1e-12)


def test_structure_factors_obey_parseval():
    """In d = 1 with an odd number of sites, S(0) + 2 sum_n S(n) is the sum of squares."""
    x = normal(3, 1, 9)
    S = structure_factor(x, 4)[:, :, 0]
    torch.testing.assert_close(S[:, 0] + 2 * S[:, 1:].sum(1), x.square().sum((1, 2)), rtol=1e-12, atol=0)


def test_structure_factor_of_gaussian_samples():
    """Samples of a Gaussian model have its spectrum S_k within 4 standard errors, along both axes."""
    space, samples = (8, 6), 2000
    wave_vectors = Lattice(space).wave_vectors()
    spectrum = 1 / (0.4 + (2 - 2 * wave_vectors.cos()) @ torch.tensor([1.0, 0.5], dtype=torch.float64))
    S = structure_factor(GaussianDenoiser(spectrum).sample(samples, generator(5)), 2)
    expected = torch.stack([spectrum[:3, 0], spectrum[0, :3]], 1)
    stderr = S.std(0) / math.sqrt(samples)
    assert (stderr / expected).max() < 0.04
    assert ((S.mean(0) - expected).abs() < 4 * stderr).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("xi", [0.5, 3.0, 40.0])
@pytest.mark.parametrize("L", [8, 80])
def test_structure_length_is_exact_for_ornstein_zernike(xi, L, dtype):
    """S = 1 / (khat^2 + xi^-2) with khat = 2 sin(k/2) gives back xi, whatever the amplitude."""
    k = 2 * math.pi / L
    S = torch.tensor([7 * xi**2, 7 / ((2 * math.sin(k / 2)) ** 2 + xi**-2)], dtype=dtype)
    found = structure_length(S[0], S[1], k)
    assert found.dtype == dtype
    assert float(found) == pytest.approx(xi, rel=1e-12 if dtype == torch.float64 else 2e-3)


def test_structure_length_is_undefined_without_a_peak_at_zero():
    """S(0) < S(k_min) has no length: NaN; equality is length 0. Shapes are kept."""
    found = structure_length(torch.tensor([1.0, 2.0, 5.0]), torch.tensor([2.0, 2.0, 1.0]), 0.5)
    assert found[0].isnan()
    assert found[1] == 0
    assert float(found[2]) == pytest.approx(2 / (2 * math.sin(0.25)), rel=1e-6)


@pytest.mark.parametrize("length", [30, 256, 300, 1500])
def test_sign_correlation_is_exact_either_side_of_the_float32_limit(length):
    """Pair sums are whole numbers, equal to those of a float64 transform; most signs agree, so that sums are large."""
    x = normal(1, 1, length, length, seed=length, dtype=torch.float32) + 1.5
    sums = (autocorrelation(x.sign().double()) * length**2).round()
    assert torch.equal(sign_correlation(x), radial_average(sums) / length**2)
    # up to the limit float32 is far from rounding to another number; at 1500 it would
    if length**2 <= ROUNDABLE_IN_FLOAT32:
        assert float((autocorrelation(x.sign()).double() * length**2 - sums).abs().max()) < 0.1
