"""The linear denoiser of any covariance, and a covariance of few images that is better than the sample's."""

import pytest
import torch

from helpers.dense import jacobian
from helpers.errors import refused
from helpers.models import skewed_spectrum
from helpers.random import normal
from softmode.exact.gaussian import GaussianDenoiser
from softmode.exact.wiener import covariance, shrunk_covariance, stationary_covariance, wiener
from softmode.observe.nonlocality import split

SHAPE = (1, 6, 6)


def test_of_a_stationary_field_it_is_the_filter_of_its_spectrum() -> None:
    """Matrix and FFT are the same linear denoiser, of a spectrum that is not even in each component of k."""
    spectrum = skewed_spectrum(4, 6)
    matrix = wiener(stationary_covariance(spectrum), 0.7)
    filtered = jacobian(lambda x: GaussianDenoiser(spectrum)(x, 0.7), torch.zeros(1, 1, 4, 6, dtype=torch.float64))
    torch.testing.assert_close(matrix, filtered)
    both = stationary_covariance(spectrum, channels=2)
    torch.testing.assert_close(both[:24, :24], both[24:, 24:])
    assert both[:24, 24:].abs().max() == 0


def test_it_is_the_regression_of_data_on_noised_data() -> None:
    """Least squares over many samples gives the same matrix within four standard errors."""
    factor, sigma, count = normal(5, 5, seed=1), 0.8, 200_000
    data = normal(count, 5, seed=2) @ factor.T
    noised = data + sigma * normal(count, 5, seed=3)
    fitted = torch.linalg.lstsq(noised, data).solution.T
    expected = wiener(factor @ factor.T, sigma)
    residual = data - noised @ expected.T
    inverse = torch.linalg.inv(noised.T @ noised)
    error = (residual.var(0)[:, None] * inverse.diagonal()).sqrt()
    assert ((fitted - expected).abs() < 4 * error).all()


def shrunk(images: torch.Tensor) -> torch.Tensor:
    return shrunk_covariance(images, split(covariance(images), SHAPE, 1.0).average)


def test_few_images_of_a_stationary_field_are_shrunk_to_what_moves_with_the_site() -> None:
    """Their rest is sampling noise: a tenth of it is left at most."""
    root = torch.linalg.cholesky(stationary_covariance(skewed_spectrum(6, 6)))
    images = (normal(20, 36, seed=4) @ root.T).reshape(20, *SHAPE)
    rest = shrunk(images) - split(covariance(images), SHAPE, 1.0).average
    sample = covariance(images) - split(covariance(images), SHAPE, 1.0).average
    assert float(rest.norm()) < 0.2 * float(sample.norm())


def test_shrinkage_is_better_than_the_sample_and_vanishes_with_many_images() -> None:
    """Of a field whose variance differs from site to site."""
    root = torch.diag(torch.linspace(0.2, 2, 36, dtype=torch.float64)) @ torch.linalg.cholesky(
        stationary_covariance(skewed_spectrum(6, 6))
    )
    truth = root @ root.T
    for count, gain in ((10, 0.8), (20_000, 1.01)):
        images = (normal(count, 36, seed=5) @ root.T).reshape(count, *SHAPE)
        error, before = (float((each - truth).norm()) for each in (shrunk(images), covariance(images)))
        assert error < gain * before
    assert float((shrunk(images) - covariance(images)).norm()) < 0.01 * float(truth.norm())


def test_one_image_has_no_covariance() -> None:
    """And is refused by name."""
    with refused("images: got 1; expected at least two"):
        covariance(normal(1, *SHAPE))
    assert covariance(normal(2, *SHAPE)).isfinite().all()
    assert float(covariance(torch.tensor([[[1.0]], [[3.0]]]))) == pytest.approx(2)
