"""A pipeline of diffusers watched while it samples: what its loop calls its network with, and what becomes of that."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softmode.message import first_line, quote, refusal
from softmode.networks.diffusers_files import NETWORKS

# steps of a recording: enough to tell what changes from step to step, and its last one ends without noise
STEPS = 4


class Call(NamedTuple):
    """One call of the network.

    Attributes:
        arguments: Its arguments by name.
        output: What it returned, before the pipeline made anything of it.
    """

    arguments: dict[str, Any]
    output: Tensor


class Step(NamedTuple):
    """One step of the loop.

    Attributes:
        calls: Calls of the network.
        timestep: The scheduler's timestep.
        prediction: What the scheduler was given as the network's prediction.
        sample: The state before the step, in the scheduler's coordinates.
        following: The state after it.
        denoised: The estimate of x_0 that the scheduler formed; None where it does not say.
    """

    calls: list[Call]
    timestep: float
    prediction: Tensor
    sample: Tensor
    following: Tensor
    denoised: Tensor | None


@dataclass
class Recording:
    """What a pipeline did.

    Args:
        steps: Its steps.
        packed: What the pipeline packed into rows of tokens, fields and the rest of the arguments, with what came out.
    """

    steps: list[Step] = field(default_factory=list)
    packed: list[tuple[Tensor, Callable[[Tensor], Tensor], Tensor]] = field(default_factory=list)


class _EnoughError(Exception):
    """Leaves a pipeline's loop after its last step: nothing is decoded."""


def network_of(pipe: Any) -> tuple[str, Any]:
    """Return the name and the module of a pipeline's denoising network.

    Raises:
        ValueError: If it has none, or several.
    """
    kind = type(pipe).__name__
    found = [name for name in NETWORKS if getattr(pipe, name, None) is not None]
    if not found:
        raise refusal(f"model: {kind} has no {', '.join(NETWORKS)}: it is no pipeline with one denoising network")
    name = found[0]
    if getattr(pipe, f"{name}_2", None) is not None:
        raise refusal(f"model: {kind} has two networks, {name} and {name}_2, of different noise levels; give one alone")
    return name, getattr(pipe, name)


@torch.no_grad()
def record(pipe: Any, arguments: Mapping[str, Any], steps: int = STEPS) -> Recording:
    """Return what a pipeline does when it is called, without the decoding at its end.

    Args:
        pipe: The pipeline; left as it is, but for its scheduler's timesteps.
        arguments: What to call it with.
        steps: Steps of its loop.

    Raises:
        ValueError: If it fails, or calls neither its network nor its scheduler.
    """
    name, network = network_of(pipe)
    taken = inspect.signature(pipe.__call__).parameters
    unknown = [given for given in arguments if given not in taken]
    if unknown:
        raise refusal(f"{unknown[0]}: {type(pipe).__name__} takes no such argument; it takes {', '.join(taken)}")
    found = Recording()
    bar = dict(getattr(pipe, "_progress_bar_config", {}))
    pipe.set_progress_bar_config(disable=True)
    try:
        with _watched(pipe, network, found), contextlib.suppress(_EnoughError):
            pipe(**arguments, num_inference_steps=steps, generator=torch.Generator().manual_seed(0))
    except ValueError:
        raise
    # whatever a pipeline raises of what it is called with
    except Exception as error:
        raise refusal(f"model: {type(pipe).__name__} fails when it is called ({first_line(error)})") from error
    finally:
        pipe.set_progress_bar_config(**bar)
    if not found.steps or not all(step.calls for step in found.steps):
        raise refusal(f"model: the loop of {type(pipe).__name__} does not call its {name} before each scheduler's step")
    return found


@contextlib.contextmanager
def _watched(pipe: Any, network: Any, found: Recording) -> Iterator[None]:
    """Write down what happens while the pipeline runs."""
    scheduler, calls = pipe.scheduler, list[Call]()
    signature, step = inspect.signature(network.forward), scheduler.step
    pack = getattr(pipe, "_pack_latents", None)

    def called(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        bound = signature.bind(*args, **kwargs).arguments
        first = output[0] if isinstance(output, tuple) else output.sample
        calls.append(Call({name: _copied(value) for name, value in bound.items()}, _copied(first)))

    def stepped(model_output: Any, timestep: Any, sample: Any, *args: Any, **kwargs: Any) -> Any:
        before = sample.clone()
        made = step(model_output, timestep, sample, *args, **kwargs)
        following = made[0] if isinstance(made, tuple) else made.prev_sample
        denoised = made[1] if isinstance(made, tuple) and len(made) > 1 else getattr(made, "pred_original_sample", None)
        of_step = list(calls), float(timestep), model_output.clone(), before, following.clone(), denoised
        found.steps.append(Step(*of_step))
        calls.clear()
        if len(found.steps) == len(scheduler.timesteps):
            raise _EnoughError
        return made

    def packed(latents: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        rows: Tensor = pack(latents, *args, **kwargs)
        found.packed.append((latents, lambda fields: pack(fields, *args, **kwargs), rows))
        return rows

    hook = network.register_forward_hook(called, with_kwargs=True)
    scheduler.step = stepped
    if pack is not None:
        pipe._pack_latents = packed
    try:
        yield
    finally:
        hook.remove()
        del scheduler.step
        if pack is not None:
            del pipe._pack_latents


def _copied(value: Any) -> Any:
    """Return a value whose tensors nobody else will change."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {name: _copied(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(each) for each in value)
    return value
