"""Seeded random numbers."""

import torch
from torch import Tensor


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return standard normal numbers, [*shape]."""
    return torch.randn(shape, generator=generator(seed), dtype=dtype)


def pixels(*shape: int, seed: int = 1) -> Tensor:
    """Return grey values 0 .. 254 in uint8, [*shape]."""
    return (255 * torch.rand(shape, generator=generator(seed))).to(torch.uint8)
