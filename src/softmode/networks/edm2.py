r"""EDM2's magnitude-preserving U-Net and its preconditioning, with the parameter names of the official networks.

Every layer keeps activations at unit magnitude: weights are normalised where they are used, and sums, concatenations
and nonlinearities are rescaled. The network is written for inference; nothing in it is done in place, so that forward
derivatives pass through.

Source: karras2024 (equation numbers below are its); the paper's App. G probes these networks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from softmode.message import refusal
from softmode.networks.fields import check_number, check_whole, check_wholes

# norms below this are not blown up to one (karras2024, Eq. 47)
EPSILON = 1e-4
# expected magnitude of silu of a standard normal (Eq. 81)
SILU_MAGNITUDE = 0.596

# bounds of a config: several times what any published network has
WHOLES = {
    "img_resolution": (1, 4096), "img_channels": (1, 1024), "label_dim": (0, 10**5), "model_channels": (1, 2048),
    "channel_mult_noise": (0, 32), "channel_mult_emb": (0, 32), "num_blocks": (1, 16), "channels_per_head": (1, 4096),
    "logvar_channels": (1, 10**5),
}  # fmt: skip
NUMBERS = {
    "label_balance": (0.0, 1.0), "concat_balance": (0.0, 1.0), "res_balance": (0.0, 1.0), "attn_balance": (0.0, 1.0),
    "clip_act": (1e-6, 1e9), "sigma_data": (1e-6, 1e6),
}  # fmt: skip
# how many, and how large
LISTS = {"channel_mult": ((1, 8), (1, 32)), "attn_resolutions": ((0, 16), (1, 4096))}


@dataclass(frozen=True)
class EDM2Config:
    """The shape of an EDM2 network; the defaults are those of every published one but for its width.

    Args:
        img_resolution: Sites along each axis; 64 for both img64 and img512, whose states are latents.
        img_channels: Channels of a state: 3 for img64, 4 for img512.
        label_dim: Number of classes; 0 for none.
        model_channels: Width: 64, 128, 192, 256, 320, 384, 448 for XXS, XS, S, M, L, XL, XXL.
        channel_mult: Width at each resolution, in units of model_channels.
        channel_mult_noise: Width of the noise embedding, in the same units; 0 for that of the first resolution.
        channel_mult_emb: Width of the embedding; 0 for the largest width.
        num_blocks: Residual blocks per resolution.
        attn_resolutions: Resolutions with self-attention.
        label_balance: Weight of the class in the embedding.
        concat_balance: Weight of a skip connection.
        channels_per_head: Channels of an attention head.
        res_balance: Weight of the residual branch.
        attn_balance: Weight of self-attention.
        clip_act: Bound on activations.
        sigma_data: Standard deviation of the data that the preconditioning assumes.
        logvar_channels: Width of the uncertainty head, which is loaded and not used.
    """

    img_resolution: int
    img_channels: int
    label_dim: int
    model_channels: int = 192
    channel_mult: tuple[int, ...] = (1, 2, 3, 4)
    channel_mult_noise: int = 0
    channel_mult_emb: int = 0
    num_blocks: int = 3
    attn_resolutions: tuple[int, ...] = (16, 8)
    label_balance: float = 0.5
    concat_balance: float = 0.5
    channels_per_head: int = 64
    res_balance: float = 0.3
    attn_balance: float = 0.3
    clip_act: float = 256.0
    sigma_data: float = 0.5
    logvar_channels: int = 128

    def __post_init__(self) -> None:
        """Raise a ValueError if no such network exists, or a field is of another type."""
        check_fields(vars(self))
        halvings = 2 ** (len(self.channel_mult) - 1)
        if self.img_resolution % halvings:
            raise refusal(f"img_resolution: got {self.img_resolution}; expected a multiple of {halvings}")
        for level, factor in enumerate(self.channel_mult):
            width = factor * self.model_channels
            heads = width // self.channels_per_head
            if self.img_resolution >> level in self.attn_resolutions and heads and width % heads:
                raise refusal(
                    f"channels_per_head: got {self.channels_per_head}; expected one that divides the width {width}"
                )


def check_fields(given: Mapping[str, object]) -> None:
    """Raise a ValueError if one of some fields of an EDM2Config is of another type or beyond its bounds."""
    for name, value in given.items():
        if name in WHOLES:
            check_whole(name, value, *WHOLES[name])
        elif name in NUMBERS:
            check_number(name, value, *NUMBERS[name])
        elif name in LISTS:
            check_wholes(name, value, *LISTS[name])


def normalise(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Return x divided by its root mean square over `dim`: of weights (Eq. 47), or pixel by pixel."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide / (EPSILON + wide.square().mean(dim, keepdim=True).sqrt())).to(x.dtype)


def mp_silu(x: Tensor) -> Tensor:
    """Return silu at unit magnitude (Eq. 81)."""
    return functional.silu(x) / SILU_MAGNITUDE


def mp_sum(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """Return (1 - weight) a + weight b at unit magnitude (Eq. 88)."""
    return ((1 - weight) * a + weight * b) / math.hypot(1 - weight, weight)


def mp_cat(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """Return a and b side by side in channels, weighted 1 - weight and weight, at unit magnitude (Eq. 103)."""
    n_a, n_b = a.shape[1], b.shape[1]
    scale = math.sqrt(n_a + n_b) / math.hypot(1 - weight, weight)
    return torch.cat([a * (scale * (1 - weight) / math.sqrt(n_a)), b * (scale * weight / math.sqrt(n_b))], 1)


class Fourier(nn.Module):
    """Random Fourier features of the noise level (Eq. 75)."""

    freqs: Tensor
    phases: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("freqs", 2 * math.pi * torch.randn(channels))
        self.register_buffer("phases", 2 * math.pi * torch.rand(channels))

    def forward(self, c_noise: Tensor) -> Tensor:
        """Return features [batch, channel] of numbers [batch]."""
        angle = c_noise[:, None] * self.freqs.to(c_noise.dtype) + self.phases.to(c_noise.dtype)
        return math.sqrt(2) * angle.cos()


class MPLayer(nn.Module):
    """A convolution, or without a kernel a linear map, without bias; weights are normalised in use (Eqs. 47, 66)."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 0) -> None:
        super().__init__()
        sides = (kernel, kernel) if kernel else ()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, *sides))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        """Return the layer's output times a gain."""
        wide = self.weight.to(torch.promote_types(self.weight.dtype, torch.float32))
        fan_in = wide[0].numel()
        weight = normalise(wide, tuple(range(1, wide.ndim))) * (gain / math.sqrt(fan_in))
        if wide.ndim == 2:
            return x @ weight.to(x.dtype).T
        return functional.conv2d(x, weight.to(x.dtype), padding=wide.shape[-1] // 2)


class Block(nn.Module):
    """A residual block of the encoder or decoder, with self-attention if asked for (karras2024, Fig. 21)."""

    def __init__(
        self, config: EDM2Config, sizes: tuple[int, int, int], decoder: bool, resample: str, attention: bool
    ) -> None:
        super().__init__()
        channels_in, channels, embedding = sizes
        self.config, self.decoder, self.resample = config, decoder, resample
        self.channels = channels
        self.heads = channels // config.channels_per_head if attention else 0
        self.emb_gain = nn.Parameter(torch.zeros([]))
        self.conv_res0 = MPLayer(channels_in if decoder else channels, channels, 3)
        self.emb_linear = MPLayer(embedding, channels)
        self.conv_res1 = MPLayer(channels, channels, 3)
        self.conv_skip = MPLayer(channels_in, channels, 1) if channels_in != channels else None
        self.attn_qkv = MPLayer(channels, 3 * channels, 1) if self.heads else None
        self.attn_proj = MPLayer(channels, channels, 1) if self.heads else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Return [batch, channel, y, x] at the block's own resolution."""
        if self.resample == "down":
            x = functional.avg_pool2d(x, 2)
        elif self.resample == "up":
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        if not self.decoder:
            x = normalise(self.conv_skip(x) if self.conv_skip else x, 1)
        modulation = self.emb_linear(embedding, self.emb_gain.to(embedding.dtype)) + 1
        y = mp_silu(self.conv_res0(mp_silu(x)) * modulation[:, :, None, None].to(x.dtype))
        y = self.conv_res1(y)
        if self.decoder and self.conv_skip:
            x = self.conv_skip(x)
        x = mp_sum(x, y, self.config.res_balance)
        if self.attn_qkv and self.attn_proj:
            x = mp_sum(x, self.attn_proj(self._attend(self.attn_qkv(x)).reshape(x.shape)), self.config.attn_balance)
        return x.clamp(-self.config.clip_act, self.config.clip_act)

    def _attend(self, qkv: Tensor) -> Tensor:
        """Return softmax(q.k / sqrt(channels)) v, [batch, head, channel, site], in steps that forward AD knows."""
        q, k, v = normalise(qkv.reshape(len(qkv), self.heads, -1, 3, qkv[0, 0].numel()), 2).unbind(3)
        weight = (q.mT @ (k / math.sqrt(q.shape[2]))).softmax(-1)
        return v @ weight.mT


class EDM2UNet(nn.Module):
    """The U-Net inside the preconditioning (karras2024, Fig. 21)."""

    def __init__(self, config: EDM2Config) -> None:
        super().__init__()
        self.config = config
        widths = [config.model_channels * factor for factor in config.channel_mult]
        noise = config.model_channels * config.channel_mult_noise or widths[0]
        embedding = config.model_channels * config.channel_mult_emb or max(widths)
        self.emb_fourier = Fourier(noise)
        self.emb_noise = MPLayer(noise, embedding)
        self.emb_label = MPLayer(config.label_dim, embedding) if config.label_dim else None
        self.out_gain = nn.Parameter(torch.zeros([]))
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()

        def block(channels_in: int, channels: int, decoder: bool, resample: str = "", attention: bool = False) -> Block:
            return Block(config, (channels_in, channels, embedding), decoder, resample, attention)

        skips, last = [], widths[0]
        for level, width in enumerate(widths):
            side = config.img_resolution >> level
            attention = side in config.attn_resolutions
            if level:
                self.enc[f"{side}x{side}_down"] = block(last, last, False, "down")
            else:
                self.enc[f"{side}x{side}_conv"] = MPLayer(config.img_channels + 1, width, 3)
            skips.append(last)
            for index in range(config.num_blocks):
                self.enc[f"{side}x{side}_block{index}"] = block(last, width, False, attention=attention)
                last = width
                skips.append(last)
        for level, width in reversed(list(enumerate(widths))):
            side = config.img_resolution >> level
            attention = side in config.attn_resolutions
            if level == len(widths) - 1:
                self.dec[f"{side}x{side}_in0"] = block(last, last, True, attention=True)
                self.dec[f"{side}x{side}_in1"] = block(last, last, True)
            else:
                self.dec[f"{side}x{side}_up"] = block(last, last, True, "up")
            for index in range(config.num_blocks + 1):
                self.dec[f"{side}x{side}_block{index}"] = block(last + skips.pop(), width, True, attention=attention)
                last = width
        self.out_conv = MPLayer(last, config.img_channels, 3)

    def forward(self, x: Tensor, c_noise: Tensor, label: Tensor | None) -> Tensor:
        """Return the raw output of the shape of x, for noise labels [batch] and one-hot classes [batch, class]."""
        embedding = self.emb_noise(self.emb_fourier(c_noise))
        if self.emb_label is not None:
            one_hot = torch.zeros_like(embedding[:, :1]).expand(-1, self.config.label_dim) if label is None else label
            scaled = one_hot.to(embedding.dtype) * math.sqrt(self.config.label_dim)
            embedding = mp_sum(embedding, self.emb_label(scaled), self.config.label_balance)
        embedding = mp_silu(embedding)
        x, skips = torch.cat([x, torch.ones_like(x[:, :1])], 1), []
        for layer in self.enc.values():
            x = layer(x, embedding) if isinstance(layer, Block) else layer(x)
            skips.append(x)
        for name, layer in self.dec.items():
            x = layer(mp_cat(x, skips.pop(), self.config.concat_balance) if "_block" in name else x, embedding)
        return self.out_conv(x, self.out_gain)


class EDM2(nn.Module):
    """An EDM2 network with its preconditioning: a denoiser D(x, sigma) in EDM coordinates, with classes.

    Args:
        config: Its shape.
    """

    def __init__(self, config: EDM2Config) -> None:
        super().__init__()
        self.config = config
        self.unet = EDM2UNet(config)
        # the uncertainty head of training: kept so that official weights fit, never called
        self.logvar_fourier = Fourier(config.logvar_channels)
        self.logvar_linear = MPLayer(config.logvar_channels, 1)

    def one_hot(self, labels: Sequence[int | None]) -> Tensor:
        """Return what the network is told of classes, [batch, class]: zeros for none."""
        rows = torch.tensor([-1 if label is None else label for label in labels], device=self.unet.out_gain.device)
        return functional.one_hot(rows.clamp(min=0), self.config.label_dim) * (rows >= 0)[:, None]

    def forward(self, x: Tensor, sigma: Tensor | float, label: int | Tensor | None = None) -> Tensor:
        r"""Return $D = c_{skip} x + c_{out} F(c_{in} x, \log\sigma / 4)$, of the shape of x.

        Args:
            x: States [batch, channel, y, x].
            sigma: Noise levels, a scalar or [batch].
            label: Class of all states, or what `one_hot` makes of one for each; none when left out.

        Source: karras2022, Table 1; paper G.1.
        """
        level = torch.as_tensor(sigma, dtype=torch.float64, device=x.device).reshape(-1, 1, 1, 1)
        data = self.config.sigma_data
        total = level.square() + data**2
        skip, out = (data**2 / total).to(x.dtype), (level * data * total.rsqrt()).to(x.dtype)
        c_noise = (level.flatten().log() / 4).expand(len(x)).to(x.dtype)
        classes = self.one_hot([label]).expand(len(x), -1) if isinstance(label, int) else label
        scaled = total.rsqrt().to(x.dtype) * x
        return skip * x + out * self.unet(scaled, c_noise, classes).to(x.dtype)
