"""A pipeline of diffusers watched while it samples: what its loop calls its network with, and what becomes of that."""

import contextlib
import copy
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softmode.message import first_line, refusal, shorten
from softmode.networks.diffusers_files import EXTRA, NETWORKS

# steps of a recording: enough to tell what changes from step to step, and its last one ends without noise
STEPS = 4
# arguments of a pipeline's call that it may fail without, by the last of their words, and those that it never does
GIVEN = ("image", "images", "video", "mask", "hint", "embeds", "embeddings", "controls")
UNASKED = ("prompt", "ip_adapter", "negative")
# what a user can do where a loop is of an unknown kind
BY_HAND = "this kind of pipeline is not known; sm.from_flow and sm.from_discrete bind a network by hand"
# name of the network of the last stage of some cascades
DECODER = "decoder"
STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


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
        others: Names of its further modules that its loop asks at every step.
        begun: A copy of its scheduler as the loop found it at its first step.
    """

    scheduler: Any
    steps: list[Step] = field(default_factory=list)
    packed: list[tuple[Tensor, Callable[[Tensor], Tensor], Tensor]] = field(default_factory=list)
    others: set[str] = field(default_factory=set)
    begun: Any = None

    @property
    def guided(self) -> bool:
        """Whether the loop asks its network for more than one answer per state."""
        return any(len(step.calls) > 1 or len(step.calls[0].output) > 1 for step in self.steps)


def is_pipeline(value: Any) -> bool:
    """Return whether a value is a pipeline of diffusers, without importing it."""
    kinds = type(value).__mro__
    return any(each.__name__ == "DiffusionPipeline" and each.__module__.startswith("diffusers.") for each in kinds)


class EnoughError(Exception):
    """Leaves a pipeline's loop: nothing is decoded."""


def network_of(pipe: Any) -> tuple[str, Any]:
    """Return the name and the module of a pipeline's denoising network.

    Raises:
        ValueError: If it has none or several, or adapters of LoRA on it.
    """
    kind = type(pipe).__name__
    stages = [name for name, value in vars(pipe).items() if is_pipeline(value)]
    if stages:
        raise refusal(
            f"model: {kind} is a cascade of {' and '.join(stages)}; give one of them, with what it is called with: "
            f"sm.from_pipeline(pipe.{stages[-1]}, ...)"
        )
    found = [name for name in (*NETWORKS, DECODER) if getattr(pipe, name, None) is not None]
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
    # what is no argument of the call but an attribute of a part, guider.guidance_scale
    parts = {given: value for given, value in arguments.items() if "." in given}
    call = {given: value for given, value in arguments.items() if given not in parts}
    if unknown := [given for given in call if given not in taken]:
        raise refusal(f"{unknown[0]}: {kind} takes no such argument; it takes {', '.join(list(taken)[:12])}, ...")
    further = {"num_inference_steps": _steps(call, taken), "generator": torch.Generator().manual_seed(0)}
    further = {each: value for each, value in further.items() if each in taken and each not in call}
    own, bar = pipe.scheduler, dict(getattr(pipe, "_progress_bar_config", {}))
    pipe.scheduler = copy.deepcopy(own)
    found = Recording(pipe.scheduler)
    pipe.set_progress_bar_config(**bar | {"disable": True})
    try:
        with (
            torch.random.fork_rng(devices=[]), contextlib.suppress(EnoughError), warnings.catch_warnings(),
            turned(pipe, parts), watched(pipe, network, found, leave_after),
        ):  # fmt: skip
            # about arguments and names that diffusers itself will change
            warnings.simplefilter("ignore", FutureWarning)
            pipe(**call, **further)
    # whatever a pipeline raises of what it is called with
    except Exception as error:
        reason = first_line(error)
        if isinstance(error, NameError | ImportError):
            remedy = f"a package that it needs is missing: pip install '{EXTRA}', or torchvision if it is that"
        elif absent := lacking(taken, call):
            few = ", ".join(absent[:4])
            remedy = f"its call takes {few} too: sm.from_pipeline(pipe, prompts, {absent[0]}=...)"
            reason = shorten(reason, 100)
        else:
            remedy = "what else it takes goes to sm.from_pipeline(pipe, prompts, ...)"
        raise refusal(f"model: {kind} fails when it is called ({reason}); {remedy}") from error
    finally:
        pipe.scheduler = own
        pipe._progress_bar_config = bar
        # a pipeline that keeps its parts elsewhere puts them back at its end
        pipe.maybe_free_model_hooks()
    if found.others:
        raise refusal(
            f"model: the loop of {kind} asks its {', '.join(sorted(found.others))} at every step beside its {name}: "
            "what that adds to it changes with the state, which is not known here; give a pipeline of one network"
        )
    if not found.steps or not all(step.calls for step in found.steps):
        raise refusal(
            f"model: the loop of {kind} does not call its {name} before each step of its scheduler: {BY_HAND}"
        )
    return found


def _steps(call: Mapping[str, Any], taken: Mapping[str, inspect.Parameter]) -> int:
    """Return the steps to ask for: a loop that begins late does so many of them."""
    own = taken["strength"].default if "strength" in taken else 1.0
    strength = call.get("strength", own)
    return math.ceil(STEPS / strength) if isinstance(strength, int | float) and 0.01 < strength < 1 else STEPS


def lacking(taken: Mapping[str, inspect.Parameter], call: Mapping[str, Any]) -> list[str]:
    """Return what the call of a pipeline takes and is not given that may be what it fails without."""
    needed = [name for name, each in taken.items() if each.default is each.empty and each.kind not in STARRED]
    shown = [name for name, each in taken.items() if each.default is None and name.split("_")[-1] in GIVEN]
    asked = [name for name in shown if not any(each in name for each in UNASKED)]
    return [name for name in dict.fromkeys([*needed, *asked]) if name not in call]


@contextlib.contextmanager
def turned(pipe: Any, parts: Mapping[str, Any]) -> Iterator[None]:
    """Set attributes of a pipeline's parts, "part.attribute", as long as the context lasts."""
    places = [(getattr(pipe, name.split(".")[0]), name.split(".")[1], value) for name, value in parts.items()]
    before = [getattr(part, attribute) for part, attribute, _ in places]
    for part, attribute, value in places:
        setattr(part, attribute, value)
    try:
        yield
    finally:
        for (part, attribute, _), value in zip(places, before, strict=True):
            setattr(part, attribute, value)


@contextlib.contextmanager
def watched(pipe: Any, network: Any, found: Recording, leave_after: int) -> Iterator[None]:
    """Write down what happens while the pipeline runs."""
    scheduler, calls, given = found.scheduler, list[Call](), list[dict[str, Any]]()
    # torch.compile hides the signature of what it compiles
    signature = inspect.signature(getattr(network, "_orig_mod", network).forward)
    # of a scheduler that is watched already, the other watch goes on
    step, outer = scheduler.step, vars(scheduler).get("step")
    packs = [name for name in dir(type(pipe)) if "pack" in name and "unpack" not in name]

    def asked(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # some networks change what they are given
        bound = signature.bind(*args, **kwargs)
        given.append({name: copied(value) for name, value in bound.arguments.items()})

    def called(_module: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any], output: Any) -> None:
        calls.append(Call(given.pop(), first_output(output).clone()))

    def beside(name: str) -> Callable[..., None]:
        def noted(*_args: Any) -> None:
            if found.steps:
                found.others.add(name)

        return noted

    def stepped(model_output: Any, timestep: Any, sample: Any, *args: Any, return_dict: bool = True, **kw: Any) -> Any:
        before = sample.clone()
        if found.begun is None:
            found.begun = copy.deepcopy(scheduler)
            vars(found.begun).pop("step")
        # as an object, whose names tell what it holds
        made = step(model_output, timestep, sample, *args, **kw)
        # a consistency model calls its estimate otherwise
        denoised = getattr(made, "pred_original_sample", getattr(made, "denoised", None))
        following = made.prev_sample.clone()
        time = float(torch.as_tensor(timestep).flatten()[0])
        found.steps.append(Step(list(calls), time, model_output.clone(), before, following, denoised))
        calls.clear()
        if len(found.steps) == leave_after or _is_last(scheduler, timestep, len(found.steps)):
            raise EnoughError
        return made if return_dict else made.to_tuple()

    def packing(pack: Any) -> Callable[..., Any]:
        def packed(latents: Any, *args: Any, **kwargs: Any) -> Any:
            rows = pack(latents, *args, **kwargs)
            if isinstance(latents, Tensor) and isinstance(rows, Tensor):
                found.packed.append((latents.clone(), lambda fields: pack(fields, *args, **kwargs), rows.clone()))
            return rows

        return packed

    hooks = [
        network.register_forward_pre_hook(asked, with_kwargs=True),
        network.register_forward_hook(called, with_kwargs=True),
    ]
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module) and part is not network:
            hooks.append(part.register_forward_pre_hook(beside(name)))
    scheduler.step = stepped
    for name in packs:
        setattr(pipe, name, packing(getattr(pipe, name)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        vars(scheduler).pop("step") if outer is None else setattr(scheduler, "step", outer)
        for name in packs:
            delattr(pipe, name)


def _is_last(scheduler: Any, timestep: Any, steps: int) -> bool:
    """Return whether a step is the last of a scheduler's timesteps, of which some may come twice."""
    index = getattr(scheduler, "step_index", None)
    if index is not None:
        return bool(index >= len(scheduler.timesteps))
    own = float(torch.as_tensor(timestep).flatten()[0])
    return steps == len(scheduler.timesteps) or own == float(scheduler.timesteps[-1])


def first_output(output: Any) -> Tensor:
    """Return the first of what a network returns, of one state after another in a list as rows."""
    found = output if isinstance(output, Tensor) else output[0]
    return torch.stack(list(found)) if isinstance(found, list | tuple) else found


def copied(value: Any) -> Any:
    """Return a value whose tensors nobody else will change."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {name: copied(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(each) for each in value)
    return value
