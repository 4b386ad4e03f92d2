"""Paired comparisons of two ways of sampling (paper H.7): by class, pooled over classes, corrected for their number."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from softmode.estimate import Array, Estimate, bootstrap

# random sign patterns of a permutation test that has too many to count them all
PERMUTATIONS = 9999


@dataclass(frozen=True)
class Comparison:
    """How much higher a measure is in one condition than in another, on the same trials.

    Args:
        by_class: Mean difference of each class's trials, with its bootstrap interval.
        by_class_p: Two-sided permutation p-value of each class.
        pooled: Mean over classes, each class being one sample, with its t interval.
        p: Two-sided permutation p-value over classes.
    """

    by_class: list[Estimate]
    by_class_p: list[float]
    pooled: Estimate
    p: float


def compare(a: Array, b: Array) -> Comparison:
    """Compare a measure between two conditions, a - b.

    Args:
        a: The measure in one condition, [class, trial].
        b: The same in the other, from the same noise.

    Source: paper H.7; the tests and intervals are ours.
    """
    differences = np.asarray(a, float) - np.asarray(b, float)
    each = [mean_of(row) for row in differences]
    return Comparison(
        each, [sign_flip_p(row) for row in differences], over_classes(differences.mean(1)),
        sign_flip_p(differences.mean(1)),
    )  # fmt: skip


def mean_of(values: Array) -> Estimate:
    """Return the mean of some trials [trial] with its bootstrap interval."""
    return bootstrap(values[:, None], lambda mean: mean, centre=lambda rows: np.asarray(rows.mean(0)))[0]


def over_classes(values: Array) -> Estimate:
    """Return the mean over classes [class], each being one sample, with its 95 % t interval."""
    if len(values) < 2:
        return Estimate(float(values.mean()), math.nan, len(values), reason="one class has no error bar")
    mean, stderr = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    reach = float(stats.t.ppf(0.975, len(values) - 1)) * stderr
    return Estimate(mean, stderr, len(values), mean - reach, mean + reach)


def sign_flip_p(differences: Array) -> float:
    """Return the two-sided p-value that paired differences [sample] are as likely positive as negative.

    Their signs are flipped in every way, or in PERMUTATIONS random ways where there are more; NaN for fewer than two.
    """
    if len(differences) < 2:
        return math.nan
    if not differences.any():
        return 1.0
    found = stats.permutation_test(
        (differences,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", n_resamples=PERMUTATIONS,
        vectorized=True, rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(found.pvalue)


def is_least(p: float | None, samples: int) -> bool:
    """Return whether a p-value of `sign_flip_p` is the smallest possible of so many differences.

    Of 2^n ways to flip the signs of n differences two are as extreme as the most extreme; of random ways, that which
    was found counts on either side.
    """
    ways = 2**samples
    least = 2 / (ways if ways <= PERMUTATIONS else PERMUTATIONS + 1)
    return p is not None and samples > 1 and math.isclose(p, least)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's method; NaN stays NaN.

    Source: holm1979.
    """
    p = np.asarray(p_values, float)
    corrected, floor = np.full(len(p), math.nan), 0.0
    order = [i for i in np.argsort(p) if not math.isnan(p[i])]
    for rank, i in enumerate(order):
        floor = max(floor, min(1.0, (len(order) - rank) * float(p[i])))
        corrected[i] = floor
    return [float(value) for value in corrected]
