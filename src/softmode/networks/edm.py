r"""EDM's networks with their preconditioning: denoisers in EDM coordinates, of states with values between -1 and 1.

Source: karras2022 (Table 1 and App. C); equation numbers below are its.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from softmode.message import quote
from softmode.networks.edm_config import DHARIWAL, SONG, UNET_NUMBERS, UNetConfig, check_unet_fields
from softmode.networks.edm_unet import EDMUNet
from softmode.networks.fields import check_number, check_whole, made

# bounds of the numbers of a preconditioning
NUMBERS = {
    "sigma_min": (0.0, 1e6), "sigma_max": (1e-6, 1e6), "sigma_data": (1e-6, 1e6), "beta_d": (1e-6, 1e6),
    "beta_min": (1e-6, 1e6), "epsilon_t": (1e-12, 0.5), "C_1": (0.0, 1.0), "C_2": (0.0, 1.0),
}  # fmt: skip
MOST_STEPS = 10**5


class Scales(NamedTuple):
    r"""Coefficients of $D = c_{skip} x + c_{out} F(c_{in} x, c_{noise})$, each of the shape of the noise levels."""

    skip: Tensor
    out: Tensor
    into: Tensor
    noise: Tensor


@dataclass(frozen=True)
class OwnScales:
    """The preconditioning of EDM itself.

    Args:
        sigma_min: Lowest noise level that the network knows.
        sigma_max: Highest one.
        sigma_data: Standard deviation of the data that it assumes.
    """

    network: ClassVar[str] = DHARIWAL
    channels: ClassVar[int] = 1
    sigma_min: float = 0.0
    sigma_max: float = math.inf
    sigma_data: float = 0.5

    def levels(self) -> tuple[float, float] | None:
        """Return the lowest and the highest noise level that the network knows; None where it knows them all."""
        return None if (self.sigma_min, self.sigma_max) == (0.0, math.inf) else (self.sigma_min, self.sigma_max)

    def scales(self, sigma: Tensor) -> Scales:
        """Return the coefficients at some noise levels."""
        total = sigma.square() + self.sigma_data**2
        return Scales(
            self.sigma_data**2 / total, sigma * self.sigma_data * total.rsqrt(), total.rsqrt(), sigma.log() / 4
        )


@dataclass(frozen=True)
class VPScales:
    r"""The preconditioning of VP networks, which predict the noise of states at times 0 to 1.

    Args:
        beta_d: Growth of the noise rate, $\beta(t) = \beta_{min} + \beta_d t$.
        beta_min: Noise rate at time 0.
        M: Number of time steps of DDPM: the network is told (M - 1) t.
        epsilon_t: Lowest time of training.
    """

    network: ClassVar[str] = SONG
    channels: ClassVar[int] = 1
    beta_d: float = 19.9
    beta_min: float = 0.1
    M: int = 1000
    epsilon_t: float = 1e-5

    def levels(self) -> tuple[float, float]:
        """Return the noise levels at the lowest time and at time 1."""
        low, high = (math.sqrt(math.expm1(0.5 * self.beta_d * t**2 + self.beta_min * t)) for t in (self.epsilon_t, 1.0))
        return low, high

    def scales(self, sigma: Tensor) -> Scales:
        r"""Return the coefficients at some noise levels.

        The time is the positive root of $\frac{1}{2}\beta_d t^2 + \beta_{min} t = \log(1 + \sigma^2)$.
        """
        log = torch.log1p(sigma.square())
        t = 2 * log / (self.beta_min + (self.beta_min**2 + 2 * self.beta_d * log).sqrt())
        return Scales(torch.ones_like(sigma), -sigma, (1 + sigma.square()).rsqrt(), (self.M - 1) * t)


@dataclass(frozen=True)
class VEScales:
    """The preconditioning of VE networks, which predict the score times the noise level.

    Args:
        sigma_min: Lowest noise level of training.
        sigma_max: Highest one.
    """

    network: ClassVar[str] = SONG
    channels: ClassVar[int] = 1
    sigma_min: float = 0.02
    sigma_max: float = 100.0

    def levels(self) -> tuple[float, float]:
        """Return the lowest and the highest noise level of training."""
        return self.sigma_min, self.sigma_max

    def scales(self, sigma: Tensor) -> Scales:
        """Return the coefficients at some noise levels; the network is told those of data between 0 and 1."""
        return Scales(torch.ones_like(sigma), sigma, torch.ones_like(sigma), (sigma / 2).log())


@dataclass(frozen=True)
class IDDPMScales:
    r"""The preconditioning of improved DDPM, whose network knows M noise levels and is told the nearest one's place.

    Args:
        C_1: Least ratio of the signal's shares at neighbouring levels.
        C_2: Offset of the cosine.
        M: Number of noise levels.
    """

    network: ClassVar[str] = DHARIWAL
    # the second half of the output is the variance of a sampling step
    channels: ClassVar[int] = 2
    C_1: float = 0.001
    C_2: float = 0.008
    M: int = 1000

    def table(self) -> Tensor:
        r"""Return the noise levels, from the highest to 0, [M + 1].

        $u_{j-1}^2 + 1 = (u_j^2 + 1)/\max(\bar\alpha_{j-1}/\bar\alpha_j, C_1)$ with
        $\bar\alpha_j = \sin^2\frac{\pi j}{2 M (C_2 + 1)}$ and $u_M = 0$.
        """
        place = torch.arange(self.M + 1, dtype=torch.float64)
        share = (0.5 * math.pi * place / self.M / (self.C_2 + 1)).sin().square()
        grown = (share[:-1] / share[1:]).clamp(min=self.C_1).log().flip(0).cumsum(0).flip(0)
        return torch.cat([torch.expm1(-grown).sqrt(), torch.zeros(1, dtype=torch.float64)])

    def scales(self, sigma: Tensor, table: Tensor) -> Scales:
        """Return the coefficients at some noise levels; the network is told the place of the nearest in a table."""
        place = (sigma[:, None] - table.to(sigma)).abs().argmin(1)
        return Scales(
            torch.ones_like(sigma), -sigma, (1 + sigma.square()).rsqrt(), (self.M - 1 - place).to(sigma.dtype)
        )


AnyScales = OwnScales | VPScales | VEScales | IDDPMScales
# by the name of the official class
PRECONDITIONINGS: dict[str, type[AnyScales]] = {
    "EDMPrecond": OwnScales, "VPPrecond": VPScales, "VEPrecond": VEScales, "iDDPMPrecond": IDDPMScales
}  # fmt: skip
# what the official classes take where nothing is given
SHAPES: dict[str, dict[str, Any]] = {
    SONG: {"model_channels": 128, "channel_mult": (1, 2, 2, 2), "num_blocks": 4, "attn_resolutions": (16,)},
    DHARIWAL: {"model_channels": 192, "channel_mult": (1, 2, 3, 4), "num_blocks": 3, "attn_resolutions": (32, 16, 8)},
}
SONG_ALONE = ("embedding_type", "channel_mult_noise", "encoder_type", "decoder_type", "resample_filter")


class EDMConfig(NamedTuple):
    """A network and its preconditioning."""

    scales: AnyScales
    unet: UNetConfig


def as_config(name: str, given: Mapping[str, Any]) -> EDMConfig:
    """Return what an official class of a name makes of some arguments.

    Raises:
        ValueError: If an argument is not known, lacks, is of another type or beyond its bounds.
    """
    kind = PRECONDITIONINGS[name]
    own = {field.name for field in fields(kind)}
    model = given.get("model_type", kind.network)
    check_unet_fields({"model_type": model})
    if model == DHARIWAL and (unknown := sorted(set(given) & set(SONG_ALONE))):
        raise ValueError(f"arguments of the network that are not known: {quote(unknown)}")
    unet = {"model_type": model, **SHAPES[model]} | {k: v for k, v in given.items() if k not in own}
    scales = {k: v for k, v in given.items() if k in own}
    return EDMConfig(
        made(kind, scales, _check_fields, NUMBERS), made(UNetConfig, unet, check_unet_fields, UNET_NUMBERS)
    )


def _check_fields(given: Mapping[str, object]) -> None:
    """Raise a ValueError if one of some fields of a preconditioning is of another type or beyond its bounds."""
    for name, value in given.items():
        # the one infinite number: that of the official class
        if name in NUMBERS and (name, value) != ("sigma_max", math.inf):
            check_number(name, value, *NUMBERS[name])
        elif name == "M":
            check_whole(name, value, 2, MOST_STEPS)
    if {"sigma_min", "sigma_max"} <= set(given) and not given["sigma_min"] < given["sigma_max"]:  # type: ignore[operator] # compared once both are known to be numbers
        raise ValueError(f"sigma_max: got {quote(given['sigma_max'])}; expected more than sigma_min")


class EDM(nn.Module):
    """An EDM network with its preconditioning: a denoiser D(x, sigma) in EDM coordinates, with classes.

    Args:
        config: What it is.
    """

    u: Tensor

    def __init__(self, config: EDMConfig) -> None:
        super().__init__()
        self.config = config
        self.model = EDMUNet(config.unet, config.unet.img_channels * config.scales.channels)
        if isinstance(config.scales, IDDPMScales):
            self.register_buffer("u", config.scales.table().float())

    def levels(self) -> tuple[float, float] | None:
        """Return the lowest and the highest noise level that the network knows; None where it knows them all."""
        if isinstance(self.config.scales, IDDPMScales):
            # the last is 0
            return float(self.u[-2]), float(self.u[0])
        return self.config.scales.levels()

    def one_hot(self, labels: Sequence[int | None]) -> Tensor:
        """Return what the network is told of classes, [batch, class]: zeros for none."""
        rows = torch.tensor([-1 if label is None else label for label in labels], device=next(self.parameters()).device)
        return functional.one_hot(rows.clamp(min=0), self.config.unet.label_dim) * (rows >= 0)[:, None]

    def forward(self, x: Tensor, sigma: Tensor | float, label: int | Tensor | None = None) -> Tensor:
        r"""Return $D = c_{skip} x + c_{out} F(c_{in} x, c_{noise})$, of the shape of x.

        Args:
            x: States [batch, channel, y, x].
            sigma: Noise levels, a scalar or [batch].
            label: Class of every state, or what `one_hot` makes of one for each; none when left out.

        Source: karras2022, Table 1 and Eq. 7.
        """
        level = torch.as_tensor(sigma, dtype=torch.float64, device=x.device).flatten()
        kind = self.config.scales
        scales = kind.scales(level, self.u) if isinstance(kind, IDDPMScales) else kind.scales(level)
        skip, out, into = (each.to(x.dtype)[:, None, None, None] for each in scales[:3])
        told = self.one_hot([label]) if isinstance(label, int) else label
        raw = self.model(into * x, scales.noise.expand(len(x)), told)
        return skip * x + out * raw[:, : x.shape[1]].to(x.dtype)
