r"""Hartree theory of the two-state model with its score frozen: the transition with the noise of the patch sums.

In EDM coordinates the frozen Langevin dynamics is $dx_i = [\tanh(S_i/\sigma^2) - x_i]\,d\tau + \sqrt2\,\sigma\,dW_i$
with $S_i = \sum_u x_{i+u}$. The Gaussian closure puts the line of the same mean and the least squared error in place of
the tanh (by Stein's lemma, where S is normal with mean $|\Omega| m$ and variance V): its slope is $g/\sigma^2$,
$g = \mathrm E\,\mathrm{sech}^2(S/\sigma^2)$. Every mode is then an Ornstein-Uhlenbeck process with the gain
$G_k = g\,\hat\Omega(k)/\sigma^2$, so that

$$ \langle|\delta x_k|^2\rangle = \frac{\sigma^2}{1 - G_k}, \qquad
V = \frac1N\sum_k\frac{\hat\Omega(k)^2\,\sigma^2}{1 - G_k}, \qquad m = \mathrm E\tanh(S/\sigma^2). $$

In units of the patch, $s = \sigma/\sqrt{|\Omega|}$ and $W = V/(\sigma^2|\Omega|)$, the argument $S/\sigma^2$ has the
variance $W/s^2$, and W is a function of the uniform gain alone,
$W(G_0) = \frac{1}{N}\sum_k\frac{|\Omega| f_k^2}{1 - G_0 f_k}$ with $f_k = \hat\Omega(k)/|\Omega|$. The symmetric state
becomes unstable at $G_0 = 1$, where $s^2 = \mathrm E\,\mathrm{sech}^2(\sqrt W z/s)$, z standard normal.

- Tree level is W = 0: s = 1. Noise of the single sites is W = 1, whatever $|\Omega|$: the critical level is then
  $0.6845\sqrt{|\Omega|}$. A larger patch has more sites and, at its critical level, as much more noise in their sum.
- Of large boxes f is a function of k times the width, and W goes to a constant. So $\sigma_c/\sqrt{|\Omega|}$ goes to a
  constant below 1: the gap to $\log(1 + |\Omega|)$ does not close.
- In d = 1 and 2 the sum over an infinite lattice diverges at $G_0 = 1$: the closure has no continuous transition. That
  is right in d = 1 and an artefact in d = 2, as for every Gaussian theory of a field with Ising symmetry.
- The ordered branch ends at a level of its own, with m > 0, beyond which order cannot be kept; this jump is an artefact
  too. There is no free energy to choose between the branches, as the dynamics has no potential.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq, minimize_scalar

from softmode.lattice import ReceptiveField
from softmode.message import refusal

# nodes of averages over a normal number: of the trapezoidal rule, which is exact to rounding for smooth functions, and
# of Gauss and Legendre, with weights, over the y > 0 where sech^2 is not 0
NORMAL = np.linspace(-9, 9, 181)
NARROW = tuple(
    10 * (values + shift) for values, shift in zip(np.polynomial.legendre.leggauss(200), (1, 0), strict=True)
)
# means of the argument of the tanh among which the end of the ordered branch lies
ARGUMENTS = (0.05, 10.0)
# logarithms of the variances of the argument among which it is sought
VARIANCES = (-20.0, 18.0)


class Branch(NamedTuple):
    """A self-consistent state of the closure.

    Attributes:
        sigma: EDM noise level at which the score is frozen.
        magnetisation: m, 0 on the symmetric branch.
        gain: G_0 of the uniform mode.
        noise: W, the variance of the patch sum in units of that of independent sites.
    """

    sigma: float
    magnetisation: float
    gain: float
    noise: float


def averages(mean: float, spread: float) -> tuple[float, float]:
    r"""Return $\mathrm E\tanh(\mu + a z)$ and $\mathrm E\,\mathrm{sech}^2(\mu + a z)$ over a standard normal z.

    Args:
        mean: mu.
        spread: a, not negative.
    """
    if spread < 1:
        tanh = np.tanh(mean + spread * NORMAL)
        weight = (NORMAL[1] - NORMAL[0]) * np.exp(-(NORMAL**2) / 2) / math.sqrt(2 * math.pi)
        return float((weight * tanh).sum()), float((weight * (1 - tanh**2)).sum())
    # a wide normal changes little where the tanh does: tanh(y) = sign(y) [1 - 2/(e^(2|y|) + 1)], and y and -y together
    y, weight = NARROW
    ahead, behind = (
        np.exp(-(((y - at) / spread) ** 2) / 2) / (spread * math.sqrt(2 * math.pi)) for at in (mean, -mean)
    )
    signs = math.erf(mean / spread / math.sqrt(2))
    left = float((weight * (ahead - behind) * 2 / (np.exp(2 * y) + 1)).sum())
    return signs - left, float((weight * (ahead + behind) / np.cosh(y) ** 2).sum())


def shape(field: ReceptiveField, side: int) -> Float[np.ndarray, " mode"]:
    r"""Return $f_k = \hat\Omega(k)/|\Omega|$ of every wave of a periodic lattice, the uniform one first.

    Args:
        field: Receptive field that contains -u with every u.
        side: L.

    Raises:
        ValueError: If the field is not symmetric, or does not fit the lattice.

    Source: paper Eq. 7.
    """
    if {tuple(-c for c in u) for u in field.offsets} != set(field.offsets):
        raise refusal("receptive_field: got one without inversion symmetry; expected -u for every u")
    field.check_fits((side,) * field.dimensions)
    indicator = np.zeros((side,) * field.dimensions)
    np.add.at(indicator, tuple(np.array(field.offsets).T), 1.0)
    return np.asarray(np.fft.fftn(indicator).real.ravel() / field.size)


def noise(f: Float[np.ndarray, " mode"], omega: int, gain: float, zero_mode: bool = True) -> float:
    r"""Return $W(G_0) = \frac1N\sum_k\frac{|\Omega| f_k^2}{1 - G_0 f_k}$: 1 for independent sites, G_0 = 0.

    Args:
        f: `shape` of a lattice.
        omega: |Omega|.
        gain: G_0, below 1, or 1 without the uniform mode.
        zero_mode: Whether the uniform mode counts; it alone makes W diverge at G_0 = 1 on a finite lattice.
    """
    kept = f if zero_mode else f[1:]
    return float((omega * kept**2 / (1 - gain * kept)).sum() / len(f))


def infinite_noise(field: ReceptiveField, side: int) -> float:
    r"""Return $W(1)$ of the infinite lattice in d = 3, from two lattices without their uniform modes.

    What a lattice of side L lacks near k = 0 is of the order 1/L: $2 W_{2L} - W_L$ is free of it.

    Args:
        field: Receptive field in three dimensions.
        side: L.

    Returns:
        Infinity in d = 1 and 2.
    """
    if field.dimensions < 3:
        return math.inf
    small, large = (noise(shape(field, n), field.size, 1.0, zero_mode=False) for n in (side, 2 * side))
    return 2 * large - small


def critical_level(omega: int, noise: float) -> float:
    r"""Return the EDM noise level at which $G_0 = 1$, $\sigma_c = s\sqrt{|\Omega|}$.

    $s^2 = \mathrm{E\,sech}^2(\sqrt W z/s)$.

    Args:
        omega: |Omega|.
        noise: W: 0 at tree level, 1 for the noise of independent sites, `noise` at G_0 = 1 without the uniform mode for
            a finite lattice, `infinite_noise` in d = 3. An infinite W has no transition: 0.

    Source: paper Eq. 19 for W = 0.
    """
    if math.isinf(noise):
        return 0.0
    root = brentq(lambda s: averages(0.0, math.sqrt(noise) / s)[1] - s**2, 1e-6, 1.0, xtol=1e-14)
    return math.sqrt(omega) * float(root)


def symmetric_branch(field: ReceptiveField, side: int, sigma: float) -> Branch:
    r"""Return the state without order on a finite lattice, where $G_0 = \mathrm{E\,sech}^2(\sqrt W z/s)/s^2 < 1$.

    The uniform mode counts: the closure has this state at every level, and no transition.

    Args:
        field: Receptive field.
        side: L.
        sigma: EDM noise level at which the score is frozen.
    """
    f, s = shape(field, side), sigma / math.sqrt(field.size)

    def excess(gain: float) -> float:
        return averages(0.0, math.sqrt(noise(f, field.size, gain)) / s)[1] - gain * s**2

    gain = float(brentq(excess, 0.0, 1 - 1e-12, xtol=1e-14))
    return Branch(sigma, 0.0, gain, noise(f, field.size, gain))


def ordered_branch(field: ReceptiveField, side: int, argument: float) -> Branch:
    r"""Return the state with order whose mean argument of the tanh, $\mu = |\Omega| m/\sigma^2$, is given.

    $s^2 = m/\mu$ with $m = \mathrm E\tanh(\mu + \sqrt v z)$, $v = W(G_0)/s^2$ and
    $G_0 = \mathrm{E\,sech}^2(\mu + \sqrt v z)/s^2$, which is below 1 wherever mu is positive.

    Args:
        field: Receptive field.
        side: L, large: the uniform mode is left out, the mean of the field being m.
        argument: mu, positive.
    """
    return _ordered(shape(field, side), field.size, argument)


def ordered_limit(field: ReceptiveField, side: int) -> Branch:
    """Return the end of the ordered branch, the highest noise level at which the closure has order.

    Args:
        field: Receptive field.
        side: L, large against the correlation length there.
    """
    f = shape(field, side)
    logs = np.log(ARGUMENTS)
    grid = np.linspace(logs[0], logs[1], 60)
    best = int(np.argmax([_ordered(f, field.size, math.exp(at)).sigma for at in grid]))
    around = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    found = minimize_scalar(lambda at: -_ordered(f, field.size, math.exp(at)).sigma, bounds=around, method="bounded")
    return _ordered(f, field.size, math.exp(float(found.x)))


def _ordered(f: Float[np.ndarray, " mode"], omega: int, argument: float) -> Branch:
    def state(log_variance: float) -> Branch:
        m, slope = averages(argument, math.exp(log_variance / 2))
        s2 = m / argument
        # rounding may lift the gain of a small argument to 1
        gain = min(slope / s2, 1 - 1e-12)
        return Branch(math.sqrt(omega * s2), m, gain, noise(f, omega, gain, zero_mode=False))

    def excess(log_variance: float) -> float:
        found = state(log_variance)
        return log_variance - math.log(found.noise * omega / found.sigma**2)

    return state(float(brentq(excess, *VARIANCES, xtol=1e-12)))
