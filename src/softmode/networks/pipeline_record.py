"""A pipeline of diffusers watched while it samples: what its loop calls its network with, and what becomes of that."""

import contextlib
import copy
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softmode.message import first_line, refusal
from softmode.networks.diffusers_files import EXTRA, NETWORKS

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
        scheduler: A copy of its scheduler, which went through the loop.
        steps: The steps of its loop, which ends with the last of the scheduler's timesteps unless it was left early.
        packed: What the pipeline packed into rows of tokens: fields, how, and what came out.
    """

    scheduler: Any
    steps: list[Step] = field(default_factory=list)
    packed: list[tuple[Tensor, Callable[[Tensor], Tensor], Tensor]] = field(default_factory=list)

    @property
    def guided(self) -> bool:
        """Whether the loop asks its network for more than one answer per state."""
        return any(len(step.calls) > 1 or len(step.calls[0].output) > 1 for step in self.steps)


class EnoughError(Exception):
    """Leaves a pipeline's loop: nothing is decoded."""


def network_of(pipe: Any) -> tuple[str, Any]:
    """Return the name and the module of a pipeline's denoising network.

    Raises:
        ValueError: If it has none or several, or adapters of LoRA on it.
    """
    kind = type(pipe).__name__
    found = [name for name in NETWORKS if getattr(pipe, name, None) is not None]
    if not found or getattr(pipe, "scheduler", None) is None:
        raise refusal(
            f"model: {kind} has no scheduler with a {' or '.join(NETWORKS)}: it is no pipeline of one denoising network"
        )
    name = found[0]
    if getattr(pipe, f"{name}_2", None) is not None:
        raise refusal(
            f"model: {kind} has two networks, {name} and {name}_2, each for its own noise levels (experts), which is "
            "not known here; give a pipeline of one"
        )
    network = getattr(pipe, name)
    if getattr(network, "peft_config", None):
        raise refusal(
            f"model: the {name} of {kind} carries adapters of LoRA; merge them first: pipe.fuse_lora(), then "
            "pipe.unload_lora_weights()"
        )
    return name, network


@torch.no_grad()
def record(pipe: Any, arguments: Mapping[str, Any], leave_after: int = 0) -> Recording:
    """Return what a pipeline does when it is called, without the decoding at its end.

    Args:
        pipe: The pipeline; left as it is.
        arguments: What to call it with.
        leave_after: Steps after which to leave its loop; after the last one when 0.

    Raises:
        ValueError: If it fails, or does not call its network before each step of its scheduler.
    """
    name, network = network_of(pipe)
    kind, taken = type(pipe).__name__, inspect.signature(pipe.__call__).parameters
    unknown = [given for given in arguments if given not in taken]
    if unknown:
        raise refusal(f"{unknown[0]}: {kind} takes no such argument; it takes {', '.join(list(taken)[:12])}, ...")
    further = {"num_inference_steps": STEPS, "generator": torch.Generator().manual_seed(0), "output_type": "latent"}
    further = {each: value for each, value in further.items() if each in taken and each not in arguments}
    own, bar = pipe.scheduler, dict(getattr(pipe, "_progress_bar_config", {}))
    pipe.scheduler = copy.deepcopy(own)
    found = Recording(pipe.scheduler)
    pipe.set_progress_bar_config(**bar | {"disable": True})
    try:
        with (
            torch.random.fork_rng(devices=[]), contextlib.suppress(EnoughError), warnings.catch_warnings(),
            watched(pipe, network, found, leave_after),
        ):  # fmt: skip
            # about arguments and names that diffusers itself will change
            warnings.simplefilter("ignore", FutureWarning)
            pipe(**arguments, **further)
    # whatever a pipeline raises of what it is called with
    except Exception as error:
        lacks = isinstance(error, NameError | ImportError)
        remedy = (
            f"pip install '{EXTRA}'" if lacks else "what else it takes goes to sm.from_pipeline(pipe, prompts, ...)"
        )
        raise refusal(f"model: {kind} fails when it is called ({first_line(error)}); {remedy}") from error
    finally:
        pipe.scheduler = own
        pipe._progress_bar_config = bar
        # a pipeline that keeps its parts elsewhere puts them back at its end
        pipe.maybe_free_model_hooks()
    if not found.steps or not all(step.calls for step in found.steps):
        raise refusal(f"model: the loop of {kind} does not call its {name} before each step of its scheduler")
    return found


@contextlib.contextmanager
def watched(pipe: Any, network: Any, found: Recording, leave_after: int) -> Iterator[None]:
    """Write down what happens while the pipeline runs."""
    scheduler, calls = found.scheduler, list[Call]()
    # torch.compile hides the signature of what it compiles
    signature = inspect.signature(getattr(network, "_orig_mod", network).forward)
    # of a scheduler that is watched already, the other watch goes on
    step, outer = scheduler.step, vars(scheduler).get("step")
    pack: Any = getattr(pipe, "_pack_latents", None)

    def called(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        bound = signature.bind(*args, **kwargs)
        first = output[0] if isinstance(output, tuple) else output.sample
        calls.append(Call({name: copied(value) for name, value in bound.arguments.items()}, copied(first)))

    def stepped(model_output: Any, timestep: Any, sample: Any, *args: Any, return_dict: bool = True, **kw: Any) -> Any:
        before = sample.clone()
        # as an object, whose names tell what it holds
        made = step(model_output, timestep, sample, *args, **kw)
        # a consistency model calls its estimate otherwise
        denoised = getattr(made, "pred_original_sample", getattr(made, "denoised", None))
        following = made.prev_sample.clone()
        found.steps.append(Step(list(calls), float(timestep), model_output.clone(), before, following, denoised))
        calls.clear()
        if len(found.steps) == leave_after or _is_last(scheduler, timestep, len(found.steps)):
            raise EnoughError
        return made if return_dict else made.to_tuple()

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
        vars(scheduler).pop("step") if outer is None else setattr(scheduler, "step", outer)
        if pack is not None:
            del pipe._pack_latents


def _is_last(scheduler: Any, timestep: Any, steps: int) -> bool:
    """Return whether a step is the last of a scheduler's timesteps, of which some may come twice."""
    index = getattr(scheduler, "step_index", None)
    if index is not None:
        return bool(index >= len(scheduler.timesteps))
    return steps == len(scheduler.timesteps) or float(timestep) == float(scheduler.timesteps[-1])


def copied(value: Any) -> Any:
    """Return a value whose tensors nobody else will change."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {name: copied(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(each) for each in value)
    return value
