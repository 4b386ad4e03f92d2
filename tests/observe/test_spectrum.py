"""Spectra of symmetrised Jacobians against dense ones."""

import pytest
import torch

from helpers.dense import jacobian
from helpers.random import normal
from observe.test_softest import X, mixing
from softmode.exact.gaussian import GaussianDenoiser
from softmode.observe.lanczos import quadrature
from softmode.observe.spectrum import spectrum

FIELDS = normal(225, 3, 1, 4, 4)


def test_a_quadrature_is_exact_for_polynomials() -> None:
    """Five nodes give v.A^p v up to p = 9; as many nodes as sites are the eigenvalues; weights add up to 1."""
    matrix = normal(2, 7, 7)
    symmetric, v = (matrix + matrix.transpose(1, 2)) / 2, normal(2, 7)
    products = lambda z: (torch.einsum("bij,bj->bi", matrix, z), torch.einsum("bji,bj->bi", matrix, z))  # noqa: E731
    nodes, weights = quadrature(products, v, 5)
    torch.testing.assert_close(weights.sum(1), torch.ones(2).double())
    power = v / v.norm(dim=1, keepdim=True)
    for p in range(10):
        exact = (v / v.norm(dim=1, keepdim=True) * power).sum(1)
        torch.testing.assert_close((weights * nodes**p).sum(1), exact, rtol=1e-7, atol=1e-9)
        power = torch.einsum("bij,bj->bi", symmetric, power)
    every, _ = quadrature(products, v, 99)
    torch.testing.assert_close(every, torch.linalg.eigvalsh(symmetric))
    inside, weight = quadrature(lambda z: (2 * z, 2 * z), v, 4)
    torch.testing.assert_close((inside * weight).sum(1), torch.full((2,), 2.0).double())


def test_the_spectrum_is_that_of_the_dense_jacobian() -> None:
    """Means of powers within 4 standard errors, and shares above a level between the bounds that fields give."""
    found = spectrum(mixing, X, 1.0, FIELDS, 5)
    for i, state in enumerate(X):
        dense = jacobian(lambda z: mixing(z[None], 1.0)[0], state)
        values = torch.linalg.eigvalsh((dense + dense.T) / 2)
        for power in (1, 2, 4):
            seen = found.mean(power)[:, i]
            stderr = float(seen.std()) / 15
            assert abs(float(seen.mean() - values.pow(power).mean())) < 4 * stderr
            assert stderr < 0.08 * float(values.abs().pow(power).mean())
        for level in (-0.4, 0.0, 0.3, 0.8, 9.0):
            share = float((values > level).double().mean())
            (low, high) = ((each[:, i].mean(), 4 * each[:, i].std() / 15) for each in found.share_above(level))
            assert float(low[0] - low[1]) <= share <= float(high[0] + high[1])
            assert float(low[0]) <= float(high[0])


def test_many_nodes_close_the_bounds() -> None:
    """A Gaussian's spectrum, S/(S + sigma^2), is resolved: the bounds differ by the weight of two nodes at most."""
    spectrum_of = torch.rand(4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    even = spectrum_of + torch.roll(spectrum_of.flip(0, 1), (1, 1), (0, 1))
    values = even / (even + 1)
    found = spectrum(GaussianDenoiser(even), X, 1.0, FIELDS[:60], 16)
    level = float(values.median()) + 1e-6
    low, high = (each.mean() for each in found.share_above(level))
    share = float((values > level).double().mean())
    assert float(low) - 0.03 < share < float(high) + 0.03
    assert float(found.mean(1).mean()) == pytest.approx(float(values.mean()), abs=4 * float(found.mean(1).std()) / 13)
    torch.testing.assert_close(found.nodes.amax(), values.max(), rtol=1e-6, atol=0)
