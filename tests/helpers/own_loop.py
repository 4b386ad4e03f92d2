"""What a pipeline's own loop made of its two branches."""

from typing import Any

import torch
from torch import Tensor


def weight(step: Any, network: Any, other: Any) -> float:
    """Return the weight w of D + w (D - D_guide) of which a step's prediction is made."""
    laid = network.layouts
    x_t = network.fed(step.calls[0].arguments[network.state])[:1]
    t = torch.tensor([step.timestep], dtype=torch.float64)
    with torch.no_grad():
        own, without = network(x_t, t), other(x_t, t)
    given: Tensor = laid.scheduler.gather(step.prediction)[:1]
    apart = own - without
    return float(((given - own) * apart).sum() / apart.square().sum())
