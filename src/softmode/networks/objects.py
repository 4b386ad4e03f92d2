"""Models of other packages as they are in Python: where its class comes from tells how an object is read.

None of these packages is imported: an object of theirs can only be there if its package is.
"""

import importlib
import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from softmode.denoiser import Denoiser
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.networks.taken import Taken, wanted
from softmode.process import parse_process

# packages, and the module below softmode.networks whose `read` reads their objects
PACKAGES = {
    "azula": "object_azula",
    "denoising_diffusion_pytorch": "object_denoising_diffusion",
    "k_diffusion": "object_k_diffusion",
    "smalldiffusion": "object_smalldiffusion",
}
# second arguments by which a network of a process's own time is told
TIMES = ("t", "time", "times", "timestep", "timesteps")


def package_of(value: object) -> str:
    """Return the package whose object a value is, or a class of which it extends; empty for none that is read."""
    for each in type(_bare(value)).__mro__:
        # a copy inside another package is read too
        found = [part for part in each.__module__.split(".") if part in PACKAGES]
        if found:
            return found[0]
    return ""


def _bare(value: Any) -> Any:
    """Return what torch.compile has wrapped: a wrapper calls its forward alone, which may be a loss."""
    return getattr(value, "_orig_mod", value) if isinstance(value, nn.Module) else value


def from_object(
    value: Any,
    shape: Sequence[int] = (),
    schedule: Any = "",
    *,
    conditions: Sequence[Mapping[str, Any]] = (),
    null: Mapping[str, Any] | None = None,
    levels: Sequence[float] | None = None,
) -> Model:
    """Return the model of an object of k-diffusion, denoising-diffusion-pytorch, azula or smalldiffusion.

    Its denoiser calls its network as its own sampler does, and is the estimate of x_0 that this sampler forms, before
    any clipping of the sampler's own.

    Args:
        value: The object; left as it is.
        shape: Shape of a state, (channels, *sides), where the object does not know it.
        schedule: Process in which to sample, such as vp:1; ve, the coordinates of a denoiser, when left out. For a
            network of smalldiffusion its Schedule.
        conditions: Further arguments of its network's call for each of the classes 0, 1, ..., by name, tensors of one
            state, [1, ...]; those that the object knows when left out.
        null: Such arguments for none of them, what guidance pushes away from.
        levels: Lowest and highest noise level that it was trained for; those that the object knows when left out.

    Raises:
        ValueError: If it is of no kind that is read, or does not say what it must.
    """
    value = _bare(value)
    package, kind = package_of(value), quote(type(value).__name__)[1:-1]
    if not package:
        raise refusal(f"model: got {quote(value)}; expected an object of {', '.join(PACKAGES)}")
    taken: Taken = importlib.import_module(f"softmode.networks.{PACKAGES[package]}").read(value, schedule)
    for remark in taken.remarks:
        warnings.warn(f"model: {remark}", stacklevel=2)
    of_class = tuple(conditions) or tuple(taken.conditions)
    of_none = null if conditions or null is not None else taken.null
    if lacking := wanted(value.forward, of_class[0] if of_class else of_none or {}):
        raise refusal(
            f"conditions: {kind} wants {', '.join(lacking[:3])} with each state; give sm.from_object(model, shape, "
            f"conditions=[{{{lacking[0]!r}: ...}}]), one for each class, tensors [1, ...]"
        )

    def of_label(label: int | None) -> Denoiser:
        if label is not None:
            return taken.bind(of_class[label])
        if of_none is None and of_class:
            few = ",".join(map(str, range(min(len(of_class), 3))))
            raise refusal(f"labels: {kind} knows no sample of all {len(of_class)} classes; name some: --labels {few}")
        return taken.bind(of_none or {})

    return Model(
        name=kind,
        process=parse_process(schedule if isinstance(schedule, str) and schedule else "ve"),
        shape=_shape(kind, tuple(map(int, shape)), taken.shape),
        bind=of_label,
        classes=len(of_class),
        levels=taken.levels if levels is None else _range(levels),
    )


def _shape(kind: str, asked: tuple[int, ...], known: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a state, the object's own where it knows it."""
    if known and asked and asked != known:
        raise refusal(f"shape: got {asked}; the states of this {kind} are {known}: leave it out")
    found = known or asked
    if known and len(known) < 2:
        raise refusal(f"model: the states of this {kind} are {known}; expected channels and sides, as of images")
    if len(found) < 2 or not all(0 < side < math.inf for side in found):
        raise refusal(f"shape: {kind} does not say it; give channels and sides of a state, for example (3, 32, 32)")
    return found


def _range(levels: Sequence[float]) -> tuple[float, float]:
    """Return two noise levels, the lower one first."""
    if len(levels) != 2 or not 0 < levels[0] < levels[1] < math.inf:
        raise refusal(f"levels: got {quote(levels)}; expected the lowest and the highest noise level, as (0.01, 80)")
    return float(levels[0]), float(levels[1])


def check_no_network(value: Any, name: str = "model") -> None:
    """Raise a ValueError if a value is a network that is called with a time, or with states alone, no denoiser.

    Args:
        value: The value; only of a module of torch can it be told.
        name: What messages call it.
    """
    if not isinstance(value, nn.Module):
        return
    parameters = inspect.signature(value.forward).parameters.values()
    taken, kind = [each.name for each in parameters][:2], quote(type(value).__name__)[1:-1]
    if len(taken) == 1 and next(iter(parameters)).kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
        raise refusal(
            f"{name}: {kind} takes ({taken[0]}) alone: no denoiser D(x, sigma); a classifier is given as "
            "classifier=sm.Preprocessed(network, preprocess)"
        )
    if len(taken) == 2 and taken[1] in TIMES:
        raise refusal(
            f"{name}: {kind} takes ({', '.join(taken)}): a network, no denoiser D(x, "
            "sigma); sm.from_discrete(network, alphas_cumprod), sm.from_flow(network) or sm.from_noise(network, "
            f"process) makes one, or lambda x, sigma: ... if {taken[1]} is sigma"
        )
