r"""The U-Nets that EDM's repository trains: DDPM++ and NCSN++ (`SongUNet`) and ADM (`DhariwalUNet`).

They are one network with two sets of habits. The parameter names are those of the official networks. Written for
inference; nothing in it is done in place, so that forward derivatives pass through.

Source: karras2022 (App. F.2), song2021 (App. H), dhariwal2021 (Sec. 3).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from softmode.networks.edm_config import DHARIWAL, SONG, UNetConfig
from softmode.networks.edm_layers import HABITS, Block, Fourier, Norm, Positional, Resampling


class EDMUNet(nn.Module):
    """The U-Net inside the preconditioning.

    Args:
        config: Its shape.
        channels_out: Channels of its output.
    """

    def __init__(self, config: UNetConfig, channels_out: int) -> None:
        super().__init__()
        self.config, self.song = config, config.model_type == SONG
        width, embedding = config.model_channels, config.model_channels * config.channel_mult_emb
        noise = width * config.channel_mult_noise if self.song else width
        fourier = self.song and config.embedding_type == "fourier"
        self.map_noise = Fourier(noise) if fourier else Positional(noise, last=self.song, sines_first=self.song)
        self.map_label = (
            nn.Linear(config.label_dim, noise if self.song else embedding, bias=self.song) if config.label_dim else None
        )
        # of augmented images: kept so that official weights fit, never called
        self.map_augment = nn.Linear(config.augment_dim, noise, bias=False) if config.augment_dim else None
        self.map_layer0, self.map_layer1 = nn.Linear(noise, embedding), nn.Linear(embedding, embedding)
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        self._decode(self._encode(), channels_out)

    def _encode(self) -> list[int]:
        """Make the encoder, and return the channels of what each of its layers leaves to the decoder."""
        config, taps = self.config, self.config.resample_filter
        last = config.model_channels * (1 if self.song else config.channel_mult[0])
        added, skips = config.img_channels, [last]
        for level, factor in enumerate(config.channel_mult):
            side = config.img_resolution >> level
            if not level:
                self.enc[f"{side}x{side}_conv"] = nn.Conv2d(config.img_channels, last, 3, padding=1)
            else:
                self.enc[f"{side}x{side}_down"] = Block(config, last, last, "down")
                skips.append(last)
            if level and config.encoder_type == "skip":
                self.enc[f"{side}x{side}_aux_down"] = Resampling(added, added, 0, False, taps)
                self.enc[f"{side}x{side}_aux_skip"] = nn.Conv2d(added, last, 1)
            elif level and config.encoder_type == "residual":
                self.enc[f"{side}x{side}_aux_residual"] = Resampling(added, last, 3, False, taps, wide=True)
                added = last
            for index in range(config.num_blocks):
                width, attention = config.model_channels * factor, side in config.attn_resolutions
                self.enc[f"{side}x{side}_block{index}"] = Block(config, last, width, attention=attention)
                last = width
                skips.append(last)
        return skips

    def _decode(self, skips: list[int], channels_out: int) -> None:
        """Make the decoder, which takes in what the encoder has left, the last first."""
        config, last = self.config, skips[-1]
        for level, factor in reversed(list(enumerate(config.channel_mult))):
            side, deepest = config.img_resolution >> level, level == len(config.channel_mult) - 1
            if deepest:
                self.dec[f"{side}x{side}_in0"] = Block(config, last, last, attention=True)
                self.dec[f"{side}x{side}_in1"] = Block(config, last, last)
            else:
                self.dec[f"{side}x{side}_up"] = Block(config, last, last, "up")
            for index in range(config.num_blocks + 1):
                attention = side in config.attn_resolutions and (not self.song or index == config.num_blocks)
                width = config.model_channels * factor
                self.dec[f"{side}x{side}_block{index}"] = Block(config, last + skips.pop(), width, attention=attention)
                last = width
            if not self.song or (level and config.decoder_type != "skip"):
                continue
            if config.decoder_type == "skip" and not deepest:
                up = Resampling(channels_out, channels_out, 0, True, config.resample_filter)
                self.dec[f"{side}x{side}_aux_up"] = up
            self.dec[f"{side}x{side}_aux_norm"] = Norm(last, HABITS[SONG].epsilon)
            self.dec[f"{side}x{side}_aux_conv"] = nn.Conv2d(last, channels_out, 3, padding=1)
        if not self.song:
            self.out_norm = Norm(last, HABITS[DHARIWAL].epsilon)
            self.out_conv = nn.Conv2d(last, channels_out, 3, padding=1)

    def forward(self, x: Tensor, c_noise: Tensor, told: Tensor | None) -> Tensor:
        """Return the raw output [batch, channel, y, x] for what stands for the noise, [batch], and classes or none."""
        embedding, skips, added = self._embed(c_noise, told, x.dtype), list[Tensor](), x
        for name, layer in self.enc.items():
            if "_aux_down" in name:
                added = layer(added)
            elif "_aux_skip" in name:
                x = skips[-1] = x + layer(added)
            elif "_aux_residual" in name:
                x = skips[-1] = added = (x + layer(added)) * HABITS[SONG].scale
            else:
                x = layer(x, embedding) if isinstance(layer, Block) else layer(x)
                skips.append(x)
        out: Tensor | None = None
        normed = x
        for name, layer in self.dec.items():
            if "_aux_up" in name:
                out = layer(out)
            elif "_aux_norm" in name:
                normed = layer(x)
            elif "_aux_conv" in name:
                made = layer(functional.silu(normed))
                out = made if out is None else out + made
            else:
                x = layer(torch.cat([x, skips.pop()], 1) if "_block" in name else x, embedding)
        return self.out_conv(functional.silu(self.out_norm(x))) if out is None else out

    def _embed(self, c_noise: Tensor, classes: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Return the embedding of the noise and the class, [batch, embedding]."""
        embedding = self.map_noise(c_noise).to(dtype)
        told: Tensor | float = 0.0
        if self.map_label is not None:
            one_hot = torch.zeros_like(self.map_label.weight[:1]) if classes is None else classes.to(dtype)
            # of unit variance
            told = self.map_label(one_hot * math.sqrt(one_hot.shape[1]) if self.song else one_hot)
        if self.song:
            embedding = embedding + told
        embedding = self.map_layer1(functional.silu(self.map_layer0(embedding)))
        return functional.silu(embedding if self.song else embedding + told)
