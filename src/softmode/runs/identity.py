"""What a run's arrays are a function of: fingerprints of live functions, and how much a state of a model costs."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.files import sha256
from softmode.labels import Label
from softmode.message import refusal
from softmode.model import Model
from softmode.runs.provenance import free_memory

# noise levels at which a denoiser's fingerprint is taken
LEVELS = (0.1, 1.0, 10.0)
# bytes of activations per site: some sixteen float32 fields of 64 channels, as a U-Net of moderate width keeps at once
ACTIVATIONS = 4096


def fingerprint(
    function: Callable[[Tensor], Tensor], shape: Sequence[int], device: torch.device, dtype: torch.dtype
) -> float:
    """Return one number that another function would not give: a run must not be resumed with other weights."""
    # no regular pattern: a symmetric model may send one to zero
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    with torch.no_grad():
        return float(f"{float(function(x).double().square().mean()):.5g}")


def fingerprints(
    denoisers: Mapping[Label, Denoiser], model: Model, device: torch.device, dtype: torch.dtype
) -> dict[str, list[float]]:
    """Return the fingerprints of a model's denoiser of each label, at several of the noise levels that it knows."""
    lowest, highest = model.levels or (0.0, math.inf)
    levels = [min(max(level, lowest), highest) for level in LEVELS]
    return {
        "all" if label is None else str(label): [
            fingerprint(_at(denoiser, sigma), model.shape, device, dtype) for sigma in levels
        ]
        for label, denoiser in denoisers.items()
    }


def _at(denoiser: Denoiser, sigma: float) -> Callable[[Tensor], Tensor]:
    return lambda x: denoiser(x, sigma)


def identity_of(
    model: Model, denoisers: Mapping[Label, Denoiser], device: torch.device, dtype: torch.dtype, data: str
) -> dict[str, Any]:
    """Return a model by fingerprints, and digests of its files and of a file of data, if one is named.

    Args:
        model: The model.
        denoisers: Its denoiser of each label.
        device: Device of the states.
        dtype: Their floating type.
        data: The file of data; none when empty.
    """
    return {
        "model": {
            "name": model.name, "shape": list(model.shape), "process": type(model.process).__name__,
            "fingerprint": fingerprints(denoisers, model, device, dtype),
        },
        "inputs": inputs_of(model=model.inputs) | ({"data": sha256(data)} if data else {}),
    }  # fmt: skip


def inputs_of(**files: Mapping[str, str]) -> dict[str, str]:
    """Return digests of the files of several things, each by its thing and what it is, such as `model weights`."""
    return {f"{what} {name}": digest for what, digests in files.items() for name, digest in digests.items()}


def state_bytes(model: Model, dtype: torch.dtype) -> float:
    """Return about how much memory one state of a model takes while its network computes."""
    sites = math.prod(float(side) for side in model.shape[1:])
    return sites * (ACTIVATIONS + 8 * model.shape[0] * dtype.itemsize)


def check_state_fits(model: Model, dtype: torch.dtype) -> None:
    """Raise a ValueError, before anything of a model's size is allocated, unless one state of it fits into memory."""
    needed, free = state_bytes(model, dtype), free_memory()
    if needed > free:
        raise refusal(
            f"shape: got {model.shape}; one state takes about {needed / 2**30:.3g} GiB of memory in the network, of "
            f"which {free / 2**30:.3g} GiB are free: use a smaller one"
        )
