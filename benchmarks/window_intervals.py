"""How often the 95 % intervals of softmode window cover the truth, on two classes of which all is known in closed form.

    python benchmarks/window_intervals.py                     # 200 repetitions, some 15 minutes
    python benchmarks/window_intervals.py --small

Along mu the model of two equal classes around +-mu, |mu| = 8, of width 1 is one-dimensional: the top eigenvalue of
dD/dx and the posterior of the class follow from v.x alone. Each repetition draws as many states and images as a window
of 16 trajectories does, and hands what they give to the window's own analysis.
"""

import argparse
import math

import numpy as np
from scipy import integrate, optimize, stats

from softmode.cumulative import shortest
from softmode.estimate import Estimate
from softmode.experiments.information.analyse import Known
from softmode.experiments.information.config import Config as Information
from softmode.experiments.information.measure import LEVELS as KNOWN_LEVELS
from softmode.experiments.instability.analyse import Curves
from softmode.experiments.instability.config import Config as Instability
from softmode.experiments.instability.measure import LEVELS as SOFT_LEVELS
from softmode.experiments.window.config import Config
from softmode.experiments.window.decided import FIRST, by_labels, by_modes
from softmode.experiments.window.quick import STATES

MEAN, SPREAD, SHARE = 8.0, 1.0, 0.8
# extent of the mode and of the lattice (sites)
EXTENT, SITES = 40.0, 64


def unstable_share(sigma: float) -> float:
    """Return the share of states with an eigenvalue above 1."""
    total = math.hypot(SPREAD, sigma)
    if total >= MEAN:
        return 0.0
    edge = total**2 / MEAN * math.acosh(MEAN / total)
    return float(stats.norm.cdf((edge - MEAN) / total) - stats.norm.cdf((-edge - MEAN) / total))


def information(sigma: float) -> float:
    """Return what a state tells of its class (nats)."""
    a = MEAN / math.hypot(SPREAD, sigma)
    lost, _ = integrate.quad(lambda z: stats.norm.pdf(z) * np.logaddexp(0, -2 * a * (a + z)), -9, 9)
    return math.log(2) - lost


def truth() -> dict[str, float]:
    """Return the noise levels that the intervals should cover."""
    most = optimize.minimize_scalar(lambda s: -unstable_share(s), bounds=(1, MEAN), method="bounded").x
    ends = [optimize.brentq(lambda s: unstable_share(s) - FIRST, *bracket) for bracket in ((1, most), (most, MEAN))]
    levels = np.geomspace(*KNOWN_LEVELS, Information.levels)
    low, high, half = shortest(np.array([information(sigma) for sigma in levels]), levels, SHARE)
    names = (
        "sigma_lo, softest modes",
        "sigma_hi, softest modes",
        "sigma_lo, label",
        "sigma_hi, label",
        "sigma_c, label",
    )
    return dict(zip(names, (*ends, low, high, half), strict=True))


def states(rng: np.random.Generator, count: int) -> Curves:
    """Return the softest modes of noised data."""
    levels = np.geomspace(*SOFT_LEVELS, Instability.levels)
    x = MEAN * rng.choice([-1, 1], (count, 1)) + SPREAD * rng.standard_normal((count, 1))
    x = x + levels * rng.standard_normal((count, 1))
    total = SPREAD**2 + levels**2
    values = SPREAD**2 / total + (levels * MEAN / total / np.cosh(x * MEAN / total)) ** 2
    nothing = np.zeros_like(values)
    return Curves(levels, values, nothing, nothing, np.full_like(values, EXTENT), levels < 0, SITES)


def paths(rng: np.random.Generator, count: int) -> tuple[Known, np.ndarray]:
    """Return what noising paths tell of the class, and their noise levels."""
    levels = np.geomspace(*KNOWN_LEVELS, Information.levels)
    signs = rng.choice([-1, 1], count)
    x = MEAN * signs + SPREAD * rng.standard_normal(count)
    widths = np.sqrt(np.diff(np.append(levels, 0.0)[::-1] ** 2))
    path = x[:, None] + np.cumsum(widths * rng.standard_normal((count, len(levels))), 1)[:, ::-1]
    odds = 2 * path * MEAN / (SPREAD**2 + levels**2)
    posterior = np.stack([-np.logaddexp(0, odds), -np.logaddexp(0, -odds)], -1)
    known = math.log(2) + (np.exp(posterior) * posterior).sum(-1)
    own = np.where(signs[:, None] > 0, posterior[..., 1], posterior[..., 0])
    return Known("class", ["0", "1"], known, math.log(2) + own, (signs > 0).astype(np.int64)), levels


def main() -> None:
    """Print the coverage, the bias and the spread of every end of a window."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--small", action="store_true", help="four repetitions, to see that it works")
    arguments = parser.parse_args()
    repetitions = 4 if arguments.small else arguments.repetitions
    rng, known, count = np.random.default_rng(0), truth(), STATES * Config.trajectories
    found: dict[str, list[Estimate]] = {name: [] for name in known}
    for _ in range(repetitions):
        soft, label = (
            by_modes(states(rng, count)).main,
            by_labels([(said := paths(rng, count))[0]], said[1], SHARE).main,
        )
        estimates = (soft.low, soft.high, label.low, label.high, label.sigma_c)
        for name, estimate in zip(known, estimates, strict=True):
            found[name].append(estimate)
    print(f"two classes, |mu| = {MEAN:g}, width {SPREAD:g}; {count} states or images, {repetitions} repetitions")
    for name, level in known.items():
        missed = sum(math.isnan(each.value) for each in found[name])
        there = [each for each in found[name] if math.isfinite(each.value)]
        covered = np.mean([each.low <= level <= each.high for each in there])
        off = np.log([each.value / level for each in there])
        print(
            f"{name}: true {level:.3g}, covered {covered:.1%}, bias {off.mean():+.1%}, spread {off.std():.1%}, "
            f"missed {missed}"
        )


if __name__ == "__main__":
    main()
