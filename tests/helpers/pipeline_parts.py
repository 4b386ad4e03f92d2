"""What tiny pipelines of diffusers are made of beside their networks."""

from typing import Any

import diffusers
import torch
from PIL import Image


def vae(channels: int = 4) -> Any:
    """Return an autoencoder whose latents are as large as its images."""
    return diffusers.AutoencoderKL(
        block_out_channels=(4,), layers_per_block=1, latent_channels=channels, norm_num_groups=1, sample_size=16,
    )  # fmt: skip


def stirred(network: Any) -> Any:
    """Return a network of which no layer is left at the zeros of its initialisation, ready to be asked."""
    stream = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2, generator=stream)
    return network.eval().requires_grad_(False)


def latent_scheduler(name: str, **changes: Any) -> Any:
    """Return a scheduler with the noise that models of latents are trained with."""
    settings = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    return getattr(diffusers, name)(**settings | changes)


def flow_scheduler(**changes: Any) -> Any:
    """Return a scheduler of flow matching."""
    return diffusers.FlowMatchEulerDiscreteScheduler(**changes)


def picture(side: int = 16) -> Any:
    """Return an image, for pipelines that start from one."""
    return Image.new("RGB", (side, side), (200, 100, 50))
