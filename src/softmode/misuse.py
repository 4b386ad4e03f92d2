"""What is wrong with something that is given as a denoiser, in words that name the remedy."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from softmode.adapted import Adapted
from softmode.denoiser import Denoiser
from softmode.inside import networks_in, uncompiled, without_numbers
from softmode.message import quote, refusal

META_REMEDY = "weights of its network are on the meta device, without numbers: load them first"
LOW = (torch.float16, torch.bfloat16)
# names that tell which argument is which
STATES = ("x", "x_t", "xt", "z", "states", "image", "images", "input", "inputs", "noisy", "sample")
LEVELS = ("sigma", "sigmas", "s", "t", "time", "timestep", "noise_level", "noise_labels", "level")


def check_arguments(denoiser: Denoiser, where: str) -> None:
    """Raise a ValueError if a denoiser cannot be called with states and a noise level, in this order.

    Args:
        denoiser: The denoiser.
        where: What a message calls it.
    """
    called = denoiser.denoiser if isinstance(denoiser, Adapted) else denoiser
    try:
        parameters = inspect.signature(_forward(called)).parameters
    # of something built in, which says nothing of itself
    except (TypeError, ValueError):
        return
    told = [each for each in parameters.values() if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    places = [each.name for each in told if each.kind != each.KEYWORD_ONLY]
    wanted = [each.name for each in told if each.default is each.empty and each.name not in places[:2]]
    if wanted:
        name = quote(wanted[0])[1:-1]
        raise refusal(
            f"{where} wants {', '.join(wanted[:3])} besides states and noise level; bind it, functools.partial(D, "
            f"{name}=...), or if it is the class, sm.Model(..., bind=lambda label: functools.partial(D, {name}=label))"
        )
    if len(places) > 1 and places[0].lower() in LEVELS and places[1].lower() in STATES:
        raise refusal(
            f"{where} takes ({places[0]}, {places[1]}); expected the states first: lambda x, sigma: D(sigma, x)"
        )


class Seen(TorchDispatchMode):
    """Sees every operation of torch.

    Attributes:
        half: Half precision of a result; None where there is none.
        meta: Whether something without numbers went in: some operations make anything of it.
    """

    half: torch.dtype | None = None
    meta = False

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the result of an operation."""
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.dtype in LOW:
            self.half = out.dtype
        self.meta |= any(isinstance(each, Tensor) and each.is_meta for each in args)
        return out


def watch(denoiser: Denoiser, x: Tensor, sigma: Tensor | float) -> tuple[Any, Seen]:
    """Return a denoiser's answer, and what was seen on the way."""
    seen = Seen()  # type: ignore[no-untyped-call] # torch leaves it so
    with torch.no_grad(), seen:
        out = denoiser(x, sigma)
    return out, seen


def why_it_failed(denoiser: Denoiser, x: Tensor, sigma: Tensor) -> str:
    """Return the remedy where a call of a denoiser failed; empty where it is not known."""
    for network in networks_in(denoiser):
        kind = quote(type(network).__name__)[1:-1]
        if without_numbers(network):
            return META_REMEDY
        for weight in (*network.parameters(), *network.buffers()):
            if weight.is_meta:
                continue
            if weight.device != x.device:
                return f"its {kind} is on {weight.device}: give device='{weight.device}', or move it"
            if weight.dtype in LOW:
                return half_remedy(weight.dtype)
            if weight.is_floating_point() and weight.dtype != x.dtype:
                name = str(weight.dtype).removeprefix("torch.")
                return f"its {kind} is in {name}: give dtype='{name}', or convert it"
    called = denoiser.denoiser if isinstance(denoiser, Adapted) else denoiser
    try:
        with torch.no_grad():
            out: Any = called(sigma, x.clone())
    # the other order is none either
    except Exception:
        return ""
    fits = isinstance(out, Tensor) and out.shape == x.shape
    return "it takes the noise level first: give lambda x, sigma: D(sigma, x)" if fits else ""


def half_remedy(dtype: torch.dtype) -> str:
    """Return what to do with a network that computes in half precision."""
    name = str(dtype).removeprefix("torch.")
    return (
        f"it computes in {name}, whose rounding differences enlarge: give its network in float32, .float(); sampling "
        f"alone may be in {name}, precision='{name}'"
    )


def what_it_returned(out: Any, x: Tensor) -> str:
    """Return what an answer is that is none, after "returned", and the remedy where it is known."""
    kind = quote(type(out).__name__)[1:-1]
    if isinstance(out, Tensor):
        return _misfit(out, x)
    fits = {name: each for name, each in _parts(out).items() if isinstance(each, Tensor) and each.shape == x.shape}
    if not fits:
        return f"{kind} for states {described(x)}; expected one of the same for each"
    name = next(iter(fits))
    return (
        f"{kind}, which holds states in {name}; give lambda x, sigma: D(x, sigma){name}, or if that is the noise or a "
        "velocity, sm.from_discrete or sm.from_flow"
    )


def _misfit(out: Tensor, x: Tensor) -> str:
    said = f"{described(out)} for states {described(x)}; expected one of the same for each"
    if out.shape == x.shape and out.dtype in LOW and x.dtype not in LOW:
        return f"{described(out)}: {half_remedy(out.dtype)}"
    if out.shape == x.shape and out.dtype != x.dtype:
        narrow = torch.promote_types(out.dtype, x.dtype) == x.dtype
        name = str(out.dtype).removeprefix("torch.")
        remedy = f"use dtype='{name}'" if narrow else "sigma comes in float64, convert it with sigma.to(x.dtype)"
        return f"{said}: {remedy}"
    if out.ndim == x.ndim and out.shape[1] == 2 * x.shape[1] and out[:, : x.shape[1]].shape == x.shape:
        return f"{said}: if the others are a variance, lambda x, sigma: D(x, sigma)[:, :{x.shape[1]}]"
    return said


def _parts(out: Any) -> dict[str, Any]:
    """Return what something holds, by the words with which to take it out."""
    if isinstance(out, Mapping):
        # an object of diffusers or transformers, whose parts have names, is a mapping too
        named = type(out) is not dict
        return {f".{name}" if named else f"[{quote(name)}]": each for name, each in out.items()}
    if isinstance(out, list | tuple):
        names = getattr(out, "_fields", None) or ()
        return {f".{names[i]}" if names else f"[{i}]": each for i, each in enumerate(out)}
    return {f".{name}": each for name, each in getattr(out, "__dict__", {}).items()}


def described(x: Tensor) -> str:
    """Return the shape and the type of a tensor, and where it is unless that is the processor."""
    on = "" if x.device.type == "cpu" else f" on {x.device}"
    return f"{quote(tuple(x.shape))} {x.dtype}{on}"


def _forward(called: Any) -> Callable[..., Any]:
    """Return what says which arguments a denoiser takes: of a module its forward."""
    if isinstance(called, nn.Module):
        forward: Callable[..., Any] = uncompiled(called).forward
        return forward
    function: Callable[..., Any] = called
    return function
