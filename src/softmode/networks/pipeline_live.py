"""A pipeline that is recorded for whatever condition is asked for, with guidance and without, each once."""

import inspect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from torch import Tensor

from softmode.inside import without_numbers
from softmode.message import quote, refusal
from softmode.misuse import META_REMEDY
from softmode.networks.card import read_tensors
from softmode.networks.diffusers_denoiser import DiffusersDenoiser
from softmode.networks.diffusers_scheduler import NoiseTable
from softmode.networks.pipeline_bind import BoundNetwork, bind, place_of, rebound, unguided_branch
from softmode.networks.pipeline_check import Checked, check_branches, check_pipeline, table_of
from softmode.networks.pipeline_record import BY_HAND, Recording, network_of, record

# a scale at which a pipeline guides, and those at which one or another does not
GUIDED, UNGUIDED = 3.0, (1.0, 0.0)
# a pipeline whose guidance_scale is an input of its network guides by the other
SCALE, TRUE_SCALE = "guidance_scale", "true_cfg_scale"
# and one with guiders of its own by theirs, attributes of its parts
GUIDER = "guider"
# arguments by which a pipeline makes several states of one prompt
SEVERAL = ("num_images_per_prompt", "num_videos_per_prompt")
# steps of a recording that only has to tell which arguments stay the same
FEW = 2
# arguments of a pipeline's call by which those that make audio are told
AUDIO = ("audio_length_in_s", "audio_end_in_s", "audio_duration", "audio_duration_s")

# a prompt in a file of such an ending is what the pipeline's call takes in its place, prompt_embeds and more
TENSORS = ".safetensors"

# a prompt, a class, or neither
What = str | int | None


class Guidance(NamedTuple):
    """How a pipeline's guidance is turned on and off.

    Attributes:
        off: Arguments of its call that turn it off.
        on: Those that turn it on; None where it has no branch to guide away from.
        without: Recording of the first condition without it.
        guided: Recording with it; None where there is none.
    """

    off: dict[str, Any]
    on: dict[str, Any] | None
    without: Recording
    guided: Recording | None


def sized(pipe: Any, size: Sequence[int]) -> dict[str, Any]:
    """Return the arguments of a pipeline's call for a size, (height, width) or (frames, height, width).

    Raises:
        ValueError: If its call takes none.
    """
    names = ("height", "width") if len(size) == 2 else ("num_frames", "height", "width")
    taken = inspect.signature(pipe.__call__).parameters
    if size and (len(size) != len(names) or not all(name in taken for name in names)):
        raise refusal(f"size: got {tuple(size)}; the call of {type(pipe).__name__} does not take it: leave it out")
    # a size that is asked for is not to be exchanged for the nearest of a list
    exact = {"use_resolution_binning": False} if size and "use_resolution_binning" in taken else {}
    return exact | (dict(zip(names, map(int, size), strict=True)) if size else {})


@dataclass(frozen=True, eq=False)
class LivePipeline:
    """A pipeline whose denoisers are bound as they are asked for.

    Args:
        pipe: The pipeline.
        call: What it is called with beside its condition.
        prompts: Its prompts; empty for one without text.
        negative: What guidance pushes away from; its own where None.
    """

    pipe: Any
    call: Mapping[str, Any]
    prompts: tuple[str, ...] = ()
    negative: str | None = None
    _made: dict[What, DiffusersDenoiser] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise a ValueError unless the call of the pipeline takes what it is to be given."""
        if without_numbers(network_of(self.pipe)[1]):
            raise refusal(f"model: {self.name}: {META_REMEDY}")
        sound = "Audio" in self.name or getattr(self.pipe, "vocoder", None) is not None
        if sound or any(each in self.taken for each in AUDIO):
            raise refusal(f"model: {self.name} makes audio; which axes of its states are space is not known")
        if any(not isinstance(prompt, str) for prompt in self.prompts):
            raise refusal(f"prompts: got {quote(self.prompts)}; expected texts")
        if len(set(self.prompts)) < len(self.prompts):
            raise refusal(f"prompts: got one of {quote(self.prompts)} twice; name each once")
        if self.prompts and "prompt" not in self.taken:
            raise refusal(f"prompts: got {quote(self.prompts[0])}; {self.name} is no pipeline of text: leave it out")
        if "prompt" in self.taken and not self.prompts and not prompted(self.call):
            raise refusal(f"prompts: {self.name} is a pipeline of text; give at least one prompt")
        config = getattr(network_of(self.pipe)[1], "config", {})
        if (config.get("class_embed_type") or config.get("num_class_embeds")) and "class_labels" not in self.taken:
            raise refusal(
                f"model: the network of {self.name} is told a class, which its call does not take; save it with "
                "pipe.save_pretrained(PATH), and name it 'diffusers:PATH', with labels"
            )
        if self.negative is not None and "negative_prompt" not in self.taken:
            raise refusal(f"negative: got {quote(self.negative)}; {self.name} takes no negative prompt: leave it out")

    @property
    def name(self) -> str:
        """What it is."""
        return type(self.pipe).__name__

    @staticmethod
    def taken_by(pipe: Any) -> Mapping[str, inspect.Parameter]:
        """Return what the call of a pipeline takes."""
        return inspect.signature(pipe.__call__).parameters

    @cached_property
    def taken(self) -> Mapping[str, inspect.Parameter]:
        """What its call takes."""
        return self.taken_by(self.pipe)

    @cached_property
    def table(self) -> NoiseTable:
        """Its scheduler's noise levels."""
        return table_of(self.guidance.without)

    @cached_property
    def classes(self) -> int:
        """Number of its classes; 0 for none."""
        if "class_labels" not in self.taken or "class_labels" in self.call:
            return 0
        config = network_of(self.pipe)[1].config
        return int(config.get("num_embeds_ada_norm") or config.get("num_class_embeds") or 0)

    @property
    def condition(self) -> What:
        """The first of its conditions."""
        return self.prompts[0] if self.prompts else 0 if self.classes else None

    @property
    def switches(self) -> list[tuple[str, ...]]:
        """What turns its guidance on and off, each alone or what belongs together."""
        own = [(name,) for name in (SCALE, TRUE_SCALE) if name in self.taken]
        parts = [name for name, part in self.pipe.components.items() if GUIDER in name and hasattr(part, SCALE)]
        return [*own, *([tuple(f"{name}.{SCALE}" for name in parts)] if parts else [])]

    @cached_property
    def guidance(self) -> Guidance:
        """How it is guided."""
        first = record(self.pipe, self.arguments(self.condition))
        if first.guided:
            # of a video, some have one for its ends
            ends = [(name,) for name in self.taken if name.endswith(f"_{SCALE}")]
            for names, scale in itertools.product([*self.switches, *ends], UNGUIDED):
                off = dict.fromkeys(names, scale)
                without = record(self.pipe, self.arguments(self.condition) | off)
                if not without.guided:
                    return Guidance(off, {}, without, first)
            scales = [name for name in self.taken if name.endswith("_scale") and SCALE not in name]
            remedy = f"turn off what else asks, for example {scales[0]}=0" if scales else BY_HAND
            raise refusal(
                f"model: {self.name} asks its network for several answers per state without guidance too; {remedy}"
            )
        other = {"negative_prompt": self.negative or ""} if "negative_prompt" in self.taken else {}
        for names in self.switches:
            on: dict[str, Any] = dict.fromkeys(names, GUIDED)
            if not any(name in self.call for name in on):
                on |= other if TRUE_SCALE in names else {}
                guided = record(self.pipe, self.arguments(self.condition) | on, FEW)
                if guided.guided:
                    return Guidance({}, on, first, guided)
        if self.negative is not None:
            raise refusal(
                f"negative: got {quote(self.negative)}; {self.name} has no branch to guide away from: leave it out"
            )
        return Guidance({}, None, first, None)

    @cached_property
    def first(self) -> BoundNetwork:
        """The network of its first condition."""

        def doubled() -> Recording:
            arguments = self.arguments(self.condition, 2) | self.guidance.off
            try:
                found = record(self.pipe, arguments, 1)
                if len(found.steps[0].calls[0].output) > 1:
                    return found
            # some take a list of images, or one prompt, and make several states of it
            except ValueError:
                pass
            several = next((each for each in SEVERAL if each in self.taken), "")
            one = self.arguments(self.condition) | self.guidance.off
            return record(self.pipe, one | {several: 2} if several else arguments, 1)

        return bind(self.guidance.without, doubled, network_of(self.pipe)[1], self.name)

    @cached_property
    def checked(self) -> Checked:
        """How far the denoiser of its first condition is from its own loop."""
        return check_pipeline(self.denoiser(self.condition), self.guidance.without, self.name)

    def arguments(self, what: What, count: int = 1) -> dict[str, Any]:
        """Return what the pipeline is called with for so many states of a condition, one with its negative prompt."""
        given: dict[str, Any] = {name: _of_states(name, value, count) for name, value in self.call.items()}
        if isinstance(what, str) and what.endswith(TENSORS):
            given |= {name: _of_states(name, value, count) for name, value in self.encoded(what).items()}
        elif isinstance(what, str):
            given["prompt"] = what if count == 1 else [what] * count
        elif what is not None:
            given["class_labels"] = [what] * count
        elif "batch_size" in self.taken:
            given["batch_size"] = count
        if self.negative is not None and count == 1:
            given["negative_prompt"] = self.negative
        return given

    def encoded(self, file: str) -> dict[str, Tensor]:
        """Return the arguments of the call that a file holds, on the network's device."""
        network = network_of(self.pipe)[1]
        tensors, _ = read_tensors(file, "prompt")
        if unknown := [name for name in tensors if name not in self.taken]:
            raise refusal(f"prompt: {quote(file)} holds {unknown[0]}, which the call of {self.name} does not take")
        return {
            name: value.to(network.device, network.dtype if value.is_floating_point() else value.dtype)
            for name, value in tensors.items()
        }

    def scheduler(self, steps: int) -> Any:
        """Return a copy of its scheduler that its loop has asked for so many steps.

        Raises:
            ValueError: If its loop does not begin with the first of them, from noise.
        """
        given = self.arguments(self.condition) | self.guidance.off | {"num_inference_steps": steps}
        found = record(self.pipe, given, 1)
        if float(found.begun.timesteps[0]) != found.steps[0].timestep:
            raise refusal(f"sampler: the loop of {self.name} does not begin from noise; use --sampler heun")
        return found.begun

    def denoiser(self, what: What) -> DiffusersDenoiser:
        """Return the denoiser of a condition, which is recorded when it is first asked for."""
        if what not in self._made:
            module = network_of(self.pipe)[1]
            if what == self.condition:
                return self._made.setdefault(what, DiffusersDenoiser(self.first, self.table, module))
            recording = record(self.pipe, self.arguments(what) | self.guidance.off, FEW)
            made = DiffusersDenoiser(rebound(self.first, recording, self.name), self.table, module)
            check_pipeline(made, recording, self.name)
            self._made[what] = made
        return self._made[what]

    @property
    def place(self) -> int:
        """Whether the condition is the first (0) or the second (1) of the two branches of its guidance.

        Raises:
            ValueError: If it has none.
        """
        if self.guidance.guided is None:
            raise refusal(f"guide: {self.name} has no branch to guide away from; name another model")
        return place_of(self.first, self.guidance.guided, self.name)

    def other_branch(self, what: What) -> DiffusersDenoiser:
        """Return the denoiser of what guidance pushes a condition away from.

        Raises:
            ValueError: If the pipeline has no such branch.
        """
        on, guided = self.guidance.on, self.guidance.guided
        if on is None or guided is None:
            raise refusal(f"guide: {self.name} has no branch to guide away from; name another model")
        if what != self.condition:
            guided = record(self.pipe, self.arguments(what) | on, FEW)
        bound: Any = self.denoiser(what).network
        found = unguided_branch(bound, guided, self.name)
        check_branches(bound, found, guided, self.name)
        return DiffusersDenoiser(found, self.table, network_of(self.pipe)[1])


def prompted(call: Mapping[str, Any]) -> bool:
    """Return whether a pipeline is called with a prompt, or with what stands in its place."""
    return any(name == "prompt" or name.endswith("prompt_embeds") for name in call)


def _of_states(name: str, value: Any, count: int) -> Any:
    """Return an argument of a pipeline's call for so many states: encoded prompts have a row for each."""
    if "prompt" in name and isinstance(value, Tensor):
        return value.expand(count, *value.shape[1:])
    return value
