r"""The softest modes of a denoiser at a state: top eigenvectors of its symmetrised Jacobian, wherever they point.

$p_\sigma$ is log-concave where no eigenvalue of $dD/dx = 1 + \sigma^2\nabla\nabla\log p_\sigma$ exceeds 1. A state
whose top eigenvalue does is unstable, in whichever mode: the paper's r = 0 without a choice of modes.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.lattice import Lattice
from softmode.observe.lanczos import Products, Vectors, generic, lanczos, lanczos_all, unit
from softmode.per_state import of_rows


class Softest(NamedTuple):
    """The softest modes at each state of a batch.

    Args:
        values: Eigenvalues of (J + J^T) / 2, J = dD/dx, in falling order.
        modes: Their unit eigenvectors.
        residuals: Norm of what is left of each eigenvalue equation.
        antisymmetric: |(J - J^T) u| / 2 for the first mode u, which is 0 for an exact score.
        steps: Products with J and with its transpose that each state took.
    """

    values: Float[Tensor, "batch pair"]
    modes: Float[Tensor, "batch pair channel *space"]
    residuals: Float[Tensor, "batch pair"]
    antisymmetric: Float[Tensor, " batch"]
    steps: Int[Tensor, " batch"]


def softest_modes(
    denoiser: Denoiser,
    x: Float[Tensor, "batch channel *space"],
    sigma: Tensor | float,
    start: Float[Tensor, "batch channel *space"],
    count: int = 1,
    most: int = 40,
    tolerance: float = 3e-3,
    multiple: bool = False,
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
        tolerance: Residual, relative to the eigenvalue where that exceeds 1, at which a mode is good enough.
        multiple: Whether all modes must be good enough, and each eigenvalue is to come as often as it occurs, as those
            of a pair of waves do; one search more at least. Else the first mode alone must.
    """

    def of_those(left: Int[Tensor, " left"]) -> Products:
        noise = sigma[left] if isinstance(sigma, Tensor) and sigma.ndim else sigma
        return jacobians(of_rows(denoiser, left), x[left], noise)

    first = start.flatten(1)
    # a guess that is a mode itself, but not the softest, would find no other
    first = unit(first, generic(first, 0)) + 0.1 * generic(first, 0)
    found = (lanczos_all if multiple else lanczos)(of_those, first, count, most, tolerance)
    modes = found.vectors.unflatten(2, x.shape[1:])
    return Softest(found.values, modes, found.residuals, found.antisymmetric, found.steps)


def jacobians(denoiser: Denoiser, x: Float[Tensor, "batch channel *space"], sigma: Tensor | float) -> Products:
    """Return what multiplies vectors with the Jacobian of D at each state, and with its transpose.

    Args:
        denoiser: Any denoiser that automatic differentiation can go through, forward and backward.
        x: States in EDM coordinates.
        sigma: Noise level, scalar or [batch].
    """
    forward, backward = linear_maps(denoiser, x, sigma)
    return lambda v: (forward(v), backward(v))


def linear_maps(
    denoiser: Denoiser, x: Float[Tensor, "batch channel *space"], sigma: Tensor | float
) -> tuple[Callable[[Vectors], Vectors], Callable[[Vectors], Vectors]]:
    """Return what multiplies vectors with the Jacobian of D at each state, and what does with its transpose.

    Args:
        denoiser: Any denoiser that automatic differentiation can go through, forward and backward.
        x: States in EDM coordinates.
        sigma: Noise level, scalar or [batch].
    """

    def of_states(z: Tensor) -> Tensor:
        return denoiser(z, sigma)

    transposed = torch.func.vjp(of_states, x)[1]

    def forward(v: Vectors) -> Vectors:
        with torch.no_grad():  # a graph of the derivative itself would take a fifth longer
            product: Tensor = torch.func.jvp(of_states, (x,), (v.to(x.dtype).reshape(x.shape),))[1]
        return product.flatten(1).to(v)

    def backward(v: Vectors) -> Vectors:
        (product,) = transposed(v.to(x.dtype).reshape(x.shape))
        # the weights of a network may still be trained
        return product.detach().flatten(1).to(v)

    return forward, backward


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


def star(
    modes: Float[Tensor, "batch pair channel *space"],
) -> tuple[Int[Tensor, "batch pair axis"], Float[Tensor, "batch pair"]]:
    """Return the strongest wave of modes, and how much of them lies in all waves that are equivalent to it.

    Equivalent are those with components of either sign and, on sides of equal length, in any order: the star of a wave
    vector. Modes of one star are the components of one order parameter.

    Args:
        modes: Modes.

    Returns:
        The wave vectors in units of the lowest, no component below 0, sorted where sides are equal; shares from 0 to 1.
    """
    sides = modes.shape[3:]
    axes = tuple(range(3, modes.ndim))
    power = torch.fft.fftn(modes, dim=axes).abs().square().sum(2).flatten(2)
    lattice = Lattice(sides)
    k = (lattice.wave_vectors().abs() / torch.tensor(lattice.k_min)).round().long().flatten(0, -2)
    if len(set(sides)) == 1:
        k = k.sort(1).values
    kinds, place = torch.unique(k, dim=0, return_inverse=True)
    shares = power.new_zeros(*power.shape[:2], len(kinds)).index_add_(2, place.to(power.device), power)
    strongest = power.argmax(2).cpu()
    share = shares.gather(2, place[strongest][..., None].to(power.device))[..., 0]
    return k[strongest], share / power.sum(2)


def wavenumber(modes: Float[Tensor, "batch channel *space"]) -> Float[Tensor, " batch"]:
    """Return the rms wavenumber of modes, in radians per site: 0 for a constant one."""
    axes = tuple(range(2, modes.ndim))
    power = torch.fft.fftn(modes, dim=axes).abs().square().sum(1)
    square = Lattice.of(modes).wave_vectors().square().sum(-1).to(power)
    return ((power * square).flatten(1).sum(1) / power.flatten(1).sum(1)).sqrt()
