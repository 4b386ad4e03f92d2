r"""The softest modes of a denoiser at a state: top eigenvectors of its symmetrised Jacobian, wherever they point.

$p_\sigma$ is log-concave where no eigenvalue of $dD/dx = 1 + \sigma^2\nabla\nabla\log p_\sigma$ exceeds 1. A state
whose top eigenvalue does is unstable, in whichever mode: the paper's r = 0 without a choice of modes.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.lattice import Lattice

Vectors = Float[Tensor, "batch site"]
Apply = Callable[[Vectors], Vectors]


class Eigenpairs(NamedTuple):
    """The largest eigenvalues of a symmetric operator for each of a batch, in falling order.

    Args:
        values: Eigenvalues.
        vectors: Unit eigenvectors.
        residuals: |A u - value u|: an eigenvalue lies within that of each value.
        steps: Products with the operator that it took.
    """

    values: Float[Tensor, "batch pair"]
    vectors: Float[Tensor, "batch pair site"]
    residuals: Float[Tensor, "batch pair"]
    steps: int


class Softest(NamedTuple):
    """The softest modes at each state of a batch.

    Args:
        values: Eigenvalues of (J + J^T) / 2, J = dD/dx, in falling order.
        modes: Their unit eigenvectors.
        residuals: Norm of what is left of each eigenvalue equation.
        antisymmetric: |(J - J^T) u| / 2 for the first mode u, which is 0 for an exact score.
        steps: Products with J and with its transpose that it took.
    """

    values: Float[Tensor, "batch pair"]
    modes: Float[Tensor, "batch pair channel *space"]
    residuals: Float[Tensor, "batch pair"]
    antisymmetric: Float[Tensor, " batch"]
    steps: int


def softest_modes(
    denoiser: Denoiser,
    x: Float[Tensor, "batch channel *space"],
    sigma: Tensor | float,
    start: Float[Tensor, "batch channel *space"],
    count: int = 1,
    most: int = 40,
    tolerance: float = 3e-3,
) -> Softest:
    """Return the softest modes of states by Lanczos, from products with the Jacobian and with its transpose.

    Args:
        denoiser: Any denoiser that automatic differentiation can go through, forward and backward.
        x: States in EDM coordinates.
        sigma: Noise level, scalar or [batch].
        start: First guess of the softest mode, such as that at the noise level before, or a random field; a tenth of a
            fixed field is added.
        count: How many modes.
        most: Most products.
        tolerance: Residual, relative to the eigenvalue where that exceeds 1, at which the first mode is good enough.
    """
    shape = x.shape

    def of_states(z: Tensor) -> Tensor:
        return denoiser(z, sigma)

    transposed = torch.func.vjp(of_states, x)[1]

    def products(v: Vectors) -> tuple[Tensor, Tensor]:
        field = v.to(x.dtype).reshape(shape)
        with torch.no_grad():  # a graph of the derivative itself would take a fifth longer
            forward: Tensor = torch.func.jvp(of_states, (x,), (field,))[1]
        (backward,) = transposed(field)
        # the weights of a network may still be trained
        return forward.flatten(1).to(v), backward.detach().flatten(1).to(v)

    def symmetric(v: Vectors) -> Vectors:
        forward, backward = products(v)
        return (forward + backward) / 2

    first = start.flatten(1)
    # a guess that is a mode itself, but not the softest, would find no other
    first = _unit(first, _generic(first, 0)) + 0.1 * _generic(first, 0)
    found = lanczos(symmetric, first, count, most, tolerance)
    forward, backward = products(found.vectors[:, 0])
    antisymmetric = torch.linalg.vector_norm(forward - backward, dim=1) / 2
    modes = found.vectors.unflatten(2, shape[1:])
    return Softest(found.values, modes, found.residuals, antisymmetric, found.steps)


def gain_along(
    denoiser: Denoiser,
    x: Float[Tensor, "batch channel *space"],
    sigma: Tensor | float,
    direction: Float[Tensor, "channel *space"],
) -> Float[Tensor, " batch"]:
    """Return v.(dD/dx)v of every state, along one unit direction v for all of them."""
    push = direction.expand_as(x)
    with torch.no_grad():
        answer: Tensor = torch.func.jvp(lambda z: denoiser(z, sigma), (x,), (push,))[1]
    return (answer * push).flatten(1).sum(1)


def lanczos(apply: Apply, start: Vectors, count: int, most: int, tolerance: float) -> Eigenpairs:
    """Return the largest eigenvalues of a symmetric operator, of a batch of independent ones at once.

    Every new direction is made orthogonal to all before it, twice, so that no eigenvalue comes as a ghost. Where the
    directions close, the search goes on along a fixed one across them.

    Args:
        apply: Product with the operator of each of the batch.
        start: First direction of each.
        count: How many eigenvalues.
        most: Most products; the size of the operator where that is less.
        tolerance: Residual of the first eigenvalue, relative to it where it exceeds 1, at which to stop.

    Source: lanczos1950, with full reorthogonalisation.
    """
    batch, sites = start.shape
    most = min(most, sites)
    basis = [_unit(start, start.new_ones(batch, sites))]
    diagonal, beside = list[Tensor](), list[Tensor]()
    while True:
        image = apply(basis[-1])
        diagonal.append((image * basis[-1]).sum(1))
        known = torch.stack(basis, 1)
        rest = _across(image, known)
        norm = torch.linalg.vector_norm(rest, dim=1)
        values, small = torch.linalg.eigh(_tridiagonal(diagonal, beside))
        values, small = values.flip(1), small.flip(2)
        residuals = norm.double()[:, None] * small[:, -1].abs()
        good = residuals[:, 0] <= tolerance * values[:, 0].abs().clamp(min=1)
        steps = len(basis)
        if steps == most or (steps >= count and bool(good.all())):
            vectors = torch.einsum("bjs,bjp->bps", known.double(), small[:, :, :count])
            return Eigenpairs(values[:, :count], vectors.to(start), residuals[:, :count], steps)
        scale = torch.stack(diagonal).abs().amax(0).clamp(min=torch.finfo(start.dtype).tiny)
        closed = norm <= 10 * torch.finfo(start.dtype).eps * scale
        beside.append(torch.where(closed, torch.zeros_like(norm), norm))
        other = _generic(start, steps)
        basis.append(_unit(torch.where(closed[:, None], _across(other, known), rest), other))


def participation(modes: Float[Tensor, "batch pair channel *space"]) -> Float[Tensor, "batch pair"]:
    r"""Return over how many sites a mode extends, $(\sum_i p_i)^2/\sum_i p_i^2$ of its weights $p_i = |u_i|^2$.

    Args:
        modes: Modes; the weight of a site is that of all its channels.

    Source: the participation ratio of Anderson localisation, bell1970.
    """
    weights = modes.square().sum(2).flatten(2)
    return weights.sum(-1).square() / weights.square().sum(-1)


def overlap(
    modes: Float[Tensor, "batch channel *space"], others: Float[Tensor, "batch channel *space"]
) -> Float[Tensor, " batch"]:
    """Return |u . v| of unit modes: 1 for the same mode, up to its sign."""
    return (modes * others).flatten(1).sum(1).abs()


def wavenumber(modes: Float[Tensor, "batch channel *space"]) -> Float[Tensor, " batch"]:
    """Return the rms wavenumber of modes, in radians per site: 0 for a constant one."""
    axes = tuple(range(2, modes.ndim))
    power = torch.fft.fftn(modes, dim=axes).abs().square().sum(1)
    square = Lattice.of(modes).wave_vectors().square().sum(-1).to(power)
    return ((power * square).flatten(1).sum(1) / power.flatten(1).sum(1)).sqrt()


def _generic(like: Vectors, index: int) -> Vectors:
    """Return unit vectors with a part along every mode, others for every index."""
    site = torch.arange(1, like.shape[1] + 1, dtype=torch.float64)
    found = torch.cos(index + site.square() * math.sqrt(2 + index))
    return (found / found.norm()).to(like).expand_as(like)


def _tridiagonal(diagonal: list[Tensor], beside: list[Tensor]) -> Tensor:
    found = torch.diag_embed(torch.stack(diagonal, 1).double())
    if beside:
        edge = torch.stack(beside, 1).double()
        found = found + torch.diag_embed(edge, 1) + torch.diag_embed(edge, -1)
    return found


def _across(v: Vectors, known: Float[Tensor, "batch known site"]) -> Vectors:
    """Return what of vectors is orthogonal to known directions."""
    for _ in range(2):
        v = v - torch.einsum("bks,bk->bs", known, torch.einsum("bks,bs->bk", known, v))
    return v


def _unit(v: Vectors, otherwise: Vectors) -> Vectors:
    """Return vectors of norm 1, in the direction of others where they vanish."""
    norm = torch.linalg.vector_norm(v, dim=1, keepdim=True)
    found = torch.where(norm > 0, v, otherwise)
    return found / torch.where(norm > 0, norm, torch.linalg.vector_norm(otherwise, dim=1, keepdim=True))
