r"""The denoiser D(x, sigma) = E[x_0 | x], the one thing that a model must be, and converters to it.

States are in EDM coordinates, $x = x_0 + \sigma\epsilon$, of shape [batch, channel, *space].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from softmode.process import Process

Network = Callable[[Tensor, Tensor], Tensor]


@runtime_checkable
class Denoiser(Protocol):
    """A posterior mean: called with states [batch, channel, *space] and noise levels (scalar or [batch])."""

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x_0 | x] at noise level sigma, of the shape of x."""
        ...


@runtime_checkable
class ExactDenoiser(Denoiser, Protocol):
    """A denoiser whose linear response is known in closed form."""

    def jvp(self, x: Tensor, sigma: Tensor | float, v: Tensor) -> Tensor:
        """Return (dD/dx) v, of the shape of x; v broadcasts against x."""
        ...

    def dispersion(self, x: Tensor, sigma: Tensor | float, k: Tensor) -> Tensor:
        """Return the gain at wave vectors k [..., d], averaged over the mode's phase (over all sites), [batch, ...]."""
        ...


def per_sample(sigma: Tensor | float, x: Tensor) -> Tensor:
    """Return noise levels (scalar or [batch]) in float64 on x's device, shaped to broadcast against x."""
    sigma = torch.as_tensor(sigma, dtype=torch.float64, device=x.device)
    if sigma.ndim > 1 or (sigma.ndim == 1 and sigma.shape[0] not in (1, x.shape[0])):
        raise ValueError(f"sigma: got shape {tuple(sigma.shape)}; expected a scalar or one per state, [{x.shape[0]}]")
    return sigma.reshape(-1, *[1] * (x.ndim - 1))


def score(denoiser: Denoiser, x: Tensor, sigma: Tensor | float) -> Tensor:
    r"""Return the score $\nabla\log p_\sigma(x) = (D(x, \sigma) - x)/\sigma^2$ in EDM coordinates, of the shape of x.

    Source: paper Eq. 57 with alpha = 1 (Tweedie's formula).
    """
    return (denoiser(x, sigma) - x) / per_sample(sigma, x).square().to(x.dtype)


@dataclass(frozen=True)
class _Converted:
    """A network in a process's own coordinates, seen as a denoiser: from_output(network(x_t, t), x_t, alpha, sigma)."""

    network: Network
    process: Process
    from_output: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        level = per_sample(sigma, x)
        t = self.process.time(level)
        alpha, noise = self.process.alpha(t).to(x.dtype), self.process.sigma(t).to(x.dtype)
        output = self.network(alpha * x, t.flatten().expand(x.shape[0]).to(x.dtype))
        return self.from_output(output, alpha * x, alpha, noise)


def from_score(network: Network, process: Process) -> Denoiser:
    r"""Return the denoiser of a network that predicts the score, $D = (x_t + \sigma^2 s)/\alpha$.

    Args:
        network: Called with states of `process`, [batch, channel, *space], and times [batch]; returns grad log p_t.
        process: The process the network was trained for.
    """
    return _Converted(network, process, lambda out, x_t, alpha, noise: (x_t + noise.square() * out) / alpha)


def from_noise(network: Network, process: Process) -> Denoiser:
    r"""Return the denoiser of a network that predicts the noise, $D = (x_t - \sigma\epsilon)/\alpha$.

    Args:
        network: Called with states of `process` and times [batch]; returns the expected eps.
        process: The process the network was trained for.

    Source: ho2020; paper F.3.
    """
    return _Converted(network, process, lambda out, x_t, alpha, noise: (x_t - noise * out) / alpha)


def from_velocity(network: Network, process: Process) -> Denoiser:
    r"""Return the denoiser of a network that predicts the velocity $v = \alpha\epsilon - \sigma x_0$.

    $D = (\alpha x_t - \sigma v)/(\alpha^2 + \sigma^2)$.

    Args:
        network: Called with states of `process` and times [batch]; returns the expected v.
        process: The process the network was trained for.

    Source: salimans2022.
    """
    return _Converted(
        network,
        process,
        lambda out, x_t, alpha, noise: (alpha * x_t - noise * out) / (alpha.square() + noise.square()),
    )


@dataclass(frozen=True)
class Autocast:
    """A denoiser whose network computes in a lower precision, where torch deems that safe; states keep their own.

    Args:
        denoiser: The denoiser.
        precision: `torch.bfloat16` or `torch.float16`.
    """

    denoiser: Denoiser
    precision: torch.dtype

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x_0 | x], of the shape and type of x."""
        with torch.autocast(x.device.type, self.precision):
            return self.denoiser(x, sigma).to(x.dtype)


@dataclass(frozen=True)
class Guided:
    r"""Classifier-free guidance, $D + w(\sigma)\,(D - D_{\mathrm{guide}})$, as a denoiser.

    A pulse, an interval and constant guidance differ only in w. The guide is called only for the states whose weight is
    not 0.

    Args:
        denoiser: The (conditional) denoiser D.
        guide: The denoiser that is pushed away from.
        weight: w(sigma): maps noise levels (a float64 tensor, scalar or [batch]) to weights, scalar or [batch]; these
            may differ between states of one noise level.

    Source: paper H.1 (w = 0 is unguided).
    """

    denoiser: Denoiser
    guide: Denoiser
    weight: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return the guided posterior mean, of the shape of x."""
        denoised = self.denoiser(x, sigma)
        level = torch.as_tensor(sigma, dtype=torch.float64)
        weight = per_sample(self.weight(level), x).to(x.dtype)
        guided = (weight != 0).flatten().expand(len(x))
        if not guided.any():
            return denoised
        if guided.all():
            return denoised + weight * (denoised - self.guide(x, sigma))
        rows = guided.nonzero().flatten()
        level = level[rows.to(level.device)] if level.ndim and len(level) > 1 else level
        push = weight.expand(len(x), *weight.shape[1:])[rows] * (denoised[rows] - self.guide(x[rows], level))
        return denoised.index_add(0, rows, push)
