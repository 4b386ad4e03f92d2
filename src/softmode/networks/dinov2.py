"""DINOv2's classifiers of ImageNet, through transformers."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softmode.files import DIRECTORY, kind_of, read_json
from softmode.message import first_line, quote, refusal
from softmode.networks.fields import check_config
from softmode.networks.folder import folder_digest, misfit

EXTRA = "softmode[transformers]"
HUB = "facebook/dinov2-{}-imagenet1k-1-layer"
SIZES = ("small", "base", "large", "giant")
# what a preprocessor_config.json must ask for; 3 is PIL's bicubic
STEPS = {"do_resize": True, "resample": 3, "do_center_crop": True, "do_rescale": True, "do_normalize": True}


@dataclass(frozen=True)
class Preprocessing:
    """Turns images into what a network was trained on: shortest side resized, centre cropped, values normalised.

    Args:
        edge: Shortest side after resizing (pixel).
        crop: Height and width that are kept (pixel).
        white: Value of a white pixel before normalisation.
        mean: What is subtracted from each channel.
        std: What each channel is divided by.
    """

    edge: int
    crop: tuple[int, int]
    white: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel crop_height crop_width"]:
        """Return the pixels of images with values in [-1, 1]; values beyond are clipped."""
        height, width = x.shape[2:]
        short = min(height, width)
        sides = (self.edge * height // short, self.edge * width // short)
        top, left = ((side - kept) // 2 for side, kept in zip(sides, self.crop, strict=True))
        values = (x.clamp(-1, 1) + 1) / 2
        # PIL's bicubic is that of antialias, for enlarging too, and it clips what overshoots after each direction
        for size in ((height, sides[1]), sides):
            values = nn.functional.interpolate(values, size, mode="bicubic", antialias=True).clamp(0, 1)
        values = self.white * values[:, :, top : top + self.crop[0], left : left + self.crop[1]]
        return (values - x.new_tensor(self.mean)[:, None, None]) / x.new_tensor(self.std)[:, None, None]


class DINOv2(nn.Module):
    """A linear classifier on DINOv2's class token and the mean of its patch tokens, computed in float32.

    Args:
        backbone: transformers' Dinov2Model.
        head: The linear layer.
        preprocessing: From images to the backbone's pixels.

    Source: paper H.6; oquab2023.
    """

    channels = 3

    def __init__(self, backbone: nn.Module, head: nn.Linear, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.backbone, self.head, self.preprocessing = backbone, head, preprocessing
        self.classes = head.out_features

    def features(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch feature"]:
        """Return class token and mean patch token of RGB images of any sides, with values in [-1, 1].

        Raises:
            ValueError: If the states are no RGB images.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise refusal(
                f"x: got {tuple(x.shape)}; expected RGB images [batch, 3, height, width]: decode latents, repeat grey"
            )
        tokens: Tensor = self.backbone(self.preprocessing(x.float())).last_hidden_state
        return torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1)

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch class"]:
        """Return the logits of RGB images of any sides, with values in [-1, 1].

        Raises:
            ValueError: If the states are no RGB images.
        """
        logits: Tensor = self.head(self.features(x))
        return logits


def load_dinov2(source: str = "dinov2", device: torch.device | str = "cpu") -> DINOv2:
    """Return a DINOv2 classifier with the preprocessing that its preprocessor_config.json asks for.

    Args:
        source: `dinov2:small`, `base`, `large` or `giant`, which are downloaded from the hub unless they are on this
            machine, or `dinov2:` and a directory made with save_pretrained; `dinov2` alone is `dinov2:base`.
        device: Device of its weights.

    Raises:
        ValueError: If transformers is not installed, or the model cannot be read or is another one.
    """
    transformers = _transformers()
    place, local = _place(source)
    with _told(source, place, local):
        config, settings = (_read(transformers, place, f"{name}config.json") for name in ("", "preprocessor_"))
    if config.get("model_type") != "dinov2":
        kind = quote(config.get("model_type"))
        raise refusal(f"classifier: {quote(source)} is a model of type {kind}; expected 'dinov2'")
    preprocessing = _preprocessing(source, settings)
    with _told(source, place, local):
        lacking = _misfit(transformers, config, Path(place)) if local else ""
        if not lacking:
            network, report = transformers.Dinov2ForImageClassification.from_pretrained(
                place, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True
            )
    if lacking or report["missing_keys"] or report["mismatched_keys"] or not isinstance(network.classifier, nn.Linear):
        raise refusal(
            f"classifier: {quote(source)} lacks some weights of a Dinov2ForImageClassification of config.json's sizes; "
            "give one that has them"
        )
    return DINOv2(network.dinov2, network.classifier, preprocessing).to(device).float().eval().requires_grad_(False)


def _misfit(transformers: Any, config: Mapping[str, Any], home: Path) -> str:
    """Return in what the weights of a directory cannot be those of its config; nothing if they can be."""
    with torch.device("meta"):
        network = transformers.Dinov2ForImageClassification(transformers.Dinov2Config.from_dict(config))
    return misfit(network, "classifier", home)


@contextmanager
def _told(source: str, place: str, local: bool) -> Iterator[None]:
    """Turn whatever a library raises of files that it cannot read into one line."""
    try:
        yield
    except Exception as error:
        if local:
            raise refusal(
                f"classifier: cannot load {quote(source)} ({first_line(error)}); give a directory made with "
                "save_pretrained, of config.json, model.safetensors (no pickle is read) and preprocessor_config.json"
            ) from None
        raise refusal(
            f"classifier: cannot find {quote(place)} on this machine, nor reach it on the hub ({first_line(error)}); "
            "download it first and give its directory, dinov2:path"
        ) from None


def _transformers() -> Any:
    """Return transformers, kept quiet."""
    try:
        import transformers
    except ImportError:
        raise refusal(f"classifier: DINOv2 needs transformers: pip install '{EXTRA}'") from None
    noise: Any = transformers.utils.logging
    noise.set_verbosity_error()
    noise.disable_progress_bar()
    # the hub's client logs every retry; what comes of them is said in one line
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return transformers


def _place(source: str) -> tuple[str, bool]:
    """Return the directory or the id on the hub that a name stands for, and whether it is the former."""
    _, colon, name = source.partition(":")
    name = name if colon else "base"
    if name in SIZES:
        return HUB.format(name), False
    home = Path(name).expanduser()
    if kind_of(home) != DIRECTORY:
        raise refusal(
            f"classifier: there is no directory {quote(str(home))} for {quote(source)}; give one made with "
            f"save_pretrained, or a size that is downloaded: {', '.join(SIZES)}"
        )
    return str(home), True


def dinov2_inputs(source: str) -> dict[str, str]:
    """Return the digest of the directory of a classifier of `load_dinov2`; none of one of the hub."""
    place, local = _place(source)
    return {"weights": folder_digest("classifier", Path(place))} if local else {}


def _read(transformers: Any, place: str, name: str) -> dict[str, Any]:
    """Return a JSON file of a directory or of an id on the hub."""
    path = Path(place, name) if Path(place).is_dir() else Path(transformers.utils.cached_file(place, name))
    found = read_json("classifier", path)
    check_config(found)
    return found


def _preprocessing(source: str, settings: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing of a preprocessor_config.json, or raise a ValueError where it asks for another kind."""
    for name, needed in STEPS.items():
        if settings.get(name) != needed:
            raise refusal(
                f"classifier: preprocessor_config.json of {quote(source)} has {name} = {settings.get(name)}; "
                f"expected {needed}"
            )
    try:
        size, kept = settings["size"], settings["crop_size"]
        edge, crop, white = size["shortest_edge"], (kept["height"], kept["width"]), 255 * settings["rescale_factor"]
        mean, std = tuple(settings["image_mean"]), tuple(settings["image_std"])
    except (KeyError, TypeError) as error:
        raise refusal(
            f"classifier: preprocessor_config.json of {quote(source)} cannot be used ({error}); expected "
            "size.shortest_edge, crop_size.height, crop_size.width, rescale_factor, image_mean and image_std"
        ) from None
    if edge < max(crop):
        raise refusal(
            f"classifier: preprocessor_config.json of {quote(source)} crops {crop} from shortest_edge "
            f"{edge}; expected less"
        )
    return Preprocessing(edge, crop, white, mean, std)
