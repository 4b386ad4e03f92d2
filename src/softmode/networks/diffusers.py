"""Networks of diffusers as denoisers: UNets and transformers, in pixels or latents, free, of classes or of text."""

import contextlib
import inspect
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from softmode.denoiser import Denoiser, per_sample
from softmode.networks.diffusers_scheduler import NoiseTable, noise_table
from softmode.networks.registry import Model
from softmode.process import parse_process

EXTRA = "softmode[diffusers]"
# folders of a pipeline that may hold its denoiser
NETWORKS = ("unet", "transformer", "prior")
# arguments of a text network, beside encoder_hidden_states, that a prompt alone does not give
FURTHER = ("pooled_projections", "added_cond_kwargs")


@dataclass(frozen=True, eq=False)
class DiffusersDenoiser:
    """A diffusers network and its scheduler's noise as a denoiser.

    Args:
        network: Called with (states, timesteps [batch], **condition); returns an object with `sample`.
        table: The scheduler's noise levels.
        condition: Further arguments by name, of one trajectory [1, ...]; they are repeated for every state.
    """

    network: Callable[..., Any]
    table: NoiseTable
    condition: Mapping[str, Tensor]

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x_0 | x], of the shape of x.

        Raises:
            ValueError: If a noise level is beyond the scheduler's range.
        """
        level = per_sample(sigma, x)
        alpha, noise = (value.to(x.dtype) for value in self.table.amplitudes(level))
        timesteps = self.table.timestep(level.flatten().cpu()).to(x.device, x.dtype).expand(len(x))
        condition = {name: value.expand(len(x), *value.shape[1:]) for name, value in self.condition.items()}
        x_t = alpha * x
        with _differentiable():
            out = self.network(x_t, timesteps, **condition).sample
        # a network that has learned its variance too returns it after the mean
        out = out[:, : x.shape[1]]
        if self.table.kind == "edm":
            total, data = level.square() + self.table.sigma_data**2, self.table.sigma_data
            skip, scale = (data**2 / total).to(x.dtype), (level * data * total.rsqrt()).to(x.dtype)
            return skip * x + (scale if self.table.prediction == "epsilon" else -scale) * out
        match self.table.prediction:
            case "sample":
                return out
            case "epsilon":
                return (x_t - noise * out) / alpha
            case "flow":
                return x_t - noise * out
            case _:
                return alpha * x_t - noise * out


@contextlib.contextmanager
def _differentiable() -> Iterator[None]:
    """Let attention take the form that forward-mode AD knows, if a derivative is being taken."""
    if getattr(forward_ad, "_current_level", 0) < 0:
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield


def load_diffusers(
    source: str,
    schedule: str = "",
    shape: Sequence[int] = (),
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    prompt: str | None = None,
) -> Model:
    """Return the model of a diffusers pipeline, or of a network with a folder `scheduler` in or beside its own.

    Args:
        source: Directory, or id on the hub, which is asked only then.
        schedule: Process in which to sample; ve, the coordinates of a denoiser, when left out.
        shape: Shape of a state; that of the network's training when left out.
        device: Device of the weights.
        dtype: Floating type of the weights.
        prompt: Text of a text-conditional model, or a file.safetensors with the network's own arguments, such as
            encoder_hidden_states and pooled_projections [1, ...].

    Raises:
        ValueError: If diffusers is not installed, the model cannot be read, or lacks what it needs.
    """
    diffusers = _diffusers()
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    # the hub's client logs every retry; what comes of them is said below in one line
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    parts = _parts(source)
    scheduler = _load(source, parts["scheduler"], "the scheduler")
    table = noise_table(scheduler)
    network = _load(source, parts["network"], "the network", torch_dtype=dtype, use_safetensors=True)
    network.to(device).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            # its forward derivative rejects the strides that attention leaves behind
            module.register_forward_pre_hook(lambda _module, inputs: (inputs[0].contiguous(),))
    trained = _shape(network, source, tuple(shape))
    text = _text_condition(source, network, parts, prompt, device, dtype)
    classes = _classes(network)
    return Model(
        name=f"diffusers:{source}",
        process=parse_process(schedule or "ve"),
        shape=trained,
        bind=lambda label: _bind(network, table, text, label),
        classes=classes,
        levels=table.range,
    )


def load_scheduler(source: str) -> Any:
    """Return the scheduler of a model of `load_diffusers`.

    Raises:
        ValueError: If diffusers is not installed or there is none.
    """
    _diffusers()
    return _load(source, _parts(source)["scheduler"], "the scheduler")


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError:
        raise ValueError(f"model: a diffusers model needs diffusers: pip install '{EXTRA}'") from None
    return diffusers


def _parts(source: str) -> dict[str, tuple[str, str]]:
    """Return (class, folder) of a pipeline's network, scheduler and text encoder, from its index or its folders."""
    diffusers, home = _diffusers(), Path(source)
    if (home / "config.json").is_file():
        return _bare(home)
    if home.exists() and not (home / "model_index.json").is_file():
        raise ValueError(
            f"model: {source!r} holds neither model_index.json nor config.json; give the directory of a diffusers "
            "pipeline, or of a network with its scheduler beside it"
        )
    try:
        with warnings.catch_warnings():
            # about arguments of its own to the hub's client
            warnings.simplefilter("ignore")
            index = diffusers.DiffusionPipeline.load_config(source)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"model: cannot find {source!r} on this machine, nor reach it on the hub ({reason}); download it first and "
            "give its directory"
        ) from None
    network = next((name for name in NETWORKS if index.get(name, [None, None])[1]), None)
    if network is None or "scheduler" not in index:
        raise ValueError(f"model: {source!r} has no {', '.join(NETWORKS)} and scheduler: it is no denoiser")
    parts = {"network": (index[network][1], network), "scheduler": (index["scheduler"][1], "scheduler")}
    for name in ("text_encoder", "tokenizer"):
        if index.get(name, [None, None])[1]:
            parts[name] = (index[name][1], name)
    return parts


def _bare(home: Path) -> dict[str, tuple[str, str]]:
    """Return the parts of a network's own directory; its scheduler lies in it or beside it."""
    folder = next((f for f in ("scheduler", "../scheduler") if (home / f / "scheduler_config.json").is_file()), None)
    if folder is None:
        raise ValueError(f"model: {str(home)!r} has no folder scheduler, in it or beside it, with its noise levels")
    scheduler = json.loads((home / folder / "scheduler_config.json").read_text())
    config = json.loads((home / "config.json").read_text())
    return {"network": (config.get("_class_name", "none"), ""), "scheduler": (scheduler["_class_name"], folder)}


def _load(source: str, part: tuple[str, str], what: str, **settings: Any) -> Any:
    """Return one part of a pipeline, of one of diffusers' own classes: code that comes with weights is never run."""
    diffusers, (name, folder) = _diffusers(), part
    known = getattr(diffusers, name, None)
    if known is None:
        raise ValueError(f"model: {what} of {source!r} is a {name}, which diffusers {diffusers.__version__} lacks")
    home = Path(source) / folder
    try:
        if home.exists():
            return known.from_pretrained(str(home), **settings)
        return known.from_pretrained(source, subfolder=folder, **settings)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        hint = "; only safetensors are read, not pickles" if "safetensors" in reason else ""
        raise ValueError(f"model: cannot load {what} of {source!r} ({reason}){hint}") from None


def _shape(network: nn.Module, source: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a state."""
    config: Any = network.config
    channels, size = config["in_channels"], config.get("sample_size")
    if shape and shape[0] != channels:
        raise ValueError(f"shape: got {shape}; expected {channels} channel(s) for {source!r}")
    if not shape and size is None:
        raise ValueError(f"shape: {source!r} does not say its size; give --shape, for example {channels} 64 64")
    sides = (size, size) if isinstance(size, int) else tuple(size or ())
    return shape or (channels, *sides)


def _classes(network: nn.Module) -> int:
    """Return the number of classes; 0 for none."""
    config: Any = network.config
    return int(config.get("num_class_embeds") or config.get("num_embeds_ada_norm") or 0)


def _bind(network: nn.Module, table: NoiseTable, text: Mapping[str, Tensor], label: int | None) -> Denoiser:
    """Return the denoiser of a class, or of the null class that a transformer was trained with."""
    classes, config = _classes(network), getattr(network, "config", {})
    if not classes:
        return DiffusersDenoiser(network, table, text)
    if label is None:
        if not config.get("num_embeds_ada_norm"):
            raise ValueError(f"labels: this model has no class for all of them; name some of 0 to {classes - 1}")
        label = classes
    device = next(network.parameters()).device
    return DiffusersDenoiser(network, table, {**text, "class_labels": torch.tensor([label], device=device)})


def _text_condition(
    source: str,
    network: nn.Module,
    parts: Mapping[str, tuple[str, str]],
    prompt: str | None,
    device: torch.device | str,
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """Return the arguments that a text-conditional network needs, computed once."""
    needed = _needed(network)
    if not needed:
        if prompt is not None:
            raise ValueError(f"prompt: got {prompt!r}; {source!r} is no model of text: leave it out")
        return {}
    if prompt is None:
        raise ValueError(f"prompt: {source!r} is a model of text; give --prompt, a text or a file.safetensors")
    if prompt.endswith(".safetensors"):
        condition = _read_condition(prompt)
    elif further := [name for name in needed if name in FURTHER]:
        raise ValueError(f"prompt: {source!r} needs {', '.join(further)} too; give a file.safetensors with all of them")
    else:
        condition = {"encoder_hidden_states": _encode(source, parts, prompt)}
    lacking = [name for name in needed if name not in condition and name != "added_cond_kwargs"]
    if lacking:
        raise ValueError(f"prompt: {prompt!r} lacks {', '.join(lacking)}, which {source!r} needs")
    return {name: value.to(device, dtype) for name, value in condition.items()}


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


def _read_condition(path: str) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"prompt: cannot read {path!r} ({error})") from None
    except Exception as error:  # safetensors raises an exception of its own, derived from nothing else
        if type(error).__name__ != "SafetensorError":
            raise
        raise ValueError(f"prompt: {path!r} is no safetensors file ({error})") from None


@torch.no_grad()
def _encode(source: str, parts: Mapping[str, tuple[str, str]], prompt: str) -> Tensor:
    """Return the last hidden state of the pipeline's text encoder for a prompt, [1, token, channel]."""
    if "text_encoder" not in parts or "tokenizer" not in parts:
        raise ValueError(f"prompt: {source!r} has no text encoder; give a file.safetensors with encoder_hidden_states")
    import transformers

    made = []
    for name in ("tokenizer", "text_encoder"):
        kind, folder = parts[name]
        home = Path(source) / folder
        where, settings = (str(home), {}) if home.exists() else (source, {"subfolder": folder})
        made.append(getattr(transformers, kind).from_pretrained(where, **settings))
    tokenizer, encoder = made
    tokens = tokenizer(
        prompt, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    hidden: Tensor = encoder(tokens.input_ids).last_hidden_state
    return hidden
