r"""Ginzburg-Landau theory of the patch models at tree level (Sec. 6, 6.1, App. A), in the coordinates of any process.

Around x = 0 the local score, and what it becomes for slow fields, are

$$ s_i = -\frac{x_i}{\sigma^2} + \frac{\alpha^2}{\sigma^4}\sum_u C_{0u}\,x_{i+u} + O(x^3)
\;\to\; -r\,\phi + \kappa\nabla^2\phi - u\,\phi^3, \qquad r + \kappa k^2 = \frac{1 - G_k}{\sigma^2} + O(k^4), $$

with C_0u the posterior covariance of the centre with the offset u: 1 in the two-state model, which is given by its
receptive field alone.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.beta import Time
from softmode.exact.dictionary import PatchDictionary, two_state_dictionary
from softmode.exact.patch import dense_kernels, periodic_correlation
from softmode.formulas import bifurcation
from softmode.lattice import ReceptiveField
from softmode.process import Process

Source = ReceptiveField | PatchDictionary


@dataclass(frozen=True)
class GinzburgLandau:
    r"""Coefficients of $\mathcal H = \int\frac r2\phi^2 + \frac\kappa2(\nabla\phi)^2 + \frac u4\phi^4$, each [*t].

    Args:
        r: Mass, per unit of x squared.
        kappa: Stiffness, r's unit times a squared length (lattice spacings).
        u: Coefficient of the cubic force; negative where the uniform transition would be discontinuous.

    Source: paper Eqs. 15-17.
    """

    r: Float[Tensor, "*t"]
    kappa: Float[Tensor, "*t"]
    u: Float[Tensor, "*t"]


def ginzburg_landau(process: Process, t: Time, source: Source) -> GinzburgLandau:
    r"""Return the tree-level coefficients of a patch model around x = 0.

    $$ r = \frac{1}{\sigma^2} - \frac{\alpha^2}{\sigma^4}\sum_u C_{0u}, \qquad
    \kappa = \frac{\alpha^2}{\sigma^4}\sum_u C_{0u}\frac{|u|^2}{2d}, \qquad
    u = \frac{\alpha^4}{6\sigma^8}\left(3\langle cP\rangle\langle P^2\rangle - \langle cP^3\rangle\right) $$

    with c = p(0) and $P = \sum_u p(u)$, averaged over the posterior at x = 0. For two states the sums are |Omega| and
    c_Omega, and u has $|\Omega|^3/3$: Eqs. 15-17.

    Args:
        process: Any process.
        t: Times, in the process's own unit.
        source: Receptive field of the two-state model, or a dictionary with exact Z2 symmetry.

    Returns:
        r, kappa and u, each [*t]; kappa is the isotropic part of `kappa_tensor`.

    Raises:
        ValueError: If a dictionary is not Z2 symmetric.

    Source: paper Eqs. 15-17; for a dictionary the same expansion of Eqs. 54-57.
    """
    dictionary = _dictionary(source)
    weights = dictionary.at_zero(process.noise_level(t))
    centre, total = dictionary.centre, dictionary.patterns.sum(1)
    linear = weights @ (centre * total)
    cubic = (3 * linear * (weights @ total.square()) - weights @ (centre * total.pow(3))) / 6
    coupling = strength(process, t)
    stiffness = kappa_tensor(process, t, source)
    return GinzburgLandau(
        r=1 / process.sigma(t).square() - coupling * linear,
        kappa=stiffness.diagonal(dim1=-2, dim2=-1).mean(-1),
        u=coupling.square() * cubic,
    )


def kappa_tensor(process: Process, t: Time, source: Source) -> Float[Tensor, "*t d d"]:
    r"""Return the stiffness tensor of a patch model around x = 0.

    $\kappa_{\mu\nu} = \frac{\alpha^2}{2\sigma^4}\sum_u C_{0u}\,u_\mu u_\nu$.

    Args:
        process: Any process.
        t: Times, in the process's own unit.
        source: Receptive field of the two-state model, or a dictionary with exact Z2 symmetry.

    Returns:
        [*t, d, d]; the restoring force is $r + \sum_{\mu\nu}\kappa_{\mu\nu}k_\mu k_\nu + O(k^4)$.

    Raises:
        ValueError: If a dictionary is not Z2 symmetric.

    Source: paper Eq. 16 before the average over directions.
    """
    dictionary = _dictionary(source)
    u = dictionary.receptive_field.tensor()
    moment = 0.5 * torch.einsum("...o,om,on->...mn", _covariance(process, t, dictionary), u, u)
    return strength(process, t)[..., None, None] * moment


def critical_time(process: Process, omega: float) -> float:
    r"""Return the time at which r = 0, where the EDM noise level is $\sqrt{|\Omega|}$.

    For VP $\int_0^{t_c}\beta = \log(1 + |\Omega|)$.

    Args:
        process: VP with any schedule, or VE.
        omega: |Omega|, or Omega_eff of a dictionary whose patterns have equal norms.

    Returns:
        Time in the process's own unit; NaN if omega <= 0 (the uniform mode never softens) or beyond a custom schedule.

    Raises:
        ValueError: If omega is not finite.

    Source: paper Eqs. 18-22.
    """
    _check_omega(omega)
    return bifurcation.critical_time(process, omega) if omega > 0 else math.nan


def drift_critical_time(process: Process, omega: float, convention: Literal["sde", "ode"] = "sde") -> float:
    r"""Return the time at which the uniform mode's eigenvalue of a reverse drift vanishes at x = 0.

    It is another time than r = 0. For the VP SDE $\int_0^t\beta = \operatorname{asinh}|\Omega|$, or
    $\alpha^2 = \sqrt{|\Omega|^2+1} - |\Omega|$. The VP flow expands the mode from variance 1 to |Omega|, and has a
    zero, $\sigma^2 = |\Omega|$, only for |Omega| < 1. For VE both are `critical_time`.

    Args:
        process: VP with any schedule, or VE.
        omega: |Omega|, or Omega_eff of a dictionary whose patterns have equal norms.
        convention: The reverse SDE of Eq. 58, or the probability-flow ODE.

    Returns:
        Time in the process's own unit; NaN where there is no zero.

    Raises:
        ValueError: If omega is not finite.

    Source: paper Eqs. 2 and 58 at x = 0; see `bifurcation.drift_critical_time`.
    """
    _check_omega(omega)
    return bifurcation.drift_critical_time(process, omega, convention) if omega > 0 else math.nan


def mean_field_branch(process: Process, t: Time, omega: float) -> Float[Tensor, "*t"]:
    r"""Return the uniform stationary field of the two-state model.

    $m = \alpha\tanh(\alpha|\Omega|m/\sigma^2)$, its root $m \ge 0$.

    Args:
        process: Any process.
        t: Times, in the process's own unit.
        omega: |Omega|.

    Returns:
        m in the process's coordinates, [*t]; 0 at and above the critical time.

    Raises:
        ValueError: If omega is not finite.

    Source: paper Sec. 6, the mean-field equation.
    """
    _check_omega(omega)
    return process.alpha(t) * bifurcation.curie_weiss(omega / process.noise_level(t).square() - 1)


def effective_coupling(process: Process, t: Time, omega: float) -> Float[Tensor, "*t"]:
    r"""Return the two-state model's coupling on its mean-field branch.

    $J_{\mathrm{eff}} = \frac{\alpha^2}{\sigma^4}\,\mathrm{sech}^2(\alpha|\Omega|m/\sigma^2)$. At and above the critical
    time m = 0, and it is $J_{\mathrm{sym}} = \alpha^2/\sigma^4$, which Sec. 6 misprints as alpha/sigma^4.

    Args:
        process: Any process.
        t: Times above 0, in the process's own unit.
        omega: |Omega|.

    Returns:
        Couplings [*t].

    Raises:
        ValueError: If omega is not finite.

    Source: paper Sec. 6, below Eq. 10.
    """
    m = mean_field_branch(process, t, omega)
    argument = process.alpha(t) * omega * m / process.sigma(t).square()
    return strength(process, t) * argument.cosh().pow(-2)


def quadratic_hamiltonian(
    x: Float[Tensor, "batch 1 *space"], process: Process, t: float, source: Source
) -> Float[Tensor, " batch"]:
    r"""Return the quadratic Hamiltonian of each state.

    $\mathcal H_2 = \frac{1}{2\sigma^2}\sum_i x_i^2 - \frac{\alpha^2}{2\sigma^4}\sum_i x_i\sum_u C_{0u}\,x_{i+u}$.
    Minus its gradient is the linearised score if Omega and C_0u are even in u, else only the symmetric part of it.

    Args:
        x: States in the process's coordinates, on a periodic lattice.
        process: Any process.
        t: One time for all states, in the process's own unit.
        source: Receptive field of the two-state model, or a dictionary with exact Z2 symmetry.

    Returns:
        [batch].

    Raises:
        ValueError: If a dictionary is not Z2 symmetric, or the receptive field does not fit the lattice.

    Source: paper Sec. 6, below Eq. 10, with J_sym = alpha^2 / sigma^4.
    """
    dictionary = _dictionary(source)
    field = dictionary.receptive_field
    couplings = float(strength(process, t)) * _covariance(process, t, dictionary)[None]
    pull = periodic_correlation(x, dense_kernels(couplings, field).to(x), field)
    return 0.5 * (x * (x / float(process.sigma(t)) ** 2 - pull)).flatten(1).sum(1)


def dispersion(process: Process, t: Time, source: Source, k: Float[Tensor, "*k d"]) -> Float[Tensor, "*t_and_k"]:
    r"""Return the score's restoring force on each wave at x = 0, per unit of x.

    $\frac{1-G_k}{\sigma^2} = \frac{1}{\sigma^2} - \frac{\alpha^2}{\sigma^4}\,\mathrm{Re}\sum_u C_{0u}\,e^{ik\cdot u}$.

    Args:
        process: Any process.
        t: Times, in the process's own unit.
        source: Receptive field of the two-state model, or a dictionary with exact Z2 symmetry.
        k: Wave vectors [*k, d], radians per site; any, not only those of a lattice.

    Returns:
        [*t, *k]; a mode is soft at 0 and grows where it is negative.

    Raises:
        ValueError: If a dictionary is not Z2 symmetric.

    Source: paper Eq. 7 and App. A, exact in k.
    """
    dictionary = _dictionary(source)
    couplings = strength(process, t)[..., None] * _covariance(process, t, dictionary)
    return _restoring(process, t, dictionary.receptive_field, couplings, k)


def branch_dispersion(
    process: Process, t: Time, receptive_field: ReceptiveField, k: Float[Tensor, "*k d"]
) -> Float[Tensor, "*t_and_k"]:
    r"""Return the two-state model's restoring force on each wave around its mean-field branch, per unit of x.

    $\frac{1}{\sigma^2} - J_{\mathrm{eff}}\,\mathrm{Re}\sum_u e^{ik\cdot u}$.

    Args:
        process: Any process.
        t: Times above 0, in the process's own unit.
        receptive_field: Omega.
        k: Wave vectors [*k, d], radians per site.

    Returns:
        [*t, *k]; equal to `dispersion` at and above the critical time.

    Source: paper Eq. 7 with J_eff of Sec. 6.
    """
    coupling = effective_coupling(process, t, float(receptive_field.size))
    couplings = coupling[..., None].expand(*coupling.shape, receptive_field.size)
    return _restoring(process, t, receptive_field, couplings, k)


def mean_field_length(coefficients: GinzburgLandau) -> Float[Tensor, "*t"]:
    r"""Return the tree-level correlation length $\xi = \sqrt{\kappa/r}$ (lattice spacings), [*t]; NaN where r <= 0.

    Source: paper Sec. 6.1, the length that diverges as r falls to 0.
    """
    return (coefficients.kappa / coefficients.r).sqrt().where(coefficients.r > 0, math.nan)


def _check_omega(omega: float) -> None:
    if not math.isfinite(omega):
        raise ValueError(f"omega: got {omega:g}; expected a finite |Omega| or Omega_eff")


def strength(process: Process, t: Time) -> Tensor:
    """Return alpha^2 / sigma^4, by which a covariance enters the score."""
    return (process.alpha(t) / process.sigma(t).square()).square()


def _dictionary(source: Source) -> PatchDictionary:
    if isinstance(source, ReceptiveField):
        return two_state_dictionary(source)
    if not source.is_symmetric():
        raise ValueError("source: got a dictionary without Z2 symmetry; expected p and -p equally likely, for every p")
    return source


def _covariance(process: Process, t: Time, dictionary: PatchDictionary) -> Float[Tensor, "*t omega"]:
    """Return C_0u, the posterior covariance of the centre with each offset at x = 0."""
    return (dictionary.at_zero(process.noise_level(t)) * dictionary.centre) @ dictionary.patterns


def _restoring(process: Process, t: Time, field: ReceptiveField, couplings: Tensor, k: Tensor) -> Tensor:
    free = 1 / process.sigma(t).square()
    return free.reshape(*free.shape, *[1] * (k.ndim - 1)) - field.transform(k, couplings).real
