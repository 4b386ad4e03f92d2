"""What is read off a model of another package, and its network as its own sampler calls it."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn

from softmode.denoiser import Denoiser, per_sample
from softmode.message import quote, refusal
from softmode.networks.diffusers_denoiser import differentiable

# further arguments of a call by name: tensors of one state, [1, ...], or anything that is the same for all
Given = Mapping[str, Any]


class Taken(NamedTuple):
    """What is read off an object.

    Attributes:
        bind: Maps further arguments of its network's call to its denoiser.
        shape: Shape of a state; empty where it does not know.
        levels: Lowest and highest noise level that it knows; None where it does not say.
        conditions: Arguments for each of its classes, 0, 1, ...; empty where it has none.
        null: Arguments for none of them; None where it has no such thing.
        remarks: What a user should know of it.
    """

    bind: Callable[[Given], Denoiser]
    shape: tuple[int, ...] = ()
    levels: tuple[float, float] | None = None
    conditions: Sequence[Given] = ()
    null: Given | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Called:
    """A network that is given the arguments of a condition too, and whose derivatives are cared for.

    Args:
        network: Called with two tensors and the arguments.
        given: The arguments.
        module: What computes it, if that is another than the network.
    """

    network: Callable[..., Tensor]
    given: Given = field(default_factory=dict)
    module: nn.Module | None = None

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """Return what the network answers."""
        module = self.network if isinstance(self.network, nn.Module) else self.module
        with differentiable(module):
            return self.network(x, level, **of_states(self.given, x))


@dataclass(frozen=True, eq=False)
class OfLevels:
    """The denoiser of something that is asked at noise levels [batch] in float64.

    Args:
        ask: Called with EDM states and their noise levels; returns E[x_0 | x].
    """

    ask: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x_0 | x], of the shape of x."""
        return self.ask(x, per_sample(sigma, x).flatten().expand(len(x)))


def of_states(given: Given, x: Tensor) -> dict[str, Any]:
    """Return the arguments of a condition for so many states, on their device."""
    return {
        name: value.to(x.device).expand(len(x), *value.shape[1:]) if isinstance(value, Tensor) and value.ndim else value
        for name, value in given.items()
    }


def wide(value: Tensor, x: Tensor) -> Tensor:
    """Return numbers of each state [batch] in the type of the states, shaped to broadcast against them."""
    return value.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def kind_in(value: object, package: str, kinds: Sequence[str]) -> str:
    """Return which of some classes of a package an object is of, as `module.Class`; empty for none.

    Args:
        value: The object.
        package: Name of the package.
        kinds: The classes, each after the last part of its module's name.
    """
    for each in type(value).__mro__:
        name = f"{each.__module__.rpartition('.')[2]}.{each.__name__}"
        if package in each.__module__.split(".") and name in kinds:
            return name
    return ""


def unknown(value: object, package: str, kinds: Sequence[str], remedy: str = "") -> ValueError:
    """Return the error of an object of a package that is none of the models that are read."""
    known = ", ".join(dict.fromkeys(kind.rpartition(".")[2] for kind in kinds))
    name = quote(type(value).__name__)[1:-1]
    return refusal(f"model: got {name} of {package}; expected {known}{f': {remedy}' if remedy else ''}")


def wanted(function: Callable[..., Any], given: Given) -> list[str]:
    """Return the arguments that a function wants besides its first two and those that are given."""
    told = list(inspect.signature(function).parameters.values())[2:]
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in told if p.default is p.empty and p.kind not in open_ended and p.name not in given]
