"""The shape of the U-Nets that EDM's repository trains.

Source: karras2022 (App. F.2), song2021 (App. H), dhariwal2021 (Sec. 3).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from softmode.message import quote, refusal
from softmode.networks.fields import check_number, check_whole, check_wholes

SONG, DHARIWAL = "SongUNet", "DhariwalUNet"
# bounds of a config: several times what any published network has
WHOLES = {
    "img_resolution": (1, 4096), "img_channels": (1, 1024), "label_dim": (0, 10**5), "augment_dim": (0, 1024),
    "model_channels": (4, 2048), "channel_mult_emb": (1, 32), "channel_mult_noise": (1, 32), "num_blocks": (1, 16),
}  # fmt: skip
LISTS = {
    "channel_mult": ((1, 8), (1, 64)), "attn_resolutions": ((0, 16), (1, 4096)), "resample_filter": ((2, 8), (0, 1000))
}  # fmt: skip
CHOICES = {
    "model_type": (SONG, DHARIWAL), "embedding_type": ("positional", "fourier"),
    "encoder_type": ("standard", "skip", "residual"), "decoder_type": ("standard", "skip"),
}  # fmt: skip
UNET_NUMBERS = {"label_dropout": (0.0, 1.0)}


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a network.

    Args:
        model_type: `SongUNet` or `DhariwalUNet`.
        img_resolution: Sites along each axis.
        img_channels: Channels of a state.
        model_channels: Width.
        channel_mult: Width at each resolution, in units of model_channels.
        num_blocks: Residual blocks per resolution.
        attn_resolutions: Resolutions with self-attention.
        label_dim: Number of classes; 0 for none.
        augment_dim: Number of augmentation labels, which are 0 for images as they are; their layer is never called.
        channel_mult_emb: Width of the embedding, in units of model_channels.
        label_dropout: Share of the images whose class was left out in training.
        embedding_type: Of the noise: `positional` or `fourier`. With what follows, of a SongUNet alone.
        channel_mult_noise: Width of the noise's embedding, in units of model_channels.
        encoder_type: What the encoder adds at each resolution: nothing, the image through a 1x1 convolution (`skip`),
            or what it added before through a 3x3 convolution (`residual`).
        decoder_type: Whether every resolution adds to the output (`skip`) or the first alone.
        resample_filter: Filter along an axis by which sides are halved and doubled.
    """

    model_type: str
    img_resolution: int
    img_channels: int
    model_channels: int
    channel_mult: tuple[int, ...]
    num_blocks: int
    attn_resolutions: tuple[int, ...]
    label_dim: int = 0
    augment_dim: int = 0
    channel_mult_emb: int = 4
    label_dropout: float = 0.0
    embedding_type: str = "positional"
    channel_mult_noise: int = 1
    encoder_type: str = "standard"
    decoder_type: str = "standard"
    resample_filter: tuple[int, ...] = (1, 1)

    def __post_init__(self) -> None:
        """Raise a ValueError if no such network exists, or a field is of another type."""
        check_unet_fields(vars(self))
        halvings = 2 ** (len(self.channel_mult) - 1)
        if self.img_resolution % halvings:
            raise refusal(f"img_resolution: got {self.img_resolution}; expected a multiple of {halvings}")
        if len(self.resample_filter) % 2 or not sum(self.resample_filter):
            raise refusal(f"resample_filter: got {self.resample_filter}; expected an even number of taps, not all 0")


def check_unet_fields(given: Mapping[str, object]) -> None:
    """Raise a ValueError if one of some fields of a UNetConfig is of another type or beyond its bounds."""
    for name, value in given.items():
        if name in WHOLES:
            check_whole(name, value, *WHOLES[name])
        elif name in UNET_NUMBERS:
            check_number(name, value, *UNET_NUMBERS[name])
        elif name in LISTS:
            check_wholes(name, value, *LISTS[name])
        elif name in CHOICES and value not in CHOICES[name]:
            raise refusal(f"{name}: got {quote(value)}; expected {' or '.join(CHOICES[name])}")
