"""Paired comparisons: against the binomial and the t distribution, and the coverage of what they promise."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from softmode import comparison
from softmode.comparison import compare, holm, is_least, over_classes, sign_flip_p
from softmode.estimate import jackknife


def test_flipped_signs_are_all_counted() -> None:
    x = np.array([0.3, 1.2, -0.2, 0.9, 0.4])
    means = [np.mean(np.array(signs) * np.abs(x)) for signs in itertools.product((1, -1), repeat=5)]
    expected = np.mean(np.abs(means) >= abs(x.mean()) - 1e-12)
    assert sign_flip_p(x) == pytest.approx(expected)
    assert sign_flip_p(np.abs(x)) == pytest.approx(2 / 32)
    assert sign_flip_p(np.zeros(5)) == 1
    assert math.isnan(sign_flip_p(np.ones(1)))


def test_p_values_of_no_difference_are_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    """For 40 trials, where signs are drawn: within 4 standard errors, themselves at most 0.026."""
    monkeypatch.setattr(comparison, "PERMUTATIONS", 999)  # p-values in steps of 1/1000 are as uniform, and faster
    rng = np.random.default_rng(0)
    p = np.array([sign_flip_p(rng.normal(size=40)) for _ in range(400)])
    for level in (0.05, 0.2, 0.5):
        error = math.sqrt(level * (1 - level) / 400)
        assert error < 0.026
        assert abs((p <= level).mean() - level) < 4 * error


def test_pooled_over_classes_is_students_t() -> None:
    values = np.array([0.1, 0.4, 0.2, 0.25])
    found = over_classes(values)
    interval = stats.ttest_1samp(values, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx(tuple(interval))
    assert found.samples == 4
    assert "one class" in over_classes(values[:1]).reason


def test_a_comparison_is_paired_by_trial() -> None:
    """What trials have in common drops out: the same shift everywhere has no error."""
    rng = np.random.default_rng(1)
    base = rng.normal(size=(3, 20), scale=100)
    found = compare(base + 0.5, base)
    assert found.pooled.value == pytest.approx(0.5)
    assert all(e.stderr < 1e-9 for e in found.by_class)
    assert all(p < 0.001 for p in found.by_class_p)
    assert found.p == pytest.approx(2 / 8)
    reversed_ = compare(base, base + 0.5)
    assert reversed_.pooled.value == pytest.approx(-0.5)


@pytest.mark.parametrize("samples", [2, 10, 13, 14, 40])
def test_the_smallest_possible_p_value_is_known(samples: int) -> None:
    """Differences of one sign have it, counted or drawn; one of the other sign among them, the smallest, has not."""
    differences = np.arange(1.0, samples + 1)
    assert is_least(sign_flip_p(differences), samples)
    if samples < 14:
        assert sign_flip_p(differences) == pytest.approx(2.0 ** (1 - samples))
        differences[0] = -1
        assert not is_least(sign_flip_p(differences), samples)
    assert not is_least(0.05, samples)
    assert not is_least(None, samples)


def test_of_one_difference_there_is_no_p_value() -> None:
    assert not is_least(sign_flip_p(np.ones(1)), 1)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert math.isnan(holm([math.nan, 0.2])[0])
    assert holm([math.nan, 0.2])[1] == pytest.approx(0.2)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    x = np.random.default_rng(2).normal(size=30)
    found = jackknife(30, lambda keep: float(x[keep].mean()))
    assert found.value == pytest.approx(x.mean())
    assert found.stderr == pytest.approx(x.std(ddof=1) / math.sqrt(30))
    assert found.high - found.value == pytest.approx(1.96 * found.stderr)
    assert math.isnan(jackknife(1, lambda keep: 1.0).stderr)
