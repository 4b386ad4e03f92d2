r"""The linear denoiser of data with any covariance, $W = C(C+\sigma^2)^{-1}$: the null model that knows places.

The Gaussian model of a power spectrum couples all places alike. Images have edges and middles, so that the linear
denoiser of their whole covariance has a rest that does not move with the site, without attention or anything else that
is not linear.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.lattice import Lattice
from softmode.message import refusal

Matrix = Float[Tensor, "entry entry"]


def shrunk_covariance(images: Float[Tensor, "image channel *space"], average: Matrix) -> Matrix:
    r"""Return the covariance of images, shrunk to what of it moves with the site, in float64.

    $C = (1-a)S + aT$ of the sample covariance S and its translation average T, with the weight a that makes the
    expected square error of S - T's estimate least, $a = \min(1, \sum\mathrm{Var}[(S-T)_{ij}]/\|S-T\|_F^2)$.

    Args:
        images: Data, at least two.
        average: T, the translation average of `covariance(images)`, which is known much better than S.

    Raises:
        ValueError: If there are fewer than two images.

    Source: schafer2005 (Eq. 8), with the translation average as the target.
    """
    sample, z = covariance(images), _centred(images)
    rest, count, fields = sample - average, len(images), z.reshape(images.shape)
    axes = tuple(range(2, fields.ndim))
    # |z z^T|^2 without its own translation average, which is diagonal in Fourier space
    waves = torch.fft.fftn(fields, dim=axes, norm="ortho").abs().square().sum(1).flatten(1)
    each = z.square().sum(1).square() - waves.square().sum(1)
    spread = (each.sum() / count - rest.square().sum()) / count
    weight = (spread / rest.square().sum()).clamp(0, 1).nan_to_num(1.0)
    return (1 - weight) * sample + weight * average


def covariance(images: Float[Tensor, "image channel *space"]) -> Matrix:
    """Return the unbiased sample covariance of flattened images, in float64.

    Raises:
        ValueError: If there are fewer than two.
    """
    if len(images) < 2:
        raise refusal(f"images: got {len(images)}; expected at least two, a covariance needs them")
    z = _centred(images)
    return z.T @ z / (len(z) - 1)


def stationary_covariance(spectrum: Float[Tensor, "*space"], channels: int = 1) -> Matrix:
    """Return the covariance of a stationary field, independent in each channel.

    Args:
        spectrum: Variance along each unit Fourier mode, in the order of `torch.fft.fftn`.
        channels: Number of channels.
    """
    space = tuple(spectrum.shape)
    delta = torch.eye(Lattice(space).sites, dtype=torch.float64).reshape(-1, *space)
    axes = tuple(range(1, delta.ndim))
    one = torch.fft.ifftn(spectrum.double() * torch.fft.fftn(delta, dim=axes), dim=axes).real.flatten(1)
    return torch.kron(torch.eye(channels, dtype=torch.float64), one)


def wiener(covariance: Matrix, sigma: float) -> Matrix:
    r"""Return the Jacobian of the linear denoiser of data with a covariance, $C(C+\sigma^2)^{-1}$, at every state.

    Args:
        covariance: C.
        sigma: Noise level, above 0.

    Source: Wiener filter.
    """
    total = covariance + sigma**2 * torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    found: Matrix = torch.linalg.solve(total, covariance)
    return found


def _centred(images: Float[Tensor, "image channel *space"]) -> Float[Tensor, "image entry"]:
    wide = images.double()
    return (wide - wide.mean(0)).flatten(1)
