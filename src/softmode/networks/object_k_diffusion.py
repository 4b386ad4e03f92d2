"""Denoisers of k-diffusion: D(x, sigma) in the coordinates of a denoiser already, with further arguments by name."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from softmode.denoiser import Denoiser
from softmode.message import refusal
from softmode.networks.taken import Called, Given, OfLevels, Taken, kind_in, unknown

DISCRETE = ("external.DiscreteEpsDDPMDenoiser", "external.DiscreteVDDPMDenoiser")
KINDS = ("layers.Denoiser", *DISCRETE, "external.VDenoiser")


def read(value: Any, schedule: Any) -> Taken:
    """Return what is read off a denoiser of k-diffusion."""
    kind = kind_in(value, "k_diffusion", KINDS)
    if not kind:
        raise unknown(value, "k-diffusion", KINDS, "wrap the network in its Denoiser")
    if not isinstance(schedule, str):
        raise refusal("schedule: a denoiser of k-diffusion has noise levels of its own; expected a process such as ve")
    conditions, null = _classes(value.inner_model)
    return Taken(
        bind=lambda given: _bound(value, given),
        levels=_levels(value.sigmas) if kind in DISCRETE else None,
        conditions=conditions,
        null=null,
    )


def _bound(value: nn.Module, given: Given) -> Denoiser:
    called = Called(value, given)

    def ask(x: Tensor, level: Tensor) -> Tensor:
        return called(x, level.to(x.dtype))

    return OfLevels(ask)


def _levels(sigmas: Tensor) -> tuple[float, float]:
    """Return the lowest and the highest noise level of a table; one without signal or noise is left out."""
    told = sigmas.double()
    told = told[(told > 0) & told.isfinite()]
    return float(told.min()), float(told.max())


def _classes(inner: Any) -> tuple[tuple[Given, ...], Given | None]:
    """Return the arguments of each class of a network and of none of them, if it is of a kind that has classes."""
    while not getattr(inner, "num_classes", 0) and isinstance(getattr(inner, "inner_model", None), nn.Module):
        inner = inner.inner_model
    count: Any = getattr(inner, "num_classes", 0) or 0
    taken = inspect.signature(getattr(inner, "forward", inner)).parameters if count else ()
    if "class_cond" in taken:
        # its own training configuration adds one class, for none
        each: list[Given] = [{"class_cond": torch.tensor([label])} for label in range(count)]
        return tuple(each[:-1]), each[-1]
    if "y" in taken:
        return tuple({"y": torch.tensor([label])} for label in range(count)), None
    return (), None
