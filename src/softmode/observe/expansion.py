r"""The score of any denoiser around a state to third order: the linear response H and the cubic tensor T (Eq. 14).

In EDM coordinates $s = (D - x)/\sigma^2$, so along unit directions

$$ H_{ab} = \frac{v_a\cdot(dD/dx)\,v_b - v_a\cdot v_b}{\sigma^2}, \qquad
T_{abcd} = \frac{1}{\sigma^2}\,v_a\cdot\frac{d^3D}{dx^3}[v_b, v_c, v_d]. $$

The score of a process is $s_t(x_t) = s(x_t/\alpha)/\alpha$: its H is that of here divided by $\alpha^2$, its T by
$\alpha^4$. Of an exact score, a gradient, both are symmetric in all of their indices; a network's need not be.

dD/dx is exact, by automatic differentiation; its second derivative is a central difference at two steps, extrapolated.
Many a network cannot be differentiated three times.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import Denoiser, per_sample

# the larger of two steps, in noise levels and sixth roots of the rounding error, which balance curvature and rounding
STEP = 1.0


class Expansion(NamedTuple):
    """H and T along directions, at every state.

    Args:
        linear: H_ab; a answers to b.
        cubic: T_abcd, symmetric in b, c and d; a answers.
        error: How much of `cubic` the extrapolation from the smaller step is, about what it may be wrong by.
    """

    linear: Float[Tensor, "batch a b"]
    cubic: Float[Tensor, "batch a b c d"]
    error: Float[Tensor, "batch a b c d"]

    @property
    def symmetric_cubic(self) -> Float[Tensor, "batch a b c d"]:
        """The part of T that an energy can have: its mean over which of the four directions answers."""
        t = self.cubic
        return (t + t.transpose(1, 2) + t.transpose(1, 3) + t.transpose(1, 4)) / 4


def expansion(
    denoiser: Denoiser,
    x: Float[Tensor, "batch channel *space"],
    sigma: Tensor | float,
    directions: Float[Tensor, "each direction channel *space"],
) -> Expansion:
    """Return the score's linear and cubic response along directions.

    For each of the m(m+1)(m+2)/6 ways to choose three directions it takes four products with the Jacobian, and eight
    where all of them differ.

    Args:
        denoiser: Any denoiser that forward-mode automatic differentiation can go through.
        x: States in EDM coordinates.
        sigma: Noise level, scalar or [batch].
        directions: The directions of each state, or one set for all; unit fields where H and T are to be per unit of x.

    Source: paper Eq. 14 and C.1, at any state.
    """
    each = directions.expand(len(x), *directions.shape[1:])
    count, flat = each.shape[1], each.flatten(2)
    level = per_sample(sigma, x).to(x.dtype)
    variance, size = level.flatten(1).square(), STEP * torch.finfo(x.dtype).eps ** (1 / 6)

    def response(state: Tensor, along: Tensor) -> Float[Tensor, "batch answering"]:
        """Return how every direction answers to a push along one."""
        found: Tensor = torch.func.jvp(lambda z: denoiser(z, sigma), (state,), (along.contiguous(),))[1]
        return torch.einsum("bs,bas->ba", found.flatten(1), flat)

    def third(step: float, places: Sequence[int]) -> Tensor:
        """Return the third derivative by a central difference of the first."""
        # a direction that occurs twice is the one to go along: two corners meet in the middle, which is known
        b, c, d = sorted(places, key=places.count, reverse=True)

        def corner(i: int, j: int) -> Tensor:
            return response(x + step * level * (i * each[:, b] + j * each[:, c]), each[:, d])

        middle = 2 * still[:, :, d] if b == c else corner(1, -1) + corner(-1, 1)
        return (corner(1, 1) + corner(-1, -1) - middle) / (4 * step**2 * variance)

    with torch.no_grad():
        still = torch.stack([response(x, v) for v in each.unbind(1)], 2)
        linear = still - flat @ flat.mT
        cubic = x.new_zeros(len(x), count, count, count, count)
        error = torch.zeros_like(cubic)
        for places in itertools.combinations_with_replacement(range(count), 3):
            coarse, fine = third(size, places), third(size / 2, places)
            added = (fine - coarse) / 3
            for b, c, d in set(itertools.permutations(places)):
                cubic[:, :, b, c, d] = (fine + added) / variance
                error[:, :, b, c, d] = added.abs() / variance
    return Expansion(linear / variance[:, :, None], cubic, error)
