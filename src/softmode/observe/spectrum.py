r"""The whole spectrum of a denoiser's symmetrised Jacobian at a state, by stochastic Lanczos quadrature.

For a random field z of unit variance the mean of $z\cdot f(A)\,z$ is the trace of f(A): each such field sees the whole
spectrum through a few products. The spread over fields is the error; how well a field resolves a step has bounds.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.observe.lanczos import quadrature
from softmode.observe.softest import jacobians


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The spectra of (J + J^T) / 2, J = dD/dx, at a batch of states, as seen by random fields.

    Args:
        nodes: Rising nodes of each field's quadrature, [field, batch, node].
        weights: Their weights, which add up to 1.
    """

    nodes: Float[Tensor, "field batch node"]
    weights: Float[Tensor, "field batch node"]

    def mean(self, power: int = 1) -> Float[Tensor, "field batch"]:
        """Return the mean of a power of the eigenvalues; over fields it is unbiased up to the power 2 nodes - 1."""
        return (self.weights * self.nodes**power).sum(-1)

    def share_above(self, level: float) -> tuple[Float[Tensor, "field batch"], Float[Tensor, "field batch"]]:
        """Return the least and the largest share of eigenvalues above a level that each field's quadrature allows.

        Shares are those of the field's own weight; their averages over fields are bounds of the share itself.

        Args:
            level: The level.

        Source: the inequalities of Chebyshev, Markov and Stieltjes for Gauss's quadrature; golub1994.
        """
        above = self.nodes > level
        # the node next to the level on either side may belong to the other one
        count = above.sum(-1, keepdim=True)
        rank = torch.arange(self.nodes.shape[-1], 0, -1)
        least = (self.weights * (rank < count)).sum(-1)
        largest = (self.weights * (rank <= count + 1)).sum(-1)
        return least, largest


def spectrum(
    denoiser: Denoiser,
    x: Float[Tensor, "batch channel *space"],
    sigma: Tensor | float,
    fields: Float[Tensor, "field batch channel *space"],
    nodes: int = 16,
) -> Spectrum:
    """Return the spectra of a denoiser's symmetrised Jacobian at states.

    Args:
        denoiser: Any denoiser that automatic differentiation can go through, forward and backward.
        x: States in EDM coordinates.
        sigma: Noise level, scalar or [batch].
        fields: Independent normal random fields; each takes as many products as there are nodes.
        nodes: Nodes of each field's quadrature.

    Source: ubaru2017.
    """
    products = jacobians(denoiser, x, sigma)
    found = [quadrature(products, field.flatten(1), nodes) for field in fields]
    return Spectrum(torch.stack([each[0] for each in found]), torch.stack([each[1] for each in found]))
