"""How often the 95 % intervals of softmode window cover the truth, on two classes of which all is known in closed form.

    python benchmarks/window_intervals.py                     # 200 repetitions, some 15 minutes
    python benchmarks/window_intervals.py --small

Along mu the model of two equal classes around +-mu is one-dimensional: the top eigenvalue of dD/dx and the posterior of
the class follow from v.x alone. Each repetition has a |mu| of its own, between 4 and 30, and a width, between 0.05 and
1, so that the truth lies anywhere between two noise levels; it draws as many states and images as a window of 16
trajectories does, and hands what they give to the window's own analysis.
"""

import argparse
import math
from typing import NamedTuple

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
from softmode.experiments.validate.suite import NORMS
from softmode.experiments.window.config import Config
from softmode.experiments.window.decided import FIRST, by_labels, by_modes
from softmode.experiments.window.quick import STATES

SPREADS, SHARE = (0.05, 1.0), 0.8
# extent of the mode and of the lattice (sites)
EXTENT, SITES = 40.0, 64


class Classes(NamedTuple):
    """Two equal classes.

    Attributes:
        mean: |mu|.
        spread: Their width.
    """

    mean: float
    spread: float


def unstable_share(classes: Classes, sigma: float) -> float:
    """Return the share of states with an eigenvalue above 1."""
    mean, total = classes.mean, math.hypot(classes.spread, sigma)
    if total >= mean:
        return 0.0
    edge = total**2 / mean * math.acosh(mean / total)
    return float(stats.norm.cdf((edge - mean) / total) - stats.norm.cdf((-edge - mean) / total))


def information(classes: Classes, sigma: float) -> float:
    """Return what a state tells of its class (nats)."""
    a = classes.mean / math.hypot(classes.spread, sigma)
    lost, _ = integrate.quad(lambda z: stats.norm.pdf(z) * np.logaddexp(0, -2 * a * (a + z)), -9, 9, points=[-a])
    return math.log(2) - lost


def truth(classes: Classes) -> dict[str, float]:
    """Return the noise levels that the intervals should cover."""

    def share(sigma: float) -> float:
        return unstable_share(classes, sigma)

    lowest, highest = classes.mean / 10, classes.mean
    most = optimize.minimize_scalar(lambda s: -share(s), bounds=(lowest, highest), method="bounded").x
    ends = [optimize.brentq(lambda s: share(s) - FIRST, *bracket) for bracket in ((lowest, most), (most, highest))]
    levels = np.geomspace(*KNOWN_LEVELS, Information.levels)
    low, high, half = shortest(np.array([information(classes, sigma) for sigma in levels]), levels, SHARE)
    names = (
        "sigma_lo, softest modes",
        "sigma_hi, softest modes",
        "sigma_lo, label",
        "sigma_hi, label",
        "sigma_c, label",
    )
    return dict(zip(names, (*ends, low, high, half), strict=True))


def states(classes: Classes, rng: np.random.Generator, count: int) -> Curves:
    """Return the softest modes of noised data."""
    mean, spread = classes
    levels = np.geomspace(*SOFT_LEVELS, Instability.levels)
    x = mean * rng.choice([-1, 1], (count, 1)) + spread * rng.standard_normal((count, 1))
    x = x + levels * rng.standard_normal((count, 1))
    total = spread**2 + levels**2
    # cosh^2 beyond all measure is that of a stable state
    values = spread**2 / total + (levels * mean / total / np.cosh(np.clip(x * mean / total, -300, 300))) ** 2
    nothing = np.zeros_like(values)
    return Curves(levels, values, nothing, nothing, np.full_like(values, EXTENT), levels < 0, SITES)


def paths(classes: Classes, rng: np.random.Generator, count: int) -> tuple[Known, np.ndarray]:
    """Return what noising paths tell of the class, and their noise levels."""
    mean, spread = classes
    levels = np.geomspace(*KNOWN_LEVELS, Information.levels)
    signs = rng.choice([-1, 1], count)
    x = mean * signs + spread * rng.standard_normal(count)
    widths = np.sqrt(np.diff(np.append(levels, 0.0)[::-1] ** 2))
    path = x[:, None] + np.cumsum(widths * rng.standard_normal((count, len(levels))), 1)[:, ::-1]
    odds = 2 * path * mean / (spread**2 + levels**2)
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
    rng, count = np.random.default_rng(0), STATES * Config.trajectories
    found: dict[str, list[tuple[float, Estimate]]] = {}
    for _ in range(repetitions):
        classes = Classes(math.exp(rng.uniform(*np.log(NORMS))), rng.uniform(*SPREADS))
        soft = by_modes(states(classes, rng, count)).main
        known, levels = paths(classes, rng, count)
        label = by_labels([known], levels, SHARE).main
        estimates = (soft.low, soft.high, label.low, label.high, label.sigma_c)
        for (name, level), estimate in zip(truth(classes).items(), estimates, strict=True):
            found.setdefault(name, []).append((level, estimate))
    print(f"two classes; {count} states or images, {repetitions} repetitions")
    for name, rows in found.items():
        there = [(level, each) for level, each in rows if math.isfinite(each.value)]
        covered = np.mean([each.low <= level <= each.high for level, each in there])
        off = np.log([each.value / level for level, each in there])
        print(
            f"{name}: covered {covered:.1%}, bias {off.mean():+.1%}, spread {off.std():.1%}, "
            f"missed {len(rows) - len(there)}"
        )


if __name__ == "__main__":
    main()
