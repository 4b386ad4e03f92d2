"""Tiny random pipelines of diffusers, one of each family, built from configs: quick, and as wide as a family needs."""

import sys
import warnings
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import diffusers
import torch

from helpers.pipeline_parts import flow_scheduler, latent_scheduler, picture, stirred, vae
from helpers.pipelines_more import flux2, flux_kontext, hunyuan_video, kandinsky5, qwen_image, z_image
from helpers.text_encoders import bert, clip, clip_tokenizer, gemma, glm, t5, tokenizer, umt5


class Tiny(NamedTuple):
    """A family.

    Attributes:
        build: Builds its pipeline.
        call: What it is called with beside its prompt.
        size: Of its images.
        shape: Of its states.
        text: Whether it takes a prompt.
        new: Whether it is bound in a way that no other is, and tested for that.
    """

    build: Callable[[], Any]
    size: tuple[int, ...] = (16, 16)
    shape: tuple[int, ...] = (4, 16, 16)
    call: Mapping[str, Any] = {}
    text: bool = True
    new: bool = True


def unet(**changes: Any) -> Any:
    """Return a UNet of text."""
    settings = {
        "sample_size": 16, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "block_out_channels": (4, 8),
        "norm_num_groups": 2, "cross_attention_dim": 8, "attention_head_dim": 2,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }  # fmt: skip
    torch.manual_seed(0)
    return stirred(diffusers.UNet2DConditionModel(**settings | changes))


def stable_diffusion(scheduler: Any = None, **changes: Any) -> Any:
    """Return Stable Diffusion 1 or 2."""
    made = scheduler or latent_scheduler("DDIMScheduler", clip_sample=False)
    network = unet(**changes)
    return diffusers.StableDiffusionPipeline(
        vae(), clip(), clip_tokenizer(), network, made, None, None, requires_safety_checker=False
    )


def sdxl() -> Any:
    """Return SDXL: two encoders, and sizes among its conditions."""
    network = unet(
        addition_embed_type="text_time", addition_time_embed_dim=2, projection_class_embeddings_input_dim=20,
        cross_attention_dim=16, transformer_layers_per_block=(1, 1), use_linear_projection=True,
    )  # fmt: skip
    return diffusers.StableDiffusionXLPipeline(
        vae(), clip(), clip(projected=True), clip_tokenizer(), clip_tokenizer(), network,
        latent_scheduler("EulerDiscreteScheduler", timestep_spacing="leading"),
    )  # fmt: skip


def lcm() -> Any:
    """Return a latent consistency model, whose guidance is an input of its network."""
    return diffusers.LatentConsistencyModelPipeline(
        vae(), clip(), clip_tokenizer(), unet(time_cond_proj_dim=4),
        latent_scheduler("LCMScheduler", clip_sample=False), None, None, requires_safety_checker=False,
    )  # fmt: skip


def inpainting() -> Any:
    """Return a pipeline whose network sees a mask and a masked image beside its state."""
    return diffusers.StableDiffusionInpaintPipeline(
        vae(), clip(), clip_tokenizer(), unet(in_channels=9),
        latent_scheduler("DDIMScheduler", clip_sample=False), None, None,
        requires_safety_checker=False,
    )  # fmt: skip


def dit() -> Any:
    """Return DiT, of a thousand classes."""
    torch.manual_seed(0)
    network = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=4, out_channels=8, num_layers=1, sample_size=8,
        norm_num_groups=4,
    )  # fmt: skip
    return diffusers.DiTPipeline(stirred(network), vae(), diffusers.DDIMScheduler(clip_sample=False))


def _pixart(kind: Any) -> Any:
    torch.manual_seed(0)
    network = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=6, num_layers=1, cross_attention_dim=12, sample_size=128,
        caption_channels=8, norm_num_groups=4, use_additional_conditions=kind is diffusers.PixArtAlphaPipeline,
    )  # fmt: skip
    scheduler = latent_scheduler("DPMSolverMultistepScheduler", beta_schedule="linear")
    return kind(tokenizer(), t5(), vae(), stirred(network), scheduler)


def pixart_alpha() -> Any:
    """Return PixArt-alpha, with resolutions among its conditions."""
    return _pixart(diffusers.PixArtAlphaPipeline)


def pixart_sigma() -> Any:
    """Return PixArt-sigma."""
    return _pixart(diffusers.PixArtSigmaPipeline)


def sd3() -> Any:
    """Return Stable Diffusion 3."""
    torch.manual_seed(0)
    network = diffusers.SD3Transformer2DModel(
        sample_size=16, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=4, num_attention_heads=2,
        caption_projection_dim=8, joint_attention_dim=16, pooled_projection_dim=16, out_channels=4,
    )  # fmt: skip
    return diffusers.StableDiffusion3Pipeline(
        stirred(network), flow_scheduler(shift=3.0), vae(), clip(projected=True), clip_tokenizer(),
        clip(projected=True), clip_tokenizer(), t5(16), tokenizer(),
    )  # fmt: skip


def aura_flow() -> Any:
    """Return AuraFlow."""
    torch.manual_seed(0)
    network = diffusers.AuraFlowTransformer2DModel(
        sample_size=16, num_mmdit_layers=1, num_single_dit_layers=1, attention_head_dim=4, num_attention_heads=2,
        joint_attention_dim=8, caption_projection_dim=8, pos_embed_max_size=64,
    )  # fmt: skip
    for parameter in network.parameters():
        # a prompt is hardly heard among so few layers
        parameter.data *= 2
    return diffusers.AuraFlowPipeline(tokenizer(), umt5(), vae(), stirred(network), flow_scheduler(shift=1.73))


def flux() -> Any:
    """Return Flux: packed states, ids, and guidance as an input of the network."""
    torch.manual_seed(0)
    network = diffusers.FluxTransformer2DModel(
        in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=8, pooled_projection_dim=8, axes_dims_rope=(2, 2, 4), guidance_embeds=True,
    )  # fmt: skip
    return diffusers.FluxPipeline(
        flow_scheduler(use_dynamic_shifting=True), vae(1), clip(), clip_tokenizer(), t5(), tokenizer(),
        stirred(network),
    )  # fmt: skip


def sana() -> Any:
    """Return Sana."""
    torch.manual_seed(0)
    network = diffusers.SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=4, num_layers=1,
        num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=8,
        sample_size=16,
    )  # fmt: skip
    encoder = diffusers.AutoencoderDC(
        latent_channels=4, attention_head_dim=2, encoder_block_out_channels=(8,), decoder_block_out_channels=(8,),
        encoder_layers_per_block=(1,), decoder_layers_per_block=(1,), encoder_qkv_multiscales=((),),
        decoder_qkv_multiscales=((),),
    )  # fmt: skip
    return diffusers.SanaPipeline(tokenizer(), gemma(), encoder, stirred(network), flow_scheduler(shift=3.0))


def cogview4() -> Any:
    """Return CogView4."""
    torch.manual_seed(0)
    network = diffusers.CogView4Transformer2DModel(
        in_channels=4, out_channels=4, num_layers=1, attention_head_dim=4, num_attention_heads=2, text_embed_dim=8,
        time_embed_dim=8, condition_dim=4, sample_size=16, rope_axes_dim=(4, 4),
    )  # fmt: skip
    scheduler = flow_scheduler(use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75)
    return diffusers.CogView4Pipeline(tokenizer(), glm(), vae(), stirred(network), scheduler)


def lumina2() -> Any:
    """Return Lumina 2, whose time runs the other way."""
    torch.manual_seed(0)
    network = diffusers.Lumina2Transformer2DModel(
        sample_size=16, in_channels=4, hidden_size=24, num_layers=1, num_refiner_layers=1, num_attention_heads=2,
        num_kv_heads=1, multiple_of=2, axes_dim_rope=(4, 4, 4), axes_lens=(300, 32, 32), cap_feat_dim=8,
    )  # fmt: skip
    return diffusers.Lumina2Pipeline(stirred(network), flow_scheduler(), vae(), gemma(), tokenizer())


def hunyuan_dit() -> Any:
    """Return HunyuanDiT: two encoders, and rotations, sizes and a style among its conditions."""
    torch.manual_seed(0)
    network = diffusers.HunyuanDiT2DModel(
        sample_size=16, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4,
        hidden_size=16, mlp_ratio=1.0, cross_attention_dim=8, cross_attention_dim_t5=8, pooled_projection_dim=8,
        text_len=77, text_len_t5=256,
    )  # fmt: skip
    return diffusers.HunyuanDiTPipeline(
        vae(), bert(), tokenizer(), stirred(network), latent_scheduler("DDPMScheduler", clip_sample=False), None, None,
        requires_safety_checker=False, text_encoder_2=t5(), tokenizer_2=tokenizer(),
    )  # fmt: skip


def prx() -> Any:
    """Return PRX."""
    torch.manual_seed(0)
    network = diffusers.PRXTransformer2DModel(
        in_channels=4, context_in_dim=8, hidden_size=8, mlp_ratio=1.0, num_heads=2, depth=1, axes_dim=[2, 2]
    )
    with warnings.catch_warnings():
        # about a mixin of its own
        warnings.simplefilter("ignore", FutureWarning)
        made = diffusers.PRXPipeline(stirred(network), flow_scheduler(shift=3.0), t5(), tokenizer(), vae(), 16)
    # where ftfy is missing, which mends broken letters: these prompts have none
    vars(sys.modules[type(made).__module__]).setdefault("ftfy", SimpleNamespace(fix_text=str))
    return made


def wan(scheduler: Any = None) -> Any:
    """Return Wan, of videos."""
    torch.manual_seed(0)
    network = diffusers.WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=8, freq_dim=8, ffn_dim=8,
        num_layers=1, rope_max_seq_len=32,
    )  # fmt: skip
    encoder = diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[True], latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4, scale_factor_temporal=2, scale_factor_spatial=2,
    )  # fmt: skip
    made = scheduler or diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return diffusers.WanPipeline(tokenizer(), umt5(), encoder, made, stirred(network))


def cogvideox() -> Any:
    """Return CogVideoX, whose frames come before its channels."""
    torch.manual_seed(0)
    network = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4, time_embed_dim=4, text_embed_dim=8,
        num_layers=1, sample_width=16, sample_height=16, sample_frames=5, max_text_seq_length=16,
    )  # fmt: skip
    encoder = diffusers.AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",), up_block_types=("CogVideoXUpBlock3D",), block_out_channels=(4,),
        latent_channels=4, layers_per_block=1, norm_num_groups=2,
    )  # fmt: skip
    scheduler = diffusers.CogVideoXDDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    return diffusers.CogVideoXPipeline(tokenizer(), t5(), encoder, stirred(network), scheduler)


def chroma() -> Any:
    """Return Chroma: packed as Flux, with guidance of two branches."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        # about a name of its own
        warnings.simplefilter("ignore", FutureWarning)
        network = diffusers.ChromaTransformer2DModel(
            in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=8, axes_dims_rope=(2, 2, 4), approximator_num_channels=4, approximator_hidden_dim=8,
            approximator_layers=1,
        )  # fmt: skip
    return diffusers.ChromaPipeline(flow_scheduler(), vae(1), t5(), tokenizer(), stirred(network))


def image_to_image() -> Any:
    """Return Stable Diffusion from an image, whose loop begins late."""
    parts = stable_diffusion().components
    return diffusers.StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)


def with_controlnet() -> Any:
    """Return a pipeline with a second network, which sees the state too."""
    pipe = stable_diffusion()
    control = diffusers.ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=(4,))
    return diffusers.StableDiffusionControlNetPipeline(
        **pipe.components, controlnet=stirred(control), requires_safety_checker=False
    )


def pix2pix() -> Any:
    """Return InstructPix2Pix, whose guidance is of three branches."""
    parts = stable_diffusion(in_channels=8).components
    return diffusers.StableDiffusionInstructPix2PixPipeline(**parts, requires_safety_checker=False)


def with_experts() -> Any:
    """Return Wan 2.2, with a network for high noise levels and one for low ones."""
    pipe = wan()
    pipe.register_modules(transformer_2=pipe.transformer)
    return pipe


def ltx() -> Any:
    """Return LTX, of videos in packed states."""
    torch.manual_seed(0)
    network = diffusers.LTXVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16,
        num_layers=1, caption_channels=8,
    )  # fmt: skip
    encoder = diffusers.AutoencoderKLLTXVideo(
        latent_channels=4, block_out_channels=(4, 4), decoder_block_out_channels=(4, 4), layers_per_block=(1, 1, 1),
        down_block_types=("LTXVideoDownBlock3D",) * 2, decoder_layers_per_block=(1, 1, 1),
        spatio_temporal_scaling=(True, False), decoder_spatio_temporal_scaling=(True, False), patch_size=1,
        decoder_inject_noise=(False, False, False), upsample_residual=(False, False), upsample_factor=(1, 1),
    )  # fmt: skip
    return diffusers.LTXPipeline(
        flow_scheduler(use_dynamic_shifting=True), encoder, t5(), tokenizer(), stirred(network)
    )


def text_to_video() -> Any:
    """Return a UNet of videos, whose scheduler is given one frame at a time."""
    torch.manual_seed(0)
    network = diffusers.UNet3DConditionModel(
        sample_size=16, block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2, cross_attention_dim=8,
        attention_head_dim=4, down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
    )  # fmt: skip
    scheduler = latent_scheduler("DDIMScheduler", clip_sample=False)
    return diffusers.TextToVideoSDPipeline(vae(), clip(), clip_tokenizer(), stirred(network), scheduler)


def pixels(**changes: Any) -> Any:
    """Return a UNet of images without a condition."""
    settings = {
        "sample_size": 8, "in_channels": 3, "out_channels": 3, "layers_per_block": 1, "block_out_channels": (8, 16),
        "norm_num_groups": 4, "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "attention_head_dim": 4,
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }  # fmt: skip
    torch.manual_seed(0)
    return stirred(diffusers.UNet2DModel(**settings | changes))


def ddpm() -> Any:
    """Return DDPM."""
    return diffusers.DDPMPipeline(pixels(), diffusers.DDPMScheduler())


def ddim() -> Any:
    """Return DDIM."""
    return diffusers.DDIMPipeline(pixels(), diffusers.DDIMScheduler(prediction_type="v_prediction"))


FAMILIES: dict[str, Tiny] = {
    "SD 1, 2": Tiny(stable_diffusion),
    "SDXL": Tiny(sdxl),
    "LCM": Tiny(lcm),
    "inpainting": Tiny(inpainting, call={"image": picture(), "mask_image": picture()}),
    "DiT": Tiny(dit, (), (4, 8, 8), text=False),
    "PixArt-alpha": Tiny(pixart_alpha, call={"clean_caption": False}),
    "PixArt-sigma": Tiny(pixart_sigma, call={"clean_caption": False}),
    "SD 3": Tiny(sd3, call={"max_sequence_length": 16}),
    "AuraFlow": Tiny(aura_flow, call={"max_sequence_length": 16}),
    "Flux": Tiny(flux, shape=(1, 16, 16), call={"max_sequence_length": 16}),
    "Sana": Tiny(sana, (32, 32), (4, 32, 32), {"max_sequence_length": 16, "complex_human_instruction": None}),
    "CogView4": Tiny(cogview4, call={"max_sequence_length": 16}),
    "Lumina 2": Tiny(lumina2, (64, 64), (4, 8, 8), {"max_sequence_length": 40, "cfg_normalization": False}),
    "HunyuanDiT": Tiny(hunyuan_dit),
    "PRX": Tiny(prx),
    "Wan": Tiny(wan, (5, 16, 16), (4, 3, 8, 8), {"max_sequence_length": 16}),
    "LTX": Tiny(ltx, (5, 32, 32), (4, 3, 16, 16), {"max_sequence_length": 16}),
    "CogVideoX": Tiny(cogvideox, (5, 16, 16), (4, 2, 16, 16), {"max_sequence_length": 16}),
    "Chroma": Tiny(chroma, shape=(1, 16, 16), call={"max_sequence_length": 16}),
    "SD from an image": Tiny(image_to_image, (), call={"image": picture(), "strength": 0.6}),
    "text-to-video UNet": Tiny(text_to_video, (2, 16, 16), (4, 2, 16, 16)),
    "DDPM": Tiny(ddpm, (), (3, 8, 8), text=False),
    "DDIM": Tiny(ddim, (), (3, 8, 8), text=False),
    "Qwen-Image": Tiny(qwen_image, (32, 32), (4, 16, 16), new=False),
    "Flux 2": Tiny(
        flux2, shape=(4, 8, 8), call={"max_sequence_length": 16, "text_encoder_out_layers": (1,)}, new=False
    ),
    "HunyuanVideo": Tiny(
        hunyuan_video,
        (9, 64, 64),
        (4, 3, 8, 8),
        {"max_sequence_length": 16, "prompt_template": {"template": "{}", "crop_start": 0}},
        new=False,
    ),
    "Kandinsky 5": Tiny(kandinsky5, (9, 64, 64), (4, 3, 8, 8), {"max_sequence_length": 16}),
    "Z-Image": Tiny(z_image, shape=(4, 16, 16), call={"max_sequence_length": 16}),
    "Flux Kontext": Tiny(
        flux_kontext,
        shape=(1, 16, 16),
        call={"max_sequence_length": 16, "image": picture(), "_auto_resize": False, "max_area": 256},
    ),
}
