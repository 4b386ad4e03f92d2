"""Lanczos' method for the symmetric parts of a batch of matrices, of which products alone are known."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

Vectors = Float[Tensor, "batch site"]
Nodes = Float[Tensor, "batch node"]
# gives A v and A^T v of a matrix A of its own for each of a batch
Products = Callable[[Vectors], tuple[Vectors, Vectors]]
# share of a batch still at work below which those that are done are dropped: setting up the rest costs half a product
FEWER = 0.75


class Eigenpairs(NamedTuple):
    """The largest eigenvalues of the symmetric part of a matrix for each of a batch, in falling order.

    Args:
        values: Eigenvalues of (A + A^T) / 2.
        vectors: Unit eigenvectors u.
        residuals: |(A + A^T) u / 2 - value u|: an eigenvalue lies within that of each value.
        antisymmetric: |(A - A^T) u| / 2 for the first of them.
        steps: Products with A and with A^T that each took.
    """

    values: Float[Tensor, "batch pair"]
    vectors: Float[Tensor, "batch pair site"]
    residuals: Float[Tensor, "batch pair"]
    antisymmetric: Float[Tensor, " batch"]
    steps: Int[Tensor, " batch"]


def lanczos(
    products: Callable[[Int[Tensor, " left"]], Products],
    start: Vectors,
    count: int,
    most: int,
    tolerance: float,
    sure: int = 1,
) -> Eigenpairs:
    """Return the largest eigenvalues of the symmetric parts of a batch of matrices.

    Every new direction is made orthogonal to all before it, twice, so that no eigenvalue comes as a ghost. Where the
    directions close, the search goes on along a fixed one across them. What is found of one does not depend on the
    others of its batch: it is kept as it is when it is good enough, and those that are done are dropped.

    Args:
        products: Gives the products with the matrices of some of the batch, by their places.
        start: First direction of each.
        count: How many eigenvalues; the size of a matrix where that is less.
        most: Most products; the size of a matrix where that is less.
        tolerance: Residual of an eigenvalue, relative to it where it exceeds 1, at which it is good enough.
        sure: How many of the eigenvalues must be good enough.

    Source: lanczos1950, with full reorthogonalisation.
    """
    batch, sites = start.shape
    most, count = min(most, sites), min(count, most, sites)
    left, pending = torch.arange(batch, device=start.device), start.new_ones(batch, dtype=torch.bool)
    basis, skew = unit(start, torch.ones_like(start))[:, None], start.new_empty(batch, 0, sites)
    diagonal, beside = start.new_empty(2, batch, 0).double()
    values, residuals = start.new_empty(2, batch, count).double()
    found = Eigenpairs(
        values, start.new_empty(batch, count, sites), residuals, start.new_empty(batch), torch.zeros_like(left)
    )
    both = products(left)
    while True:
        forward, backward = both(basis[:, -1])
        image, skew = (forward + backward) / 2, _append(skew, (forward - backward) / 2)
        diagonal = _append(diagonal, (image * basis[:, -1]).sum(1).double())
        (rest, norm), steps = _onward(image, basis, diagonal), basis.shape[1]
        ritz, small = torch.linalg.eigh(_tridiagonal(diagonal, beside))
        ritz, small = ritz.flip(1)[:, :count], small.flip(2)[:, :, :count]
        wrong = norm.double()[:, None] * small[:, -1].abs()
        good = (wrong[:, :sure] <= tolerance * ritz[:, :sure].abs().clamp(min=1)).all(1)
        done = pending & (good | (steps == most)) & (steps >= count)
        if bool(done.any()):
            place, parts = left[done], small[done]
            found.values[place], found.residuals[place], found.steps[place] = ritz[done], wrong[done], steps
            found.vectors[place] = torch.einsum("bjs,bjp->bps", basis[done].double(), parts).to(start)
            turned = torch.einsum("bjs,bj->bs", skew[done].double(), parts[:, :, 0])
            found.antisymmetric[place] = torch.linalg.vector_norm(turned, dim=1).to(start)
            pending = pending & ~done
            if not pending.any():
                return found
        beside, basis = _append(beside, norm.double()), _append(basis, rest)
        if int(pending.sum()) <= FEWER * len(left):
            left, basis, skew, diagonal, beside = (each[pending] for each in (left, basis, skew, diagonal, beside))
            pending, both = pending[pending], products(left)


def lanczos_all(
    products: Callable[[Int[Tensor, " left"]], Products], start: Vectors, count: int, most: int, tolerance: float
) -> Eigenpairs:
    """Return the largest eigenvalues of the symmetric parts of a batch of matrices, each as often as it occurs.

    Lanczos' method meets one direction of each eigenspace. So it is begun again across all that is known, until nothing
    comes that is larger than the least.

    Args:
        products: Gives the products with the matrices of some of the batch, by their places.
        start: First direction of each.
        count: How many eigenvalues, less than the size of a matrix.
        most: Most products of each search.
        tolerance: Residual of an eigenvalue, relative to it where it exceeds 1, at which it is good enough.
    """
    found = lanczos(products, start, count, most, tolerance, count)
    for turn in range(1, count + 1):  # each finds one more, or no more
        known = found.vectors

        def beyond(left: Int[Tensor, " left"], known: Tensor = known) -> Products:
            both = products(left)

            def deflated(v: Vectors) -> tuple[Vectors, Vectors]:
                forward, backward = both(_across(v, known[left]))
                return _across(forward, known[left]), _across(backward, known[left])

            return deflated

        first = _across(generic(start, turn), known)
        more = lanczos(beyond, first, 1, most, tolerance)
        if bool((more.values[:, 0] <= found.values[:, -1] + more.residuals[:, 0]).all()):
            return found._replace(steps=found.steps + more.steps)
        values = torch.cat([found.values, more.values], 1)
        values, place = (each[:, :count] for each in values.sort(1, descending=True))
        vectors = torch.cat([found.vectors, more.vectors], 1)
        vectors = vectors.gather(1, place[..., None].expand(-1, -1, vectors.shape[2]))
        residuals = torch.cat([found.residuals, more.residuals], 1).gather(1, place)
        found = Eigenpairs(values, vectors, residuals, found.antisymmetric, found.steps + more.steps)
    return found


def quadrature(products: Products, start: Vectors, steps: int) -> tuple[Nodes, Nodes]:
    r"""Return Gauss's quadrature of the spectra of symmetric parts, each weighted by the squared overlaps of a vector.

    $v\cdot f(A)\,v = \sum_j w_j f(\theta_j)$ for unit v, exact for polynomials f up to the order 2 steps - 1.

    Args:
        products: Products with all matrices of the batch.
        start: The vectors v, of any norm above 0.
        steps: Nodes; the size of a matrix where that is less.

    Returns:
        Nodes, rising, and their weights, each [batch, node]; a vector inside few eigenvectors has nodes of weight 0.

    Source: golub1994.
    """
    steps = min(steps, start.shape[1])
    basis = unit(start, torch.ones_like(start))[:, None]
    diagonal, beside = start.new_empty(2, len(start), 0).double()
    while True:
        forward, backward = products(basis[:, -1])
        image = (forward + backward) / 2
        diagonal = _append(diagonal, (image * basis[:, -1]).sum(1).double())
        if basis.shape[1] == steps:
            nodes, vectors = torch.linalg.eigh(_tridiagonal(diagonal, beside))
            return nodes, vectors[:, 0].square()
        rest, norm = _onward(image, basis, diagonal)
        beside, basis = _append(beside, norm.double()), _append(basis, rest)


def _onward(image: Vectors, basis: Tensor, diagonal: Tensor) -> tuple[Vectors, Float[Tensor, " batch"]]:
    """Return the next direction and how far the image reaches into it; another one and 0 where directions close."""
    rest = _across(image, basis)
    norm = torch.linalg.vector_norm(rest, dim=1)
    floor = torch.finfo(image.dtype)
    closed = norm <= 10 * floor.eps * diagonal.abs().amax(1).clamp(min=floor.tiny).to(norm)
    other = generic(rest, basis.shape[1])
    rest = unit(torch.where(closed[:, None], _across(other, basis), rest), other)
    return rest, torch.where(closed, 0, norm)


def generic(like: Vectors, index: int) -> Vectors:
    """Return unit vectors with a part along every mode, others for every index."""
    site = torch.arange(1, like.shape[1] + 1, dtype=torch.float64)
    found = torch.cos(index + site.square() * math.sqrt(2 + index))
    return (found / found.norm()).to(like).expand_as(like)


def _append(known: Tensor, new: Tensor) -> Tensor:
    """Return known [batch, step, ...] with one more step."""
    return torch.cat([known, new[:, None]], 1)


def _tridiagonal(diagonal: Float[Tensor, "batch step"], beside: Float[Tensor, "batch edge"]) -> Tensor:
    return torch.diag_embed(diagonal) + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)


def _across(v: Vectors, known: Float[Tensor, "batch known site"]) -> Vectors:
    """Return what of vectors is orthogonal to known directions."""
    for _ in range(2):
        v = v - torch.einsum("bks,bk->bs", known, torch.einsum("bks,bs->bk", known, v))
    return v


def unit(v: Vectors, otherwise: Vectors) -> Vectors:
    """Return vectors of norm 1, in the direction of others where they vanish."""
    norm = torch.linalg.vector_norm(v, dim=1, keepdim=True)
    found = torch.where(norm > 0, v, otherwise)
    return found / torch.where(norm > 0, norm, torch.linalg.vector_norm(otherwise, dim=1, keepdim=True))
