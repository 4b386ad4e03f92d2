"""Further tiny random pipelines of diffusers: states in lists, channels last, beside an image, patches as channels."""

from typing import Any

import diffusers
import torch

from helpers.pipeline_parts import flow_scheduler, stirred, vae
from helpers.text_encoders import clip, clip_tokenizer, llama, qwen3, qwen_vl, t5, tokenizer


def qwen_image() -> Any:
    """Return Qwen-Image: packed states, guidance by two calls."""
    torch.manual_seed(0)
    network = diffusers.QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=8, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    encoder = diffusers.AutoencoderKLQwenImage(
        base_dim=4, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[True], latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )  # fmt: skip
    made = diffusers.QwenImagePipeline(
        flow_scheduler(use_dynamic_shifting=True), encoder, qwen_vl(), tokenizer(64), stirred(network)
    )
    made.prompt_template_encode, made.prompt_template_encode_start_idx = "{}", 0
    return made


def flux2() -> Any:
    """Return the smaller Flux 2: patches of its latents are channels, which are packed then."""
    torch.manual_seed(0)
    network = diffusers.Flux2Transformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=8, timestep_guidance_channels=8, axes_dims_rope=(2, 2, 2, 2), guidance_embeds=False,
    )  # fmt: skip
    encoder = diffusers.AutoencoderKLFlux2(
        block_out_channels=(4,), layers_per_block=1, latent_channels=1, norm_num_groups=1, sample_size=16,
        down_block_types=("DownEncoderBlock2D",), up_block_types=("UpDecoderBlock2D",),
    )  # fmt: skip
    return diffusers.Flux2KleinPipeline(
        flow_scheduler(use_dynamic_shifting=True), encoder, qwen3(head=True), tokenizer(), stirred(network)
    )


def _hunyuan_vae() -> Any:
    return diffusers.AutoencoderKLHunyuanVideo(
        latent_channels=4, down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4, block_out_channels=(4,) * 4, layers_per_block=1,
        norm_num_groups=2, mid_block_add_attention=False,
    )  # fmt: skip


def hunyuan_video() -> Any:
    """Return HunyuanVideo: two encoders, and guidance as an input of the network."""
    torch.manual_seed(0)
    network = diffusers.HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=1, num_single_layers=1,
        num_refiner_layers=1, patch_size=1, patch_size_t=1, guidance_embeds=True, text_embed_dim=8,
        pooled_projection_dim=8, rope_axes_dim=(2, 2, 4),
    )  # fmt: skip
    return diffusers.HunyuanVideoPipeline(
        llama(),
        tokenizer(),
        stirred(network),
        _hunyuan_vae(),
        flow_scheduler(shift=7.0),
        clip(length=77),
        clip_tokenizer(),
    )


def kandinsky5() -> Any:
    """Return Kandinsky 5, of videos whose channels come last."""
    torch.manual_seed(0)
    network = diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=4, out_visual_dim=4, in_text_dim=8, in_text_dim2=8, time_dim=8, patch_size=(1, 2, 2),
        model_dim=8, ff_dim=8, num_text_blocks=1, num_visual_blocks=1, axes_dims=(2, 2, 4), visual_cond=False,
    )  # fmt: skip
    made = diffusers.Kandinsky5T2VPipeline(
        stirred(network), _hunyuan_vae(), qwen_vl(), tokenizer(), clip(length=77), clip_tokenizer(),
        flow_scheduler(shift=5.0),
    )  # fmt: skip
    made.prompt_template, made.prompt_template_encode_start_idx = "{}", 0
    return made


def z_image() -> Any:
    """Return Z-Image, whose network takes lists of states and counts its time from noise to data."""
    torch.manual_seed(0)
    network = diffusers.ZImageTransformer2DModel(
        in_channels=4, dim=16, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=8,
        axes_dims=[4, 2, 2], axes_lens=[128, 32, 32],
    )  # fmt: skip
    return diffusers.ZImagePipeline(flow_scheduler(shift=3.0), vae(), qwen3(), tokenizer(), stirred(network))


def flux_kontext() -> Any:
    """Return Flux Kontext, whose network sees the tokens of an image after those of its state."""
    torch.manual_seed(0)
    network = diffusers.FluxTransformer2DModel(
        in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=8, pooled_projection_dim=8, axes_dims_rope=(2, 2, 4), guidance_embeds=True,
    )  # fmt: skip
    encoder = vae(1)
    # an image is encoded
    encoder.register_to_config(shift_factor=0.0)
    return diffusers.FluxKontextPipeline(
        flow_scheduler(), encoder, clip(), clip_tokenizer(), t5(), tokenizer(), stirred(network)
    )
