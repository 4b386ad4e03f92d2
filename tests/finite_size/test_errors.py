"""Standard errors against those of an independent package, ArviZ, which sums autocorrelations by Geyer's rule."""

import math

import numpy as np
import pytest
from scipy.signal import lfilter

from helpers.ising import CRITICAL, ising
from softmode.finite_size.moments import Moments
from softmode.finite_size.series import block_means, correlated_steps

stats = pytest.importorskip("arviz_stats.base").array_stats
# what blocks of 10 tau leave out of an error
LEFT_OUT = 0.03


def independent_error(series: np.ndarray) -> float:
    """Return ArviZ's Monte Carlo standard error of the mean of one series."""
    return float(stats.mcse(series[None], chain_axis=0, draw_axis=1, method="mean"))


def agree(ours: list[float], theirs: list[float], units: int) -> None:
    """Compare mean squares, whose own error is that of the number of blocks."""
    ours_mean, theirs_mean = (math.sqrt(np.mean(np.square(each))) for each in (ours, theirs))
    assert ours_mean == pytest.approx(theirs_mean, rel=4 / math.sqrt(2 * units) + LEFT_OUT)


@pytest.mark.parametrize("rho", [0.0, 0.8, 0.95])
def test_the_error_of_a_mean(rho: float) -> None:
    """Of an autoregressive process, whose truth is sqrt((1 + rho)/(1 - rho)/n) besides."""
    steps, ours, theirs, units = 20_000, [], [], 0
    for seed in range(20):
        noise = math.sqrt(1 - rho**2) * np.random.default_rng(seed).normal(size=steps + 500)
        series = lfilter([1], [1, -rho], noise)[500:]
        blocks = block_means(series[None, :, None], correlated_steps(series[None]))[:, 0]
        ours.append(blocks.std(ddof=1) / math.sqrt(len(blocks)))
        theirs.append(independent_error(series))
        units += len(blocks)
    agree(ours, theirs, units)
    agree(ours, [math.sqrt((1 + rho) / (1 - rho) / steps)], units)


def test_the_errors_of_the_ising_model() -> None:
    r"""Of |m| and of U4 at T_c, by blocks and jackknife of a Wolff series, one cluster a step.

    ArviZ knows errors of means alone: that of U4 is the one of its linear part,
    $2\langle m^4\rangle m^2/3\langle m^2\rangle^3 - m^4/3\langle m^2\rangle^2$.
    """
    found: dict[str, tuple[list[float], list[float]]] = {"|m|": ([], []), "U4": ([], [])}
    units = 0
    for seed in range(10):
        series = ising(16, CRITICAL, 20_000, 1, 1, seed).means
        tau = correlated_steps(series[None, :, 1])
        assert tau > 2, "steps that remember, or the test says nothing"
        blocks = block_means(series[None], tau)
        units += len(blocks)
        ours = Moments(16, 2, CRITICAL, blocks).observables()
        second, fourth = series[:, 1].mean(), series[:, 2].mean()
        linear = 2 * fourth * series[:, 1] / (3 * second**3) - series[:, 2] / (3 * second**2)
        for name, values in (("|m|", series[:, 0]), ("U4", linear)):
            found[name][0].append(ours[name].stderr)
            found[name][1].append(independent_error(values))
    for ours_all, theirs in found.values():
        agree(ours_all, theirs, units)
