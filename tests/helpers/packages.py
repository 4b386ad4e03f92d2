"""Other packages imported without what they import besides, and what their samplers do, written down."""

import contextlib
import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn

from softmode.networks.objects import from_object

# what these packages import for data sets, training and metrics, which no test needs
BESIDES = (
    "clip", "cleanfid", "dctorch", "ema_pytorch", "gdown", "jsonmerge", "kornia", "pytorch_fid", "skimage",
    "torchdiffeq", "torchsde", "torchvision", "wandb",
)  # fmt: skip


class _StandIn(types.ModuleType):
    """A module of which every name is something."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return mock.MagicMock(name=name)


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in BESIDES else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


@contextmanager
def standing_in() -> Iterator[None]:
    """Let packages be imported without what they import besides; nothing of that stays behind for others to find."""
    finder, before = _StandIns(), {name for name in sys.modules if name.split(".")[0] in BESIDES}
    # the real ones go first, where they are
    sys.meta_path.append(finder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.split(".")[0] in BESIDES and name not in before]:
            del sys.modules[name]


def package(name: str) -> Any:
    """Return a module of one of the packages.

    Raises:
        ModuleNotFoundError: If the package is not there.
    """
    with standing_in():
        return importlib.import_module(name)


class Step(NamedTuple):
    """One step of an object's own sampler.

    Attributes:
        x: EDM states.
        sigma: Their noise level.
        denoised: Its own estimate of x_0; None where it forms none for this alone.
        calls: What it gave to its network, by name, call by call.
    """

    x: Tensor
    sigma: float
    denoised: Tensor | None
    calls: list[dict[str, Any]]


class Object(NamedTuple):
    """An object of a package.

    Attributes:
        build: Makes it.
        network: Its network, whose calls are compared.
        steps: What its own sampler does for a class.
        taken: What softmode is told beside it.
        classes: How many classes it knows.
        clipped: Whether its sampler clips its estimate to [-1, 1].
    """

    build: Callable[[], Any]
    network: Callable[[Any], nn.Module]
    steps: Callable[[Any, int | None], list[Step]]
    taken: Callable[[], Mapping[str, Any]] = dict
    classes: int = 0
    clipped: bool = False


@contextmanager
def fed(module: Any) -> Iterator[list[dict[str, Any]]]:
    """Collect what a module is called with, by name; what is None is left out."""
    calls: list[dict[str, Any]] = []
    signature = inspect.signature(module.forward)

    own = module.forward

    # no hook: guidance of one package calls forward itself
    @functools.wraps(own)
    def forward(*args: Any, **kwargs: Any) -> Any:
        bound = dict(signature.bind(*args, **kwargs).arguments)
        bound |= bound.pop("kwargs", {})
        calls.append({name: value for name, value in bound.items() if value is not None})
        return own(*args, **kwargs)

    with mock.patch.object(module, "forward", forward):
        yield calls


@contextmanager
def noted(owner: Any, name: str, calls: list[dict[str, Any]]) -> Iterator[list[tuple[Any, Any, list[dict[str, Any]]]]]:
    """Collect the arguments and the answers of a method, copied, and what the network was called with inside."""
    found: list[tuple[Any, Any, list[dict[str, Any]]]] = []
    own = getattr(owner, name)

    def copied(value: Any) -> Any:
        return value.clone() if isinstance(value, Tensor) else value

    def method(*args: Any, **kwargs: Any) -> Any:
        arguments = {key: copied(each) for key, each in inspect.signature(own).bind(*args, **kwargs).arguments.items()}
        before = len(calls)
        out = own(*args, **kwargs)
        kept = type(out)(*map(copied, out)) if hasattr(out, "_fields") else out
        kept = tuple(map(copied, out)) if type(out) is tuple else copied(kept)
        found.append((arguments, kept, calls[before:]))
        return out

    with mock.patch.object(owner, name, method):
        yield found


@contextmanager
def silent(value: Any) -> Iterator[None]:
    """Let loops show no progress."""
    modules = {each.__module__: sys.modules[each.__module__] for each in type(value).__mro__}.values()
    with contextlib.ExitStack() as stack:
        for module in modules:
            if hasattr(module, "tqdm"):
                stack.enter_context(mock.patch.object(module, "tqdm", lambda each, **_: each))
        yield


class Differences(NamedTuple):
    """How far softmode is from an object's own sampler.

    Attributes:
        given: Largest difference of an argument of its network, of that argument's largest number.
        denoised: Largest difference of D from its own estimate, of that estimate's largest number or of the rounding
            of the state, which noise multiplies.
        steps: How many steps were compared.
    """

    given: float
    denoised: float
    steps: int


def differences(chosen: Object, label: int | None = None) -> Differences:
    """Return how far the denoiser that is read off an object is from what its own sampler does.

    Args:
        chosen: The object.
        label: The class, where it has classes.
    """
    value = chosen.build()
    denoiser = from_object(value, **chosen.taken()).denoiser(label)
    given, denoised = [0.0], [0.0]
    steps = chosen.steps(value, label)
    for step in steps:
        with fed(chosen.network(value)) as calls, torch.no_grad():
            own = denoiser(step.x, step.sigma)
        # before them a flow's answer to noise is looked at once
        given += [_apart(*pair) for pair in zip(calls[-len(step.calls) :], step.calls, strict=True)]
        if step.denoised is not None:
            own = own.clamp(-1, 1) if chosen.clipped else own
            # rounding of a state of this level, by which it is multiplied in taking the noise away
            scale = max(float(step.denoised.abs().max()), float(step.x.abs().max()))
            denoised.append(float((own - step.denoised).abs().max()) / scale)
    return Differences(max(given), max(denoised), len(steps))


def _apart(call: dict[str, Any], expected: dict[str, Any]) -> float:
    """Return the largest difference of two calls' arguments, infinite where one has what the other has not."""
    if set(call) != set(expected):
        return float("inf")
    found = [0.0]
    for name, value in expected.items():
        a, b = (torch.as_tensor(each).double() for each in (call[name], value))
        # a sampler may give one time for all states where we give one to each
        found.append(float((a.flatten() - b.flatten()).abs().max()) / max(float(b.abs().max()), 1e-6))
    return max(found)
