"""Networks of diffusers as denoisers: UNets and transformers, in pixels or latents, free, of classes or of text."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from softmode.denoiser import Denoiser
from softmode.files import DIRECTORY, kind_of, sha256
from softmode.message import first_line, quote, refusal
from softmode.model import Model
from softmode.networks.card import LONGEST_SIDE, MOST_CHANNELS, read_tensors
from softmode.networks.diffusers_denoiser import Conditioned, DiffusersDenoiser
from softmode.networks.diffusers_files import Parts, digests, find_parts, import_diffusers, load_part
from softmode.networks.diffusers_scheduler import NoiseTable, noise_table
from softmode.networks.fields import check_whole, check_wholes
from softmode.process import parse_process

# arguments of a text network, beside encoder_hidden_states, that a prompt alone does not give
FURTHER = ("pooled_projections", "added_cond_kwargs")


def load_diffusers(
    source: str,
    schedule: str = "",
    shape: Sequence[int] = (),
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    prompt: Sequence[str] = (),
) -> Model:
    """Return the model of a diffusers pipeline, or of a network with a folder `scheduler` in or beside its own.

    Args:
        source: Directory, or id on the hub, which is asked only then.
        schedule: Process in which to sample; ve, the coordinates of a denoiser, when left out.
        shape: Shape of a state; that of the network's training when left out.
        device: Device of the weights.
        dtype: Floating type of the weights.
        prompt: Text of a text-conditional model, or a file.safetensors with the network's own arguments, such as
            encoder_hidden_states and pooled_projections [1, ...]; several are the classes of the model.

    Raises:
        ValueError: If diffusers is not installed, the model cannot be read, or lacks what it needs.
    """
    import_diffusers()
    source = source.removeprefix("diffusers:")
    parts = find_parts(source)
    # each a regular file: diffusers would open anything
    inputs = digests(source, parts, ("network", "scheduler"))
    table = noise_table(load_part(source, parts, "scheduler"))
    network = load_part(source, parts, "network", torch_dtype=dtype, use_safetensors=True)
    network.to(device).eval().requires_grad_(False)
    trained = _shape(network, source, tuple(shape))
    found, told = _text_conditions(source, network, parts, prompt)
    texts = [{name: value.to(device, dtype) for name, value in each.items()} for each in found]
    many = len(texts) > 1
    if many and _classes(network):
        raise refusal(f"prompt: got {len(texts)}; {quote(source)} has classes beside: give one prompt")
    return Model(
        name=f"diffusers:{source}",
        process=parse_process(schedule or "ve"),
        shape=trained,
        bind=lambda label: _bind_text(network, table, texts, label) if many else _bind(network, table, texts[0], label),
        classes=len(texts) if many else _classes(network),
        levels=table.range,
        inputs=inputs | told,
    )


def _shape(network: nn.Module, source: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a state."""
    config: Any = network.config
    channels, size = config.get("in_channels"), config.get("sample_size")
    check_whole("in_channels", channels, 1, MOST_CHANNELS)
    if shape and shape[0] != channels:
        raise refusal(f"shape: got {shape}; expected {channels} channel(s) for {quote(source)}")
    if not shape and size is None:
        raise refusal(f"shape: {quote(source)} does not say its size; give --shape, for example {channels} 64 64")
    sides = (size, size) if isinstance(size, int) else tuple(size or ())
    check_wholes("sample_size", sides, (0, 3), (1, LONGEST_SIDE))
    return shape or (channels, *sides)


def _classes(network: nn.Module) -> int:
    """Return the number of classes; 0 for none."""
    config: Any = network.config
    return int(config.get("num_class_embeds") or config.get("num_embeds_ada_norm") or 0)


def _bind(network: nn.Module, table: NoiseTable, text: Mapping[str, Tensor], label: int | None) -> Denoiser:
    """Return the denoiser of a class, or of the null class that a transformer was trained with."""
    classes, config = _classes(network), getattr(network, "config", {})
    if not classes:
        return DiffusersDenoiser(Conditioned(network, text), table, network)
    if label is None:
        if not config.get("num_embeds_ada_norm"):
            raise refusal(f"labels: this model has no class for all of them; name some of 0 to {classes - 1}")
        label = classes
    device = next(network.parameters()).device
    condition = {**text, "class_labels": torch.tensor([label], device=device)}
    return DiffusersDenoiser(Conditioned(network, condition), table, network)


def _bind_text(
    network: nn.Module, table: NoiseTable, texts: Sequence[Mapping[str, Tensor]], label: int | None
) -> Denoiser:
    """Return the denoiser of one of several prompts."""
    if label is None:
        few = ",".join(map(str, range(len(texts))))
        raise refusal(f"labels: {len(texts)} prompts have no sample of all of them; name theirs: --labels {few}")
    return DiffusersDenoiser(Conditioned(network, texts[label]), table, network)


def _text_conditions(
    source: str, network: nn.Module, parts: Parts, prompts: Sequence[str]
) -> tuple[list[dict[str, Tensor]], dict[str, str]]:
    """Return the arguments that a network needs for each prompt, computed once, and the digests of their files."""
    needed = _needed(network)
    if not needed:
        if prompts:
            raise refusal(f"prompt: got {quote(prompts[0])}; {quote(source)} is no model of text: leave it out")
        return [{}], {}
    if not prompts:
        raise refusal(f"prompt: {quote(source)} is a model of text; give --prompt, a text or a file.safetensors")
    if len(set(prompts)) < len(prompts):
        raise refusal(f"prompt: got one of {quote(prompts)} twice; name each once")
    found, digested = list[dict[str, Tensor]](), dict[str, str]()
    for place, prompt in enumerate(prompts):
        condition, inputs = _text_condition(source, needed, parts, prompt)
        found.append(condition)
        # each prompt may be a file of its own
        digested |= {f"{name} {place}" if name == "prompt" and place else name: each for name, each in inputs.items()}
    return found, digested


def _text_condition(
    source: str, needed: Sequence[str], parts: Parts, prompt: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the arguments of one prompt, and the digests of what they are from."""
    if prompt.endswith(".safetensors"):
        condition, inputs = read_tensors(prompt, "prompt")[0], {"prompt": sha256(prompt)}
    elif further := [name for name in needed if name in FURTHER]:
        raise refusal(
            f"prompt: {quote(source)} needs {', '.join(further)} too; give a file.safetensors with all of them"
        )
    else:
        inputs = digests(source, parts, ("text_encoder", "tokenizer"))
        condition = {"encoder_hidden_states": _encode(source, parts, prompt)}
    lacking = [name for name in needed if name not in condition and name != "added_cond_kwargs"]
    if lacking:
        raise refusal(f"prompt: {quote(prompt)} lacks {', '.join(lacking)}, which {quote(source)} needs")
    return condition, inputs


def _needed(network: nn.Module) -> list[str]:
    """Return the arguments of text that a network's forward takes."""
    config: Any = network.config
    taken = inspect.signature(network.forward).parameters
    if "encoder_hidden_states" not in taken:
        return []
    further = ["pooled_projections"] if "pooled_projections" in taken else []
    if config.get("addition_embed_type"):
        further.append("added_cond_kwargs")
    return ["encoder_hidden_states", *further]


@torch.no_grad()
def _encode(source: str, parts: Parts, prompt: str) -> Tensor:
    """Return the last hidden state of the pipeline's text encoder for a prompt, [1, token, channel]."""
    if "text_encoder" not in parts or "tokenizer" not in parts:
        raise refusal(
            f"prompt: {quote(source)} has no text encoder; give a file.safetensors with encoder_hidden_states"
        )
    import transformers

    made = []
    for name, settings in (("tokenizer", {}), ("text_encoder", {"use_safetensors": True})):
        kind, folder = parts[name]
        home = Path(source, folder)
        where, at = (str(home), {}) if kind_of(home) == DIRECTORY else (source, {"subfolder": folder})
        try:
            made.append(getattr(transformers, kind).from_pretrained(where, **at, **settings))
        # whatever transformers raises of a config that its class cannot take
        except Exception as error:
            raise refusal(
                f"prompt: cannot load the {name} of {quote(source)} ({first_line(error)}); give a file.safetensors"
            ) from None
    tokenizer, encoder = made
    tokens = tokenizer(
        prompt, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    hidden: Tensor = encoder(tokens.input_ids).last_hidden_state
    return hidden
