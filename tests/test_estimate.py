import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binom, binomtest, norm

from softmode.estimate import Estimate, bootstrap, bootstrap_draws, median, of_share


def identity(curve):
    return curve


def median_stderr(n):
    """Return the exact standard deviation of the median of n standard normals, n odd."""
    half = (n - 1) // 2
    weight = math.exp(math.lgamma(n + 1) - 2 * math.lgamma(half + 1))

    def density(x):
        return weight * (norm.cdf(x) * norm.sf(x)) ** half * norm.pdf(x)

    return math.sqrt(quad(lambda x: x * x * density(x), -8, 8, epsabs=1e-12)[0])


def test_bootstrap_value_and_standard_error():
    """The value is the statistic of the median curve; its error, averaged over many times, is the analytic one."""
    n, times = 41, 400
    curves = 3 + 2 * np.random.default_rng(0).normal(size=(n, times))
    found = bootstrap(curves, identity)
    np.testing.assert_array_equal([e.value for e in found], np.median(curves, axis=0))
    assert all(e.samples == n for e in found)
    stderr = 2 * median_stderr(n)
    # a median's bootstrap variance is biased upwards by O(n^-1/2)
    assert math.sqrt(np.mean([e.stderr**2 for e in found])) == pytest.approx(stderr, rel=0.15)
    assert all(e.low <= e.value <= e.high for e in found)


def test_bootstrap_of_a_linear_statistic():
    """The mean over independent times of the median curve has the median's standard error over root times."""
    n, times = 41, 100
    curves = np.random.default_rng(1).normal(size=(n, times))
    (found,) = bootstrap(curves, lambda curve: curve.mean(keepdims=True))
    stderr = median_stderr(n) / math.sqrt(times)
    assert found.value == pytest.approx(float(np.median(curves, axis=0).mean()))
    assert found.stderr == pytest.approx(stderr, rel=0.2)
    assert found.high - found.low == pytest.approx(2 * 1.96 * found.stderr, rel=0.1)


@pytest.mark.parametrize(("trajectories", "least", "most"), [(40, 0.90, 0.98), (4, 0.84, 0.90)])
def test_intervals_cover(trajectories, least, most):
    """The interval of the median holds the truth in 90 to 98 % of 1200 experiments; with 4 trajectories, in 88 %."""
    experiments, inside = 1200, 0
    for batch in range(20):
        curves = np.random.default_rng(100 + batch).gamma(2.0, size=(trajectories, experiments // 20))  # skewed
        truth = 1.678346990016661  # the median of this gamma distribution
        inside += sum(e.low <= truth <= e.high for e in bootstrap(curves, identity, resamples=400, seed=batch))
    assert binom.std(experiments, least) / experiments < 0.011
    assert least < inside / experiments < most


def test_bootstrap_is_reproducible():
    """The same seed gives the same estimates, another one does not."""
    curves = np.random.default_rng(2).normal(size=(9, 3))
    assert bootstrap(curves, identity) == bootstrap(curves, identity)
    assert bootstrap(curves, identity, seed=1) != bootstrap(curves, identity)


def test_trajectories_are_resampled_whole():
    """A resample takes a trajectory's whole curve: perfectly correlated times keep a difference without error."""
    offset = np.random.default_rng(3).normal(size=(15, 1))
    level, difference = bootstrap(offset + np.array([1.0, 4.0]), lambda c: np.array([c[0], c[1] - c[0]]))
    assert level.stderr > 0.1
    assert difference.value == pytest.approx(3)
    assert difference.stderr < 1e-12


def test_one_trajectory_has_no_error_bar():
    """One trajectory gives values with a NaN standard error, no interval and the reason."""
    for e, value in zip(bootstrap(np.array([[1.0, 2.0]]), identity), (1.0, 2.0), strict=True):
        assert e.value == value
        assert e.samples == 1
        assert all(math.isnan(v) for v in (e.stderr, e.low, e.high))
        assert e.reason == "one trajectory has no error bar"


def test_undefined_numbers_stay_undefined():
    """A statistic that is NaN on the median is reported so, with a reason, beside one that is defined."""
    curves = np.random.default_rng(4).normal(size=(8, 2))
    curves[:, 1] = np.nan
    defined, undefined = bootstrap(curves, identity)
    assert defined.reason == ""
    assert math.isnan(undefined.value)
    assert math.isnan(undefined.stderr)
    assert undefined.reason == "not found"


def test_a_number_missing_from_resamples_is_doubtful():
    """A value found in less than 95 % of the resamples says in how many, and is not silently precise."""
    curves = np.random.default_rng(5).normal(size=(9, 1))
    curves[:3] = np.nan  # defined in 6 of 9: a resample has a defined majority in most cases
    (found,) = bootstrap(curves, identity)
    share = binom.sf(4, 9, 6 / 9)
    assert found.value == pytest.approx(float(np.median(curves[3:])))
    assert found.reason.startswith("found in ")
    assert int(found.reason.split()[2]) == pytest.approx(
        100 * share, abs=4 * 100 * math.sqrt(share * (1 - share) / 1000)
    )
    assert found.stderr > 0


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([3.0, 1.0, 2.0], 2.0),
        ([4.0, 1.0, 2.0, 3.0], 2.5),
        ([1.0, math.nan, 3.0], 2.0),
        ([1.0, math.nan, math.nan], math.nan),
        ([1.0, 2.0, math.nan, math.nan], math.nan),
        ([math.nan, math.nan], math.nan),
        ([5.0], 5.0),
    ],
    ids=str,
)
def test_median_needs_a_defined_majority(column, expected):
    """The median over defined values, NaN unless more than half are; each time decides on its own."""
    curves = np.stack([np.array(column), np.arange(len(column), dtype=float)], 1)
    np.testing.assert_array_equal(median(curves), [expected, (len(column) - 1) / 2])


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (1.2341, 0.005, "1.234(5)"),
        (12.34, 0.4, "12.3(4)"),
        (-1.2341, 0.005, "-1.234(5)"),
        (3.0, 0.02, "3.00(2)"),
        (3.0, 0.001, "3.000(1)"),
        (1.5, 1.0, "2(1)"),
        (123.4, 30.0, "120(30)"),
        (123.4, 4.2, "123(4)"),
        (1234.0, 340.0, "1200(300)"),
        (12.34, 0.96, "12(1)"),
        (12.345, 0.096, "12.3(1)"),
        (12.345, 0.0096, "12.35(1)"),
        (12.3, 9.6, "10(10)"),
        (123.0, 96.0, "100(100)"),
        (12.3, 9.4, "12(9)"),
        (0.00012, 0.00003, "0.00012(3)"),
        (0.0, 0.2, "0.0(2)"),
    ],
)
def test_estimates_print_their_error_on_the_last_digit(value, stderr, text):
    """The error has one digit, rounded up to the next decade where it must, and the value ends at that digit."""
    assert str(Estimate(value, stderr, 10)) == text


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate.exact(math.log(26)), "3.2581"),
        (Estimate.exact(3.0), "3.0000"),
        (Estimate.exact(3e-5), "3.0000e-05"),
        (Estimate.exact(0.0), "0.0000"),
        (Estimate.exact(math.nan, "the uniform mode never softens"), "undefined (the uniform mode never softens)"),
        (Estimate(math.nan), "undefined"),
        (Estimate(math.nan, 0.1, 4, reason="not found"), "undefined (not found)"),
        (Estimate(3.25812, math.nan, 1, reason="one trajectory has no error bar"), "3.258(?)"),
    ],
    ids=str,
)
def test_exact_and_undefined_estimates_print(estimate, text):
    """Exact numbers show five digits, unknown errors a question mark, undefined values their reason."""
    assert str(estimate) == text


def test_exact_estimates():
    """An exact number has no error, no samples, and itself as its interval."""
    e = Estimate.exact(2.5)
    assert (e.value, e.stderr, e.samples, e.low, e.high, e.reason) == (2.5, 0.0, 0, 2.5, 2.5, "")


def test_a_group_of_one_has_no_spread_and_groups_are_left_out():
    """A trajectory for each class would give an interval of no width."""
    values = np.random.default_rng(0).standard_normal(24)[:, None]
    alone, all_one = (bootstrap(values, lambda m: m, groups=groups)[0] for groups in (list(range(24)), []))
    assert alone == all_one
    assert alone.stderr == pytest.approx(1 / math.sqrt(24), rel=0.4)


def test_small_groups_are_resampled_with_their_whole_variance():
    """The mean of ten groups of four has its variance; drawing four of four would cut it by a quarter."""
    rng = np.random.default_rng(0)
    groups, ratios = np.repeat(np.arange(10), 4).tolist(), []
    for _ in range(200):
        values = rng.standard_normal(40)
        draws = bootstrap_draws(40, groups, 200)
        assert draws.shape == (200, 30)
        ratios.append(values[draws].mean(1).var(ddof=1) / (1 / 40))
    assert np.mean(ratios) == pytest.approx(1, abs=4 * np.std(ratios) / np.sqrt(200))
    assert set(np.bincount(np.array(groups)[draws[0]]).tolist()) == {3}
    assert bootstrap_draws(5, [0, 0, 1, 1, 1]).shape[1] == 3


def test_shares_have_exact_intervals():
    """Those of Clopper and Pearson by another implementation; of nothing there is none."""
    for hits, count in ((0, 7), (3, 7), (7, 7), (15, 200)):
        found, ends = of_share(hits, count), binomtest(hits, count).proportion_ci(0.95, "exact")
        assert (found.value, found.samples) == (hits / count, count)
        assert (found.low, found.high) == (pytest.approx(ends.low, abs=1e-12), pytest.approx(ends.high, abs=1e-12))
    assert math.isnan(of_share(0, 0).value)


def test_what_does_not_vary_counts_no_standard_errors():
    """An error of rounding alone would print as 3769634993232524.0 of them."""
    assert Estimate(1.3, 0.1).errors_from(1.0) == pytest.approx(3.0)
    assert Estimate(0.0, 0.1).errors_from(0.2) == pytest.approx(-2.0)
    for estimate, other in (
        (Estimate(0.3, 8e-17), 0.0), (Estimate.exact(2.0), 1.0), (Estimate(0.0, 0.0), 0.0), (Estimate(0.0, 1e-17), 1.0),
        (Estimate(1.0, math.nan), 0.0), (Estimate.missing(3, "none"), 0.0),
    ):  # fmt: skip
        assert math.isnan(estimate.errors_from(other))


def test_distances_in_standard_errors_have_one_definition():
    """No text or table divides by an error that may be rounding's."""
    source = Path(__file__).parents[1] / "src"
    found = [
        f"{path.name}: {line.strip()}" for path in sorted(source.rglob("*.py"))
        for line in path.read_text().splitlines() if re.search(r'f".*/ [\w.\[\]]*stderr\b', line)
    ]  # fmt: skip
    assert not found
