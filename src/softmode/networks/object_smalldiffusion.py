"""Networks of smalldiffusion, which predict what their `predict_eps` makes the noise of, with a Schedule of levels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from softmode.denoiser import Denoiser, from_flow
from softmode.message import refusal
from softmode.networks.taken import Called, Given, OfLevels, Taken, kind_in, unknown, wide

KINDS = ("model.ModelMixin",)


def read(value: Any, schedule: Any) -> Taken:
    """Return what is read off a network of smalldiffusion, given its Schedule."""
    name = type(value).__name__
    if not kind_in(value, "smalldiffusion", KINDS):
        raise unknown(value, "smalldiffusion", KINDS, "give its network, and this as schedule=")
    # the ideal denoiser of some data knows every level
    if kind_in(value, "smalldiffusion", ("model.IdealDenoiser",)):
        levels = None
    elif kind_in(schedule, "smalldiffusion", ("diffusion.Schedule",)):
        levels = _levels(schedule.sigmas, _flow(value))
    else:
        raise refusal(
            f"schedule: {name} does not know its noise levels; give its Schedule, schedule=ScheduleDDPM(1000)"
        )
    embedding = getattr(value, "cond_embed", None)
    classes = int(getattr(embedding, "null_cond", 0))
    return Taken(
        bind=lambda given: _bound(value, given),
        shape=tuple(getattr(value, "input_dims", ())),
        levels=levels,
        conditions=tuple({"cond": torch.tensor([label])} for label in range(classes)),
        # never seen in a training that drops no label
        null={"cond": torch.tensor([classes])} if getattr(embedding, "dropout_prob", 0.0) > 0 else None,
    )


def _flow(value: object) -> bool:
    """Return whether a network predicts a flow's velocity: the package makes a class of that name for it."""
    return any(each.__name__.endswith("PredFlow") for each in type(value).__mro__)


def _levels(sigmas: Tensor, flow: bool) -> tuple[float, float]:
    """Return the lowest and highest noise level of a schedule, of a flow's times the finite ones."""
    told = sigmas.double()
    if flow:
        told = told[told < 1] / (1 - told[told < 1])
    return float(told.min()), float(told.max())


def _bound(value: Any, given: Given) -> Denoiser:
    predict: Callable[..., Tensor] = value.predict_eps
    called = Called(predict, given, value if isinstance(value, nn.Module) else None)

    def of_noise(x: Tensor, level: Tensor) -> Tensor:
        sigma = wide(level, x)
        return x - sigma * called(x, sigma)

    return from_flow(lambda x, t: called(x, wide(t, x))) if _flow(value) else OfLevels(of_noise)
