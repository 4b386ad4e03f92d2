r"""Local patch scores in closed form: the two-state model (Eq. 9) and any dictionary with a prior (Eqs. 54-57).

In EDM coordinates the posterior of pattern $p_k$ at site i is $w_k(i) \propto \pi_k\exp(\langle p_k,
x_{\Omega_i}\rangle/\sigma^2 - |p_k|^2/2\sigma^2)$, the denoiser is $D_i = \sum_k w_k(i)\,p_k(0)$ and its Jacobian row
the posterior covariance $\partial D_i/\partial x_{i+u} = \frac{1}{\sigma^2}\sum_k w_k(i)\,(p_k(0) - D_i)\,p_k(u)$.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from softmode.denoiser import per_sample
from softmode.exact.dictionary import PatchDictionary
from softmode.lattice import ReceptiveField

# largest number of values (patterns x sites x batch) held at once, which bounds memory on large lattices
CHUNK = 2**22


def dense_kernels(kernels: Float[Tensor, "kernel omega"], field: ReceptiveField) -> Float[Tensor, "kernel 1 *extent"]:
    """Return kernels on Omega, [kernel, |Omega|], laid out in the field's enclosing box with zeros elsewhere."""
    dense = kernels.new_zeros(kernels.shape[0], 1, *field.extent)
    index = field.tensor().long() + torch.tensor([below for below, _ in field.reach])
    where: tuple[slice | int | Tensor, ...] = (slice(None), 0, *index.unbind(1))
    dense[where] = kernels
    return dense


def periodic_correlation(
    x: Float[Tensor, "batch channel *space"],
    dense: Float[Tensor, "kernel channel *extent"],
    field: ReceptiveField,
    bias: Float[Tensor, " kernel"] | None = None,
) -> Float[Tensor, "batch kernel *space"]:
    r"""Return $y_a(i) = b_a + \sum_{u\in\Omega} k_a(u)\,x_{i+u}$ with periodic boundaries, without unfolding the field.

    Args:
        x: Fields [batch, channel, *space]; results of several channels are added up.
        dense: Kernels laid out by `dense_kernels`, in the dtype and on the device of x.
        field: Receptive field Omega; it must fit the lattice.
        bias: Constant b_a added to each result, [kernel].
    """
    field.check_fits(x.shape[2:])
    padding = [side for reach in reversed(field.reach) for side in reach]
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[field.dimensions - 1]
    return convolve(functional.pad(x, padding, mode="circular"), dense, bias)


class _Constants(NamedTuple):
    """A dictionary's constants in the dtype and on the device of the states."""

    dense: Tensor
    log_prior: Tensor
    centre: Tensor
    readout: Tensor
    norms: Tensor | None


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # or a later call that differentiates could not use what is cached
def _constants(dictionary: PatchDictionary, dtype: torch.dtype, device: torch.device) -> _Constants:
    norms = dictionary.patterns.square().sum(1)
    equal = torch.allclose(norms, norms[0], rtol=1e-12, atol=0)
    centre = dictionary.centre.to(device, dtype)
    return _Constants(
        dense_kernels(dictionary.patterns, dictionary.receptive_field).to(device, dtype),
        dictionary.prior.log().to(device, dtype),
        centre,
        torch.stack([centre, torch.ones_like(centre)]),
        None if equal else (norms - norms.min()).to(device),
    )


@dataclass(frozen=True, eq=False)
class TwoStatePatch:
    r"""Patch model of the two constant images, $D_i = \tanh(S_i(x)/\sigma^2)$ with $S_i = \sum_{u\in\Omega} x_{i+u}$.

    Args:
        receptive_field: Omega.

    Source: paper Eq. 9.
    """

    receptive_field: ReceptiveField

    def _sum(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        scale = per_sample(sigma, x).to(x.dtype)
        ones = dense_kernels(x.new_ones(1, self.receptive_field.size), self.receptive_field)
        return periodic_correlation(x / scale, ones, self.receptive_field) / scale

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x_0 | x_Omega] at every site, of the shape of x."""
        return self._sum(x, sigma).tanh()

    def jvp(self, x: Tensor, sigma: Tensor | float, v: Tensor) -> Tensor:
        r"""Return $\mathrm{sech}^2(S_i/\sigma^2)\,S_i(v)/\sigma^2$, of the shape of x."""
        return self._sum(x, sigma).cosh().pow(-2) * self._sum(v.expand_as(x), sigma)

    def kernel(self, x: Tensor, sigma: Tensor | float) -> Float[Tensor, "batch omega"]:
        """Return the site-averaged Jacobian row, [batch, |Omega|] in float64."""
        slope = self._sum(x, sigma).double().cosh().pow(-2).flatten(1).mean(1, keepdim=True)
        return (slope / per_sample(sigma, slope).square()).expand(-1, self.receptive_field.size)

    def dispersion(self, x: Tensor, sigma: Tensor | float, k: Tensor) -> Tensor:
        """Return the phase-averaged gain at wave vectors k [..., d], [batch, ...] in float64."""
        return self.receptive_field.transform(k.to(x.device), self.kernel(x, sigma)).real


@dataclass(frozen=True, eq=False)
class PatchDenoiser:
    """Patch model of any dictionary with a prior, on periodic lattices of any size.

    Args:
        dictionary: Patterns on a receptive field, with their probabilities.

    Source: paper Eqs. 54-57.
    """

    dictionary: PatchDictionary

    @property
    def receptive_field(self) -> ReceptiveField:
        """Omega of the dictionary."""
        return self.dictionary.receptive_field

    def posterior(self, x: Tensor, sigma: Tensor | float) -> Float[Tensor, "batch pattern *space"]:
        """Return the posterior probability w_k(i) of each pattern at each site, [batch, pattern, *space].

        Source: paper Eqs. 54 and 55.
        """
        weights = self._weights(x, sigma)
        return (weights / weights.sum(1, keepdim=True)).reshape(*weights.shape[:2], *x.shape[2:])

    def _weights(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return the posterior up to a factor per site, [batch, pattern, sites]; the largest weight at a site is 1.

        A fused kernel would replace this function and the two lines that normalise it in `_mean`.
        """
        constants = _constants(self.dictionary, x.dtype, x.device)
        scale = per_sample(sigma, x)
        scaled = x * scale.pow(-2).to(x.dtype)
        logits = periodic_correlation(scaled, constants.dense, self.receptive_field, constants.log_prior).flatten(2)
        if constants.norms is not None:
            logits -= (constants.norms / (2 * scale.flatten(1).square())).to(x.dtype)[:, :, None]
        logits -= logits.detach().amax(1, keepdim=True)  # detached, or autograd refuses the update in place
        # below this weights vanish anyway, and exp of still smaller numbers is many times slower
        return logits.clamp_(min=math.log(torch.finfo(x.dtype).tiny) + 1).exp_()

    def _mean(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        weights = self._weights(x, sigma)
        total = _constants(self.dictionary, x.dtype, x.device).readout @ weights
        return (total[:, 0] / total[:, 1]).reshape(x.shape)

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x_0 | x_Omega] at every site, of the shape of x.

        Source: paper Eq. 56.
        """
        means = [self._mean(*part) for part in self._parts(x, sigma)]
        return means[0] if len(means) == 1 else torch.cat(means)

    def jvp(self, x: Tensor, sigma: Tensor | float, v: Tensor) -> Tensor:
        r"""Return $\frac{1}{\sigma^2}\sum_k w_k(i)\,(p_k(0) - D_i)\,(p_k\star v)_i$, of the shape of x."""
        constants = _constants(self.dictionary, x.dtype, x.device)
        posterior = self.posterior(x, sigma)
        centre = constants.centre.reshape(1, -1, *[1] * (x.ndim - 2))
        centred = centre - (posterior * centre).sum(1, keepdim=True)
        response = posterior * centred * periodic_correlation(v.expand_as(x), constants.dense, self.receptive_field)
        return response.sum(1, keepdim=True) / per_sample(sigma, x).square().to(x.dtype)

    def kernel(self, x: Tensor, sigma: Tensor | float) -> Float[Tensor, "batch omega"]:
        r"""Return the site-averaged Jacobian row $K(u)$, [batch, |Omega|] in float64.

        $K(u) = \frac1N\sum_i \partial D_i/\partial x_{i+u}$ is computed as
        $K(u) = \frac{1}{\sigma^2}\sum_{kj} O_{kj}\,(p_k(0) - p_j(0))\,p_k(u)$ with $O_{kj}$ the site average of $w_k
        w_j$, a form that loses no digits where one pattern has won.
        """
        return torch.cat([self._kernel(*part) for part in self._parts(x, sigma)])

    def _kernel(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        weights = self._weights(x, sigma)
        weights = weights / weights.sum(1, keepdim=True)
        overlap = (weights @ weights.mT).double() / weights.shape[-1]
        centre = self.dictionary.centre.to(overlap)
        coefficient = (overlap * (centre[:, None] - centre)).sum(-1)
        return coefficient @ self.dictionary.patterns.to(overlap) / per_sample(sigma, coefficient).square()

    def dispersion(self, x: Tensor, sigma: Tensor | float, k: Tensor) -> Tensor:
        """Return the phase-averaged gain at wave vectors k [..., d], [batch, ...] in float64."""
        return self.receptive_field.transform(k.to(x.device), self.kernel(x, sigma)).real

    def _parts(self, x: Tensor, sigma: Tensor | float) -> list[tuple[Tensor, Tensor]]:
        """Split a batch so that the weights of one part hold about CHUNK values."""
        size = max(1, CHUNK // (self.dictionary.prior.numel() * math.prod(x.shape[1:])))
        if len(x) <= size:
            return [(x, torch.as_tensor(sigma, dtype=torch.float64))]
        levels = per_sample(sigma, x).flatten().expand(x.shape[0])
        return list(zip(x.split(size), levels.split(size), strict=True))


def full_dispersion(
    denoiser: TwoStatePatch | PatchDenoiser, x: Tensor, sigma: Tensor | float
) -> Float[Tensor, "batch *space"]:
    """Return the gain at every wave vector of the lattice by one FFT of the site-averaged kernel, [batch, *space].

    Args:
        denoiser: A patch model.
        x: States [batch, 1, *space].
        sigma: Noise level, scalar or [batch].

    Returns:
        Gains in the order of `torch.fft.fftn`, float64.

    Source: paper Eq. 7 and the line below it.
    """
    field = denoiser.receptive_field
    kernel = denoiser.kernel(x, sigma)
    dense = kernel.new_zeros(x.shape[0], *x.shape[2:])
    where: tuple[slice | Tensor, ...] = (slice(None), *field.tensor().long().to(x.device).unbind(1))
    dense[where] = kernel
    return torch.fft.fftn(dense, dim=tuple(range(1, dense.ndim))).real
