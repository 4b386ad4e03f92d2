import math

import pytest
import torch
from scipy.integrate import quad

from helpers.errors import refused
from helpers.random import normal
from softmode.denoiser import Denoiser, score
from softmode.exact.empirical import EmpiricalDenoiser
from softmode.exact.gaussian import GaussianDenoiser
from softmode.exact.mixture import GaussianMixture

SHAPES = [(1, 6), (2, 3, 4), (1, 2, 3, 2)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=["1d", "2d-2-channels", "3d"])
PRIOR = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
LEVELS = torch.tensor([0.4, 1.0, 3.0], dtype=torch.float64)


def density(mixture, x, sigma, label=None):
    """Density at x [n] of the noisy mixture or of one class, up to the constant (2 pi)^(-n/2), from its definition."""
    variance = mixture.spread**2 + sigma**2
    prior = [1 / len(mixture.means)] * len(mixture.means) if mixture.prior is None else mixture.prior.tolist()
    labels = range(len(prior)) if label is None else [label]
    squared = [(x - mixture.means[c].flatten()).square().sum() for c in labels]
    terms = [prior[c] * torch.exp(-d / (2 * variance)) for c, d in zip(labels, squared, strict=True)]
    return sum(terms) / variance ** (x.numel() / 2)


@pytest.mark.parametrize("label", [None, 0, 2])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0])
def test_denoisers_are_the_posterior_means_of_one_coordinate(label, sigma):
    """E[x_0 | x] is the ratio of two integrals over x_0 of the prior density times the likelihood."""
    means, spread = [-1.3, 0.2, 2.1], 0.6
    mixture = GaussianMixture(torch.tensor(means, dtype=torch.float64)[:, None, None], spread, PRIOR)
    for x in (-2.0, 0.5, 1.4):

        def joint(x0, x=x):
            classes = zip(means, PRIOR.tolist(), strict=True) if label is None else [(means[label], 1.0)]
            prior = sum(p * math.exp(-((x0 - m) ** 2) / (2 * spread**2)) for m, p in classes)
            return prior * math.exp(-((x - x0) ** 2) / (2 * sigma**2))

        first, zeroth = (
            quad(lambda x0, n=n: x0**n * joint(x0), -8, 8, epsabs=0, epsrel=1e-12, limit=200)[0] for n in (1, 0)
        )
        found = mixture.denoiser(label)(torch.tensor([[[x]]], dtype=torch.float64), sigma)
        assert float(found) == pytest.approx(first / zeroth, rel=1e-10)


@shapes
@pytest.mark.parametrize("label", [None, 1])
@pytest.mark.parametrize("prior", [None, PRIOR], ids=["equal", "prior"])
def test_score_is_the_gradient_of_the_log_density(shape, label, prior):
    """The denoisers' scores are autograd's gradients of the log-densities, a noise level per state."""
    mixture, x = GaussianMixture(normal(3, *shape), 0.7, prior), normal(3, *shape, seed=1)
    found = score(mixture.denoiser(label), x, LEVELS)
    for n, sigma in enumerate(LEVELS.tolist()):
        state = x[n].flatten().requires_grad_()
        (expected,) = torch.autograd.grad(density(mixture, state, sigma, label).log(), state)
        torch.testing.assert_close(found[n].flatten(), expected, rtol=1e-11, atol=1e-12)


@shapes
@pytest.mark.parametrize("prior", [None, PRIOR], ids=["equal", "prior"])
def test_log_posterior_is_bayes_rule(shape, prior):
    """Log p(c | x) is the logarithm of one class's share of the density, at sigma = 0 too."""
    mixture, x = GaussianMixture(normal(3, *shape), 0.7, prior), normal(3, *shape, seed=1)
    for levels in (LEVELS, torch.zeros(3, dtype=torch.float64)):
        found = mixture.log_posterior(x, levels)
        for n, sigma in enumerate(levels.tolist()):
            state = x[n].flatten()
            shares = [density(mixture, state, sigma, c) / density(mixture, state, sigma) for c in range(3)]
            torch.testing.assert_close(found[n], torch.stack(shares).log(), rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(mixture.log_posterior(x, 0.0), found, rtol=1e-13, atol=1e-13)


@shapes
def test_narrow_classes_are_data_points(shape):
    """As s vanishes the mixture becomes the data set of its means."""
    means, x = normal(3, *shape), normal(3, *shape, seed=1)
    denoiser = GaussianMixture(means, 1e-8, PRIOR).denoiser()
    expected = EmpiricalDenoiser(means, PRIOR)(x, LEVELS)
    torch.testing.assert_close(denoiser(x, LEVELS), expected, rtol=1e-11, atol=1e-12)


@shapes
def test_one_class_is_the_wiener_filter(shape):
    """A mixture of one class, with its label or without, is the Gaussian model of a flat spectrum s^2."""
    means, x = normal(1, *shape), normal(3, *shape, seed=1)
    spectrum = torch.full(shape[1:], 0.7**2, dtype=torch.float64)
    expected = GaussianDenoiser(spectrum, means[0])(x, LEVELS)
    for label in (None, 0):
        denoiser = GaussianMixture(means, 0.7).denoiser(label)
        torch.testing.assert_close(denoiser(x, LEVELS), expected, rtol=1e-12, atol=1e-12)
        assert isinstance(denoiser, Denoiser)


def test_float32_keeps_its_type_and_digits():
    """On a common mean a hundred times the differences, float32 log-odds agree with float64 to 1e-4 of the largest."""
    means = 1 + 0.01 * normal(3, 1, 16, 16)
    x = (means + 0.02 * normal(3, 1, 16, 16, seed=1)).float()
    exact = GaussianMixture(means.float().double(), 0.02, PRIOR)
    found = GaussianMixture(means.float(), 0.02, PRIOR)
    expected = exact.log_posterior(x.double(), LEVELS / 100)
    assert found.log_posterior(x, LEVELS / 100).dtype == torch.float32
    error = found.log_posterior(x, LEVELS / 100).double() - expected
    assert error.abs().max() < 1e-4 * expected.abs().max()
    for label in (None, 1):
        denoised = found.denoiser(label)(x, LEVELS / 100)
        assert denoised.dtype == torch.float32
        reference = exact.denoiser(label)(x.double(), LEVELS / 100)
        torch.testing.assert_close(denoised.double(), reference, rtol=0, atol=1e-6)


def test_final_samples_of_distant_classes_are_certain():
    """Log-probabilities stay finite and ordered where all but one class underflow; a class of prior 0 has none."""
    means = torch.tensor([-100.0, 0.0, 100.0])[:, None, None].expand(3, 1, 4)
    found = GaussianMixture(means, 0.1).log_posterior(means, 0.0)
    assert found.isfinite().all()
    assert torch.equal(found.argmax(1), torch.arange(3))
    none = GaussianMixture(means, 0.1, torch.tensor([0.5, 0.0, 0.5])).log_posterior(means, 0.0)
    assert none[:, 1].tolist() == [-math.inf] * 3


@pytest.mark.parametrize(
    ("means", "spread", "prior", "name"),
    [
        (torch.zeros(0, 1, 4), 1.0, None, "means"),
        (torch.tensor([[[0.0, math.nan]]]), 1.0, None, "means"),
        (torch.zeros(2, 1, 4), 0.0, None, "spread"),
        (torch.zeros(2, 1, 4), math.inf, None, "spread"),
        (torch.zeros(2, 1, 4), math.nan, None, "spread"),
        (torch.zeros(2, 1, 4), 1.0, torch.ones(3) / 3, "prior"),
        (torch.zeros(2, 1, 4), 1.0, torch.tensor([0.5, 0.6]), "prior"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_bad_mixtures_are_refused(means, spread, prior, name):
    """Means, spreads and priors that make no density are refused by name, in one line."""
    with refused(rf"^{name}: "):
        GaussianMixture(means, spread, prior)


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_that_do_not_exist_are_refused(label):
    with refused(rf"^label: got {label}; expected a class from 0 to 1, or None$"):
        GaussianMixture(torch.zeros(2, 1, 4), 1.0).denoiser(label)
