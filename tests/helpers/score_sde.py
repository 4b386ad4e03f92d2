"""Checkpoints in the layout of score_sde, written without its code: names and shapes in the order of its modules."""

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helpers.formula import filled, waves

Shapes = dict[str, tuple[int, ...]]

# of a tiny DDPM++ of the continuous VP process, in the sections of score_sde's config
VP: dict[str, dict[str, Any]] = {
    "training": {"sde": "vpsde", "continuous": True},
    "data": {"image_size": 8, "num_channels": 2, "centered": True},
    "model": {
        "name": "ncsnpp", "scale_by_sigma": False, "sigma_min": 0.01, "sigma_max": 50, "beta_min": 0.1,
        "beta_max": 20.0, "num_scales": 1000, "embedding_type": "positional", "nonlinearity": "swish", "nf": 8,
        "ch_mult": [1, 2],
        "num_res_blocks": 1, "attn_resolutions": [4], "conditional": True, "fir": False, "fir_kernel": [1, 3, 3, 1],
        "skip_rescale": True, "resblock_type": "biggan", "progressive": "none", "progressive_input": "none",
        "progressive_combine": "sum",
    },
}  # fmt: skip


def changed(config: Mapping[str, Mapping[str, Any]], **changes: Any) -> dict[str, dict[str, Any]]:
    """Return a config, entries of its sections replaced by others."""
    return {name: {k: changes.get(k, v) for k, v in section.items()} for name, section in config.items()}


# NCSN++ of the continuous VE process, as of CIFAR-10, and as of images of 256 sites
VE = changed(
    VP, sde="vesde", centered=False, scale_by_sigma=True, embedding_type="fourier", fir=True,
    progressive_input="residual",
)  # fmt: skip
PYRAMID = changed(VE, progressive_input="input_skip", progressive="output_skip", ch_mult=[1, 2, 1])


def _conv(into: int, out: int, side: int = 3, name: str = "") -> Shapes:
    return {f"{name}weight": (out, into, side, side), f"{name}bias": (out,)}


def _linear(into: int, out: int, name: str = "") -> Shapes:
    return {f"{name}weight": (out, into), f"{name}bias": (out,)}


def _norm(width: int, name: str = "") -> Shapes:
    return {f"{name}weight": (width,), f"{name}bias": (width,)}


def _block(into: int, out: int, width: int, resampled: bool = False) -> Shapes:
    shapes = _norm(into, "GroupNorm_0.") | _conv(into, out, 3, "Conv_0.") | _linear(4 * width, out, "Dense_0.")
    shapes |= _norm(out, "GroupNorm_1.") | _conv(out, out, 3, "Conv_1.")
    return shapes | (_conv(into, out, 1, "Conv_2.") if into != out or resampled else {})


def _attention(width: int) -> Shapes:
    shapes = _norm(width, "GroupNorm_0.")
    for place in range(4):
        shapes |= {f"NIN_{place}.W": (width, width), f"NIN_{place}.b": (width,)}
    return shapes


def _modules(config: Mapping[str, Mapping[str, Any]]) -> Iterator[Shapes]:
    """Yield names and shapes of the parameters of each module of NCSN++, in the order in which it is made."""
    model, images = config["model"], config["data"]["num_channels"]
    width, factors, sides = model["nf"], model["ch_mult"], config["data"]["image_size"]
    if model["embedding_type"] == "fourier":
        yield {"W": (width,)}
    yield _linear(width * (1 + (model["embedding_type"] == "fourier")), 4 * width)
    yield _linear(4 * width, 4 * width)
    yield _conv(images, width)
    last, added, skips = width, images, [width]
    for level, factor in enumerate(factors):
        for _ in range(model["num_res_blocks"]):
            yield _block(last, factor * width, width)
            last = factor * width
            skips.append(last)
            if sides >> level in model["attn_resolutions"]:
                yield _attention(last)
        if level < len(factors) - 1:
            yield _block(last, last, width, resampled=True)
            skips.append(last)
            if model["progressive_input"] == "input_skip":
                yield _conv(added, last, 1, "Conv_0.")
            elif model["progressive_input"] == "residual":
                yield _conv(added, last, 3, "Conv2d_0.")
                added = last
    yield _block(last, last, width)
    yield _attention(last)
    yield _block(last, last, width)
    for level, factor in reversed(list(enumerate(factors))):
        for _ in range(model["num_res_blocks"] + 1):
            yield _block(last + skips.pop(), factor * width, width)
            last = factor * width
        if sides >> level in model["attn_resolutions"]:
            yield _attention(last)
        if model["progressive"] == "output_skip" or not level:
            yield _norm(last)
            yield _conv(last, images)
        if level:
            yield _block(last, last, width, resampled=True)


def weights(config: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """Return the weights of a network, waves in float64 by the names that the official network has for them."""
    modules = enumerate(_modules(config))
    shapes = {f"all_modules.{i}.{name}": shape for i, module in modules for name, shape in module.items()}
    values = filled({name: torch.empty(shape) for name, shape in shapes.items()})
    return {name: values[name] for name in shapes}


@cache
def _saved(config: str) -> bytes:
    file = BytesIO()
    torch.save(checkpoint(json.loads(config)), file)
    return file.getvalue()


def write(path: Path, config: Mapping[str, Mapping[str, Any]], **changes: Any) -> None:
    """Write a checkpoint, entries of it replaced by others, and its config beside it."""
    text = json.dumps(config)
    path.with_suffix(".json").write_text(text)
    if changes:
        torch.save(checkpoint(config) | changes, path)
    else:
        path.write_bytes(_saved(text))


def checkpoint(config: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a checkpoint holds; the weights beside their averages are others, and so is the optimiser's state."""
    model, own = config["model"], weights(config)
    levels = torch.linspace(1, 0, model["num_scales"], dtype=torch.float64)
    levels = model["sigma_min"] * (model["sigma_max"] / model["sigma_min"]) ** levels
    fixed = {"all_modules.0.W"} if model["embedding_type"] == "fourier" else set()
    trained = [value.float() for name, value in own.items() if name not in fixed]
    latest: OrderedDict[str, Any] = OrderedDict({"module.sigmas": levels})
    for name, value in own.items():
        latest[f"module.{name}"] = value.float() if name in fixed else waves(tuple(value.shape), 2.0).float()
    # as torch marks the state of a module
    vars(latest)["_metadata"] = OrderedDict({"": {"version": 1}})
    return {
        "optimizer": {"state": {0: {"step": 3, "exp_avg": trained[0]}}, "param_groups": [{"lr": 2e-4, "params": [0]}]},
        "model": latest,
        "ema": {"decay": 0.999, "num_updates": 3, "shadow_params": trained},
        "step": 3,
    }
