r"""A denoiser's Jacobian taken apart: what moves with the site, a rest of bounded range, and a long-range rest.

A translation-invariant linear response is diagonal in Fourier space, whatever its range. What is left of
$J = dD/dx$ at a state without it is the coupling of particular places, and its part beyond a radius that of distant
ones. Everything here is of one dense matrix on a periodic lattice.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from softmode.denoiser import Denoiser
from softmode.lattice import Lattice

# entries of D(x) whose gradients are taken at once: more of them leave the cache
ROWS = 16
# independent draws of signs whose largest eigenvalue is the edge of noise
DRAWS = 2
# steps of filling in what lies within the radius, and the change at which it has settled, in units of the edge
MOST_STEPS, SETTLED = 300, 1e-4

# rows and columns are the entries of a flattened field [channel, *space]
Matrix = Float[Tensor, "entry entry"]


def dense_jacobian(denoiser: Denoiser, x: Float[Tensor, "1 channel *space"], sigma: Tensor | float) -> Matrix:
    """Return dD/dx at one state, row by row: entry (i, j) is the response at i to a push at j.

    Args:
        denoiser: Any denoiser that automatic differentiation can go through backward.
        x: One state in EDM coordinates.
        sigma: Noise level.
    """
    # torch's fused attention has no gradients of many outputs at once
    with sdpa_kernel(SDPBackend.MATH):
        transposed = torch.func.vjp(lambda z: denoiser(z, sigma), x)[1]
        unit = torch.eye(x.numel(), dtype=x.dtype, device=x.device).reshape(-1, *x.shape)
        rows = [torch.vmap(lambda v: transposed(v)[0])(some).detach().flatten(1) for some in unit.split(ROWS)]
    return torch.cat(rows)


class Split(NamedTuple):
    """A matrix as a sum of three that are orthogonal to one another in the sense of Frobenius.

    Attributes:
        average: Its mean over translations, the same from every site.
        near: What else couples sites up to a radius apart.
        far: What else couples sites farther apart.
    """

    average: Matrix
    near: Matrix
    far: Matrix


def split(matrix: Matrix, shape: Sequence[int], radius: float) -> Split:
    r"""Split a matrix into its translation average and a rest within and beyond a radius.

    The average is $T_{cc'}(r) = \frac1N\sum_i J_{(c,i),(c',i+r)}$, periodic, and J - T has mean 0 at every r.

    Args:
        matrix: The matrix, such as a Jacobian.
        shape: Shape of the field that it acts on, (channel, *space).
        radius: Minimal-image distance up to which sites are near (sites).

    Source: paper D.2, of which T is the part that is the same everywhere.
    """
    places, blocks = displacements(shape[1:]).to(matrix.device), _by_channel(matrix, shape)
    average = torch.stack([kernel[places] for kernel in _kernels(blocks, places)])
    rest, within = blocks - average, distances(shape[1:]).to(matrix.device) <= radius
    parts = average, rest * within, rest * ~within
    return Split(*(_flat(part, shape[0]) for part in parts))


def displacements(space: Sequence[int]) -> Int[Tensor, "site site"]:
    """Return the periodic displacement j - i of every pair of sites, as the index of a site seen from the origin."""
    at = torch.cartesian_prod(*map(torch.arange, space)).reshape(-1, len(space))
    index = torch.zeros(len(at), len(at), dtype=torch.long)
    for side, axis in zip(space, at.T, strict=True):
        index = index * side + (axis - axis[:, None]) % side
    return index


def distances(space: Sequence[int]) -> Float[Tensor, "site site"]:
    """Return the minimal-image distance of every pair of sites (sites)."""
    return Lattice(tuple(space)).distances().flatten()[displacements(space)]


def power_by_distance(matrix: Matrix, shape: Sequence[int]) -> Float[Tensor, " distance"]:
    """Return the sum of squared entries at every minimal-image distance, rounded: 0, 1, ... to the farthest.

    Args:
        matrix: The matrix.
        shape: Shape of the field that it acts on, (channel, *space).
    """
    bins = distances(shape[1:]).round().long().to(matrix.device)
    power = _by_channel(matrix, shape).double().square().sum(0)
    return torch.zeros(int(bins.max()) + 1, dtype=power.dtype, device=power.device).index_add(
        0, bins.flatten(), power.flatten()
    )


def uniform_coupling(average: Matrix, shape: Sequence[int], radius: float) -> Float[Tensor, ""]:
    r"""Return $\sum_{|r|>R}T(r)$, by which all distant sites together move one: the mean-field coupling.

    It is the gain of the constant mode, all channels alike, through what is beyond the radius: the rest has none.

    Args:
        average: `Split.average`.
        shape: Shape of the field that it acts on, (channel, *space).
        radius: Radius (sites).

    Source: paper D.4, the coupling of $Q = \\int q$.
    """
    beyond = (distances(shape[1:]) > radius).to(average.device)
    return (_by_channel(average, shape) * beyond).sum() / len(average)


class FarSpectrum(NamedTuple):
    r"""The spectrum of the symmetric part of a long-range rest, as it is, with nothing inside the radius.

    Attributes:
        strongest: Largest size of an eigenvalue.
        rank: Effective rank, $(\sum_\alpha s_\alpha^2)^2/\sum_\alpha s_\alpha^4$ of its singular values; NaN of
            nothing.
        edge: Largest size of an eigenvalue when the signs of all entries are drawn at random.
        vectors: Unit vectors of the strongest eigenvalues, in falling order of their size.
    """

    strongest: Float[Tensor, ""]
    rank: Float[Tensor, ""]
    edge: Float[Tensor, ""]
    vectors: Float[Tensor, "pair entry"]


def far_spectrum(far: Matrix, count: int, generator: torch.Generator) -> FarSpectrum:
    """Return the spectrum of a long-range rest, and the edge of noise.

    A matrix of independent entries of the same sizes has its eigenvalues within the edge: what is beyond is order
    between them.

    Args:
        far: `Split.far`.
        count: How many vectors; the size of the matrix where that is less.
        generator: Draws the signs, on the CPU.

    Source: paper D.3; marchenko1967 for the edge of independent entries.
    """
    symmetric = symmetrised(far)
    values, vectors = torch.linalg.eigh(symmetric)
    order = values.abs().argsort(descending=True, stable=True)[:count]
    square = values.square()
    rank = square.sum().square() / square.square().sum()
    edge = torch.stack([_edge(symmetric, generator) for _ in range(DRAWS)]).max()
    return FarSpectrum(values[order[0]].abs(), rank, edge, vectors.T[order])


def _edge(symmetric: Matrix, generator: torch.Generator) -> Float[Tensor, ""]:
    signs = torch.randint(2, symmetric.shape, generator=generator, dtype=torch.int8).to(symmetric) * 2 - 1
    # of which the lower triangle alone is read
    return torch.linalg.eigvalsh(symmetric * signs).abs().max()


class FarModes(NamedTuple):
    r"""Couplings of low rank between any two sites, $\sum_\alpha\gamma_\alpha u^{(\alpha)}u^{(\alpha)T}$.

    Attributes:
        values: $\gamma_\alpha$ of those beyond the edge.
        vectors: Their unit vectors $u^{(\alpha)}$.
    """

    values: Float[Tensor, " pair"]
    vectors: Float[Tensor, "pair entry"]


def far_modes(far: Matrix, shape: Sequence[int], radius: float, edge: float, start: FarSpectrum) -> FarModes:
    r"""Return the couplings of low rank behind a long-range rest, as many as are stronger than an edge.

    A coupling of low rank does not stop at the radius, where the rest does: what lies within is filled in by the
    couplings themselves, $B = \arg\min\frac12\|F - P_{far}B\|^2 + \epsilon\|B\|_*$ with edge $\epsilon$. Without that
    the hole would leave eigenvalues of the other sign. The strengths are then fitted without the penalty.

    Args:
        far: F, `Split.far`; its symmetric part is taken.
        shape: Shape of the field that it acts on, (channel, *space).
        radius: Radius of the split (sites).
        edge: Least strength, above 0.
        start: Spectrum of F; as many modes as it has vectors are found at most.

    Source: paper D.3; mazumder2010 for the completion.
    """
    symmetric = symmetrised(far)
    hole = (distances(shape[1:]) <= radius).to(far.device).repeat(shape[0], shape[0])
    basis, kept = start.vectors.T, symmetric.new_zeros(len(start.vectors))
    for _ in range(MOST_STEPS):
        filled = symmetric + hole * (basis * kept @ basis.T)
        basis = torch.linalg.qr(filled @ basis).Q
        values, turned = torch.linalg.eigh(basis.T @ filled @ basis)
        basis, before = basis @ turned, kept
        kept = values.sign() * (values.abs() - edge).clamp(min=0)
        if float((kept - before).abs().max()) < SETTLED * edge:
            break
    beyond = kept != 0
    vectors = basis.T[beyond]
    # least squares over distant pairs; products of matrices alone, which add up in the same order wherever they lie
    products = (vectors[:, None] * vectors).flatten(0, 1)
    gram = ((products @ (~hole).to(symmetric)) * products).sum(1).reshape(len(vectors), len(vectors))
    found = torch.linalg.solve(gram, ((vectors @ symmetric) * vectors).sum(1))
    order = found.abs().argsort(descending=True, stable=True)
    return FarModes(found[order], vectors[order])


def symmetrised(matrix: Matrix) -> Matrix:
    """Return (A + A^T) / 2 in float64."""
    wide = matrix.double()
    return (wide + wide.T) / 2


def coherence(vectors: Float[Tensor, "pair entry"], channels: int) -> Float[Tensor, " pair"]:
    r"""Return $\frac1N\sum_c|\sum_i u_{ci}|^2$ of unit vectors: 1 where every site moves alike, 1/N at random.

    Args:
        vectors: Unit vectors on flattened fields [channel, *space].
        channels: Number of channels.

    Source: paper D.3, coherent feature directions.
    """
    fields = vectors.unflatten(1, (channels, -1))
    return fields.sum(2).square().sum(1) / fields.shape[2]


def shares(parts: Sequence[Matrix]) -> Float[Tensor, " part"]:
    r"""Return $\langle P_a, P\rangle/\|P\|_F^2$ of the parts of a sum $P = \sum_a P_a$: they add up to 1; NaN of 0.

    Args:
        parts: Matrices, which need not be orthogonal: a share is negative where a part works against the others.
    """
    whole = torch.stack([part.double() for part in parts]).sum(0)
    return torch.stack([(part.double() * whole).sum() for part in parts]) / whole.square().sum()


def _by_channel(matrix: Matrix, shape: Sequence[int]) -> Float[Tensor, "pair site site"]:
    """Return the blocks of every pair of channels."""
    channels = shape[0]
    return matrix.reshape(channels, -1, channels, len(matrix) // channels).transpose(1, 2).flatten(0, 1)


def _flat(blocks: Float[Tensor, "pair site site"], channels: int) -> Matrix:
    """Undo `_by_channel`."""
    return blocks.unflatten(0, (channels, channels)).transpose(1, 2).flatten(0, 1).flatten(1)


def _kernels(blocks: Float[Tensor, "pair site site"], places: Int[Tensor, "site site"]) -> Float[Tensor, "pair site"]:
    """Return the mean of each block over pairs of sites at every displacement, added up in float64."""
    sites = blocks.shape[1]
    rows = torch.arange(sites, device=places.device)[:, None]
    # row i sorted by displacement: every displacement comes once
    moved = torch.empty_like(places).scatter_(1, places, rows.T.expand_as(places))
    return torch.stack([block.gather(1, moved).double().mean(0) for block in blocks]).to(blocks)
