r"""The symmetry-breaking bifurcation of two prototypes, +mu and -mu, under any process (Sec. 3).

The paper writes Sec. 3 for alpha = 1. In the coordinates of a process, $x = \alpha x_0 + \sigma\epsilon$, mu becomes
alpha mu, and

$$ \nabla\log p_t(m\mu) = \frac{\mu}{\sigma^2}\left[\alpha\tanh\left(\frac{\alpha|\mu|^2 m}{\sigma^2}\right) - m\right],
\qquad m = \frac{\langle\mu, x\rangle}{|\mu|^2}. $$

The gain along mu at x = 0 is $G = \alpha^2|\mu|^2/\sigma^2$; the score's instability is G = 1.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.integrate import solve_ivp
from scipy.stats import linregress
from torch import Tensor

from softmode.beta import Time
from softmode.process import VE, VP, Convention, Process

Array = np.ndarray

# from this G - 1 on, the order parameter is 1 in float64
SATURATED = 20.0


def hessian_spectrum(process: Process, t: Time, norm_squared: float, n: int) -> Float[Tensor, "*t n"]:
    r"""Return the eigenvalues of the score's Jacobian at x = 0.

    $H^* = -\frac{1}{\sigma^2}I + \frac{\alpha^2}{\sigma^4}\mu\mu^\top$.

    Args:
        process: Any process.
        t: Times, in the process's own unit.
        norm_squared: Squared norm |mu|^2 of a prototype.
        n: Number of coordinates N of the state, at least 1.

    Returns:
        [*t, n], rising: N - 1 times -1/sigma^2, then $-1/\sigma^2 + \alpha^2|\mu|^2/\sigma^4$ along mu.

    Raises:
        ValueError: If `norm_squared` is not positive and finite, or n < 1.

    Source: paper Sec. 3, below Eq. 3, with mu replaced by alpha mu.
    """
    _check_norm(norm_squared)
    if n < 1:
        raise ValueError(f"n: got {n}; expected at least 1 coordinate")
    stable = process.eigenvalue(torch.tensor(0.0, dtype=torch.float64), t, "score")
    along = process.eigenvalue(_gain(process, t, norm_squared), t, "score")
    return torch.cat([stable[..., None].expand(*stable.shape, n - 1), along[..., None]], dim=-1)


def critical_time(process: Process, norm_squared: float) -> float:
    r"""Return the time at which the score's eigenvalue along mu vanishes at x = 0.

    $\alpha^2|\mu|^2 = \sigma^2$, where the EDM noise level is |mu|.

    Args:
        process: Any process.
        norm_squared: Squared norm |mu|^2 of a prototype.

    Returns:
        Time in the process's own unit; NaN beyond the end of a custom schedule.

    Raises:
        ValueError: If `norm_squared` is not positive and finite.

    Source: paper Sec. 3, r(t) = 0 in Eq. 4.
    """
    return drift_critical_time(process, norm_squared, "score")


def drift_critical_time(process: Process, norm_squared: float, convention: Convention = "sde") -> float:
    r"""Return the time at which the eigenvalue along mu of a reverse drift vanishes at x = 0.

    For VP, with $B = \int_0^t\beta = -\log\alpha^2$ and $q = |\mu|^2$:

    | convention | zero | |
    |---|---|---|
    | score | B = log(1 + q) | alpha^2 q = sigma^2 |
    | sde | B = asinh q | alpha^2 = sqrt(q^2 + 1) - q |
    | ode | B = -log(1 - q) | sigma^2 = q, for q < 1 only |

    The VP flow must carry unit variance to the variance q of the data. For q > 1 it expands the mode at all times:
    its eigenvalue $\frac{\beta\alpha^2}{2\sigma^2}(1 - q/\sigma^2)$ is negative and has no zero; at q = 1 it vanishes
    only in infinite time. For VE every drift is proportional to the score and vanishes with it at EDM noise level |mu|.

    Args:
        process: VP with any schedule, or VE.
        norm_squared: Squared norm |mu|^2 of a prototype.
        convention: Which drift; the reverse SDE of Eq. 2 unless said otherwise.

    Returns:
        Time in the process's own unit; NaN where there is no zero, or beyond the end of a custom schedule.

    Raises:
        ValueError: If `norm_squared` is not positive and finite, or the process is neither VP nor VE.

    Source: raya2024 for the SDE (alpha = 0.6436 for data +-1 in one dimension); paper Eqs. 2 and 4.
    """
    _check_norm(norm_squared)
    if isinstance(process, VE):
        return float(process.time(math.sqrt(norm_squared)))
    if not isinstance(process, VP):
        raise ValueError(f"process: got {type(process).__name__}; expected VP or VE, whose drifts are known")
    integral = {
        "score": math.log1p(norm_squared),
        "sde": math.asinh(norm_squared),
        "ode": -math.log1p(-norm_squared) if norm_squared < 1 else math.nan,
    }[convention]
    return float(process.time(math.sqrt(math.expm1(integral))))


def curie_weiss(excess: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""Return the order parameter $y \ge 0$ that solves $y = \tanh(G y)$, given $G - 1$.

    With $z = G y$ it is $z\coth z - 1 = G - 1$, concave in $w = z^2$, so Newton's method in w climbs to it from below.
    Taking G - 1 rather than G keeps all digits at the bifurcation, where $y \to \sqrt{3(G-1)}$.

    Args:
        excess: G - 1 (dimensionless).

    Returns:
        Order parameters, float64: 0 where G <= 1, relative error below 1e-15 elsewhere.

    Source: paper Sec. 6, the mean-field equation, with y = m / alpha and G = alpha^2 |Omega| / sigma^2.
    """
    target = excess.double().clamp(1e-300, SATURATED)
    w = 3 * target
    # 4 steps reach rounding error at every argument
    for _ in range(6):
        h = _z_coth_z_minus_one(w)
        w = w - 2 * w * (h - target) / (w - h - h.square())
    return w.sqrt().tanh().where(~(excess <= 0), 0.0)


def equilibria(process: Process, t: Time, norm_squared: float) -> Float[Tensor, "*t 3"]:
    r"""Return the stable stationary points of the score along mu, $m = \alpha\tanh(\alpha|\mu|^2 m/\sigma^2)$.

    Args:
        process: Any process.
        t: Times, in the process's own unit.
        norm_squared: Squared norm |mu|^2 of a prototype.

    Returns:
        [*t, 3]: (-m, 0, +m), with NaN in the place of a point that does not exist or is unstable: (NaN, 0, NaN) at and
        above the critical time, (-m, NaN, +m) below it.

    Raises:
        ValueError: If `norm_squared` is not positive and finite.

    Source: paper Sec. 3, below Eq. 4; exact, not expanded.
    """
    _check_norm(norm_squared)
    gain = _gain(process, t, norm_squared)
    m = process.alpha(t) * curie_weiss(gain - 1)
    broken = m.where(gain > 1, math.nan)
    symmetric = torch.zeros_like(m).where(gain <= 1, math.nan)
    return torch.stack([-broken, symmetric, broken], dim=-1)


def reduced_equation(
    process: Process, times: Float[Tensor, " time"], m0: float, norm_squared: float, convention: Convention = "score"
) -> Float[Tensor, " time"]:
    r"""Integrate the reduced equation $\dot m = -g^2 r\,m - u\,m^3$ in reverse time, $\dot m = -dm/dt$.

    The exact score along mu, times g^2 and to cubic order, has

    $$ r = \frac{1}{\sigma^2} - \frac{\alpha^2|\mu|^2}{\sigma^4}, \qquad u = g^2\frac{\alpha^4|\mu|^6}{3\sigma^8}, $$

    which is the paper's form (`score`). Eq. 2 has another term, $-\frac{\beta}{2}x$, that Eq. 4 leaves out: it adds
    $+\frac{\beta}{2}m$ on the right (`sde`; nothing for VE). The expansion holds while $\alpha|\mu|^2 m/\sigma^2$ is
    small: its equilibrium $\sqrt{-r g^2/u}$ follows the exact one near the critical time only, and falls again below.

    Args:
        process: Any process.
        times: At least two falling times, in the process's own unit.
        m0: Value of m at the first time.
        norm_squared: Squared norm |mu|^2 of a prototype.
        convention: `score` for Eq. 4 as printed; `sde` or `ode` for the whole drift of that name, to cubic order.

    Returns:
        m at each time, float64; integrated to a relative error of about 1e-9.

    Raises:
        ValueError: If the times are not positive and falling, or `norm_squared` is not positive and finite.
        RuntimeError: If the integration fails.

    Source: paper Eq. 4.
    """
    _check_norm(norm_squared)
    if len(times) < 2 or not bool((times.diff() < 0).all()) or not bool(times[-1] > 0):
        raise ValueError(f"times: got {times.tolist()[:4]}...; expected at least two falling times above 0")

    def velocity(t: float, m: Array) -> Array:
        a, c = (float(value) for value in process.drift(t, convention))
        # along the score itself Eq. 4 climbs g^2 s in reverse time, which is -g^2 s in t
        rate = -(float(process.diffusion(t)) ** 2) if convention == "score" else 1.0
        z = norm_squared * float(process.alpha(t)) / float(process.sigma(t)) ** 2 * m
        return rate * (a * m + c * (z - z**3 / 3))

    grid = times.double().numpy()
    solution = solve_ivp(velocity, (grid[0], grid[-1]), [m0], method="LSODA", t_eval=grid, rtol=1e-10, atol=1e-14)
    if not solution.success:
        raise RuntimeError(f"reduced_equation: {solution.message}")
    return torch.from_numpy(solution.y[0])


class Exponent(NamedTuple):
    """Slope of a log-log fit, with the standard error of the regression."""

    slope: float
    stderr: float


def fit_exponent(process: Process, norm_squared: float, distances: Float[Tensor, " point"]) -> Exponent:
    r"""Fit the exponent of the order parameter, $m_+ \propto (1 - t/t_c)^{1/2}$, on the exact branch.

    Args:
        process: VP with any schedule, or VE.
        norm_squared: Squared norm |mu|^2 of a prototype.
        distances: Reduced distances 1 - t/t_c below the critical time, at least three, between 0 and 1.

    Returns:
        Slope of log m_+ against log distance, and its standard error. The points carry no noise: the error measures the
        curvature within the window, and both it and slope - 1/2 vanish in proportion to the largest distance.

    Raises:
        ValueError: If there are fewer than three distances or one is not between 0 and 1.

    Source: paper Sec. 3, below Eq. 4 (exponent 1/2).
    """
    if len(distances) < 3 or not bool(((distances > 0) & (distances < 1)).all()):
        raise ValueError(f"distances: got {distances.tolist()[:4]}...; expected at least three, between 0 and 1")
    distances = distances.double()
    m = equilibria(process, critical_time(process, norm_squared) * (1 - distances), norm_squared)[:, 2]
    fit = linregress(distances.log().numpy(), m.log().numpy())
    return Exponent(float(fit.slope), float(fit.stderr))


def branch_amplitude(process: Process, norm_squared: float) -> float:
    r"""Return the amplitude A of the branch near the critical time, $m_+ = A\,(1 - t/t_c)^{1/2}$.

    $A = \alpha\sqrt{3 g^2 t_c}/\sigma$ at t_c, from $m_+ = \alpha\sqrt{3(G-1)}$ and $d\log G/dt = -g^2/\sigma^2$.

    Args:
        process: VP with any schedule, or VE.
        norm_squared: Squared norm |mu|^2 of a prototype.

    Returns:
        Amplitude A (dimensionless: m counts prototypes).

    Raises:
        ValueError: If `norm_squared` is not positive and finite, or the process is neither VP nor VE.

    Source: paper Sec. 3, below Eq. 4, with the prefactor.
    """
    t_c = critical_time(process, norm_squared)
    rate = process.diffusion(t_c) / process.sigma(t_c)
    return float(process.alpha(t_c) * rate * math.sqrt(3 * t_c))


def _gain(process: Process, t: Time, norm_squared: float) -> Tensor:
    """Return the gain along mu at x = 0, |mu|^2 over the squared EDM noise level."""
    return norm_squared / process.noise_level(t).square()


def _check_norm(norm_squared: float) -> None:
    if not 0 < norm_squared < math.inf:
        raise ValueError(f"norm_squared: got {norm_squared:g}; expected a positive finite |mu|^2")


def _z_coth_z_minus_one(w: Tensor) -> Tensor:
    """Return z coth z - 1 at w = z^2 by Lambert's continued fraction w / (3 + w / (5 + ...)), free of cancellation."""
    h = torch.zeros_like(w)
    # from 31 on it is exact to rounding up to z = 21, where tanh is 1
    for odd in range(41, 1, -2):
        h = w / (odd + h)
    return h
