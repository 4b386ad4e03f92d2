"""Networks of diffusers as denoisers: UNets and transformers, in pixels or latents, free, of classes or of text."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from softmode.files import sha256
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.networks.card import LONGEST_SIDE, MOST_CHANNELS, read_tensors
from softmode.networks.diffusers_denoiser import Conditioned, DiffusersDenoiser, alike, bind_each
from softmode.networks.diffusers_files import digests, find_parts, import_diffusers, load_part
from softmode.networks.diffusers_sampling import load_sampling, set_steps
from softmode.networks.diffusers_scheduler import NoiseTable, noise_table
from softmode.networks.fields import check_whole, check_wholes
from softmode.networks.pipeline import from_pipeline, size_of
from softmode.networks.pipeline_files import load_pipeline, pipeline_class
from softmode.networks.pipeline_live import TENSORS
from softmode.process import parse_process

# networks that are called with (states, timesteps, condition by name) whatever their pipeline, and their axes of space
NETWORKS = {
    "UNet2DModel": 2, "UNet2DConditionModel": 2, "UNet1DModel": 1, "UNet3DConditionModel": 3, "DiTTransformer2DModel": 2
}  # fmt: skip
# arguments that a UNet of SDXL's kind takes in a dict of their own
ADDED = ("text_embeds", "time_ids")


def load_diffusers(
    source: str,
    schedule: str = "",
    shape: Sequence[int] = (),
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    prompt: Sequence[str] = (),
    negative: str | None = None,
) -> Model:
    """Return the model of a diffusers pipeline, or of a network with a folder `scheduler` in or beside its own.

    A pipeline of text is loaded whole, and bound as its own loop calls its network; of others the network is enough.

    Args:
        source: Directory, or id on the hub, which is asked only then.
        schedule: Process in which to sample; ve, the coordinates of a denoiser, when left out.
        shape: Shape of a state; that of the network's training when left out.
        device: Device of the weights.
        dtype: Floating type of the weights.
        prompt: Text of a text-conditional model, or a file.safetensors with arguments of the pipeline's call, such as
            prompt_embeds, or of a UNet, such as encoder_hidden_states [1, ...]; several are the classes of the model.
        negative: What guidance pushes away from, for a pipeline of text; its own when left out.

    Raises:
        ValueError: If diffusers is not installed, the model cannot be read, or lacks what it needs.
    """
    import_diffusers()
    source = source.removeprefix("diffusers:")
    parts = find_parts(source)
    kind = pipeline_class(source)
    if kind is not None and "prompt" in inspect.signature(kind.__call__).parameters and not _of_network(prompt):
        if not prompt:
            raise refusal(f"prompt: {quote(source)} is a model of text; give --prompt or --prompts")
        return _whole(source, schedule, tuple(shape), device, dtype, prompt, negative)
    if negative is not None:
        raise refusal(f"negative: got {quote(negative)}; {quote(source)} is no whole pipeline of text: leave it out")
    # each a regular file: diffusers would open anything
    inputs = digests(source, parts, ("network", "scheduler"))
    table = noise_table(load_part(source, parts, "scheduler"))
    network = load_part(source, parts, "network", torch_dtype=dtype, use_safetensors=True)
    if type(network).__name__ not in NETWORKS:
        raise refusal(
            f"model: a {type(network).__name__} is called by its pipeline in a way of its own; give the directory of "
            "the whole pipeline, with its text encoders, or in Python sm.from_pipeline(pipe, ...)"
        )
    if getattr(network.config, "sample_rate", None):
        raise refusal(f"model: {quote(source)} makes audio; which axes of its states are space is not known")
    network.to(device).eval().requires_grad_(False)
    trained = _shape(network, source, tuple(shape))
    found, told = _text_conditions(source, network, prompt)
    texts = [_on(each, device, dtype) for each in found]
    many = len(texts) > 1
    if many and _classes(network):
        raise refusal(f"prompt: got {len(texts)}; {quote(source)} has classes beside: give one prompt")

    def bind(label: int | None) -> DiffusersDenoiser:
        return _bind_text(network, table, texts, label) if many else _bind(network, table, texts[0], label)

    return Model(
        name=f"diffusers:{source}",
        process=parse_process(schedule or "ve"),
        shape=trained,
        bind=bind,
        batched=partial(bind_each, bind) if alike(texts) else None,
        classes=len(texts) if many else _classes(network),
        levels=table.range,
        inputs=inputs | told,
        scheduler=partial(_scheduler, source, trained),
    )


def _whole(
    source: str,
    schedule: str,
    shape: tuple[int, ...],
    device: torch.device | str,
    dtype: torch.dtype,
    prompt: Sequence[str],
    negative: str | None,
) -> Model:
    """Return the model of a whole pipeline."""
    pipe, inputs = load_pipeline(source, device, dtype)
    model = from_pipeline(pipe, prompt, negative, size_of(pipe, shape), schedule)
    if shape and shape != model.shape:
        raise refusal(f"shape: got {shape}; the states of {quote(source)} would be {model.shape}: give another")
    files = {f"prompt {i}" if i else "prompt": sha256(p) for i, p in enumerate(prompt) if p.endswith(TENSORS)}
    return replace(model, name=f"diffusers:{source}", inputs=inputs | files)


def _scheduler(source: str, shape: tuple[int, ...], steps: int) -> Any:
    """Return the scheduler of a pipeline on disk after so many steps were asked for, as far as it is known how."""
    sampling = load_sampling(source, shape)
    return set_steps(sampling.scheduler, steps, sampling.asked(steps))


def _of_network(prompts: Sequence[str]) -> bool:
    """Return whether prompts are files of arguments of a network, in place of those of its pipeline's call."""
    files = [prompt for prompt in prompts if prompt.endswith(TENSORS)]
    return bool(files) and "encoder_hidden_states" in read_tensors(files[0], "prompt")[0]


def _on(condition: Mapping[str, Any], device: torch.device | str, dtype: torch.dtype) -> dict[str, Any]:
    return {n: v.to(device, dtype) if isinstance(v, Tensor) else _on(v, device, dtype) for n, v in condition.items()}


def _shape(network: nn.Module, source: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a state."""
    config: Any = network.config
    channels, size = config.get("in_channels"), config.get("sample_size")
    check_whole("in_channels", channels, 1, MOST_CHANNELS)
    if (made := config.get("out_channels")) not in (None, channels, 2 * channels):
        raise refusal(
            f"model: the network of {quote(source)} takes {channels} channels and predicts {made}: the others are "
            "conditions, such as a mask; in Python, sm.from_pipeline(pipe, prompts, image=..., mask_image=...) has them"
        )
    axes = NETWORKS[type(network).__name__]
    if shape and shape[0] != channels:
        raise refusal(f"shape: got {shape}; expected {channels} channel(s) for {quote(source)}")
    # of a video, a size says nothing of the number of frames
    if not shape and (size is None or axes == 3):
        example = " ".join(["16"] * (axes > 2) + ["64"] * min(axes, 2))
        raise refusal(f"shape: {quote(source)} does not say its size; give --shape, for example {channels} {example}")
    if shape and len(shape) != 1 + axes:
        raise refusal(f"shape: got {shape}; expected {channels} channel(s) and {axes} side(s) for {quote(source)}")
    sides = (size,) * axes if isinstance(size, int) else tuple(size or ())
    check_wholes("sample_size", sides, (0, 3), (1, LONGEST_SIDE))
    return shape or (channels, *sides)


def _classes(network: nn.Module) -> int:
    """Return the number of classes; 0 for none."""
    config: Any = network.config
    return int(config.get("num_class_embeds") or config.get("num_embeds_ada_norm") or 0)


def _bind(network: nn.Module, table: NoiseTable, text: Mapping[str, Tensor], label: int | None) -> DiffusersDenoiser:
    """Return the denoiser of a class, or of the null class that a transformer was trained with."""
    classes, config = _classes(network), getattr(network, "config", {})
    if not classes:
        return DiffusersDenoiser(Conditioned(network, text), table, network)
    if label is None:
        if not config.get("num_embeds_ada_norm"):
            raise refusal(
                f"labels: this model has no class for all of them; name some of 0 to {classes - 1}, or with "
                "--null-label the one that stands for all"
            )
        label = classes
    device = next(network.parameters()).device
    condition = {**text, "class_labels": torch.tensor([label], device=device)}
    return DiffusersDenoiser(Conditioned(network, condition), table, network)


def _bind_text(
    network: nn.Module, table: NoiseTable, texts: Sequence[Mapping[str, Tensor]], label: int | None
) -> DiffusersDenoiser:
    """Return the denoiser of one of several prompts."""
    if label is None:
        few = ",".join(map(str, range(len(texts))))
        raise refusal(f"labels: {len(texts)} prompts have no sample of all of them; name theirs: --labels {few}")
    return DiffusersDenoiser(Conditioned(network, texts[label]), table, network)


def _text_conditions(
    source: str, network: nn.Module, prompts: Sequence[str]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the arguments that a network needs for each prompt, and the digests of their files."""
    needed = _needed(network)
    if not needed:
        if prompts:
            raise refusal(f"prompt: got {quote(prompts[0])}; {quote(source)} is no model of text: leave it out")
        return [{}], {}
    if not prompts:
        raise refusal(f"prompt: {quote(source)} is a model of text; give --prompt, a file.safetensors")
    if len(set(prompts)) < len(prompts):
        raise refusal(f"prompt: got one of {quote(prompts)} twice; name each once")
    found, digested = list[dict[str, Any]](), dict[str, str]()
    for place, prompt in enumerate(prompts):
        if not prompt.endswith(TENSORS):
            raise refusal(
                f"prompt: got {quote(prompt)}; {quote(source)} is no whole pipeline of diffusers with a text encoder; "
                f"give a file.safetensors with {', '.join(needed)}"
            )
        condition, _ = read_tensors(prompt, "prompt")
        if lacking := [name for name in needed if name not in condition]:
            raise refusal(f"prompt: {quote(prompt)} lacks {', '.join(lacking)}, which {quote(source)} needs")
        added = {name: value for name, value in condition.items() if name in ADDED}
        plain = {name: value for name, value in condition.items() if name not in ADDED}
        found.append(plain | ({"added_cond_kwargs": added} if added else {}))
        # each prompt is a file of its own
        digested[f"prompt {place}" if place else "prompt"] = sha256(prompt)
    return found, digested


def _needed(network: nn.Module) -> list[str]:
    """Return the arguments of text that a network's forward takes."""
    config: Any = network.config
    if "encoder_hidden_states" not in inspect.signature(network.forward).parameters:
        return []
    return ["encoder_hidden_states", *(ADDED if config.get("addition_embed_type") == "text_time" else ())]
