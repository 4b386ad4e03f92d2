r"""The convolutional U-Net of the paper's trained experiments (F.3), and what it may have beside.

Where the paper is silent: group norm has 8 groups, upsampling repeats the nearest pixel, convolutions pad with zeros,
and the last convolution starts at zero, so that an untrained network returns zero. Labels and self-attention are not in
F.3; without them the network is that of F.3.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional

EMBEDDING = 128
# what keeps a group of zeros finite, as in torch
EPSILON = 1e-5
WIDTH = 64
GROUPS = 8
HEAD = 32
# each of the two stages halves the image
DIVISOR = 4


def time_embedding(t: Float[Tensor, " batch"]) -> Float[Tensor, "batch embedding"]:
    r"""Return $(\sin\omega_k t, \cos\omega_k t)$ with $\omega_k = \exp(-\frac{k}{d}\log 10000)$, d = 128, k < d/2.

    Source: paper F.3.1.
    """
    k = torch.arange(EMBEDDING // 2, dtype=torch.float64, device=t.device)
    phase = t.double()[:, None] * torch.exp(-k / EMBEDDING * math.log(10000))
    return torch.cat([phase.sin(), phase.cos()], dim=1)


class GroupRMSNorm(nn.Module):
    """Divide every group of channels by its root mean square over the image; a weight and a bias for each channel.

    A group norm takes the mean of a group away as well. The mean of an image then hardly gets through a network, whose
    answer to a shift of all pixels stays far from the posterior mean's.

    Args:
        groups: Number of groups.
        channels: Number of channels.

    Source: zhang2019, over the groups of wu2018.
    """

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised channels, [batch, channel, height, width]."""
        # torch would find out in Python, in several times the norm's own time, that weights have no forward derivative
        x, push = forward_ad.unpack_dual(x)
        parts = self._parts(x)
        scale = (parts.square().mean(1).to(self.weight.dtype).mean(2) + EPSILON).rsqrt()
        wide = slice(None), slice(None), None, None
        by_channel = self._by_channel(scale).to(x.dtype)[wide]
        out = torch.addcmul(self.bias.to(x.dtype)[None][wide], x, by_channel)
        if push is None:
            return out
        change = -(scale**3) * (parts * self._parts(push)).mean(1).to(scale.dtype).mean(2)
        return forward_ad.make_dual(
            out, torch.addcmul(push * by_channel, x, self._by_channel(change).to(x.dtype)[wide])
        )

    def _parts(self, x: Tensor) -> Tensor:
        """Return the groups of an image, [batch, site, group, channel]."""
        # channels last, as they lie in memory where speed matters
        return x.permute(0, 2, 3, 1).flatten(1, 2).unflatten(2, (self.groups, -1))

    def _by_channel(self, scale: Tensor) -> Tensor:
        """Return the weights times a factor of each group, [batch, channel]."""
        return scale.repeat_interleave(len(self.weight) // self.groups, 1) * self.weight


def _norm(channels: int, rms: bool) -> nn.Module:
    return GroupRMSNorm(GROUPS, channels) if rms else nn.GroupNorm(GROUPS, channels)


class ResidualBlock(nn.Module):
    """Two times group norm, SiLU and a 3x3 convolution, the projected embedding added in between (paper F.3.2).

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out; a 1x1 convolution carries the residual where they differ.
        rms: Whether the norms leave the mean.
    """

    def __init__(self, inputs: int, outputs: int, rms: bool = False) -> None:
        super().__init__()
        self.norm1 = _norm(inputs, rms)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.project = nn.Linear(EMBEDDING, outputs)
        self.norm2 = _norm(outputs, rms)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.residual = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Return the block's output, [batch, outputs, height, width]."""
        h = self.conv1(functional.silu(self.norm1(x))) + self.project(embedding)[:, :, None, None]
        skip: Tensor = self.residual(x)
        return skip + self.conv2(functional.silu(self.norm2(h)))


class Attention(nn.Module):
    """Self-attention between all sites, in heads of 32 channels, added to what comes in.

    Args:
        channels: Channels that come in and go out.
        rms: Whether the norm leaves the mean.

    Source: ho2020; vaswani2017.
    """

    def __init__(self, channels: int, rms: bool = False) -> None:
        super().__init__()
        self.heads = max(1, channels // HEAD)
        self.norm = _norm(channels, rms)
        self.enter = nn.Conv2d(channels, 3 * channels, 1)
        self.leave = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of the input and what its sites attend to, [batch, channels, height, width]."""
        # written out, since torch's fused attention has no forward derivative
        query, key, value = self.enter(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1)).unbind(1)
        weights = (query.transpose(-1, -2) @ key / math.sqrt(query.shape[-2])).softmax(-1)
        attended = (value @ weights.transpose(-1, -2)).flatten(1, 2).unflatten(-1, x.shape[2:])
        added: Tensor = x + self.leave(attended)
        return added


def _embedding(rows: int) -> nn.Embedding:
    """Return torch's embedding, without what torch takes seconds to import for normal numbers that are not computed."""
    weight = torch.empty(rows, EMBEDDING)
    return nn.Embedding(rows, EMBEDDING, _weight=weight if weight.is_meta else nn.init.normal_(weight))


class UNet(nn.Module):
    """The U-Net of F.3: two stages of 64 and 128 channels, two residual blocks between them, skip connections.

    Args:
        channels: Channels of an image.
        labels: Number of values of each label: () for an unconditional network, (10,) for ten classes, several for
            several attributes.
        width: Channels of the first stage; the second has twice as many.
        attention: Factors, 2 or 4, by which an image is reduced where there is self-attention; none in the paper.
        rms: Whether norms divide by a group's root mean square (`GroupRMSNorm`) without taking its mean away.
    """

    def __init__(
        self,
        channels: int = 1,
        labels: Sequence[int] = (),
        width: int = WIDTH,
        attention: Sequence[int] = (),
        rms: bool = False,
    ) -> None:
        super().__init__()
        if channels < 1 or any(count < 1 for count in labels):
            raise ValueError(f"channels, labels: got {channels}, {tuple(labels)}; expected at least 1 of each")
        if width < 1 or width % GROUPS:
            raise ValueError(f"width: got {width}; expected a multiple of {GROUPS}")
        if not set(attention) <= {2, DIVISOR}:
            raise ValueError(f"attention: got {tuple(attention)}; expected factors 2 and {DIVISOR}")
        self.channels, self.labels = channels, tuple(labels)
        narrow, wide = width, 2 * width
        self.embed = nn.Sequential(nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING))
        # of each label one row per value, and one that stands for "not given"
        self.label = _embedding(sum(labels) + len(labels)) if labels else None
        self.enter = nn.Conv2d(channels, narrow, 3, padding=1)
        self.encode1 = ResidualBlock(narrow, narrow, rms)
        self.down1 = nn.Conv2d(narrow, narrow, 3, stride=2, padding=1)
        self.encode2 = ResidualBlock(narrow, wide, rms)
        self.attend_encode2 = Attention(wide, rms) if 2 in attention else nn.Identity()
        self.down2 = nn.Conv2d(wide, wide, 3, stride=2, padding=1)
        self.middle1 = ResidualBlock(wide, wide, rms)
        self.attend_middle = Attention(wide, rms) if DIVISOR in attention else nn.Identity()
        self.middle2 = ResidualBlock(wide, wide, rms)
        self.decode2 = ResidualBlock(2 * wide, wide, rms)
        self.attend_decode2 = Attention(wide, rms) if 2 in attention else nn.Identity()
        self.decode1 = ResidualBlock(wide + narrow, narrow, rms)
        self.norm = _norm(narrow, rms)
        self.leave = nn.Conv2d(narrow, channels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)

    def forward(
        self, x: Float[Tensor, "batch channel height width"], t: Tensor, labels: Tensor | None = None
    ) -> Float[Tensor, "batch channel height width"]:
        """Return the network's output: the expected noise of VP states, or what `Preconditioned` makes a denoiser of.

        Args:
            x: States x_t, or scaled ones.
            t: Diffusion times, or what stands for noise levels, [batch].
            labels: Value of each label, [batch, label], or [batch] for one; a label's number of values, or None
                instead of labels, stands for "not given".

        Raises:
            ValueError: If the states have another number of channels, sides that do not divide by 4, or labels come to
                a network without.
        """
        if x.ndim != 4 or x.shape[1] != self.channels or x.shape[2] % DIVISOR or x.shape[3] % DIVISOR:
            raise ValueError(
                f"x: got shape {tuple(x.shape)}; expected [batch, {self.channels}, height, width] with sides "
                f"divisible by {DIVISOR}"
            )
        embedding = self.embed(time_embedding(t).to(self.enter.weight.dtype))
        if self.label is not None:
            embedding = embedding + self.label(self._rows(labels, x)).sum(1)
        elif labels is not None:
            raise ValueError("labels: this network was trained without labels; leave them out")
        fine = self.encode1(self.enter(x), embedding)
        coarse = self.attend_encode2(self.encode2(self.down1(fine), embedding))
        h = self.attend_middle(self.middle1(self.down2(coarse), embedding))
        h = self.middle2(h, embedding)
        h = self.attend_decode2(self.decode2(torch.cat([_double(h), coarse], 1), embedding))
        h = self.decode1(torch.cat([_double(h), fine], 1), embedding)
        output: Tensor = self.leave(functional.silu(self.norm(h)))
        return output

    def _rows(self, labels: Tensor | None, x: Tensor) -> Tensor:
        """Return the rows of the labels' embedding, [batch, label]."""
        counts = torch.tensor(self.labels, device=x.device)
        if labels is None:
            labels = counts.expand(len(x), -1)
        elif labels.ndim == 1:
            labels = labels[:, None]
        return labels + (counts + 1).cumsum(0) - counts - 1


def _double(h: Tensor) -> Tensor:
    return functional.interpolate(h, scale_factor=2.0, mode="nearest")
