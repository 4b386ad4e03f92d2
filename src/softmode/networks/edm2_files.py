"""EDM2 networks by file: official pickles, and what softmode convert-edm2 makes of one."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softmode.files import DIRECTORY, json_object, kind_of, sha256
from softmode.message import first_line, quote, refusal
from softmode.model import Model
from softmode.networks.card import build, check_state, read_tensors, write_tensors
from softmode.networks.edm2 import EDM2, NUMBERS, EDM2Config, check_fields
from softmode.networks.fields import made
from softmode.networks.persistent_pickle import read_persistent
from softmode.process import parse_process


def load_edm2_model(
    source: str, schedule: str, shape: tuple[int, ...], device: torch.device | str, dtype: torch.dtype
) -> Model:
    """Return the model of an EDM2 file, in the variance-exploding process of its training.

    Args:
        source: edm2:file.
        schedule: Process in which to sample; ve when left out.
        shape: Shape of a state, which must be that of its training.
        device: Device of its weights.
        dtype: Floating type of its weights.

    Raises:
        ValueError: If the file holds no EDM2 network.
    """
    path = source.removeprefix("edm2:")
    network = load_edm2(path)
    config = network.config
    trained = (config.img_channels, config.img_resolution, config.img_resolution)
    if shape and shape != trained:
        raise refusal(f"shape: got {shape}; expected {trained}, that of {quote(source)}: leave it out")
    network.to(device, dtype)
    return Model(
        name=source,
        process=parse_process(schedule or "ve"),
        shape=trained,
        bind=lambda label: partial(network, label=label),
        batched=lambda labels: partial(network, label=network.one_hot(labels)),
        classes=config.label_dim,
        inputs={"weights": sha256(path)},
    )


def load_edm2(path: str | Path) -> EDM2:
    """Return the network of an official EDM2 pickle, or of what `convert_edm2` made of one, in float32 for evaluation.

    Raises:
        ValueError: If the file holds no EDM2 network, or weights of another shape than it says.
    """
    path = Path(path)
    if path.suffix == ".pkl":
        state, config = read_edm2_pickle(path)
    else:
        state, metadata = read_tensors(path)
        try:
            config = as_config(json_object(metadata["edm2"]))
        except (KeyError, ValueError) as error:
            raise refusal(
                f"weights: {quote(str(path))} was not made by softmode convert-edm2 ({first_line(error)})"
            ) from None
    network = build(partial(EDM2, config), state, str(path))
    assert isinstance(network, EDM2)
    return network


def convert_edm2(source: str | Path, target: str | Path) -> None:
    """Write the network of an official EDM2 pickle as safetensors, atomically.

    Raises:
        ValueError: If the source is no EDM2 pickle, its weights do not fit, or the target is there already or cannot be
            written.
    """
    target = Path(target)
    if os.path.lexists(target):
        raise refusal(f"target: {quote(str(target))} is there already; name another file")
    if (kind := kind_of(target.parent)) != DIRECTORY:
        raise refusal(f"target: {quote(str(target.parent))} is no directory ({kind}); make it first")
    state, config = read_edm2_pickle(source)
    with torch.device("meta"):
        network = EDM2(config)
    check_state(network, state, str(source))
    try:
        write_tensors(target, state, {"edm2": json.dumps(asdict(config))})
    except OSError as error:
        raise refusal(f"target: cannot write {quote(str(target))} ({first_line(error)}); name another file") from None


def read_edm2_pickle(path: str | Path) -> tuple[dict[str, Tensor], EDM2Config]:
    """Return the weights and the shape of the network in an official EDM2 pickle, without running any of it.

    Raises:
        ValueError: If the file is missing or truncated, names anything unknown, or holds no EDM2 network.
    """
    return read_persistent(path, "edm2", lambda _, given: as_config(given))


def as_config(given: Mapping[str, Any]) -> EDM2Config:
    """Return the shape of which JSON or a pickle gives the fields, lists for tuples.

    Raises:
        ValueError: If a field is not known, lacks, is of another type or beyond its bounds.
    """
    return made(EDM2Config, given, check_fields, NUMBERS)
