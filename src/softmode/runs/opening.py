"""The model of a config, and where and in what floating type its states live."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from softmode.device import parse_device
from softmode.files import regular_file
from softmode.message import first_line, quote, refusal
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
        config.model,
        config.schedule,
        config.shape,
        device,
        dtype,
        prompt=prompts_of(config.prompt, config.prompts),
        negative=config.negative,
    )
    check_state_fits(model, dtype)
    return Opened(model.with_null(config.null_label), device, dtype)


def prompts_of(prompt: tuple[str, ...], prompts: str) -> tuple[str, ...]:
    """Return prompts as they are given, or those of a file.

    Args:
        prompt: The prompts.
        prompts: A file with one on each line, in their place; none when empty.

    Raises:
        ValueError: If both are given, or the file holds none.
    """
    if not prompts:
        return prompt
    name = quote(prompts)
    if prompt:
        raise refusal(f"prompts: got {name} beside prompt {quote(prompt[0])}; give one of them")
    try:
        lines = regular_file("prompts", prompts).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise refusal(
            f"prompts: cannot read {name} ({first_line(error)}); expected a text, a prompt on each line"
        ) from None
    found = tuple(line.strip() for line in lines if line.strip())
    if not found:
        raise refusal(f"prompts: {name} holds none; expected a prompt on each line")
    return found
