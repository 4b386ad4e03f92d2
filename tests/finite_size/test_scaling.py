import math
from functools import partial

import numpy as np
import pytest
from scipy.stats import binom

from softmode.finite_size import scaling
from softmode.finite_size.crossings import crossings, ends, order_at_ends
from softmode.finite_size.curves import Curves
from softmode.finite_size.exponents import collapse, power
from softmode.finite_size.moments import Moments
from softmode.finite_size.scaling import joint_fit, scan

T_C, NU, OMEGA, BEND = 2.0, 0.8, 1.5, 0.3
FIXED, SLOPES, CORRECTIONS = np.array([0.6, 0.9]), np.array([-0.2, -0.5]), np.array([-0.3, 0.8])
# the two observables of a point are as alike as U4 and xi/L of one sample are
ALIKE = 0.9
MIXED = np.linalg.cholesky(np.array([[1, ALIKE], [ALIKE, 1]]))


def truth(side, control, corrections=CORRECTIONS):
    """Return both observables of a known scaling function, [point, 2]."""
    shifted = control - T_C
    x = ((shifted + BEND * shifted**2) * side ** (1 / NU))[:, None]
    return FIXED + SLOPES * x + 0.02 * x**2 + corrections * side[:, None] ** -OMEGA * (1 + 0.2 * x)


def synthetic(seed, error=0.002, sides=(8, 12, 16, 24), resamples=100, known=truth):
    """Return curves with correlated Gaussian errors of a known size, and resamples of the same."""
    rng = np.random.default_rng(seed)
    side = np.repeat(sides, 5)
    control = T_C + np.tile(np.linspace(-1, 1, 5), len(sides)) * side ** (-1 / NU)
    scale = error * np.array([1, 2])
    values = known(side, control) + scale * (rng.normal(size=(len(side), 2)) @ MIXED.T)
    replicates = values + scale * (rng.normal(size=(resamples, len(side), 2)) @ MIXED.T)
    return Curves(("U4", "xi/L"), side, control, values, replicates, np.full(len(side), 10**6))


def test_an_exact_curve_is_recovered():
    """Without noise the fit is the function that made the data, from a start that knows nothing of it."""
    fit = joint_fit(synthetic(0, error=1e-9), OMEGA)
    assert fit.t_c.value == pytest.approx(T_C, abs=1e-6)
    assert fit.nu.value == pytest.approx(NU, rel=1e-5)
    assert fit.bend.value == pytest.approx(BEND, rel=1e-3)
    for o, name in enumerate(("U4", "xi/L")):
        assert fit.fixed[name].value == pytest.approx(FIXED[o], rel=1e-5)
        assert fit.corrections[name].value == pytest.approx(CORRECTIONS[o], rel=1e-3)


def test_intervals_cover_and_chi2_has_its_mean():
    """Over 200 repetitions 95 % intervals hold the truth as often as a binomial allows, and p-values are uniform."""
    repetitions = 200
    fits = [joint_fit(synthetic(seed), OMEGA, order=2) for seed in range(repetitions)]
    least, most = binom.ppf([3.2e-5, 1 - 3.2e-5], repetitions, 0.95)
    true = {
        "t_c": (T_C, lambda fit: fit.t_c),
        "nu": (NU, lambda fit: fit.nu),
        "U4*": (FIXED[0], lambda fit: fit.fixed["U4"]),
        "xi/L*": (FIXED[1], lambda fit: fit.fixed["xi/L"]),
    }
    for name, (value, get) in true.items():
        found = [get(fit) for fit in fits]
        assert least <= sum(each.low <= value <= each.high for each in found) <= most, name
        errors = np.array([each.value for each in found]) - value
        stated = math.sqrt(np.mean([each.stderr**2 for each in found]))
        assert errors.std(ddof=1) == pytest.approx(stated, rel=4 / math.sqrt(2 * repetitions)), name
        assert abs(errors.mean()) < 4 * stated / math.sqrt(repetitions) + 0.3 * stated, name
    chi2 = np.array([fit.chi2 for fit in fits])
    mean, variance = fits[0].expected
    assert fits[0].dof == 40 - 3 - 2 * 5
    # what both share takes more than one unit of variance each
    assert 40 - 2 * 5 - 3 * (1 + ALIKE) < mean < fits[0].dof
    # resamples tell a standard error to 7 %, and its inverse square thus high by 1 + 2/100
    assert abs(chi2.mean() - 1.02 * mean) < 4 * math.sqrt(variance / repetitions)
    assert chi2.std(ddof=1) == pytest.approx(math.sqrt(variance), rel=4 / math.sqrt(2 * repetitions))
    low = sum(fit.p_value < 0.1 for fit in fits)
    assert binom.ppf(3.2e-5, repetitions, 0.1) <= low <= binom.ppf(1 - 3.2e-5, repetitions, 0.12)


def test_resamples_that_take_more_steps_are_not_left_out(monkeypatch):
    """They are the unlike ones, without which errors are too small: few steps at first change nothing."""
    curves = synthetic(3, resamples=200)
    patient = joint_fit(curves, OMEGA, order=2)
    assert np.isfinite(patient.replicates).all()
    monkeypatch.setattr(scaling, "NEAR", 2)
    hasty = joint_fit(curves, OMEGA, order=2)
    assert not hasty.t_c.reason
    np.testing.assert_allclose(hasty.replicates[:, :2], patient.replicates[:, :2], rtol=1e-3)


def test_both_observables_together_know_more_than_each():
    """And less than two independent ones would: resamples keep that they come from the same units."""
    curves = synthetic(3)
    both, one = joint_fit(curves, OMEGA, 2), joint_fit(curves.select("U4"), OMEGA, 2)
    assert both.t_c.stderr < one.t_c.stderr
    apart = Curves(
        curves.names, curves.side, curves.control, curves.values,
        np.stack([curves.replicates[..., 0], np.roll(curves.replicates[..., 1], 1, 0)], -1), curves.units,
    )  # fmt: skip
    assert joint_fit(apart, OMEGA, 2).t_c.stderr < 0.85 * both.t_c.stderr


def test_without_a_correction_small_sides_are_found_out():
    """A model that lacks the correction has a bad chi^2, which improves as the smallest sides are left out."""
    curves = synthetic(1, sides=(4, 8, 16, 32, 64), error=0.001)
    fits = scan(curves, None, 2)
    assert [fit.sides[0] for fit in fits] == [4, 8, 16, 32]
    assert fits[0].p_value < 1e-6
    assert fits[3].p_value > 1e-3
    assert fits[0].corrections == {}
    right = scan(curves, OMEGA, 2)
    assert [fit.sides[0] for fit in right] == [4, 8, 16]
    assert abs(right[0].t_c.value - T_C) < 4 * right[0].t_c.stderr
    assert right[0].p_value > 1e-3


def test_too_little_to_fit_is_refused():
    with pytest.raises(ValueError, match="20 values of 2 sides; expected more than 13 of at least 3: add sides"):
        joint_fit(synthetic(0, sides=(8, 16)), OMEGA, 2)
    curves = synthetic(0)
    with pytest.raises(ValueError, match="no critical point in"):
        joint_fit(curves.where(curves.control > T_C + 0.01), None, 1)


def test_crossings_are_where_the_curves_meet():
    """Without corrections every pair crosses at t_c; with them, the pair's own place, found by bisection."""
    plain = partial(truth, corrections=np.zeros(2))
    for found in crossings(synthetic(0, 1e-6, known=plain), "U4"):
        assert found.control.value == pytest.approx(T_C, abs=1e-5)
        assert found.value.value == pytest.approx(FIXED[0], abs=1e-5)
    places = []
    for found in crossings(synthetic(0, 1e-6), "xi/L"):
        grid = np.linspace(T_C - 0.05, T_C + 0.05, 20001)
        small, large = (truth(np.full(len(grid), side), grid)[:, 1] for side in found.sides)
        at = np.flatnonzero(np.diff(np.sign(large - small)))[0]
        assert found.control.value == pytest.approx(grid[at], abs=1e-4)
        assert found.value.value == pytest.approx(small[at], abs=1e-3)
        places.append(abs(found.control.value - T_C))
    assert places == sorted(places, reverse=True)


def test_errors_of_crossings():
    """The stated error of a crossing is the scatter of it over 200 repetitions."""
    every = [crossings(synthetic(seed), "xi/L", [(8, 16)])[0] for seed in range(200)]
    for field in ("control", "value"):
        found = [getattr(each, field) for each in every]
        scatter = np.std([each.value for each in found], ddof=1)
        stated = math.sqrt(np.mean([each.stderr**2 for each in found]))
        assert stated == pytest.approx(scatter, rel=4 / math.sqrt(2 * 200)), field


def test_curves_that_do_not_cross_are_told():
    curves = synthetic(0)
    assert all(each.cross for each in ends(curves, "U4"))
    above = curves.where(curves.control > T_C)
    assert not any(each.cross for each in ends(above, "U4"))
    (first, *_) = crossings(above, "U4")
    assert math.isnan(first.control.value)
    assert first.control.reason.startswith("no crossing in [")


@pytest.mark.parametrize(("power_of_side", "said"), [(0.0, "~ L^0.00 "), (1.0, "~ L^-1.00 ")], ids=["order", "none"])
def test_the_order_parameter_at_the_ends_of_a_range(power_of_side, said):
    """|m| of both ends and how it falls: as L^0 with order, as L^(-d/2) without."""
    noise = np.random.default_rng(0).uniform(0.99, 1.01, (40, 4))
    points = [Moments(side, 2, t, noise * float(side) ** -power_of_side) for side in (8, 16, 32) for t in (1.0, 2.0)]
    low, high = order_at_ends(points)
    assert low.startswith("at the lowest, 1, |m| is ")
    assert high.startswith("at the highest, 2, |m| is ")
    assert said in low
    assert low.endswith("(L^0 with order, L^-1 without)")


def test_a_power_of_the_side_is_recovered():
    """chi and |m| of known powers, with an analytic factor and a correction; intervals cover, t_c and nu measured."""
    beta_nu, gamma_nu, hits, repetitions = 0.3, 1.4, 0, 60
    for seed in range(repetitions):
        curves = synthetic(seed)
        fit = joint_fit(curves, OMEGA, 2)
        rng = np.random.default_rng(1000 + seed)
        shifted = curves.control - T_C
        x = (shifted + BEND * shifted**2) * curves.side ** (1 / NU)
        shape = np.stack([0.2 - 0.4 * x + 0.05 * x**2, 1 + 0.3 * x - 0.1 * x**2], 1)
        exponents = np.array([-beta_nu, gamma_nu]) * np.log(curves.side)[:, None]
        logs = exponents + shape + 0.2 * shifted[:, None] + 0.3 * curves.side[:, None] ** -OMEGA
        values = logs + 0.002 * rng.normal(size=logs.shape)
        replicates = values + 0.002 * rng.normal(size=(100, *logs.shape))
        own = Curves(("|m|", "chi"), curves.side, curves.control, np.exp(values), np.exp(replicates), curves.units)
        order, growth = (power(own, name, fit, OMEGA, 2) for name in own.names)
        hits += order.exponent.low <= -beta_nu <= order.exponent.high
        if seed == 0:
            assert abs(order.exponent.value + beta_nu) < 4 * order.exponent.stderr < 0.1
            assert abs(growth.exponent.value - gamma_nu) < 4 * growth.exponent.stderr < 0.1
            assert growth.chi2 < growth.dof + 4 * math.sqrt(2 * growth.dof)
            scaled = collapse(own, "chi", T_C, NU, gamma_nu)
            np.testing.assert_allclose(scaled.y, own.values[:, 1] * own.side**-gamma_nu)
            np.testing.assert_allclose(scaled.x, shifted * curves.side ** (1 / NU))
            assert scaled.stderr / scaled.y == pytest.approx(0.002, rel=0.5)
            wrong = collapse(own, "chi", T_C, NU, 1.2)
            assert scaled.chi2 < 0.1 * wrong.chi2
    assert hits >= binom.ppf(3.2e-5, repetitions, 0.95)


def test_powers_need_the_resamples_of_the_fit():
    curves = synthetic(0)
    fit = joint_fit(curves, OMEGA, 2)
    with pytest.raises(ValueError, match="with the resamples of the fit"):
        power(synthetic(0, resamples=50), "U4", fit, OMEGA)
