r"""The denoiser D(x, sigma) = E[x_0 | x], the one thing that a model must be, and converters to it.

States are in EDM coordinates, $x = x_0 + \sigma\epsilon$, of shape [batch, channel, *space].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from softmode.message import quote, refusal
from softmode.misreading import Checked
from softmode.of_classes import of_classes
from softmode.per_state import of_rows
from softmode.process import Process

Network = Callable[[Tensor, Tensor], Any]


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


def predicted(out: Any) -> Any:
    """Return a network's prediction, which those of diffusers return as the `sample` of an object or in a tuple."""
    alone = out[0] if isinstance(out, tuple) and len(out) == 1 else out
    return getattr(alone, "sample", alone)


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
        output = predicted(self.network(alpha * x, t.flatten().expand(x.shape[0]).to(x.dtype)))
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


def from_velocity(network: Network, process: Process, check: bool = True) -> Denoiser:
    r"""Return the denoiser of a network that predicts the velocity $v = \alpha\epsilon - \sigma x_0$.

    $D = (\alpha x_t - \sigma v)/(\alpha^2 + \sigma^2)$. That is the v-prediction of a variance-preserving process. The
    velocity of a straight flow, $\epsilon - x_0$ or $x_0 - \epsilon$, is another: `from_flow` reads it.

    When it is first asked at noise levels from 1.5 up, its answer to pure noise is compared with what a posterior mean
    can answer (`softmode.misreading`), by two calls of the network at each of seven levels, as far as it is asked. The
    opposite of the noise raises a ValueError, the noise itself a warning.

    Args:
        network: Called with states of `process` and times [batch]; returns the expected v.
        process: The process the network was trained for.
        check: Whether to compare so.

    Source: salimans2022.
    """
    made = _Converted(
        network,
        process,
        lambda out, x_t, alpha, noise: (alpha * x_t - noise * out) / (alpha.square() + noise.square()),
    )
    meant = "read as the velocity alpha eps - sigma x_0 it is no denoiser: for a straight flow's, use sm.from_flow"
    return Checked(made, meant) if check else made


@dataclass(frozen=True, eq=False)
class _Flow:
    """A velocity of a straight flow, seen as a denoiser."""

    network: Network
    data_at: int

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        level = per_sample(sigma, x)
        alpha, noise = 1 / (1 + level), level / (1 + level)
        x_t = alpha.to(x.dtype) * x
        t = alpha if self.data_at else noise
        velocity = predicted(self.network(x_t, t.flatten().expand(x.shape[0]).to(x.dtype)))
        return x_t + (noise if self.data_at else -noise).to(x.dtype) * velocity


def from_flow(
    network: Callable[..., Any],
    data_at: int = 0,
    check: bool = True,
    *,
    classes: int = 0,
    null_label: int | None = None,
) -> Any:
    r"""Return the denoiser of a network that predicts the velocity $v = dx_t/dt$ of a straight flow.

    | data_at | state | velocity | denoiser |
    |---|---|---|---|
    | 0 | $x_t = (1 - t) x_0 + t\epsilon$ | $\epsilon - x_0$ | $x_t - t v$ |
    | 1 | $x_t = t x_0 + (1 - t)\epsilon$ | $x_0 - \epsilon$ | $x_t + (1 - t) v$ |

    The noise level is $t/(1 - t)$ or $(1 - t)/t$. What it answers to noise is compared as by `from_velocity`. That
    finds the wrong data_at of some data alone: of white ones it makes a variance S to 1/S, which is as good a model.

    Args:
        network: Called with states x_t, [batch, channel, *space], and times t in [0, 1], [batch]; one that takes 1000 t
            is wrapped, `lambda x, t: network(x, 1000 * t)`.
        data_at: Time at which there is no noise: 0 as in Stable Diffusion 3 and Flux, 1 as in Lipman's flow matching.
        check: Whether to compare what it answers to noise with what a posterior mean can.
        classes: Number of classes of a network that is called with a class [batch] as its third argument; 0 for none.
        null_label: The one of them that stands for all samples together; None for none.

    Raises:
        ValueError: If data_at is neither 0 nor 1, or there is no such class.

    Source: lipman2023.
    """
    if data_at not in (0, 1):
        raise refusal(f"data_at: got {quote(data_at)}; expected 0 or 1, the time at which there is no noise")
    meant = f"read as a flow's velocity with data_at={data_at} it is no denoiser: use data_at={1 - data_at}"

    def make(network: Network) -> Denoiser:
        made = _Flow(network, int(data_at))
        return Checked(made, f"{meant}, or sm.from_velocity for alpha eps - sigma x_0") if check else made

    return of_classes(network, make, classes, null_label)


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

    def of_rows(self, rows: Tensor) -> Denoiser:
        """Return the denoiser of a batch with state rows[i] in place i, see `softmode.per_state`."""
        return Autocast(of_rows(self.denoiser, rows), self.precision)


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
        push = weight.expand(len(x), *weight.shape[1:])[rows] * (
            denoised[rows] - of_rows(self.guide, rows)(x[rows], level)
        )
        return denoised.index_add(0, rows, push)
