"""What can be trained: the recipes, and the checks of a training's config and images."""

import shlex
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from softmode.bounds import check as check_settings
from softmode.bounds import shown
from softmode.data import Images, Values
from softmode.exact.gaussian import power_spectrum
from softmode.networks.card import Architecture
from softmode.networks.unet import DIVISOR
from softmode.training.config import TrainConfig

# held-out images kept beside the weights: states of a probe that needs no data set
KEPT_IMAGES = 256


@dataclass(frozen=True)
class Recipe:
    """A network and the values and classes it is trained on."""

    architecture: Architecture
    values: Values
    classes: int


RECIPES = {
    "fashion-mnist-binary": Recipe("unet", "binary", 0),
    "fashion-mnist": Recipe("unet", "grey", 0),
    "fashion-mnist-labelled": Recipe("unet", "grey", 10),
    "fashion-mnist-classifier": Recipe("classifier", "grey", 10),
}


def check(config: TrainConfig) -> Recipe:
    """Return the recipe of a config, or raise a ValueError naming the field that is out of range."""
    check_settings(config)
    if config.recipe not in RECIPES:
        raise ValueError(f"recipe: got {shown(config.recipe)}; expected one of {', '.join(RECIPES)}")
    if not config.t_min < config.t_max:
        raise ValueError(f"t_max: got {config.t_max:g}; expected a time above t_min = {config.t_min:g}")
    return RECIPES[config.recipe]


def check_images(images: Images, recipe: Recipe) -> None:
    """Raise a ValueError unless a recipe's network and statistics can be made of these images."""
    if images.values != recipe.values:
        raise ValueError(f"data: got {images.values} values; expected {recipe.values}, those of the recipe")
    if recipe.architecture == "unet" and any(side % DIVISOR for side in images.shape[1:]):
        raise ValueError(f"data: got images of {images.shape[1:]}; expected sides divisible by {DIVISOR}")
    counts = torch.bincount(images.labels, minlength=recipe.classes).tolist()
    if recipe.classes and (len(counts) > recipe.classes or min(counts) < 2):
        raise ValueError(f"data: got {counts} images by class; expected {recipe.classes} classes of at least two")


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Return whether layers compute in bfloat16: as asked, or where the device has instructions for it."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # older versions of torch cannot tell
    has = getattr(torch.cpu, "get_capabilities", dict[str, bool])()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def command(config: TrainConfig, epochs: float) -> str:
    """Return the command that makes the weights of a config after some epochs."""
    default = TrainConfig(config.recipe)
    options = [
        f"--{name.replace('_', '-')} {shlex.quote(str(value))}"
        for name, value in asdict(config).items()
        if name not in ("recipe", "epochs", "device", "data", "download") and value != getattr(default, name)
    ]
    return " ".join([f"softmode train {config.recipe} --epochs {epochs:g}", *options])


def data_statistics(images: Images, held_out: Images, recipe: Recipe) -> dict[str, Tensor]:
    """Return what the Gaussian null model needs of the training data, and some held-out images.

    Returns:
        `spectrum` [group, *space] and `mean` [group, channel, *space]: one group per class, for a network with classes,
        and all images last; `images` (bytes) and their `labels`.
    """
    groups = [*range(recipe.classes), None] if recipe.architecture == "unet" else []
    spectra, means = [], []
    for group in groups:
        x = images.tensor(slice(None) if group is None else images.labels == group)
        spectra.append(power_spectrum(x).float().cpu())
        means.append(x.mean(0).cpu())
    if not groups:
        return {}
    kept = held_out.first(KEPT_IMAGES)
    return {"spectrum": torch.stack(spectra), "mean": torch.stack(means), "images": kept.pixels, "labels": kept.labels}
