"""A network of diffusers and its scheduler's noise levels as a denoiser."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from softmode.denoiser import per_sample
from softmode.networks.diffusers_scheduler import NoiseTable


@dataclass(frozen=True, eq=False)
class DiffusersDenoiser:
    """A diffusers network and its scheduler's noise as a denoiser.

    Args:
        network: Called with states of the scheduler's kind and timesteps [batch]; returns its prediction.
        table: The scheduler's noise levels.
        module: The module that computes it; its derivatives need care.
    """

    network: Callable[[Tensor, Tensor], Tensor]
    table: NoiseTable
    module: nn.Module | None = None

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x_0 | x], of the shape of x.

        Raises:
            ValueError: If a noise level is beyond the scheduler's range.
        """
        with differentiable(self.module):
            out = self.network(*self.given(x, sigma))
        return self.estimate(x, sigma, out)

    def given(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor]:
        """Return the states and the timesteps [batch] that the network is given for EDM states."""
        level = per_sample(sigma, x)
        alpha = self.table.amplitudes(level)[0].to(x.dtype)
        timesteps = self.table.timestep(level.flatten().cpu()).to(x.device, x.dtype).expand(len(x))
        return alpha * x, timesteps

    def estimate(self, x: Tensor, sigma: Tensor | float, out: Tensor) -> Tensor:
        """Return E[x_0 | x] of EDM states from what the network predicts for them."""
        level = per_sample(sigma, x)
        alpha, noise = (value.to(x.dtype) for value in self.table.amplitudes(level))
        x_t = alpha * x
        if self.table.kind == "edm":
            total, data = level.square() + self.table.sigma_data**2, self.table.sigma_data
            skip, scale = (data**2 / total).to(x.dtype), (level * data * total.rsqrt()).to(x.dtype)
            return skip * x + (scale if self.table.prediction == "epsilon" else -scale) * out
        match self.table.prediction:
            case "sample":
                return out
            case "epsilon":
                return (x_t - noise * out) / alpha
            case "flow":
                return x_t - noise * out
            case _:
                return alpha * x_t - noise * out


@dataclass(frozen=True, eq=False)
class Conditioned:
    """A network of diffusers, called with a state, a time and a condition, as its predictions.

    Args:
        module: Called with (states, timesteps [batch], **condition); returns an object with `sample`.
        condition: Further arguments by name, of one trajectory [1, ...], which are repeated for every state, or of
            each state of one batch.
    """

    module: Callable[..., Any]
    condition: Mapping[str, Any]

    def __call__(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        """Return the prediction, of the shape of the states."""
        out = self.module(x_t, timesteps, **_repeated(self.condition, len(x_t))).sample
        # a network that has learned its variance too returns it after the mean
        return out[:, : x_t.shape[1]]


def bind_each(bind: Callable[[Any], DiffusersDenoiser], labels: Sequence[Any]) -> DiffusersDenoiser:
    """Return the denoiser of a batch of states with a label each.

    Args:
        bind: Maps a label to the denoiser of it alone, of a `Conditioned` network.
        labels: The label of each state.
    """
    bound = {label: bind(label) for label in dict.fromkeys(labels)}
    networks: list[Any] = [bound[label].network for label in labels]
    condition = _stacked([network.condition for network in networks])
    return replace(bound[labels[0]], network=Conditioned(networks[0].module, condition))


def alike(conditions: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether conditions have the same names and shapes, so that a batch takes one of them for each state."""
    return all(_shapes(condition) == _shapes(conditions[0]) for condition in conditions)


def _shapes(condition: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(v.shape) if isinstance(v, Tensor) else _shapes(v) for name, v in condition.items()}


def _stacked(conditions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the conditions of several states, one after the other."""
    each = {name: [condition[name] for condition in conditions] for name in conditions[0]}
    return {name: torch.cat(v) if isinstance(v[0], Tensor) else _stacked(v) for name, v in each.items()}


def _repeated(condition: Mapping[str, Any], count: int) -> dict[str, Any]:
    return {
        name: value.expand(count, *value.shape[1:]) if isinstance(value, Tensor) else _repeated(value, count)
        for name, value in condition.items()
    }


@contextlib.contextmanager
def differentiable(module: nn.Module | None) -> Iterator[None]:
    """Let attention and group norm take the forms that forward-mode AD knows, if a derivative is being taken."""
    if getattr(forward_ad, "_current_level", 0) < 0:
        yield
        return
    norms = [each for each in module.modules() if isinstance(each, nn.GroupNorm)] if module is not None else []
    # the forward derivative of a group norm rejects the strides that attention leaves behind
    hooks = [norm.register_forward_pre_hook(lambda _module, inputs: (inputs[0].contiguous(),)) for norm in norms]
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for hook in hooks:
            hook.remove()
