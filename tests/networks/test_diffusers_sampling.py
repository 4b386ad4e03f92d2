"""Steps of diffusers' schedulers: the levels that their own loops visit, whatever they are asked for."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from softmode.guidance.export import sampler_levels
from softmode.guidance.guider import UNGUIDED, guidance_callback, sigma_window_guider
from softmode.networks.diffusers_sampling import Asked, load_sampling
from softmode.networks.diffusers_scheduler import is_flow, noise_table

FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
DYNAMIC = {"use_dynamic_shifting": True}
AYS = [999, 845, 730, 587, 443, 310, 193, 116, 53, 13]
# scheduler, config, what it is asked for, steps
LOOPS: dict[str, tuple[str, dict[str, Any], dict[str, Any], int]] = {
    "flow": ("FlowMatchEuler", {}, {}, 6),
    "flow-shift": ("FlowMatchEuler", {"shift": 3.0}, {}, 6),
    "flow-mu": ("FlowMatchEuler", DYNAMIC, {"mu": 0.9}, 6),
    "flow-mu-linear": ("FlowMatchEuler", DYNAMIC | {"time_shift_type": "linear"}, {"mu": 2.5}, 6),
    "flow-sigmas": ("FlowMatchEuler", {"shift": 3.0}, {"sigmas": [1.0, 0.7, 0.2]}, 3),
    "flow-mu-sigmas": ("FlowMatchEuler", DYNAMIC, {"mu": 1.15, "sigmas": [1.0, 0.75, 0.5, 0.25]}, 4),
    "flow-both": ("FlowMatchEuler", DYNAMIC, {"mu": 0.6, "sigmas": [1.0, 0.5, 0.1], "timesteps": [1000, 500, 100]}, 3),
    "flow-terminal": ("FlowMatchEuler", DYNAMIC | {"shift_terminal": 0.1}, {"mu": 0.9}, 5),
    "flow-karras": ("FlowMatchEuler", {"use_karras_sigmas": True}, {}, 5),
    "flow-heun": ("FlowMatchHeun", {"shift": 2.0}, {}, 4),
    "unipc": ("UniPC", FLOW | {"flow_shift": 8.0}, {}, 5),
    "unipc-mu": ("UniPC", FLOW | DYNAMIC, {"mu": 0.9}, 5),
    "unipc-sigmas": ("UniPC", FLOW | {"flow_shift": 3.0}, {"sigmas": [0.9, 0.5, 0.1]}, 3),
    "dpm": ("DPMSolverMultistep", FLOW | {"flow_shift": 5.0}, {}, 5),
    "dpm-mu": ("DPMSolverMultistep", FLOW | DYNAMIC, {"mu": 0.9}, 5),
    "dpm-unasked": ("DPMSolverMultistep", FLOW | DYNAMIC | {"flow_shift": 2.0}, {}, 5),
    "deis-mu": ("DEISMultistep", FLOW | DYNAMIC, {"mu": 0.9}, 5),
    "euler-timesteps": ("EulerDiscrete", {}, {"timesteps": AYS}, 10),
    "euler-sigmas": ("EulerDiscrete", {}, {"sigmas": [14.0, 6.0, 2.0, 0.7, 0.0]}, 4),
    "dpm-timesteps": ("DPMSolverMultistep", {}, {"timesteps": AYS}, 10),
    "heun-timesteps": ("HeunDiscrete", {}, {"timesteps": AYS}, 10),
    "euler-1": ("EulerDiscrete", {"timestep_spacing": "trailing"}, {}, 1),
    "euler-2": ("EulerDiscrete", {"timestep_spacing": "trailing"}, {}, 2),
    "ddim-1": ("DDIM", {"timestep_spacing": "trailing"}, {}, 1),
    "ddim-2": ("DDIM", {"timestep_spacing": "trailing"}, {}, 2),
    "dpm-2": ("DPMSolverMultistep", {}, {}, 2),
    "unipc-2": ("UniPC", {}, {}, 2),
    "flow-1": ("FlowMatchEuler", {"shift": 3.0}, {}, 1),
    "flow-2": ("FlowMatchEuler", DYNAMIC, {"mu": 1.15}, 2),
}  # fmt: skip


def make(name: str, config: dict[str, Any]) -> Any:
    kind = getattr(diffusers, f"{name}Scheduler", None) or getattr(diffusers, f"{name}DiscreteScheduler", None)
    return (kind or getattr(diffusers, f"{name}MultistepScheduler"))(**config)


def visited(scheduler: Any, begin: int = 0, each: Callable[[int, Any], None] = lambda _i, _t: None) -> list[float]:
    """Return the noise level of every state that a scheduler's loop feeds to its network; each is called beforehand.

    The network always sees the same x_0 and the same noise, orthogonal fields, and says so; the state is then a
    combination of these two, whose ratio is the level.
    """
    x_0, eps = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2), torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    flow, found = is_flow(scheduler), []
    if begin:
        scheduler.set_begin_index(begin)
    first = scheduler.timesteps[begin : begin + 1]
    if hasattr(scheduler, "scale_noise"):
        x = scheduler.scale_noise(x_0, first, eps)
    elif flow:
        s = scheduler.sigmas[begin]
        x = (1 - s) * x_0 + s * eps
    else:
        x = scheduler.add_noise(x_0, eps, first)
    for i, t in enumerate(scheduler.timesteps[begin:]):
        each(i, t)
        fed = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        signal, noise = fed.flatten().tolist()
        found.append(noise / signal if signal > 1e-6 else math.inf)
        x = scheduler.step(eps - x_0 if flow else eps, t, x, return_dict=False)[0]
    return found


def asked_for(loop: str) -> tuple[Any, Asked, int]:
    """Return a scheduler whose steps are set, what it was asked for, and their number."""
    name, config, asked, steps = LOOPS[loop]
    scheduler = make(name, config)
    if {"sigmas", "timesteps"} & asked.keys():
        # as pipelines write them
        scheduler.set_timesteps(**{k: np.array(v) if k == "sigmas" else v for k, v in asked.items()})
    else:
        scheduler.set_timesteps(steps, **asked)
    return scheduler, Asked(**asked), steps


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("loop", LOOPS)
def test_levels_are_those_of_the_scheduler_s_own_loop(loop: str) -> None:
    name, config, _, _ = LOOPS[loop]
    scheduler, asked, steps = asked_for(loop)
    untouched = make(name, config)
    before = untouched.timesteps.tolist()
    levels = sampler_levels(untouched, steps, asked).tolist()
    if asked.sigmas or asked.timesteps:
        assert sampler_levels(untouched, None, asked).tolist() == levels
    assert untouched.timesteps.tolist() == before, "the pipeline's own scheduler is left as it is"
    assert flow_times(levels) == pytest.approx(flow_times(visited(scheduler)), abs=2e-3)
    assert len(levels) == len(scheduler.timesteps)


def flow_times(levels: list[float]) -> list[float]:
    return [level / (1 + level) if level < 1e5 else 1.0 for level in levels]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("late", [False, True], ids=["from noise", "from an image"])
@pytest.mark.parametrize("loop", [name for name, (*_, steps) in LOOPS.items() if steps > 2])
def test_guider_and_callback_guide_the_levels_inside(loop: str, late: bool) -> None:
    """Whatever a pipeline asks its scheduler for, and wherever its loop begins, as the loop itself shows."""
    scheduler, asked, steps = asked_for(loop)
    begin = 0 if not late else 4 if len(scheduler.timesteps) > 8 else 2
    if not hasattr(scheduler, "set_begin_index"):
        begin = 0
    levels = sampler_levels(make(*LOOPS[loop][:2]), steps, asked)[begin:].unique().flip(0).tolist()
    # around the second of its levels, or the first if there is but one
    middle = levels[min(1, len(levels) - 1)]
    low, high = 0.9 * middle, 1.05 * middle
    guider, pipe, inside, scales = sigma_window_guider(scheduler, low, high, 3.0), type("Pipe", (), {})(), [], []
    first, callback = guidance_callback(scheduler, steps, low, high, 3.0, begin, **asked._asdict())
    pipe._guidance_scale = first

    def each(i: int, t: Any) -> None:
        guider.set_state(i, steps, t)
        inside.append(guider._is_cfg_enabled())
        scales.append(pipe._guidance_scale)
        callback(pipe, i, t, {})

    expected = [low < level <= high for level in visited(scheduler, begin, each)]
    assert any(expected)
    assert inside == expected
    assert scales == [3.0 if guided else UNGUIDED for guided in expected]


@pytest.mark.parametrize("begin", [3, 4])
def test_a_loop_that_is_not_what_was_described_is_told_of_and_followed(begin: int) -> None:
    """Another mu, and from an image: the first step is scaled beforehand, every later one by the level it really has.

    Levels were to be 1.64 at the third step and 0.62 at the fourth; they are 3.31 and 1.24.
    """
    scheduler = make("FlowMatchEuler", DYNAMIC)
    low, high = 1.0, 2.0
    first, callback = guidance_callback(scheduler, 6, low, high, 3.0, mu=0.9)
    assert first == UNGUIDED
    scheduler.set_timesteps(6, mu=1.6)
    pipe, scales = type("Pipe", (), {})(), [first]

    def each(i: int, t: Any) -> None:
        pipe._guidance_scale = None
        if i == 0 and begin == 4:
            with pytest.warns(
                UserWarning, match=r"guider: the loop began at sigma = 1.24.*, not inf, so its first step"
            ):
                callback(pipe, i, t, {})
        else:
            callback(pipe, i, t, {})
        scales.append(pipe._guidance_scale)

    levels = visited(scheduler, begin, each)
    assert levels[4 - begin] == pytest.approx(1.244, abs=1e-2)
    assert scales[1:-1] == [3.0 if low < level <= high else UNGUIDED for level in levels[1:]]
    assert scales[-1] is None


@pytest.mark.parametrize(
    ("name", "config", "steps", "asked", "message"),
    [
        ("FlowMatchEuler", DYNAMIC, 4, {}, "mu: FlowMatchEulerDiscreteScheduler shifts its steps by the size of an"),
        ("UniPC", FLOW | DYNAMIC, 4, {}, "mu: UniPCMultistepScheduler shifts its steps by the size"),
        ("FlowMatchEuler", {"shift": 3.0}, 4, {"mu": 1.0}, "mu: got 1; FlowMatchEulerDiscreteScheduler has a fixed"),
        ("EulerDiscrete", {}, 4, {"mu": 1.0}, "mu: got 1; EulerDiscreteScheduler shifts nothing.*: leave it out"),
        ("FlowMatchEuler", DYNAMIC, 4, {"mu": math.nan}, "mu: got nan; expected -20 to 20"),
        ("FlowMatchEuler", DYNAMIC, 4, {"mu": 1e3}, "mu: got 1000; expected -20 to 20"),
        ("FlowMatchEuler", DYNAMIC | {"time_shift_type": "linear"}, 4, {"mu": 0.0}, "mu: got 0; expected above 0 and"),
        ("DDIM", {}, 3, {"sigmas": [3.0, 2.0, 1.0]}, r"sigmas: got \[3, 2, 1\]; DDIMScheduler takes none: leave"),
        ("HeunDiscrete", {}, 3, {"sigmas": [3.0, 2.0, 1.0]}, "sigmas: got .*; HeunDiscreteScheduler takes none"),
        ("EDMEuler", {}, 3, {"timesteps": [3, 2, 1]}, r"timesteps: got \[3, 2, 1\]; EDMEulerScheduler takes none"),
        ("UniPC", {}, 3, {"sigmas": [3.0, 2.0, 1.0]}, "sigmas: got .*, of which UniPCMultistepScheduler makes no"),
        ("FlowMatchEuler", {}, 3, {"sigmas": [0.1, 0.5, 1.0]}, r"sigmas: got \[0.1, 0.5, 1\]; expected falling"),
        ("FlowMatchEuler", {}, 3, {"sigmas": []}, r"sigmas: got \[\]; expected 1 to 100000 finite numbers"),
        ("FlowMatchEuler", {}, 2, {"sigmas": [1.0, math.nan]}, r"sigmas: got \[1, nan\]; expected 1 to"),
        ("FlowMatchEuler", {}, 2, {"sigmas": [10.0, 1.0]}, "scheduler: FlowMatchEulerDiscreteScheduler has a flow's"),
        ("FlowMatchEuler", {}, 9, {"sigmas": [1.0, 0.5]}, "sigmas: got 2 steps of FlowMatch.* in place of 9"),
        ("DDPM", {}, 9, {"timesteps": [900, 100]}, "timesteps: got 2 steps of DDPMScheduler in place of 9"),
        ("FlowMatchEuler", {"invert_sigmas": True}, 4, {}, "scheduler: FlowMatch.* from noise to data"),
        ("DPMSolverMultistep", FLOW | {"use_karras_sigmas": True}, 4, {}, "its options do not go together"),
    ],
)
def test_what_a_scheduler_does_not_take_is_refused(
    name: str, config: dict[str, Any], steps: int, asked: dict[str, Any], message: str
) -> None:
    """By the steps, the callback and, where a table says it, the guider alike."""
    scheduler = make(name, config)
    with pytest.raises(ValueError, match=message) as error:
        sampler_levels(scheduler, steps, Asked(**asked))
    assert len(str(error.value)) <= 300
    with pytest.raises(ValueError, match=message):
        guidance_callback(scheduler, steps, 0.5, 2.0, 3.0, **asked)


def test_a_flow_of_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="scheduler: the flow of HeliosScheduler is not known; use FlowMatchEuler"):
        noise_table(diffusers.HeliosScheduler())


@pytest.mark.parametrize("name", ["UniPC", "DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep"])
@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0, 8.0])
@pytest.mark.filterwarnings("ignore")
def test_percents_know_the_shift_of_every_solver(name: str, shift: float) -> None:
    """At s = 0.9 (sigma 9), s = shift t / (1 + (shift - 1) t) at t = 1 - percent; mu is the log of a shift."""
    percent = 1 - 0.9 / (shift - (shift - 1) * 0.9)
    table = noise_table(make(name, FLOW | {"flow_shift": shift}))
    assert table.percent(9.0) == pytest.approx(percent)
    if name != "DPMSolverSinglestep":
        dynamic = make(name, FLOW | DYNAMIC)
        assert noise_table(dynamic, math.log(shift)).percent(9.0) == pytest.approx(percent)
    # so many of the loop's steps lie above
    above = int((sampler_levels(make(name, FLOW | {"flow_shift": shift}), 40) > 9).sum())
    assert above == pytest.approx(40 * percent, abs=1.01)


def tiny_pipelines() -> dict[str, Callable[[Any], tuple[Any, dict[str, Any]]]]:
    """Return tiny pipelines of a scheduler by name, each with what it is called with."""
    text, some = {"prompt_embeds": torch.randn(1, 3, 6)}, {"pooled_prompt_embeds": torch.randn(1, 6)}
    mask = {"prompt_attention_mask": torch.ones(1, 3, dtype=torch.bool)}
    small = {"num_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2}
    rope = {"axes_dims_rope": (2, 2, 4), "joint_attention_dim": 6}

    def flux(scheduler: Any) -> Any:
        network = diffusers.FluxTransformer2DModel(
            patch_size=1, in_channels=4, num_single_layers=1, pooled_projection_dim=6, **small, **rope
        )  # fmt: skip
        return diffusers.FluxPipeline(scheduler, None, None, None, None, None, network), text | some

    def chroma(scheduler: Any) -> Any:
        network = diffusers.ChromaTransformer2DModel(
            patch_size=1, in_channels=4, num_single_layers=1, approximator_num_channels=8, approximator_hidden_dim=8,
            approximator_layers=1, **small, **rope,
        )  # fmt: skip
        return diffusers.ChromaPipeline(scheduler, None, None, None, network), text | mask | {"guidance_scale": 1.0}

    def sd3(scheduler: Any) -> Any:
        network = diffusers.SD3Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=4, out_channels=4, joint_attention_dim=6,
            caption_projection_dim=16, pooled_projection_dim=6, **small,
        )  # fmt: skip
        negative = {f"negative_{name}": -value for name, value in (text | some).items()}
        made = diffusers.StableDiffusion3Pipeline(network, scheduler, *[None] * 7)
        return made, text | some | negative

    def cogview(scheduler: Any) -> Any:
        network = diffusers.CogView4Transformer2DModel(
            patch_size=2, in_channels=4, out_channels=4, text_embed_dim=6, time_embed_dim=8, condition_dim=4,
            sample_size=8, **small,
        )  # fmt: skip
        return diffusers.CogView4Pipeline(None, None, None, network, scheduler), text | {"guidance_scale": 1.0}

    def lumina(scheduler: Any) -> Any:
        network = diffusers.Lumina2Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=4, hidden_size=24, num_layers=1, num_refiner_layers=1,
            num_attention_heads=3, num_kv_heads=1, multiple_of=2, axes_dim_rope=(4, 2, 2), axes_lens=(32, 32, 32),
            cap_feat_dim=6,
        )  # fmt: skip
        return diffusers.Lumina2Pipeline(network, scheduler, None, None, None), text | mask | {"guidance_scale": 1.0}

    def qwen(scheduler: Any) -> Any:
        network = diffusers.QwenImageTransformer2DModel(patch_size=2, in_channels=4, out_channels=1, **small, **rope)
        made = diffusers.QwenImagePipeline(scheduler, None, None, None, network)
        return made, text | {"prompt_embeds_mask": torch.ones(1, 3, dtype=torch.long), "true_cfg_scale": 1.0}

    return {"flux": flux, "chroma": chroma, "sd3": sd3, "cogview": cogview, "lumina": lumina, "qwen": qwen}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shift", [{"shift": 3.0}, DYNAMIC], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("name", ["flux", "chroma", "sd3", "cogview", "lumina", "qwen"])
def test_steps_are_those_that_its_own_pipeline_asks_for(name: str, shift: dict[str, Any], tmp_path: Path) -> None:
    """mu of two sizes and levels, read off the folder, are those of the scheduler after the pipeline's loop."""
    ends = {"base_image_seq_len": 4, "max_image_seq_len": 40, "base_shift": 0.4, "max_shift": 1.3}
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**shift, **ends)
    pipe, call = tiny_pipelines()[name](scheduler)
    pipe.save_pretrained(tmp_path)
    pipe.set_progress_bar_config(disable=True)
    found = []
    for width in (64, 96):
        pipe(height=64, width=width, num_inference_steps=5, output_type="latent", **call)
        # packed states have four sites of one channel in a token
        shape = (4 if name in ("sd3", "cogview", "lumina") else 1, 8, width // 8)
        sampling = load_sampling(f"diffusers:{tmp_path}", shape)
        found.append(flow_times(sampler_levels(sampling.scheduler, 5, sampling.asked(5)).tolist()))
        assert found[-1] == pytest.approx(pipe.scheduler.sigmas[:-1].tolist(), abs=1e-5)
    assert (found[0] == found[1]) == (shift != DYNAMIC or name == "lumina"), "the size matters where the shift depends"
    # an explicit mu goes before the size
    if shift == DYNAMIC:
        assert load_sampling(f"diffusers:{tmp_path}", mu=0.7).mu == 0.7
        assert load_sampling(f"diffusers:{tmp_path}").mu is not None


@pytest.mark.parametrize("config", [{}, {"in_channels": "x", "patch_size": 2}, {"in_channels": 4, "patch_size": 0}])
@pytest.mark.parametrize("kind", ["FluxPipeline", "StableDiffusion3Pipeline"])
def test_a_network_that_is_none_of_its_pipeline_s_has_no_mu(kind: str, config: dict[str, Any], tmp_path: Path) -> None:
    scheduler = make("FlowMatchEuler", DYNAMIC)
    scheduler.save_pretrained(tmp_path / "scheduler")
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text(json.dumps(config))
    parts = {"transformer": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", type(scheduler).__name__]}
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind, **parts}))
    sampling = load_sampling(f"diffusers:{tmp_path}")
    if sampling.mu is None:
        with pytest.raises(ValueError, match=r"mu: FlowMatch.* give --mu"):
            sampler_levels(sampling.scheduler, 4, sampling.asked(4))
    else:
        assert config.get("in_channels") == 4
        assert kind == "FluxPipeline", "which has no patches"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("begin", [0, 4], ids=["from noise", "from an image"])
def test_a_pipeline_with_a_shift_by_size_guides_the_steps_inside(begin: int) -> None:
    """Stable Diffusion 3's own loops: their scheduler is fed guided velocities inside, conditional ones outside."""
    scheduler = make("FlowMatchEuler", DYNAMIC)
    pipe, call = tiny_pipelines()["sd3"](scheduler)
    if begin:
        up, down = ["UpDecoderBlock2D"] * 4, ["DownEncoderBlock2D"] * 4
        vae = diffusers.AutoencoderKL(
            block_out_channels=(2, 2, 2, 2), norm_num_groups=2, down_block_types=down, up_block_types=up
        )  # fmt: skip
        pipe = diffusers.StableDiffusion3Img2ImgPipeline(**pipe.components | {"vae": vae})
        call = call | {"image": torch.randn(1, 4, 8, 8), "strength": 0.6, "mu": 0.9}
    else:
        call = call | {"mu": 0.9}
    pipe.set_progress_bar_config(disable=True)
    outs, fed, step = [], [], scheduler.step
    pipe.transformer.register_forward_hook(lambda _m, _i, out: outs.append(out[0].detach()))
    scheduler.step = lambda out, *rest, **more: (fed.append(out.detach()), step(out, *rest, **more))[1]
    low, high = 0.3, 3.5 if not begin else 1.2
    scale, callback = guidance_callback(scheduler, 10, low, high, 3.0, begin, mu=0.9)
    pipe(
        height=64, width=64, num_inference_steps=10, guidance_scale=scale, callback_on_step_end=callback,
        output_type="latent", **call,
    )  # fmt: skip
    scales = []
    for both, used in zip(outs, fed, strict=True):
        uncond, cond = both.chunk(2)
        scales.append(float(((used - uncond) * (cond - uncond)).sum() / (cond - uncond).square().sum()))
    s = scheduler.sigmas[begin:-1].double()
    expected = [3.0 if low < level <= high else 1.0 for level in (s / (1 - s)).tolist()]
    assert len(scales) == 10 - begin
    assert 3.0 in expected[1:]
    assert 1.0 in expected
    assert scales == pytest.approx(expected, abs=1e-2)
