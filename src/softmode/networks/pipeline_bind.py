"""One condition of a recorded pipeline as a network of a state and a time: everything else is bound."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from softmode.message import refusal
from softmode.networks.diffusers_denoiser import DiffusersDenoiser
from softmode.networks.pipeline_layout import Layouts, layouts
from softmode.networks.pipeline_record import Call, Recording, Step
from softmode.networks.pipeline_same import difference, same, tolerance

# what a pipeline may make of its scheduler's timestep t, of N, before it is the network's
TIMES: dict[str, Callable[[Any, float], Any]] = {
    "t": lambda t, n: t,
    "t / N": lambda t, n: t / n,
    "1 - t / N": lambda t, n: 1 - t / n,
}
# and of what the network returns, in as many channels as the state has, before it is the scheduler's
SIGNS = (1.0, -1.0)


@dataclass(frozen=True, eq=False)
class BoundNetwork:
    """A pipeline's network of states and timesteps, called as the pipeline's own loop calls it.

    Args:
        network: The network.
        others: Its further arguments, of one state.
        batched: Which of them have a row for every state.
        state: Name of the argument that holds the state, in its first channels.
        bound: Its further channels, [1, channel, *space]; None where there are none.
        time: Name of the argument that holds the time.
        to_time: What becomes of the scheduler's timestep.
        time_dtype: Floating type of the time.
        sign: What becomes of its output.
        layouts: How fields are laid out.
        dtype: Floating type of the network's states.
        device: Their device: the weights of a network that is kept elsewhere are moved when it is called.
        rows: Of how many states the further arguments are, in whose order states come then.
    """

    network: Any
    others: Mapping[str, Any]
    batched: Mapping[str, Any]
    state: str
    bound: Tensor | None
    time: str
    to_time: Callable[[Tensor], Tensor]
    time_dtype: torch.dtype
    sign: float
    layouts: Layouts
    dtype: torch.dtype
    device: torch.device
    rows: int = 1

    def __call__(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        """Return the prediction for states [batch, channel, *space] of the scheduler's kind at timesteps [batch]."""
        out = self.network(**self.arguments(x_t, timesteps))
        first = out[0] if isinstance(out, tuple) else out.sample
        return self.prediction(first, x_t.shape[1]).to(x_t)

    def arguments(self, x_t: Tensor, timesteps: Tensor) -> dict[str, Any]:
        """Return what the network is called with, by name."""
        rows = self.layouts.network.lay(x_t).to(self.device, self.dtype)
        if self.bound is not None:
            rows = torch.cat([rows, self.bound.expand(len(rows), *self.bound.shape[1:])], 1)
        times = len(x_t) // self.rows
        others = {name: _repeated(value, self.batched[name], times) for name, value in self.others.items()}
        return {**others, self.state: rows, self.time: self.to_time(timesteps.to(self.device)).to(self.time_dtype)}

    def prediction(self, output: Tensor, channels: int) -> Tensor:
        """Return what is predicted of fields of so many channels: a network may return its variance after it."""
        tokens = self.layouts.network.order is not None
        return self.sign * self.layouts.network.gather(output if tokens else output[:, :channels])


def bind(recording: Recording, doubled: Recording, network: Any, name: str) -> BoundNetwork:
    """Return what a pipeline calls its network with, but for the state and the time.

    Args:
        recording: Of one state, without guidance.
        doubled: Of two states of the same condition, which tells the rows apart from the rest.
        network: The network.
        name: Of the pipeline, for messages.

    Raises:
        ValueError: If its loop does something that is not known, naming it.
    """
    calls = [step.calls[0] for step in recording.steps]
    first, last = calls[0].arguments, calls[-1].arguments
    changing = [argument for argument in first if not same(first[argument], last.get(argument))]
    state = [a for a in changing if isinstance(first[a], Tensor) and first[a].ndim >= 2]
    time = [a for a in changing if a not in state and _is_time(first[a])]
    if len(state) != 1 or len(time) != 1 or len(changing) != 2:
        raise refusal(
            f"model: the loop of {name} changes {', '.join(changing) or 'nothing'} from step to step; expected one "
            "state and one time: this kind of pipeline is not known"
        )
    fed = first[state[0]]
    others = {a: value for a, value in first.items() if a not in (*state, *time)}
    other = doubled.steps[0].calls[0].arguments
    batched = {a: _batched(value, other.get(a), f"{a} of {name}") for a, value in others.items()}
    laid = layouts(recording, fed, network.config, name)
    given = torch.as_tensor(first[time[0]]).dtype
    found = BoundNetwork(
        network, others, batched, state[0], None, time[0], _time_map(recording, calls, time[0], name),
        given if given.is_floating_point else torch.float32, 1.0, laid, fed.dtype, fed.device,
    )  # fmt: skip
    channels = laid.network.field[0]
    if laid.network.order is None and fed.shape[1] > channels:
        found = replace(found, bound=fed[:, channels:])
        if not same(found.bound, last[state[0]][:, channels:]):
            raise refusal(f"model: the loop of {name} changes what it adds to the state: this kind is not known")
    for sign in SIGNS:
        signed = replace(found, sign=sign)
        pairs = zip(calls, recording.steps, strict=True)
        if all(same(signed.prediction(call.output, channels), predicted(step, laid)) for call, step in pairs):
            return signed
    raise refusal(
        f"model: {name} makes something of its network's output that is neither the output nor its negative before the "
        "scheduler sees it: this kind of pipeline is not known"
    )


def predicted(step: Step, laid: Layouts) -> Tensor:
    """Return what a scheduler was given as the prediction of a state, as a field."""
    given = step.prediction
    return laid.scheduler.gather(given if laid.scheduler.order is not None else given[:, : step.sample.shape[1]])


def rebound(bound: BoundNetwork, recording: Recording, name: str) -> BoundNetwork:
    """Return the network of another condition of the same pipeline.

    Args:
        bound: Of one condition.
        recording: Of one state of the other, without guidance.
        name: Of the pipeline, for messages.

    Raises:
        ValueError: If the network is called with other arguments.
    """
    first = recording.steps[0].calls[0].arguments
    if first.keys() != bound.others.keys() | {bound.state, bound.time}:
        raise refusal(f"model: the loop of {name} calls its network with other arguments for another condition")
    fed, channels = first[bound.state], bound.layouts.network.field[0]
    further = None if bound.bound is None else fed[:, channels:]
    return replace(bound, others={a: first[a] for a in bound.others}, bound=further)


def bound_of(denoiser: DiffusersDenoiser) -> BoundNetwork:
    """Return the bound network of a pipeline's denoiser."""
    assert isinstance(denoiser.network, BoundNetwork)
    return denoiser.network


def stacked(networks: Sequence[BoundNetwork]) -> BoundNetwork | None:
    """Return the network of a batch with a condition for each state; None where the conditions do not fit together.

    Args:
        networks: The network of each state's condition, of one pipeline.
    """
    first, further = networks[0], [each.bound for each in networks]
    try:
        others = {
            name: _together([each.others[name] for each in networks], first.batched[name]) for name in first.others
        }
        bound = None if first.bound is None else torch.cat([each for each in further if each is not None])
    # rows of another shape, or what all states share is another for each condition
    except (RuntimeError, ValueError):
        return None
    return replace(first, others=others, bound=bound, rows=len(networks))


def unguided_branch(bound: BoundNetwork, guided: Recording, name: str) -> BoundNetwork:
    """Return the branch that guidance pushes away from: of what a guided loop asks, the one that is not the condition.

    Args:
        bound: The condition.
        guided: Recording of one state of the same condition, with guidance.
        name: Of the pipeline, for messages.

    Raises:
        ValueError: If the loop does not ask for two branches, of which one is the condition.
    """
    place = place_of(bound, guided, name)
    branches = [_branches(step.calls, bound)[1 - place] for step in guided.steps]
    if any(not same(each, branches[0]) for each in branches[1:]):
        raise refusal(f"model: the guidance of {name} changes what it pushes away from: this kind is not known")
    return replace(bound, others=branches[0])


def place_of(bound: BoundNetwork, guided: Recording, name: str) -> int:
    """Return whether the condition is the first (0) or the second (1) of the two branches that a guided loop asks.

    Args:
        bound: The condition.
        guided: Recording of one state of the same condition, with guidance.
        name: Of the pipeline, for messages.

    Raises:
        ValueError: If it asks no two branches, or neither is the condition.
    """
    branches = _branches(guided.steps[0].calls, bound)
    if len(branches) != 2:
        raise refusal(f"model: the guidance of {name} is of {len(branches)} branches; expected 2: it is not known")
    apart = [difference(branch, dict(bound.others)) for branch in branches]
    place = min(range(2), key=lambda i: apart[i])
    unlike = [a for a in bound.others if not same(branches[place].get(a), bound.others[a])]
    if unlike:
        raise refusal(
            f"model: with guidance {name} gives its network another {', '.join(unlike)} of the same condition than "
            "without: this kind is not known"
        )
    return place


def _branches(calls: list[Call], bound: BoundNetwork) -> list[dict[str, Any]]:
    """Return the further arguments of each branch: each a call of its own, or rows of one."""
    if len(calls) > 1:
        return [{a: value for a, value in call.arguments.items() if a in bound.others} for call in calls]
    (call,) = calls
    rows = len(call.output)
    taken = [(a, value) for a, value in call.arguments.items() if a in bound.others]
    return [{a: _row(value, bound.batched[a], row, rows) for a, value in taken} for row in range(rows)]


def _time_map(recording: Recording, calls: list[Call], argument: str, name: str) -> Callable[[Tensor], Tensor]:
    """Return what becomes of the scheduler's timestep before it is the network's time."""
    given = [torch.as_tensor(call.arguments[argument]).flatten() for call in calls]
    own = torch.tensor([step.timestep for step in recording.steps], dtype=torch.float64)
    count = float(recording.scheduler.config.get("num_train_timesteps", 1))
    found = torch.stack([time[0] for time in given]).double().cpu()
    near = tolerance(given[0].dtype)
    for change in TIMES.values():
        if float((change(own, count) - found).abs().max()) <= near * max(float(found.abs().max()), 1.0):
            return partial(_changed, change, count)
    raise refusal(
        f"model: {name} calls its network at times {found.tolist()} where its scheduler's are {own.tolist()}; expected "
        f"one of {', '.join(TIMES)}: this kind is not known"
    )


def _changed(change: Callable[[Any, float], Any], count: float, timestep: Tensor) -> Tensor:
    made: Tensor = change(timestep, count)
    return made


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.ndim <= 1)


def _batched(one: Any, two: Any, what: str) -> Any:
    """Return whether an argument has a row per state, by its form for one state and for two; a dict of its parts."""
    if isinstance(one, dict) and isinstance(two, dict):
        return {name: _batched(value, two.get(name), what) for name, value in one.items()}
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        if len(one) == len(two):
            return [_batched(a, b, what) for a, b in zip(one, two, strict=True)]
        if 2 * len(one) == len(two):
            return True
    if not isinstance(one, Tensor) and not isinstance(two, Tensor | list | tuple | dict):
        return False
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        if one.shape == two.shape:
            return False
        if one.shape[1:] == two.shape[1:] and (len(one), len(two)) == (1, 2):
            return True
    forms = (tuple(each.shape) if isinstance(each, Tensor) else type(each).__name__ for each in (one, two))
    raise refusal(f"model: {what} is {' for one state and '.join(map(str, forms))} for two: this kind is not known")


def _repeated(value: Any, batched: Any, count: int) -> Any:
    """Return an argument for so many states."""
    if isinstance(batched, dict):
        return {name: _repeated(each, batched[name], count) for name, each in value.items()}
    if isinstance(batched, list):
        return type(value)(_repeated(each, own, count) for each, own in zip(value, batched, strict=True))
    if not batched:
        return value
    # rows of their own in memory: some networks look at them in another shape
    return value.repeat(count, *[1] * (value.ndim - 1)) if isinstance(value, Tensor) else value * count


def _together(values: list[Any], batched: Any) -> Any:
    """Return an argument of several conditions, their rows one after the other.

    Raises:
        ValueError: If what has no rows is not the same for all, or tensors do not fit together (RuntimeError).
    """
    first = values[0]
    if isinstance(batched, dict):
        return {name: _together([each[name] for each in values], own) for name, own in batched.items()}
    if isinstance(batched, list):
        parts = zip(*values, strict=True)
        return type(first)(_together(list(each), own) for each, own in zip(parts, batched, strict=True))
    if batched:
        return torch.cat(values) if isinstance(first, Tensor) else type(first)(each for v in values for each in v)
    if not all(same(each, first) for each in values):
        raise ValueError("conditions differ in what all states share")
    return first


def _row(value: Any, batched: Any, row: int, rows: int) -> Any:
    """Return a row of an argument for so many states."""
    if isinstance(batched, dict):
        return {name: _row(each, batched[name], row, rows) for name, each in value.items()}
    if isinstance(batched, list):
        return type(value)(_row(each, own, row, rows) for each, own in zip(value, batched, strict=True))
    return value[row * len(value) // rows :][: len(value) // rows] if batched else value
