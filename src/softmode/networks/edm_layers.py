"""Layers of the U-Nets that EDM's repository trains, with the parameter names of the official networks.

Source: karras2022 (App. F.2), song2021 (App. H), dhariwal2021 (Sec. 3).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from softmode.message import refusal
from softmode.networks.edm_config import DHARIWAL, SONG, UNetConfig

# longest period of the positional embedding, in units of its shortest
LONGEST_PERIOD = 10_000


class Habits(NamedTuple):
    """What the blocks of one kind of network do.

    Args:
        epsilon: What keeps a norm finite.
        head: Channels of an attention head; 0 for one head.
        scale: Factor of a sum of two branches.
        adaptive: Whether the embedding scales as well as shifts.
        projects: Whether a block that changes its resolution has a 1x1 convolution beside it in any case.
    """

    epsilon: float
    head: int
    scale: float
    adaptive: bool
    projects: bool


HABITS = {SONG: Habits(1e-6, 0, math.sqrt(0.5), False, True), DHARIWAL: Habits(1e-5, 64, 1.0, True, False)}


class Fourier(nn.Module):
    """Random Fourier features of the noise (song2021, App. H.3)."""

    freqs: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("freqs", torch.randn(channels // 2))

    def forward(self, c_noise: Tensor) -> Tensor:
        """Return sines, then cosines, [batch, channel] of numbers [batch]."""
        phase = 2 * math.pi * c_noise[:, None] * self.freqs.to(c_noise.dtype)
        return torch.cat([phase.sin(), phase.cos()], 1)


class Positional(nn.Module):
    """Features of the noise whose periods are spaced evenly in their logarithm.

    Args:
        channels: Number of features.
        last: Whether the last period is the longest; else it is the one before.
        sines_first: Whether sines come before cosines.
    """

    def __init__(self, channels: int, last: bool, sines_first: bool) -> None:
        super().__init__()
        self.count, self.last, self.sines_first = channels // 2, last, sines_first

    def forward(self, c_noise: Tensor) -> Tensor:
        """Return features [batch, channel] of numbers [batch]."""
        place = torch.arange(self.count, dtype=c_noise.dtype, device=c_noise.device) / (self.count - self.last)
        phase = c_noise[:, None] * torch.exp(-math.log(LONGEST_PERIOD) * place)
        waves = [phase.sin(), phase.cos()]
        return torch.cat(waves if self.sines_first else waves[::-1], 1)


class Norm(nn.GroupNorm):
    """A group norm of at most 32 groups of at least 4 channels."""

    def __init__(self, channels: int, epsilon: float) -> None:
        groups = min(32, channels // 4)
        if not groups or channels % groups:
            raise refusal(f"model_channels: got {channels} channels in a layer; expected a multiple of {groups or 4}")
        super().__init__(groups, channels, epsilon)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised channels; its forward derivative rejects the strides that attention leaves behind."""
        return super().forward(x.contiguous())


class Resampling(nn.Module):
    """Halve or double the sides by a filter, with a convolution behind it.

    Args:
        channels_in: Channels that come in.
        channels_out: Channels that go out.
        kernel: Side of the convolution's kernel; 0 for none.
        up: Whether sides are doubled.
        taps: The filter along one axis.
        wide: Whether the borders are padded once, for filter and convolution together.
    """

    resample_filter: Tensor

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, up: bool, taps: Sequence[int], wide: bool = False
    ) -> None:
        super().__init__()
        self.up, self.wide, self.padding = up, wide, kernel // 2
        shape = (channels_out, channels_in, kernel, kernel)
        self.weight = nn.Parameter(torch.randn(shape) / max(kernel, 1)) if kernel else None
        self.bias = nn.Parameter(torch.zeros(channels_out)) if kernel else None
        self.register_buffer("resample_filter", square_filter(taps))

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, channel, y, x] at half or twice the resolution."""
        channels, around = x.shape[1], self.resample_filter.shape[-1] // 2 - 1
        taps = self.resample_filter.to(x.dtype).expand(channels, -1, -1, -1)
        if self.up:
            x = functional.conv_transpose2d(x, 4 * taps, stride=2, padding=around, groups=channels)
        elif self.wide:
            x = functional.conv2d(x, taps, padding=around + self.padding, groups=channels)
        else:
            x = functional.conv2d(x, taps, stride=2, padding=around, groups=channels)
        if self.weight is None:
            return x
        steps = {"stride": 2} if self.wide else {"padding": self.padding}
        return functional.conv2d(x, self.weight, self.bias, **steps)


def square_filter(taps: Sequence[int]) -> Tensor:
    """Return the filter [1, 1, tap, tap] of two axes, whose sum is 1."""
    along = torch.tensor(taps, dtype=torch.float32)
    return (along[:, None] * along / along.sum().square())[None, None]


class Block(nn.Module):
    """A residual block of the encoder or decoder, with self-attention if asked for."""

    def __init__(
        self, config: UNetConfig, channels_in: int, channels: int, resample: str = "", attention: bool = False
    ) -> None:
        super().__init__()
        self.habits = HABITS[config.model_type]
        head = self.habits.head or channels
        self.heads = channels // head if attention else 0
        if self.heads and channels % self.heads:
            raise refusal(f"model_channels: got {channels} channels in a layer; expected a multiple of {self.heads}")
        embedding, up, taps = config.model_channels * config.channel_mult_emb, resample == "up", config.resample_filter
        self.norm0 = Norm(channels_in, self.habits.epsilon)
        self.conv0 = (
            Resampling(channels_in, channels, 3, up, taps)
            if resample
            else nn.Conv2d(channels_in, channels, 3, padding=1)
        )
        self.affine = nn.Linear(embedding, channels * (1 + self.habits.adaptive))
        self.norm1 = Norm(channels, self.habits.epsilon)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        kernel = int(channels_in != channels or self.habits.projects)
        self.skip: nn.Module | None = None
        if resample:
            self.skip = Resampling(channels_in, channels, kernel, up, taps)
        elif channels_in != channels:
            self.skip = nn.Conv2d(channels_in, channels, 1)
        if self.heads:
            self.norm2 = Norm(channels, self.habits.epsilon)
            self.qkv = nn.Conv2d(channels, 3 * channels, 1)
            self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Return [batch, channel, y, x] at the block's own resolution."""
        past = x if self.skip is None else self.skip(x)
        h = self.conv0(functional.silu(self.norm0(x)))
        told = self.affine(embedding)[:, :, None, None]
        if self.habits.adaptive:
            scale, shift = told.chunk(2, 1)
            h = self.norm1(h) * (scale + 1) + shift
        else:
            h = self.norm1(h + told)
        x = (past + self.conv1(functional.silu(h))) * self.habits.scale
        if self.heads:
            x = (x + self.proj(self._attend(self.qkv(self.norm2(x))).reshape(x.shape))) * self.habits.scale
        return x

    def _attend(self, qkv: Tensor) -> Tensor:
        """Return softmax(q.k / sqrt(channels)) v, [batch, head, channel, site], in steps that forward AD knows."""
        # queries, keys and values alternate along the channels of each head
        q, k, v = qkv.reshape(len(qkv), self.heads, -1, 3, qkv[0, 0].numel()).unbind(3)
        weight = (q.mT @ (k / math.sqrt(q.shape[2]))).softmax(-1)
        return v @ weight.mT
