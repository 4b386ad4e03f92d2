"""Quality of a network on held-out images: a classifier's accuracy, a denoiser's loss per noise level."""

import math
from collections.abc import Callable
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
def accuracy(network: nn.Module, images: Images) -> dict[str, Any]:
    """Return a classifier's share of right answers over all images."""
    right = [
        (network(images.tensor(part)).argmax(1) == images.labels[part]).sum()
        for part in torch.arange(len(images), device=images.pixels.device).split(500)
    ]
    return {"accuracy": int(torch.stack(right).sum()) / len(images), "images": len(images)}


@torch.no_grad()
def loss_by_level(
    loss: Callable[..., Tensor], images: Images, noise: torch.Generator, t_max: float, t_min: float
) -> dict[str, Any]:
    """Return the mean loss with its standard error at some times, evenly spaced in log t.

    Args:
        loss: Maps images, times, noise and labels to each image's loss.
        images: Held-out images; the first IMAGES are used, with the same noise at every time.
        noise: Generator of the noise, on the CPU.
        t_max: Longest time.
        t_min: Shortest time.

    Returns:
        `t`, `loss` and `stderr` per level, their `mean` over levels, and the number of `images`.
    """
    images = images.first(IMAGES)
    x, device = images.tensor(), images.pixels.device
    eps = torch.randn(x.shape, generator=noise).to(device)
    times = np.geomspace(t_min, t_max, LEVELS).tolist()
    losses, errors = [], []
    for t in times:
        at = torch.full((len(x),), t, dtype=torch.float64, device=device)
        each = torch.cat([
            loss(x[part], at[part], eps[part], images.labels[part])
            for part in torch.arange(len(x), device=device).split(AT_ONCE)
        ])  # fmt: skip
        losses.append(float(each.mean()))
        errors.append(float(each.std()) / math.sqrt(len(x)))
    mean = math.fsum(losses) / len(losses)
    return {"t": times, "loss": losses, "stderr": errors, "mean": mean, "images": len(x)}
