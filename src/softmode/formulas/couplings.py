r"""Do the coefficients of a soft sector fit one order parameter, or do they compete? The measures of C.5.

One order parameter of one component has one U; one of m equal components has an M and a K
that commute, and the isotropic
$U^0_{abcd} \propto \delta_{ab}\delta_{cd} + \delta_{ac}\delta_{bd} + \delta_{ad}\delta_{bc}$.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

# directions from which extremes are looked for, beside the modes themselves, and steps of the search
STARTS, STEPS = 64, 300
# size of a traceless part, relative to the whole, below which a matrix is one number
ONE_NUMBER = 1e-9

Matrix = Float[Tensor, "*batch a a"]
Quartic = Float[Tensor, "*batch a a a a"]


def commutation_defect(mass: Matrix, stiffness: Matrix) -> Float[Tensor, "*batch"]:
    r"""Return how far two symmetric matrices are from having their modes in common, 0 to 1.

    $\lVert MK - KM\rVert / (\sqrt2\,\lVert M_0\rVert\,\lVert K_0\rVert)$ of their traceless parts.

    Args:
        mass: M.
        stiffness: K.

    Returns:
        NaN where either is a multiple of the identity, which commutes with all, and of one mode alone.

    Source: paper C.4 and C.5; the bound of boettcher2008.
    """
    free = [_traceless(each) for each in (mass, stiffness)]
    norms = [each.flatten(-2).norm(dim=-1) for each in free]
    defect = (mass @ stiffness - stiffness @ mass).flatten(-2).norm(dim=-1) / (math.sqrt(2) * norms[0] * norms[1])
    many = torch.ones_like(defect, dtype=torch.bool)
    for whole, norm in zip((mass, stiffness), norms, strict=True):
        many &= norm > ONE_NUMBER * whole.flatten(-2).norm(dim=-1)
    return torch.where(many, defect, math.nan)


def isotropic_part(quartic: Quartic) -> Quartic:
    r"""Return the multiple of $U^0$ that is nearest to a symmetric tensor.

    Args:
        quartic: U, symmetric in all of its indices.

    Source: paper C.5, the clean case, for an order parameter of as many components as there are modes.
    """
    one = torch.eye(quartic.shape[-1], dtype=quartic.dtype, device=quartic.device)
    pairs = torch.einsum("ab,cd->abcd", one, one)
    form = pairs + pairs.transpose(1, 2) + pairs.transpose(1, 3)
    factor = (quartic * form).flatten(-4).sum(-1) / form.square().sum()
    return factor[..., None, None, None, None] * form


def departure(quartic: Quartic) -> Float[Tensor, "*batch"]:
    """Return how far a symmetric tensor is from the isotropic form, as a share of its norm: 0 for one mode alone.

    Args:
        quartic: U, symmetric in all of its indices.

    Source: paper C.5.
    """
    rest = (quartic - isotropic_part(quartic)).flatten(-4).norm(dim=-1)
    return rest / quartic.flatten(-4).norm(dim=-1)


def extremes(quartic: Quartic) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    r"""Return the least and the largest value of $U_{abcd}\,q_a q_b q_c q_d$ over directions |q| = 1.

    Where both signs occur some combinations of the modes are not held at fourth order.

    Args:
        quartic: U, symmetric in all of its indices.

    Source: the shifted power method of kolda2011, from many directions.
    """
    count = quartic.shape[-1]
    stream = torch.Generator().manual_seed(0)
    others = torch.randn(STARTS, count, generator=stream, dtype=torch.float64)
    starts = torch.cat([torch.eye(count, dtype=torch.float64), others]).to(quartic)
    flat = quartic.reshape(-1, *quartic.shape[-4:])
    # enough to make each step go uphill
    shift = 3 * flat.flatten(1).norm(dim=1)[:, None, None]
    found = []
    for sign in (-1, 1):
        q = starts / starts.norm(dim=1, keepdim=True)
        q = q.expand(len(flat), *q.shape)
        for _ in range(STEPS):
            q = sign * torch.einsum("zabcd,zsb,zsc,zsd->zsa", flat, q, q, q) + shift * q
            q = q / q.norm(dim=2, keepdim=True).clamp(min=torch.finfo(q.dtype).tiny)
        values = sign * torch.einsum("zabcd,zsa,zsb,zsc,zsd->zs", flat, q, q, q, q)
        found.append((sign * values.amax(1)).reshape(quartic.shape[:-4]))
    return found[0], found[1]


def _traceless(matrix: Matrix) -> Matrix:
    one = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    trace = matrix.diagonal(dim1=-2, dim2=-1).mean(-1)
    return matrix - trace[..., None, None] * one
