"""What the attention experiment is asked for, checked: sizes, noise levels, the radius, and data."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from softmode.data import read_images
from softmode.experiments.attention.config import Config
from softmode.labels import Label
from softmode.lattice import Lattice
from softmode.levels import check_level
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.runs.provenance import free_memory

# sides of a field, in radii
RADII = 4
# bytes for each entry of a Jacobian, at its eigenvalues
BYTES = 96


def check_dense(model: Model) -> None:
    """Raise a ValueError unless a dense Jacobian fits into memory."""
    entries, free = math.prod(model.shape), free_memory()
    if BYTES * entries**2 > free:
        share = (free / (BYTES * entries**2)) ** (0.5 / (len(model.shape) - 1))
        fits = (model.shape[0], *(int(side * share) for side in model.shape[1:]))
        raise refusal(
            f"shape: got {model.shape}; expected at most {fits}: the dense Jacobian and its eigenvalues take "
            f"{BYTES * entries**2 / 2**30:.3g} GiB of memory, of which {free / 2**30:.3g} GiB are free"
        )


def near_radius(config: Config, model: Model) -> float:
    """Return the distance up to which sites are near."""
    sides = model.shape[1:]
    radius, farthest = config.radius or min(sides) / RADII, float(Lattice(sides).distances().max())
    if radius >= farthest:
        raise refusal(f"radius: got {radius:g}; expected less than {farthest:.3g}, the farthest that two sites are")
    return radius


def noise_levels(config: Config, model: Model) -> Tensor:
    """Return the noise levels, falling."""
    if not config.sigma:
        raise refusal("sigma: got none; expected at least one noise level")
    for sigma in config.sigma:
        check_level("sigma", sigma, model)
    return torch.tensor(sorted(set(config.sigma), reverse=True), dtype=torch.float64)


def held_out_images(config: Config, model: Model, labels: tuple[Label, ...]) -> dict[Label, Tensor]:
    """Return the data of each class: of a state's sides, or of a tile's."""
    given = read_images(config.data, model.shape) if config.data else None
    found = {}
    for place, label in enumerate(labels):
        images = _held_out(model, label) if given is None else given
        if images is None:
            raise refusal(
                f"data: {quote(model.name)} has no held-out images that fit {model.shape}; name a file with --data"
            )
        if (wanted := len(range(place, config.trajectories, len(labels)))) > len(images):
            raise refusal(
                f"trajectories: got {config.trajectories}; expected at most {len(images) * len(labels)}, the held-out "
                f"data, but {wanted} are of one class; name more with --data"
            )
        found[label] = images
    return found


def _held_out(model: Model, label: Label) -> Tensor | None:
    """Return held-out images whose sides divide those of a state."""
    if model.images is None or len(model.images.shape) != len(model.shape):
        return None
    own = model.images.shape
    if own[0] != model.shape[0] or any(side % tile for side, tile in zip(model.shape[1:], own[1:], strict=True)):
        return None
    return replace(model, shape=own).held_out(label)
