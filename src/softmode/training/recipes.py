"""What can be trained: the recipes, and the checks of a training's config and images."""

import difflib
import shlex
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from softmode.bounds import check as check_settings
from softmode.bounds import shown
from softmode.data import Images, Values, avatars, fashion_mnist
from softmode.exact.gaussian import power_spectrum
from softmode.networks.card import Architecture
from softmode.networks.unet import DIVISOR
from softmode.observe.gains import mode_field
from softmode.training.config import TrainConfig

# held-out images kept beside the weights: states of a probe that needs no data set
KEPT_IMAGES = 256


Data = Literal["Fashion-MNIST", "avatars"]


@dataclass(frozen=True)
class Network:
    """A network that can be trained, on what, and for how long.

    Args:
        data: Which images.
        architecture: Which network.
        values: What its pixels become.
        classes: Number of classes; 0 for none, or for images with attributes.
        epochs: Epochs of its training by the recipe edm.
        width: Channels of its first stage; 0 for the architecture's own.
        attention: Sides at which it has self-attention.
        kept: Share of KEPT_IMAGES kept beside its weights.
    """

    data: Data
    architecture: Architecture
    values: Values
    classes: int
    epochs: float
    width: int = 0
    attention: tuple[int, ...] = ()
    kept: float = 1.0


NETWORKS = {
    "fashion-mnist": Network("Fashion-MNIST", "unet", "grey", 10, 8.0),
    "fashion-mnist-binary": Network("Fashion-MNIST", "unet", "binary", 0, 8.0),
    "fashion-mnist-attention": Network("Fashion-MNIST", "unet", "grey", 10, 8.0, attention=(7,), kept=0.5),  # for 4 MB
    "fashion-mnist-guide": Network("Fashion-MNIST", "unet", "grey", 10, 3.0, width=32),
    "fashion-mnist-classifier": Network("Fashion-MNIST", "classifier", "grey", 10, 20.0, width=48),
    "avatars": Network("avatars", "unet", "grey", 0, 20.0),
    "avatars-classifier": Network("avatars", "classifier", "grey", 0, 10.0),
}
# what a recipe chooses where a user does not; F.4 does not depend on the network
PAPER = {"epochs": 30.0, "batch": 256, "learning_rate": 2e-4}
EDM = {"batch": 64, "learning_rate": 5e-4}


def check(config: TrainConfig) -> tuple[TrainConfig, Network]:
    """Return a config with its recipe's choices, and its network.

    Raises:
        ValueError: If a field is out of range, by its name.
    """
    check_settings(config)
    if config.network not in NETWORKS:
        near = difflib.get_close_matches(config.network[:100], NETWORKS, n=3, cutoff=0.3) or NETWORKS
        raise ValueError(f"network: got {shown(config.network)}; expected one of {', '.join(near)}")
    if not config.t_min < config.t_max:
        raise ValueError(f"t_max: got {config.t_max:g}; expected a time above t_min = {config.t_min:g}")
    network = NETWORKS[config.network]
    if config.recipe == "paper" and network.architecture == "unet" and network.data == "avatars":
        raise ValueError(f"recipe: got paper for {config.network}; expected edm: F.4 knows no attributes")
    chosen: dict[str, Any] = dict(PAPER) if config.recipe == "paper" else {"epochs": network.epochs, **EDM}
    return replace(config, **{name: value for name, value in chosen.items() if getattr(config, name) is None}), network


def read_images(config: TrainConfig, network: Network) -> tuple[Images, Images]:
    """Return the training and held-out images of a network.

    Raises:
        ValueError: If they are missing or damaged.
    """
    if network.data == "avatars":
        return avatars("train", config.data), avatars("test", config.data)
    where = config.data or None, config.download
    return fashion_mnist("train", network.values, *where), fashion_mnist("test", network.values, *where)


def check_images(images: Images, network: Network) -> None:
    """Raise a ValueError unless a network and its statistics can be made of these images."""
    if images.values != network.values:
        raise ValueError(f"data: got {images.values} values; expected {network.values}, those of the network")
    if network.architecture == "unet" and any(side % DIVISOR for side in images.shape[1:]):
        raise ValueError(f"data: got images of {images.shape[1:]}; expected sides divisible by {DIVISOR}")
    for place, (name, values) in enumerate(images.attributes.items()):
        counts = torch.bincount(images.labels[:, place], minlength=len(values)).tolist()
        if min(counts) < 2:
            raise ValueError(f"data: got {counts} images by value of {shown(name)}; expected at least two of each")
    if images.attributes:
        return
    counts = torch.bincount(images.labels, minlength=network.classes).tolist()
    if network.classes and (len(counts) > network.classes or min(counts) < 2):
        raise ValueError(f"data: got {counts} images by class; expected {network.classes} classes of at least two")


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
    default = check(TrainConfig(config.network, config.recipe))[0]
    options = [
        f"--{name.replace('_', '-')} {shlex.quote(str(value))}"
        for name, value in asdict(config).items()
        if name not in ("network", "recipe", "epochs", "device", "data", "download") and value != getattr(default, name)
    ]
    recipe = [f"--recipe {config.recipe}"] if config.recipe != TrainConfig.recipe else []
    return " ".join([f"softmode train {config.network}", *recipe, f"--epochs {epochs:g}", *options])


def data_statistics(images: Images, held_out: Images, network: Network) -> dict[str, Tensor]:
    """Return what the Gaussian null model needs of the training data, and some held-out images.

    Returns:
        `spectrum` [group, *space] and `mean` [group, channel, *space]: one group per class, for a network with classes,
        and all images last; `images` (bytes) and their `labels`.
    """
    groups = [*range(network.classes), None] if network.architecture == "unet" else []
    spectra, means = [], []
    for group in groups:
        x = images.tensor(slice(None) if group is None else images.labels == group)
        spectra.append(power_spectrum(mode_field(x)).float().cpu())
        means.append(x.mean(0).cpu())
    if not groups:
        return {}
    kept = held_out.first(round(network.kept * KEPT_IMAGES))
    return {"spectrum": torch.stack(spectra), "mean": torch.stack(means), "images": kept.pixels, "labels": kept.labels}
