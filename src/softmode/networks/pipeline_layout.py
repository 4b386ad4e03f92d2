"""How a pipeline lays a field out for its network and for its scheduler: as it is, in tokens, beside its condition."""

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
        """Return what is laid out as fields [batch, channel, *space]; further entries, such as a variance, are left."""
        if self.order is None:
            return y[:, : self.field[0]]
        if y.ndim == len(self.laid) + 1:
            y = y[(slice(None), *map(slice, self.laid))]
        return y.reshape(-1, len(self.order))[:, torch.argsort(self.order).to(y.device)].reshape(-1, *self.field)


class Beside(NamedTuple):
    """What a network is given beside the state in one tensor: further channels, tokens or frames.

    Attributes:
        axis: Axis along which they are joined.
        before: What comes before the state, of one state.
        after: What comes after it.
    """

    axis: int
    before: Tensor
    after: Tensor

    def join(self, rows: Tensor) -> Tensor:
        """Return states with what is beside them."""
        before, after = (each.expand(len(rows), *each.shape[1:]) for each in (self.before, self.after))
        return torch.cat([before, rows, after], self.axis)

    def part(self, whole: Tensor) -> Tensor:
        """Return the states of what was joined."""
        begin, rest = self.before.shape[self.axis], self.after.shape[self.axis]
        return whole.narrow(self.axis, begin, whole.shape[self.axis] - begin - rest)

    def of(self, whole: Tensor) -> "Beside":
        """Return what is beside the state in another tensor of the same kind."""
        begin, rest = self.before.shape[self.axis], self.after.shape[self.axis]
        end = whole.shape[self.axis] - rest
        return Beside(self.axis, whole.narrow(self.axis, 0, begin), whole.narrow(self.axis, end, rest))


class Layouts(NamedTuple):
    """The layouts of a pipeline.

    Attributes:
        network: Of what its network takes and returns.
        scheduler: Of what its scheduler takes and returns.
        beside: What its network is given beside the state; None where there is nothing.
    """

    network: Layout
    scheduler: Layout
    beside: Beside | None = None


def layouts(recording: Recording, first: Tensor, last: Tensor, config: Any, name: str) -> Layouts:
    """Return how a recorded pipeline lays out one state.

    Args:
        recording: Its recording of one state, without guidance.
        first: What its network was called with as the state at the first step, and what is beside it.
        last: The same at the last step.
        config: The network's config, which tells its channels.
        name: Of the pipeline, for messages.

    Raises:
        ValueError: If which axis is of the channels, and which are space, is not known.
    """
    sample = recording.steps[0].sample
    beside = _beside(sample, first, last)
    state = beside.part(first) if beside else first
    if packed := _packed(recording, sample):
        return Layouts(packed._replace(laid=tuple(state.shape[1:])), packed, beside)
    channels = {config.get(each) for each in ("in_channels", "out_channels", "num_latent_channels", "in_visual_dim")}
    channels -= {None}
    shape = tuple(sample.shape)
    joined = beside is not None and beside.axis == 1
    if sample.ndim == 5 and not joined and shape[1] == shape[2] and shape[1] in channels:
        raise refusal(
            f"model: the states of {name} have as many frames as channels, {shape[1]}, so which axis is which is not "
            "known; give another number of frames"
        )
    plain = _plain(shape, state) if sample.ndim in (4, 5) else None
    if plain and (not channels or shape[1] in channels or joined):
        return Layouts(plain, Layout(shape[1:], None, shape[1:]), beside)
    if sample.ndim == 5 and state.shape == sample.shape:
        # channels after the frames, or last
        for axis in (2, 4):
            if shape[axis] in channels or (beside is not None and beside.axis == axis):
                moved = _moved(shape, axis)
                return Layouts(moved, moved, beside)
    # a network may return its variance too, and make channels of a hint itself
    if plain and 2 * shape[1] in channels:
        return Layouts(plain, Layout(shape[1:], None, shape[1:]), beside)
    # of a video, some schedulers are given each frame as a state
    if first.ndim == 5 and sample.ndim == 4 and (first.shape[2], *first.shape[3:]) == (shape[0], *shape[2:]):
        video = (shape[1], shape[0], *shape[2:])
        order = torch.arange(sample.numel()).reshape(video).transpose(0, 1).flatten()
        return Layouts(Layout(video, None, video), Layout(video, order, shape[1:]))
    if sample.ndim <= 3:
        raise refusal(
            f"model: the states of {name} are of shape {shape[1:]}, embeddings, sound or tokens of several images, "
            "not one field in space; of a cascade, give the stage that makes images"
        )
    raise refusal(
        f"model: the states of {name} are of shape {shape[1:]}, of a network with {sorted(channels)} channels; which "
        "of their axes are space is not known"
    )


def _beside(sample: Tensor, first: Tensor, last: Tensor) -> Beside | None:
    """Return what stays the same beside a state in one tensor, before and after it; None where there is nothing."""
    if first.ndim != sample.ndim or first.shape != last.shape:
        return None
    longer = [axis for axis in range(1, first.ndim) if first.shape[axis] != sample.shape[axis]]
    if len(longer) != 1 or len(first) != len(sample):
        return None
    (axis,) = longer
    others = [each for each in range(first.ndim) if each != axis]
    changed = (first != last).any(dim=others).nonzero().flatten() if others else first.new_zeros(0)
    length, whole = sample.shape[axis], first.shape[axis]
    if not len(changed) or int(changed[-1]) - int(changed[0]) >= length:
        return None
    # a channel of the state may stay as it is by chance: what is beside it comes last, or else first
    begin = 0 if int(changed[-1]) < length else whole - length if int(changed[0]) >= whole - length else int(changed[0])
    return Beside(axis, first.narrow(axis, 0, begin), first.narrow(axis, begin + length, whole - begin - length))


def _packed(recording: Recording, sample: Tensor) -> Layout | None:
    """Return the layout of tokens by the pipeline's own packing; None where it packs no such state, or in two ways."""
    found: dict[bytes, Layout] = {}
    alike = [each for each in recording.packed if each[2].shape == sample.shape]
    # of the state itself, or of an image that noise is added to later
    for latents, pack, _ in [each for each in alike if same(each[2], sample)] or alike:
        index = torch.arange(latents.numel(), dtype=torch.float64, device=latents.device).reshape(latents.shape)
        order = pack(index).flatten().long().cpu()
        if len(order) == latents.numel() == len(order.unique()):
            # some keep an axis of frames, of which an image has one, before the channels
            field = latents.shape[2:] if latents.ndim == 5 and latents.shape[1] == 1 else latents.shape[1:]
            layout = Layout(tuple(field), order, tuple(sample.shape[1:]))
            found[order.numpy().tobytes() + bytes(str(field), "ascii")] = layout
    return next(iter(found.values())) if len(found) == 1 else None


def _plain(shape: tuple[int, ...], state: Tensor) -> Layout | None:
    """Return the layout of a state that is as the scheduler's but for axes of length 1; None where it is not."""
    if tuple(state.shape) == shape:
        return Layout(shape[1:], None, shape[1:])
    if [n for n in state.shape[1:] if n > 1] == [n for n in shape[1:] if n > 1] and len(state) == shape[0]:
        return Layout(shape[1:], torch.arange(state[0].numel()), tuple(state.shape[1:]))
    return None


def _moved(shape: tuple[int, ...], axis: int) -> Layout:
    """Return the layout of states whose channels are at another axis than the first."""
    field = (shape[axis], *shape[1:axis], *shape[axis + 1 :])
    order = torch.arange(torch.Size(field).numel()).reshape(1, *field).movedim(1, axis).flatten()
    return Layout(field, order, shape[1:])
