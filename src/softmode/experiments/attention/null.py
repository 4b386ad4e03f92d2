"""The Wiener null of a model's data: the linear denoiser of their covariance, sent through the same split."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.estimate import jackknife
from softmode.exact.wiener import covariance, shrunk_covariance, stationary_covariance, wiener
from softmode.observe.nonlocality import split, symmetrised

# fewest images whose covariance is better than their spectrum, and groups that give its error
FEWEST, GROUPS = 10, 5
# standard errors that are added to the null's strongest eigenvalue
ERRORS = 2.0


@dataclass(frozen=True, eq=False)
class Null:
    """The data of one class, as far as a linear denoiser knows them.

    Args:
        shape: Shape of a state.
        radius: Radius of the split (sites).
        images: Data of a state's sides, or of a tile's; None where there are too few.
        spectrum: Their power spectrum on a state's sides, where there are no images; None where it is not known.
    """

    shape: tuple[int, ...]
    radius: float
    images: Tensor | None
    spectrum: Tensor | None

    def matrix(self, sigma: float, images: Tensor | None = None) -> Float[Tensor, "entry entry"] | None:
        """Return the linear denoiser's Jacobian, float64; tiles know nothing of each other.

        Args:
            sigma: Noise level.
            images: Data in place of all.
        """
        images = self.images if images is None else images
        if images is not None:
            own = tuple(images.shape[1:])
            average = split(covariance(images), own, self.radius).average
            return wiener(_tiled(shrunk_covariance(images, average), own, self.shape), sigma)
        return None if self.spectrum is None else wiener(stationary_covariance(self.spectrum, self.shape[0]), sigma)

    def edge(self, sigma: float) -> float:
        """Return the largest size of an eigenvalue of its long-range rest, and two standard errors; NaN of no null."""
        if self.images is None:
            return math.nan if self.spectrum is None else 0.0
        images, group = self.images, torch.arange(len(self.images)) % GROUPS
        found = jackknife(GROUPS, lambda keep: self._strongest(sigma, images[torch.from_numpy(keep)[group]]))
        return found.value + ERRORS * found.stderr

    def _strongest(self, sigma: float, images: Tensor) -> float:
        matrix = self.matrix(sigma, images)
        assert matrix is not None
        far = symmetrised(split(matrix, self.shape, self.radius).far)
        return float(torch.linalg.eigvalsh(far).abs().max())


def _tiled(
    covariance: Float[Tensor, "entry entry"], tile: tuple[int, ...], shape: tuple[int, ...]
) -> Float[Tensor, "state state"]:
    """Return the covariance of independent tiles side by side."""
    if tile == shape:
        return covariance
    at = torch.meshgrid(*map(torch.arange, shape), indexing="ij")
    inside, which = torch.zeros(2, *shape, dtype=torch.long).unbind(0)
    for axis, own in zip(at, tile, strict=True):
        inside = inside * own + axis % own
        which = which * (int(axis.max()) // own + 1) + axis // own
    inside, which = inside.flatten(), which.flatten()
    return covariance[inside][:, inside] * (which[:, None] == which)
