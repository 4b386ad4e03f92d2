"""One condition of a recorded pipeline as a network of a state and a time: everything else is bound."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softmode.message import refusal
from softmode.networks.pipeline_record import Call, Recording

# relative difference up to which two numbers of a loop are the same
SAME = 1e-5
# what a pipeline may make of its scheduler's timestep t, of N, before it is the network's
TIMES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "t": lambda t, n: t,
    "t / N": lambda t, n: t / n,
    "1 - t / N": lambda t, n: 1 - t / n,
}
# and of what the network returns, of as many channels as the state has, before it is the scheduler's
SIGNS = (1.0, -1.0)


class Packing(NamedTuple):
    """How a pipeline lays out fields for its network.

    Attributes:
        shape: Shape of a field, (channel, *space).
        order: Which site of the flat field each number of a flat row of tokens is.
        tokens: Shape of a row of tokens.
    """

    shape: tuple[int, ...]
    order: Tensor
    tokens: tuple[int, ...]

    def pack(self, x: Tensor) -> Tensor:
        """Return fields [batch, *shape] as tokens."""
        return x.flatten(1)[:, self.order.to(x.device)].reshape(-1, *self.tokens)

    def unpack(self, tokens: Tensor) -> Tensor:
        """Return tokens as fields."""
        back = torch.argsort(self.order).to(tokens.device)
        return tokens.flatten(1)[:, back].reshape(-1, *self.shape)


@dataclass(frozen=True, eq=False)
class BoundNetwork:
    """A pipeline's network of states and timesteps, called as the pipeline's own loop calls it.

    Args:
        network: The network.
        arguments: Its further arguments, of one state.
        batched: Which of them have a row for every state.
        state: Name of the argument that holds the state, in its first channels.
        bound: Its further channels, [1, channel, *space]; None where there are none.
        time: Name of the argument that holds the time.
        to_time: What becomes of the scheduler's timestep.
        sign: What becomes of its output.
        packing: How fields are laid out; None where they are taken as they are.
    """

    network: Any
    arguments: Mapping[str, Any]
    batched: Mapping[str, Any]
    state: str
    bound: Tensor | None
    time: str
    to_time: Callable[[Tensor], Tensor]
    sign: float
    packing: Packing | None

    def __call__(self, x: Tensor, timestep: Tensor) -> Tensor:
        """Return the prediction for states in the network's own coordinates at timesteps [batch]."""
        rows = self.packing.pack(x) if self.packing else x
        if self.bound is not None:
            rows = torch.cat([rows, self.bound.to(rows).expand(len(rows), *self.bound.shape[1:])], 1)
        others = {name: _repeated(value, self.batched[name], len(x)) for name, value in self.arguments.items()}
        out = self.network(**others, **{self.state: rows, self.time: self.to_time(timestep)})
        first = out[0] if isinstance(out, tuple) else out.sample
        made = self.sign * (first if self.packing else first[:, : x.shape[1]])
        return self.packing.unpack(made) if self.packing else made


def bind(recording: Recording, doubled: Recording, network: Any, timesteps: float, name: str) -> BoundNetwork:
    """Return what a pipeline calls its network with, but for the state and the time.

    Args:
        recording: Of one state.
        doubled: Of two states of the same condition, which tells the rows apart from the rest.
        network: The network.
        timesteps: Of the scheduler's training, N.
        name: Of the pipeline, for messages.

    Raises:
        ValueError: If its loop does something that is not known, naming it.
    """
    calls = [_only_call(step.calls, name) for step in recording.steps]
    packing = _packing(recording, name)
    first, last = calls[0].arguments, calls[-1].arguments
    changing = [argument for argument in first if not _equal(first[argument], last[argument])]
    state = [a for a in changing if isinstance(first[a], Tensor) and first[a].ndim >= 3]
    time = [a for a in changing if a not in state and _is_time(first[a])]
    if len(state) != 1 or len(time) != 1 or len(changing) != 2:
        told = ", ".join(changing) or "nothing"
        raise refusal(
            f"model: the loop of {name} changes {told} from step to step; expected one state and one time: this kind of "
            "pipeline is not known"
        )
    channels = recording.steps[0].sample.shape[1]
    bound = None
    if packing is None and first[state[0]].shape[1] > channels:
        bound = first[state[0]][:, channels:]
        if not _equal(bound, last[state[0]][:, channels:]):
            raise refusal(f"model: the loop of {name} changes what it adds to the state: this kind is not known")
    others = {a: value for a, value in first.items() if a not in (*state, *time)}
    other = _only_call(doubled.steps[0].calls, name).arguments
    batched = {a: _batched(value, other[a], f"{name}'s {a}") for a, value in others.items()}
    return BoundNetwork(
        network, others, batched, state[0], bound, time[0], _time_map(recording, calls, time[0], timesteps, name),
        _sign(recording, calls, packing, name), packing,
    )  # fmt: skip


def _only_call(calls: Sequence[Call], name: str) -> Call:
    if len(calls) != 1:
        raise refusal(f"model: the loop of {name} calls its network {len(calls)} times in a step: this is not known")
    return calls[0]


def _packing(recording: Recording, name: str) -> Packing | None:
    """Return how fields become the rows of tokens that the loop's states are."""
    sample = recording.steps[0].sample
    for latents, pack, rows in recording.packed:
        if rows.shape == sample.shape and _equal(rows, sample):
            index = torch.arange(latents.numel(), dtype=torch.float64).reshape(latents.shape)
            order = pack(index).flatten().long()
            # some pipelines keep an axis of frames, of which an image has one, before the channels
            shape = latents.shape[2:] if latents.ndim == 5 and latents.shape[1] == 1 else latents.shape[1:]
            return Packing(tuple(shape), order, tuple(sample.shape[1:]))
    if sample.ndim < 4:
        raise refusal(
            f"model: the states of {name} are of shape {tuple(sample.shape[1:])}; which axes are space is not known"
        )
    return None


def _time_map(
    recording: Recording, calls: Sequence[Call], argument: str, timesteps: float, name: str
) -> Callable[[Tensor], Tensor]:
    """Return what becomes of the scheduler's timestep before it is the network's time."""
    given = torch.tensor([float(torch.as_tensor(call.arguments[argument]).flatten()[0]) for call in calls])
    own = torch.tensor([step.timestep for step in recording.steps])
    for change in TIMES.values():
        if torch.allclose(change(own, timesteps), given, rtol=SAME, atol=SAME * float(given.abs().max())):
            like = calls[0].arguments[argument]
            scalar = not isinstance(like, Tensor) or like.ndim == 0
            return lambda t: change(t, timesteps)[0] if scalar else change(t, timesteps)
    raise refusal(
        f"model: {name} calls its network at times {given.tolist()} where its scheduler's are {own.tolist()}; expected "
        f"one of {', '.join(TIMES)}"
    )


def _sign(recording: Recording, calls: Sequence[Call], packing: Packing | None, name: str) -> float:
    """Return the sign with which the network's output is the scheduler's."""
    for sign in SIGNS:
        pairs = [(sign * call.output, step.prediction) for call, step in zip(calls, recording.steps, strict=True)]
        if all(_equal(out if packing else out[:, : made.shape[1]], made) for out, made in pairs):
            return sign
    raise refusal(
        f"model: {name} makes something of its network's output that is neither the output nor its negative before the "
        "scheduler sees it: this kind of pipeline is not known"
    )


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.ndim <= 1)


def _equal(a: Any, b: Any) -> bool:
    """Return whether two arguments are the same, tensors up to rounding."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape:
            return False
        scale = SAME * float(b.abs().max()) if b.numel() else 0.0
        return torch.allclose(a.double(), b.double(), rtol=0, atol=scale)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


def _batched(one: Any, two: Any, what: str) -> Any:
    """Return whether an argument has a row per state, by its form for one state and for two; a dict of its parts."""
    if isinstance(one, dict):
        return {name: _batched(value, two[name], what) for name, value in one.items()}
    if isinstance(one, list | tuple) and len(one) == len(two):
        return [_batched(a, b, what) for a, b in zip(one, two, strict=True)]
    if isinstance(one, list | tuple):
        return True
    if not isinstance(one, Tensor) or one.shape == two.shape:
        return False
    if one.shape[1:] == two.shape[1:] and (len(one), len(two)) == (1, 2):
        return True
    raise refusal(f"model: {what} is {tuple(one.shape)} for one state and {tuple(two.shape)} for two: not known")


def _repeated(value: Any, batched: Any, count: int) -> Any:
    """Return an argument for so many states."""
    if isinstance(batched, dict):
        return {name: _repeated(each, batched[name], count) for name, each in value.items()}
    if isinstance(batched, list):
        return type(value)(_repeated(each, own, count) for each, own in zip(value, batched, strict=True))
    if not batched:
        return value
    if isinstance(value, Tensor):
        return value.expand(count, *value.shape[1:])
    return value * count
