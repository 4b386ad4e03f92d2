"""What every experiment checks of a model or a classifier before it writes anything."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.networks.card import load_weights
from softmode.networks.classifier import ImageClassifier
from softmode.networks.registry import CLASSIFIER, DINOV2, Model, find_weights, load_classifier

# maps states [batch, channel, *space], at no noise, to logits [batch, class]
Classify = Callable[[Tensor], Tensor]

# states whose classes the default classifier tells
FASHION_MNIST = (1, 28, 28)
NONE = "none"


def check_denoiser(denoiser: Denoiser, model: Model, dtype: torch.dtype, device: torch.device, sigma: float) -> None:
    """Raise a ValueError unless a denoiser returns finite states of the shape and type that it is given."""
    x = torch.zeros(2, *model.shape, dtype=dtype, device=device)
    x += sigma * torch.linspace(-1, 1, x[0].numel(), dtype=dtype, device=device).reshape(model.shape)
    with torch.no_grad():
        out = denoiser(x, torch.tensor(sigma, dtype=torch.float64))
    if not isinstance(out, Tensor) or out.shape != x.shape or out.dtype != dtype:
        got = f"{tuple(out.shape)} {out.dtype}" if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(f"model: {model.name!r} returned {got} for states {tuple(x.shape)} {dtype}; expected the same")
    if not bool(torch.isfinite(out).all()):
        raise ValueError(
            f"model: {model.name!r} returned NaN or infinite values at sigma = {sigma:.4g}; check it there"
        )


def named_classifier(name: str, model: Model, device: torch.device) -> tuple[Classify | None, str, str]:
    """Return what `find_classifier` does, the classifier as a function of states of any floating type."""
    network, data, note = find_classifier(name, model, device)
    return None if network is None else lambda x: network(x.float()), data, note


def find_classifier(name: str, model: Model, device: torch.device) -> tuple[ImageClassifier | None, str, str]:
    """Return the classifier of a name or path, or None, its data set, and a note for the summary.

    Raises:
        ValueError: If there is no such classifier, or it is for other states.
    """
    if name == NONE:
        return None, "", "no agreement of classes: left out on request"
    if name == CLASSIFIER and model.shape != FASHION_MNIST:
        return None, "", f"no agreement of classes: {name} tells those of states {FASHION_MNIST}, not {model.shape}"
    if name.partition(":")[0] == DINOV2:
        return _dinov2(name, model, device), "imagenet", ""
    try:
        network = load_classifier(name, device)
        card = load_weights(find_weights(name))[1]  # for what it was trained on, which the network does not know
    except ValueError as error:
        raise ValueError(
            f"classifier: cannot use {name!r} ({error}); make one with: softmode train {CLASSIFIER}, or use {NONE}"
        ) from None
    if (trained := (card.channels, *card.size)) != model.shape:
        raise ValueError(
            f"classifier: {name!r} tells the classes of states {trained}, not {model.shape}; use {NONE} or another"
        )
    foreign = model.binary and card.values != "binary"
    note = f"{name} was trained on {card.values} images, the states are binary" if foreign else ""
    return network, card.data, note


def _dinov2(name: str, model: Model, device: torch.device) -> ImageClassifier:
    """Return a DINOv2 classifier, for images of any sides; raise a ValueError if the states are others."""
    if len(model.shape) != 3 or model.shape[0] != 3:
        raise ValueError(
            f"classifier: {name!r} tells the classes of RGB images (3, height, width), not of states {model.shape}; "
            f"decode latents to images first, or use {NONE}"
        )
    return load_classifier(name, device)


def check_classifier(classify: Classify, model: Model, dtype: torch.dtype, device: torch.device) -> None:
    """Raise a ValueError unless a classifier returns finite logits for states of the model's shape."""
    x = torch.linspace(-1, 1, 2 * math.prod(model.shape), dtype=dtype, device=device).reshape(2, *model.shape)
    try:
        with torch.no_grad():
            out = classify(x)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"classifier: cannot tell the classes of states {model.shape} ({reason})") from None
    if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != 2 or not bool(torch.isfinite(out).all()):
        got = f"{tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(f"classifier: returned {got} for two states; expected finite logits (2, classes)")
