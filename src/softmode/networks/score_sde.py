"""Checkpoints of score_sde (song2021, in PyTorch): NCSN++ and DDPM++ of its continuous VP and VE processes.

A checkpoint holds averaged weights without names. What they are is told by the config of their training, a Python file
elsewhere, of which softmode reads the JSON beside the checkpoint. The networks are those of `edm_unet` under other
names, in EDM's VP and VE preconditioning.

Source: song2021 (App. H), karras2022 (App. C.1, C.2), which takes over these networks.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from softmode.files import FILE, kind_of, read_json, regular_file, sha256
from softmode.message import first_line, quote, refusal
from softmode.model import Model
from softmode.networks.card import build
from softmode.networks.edm import EDM, EDMConfig, as_config
from softmode.networks.edm_config import SONG
from softmode.networks.edm_files import as_model
from softmode.networks.edm_layers import Block, Fourier, square_filter
from softmode.networks.inert_pickle import Held, entries
from softmode.networks.torch_archive import read_archive

EXPECTED = "a checkpoint of score_sde in PyTorch"
# what every network here has in its config; another value names another network
ALWAYS: dict[str, tuple[object, ...]] = {
    "training.continuous": (True,), "model.name": ("ncsnpp",), "model.conditional": (True,),
    "model.nonlinearity": ("swish",), "model.resblock_type": ("biggan",), "model.skip_rescale": (True,),
    "model.progressive": ("none", "output_skip"), "model.progressive_input": ("none", "input_skip", "residual"),
    "model.progressive_combine": ("sum",), "model.fir": (True, False),
}  # fmt: skip
OF_PROCESS: dict[str, dict[str, tuple[object, ...]]] = {
    "vpsde": {
        "data.centered": (True,), "model.scale_by_sigma": (False,), "model.embedding_type": ("positional",),
        "model.beta_min": (), "model.beta_max": (),
    },
    "vesde": {
        "data.centered": (False,), "model.scale_by_sigma": (True,), "model.embedding_type": ("fourier",),
        "model.sigma_min": (), "model.sigma_max": (),
    },
}  # fmt: skip
SHAPE = (
    "data.image_size", "data.num_channels", "model.nf", "model.ch_mult", "model.num_res_blocks",
    "model.attn_resolutions", "model.fir_kernel",
)  # fmt: skip
TYPES = {"none": "standard", "input_skip": "skip", "output_skip": "skip", "residual": "residual"}
# our names of the parts of a residual block and of self-attention; queries, keys and values are one layer of ours
BLOCK = {
    "GroupNorm_0": "norm0", "Conv_0": "conv0", "Dense_0": "affine", "GroupNorm_1": "norm1", "Conv_1": "conv1",
    "Conv_2": "skip",
}  # fmt: skip
# convolutions beside the blocks are layers of their own
PLAIN = {"Conv_0": "", "Conv2d_0": ""}
NORM = {"GroupNorm_0": "norm2"}
QUERIES = ("NIN_0", "NIN_1", "NIN_2")
PREFIX, FIRST = "all_modules.", "all_modules.0.W"
# how far the noise levels in a checkpoint may be from those of its config
CLOSE = 1e-3


def load_score_sde(
    source: str, schedule: str, shape: tuple[int, ...], device: torch.device | str, dtype: torch.dtype
) -> Model:
    """Return the model of a checkpoint of score_sde, of states with values between -1 and 1.

    Args:
        source: score_sde:file.pth; its config is file.json beside it.
        schedule: Process in which to sample; ve when left out.
        shape: Shape of a state, which must be that of its training.
        device: Device of its weights.
        dtype: Floating type of its weights.

    Raises:
        ValueError: If the file is no such checkpoint, or of a network of another kind.
    """
    path = regular_file("weights", source.removeprefix("score_sde:"))
    told = path.with_suffix(".json")
    network = load_network(path, told)
    inputs = {"weights": sha256(path), "config": sha256(told)}
    return as_model(source, network, schedule, shape, device, dtype, inputs)


def load_network(path: Path, told: Path) -> EDM:
    """Return the network of a checkpoint and of its config, with averaged weights, in float32 for evaluation.

    Raises:
        ValueError: If one cannot be read, they do not fit each other, or they are of a network of another kind.
    """
    found = read_archive(path, EXPECTED)
    if kind_of(told) != FILE:
        raise refusal(
            f"config: {quote(str(told))} is not there, and a checkpoint does not say what its network is; write it "
            f"where score_sde is: open({quote(told.name)}, 'w').write(get_config().to_json_best_effort())"
        )
    given = _given(read_json("config", told), told)
    try:
        config = _config(given)
        with torch.device("meta"):
            untrained = EDM(config)
        state = _renamed(_averaged(found, given, path.stat().st_size), untrained)
    # damage of a storage shows when it is read
    except Exception as error:
        raise refusal(f"weights: cannot use {quote(str(path))} with {quote(told.name)} ({first_line(error)})") from None
    network = build(partial(EDM, config), state, f"{path} by {told.name}")
    assert isinstance(network, EDM)
    return network


def _given(config: Mapping[str, Any], told: Path) -> dict[str, Any]:
    """Return the entries of a config by `section.name`, after those that name another network are refused."""
    sections = {name: config.get(name) for name in ("training", "data", "model")}
    given = {f"{a}.{b}": value for a, held in sections.items() if isinstance(held, dict) for b, value in held.items()}
    process = given.get("training.sde")
    wanted = {"training.sde": tuple(OF_PROCESS), **ALWAYS, **dict.fromkeys(SHAPE, ())}
    wanted |= OF_PROCESS.get(process, {}) if isinstance(process, str) else {}
    for name, values in wanted.items():
        if name not in given:
            raise refusal(f"config: {quote(str(told))} lacks {name}; write all of it, by to_json_best_effort()")
        if values and not any(given[name] == value and type(given[name]) is type(value) for value in values):
            known = " or ".join(map(str, values))
            raise refusal(
                f"config: {name} is {quote(given[name])} in {quote(str(told))}; expected {known}: of score_sde, the "
                "NCSN++ and DDPM++ of continuous vpsde and vesde are read"
            )
    if given["model.progressive_input"] == "residual" and not given["model.fir"]:
        raise refusal(f"config: model.fir is False in {quote(str(told))}; expected True with a residual encoder")
    return given


def _config(given: Mapping[str, Any]) -> EDMConfig:
    """Return the network that a config describes."""
    unet = {
        "model_type": SONG, "img_resolution": given["data.image_size"], "img_channels": given["data.num_channels"],
        "model_channels": given["model.nf"], "channel_mult": given["model.ch_mult"],
        "num_blocks": given["model.num_res_blocks"], "attn_resolutions": given["model.attn_resolutions"],
        "embedding_type": given["model.embedding_type"], "encoder_type": TYPES[given["model.progressive_input"]],
        "decoder_type": TYPES[given["model.progressive"]],
        "resample_filter": given["model.fir_kernel"] if given["model.fir"] else (1, 1),
    }  # fmt: skip
    if given["training.sde"] == "vpsde":
        low, high = given["model.beta_min"], given["model.beta_max"]
        return as_config("VPPrecond", unet | {"beta_min": low, "beta_d": high - low})
    # of data between 0 and 1
    levels = {name: 2 * given[f"model.{name}"] for name in ("sigma_min", "sigma_max")}
    return as_config("VEPrecond", unet | levels | {"channel_mult_noise": 2})


def _averaged(found: Any, given: Mapping[str, Any], size: int) -> dict[str, Tensor]:
    """Return the averaged weights by the names of the network's own, which they follow in order."""
    found = entries(found)
    own, averages = entries(found.get("model")), entries(found.get("ema")).get("shadow_params")
    own = {name.removeprefix("module."): value for name, value in own.items()}
    if not own or not isinstance(averages, list) or not all(isinstance(v, Held) for v in (*own.values(), *averages)):
        raise ValueError("it lacks a model or averaged weights, ema.shadow_params")
    levels = own.pop("sigmas", None)
    if levels is not None and given["training.sde"] == "vesde":
        _check_levels(levels.loaded(), given)
    # the frequencies of the noise's embedding are not trained
    fixed = {FIRST: own.pop(FIRST)} if given["model.embedding_type"] == "fourier" and FIRST in own else {}
    shapes = [value.tensor.shape for value in own.values()]
    if [value.tensor.shape for value in averages] != shapes:
        raise ValueError("its averaged weights are not those of its model, in their order")
    used = fixed | dict(zip(own, averages, strict=True))
    if sum(each.tensor.nbytes for each in used.values()) > size:
        raise ValueError("it has tensors of more bytes than the file")
    return {name: value.loaded() for name, value in used.items()}


def _check_levels(levels: Tensor, given: Mapping[str, Any]) -> None:
    """Raise a ValueError if the noise levels in a checkpoint are not those of its config."""
    for name in ("sigma_max", "sigma_min"):
        own = float((levels.amax() if name == "sigma_max" else levels.amin()).double())
        if not abs(own / given[f"model.{name}"] - 1) < CLOSE:
            raise ValueError(f"model.{name} is {given[f'model.{name}']:g} in the config and {own:g} in the checkpoint")


def _renamed(state: Mapping[str, Tensor], network: EDM) -> dict[str, Tensor]:
    """Return weights by our names; what has no place keeps its own name."""
    parts: dict[int, dict[str, Tensor]] = {}
    renamed = {}
    for name, value in state.items():
        digits, _, part = name.removeprefix(PREFIX).partition(".")
        if name.startswith(PREFIX) and digits.isascii() and digits.isdigit() and len(digits) < 6:
            parts.setdefault(int(digits), {})[part] = value
        else:
            renamed[name] = value
    for place, (name, layer, attention) in enumerate(_places(network)):
        own = _of_layer(layer, attention, parts.pop(place, {}))
        renamed |= {f"{name}.{part}": value for part, value in own.items()}
    for place, held in parts.items():
        renamed |= {f"{PREFIX}{place}.{part}": value for part, value in held.items()}
    taps = square_filter(network.config.unet.resample_filter)
    return renamed | {name: taps for name in network.state_dict() if name.endswith("resample_filter")}


def _places(network: EDM) -> Iterator[tuple[str, nn.Module, bool]]:
    """Yield the name and the layer of ours for each module of theirs, and whether it is the layer's self-attention."""
    unet = network.model
    layers: dict[str, nn.Module] = {
        "map_noise": unet.map_noise,
        "map_layer0": unet.map_layer0,
        "map_layer1": unet.map_layer1,
    }
    layers |= {f"enc.{name}": layer for name, layer in unet.enc.items()}
    layers |= {f"dec.{name}": layer for name, layer in unet.dec.items()}
    for name, layer in layers.items():
        if any(True for _ in layer.parameters()) or isinstance(layer, Fourier):
            yield f"model.{name}", layer, False
        if isinstance(layer, Block) and layer.heads:
            yield f"model.{name}", layer, True


def _of_layer(layer: nn.Module, attention: bool, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of one module of theirs by the names within a layer of ours."""
    if isinstance(layer, Fourier):
        return {"freqs" if name == "W" else name: value for name, value in parts.items()}
    if attention:
        return _of_attention(parts)
    names = BLOCK if isinstance(layer, Block) else PLAIN
    return {_exchanged(name, names): value for name, value in parts.items()}


def _exchanged(name: str, names: Mapping[str, str]) -> str:
    """Return a name whose first part is exchanged for another, or left out."""
    first, _, rest = name.rpartition(".")
    return f"{names[first]}.{rest}".removeprefix(".") if first in names else name


def _of_attention(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of self-attention, whose linear maps are [in, out] there and convolutions here."""
    rest, found = dict(parts), dict[str, Tensor]()
    if all(f"{name}.{part}" in rest for name in QUERIES for part in "Wb"):
        weights, biases = ([rest.pop(f"{name}.{part}") for name in QUERIES] for part in "Wb")
        # queries, keys and values alternate along the channels
        found["qkv.weight"] = torch.stack([weight.T for weight in weights], 1).flatten(0, 1)[:, :, None, None]
        found["qkv.bias"] = torch.stack(biases, 1).flatten()
    if {"NIN_3.W", "NIN_3.b"} <= set(rest):
        found |= {"proj.weight": rest.pop("NIN_3.W").T[:, :, None, None], "proj.bias": rest.pop("NIN_3.b")}
    return found | {_exchanged(name, NORM): value for name, value in rest.items()}
