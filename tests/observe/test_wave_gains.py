"""Gains of all plane waves from one push, against dense Jacobians and closed forms."""

import math

import pytest
import torch

from helpers.models import LinearDenoiser, ornstein_zernike, skewed_spectrum
from helpers.random import normal
from softmode.exact.gaussian import GaussianDenoiser
from softmode.observe.gains import exact_gains
from softmode.observe.wave_gains import wave_gains


@pytest.mark.parametrize("space", [(7,), (4, 6), (3, 4, 5)], ids=str)
def test_a_translation_invariant_response_is_exact_in_one_push(space: tuple[int, ...]) -> None:
    """The Wiener filter's S/(S + sigma^2) at every wave vector, diagonal ones too, from any phases."""
    denoiser = GaussianDenoiser(skewed_spectrum(*space) if len(space) == 2 else ornstein_zernike(*space))
    x = normal(3, 1, *space)
    found = wave_gains(denoiser, x, 1.5, normal(3, 1, *space, seed=1))
    torch.testing.assert_close(found, denoiser.gain(1.5).expand(3, *space), rtol=1e-9, atol=1e-12)


def test_shells_are_those_of_the_gains() -> None:
    """Along an axis they are the shells' gains."""
    denoiser, x = GaussianDenoiser(ornstein_zernike(6, 8)), normal(2, 1, 6, 8)
    found, shells = wave_gains(denoiser, x, 0.7, normal(2, 1, 6, 8, seed=1)), exact_gains(denoiser, x, 0.7, 2)
    torch.testing.assert_close(found[:, 1:3, 0], shells[:, 1:, 0])
    torch.testing.assert_close(found[:, 0, 1:3], shells[:, 1:, 1])
    torch.testing.assert_close(found[:, 0, 0], shells[:, 0, 0])


def test_any_response_is_measured_without_bias() -> None:
    """A dense matrix on two channels: the mean over phases is v.Jv, cosine and sine averaged, all channels alike."""
    shape, count = (2, 3, 4), 20_000
    matrix = normal(24, 24)
    found = wave_gains(LinearDenoiser(matrix), normal(count, *shape), 1.0, normal(count, *shape, seed=1))
    site = torch.stack(torch.meshgrid(torch.arange(3.0), torch.arange(4.0), indexing="ij"), -1).double()
    error = found.std(0) / math.sqrt(count)
    for k in ((0, 0), (1, 2), (1, 1), (0, 1), (2, 3)):
        wave = torch.exp(2j * math.pi * (site @ torch.tensor([k[0] / 3, k[1] / 4], dtype=torch.float64)))
        v = (wave / math.sqrt(12)).flatten().repeat(2) / math.sqrt(2)
        expected = (v.conj() @ matrix.to(v.dtype) @ v).real
        assert float((found.mean(0)[k] - expected).abs()) < 4 * float(error[k])
    assert float(error.max()) < 0.05
