"""How samples are scored: by hand, against covariances formed in full, and in the limits where answers are known."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from helpers.errors import refused
from softmode.observe.alignment import alignment, change, diversity, frechet_distance


def features(count: int, size: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return shift + scale * np.random.default_rng(seed).normal(size=(count, size))


def test_alignment_by_hand() -> None:
    found = alignment(torch.tensor([[0.0, np.log(3.0)], [2.0, 2.0]]), 1)
    np.testing.assert_allclose(found.logit, [np.log(3), 2], rtol=1e-6)
    np.testing.assert_allclose(found.probability, [0.75, 0.5], rtol=1e-6)
    assert found.predicted.tolist()[0] == 1


def test_change_is_a_root_mean_square() -> None:
    x = torch.zeros(2, 1, 2, 2)
    twin = torch.tensor([[[[3.0, 0.0], [0.0, 4.0]]], [[[1.0, 1.0], [1.0, -1.0]]]])
    assert change(x, twin).tolist() == [2.5, 1.0]


def test_diversity_is_the_mean_distance_of_two_samples() -> None:
    x = features(7, 3, 0, shift=50.0)
    pairs = [np.linalg.norm(x[i] - x[j]) for i in range(7) for j in range(7) if i != j]
    assert diversity(x) == pytest.approx(np.mean(pairs), rel=1e-9)
    assert diversity(np.ones((4, 2))) == 0
    assert np.isnan(diversity(x[:1]))


@pytest.mark.parametrize(("counts", "size"), [((60, 40), 5), ((6, 5), 30), ((60, 5), 30), ((30, 30), 30)])
def test_frechet_distance_is_the_one_of_full_covariances(counts: tuple[int, int], size: int) -> None:
    a, b = features(counts[0], size, 1, 2.0), features(counts[1], size, 2, 1.0, 0.3)
    full = [np.cov(x.T) for x in (a, b)]
    root = np.trace(sqrtm(full[0] @ full[1] + 0j)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(full[0] + full[1]) - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_frechet_distance_of_the_same_set_and_of_a_shifted_one() -> None:
    a = features(50, 8, 3)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 2.0) == pytest.approx(32.0)
    # the widths 1 and 3 of a Gaussian differ by 2 along each of 8 axes
    assert frechet_distance(a, 3 * (a - a.mean(0)) + a.mean(0)) == pytest.approx(4 * a.var(0, ddof=1).sum())
    with refused("features: got 1; expected at least two"):
        frechet_distance(a[:1], a)
