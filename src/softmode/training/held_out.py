"""Quality of a network on held-out images: a classifier's accuracy, a denoiser's loss per noise level."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from softmode.data import Images

IMAGES = 256
LEVELS = 12
# images measured at once
AT_ONCE = 32


@torch.no_grad()
def accuracy(network: nn.Module, images: Images, labels: Sequence[int]) -> dict[str, Any]:
    """Return a classifier's share of right answers over all images, and of each label where there are several.

    Args:
        network: The classifier.
        images: Held-out images.
        labels: Number of values of each label.
    """
    right = torch.zeros(len(labels), dtype=torch.int64, device=images.pixels.device)
    for part in torch.arange(len(images), device=images.pixels.device).split(500):
        targets = images.labels[part].reshape(len(part), -1)
        logits = network(images.tensor(part)).split(list(labels), 1)
        right += torch.stack([(each.argmax(1) == targets[:, i]).sum() for i, each in enumerate(logits)])
    shares = (right.double() / len(images)).tolist()
    several = {"by_label": shares} if len(shares) > 1 else {}
    return {"accuracy": math.fsum(shares) / len(shares), "images": len(images), **several}


@torch.no_grad()
def loss_by_level(
    loss: Callable[..., Tensor],
    network: nn.Module,
    images: Images,
    noise: torch.Generator,
    levels: tuple[str, float, float],
) -> dict[str, Any]:
    """Return the mean loss with its standard error at some times or noise levels, evenly spaced in their logarithm.

    Args:
        loss: Maps the network, images, times, noise and labels to each image's loss.
        network: The network.
        images: Held-out images; the first IMAGES are used, with the same noise at every level.
        noise: Generator of the noise, on the CPU.
        levels: Name of the levels, highest and lowest.

    Returns:
        The levels under their name, `loss` and `stderr` per level, their `mean` over levels, and the number of
        `images`.
    """
    name, highest, lowest = levels
    images = images.first(IMAGES)
    x, device = images.tensor(), images.pixels.device
    eps = torch.randn(x.shape, generator=noise).to(device)
    times = np.geomspace(lowest, highest, LEVELS).tolist()
    losses, errors = [], []
    for t in times:
        at = torch.full((len(x),), t, dtype=torch.float64, device=device)
        each = torch.cat([
            loss(network, x[part], at[part], eps[part], images.labels[part])
            for part in torch.arange(len(x), device=device).split(AT_ONCE)
        ])  # fmt: skip
        losses.append(float(each.mean()))
        errors.append(float(each.std()) / math.sqrt(len(x)))
    mean = math.fsum(losses) / len(losses)
    return {name: times, "loss": losses, "stderr": errors, "mean": mean, "images": len(x)}
