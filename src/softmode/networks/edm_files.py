"""Official EDM pickles (karras2022) as models."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from softmode.denoiser import Denoiser
from softmode.files import sha256
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.networks.card import build
from softmode.networks.edm import EDM, as_config
from softmode.networks.persistent_pickle import read_persistent
from softmode.process import parse_process


def load_edm_model(
    source: str, schedule: str, shape: tuple[int, ...], device: torch.device | str, dtype: torch.dtype
) -> Model:
    """Return the model of an official EDM pickle, in the coordinates of its preconditioning.

    Args:
        source: edm:file.
        schedule: Process in which to sample; ve, in which the official code does, when left out.
        shape: Shape of a state, which must be that of its training.
        device: Device of its weights.
        dtype: Floating type of its weights.

    Raises:
        ValueError: If the file holds no EDM network.
    """
    path = source.removeprefix("edm:")
    return as_model(source, load_edm(path), schedule, shape, device, dtype, {"weights": sha256(path)})


def as_model(
    source: str,
    network: EDM,
    schedule: str,
    shape: tuple[int, ...],
    device: torch.device | str,
    dtype: torch.dtype,
    inputs: dict[str, str],
) -> Model:
    """Return a network as the model that a user named so.

    Raises:
        ValueError: If the shape of a state is not that of its training.
    """
    unet = network.config.unet
    trained = (unet.img_channels, unet.img_resolution, unet.img_resolution)
    if shape and shape != trained:
        raise refusal(f"shape: got {shape}; expected {trained}, that of {quote(source)}: leave it out")
    network.to(device, dtype)
    return Model(
        name=source,
        process=parse_process(schedule or "ve"),
        shape=trained,
        bind=partial(_bind, network),
        batched=partial(_together, network) if unet.label_dim else None,
        classes=unet.label_dim,
        levels=network.levels(),
        inputs=inputs,
    )


def _bind(network: EDM, label: int | None) -> Denoiser:
    """Return the denoiser of a class, or of all of them where the network has been shown images without."""
    unet = network.config.unet
    if label is None and unet.label_dim and not unet.label_dropout:
        raise refusal(
            f"labels: this network was always shown its images' classes; name some of 0 to {unet.label_dim - 1}"
        )
    return partial(network, label=label)


def _together(network: EDM, labels: Sequence[int | None]) -> Denoiser:
    """Return the denoiser of states with a class each."""
    for label in set(labels):
        _bind(network, label)
    return partial(network, label=network.one_hot(labels))


def load_edm(path: str | Path) -> EDM:
    """Return the network of an official EDM pickle in float32 for evaluation.

    Raises:
        ValueError: If the file holds no EDM network, or weights of another shape than it says.
    """
    state, config = read_persistent(path, "edm", as_config)
    network = build(partial(EDM, config), state, str(path))
    assert isinstance(network, EDM)
    levels = network.levels()
    if levels is not None and not 0 <= levels[0] < levels[1]:
        raise refusal(f"weights: {quote(str(path))} knows noise levels from {levels[0]:g} to {levels[1]:g}; is damaged")
    return network
