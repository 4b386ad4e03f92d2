"""The model of a config, and where and in what floating type its states live."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from softmode.device import parse_device
from softmode.model import Model
from softmode.networks.load import load_model
from softmode.runs.identity import check_state_fits


class Opened(NamedTuple):
    """A model with its states.

    Attributes:
        model: The model.
        device: Device of the states.
        dtype: Floating type of the states.
    """

    model: Model
    device: torch.device
    dtype: torch.dtype


def open_model(config: Any, given: Mapping[str, Any]) -> Opened:
    """Return the model that a config names, or the one that is at hand.

    Args:
        config: Names the model, its shape, schedule and prompt, the device and the floating type.
        given: The `model`, where it is at hand.

    Raises:
        ValueError: If there is no such model or device, or a state does not fit in memory.
    """
    device, dtype = parse_device(config.device), getattr(torch, config.dtype)
    model: Model = given.get("model") or load_model(
        config.model, config.schedule, config.shape, device, dtype, prompt=config.prompt
    )
    check_state_fits(model, dtype)
    return Opened(model, device, dtype)
