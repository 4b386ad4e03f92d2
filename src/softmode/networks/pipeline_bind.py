"""One condition of a recorded pipeline as a network of a state and a time: everything else is bound."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from softmode.message import refusal
from softmode.networks.pipeline_layout import Beside, Layouts, layouts
from softmode.networks.pipeline_record import BY_HAND, Call, Recording, Step, first_output
from softmode.networks.pipeline_same import ROUNDOFF, difference, same, same_times, tolerance_of_batch

# what a pipeline may make of its scheduler's timestep t, of N, before it is the network's
TIMES: dict[str, Callable[[Any, float], Any]] = {
    "t": lambda t, n: t,
    "t / N": lambda t, n: t / n,
    "1 - t / N": lambda t, n: 1 - t / n,
    "N - t": lambda t, n: n - t,
}
# and of what the network returns, in as many channels as the state has, before it is the scheduler's
SIGNS = (1.0, -1.0)


@dataclass(frozen=True, eq=False)
class BoundNetwork:
    """A pipeline's network of states and timesteps, called as the pipeline's own loop calls it.

    Args:
        network: The network.
        others: Its further arguments, of one state.
        batched: Which of them have a row for every state; None where the network is asked for one state at a time.
        state: Name of the argument that holds the state.
        listed: Whether that is a list of one tensor per state.
        beside: What is joined to the state in that argument, of one state; None where there is nothing.
        time: Name of the argument that holds the time.
        to_time: What becomes of the scheduler's timestep.
        time_shape: Shape of the time of one state, but for its first axis.
        time_dtype: Floating type of the time.
        sign: What becomes of its output.
        layouts: How fields are laid out.
        dtype: Floating type of the network's states.
        device: Their device: the weights of a network that is kept elsewhere are moved when it is called.
        rows: Of how many states the further arguments are, in whose order states come then.
    """

    network: Any
    others: Mapping[str, Any]
    batched: Mapping[str, Any] | None
    state: str
    listed: bool
    beside: Beside | None
    time: str
    to_time: Callable[[Tensor], Tensor]
    time_shape: tuple[int, ...]
    time_dtype: torch.dtype
    sign: float
    layouts: Layouts
    dtype: torch.dtype
    device: torch.device
    rows: int = 1

    def __call__(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        """Return the prediction for states [batch, channel, *space] of the scheduler's kind at timesteps [batch]."""
        if self.batched is None and len(x_t) > 1:
            times = timesteps.expand(len(x_t))
            return torch.cat([self(x_t[i : i + 1], times[i : i + 1]) for i in range(len(x_t))])
        return self.prediction(first_output(self.network(**self.arguments(x_t, timesteps)))).to(x_t)

    def arguments(self, x_t: Tensor, timesteps: Tensor) -> dict[str, Any]:
        """Return what the network is called with, by name."""
        rows = self.layouts.network.lay(x_t).to(self.device, self.dtype)
        rows = self.beside.join(rows) if self.beside else rows
        batched = dict.fromkeys(self.others, False) if self.batched is None else self.batched
        others = {name: _repeated(value, batched[name], len(x_t) // self.rows) for name, value in self.others.items()}
        time = self.to_time(timesteps.to(self.device)).to(self.time_dtype)
        if self.time_shape:
            time = time.reshape(-1, *[1] * len(self.time_shape)).expand(-1, *self.time_shape)
        return {**others, self.state: list(rows) if self.listed else rows, self.time: time}

    def fed(self, given: Any) -> Tensor:
        """Return the fields in what the network is given as its states."""
        rows = first_output([given])
        return self.layouts.network.gather(self.beside.part(rows) if self.beside else rows)

    def prediction(self, output: Tensor) -> Tensor:
        """Return what is predicted of fields: a network may return its variance after it, or what is beside it."""
        if self.beside is not None and output.ndim == self.beside.before.ndim:
            own, axis = self.layouts.network.laid, self.beside.axis
            begin, rest = self.beside.before.shape[axis], self.beside.after.shape[axis]
            if output.shape[axis] == own[axis - 1] + begin + rest:
                output = self.beside.part(output)
        return self.sign * self.layouts.network.gather(output)


def bind(recording: Recording, doubled: Callable[[], Recording], network: Any, name: str) -> BoundNetwork:
    """Return what a pipeline calls its network with, but for the state and the time.

    Args:
        recording: Of one state, without guidance.
        doubled: Records two states of the same condition, which tell the rows apart from the rest.
        network: The network.
        name: Of the pipeline, for messages.

    Raises:
        ValueError: If its loop does something that is not known, naming it.
    """
    calls = [step.calls[0] for step in recording.steps]
    first, last = calls[0].arguments, calls[-1].arguments
    changing = [argument for argument in first if not same(first[argument], last.get(argument))]
    time = [a for a in changing if all(_is_time(call.arguments.get(a)) for call in calls)]
    state = [a for a in changing if a not in time and _is_state(first[a])]
    if len(state) == len(changing) == 2 and not time:
        raise refusal(
            f"model: the loop of {name} changes {' and '.join(changing)} from step to step, with another time "
            f"for some tokens or frames of a state: {BY_HAND}"
        )
    if len(state) != 1 or len(time) != 1 or len(changing) != 2:
        raise refusal(
            f"model: the loop of {name} changes {', '.join(changing) or 'nothing'} from step to step; expected one "
            f"state and one time for all of it: {BY_HAND}"
        )
    fed = first_output([first[state[0]]])
    others = {a: value for a, value in first.items() if a not in (*state, *time)}
    laid = layouts(recording, fed, first_output([last[state[0]]]), network.config, name)
    if laid.beside and not same(laid.beside, laid.beside.of(first_output([last[state[0]]]))):
        raise refusal(f"model: the loop of {name} changes what it adds to the state: {BY_HAND}")
    given = torch.as_tensor(first[time[0]])
    found = BoundNetwork(
        network, others, None, state[0], not isinstance(first[state[0]], Tensor), laid.beside, time[0],
        _time_map(recording, calls, time[0], name), tuple(given.shape[1:]),
        given.dtype if given.is_floating_point() else torch.float32, 1.0, laid, fed.dtype, fed.device,
    )  # fmt: skip
    for sign in SIGNS:
        signed = replace(found, sign=sign)
        pairs = zip(calls, recording.steps, strict=True)
        if all(same(signed.prediction(call.output), predicted(step, laid)) for call, step in pairs):
            return together(signed, recording, doubled)
    raise refusal(
        f"model: {name} makes something of its network's output that is neither the output nor its negative before the "
        f"scheduler sees it: {BY_HAND}"
    )


@torch.no_grad()
def together(bound: BoundNetwork, recording: Recording, doubled: Callable[[], Recording]) -> BoundNetwork:
    """Return a network that is asked for several states at once, if two are answered as each alone; else as it was."""
    try:
        other = doubled().steps[0].calls[0].arguments
        if len(first_output([other[bound.state]])) != 2:
            return bound
        made = replace(bound, batched={a: _batched(value, other.get(a)) for a, value in bound.others.items()})
        ends = (recording.steps[0], recording.steps[-1])
        x_t = torch.cat([bound.fed(step.calls[0].arguments[bound.state]) for step in ends])
        times = torch.tensor([step.timestep for step in ends], dtype=torch.float64)
        apart = difference(made(x_t, times), bound(x_t, times))
    # whatever a pipeline raises of two states, and a network of arguments that are of one
    except Exception:
        return bound
    return made if apart <= tolerance_of_batch(bound.dtype) else bound


def predicted(step: Step, laid: Layouts) -> Tensor:
    """Return what a scheduler was given as the prediction of a state, as a field."""
    return laid.scheduler.gather(step.prediction)


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
    beside = bound.beside and bound.beside.of(first[bound.state])
    return replace(bound, others={a: first[a] for a in bound.others}, beside=beside)


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
        raise refusal(f"model: the guidance of {name} changes what it pushes away from: {BY_HAND}")
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
        raise refusal(f"model: the guidance of {name} is of {len(branches)} branches; expected 2: {BY_HAND}")
    apart = [difference(branch, dict(bound.others)) for branch in branches]
    place = min(range(2), key=lambda i: apart[i])
    unlike = [a for a in bound.others if not same(branches[place].get(a), bound.others[a])]
    if unlike:
        raise refusal(
            f"model: with guidance {name} gives its network another {', '.join(unlike)} of the same condition than "
            f"without: {BY_HAND}"
        )
    return place


def _branches(calls: list[Call], bound: BoundNetwork) -> list[dict[str, Any]]:
    """Return the further arguments of each branch: each a call of its own, or rows of one."""
    if len(calls) > 1:
        return [{a: value for a, value in call.arguments.items() if a in bound.others} for call in calls]
    (call,) = calls
    rows = len(call.output)
    taken = {a: value for a, value in call.arguments.items() if a in bound.others}
    batched = {a: _rows_in(bound.others[a], value) for a, value in taken.items()}
    return [{a: _row(value, batched[a], row, rows) for a, value in taken.items()} for row in range(rows)]


def _rows_in(one: Any, two: Any) -> Any:
    """Return whether an argument has a row per branch; one of another form is none of the condition anyway."""
    try:
        return _batched(one, two)
    except ValueError:
        return isinstance(two, Tensor)


def _time_map(recording: Recording, calls: list[Call], argument: str, name: str) -> Callable[[Tensor], Tensor]:
    """Return what becomes of the scheduler's timestep before it is the network's time."""
    given = [torch.as_tensor(call.arguments[argument]).flatten() for call in calls]
    own = torch.tensor([step.timestep for step in recording.steps], dtype=torch.float64)
    count = float(recording.scheduler.config.get("num_train_timesteps", 1))
    found = torch.stack([time[0] for time in given]).double().cpu()
    dtype = given[0].dtype
    for change in TIMES.values():
        # a loop may round before it divides and subtracts, or after
        rounded = change(own.to(dtype), count).double() if dtype in ROUNDOFF else change(own, count)
        if any(same_times(each, found, dtype) for each in (change(own, count), rounded)):
            return partial(_changed, change, count)
    raise refusal(
        f"model: {name} calls its network at times {float(found[0]):.4g}, {float(found[1]):.4g}, ... where its "
        f"scheduler's are {float(own[0]):.4g}, {float(own[1]):.4g}, ...: {BY_HAND}"
    )


def _changed(change: Callable[[Any, float], Any], count: float, timestep: Tensor) -> Tensor:
    made: Tensor = change(timestep, count)
    return made


def _is_time(value: Any) -> bool:
    """Return whether an argument is one number, or one for all of a state."""
    if isinstance(value, Tensor):
        return not value.is_complex() and value.numel() > 0 and bool((value == value.flatten()[0]).all())
    return isinstance(value, int | float)


def _is_state(value: Any) -> bool:
    """Return whether an argument is a tensor of states, or a list of one tensor per state."""
    parts = value if isinstance(value, list) and len(value) == 1 else [value]
    return all(isinstance(part, Tensor) and part.is_floating_point() and part.ndim >= 2 for part in parts)


def _batched(one: Any, two: Any) -> Any:
    """Return whether an argument has rows per state, by its form for one state and for two; a dict of its parts.

    Raises:
        ValueError: If it is of another form.
    """
    if isinstance(one, dict) and isinstance(two, dict):
        return {name: _batched(value, two.get(name)) for name, value in one.items()}
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        if len(one) == len(two):
            return [_batched(a, b) for a, b in zip(one, two, strict=True)]
        if 2 * len(one) == len(two):
            return True
    if not isinstance(one, Tensor) and not isinstance(two, Tensor | list | tuple | dict):
        return False
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        if one.shape == two.shape:
            return False
        # of a video, a row for each frame of each state
        if one.shape[1:] == two.shape[1:] and 2 * len(one) == len(two):
            return True
    raise refusal("model: an argument of its network has another form for two states than for one")


def _repeated(value: Any, batched: Any, count: int) -> Any:
    """Return an argument for so many states."""
    if isinstance(batched, dict):
        return {name: _repeated(each, batched[name], count) for name, each in value.items()}
    if isinstance(batched, list):
        return type(value)(_repeated(each, own, count) for each, own in zip(value, batched, strict=True))
    if not batched:
        # some networks empty the list that they are given
        return type(value)(value) if isinstance(value, list | dict) else value
    # rows of their own in memory: some networks look at them in another shape
    return value.repeat(count, *[1] * (value.ndim - 1)) if isinstance(value, Tensor) else value * count


def _row(value: Any, batched: Any, row: int, rows: int) -> Any:
    """Return a row of an argument for so many states."""
    if isinstance(batched, dict):
        return {name: _row(each, batched.get(name), row, rows) for name, each in value.items()}
    if isinstance(batched, list):
        return type(value)(_row(each, own, row, rows) for each, own in zip(value, batched, strict=True))
    return value[row * len(value) // rows :][: len(value) // rows] if batched else value
