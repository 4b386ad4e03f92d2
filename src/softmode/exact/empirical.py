"""The exact score of a finite data set, its Jacobian, and the two-prototype mixture of Sec. 3."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import per_sample
from softmode.lattice import Lattice


@dataclass(frozen=True, eq=False)
class EmpiricalDenoiser:
    r"""Posterior mean of a finite data set.

    $D = \sum_j w_j x_0^j$ with $w_j \propto \pi_j e^{-|x - x_0^j|^2/2\sigma^2}$.

    Args:
        data: Data points [point, channel, *space].
        prior: Probabilities [point]; equal when omitted.

    Raises:
        ValueError: If the data are not finite or the prior is not a probability vector of that length.

    Source: paper Eq. 1.
    """

    data: Float[Tensor, "point channel *space"]
    prior: Float[Tensor, " point"] | None = None

    def __post_init__(self) -> None:
        if self.data.shape[0] < 1 or not bool(torch.isfinite(self.data).all()):
            raise ValueError(f"data: got shape {tuple(self.data.shape)}; expected at least one point, all finite")
        if self.prior is not None:
            check_prior(self.prior, self.data.shape[0])

    def weights(self, x: Tensor, sigma: Tensor | float) -> Float[Tensor, "batch point"]:
        """Return the posterior probability of each data point, [batch, point].

        Source: paper Eq. 1, w_j.
        """
        data, flat = self.data.to(x).flatten(1), x.flatten(1)
        scale = per_sample(sigma, flat).to(x.dtype)
        # |x|^2 is common to all points; leaving it out keeps the exponent exact when sigma is large
        overlap = (flat / scale) @ data.T - 0.5 * data.square().sum(1) / scale
        logits = overlap / scale
        if self.prior is not None:
            logits = logits + self.prior.to(x).log()
        return logits.softmax(1)

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x_0 | x], of the shape of x."""
        return (self.weights(x, sigma) @ self.data.to(x).flatten(1)).reshape(x.shape)

    def jvp(self, x: Tensor, sigma: Tensor | float, v: Tensor) -> Tensor:
        r"""Return $(dD/dx)\,v = \mathrm{Cov}_w[x_0]\,v/\sigma^2$, of the shape of x."""
        data, weights = self.data.to(x).flatten(1), self.weights(x, sigma)
        overlap = v.expand_as(x).flatten(1) @ data.T
        centred = overlap - (weights * overlap).sum(1, keepdim=True)
        response = ((weights * centred) @ data).reshape(x.shape)
        return response / per_sample(sigma, x).square().to(x.dtype)

    def jacobian(self, x: Tensor, sigma: Tensor | float) -> Float[Tensor, "batch n n"]:
        r"""Return the dense $dD/dx = \mathrm{Cov}_w[x_0]/\sigma^2$, [batch, n, n] over flattened channels and sites."""
        data, weights = self.data.to(x).flatten(1), self.weights(x, sigma)
        centred = data[None] - (weights @ data)[:, None]
        covariance = torch.einsum("bp,bpi,bpj->bij", weights, centred, centred)
        return covariance / per_sample(sigma, covariance).square().to(x.dtype)

    def dispersion(self, x: Tensor, sigma: Tensor | float, k: Tensor) -> Tensor:
        """Return the phase-averaged gain at lattice wave vectors k [..., d], [batch, ...]; channels move together."""
        index = Lattice.of(x).index_of(k)
        axes = tuple(range(1, x.ndim - 1))
        data, weights = self.data.to(x).double().mean(1), self.weights(x, sigma).double()
        weights = weights / weights.sum(1, keepdim=True)  # or the difference below loses its digits in float32
        waves = torch.fft.fftn(data, dim=axes, norm="ortho")[(slice(None), *index)].reshape(data.shape[0], -1)
        power = weights @ waves.abs().square() - (weights.to(waves.dtype) @ waves).abs().square()
        gain = x.shape[1] * power.reshape(-1, *index[0].shape)
        return gain / per_sample(sigma, gain).square()


@dataclass(frozen=True, eq=False)
class TwoPrototypes:
    r"""Posterior mean of the two points +mu and -mu, $D = \mu\tanh(\langle\mu, x\rangle/\sigma^2)$.

    Args:
        mu: Prototype [channel, *space].

    Source: paper Sec. 3, gradient of Eq. 3.
    """

    mu: Float[Tensor, "channel *space"]

    def _field(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        scale = per_sample(sigma, x).to(x.dtype)
        overlap = (self.mu.to(x) * (x / scale)).flatten(1).sum(1)
        return overlap.reshape(-1, *[1] * (x.ndim - 1)) / scale

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x_0 | x], of the shape of x."""
        return self.mu.to(x) * self._field(x, sigma).tanh()

    def jvp(self, x: Tensor, sigma: Tensor | float, v: Tensor) -> Tensor:
        r"""Return $\mu\,\mathrm{sech}^2(\cdot)\,\langle\mu, v\rangle/\sigma^2$, of the shape of x."""
        overlap = (self.mu.to(x) * v.expand_as(x)).flatten(1).sum(1).reshape(-1, *[1] * (x.ndim - 1))
        slope = self._field(x, sigma).cosh().pow(-2) * overlap / per_sample(sigma, x).square().to(x.dtype)
        return self.mu.to(x) * slope

    def dispersion(self, x: Tensor, sigma: Tensor | float, k: Tensor) -> Tensor:
        """Return the phase-averaged gain at lattice wave vectors k [..., d], [batch, ...]; channels move together."""
        index = Lattice.of(x).index_of(k)
        mu = self.mu.to(x).mean(0)
        power = x.shape[1] * torch.fft.fftn(mu, norm="ortho")[index].abs().square()
        slope = self._field(x, sigma).cosh().pow(-2) / per_sample(sigma, x).square().to(x.dtype)
        return slope.reshape(-1, *[1] * power.ndim) * power

    def log_density(self, x: Tensor, sigma: Tensor | float) -> Float[Tensor, " batch"]:
        r"""Return $-|x|^2/2\sigma^2 + \log\cosh(\langle\mu, x\rangle/\sigma^2)$, the log-density up to a constant.

        Source: paper Eq. 3.
        """
        scale = per_sample(sigma, x).to(x.dtype)
        field = self._field(x, sigma).flatten()
        log_cosh = torch.logaddexp(field, -field) - math.log(2)
        return log_cosh - 0.5 * (x / scale).flatten(1).square().sum(1)


def check_prior(prior: Tensor, length: int) -> None:
    """Raise a ValueError unless `prior` is a probability vector of the given length."""
    if tuple(prior.shape) != (length,):
        raise ValueError(f"prior: got shape {tuple(prior.shape)}; expected ({length},), one probability each")
    if not bool(torch.isfinite(prior).all()) or bool((prior < 0).any()):
        raise ValueError("prior: got a negative or non-finite probability; expected values of at least 0")
    if abs(float(prior.double().sum()) - 1) > 1e-6:
        raise ValueError(f"prior: sums to {float(prior.double().sum()):.6g}; expected 1: divide it by its sum")
