r"""The theory of a soft sector: how its modes' slow amplitudes are pulled, stiffened and coupled (Supp. C).

Around a state the score of fields $\sum_a q_a(r)\,\varphi^a(r)$, with fields $\varphi^a$ of mean square 1, is minus
the gradient of

$$ \sum_r \tfrac12 q_a M_{ab} q_b + \tfrac12 \partial_\mu q_a K_{ab}^{\mu\nu} \partial_\nu q_b
+ \tfrac1{4!} U_{abcd}\,q_a q_b q_c q_d $$

as far as it is a gradient. The two-state model has M = r, $K^{\mu\nu} = \kappa\delta^{\mu\nu}$ and U = 6u of Eqs. 15
to 17 (in the coordinates of a process: M and K divided by $\alpha^2$, U by $\alpha^4$).
"""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from softmode.denoiser import Denoiser, per_sample
from softmode.lattice import Lattice
from softmode.observe.expansion import expansion

States = Float[Tensor, "batch channel *space"]
Modes = Float[Tensor, "batch mode channel *space"]
# in units of the lowest along each axis
Wave = Int[np.ndarray, " d"]


class Stiffness(NamedTuple):
    """How much stiffer modes are when their amplitudes vary slowly in space.

    Args:
        value: K_ab along the axes mu and nu, extrapolated to infinite wavelength.
        error: How much of it the extrapolation is, about what it may be wrong by.
    """

    value: Float[Tensor, "batch a b mu nu"]
    error: Float[Tensor, "batch a b mu nu"]


class Sector(NamedTuple):
    """The coefficients of a soft sector at every state.

    Args:
        mass: M_ab, symmetric.
        skew: The antisymmetric part of M_ab, 0 for an exact score.
        stiffness: K_ab, and its error.
        quartic: U_abcd, symmetric in all of its indices.
        quartic_error: What U may be wrong by.
        uneven: Norm of what of the cubic response is no gradient's, as a share of all of it; 0 for an exact score.
    """

    mass: Float[Tensor, "batch a b"]
    skew: Float[Tensor, "batch a b"]
    stiffness: Stiffness
    quartic: Float[Tensor, "batch a b c d"]
    quartic_error: Float[Tensor, "batch a b c d"]
    uneven: Float[Tensor, " batch"]


def sector(denoiser: Denoiser, x: States, sigma: Tensor | float, modes: Modes) -> Sector:
    """Return the coefficients of the theory of some modes' amplitudes.

    Args:
        denoiser: Any denoiser that forward-mode automatic differentiation can go through.
        x: States in EDM coordinates.
        sigma: Noise level, scalar or [batch].
        modes: Orthonormal fields of each state.

    Source: paper C.5, measured as in Eq. 14 at any state.
    """
    sites = Lattice.of(x).sites
    found = expansion(denoiser, x, sigma, modes)
    cubic = found.symmetric_cubic
    rest, whole = (each.flatten(1).norm(dim=1) for each in (found.cubic - cubic, found.cubic))
    return Sector(
        -(found.linear + found.linear.mT) / 2,
        -(found.linear - found.linear.mT) / 2,
        stiffness(denoiser, x, sigma, modes),
        -sites * cubic,
        sites * found.error,
        rest / whole,
    )


def evaluations(modes: int, dimensions: int) -> int:
    """Return the evaluations of one state that `sector` takes; a product with the Jacobian counts as two.

    Args:
        modes: Number of modes.
        dimensions: Axes of the lattice.
    """
    products = modes + 4 * math.comb(modes + 2, 3) + 4 * math.comb(modes, 3)
    # of modes alone, and modes times the cosine and the sine of each wave of two lengths
    products += modes * (2 + 4 * dimensions**2)
    return 2 * products


def stiffness(denoiser: Denoiser, x: States, sigma: Tensor | float, modes: Modes) -> Stiffness:
    r"""Return the stiffness of modes, from the pull on modes whose amplitudes are the two lowest waves.

    The pull on $\varphi^a e^{iq\cdot r}$ is $M_{ab} + \sum_{\mu\nu} K_{ab}^{\mu\nu} q_\mu q_\nu + O(q^4)$; the part of
    fourth order is taken out with twice the wave vectors.

    Args:
        denoiser: Any denoiser that forward-mode automatic differentiation can go through.
        x: States in EDM coordinates, of sides of 4 or more.
        sigma: Noise level, scalar or [batch].
        modes: Orthonormal fields of each state.

    Raises:
        ValueError: If a side is less than 4, so that twice the lowest wave is no wave of its own.

    Source: paper C.5.
    """
    lattice = Lattice.of(x)
    if min(lattice.shape) < 4:
        raise ValueError(f"x: got sides {lattice.shape}; expected at least 4, for two waves of different length")
    pull = partial(_pull, denoiser, x, sigma, modes)
    near, far = (_second_order(pull, lattice, n) for n in (1, 2))
    return Stiffness((4 * near - far) / 3, (near - far).abs() / 3)


def _second_order(pull: Callable[[Wave], Tensor], lattice: Lattice, n: int) -> Float[Tensor, "batch a b mu nu"]:
    """Return the stiffness by waves of n times the lowest ones."""
    axes, units = lattice.dimensions, (n * np.eye(lattice.dimensions, dtype=int))
    q, still = [n * k for k in lattice.k_min], pull(np.zeros(axes, dtype=int))
    found = still.new_zeros(*still.shape, axes, axes)
    for mu in range(axes):
        found[..., mu, mu] = (pull(units[mu]) - still) / q[mu] ** 2
    for mu, nu in itertools.combinations(range(axes), 2):
        across = pull(units[mu] + units[nu]) - pull(units[mu] - units[nu])
        found[..., mu, nu] = found[..., nu, mu] = across / (4 * q[mu] * q[nu])
    return found


def _pull(denoiser: Denoiser, x: States, sigma: Tensor | float, modes: Modes, wave: Wave) -> Float[Tensor, "batch a b"]:
    """Return minus the score's linear response between modes times a wave, given in units of the lowest waves."""
    phase = Lattice.of(x).phase(wave.tolist()).to(x)
    variance = per_sample(sigma, x).to(x.dtype).flatten(1).square()[:, :, None]
    total = x.new_zeros(len(x), modes.shape[1], modes.shape[1])
    for amplitude in (phase.cos(), phase.sin()) if wave.any() else (phase.cos(),):
        fields = modes * amplitude
        with torch.no_grad():
            answers = [
                torch.func.jvp(lambda z: denoiser(z, sigma), (x,), (v.contiguous(),))[1] for v in fields.unbind(1)
            ]
        moved = fields - torch.stack(answers, 1)
        total += torch.einsum("bas,bcs->bac", fields.flatten(2), moved.flatten(2))
    return (total + total.mT) / (2 * variance)
