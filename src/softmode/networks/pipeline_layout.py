"""How a pipeline lays a field out for its network and for its scheduler: as it is, in tokens, frames apart."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from softmode.message import refusal
from softmode.networks.pipeline_record import Recording
from softmode.networks.pipeline_same import same


class Layout(NamedTuple):
    """Where the numbers of a field go.

    Attributes:
        field: Shape of a field, (channel, *space).
        order: Which number of the flat field each number of what is laid out is; None where all stay in place.
        laid: Shape of what is laid out, but for its first axis.
    """

    field: tuple[int, ...]
    order: Tensor | None
    laid: tuple[int, ...]

    def lay(self, x: Tensor) -> Tensor:
        """Return fields [batch, channel, *space] laid out."""
        if self.order is None:
            return x
        return x.flatten(1)[:, self.order.to(x.device)].reshape(-1, *self.laid)

    def gather(self, y: Tensor) -> Tensor:
        """Return what is laid out as fields [batch, channel, *space]."""
        if self.order is None:
            return y
        return y.reshape(-1, len(self.order))[:, torch.argsort(self.order).to(y.device)].reshape(-1, *self.field)


class Layouts(NamedTuple):
    """The layouts of a pipeline.

    Attributes:
        network: Of what its network takes and returns.
        scheduler: Of what its scheduler takes and returns.
    """

    network: Layout
    scheduler: Layout


def layouts(recording: Recording, state: Tensor, config: Any, name: str) -> Layouts:
    """Return how a recorded pipeline lays out one state.

    Args:
        recording: Its recording of one state, without guidance.
        state: What its network was called with as the state, which may have further channels.
        config: The network's config, which tells its channels.
        name: Of the pipeline, for messages.

    Raises:
        ValueError: If which axis is of the channels, and which are space, is not known.
    """
    sample = recording.steps[0].sample
    for latents, pack, rows in recording.packed:
        if rows.shape == sample.shape == state.shape and same(rows, sample):
            index = torch.arange(latents.numel(), dtype=torch.float64, device=latents.device).reshape(latents.shape)
            order = pack(index).flatten().long().cpu()
            if len(order) != latents.numel():
                break
            # some keep an axis of frames, of which an image has one, before the channels
            field = latents.shape[2:] if latents.ndim == 5 and latents.shape[1] == 1 else latents.shape[1:]
            tokens = Layout(tuple(field), order, tuple(sample.shape[1:]))
            return Layouts(tokens, tokens)
    channels = {config.get(each) for each in ("in_channels", "out_channels", "num_latent_channels")} - {None}
    shape = tuple(sample.shape)
    if sample.ndim == state.ndim and sample.ndim in (4, 5) and (not channels or shape[1] in channels):
        plain = Layout(shape[1:], None, shape[1:])
        return Layouts(plain, plain)
    if sample.ndim == state.ndim == 5 and shape[2] in channels:
        swapped = _moved((shape[2], shape[1], *shape[3:]), lambda field: field.transpose(1, 2))
        return Layouts(swapped, swapped)
    # of a video, some schedulers are given each frame as a state
    if state.ndim == 5 and sample.ndim == 4 and (state.shape[2], *state.shape[3:]) == (shape[0], *shape[2:]):
        video = (shape[1], shape[0], *shape[2:])
        frames = _moved(video, lambda field: field.transpose(1, 2).flatten(0, 1))
        return Layouts(Layout(video, None, video), frames)
    raise refusal(
        f"model: the states of {name} are of shape {shape[1:]}, of a network with {sorted(channels)} channels; which "
        "of their axes are space is not known"
    )


def _moved(field: tuple[int, ...], move: Any) -> Layout:
    """Return the layout that a function of one field makes."""
    index = torch.arange(torch.Size(field).numel()).reshape(1, *field)
    moved = move(index)
    return Layout(field, moved.flatten(), tuple(moved.shape[1:]))
