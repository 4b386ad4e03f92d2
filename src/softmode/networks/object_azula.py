"""Denoisers of azula: posteriors of a state x_t = alpha(t) x_0 + sigma(t) eps, by a schedule of any kind."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.message import refusal
from softmode.networks.taken import Called, Given, OfLevels, Taken, kind_in, unknown, wide

KINDS = ("denoise.Denoiser",)
# ends of the times that are asked for where the noise level is 0 or infinite at 0 or 1, and halvings of an interval
ENDS, HALVINGS = (1e-3, 1 - 1e-3), 60


def read(value: Any, schedule: Any) -> Taken:
    """Return what is read off a denoiser of azula."""
    if not kind_in(value, "azula", KINDS):
        raise unknown(value, "azula", KINDS, "a backbone needs one around it, such as KarrasDenoiser")
    if kind_in(value, "azula", ("cfg.CFGDenoiser",)):
        raise refusal(
            "model: CFGDenoiser is guided already; give the denoiser inside, sm.from_object(model.denoiser, shape, "
            "conditions=[positive, ...], null=negative)"
        )
    if not isinstance(schedule, str):
        raise refusal("schedule: a denoiser of azula has a schedule of its own; expected a process such as ve")
    conditions, null = _classes(value)
    mean = value.mean if kind_in(value, "azula", ("denoise.GaussianDenoiser",)) else None
    return Taken(
        bind=lambda given: _bound(value, given),
        shape=() if mean is None else tuple(mean.shape),
        levels=_levels(value.schedule),
        conditions=conditions,
        null=null,
    )


def _level(schedule: Callable[[Tensor], tuple[Tensor, Tensor]], t: Tensor) -> Tensor:
    """Return the noise levels at times in float64."""
    alpha, sigma = schedule(t)
    return sigma / alpha


def _levels(schedule: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Return the lowest and the highest noise level of a schedule."""
    times = torch.tensor([0.0, ENDS[0], ENDS[1], 1.0], dtype=torch.float64)
    least, low, high, most = _level(schedule, times).tolist()
    found = least if least > 0 else low, most if math.isfinite(most) else high
    if not 0 < found[0] < found[1] < math.inf:
        raise refusal(f"model: noise levels of its schedule go from {found[0]:g} to {found[1]:g}; expected rising ones")
    return found


def _time(schedule: Callable[[Tensor], tuple[Tensor, Tensor]], level: Tensor) -> Tensor:
    """Return the time [batch] in [0, 1] at which the noise level, which rises with it, takes a value [batch]."""
    low, high = torch.zeros_like(level), torch.ones_like(level)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = _level(schedule, middle) > level
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2


def _bound(value: Any, given: Given) -> Denoiser:
    called = Called(lambda x, t, **more: value(x, t, **more).mean, given, value)

    def at_one(x: Tensor, level: Tensor) -> Tensor:
        t = _time(value.schedule, level)
        return called(wide(value.schedule(t)[0], x) * x, t.to(x.dtype).reshape(())).to(x.dtype)

    def ask(x: Tensor, level: Tensor) -> Tensor:
        # its samplers ask at one time for all states, and some of its denoisers know no other way
        each, places = level.unique(return_inverse=True)
        if len(each) == 1:
            return at_one(x, each)
        rows = [(places == i).nonzero().flatten() for i in range(len(each))]
        return torch.cat([at_one(x[row], each[i : i + 1]) for i, row in enumerate(rows)])[torch.cat(rows).argsort()]

    return OfLevels(ask)


def _classes(value: Any) -> tuple[Sequence[Given], Given | None]:
    """Return the arguments of each class of a denoiser of azula's plugins and of none of them."""
    backbone: Any = getattr(value, "backbone", None)
    if kind_in(value, "azula", ("jit.JITDenoiser",)):
        return _whole(value.num_classes), {}
    if kind_in(value, "azula", ("adm.AblatedDenoiser",)):
        return _whole(getattr(backbone, "num_classes", 0) or 0), None
    if kind_in(value, "azula", ("edm.ElucidatedDenoiser",)):
        count = int(getattr(backbone, "label_dim", 0) or 0)
        return tuple({"label": row[None]} for row in torch.eye(count)), {"label": torch.zeros(1, count)}
    return (), None


def _whole(count: int) -> Sequence[Given]:
    return tuple({"label": torch.tensor([label])} for label in range(count))
