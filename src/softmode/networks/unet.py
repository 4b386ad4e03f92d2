r"""The convolutional U-Net of the paper's trained experiments (F.3): it predicts the noise of a VP state.

Where the paper is silent: group norm has 8 groups, upsampling repeats the nearest pixel, convolutions pad with zeros,
and the last convolution starts at zero, so that an untrained network predicts no noise.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

EMBEDDING = 128
WIDTHS = (64, 128)
GROUPS = 8
# each of the two stages halves the image
DIVISOR = 4


def time_embedding(t: Float[Tensor, " batch"]) -> Float[Tensor, "batch embedding"]:
    r"""Return $(\sin\omega_k t, \cos\omega_k t)$ with $\omega_k = \exp(-\frac{k}{d}\log 10000)$, d = 128, k < d/2.

    Source: paper F.3.1.
    """
    k = torch.arange(EMBEDDING // 2, dtype=torch.float64, device=t.device)
    phase = t.double()[:, None] * torch.exp(-k / EMBEDDING * math.log(10000))
    return torch.cat([phase.sin(), phase.cos()], dim=1)


class ResidualBlock(nn.Module):
    """Two times group norm, SiLU and a 3x3 convolution, the projected embedding added in between (paper F.3.2).

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out; a 1x1 convolution carries the residual where they differ.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.project = nn.Linear(EMBEDDING, outputs)
        self.norm2 = nn.GroupNorm(GROUPS, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.residual = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Return the block's output, [batch, outputs, height, width]."""
        h = self.conv1(functional.silu(self.norm1(x))) + self.project(embedding)[:, :, None, None]
        skip: Tensor = self.residual(x)
        return skip + self.conv2(functional.silu(self.norm2(h)))


class UNet(nn.Module):
    """The U-Net of F.3: two stages of 64 and 128 channels, two residual blocks between them, skip connections.

    Args:
        channels: Channels of an image.
        classes: Number of class labels; 0 for an unconditional network.
    """

    def __init__(self, channels: int = 1, classes: int = 0) -> None:
        super().__init__()
        if channels < 1 or classes < 0:
            raise ValueError(f"channels, classes: got {channels}, {classes}; expected at least 1 and 0")
        self.channels, self.classes = channels, classes
        narrow, wide = WIDTHS
        self.embed = nn.Sequential(nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING))
        # the last row stands for "no label"
        self.label = nn.Embedding(classes + 1, EMBEDDING) if classes else None
        self.enter = nn.Conv2d(channels, narrow, 3, padding=1)
        self.encode1 = ResidualBlock(narrow, narrow)
        self.down1 = nn.Conv2d(narrow, narrow, 3, stride=2, padding=1)
        self.encode2 = ResidualBlock(narrow, wide)
        self.down2 = nn.Conv2d(wide, wide, 3, stride=2, padding=1)
        self.middle1 = ResidualBlock(wide, wide)
        self.middle2 = ResidualBlock(wide, wide)
        self.decode2 = ResidualBlock(2 * wide, wide)
        self.decode1 = ResidualBlock(wide + narrow, narrow)
        self.norm = nn.GroupNorm(GROUPS, narrow)
        self.leave = nn.Conv2d(narrow, channels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)

    def forward(
        self, x: Float[Tensor, "batch channel height width"], t: Tensor, labels: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch channel height width"]:
        """Return the expected noise of VP states.

        Args:
            x: States x_t.
            t: Diffusion times [batch].
            labels: Classes; `classes` itself, or None, stands for no label.

        Raises:
            ValueError: If the states have another number of channels, sides that do not divide by 4, or labels come to
                a network without classes.
        """
        if x.ndim != 4 or x.shape[1] != self.channels or x.shape[2] % DIVISOR or x.shape[3] % DIVISOR:
            raise ValueError(
                f"x: got shape {tuple(x.shape)}; expected [batch, {self.channels}, height, width] with sides "
                f"divisible by {DIVISOR}"
            )
        embedding = self.embed(time_embedding(t).to(self.enter.weight.dtype))
        if self.label is not None:
            if labels is None:
                labels = torch.full((len(x),), self.classes, device=x.device)
            embedding = embedding + self.label(labels)
        elif labels is not None:
            raise ValueError("labels: this network was trained without classes; leave them out")
        fine = self.encode1(self.enter(x), embedding)
        coarse = self.encode2(self.down1(fine), embedding)
        h = self.middle2(self.middle1(self.down2(coarse), embedding), embedding)
        h = self.decode2(torch.cat([_double(h), coarse], 1), embedding)
        h = self.decode1(torch.cat([_double(h), fine], 1), embedding)
        noise: Tensor = self.leave(functional.silu(self.norm(h)))
        return noise


def _double(h: Tensor) -> Tensor:
    return functional.interpolate(h, scale_factor=2.0, mode="nearest")
