"""The guider and the callback: run in diffusers' own loops, they guide exactly the steps inside the window."""

from typing import Any

import diffusers
import pytest
import torch
from diffusers.modular_pipelines import PipelineState
from diffusers.modular_pipelines.stable_diffusion_xl.denoise import StableDiffusionXLDenoiseStep

from helpers.errors import refused
from softmode.guidance.export import sampler_levels
from softmode.guidance.guider import (
    UNGUIDED,
    guidance_callback,
    sigma_weights_guider,
    sigma_window_guider,
    weights_callback,
)
from softmode.guidance.weights import Interval, Weights, guided_steps
from softmode.networks.diffusers_scheduler import noise_table

SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SCHEDULERS = {
    "ddim": lambda: diffusers.DDIMScheduler(**SCALED),
    "euler": lambda: diffusers.EulerDiscreteScheduler(**SCALED),
    "euler-karras": lambda: diffusers.EulerDiscreteScheduler(**SCALED, use_karras_sigmas=True),
    "dpm-karras": lambda: diffusers.DPMSolverMultistepScheduler(**SCALED, use_karras_sigmas=True),
    "heun": lambda: diffusers.HeunDiscreteScheduler(**SCALED),
}
LOW, HIGH = 0.6, 4.0


class TinyUNet(torch.nn.Module):
    """Stands for a text UNet: notes the condition of every call; the first entry of a prompt tells which it is."""

    config = diffusers.configuration_utils.FrozenDict({"time_cond_proj_dim": None, "in_channels": 4, "sample_size": 8})
    dtype = torch.float32
    add_embedding = None

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[float, list[int]]] = []

    def forward(self, x: torch.Tensor, t: Any, encoder_hidden_states: torch.Tensor, **_rest: Any) -> Any:
        self.calls.append((float(t), encoder_hidden_states[:, 0, 0].int().tolist()))
        return (0.1 * x * encoder_hidden_states[:, :1, :1, None],)


def modular_calls(scheduler: Any, guider: Any, steps: int, begin: int = 0) -> list[tuple[float, list[int]]]:
    """Run the denoising loop of the modular Stable Diffusion XL pipeline and return the network's calls.

    From an image it begins late, and tells the scheduler so if that listens.
    """
    scheduler.set_timesteps(steps)
    if begin and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    loop, unet = StableDiffusionXLDenoiseStep(), TinyUNet()
    loop.set_progress_bar_config(disable=True) if hasattr(loop, "set_progress_bar_config") else None
    components = type("Components", (), {"scheduler": scheduler, "guider": guider, "unet": unet})()
    state = PipelineState()
    values = {
        "latents": torch.randn(1, 4, 8, 8), "timesteps": scheduler.timesteps[begin:], "num_inference_steps": steps,
        "prompt_embeds": torch.ones(1, 2, 3), "negative_prompt_embeds": torch.zeros(1, 2, 3),
        "add_time_ids": torch.ones(1, 6), "negative_add_time_ids": torch.ones(1, 6),
        "pooled_prompt_embeds": torch.ones(1, 3), "negative_pooled_prompt_embeds": torch.zeros(1, 3),
        "eta": 0.0, "generator": None, "timestep_cond": None, "cross_attention_kwargs": None,
    }  # fmt: skip
    inputs = ("prompt_embeds", "negative_prompt_embeds", "add_time_ids", "negative_add_time_ids",
              "pooled_prompt_embeds", "negative_pooled_prompt_embeds")  # fmt: skip
    for name, value in values.items():
        state.set(name, value, "denoiser_input_fields" if name in inputs else None)
    loop(components, state)
    return unet.calls


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("steps", [7, 30])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_modular_loop_guides_the_steps_inside_the_window(name: str, steps: int) -> None:
    """Two calls of the network where the level is inside, one elsewhere, whatever the schedule."""
    scheduler = SCHEDULERS[name]()
    guider = sigma_window_guider(scheduler, LOW, HIGH, guidance_scale=3.0)
    calls = modular_calls(scheduler, guider, steps)
    levels = sampler_levels(scheduler, steps)
    expected = [
        conditions for level in levels.tolist() for conditions in ([[1], [0]] if LOW < level <= HIGH else [[1]])
    ]
    assert [conditions for _, conditions in calls] == expected
    assert len(expected) > len(levels)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_loop_that_begins_late_guides_the_same_levels(name: str) -> None:
    """From an image the first of the loop's steps is not the scheduler's: DDIM knows it by its timestep alone."""
    scheduler, begin = SCHEDULERS[name](), 12 if name == "heun" else 6
    guider = sigma_window_guider(scheduler, 0.3, 1.0, guidance_scale=3.0)
    calls = modular_calls(scheduler, guider, 10, begin)
    levels = sampler_levels(scheduler, 10)[begin:].tolist()
    guided = [0.3 < level <= 1.0 for level in levels]
    assert any(guided)
    assert not all(guided)
    assert [conditions for _, conditions in calls] == [
        conditions for inside in guided for conditions in ([[1], [0]] if inside else [[1]])
    ]


@pytest.mark.parametrize("begin", [None, 6], ids=["of the scheduler", "given"])
def test_guider_and_callback_know_where_the_loop_begins(begin: int | None) -> None:
    """The levels from the sixth step on are 1.46, 0.82, 0.38 and 0.03: the first two lie in (0.5, 3]."""
    scheduler = SCHEDULERS["euler"]()
    scheduler.set_timesteps(10)
    if begin is None:
        scheduler.set_begin_index(6)
    scale, callback = guidance_callback(scheduler, 10, 0.5, 3.0, 2.0, begin)
    guider, pipe, scales = sigma_window_guider(scheduler, 0.5, 3.0, 2.0), type("Pipe", (), {})(), [scale]
    asked = []
    for step, t in enumerate(scheduler.timesteps[6:]):
        guider.set_state(step, 10, t)
        asked.append(guider._is_cfg_enabled())
        pipe._guidance_scale = None
        callback(pipe, step, t, {})
        scales.append(pipe._guidance_scale)
    assert asked == [True, True, False, False]
    assert scales == [2.0, 2.0, UNGUIDED, UNGUIDED, None]


@pytest.mark.parametrize("begin", [-1, 10, 99])
def test_a_loop_that_begins_beyond_the_steps_is_refused(begin: int) -> None:
    with pytest.raises(ValueError, match=f"begin: got {begin}; expected 0 to 9, a timestep of the sampler"):
        guidance_callback(SCHEDULERS["euler"](), 10, 0.5, 3.0, 2.0, begin)


@pytest.mark.parametrize("ulps", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_ends_that_are_levels_up_to_float32_guide_the_same_steps(name: str, ulps: int) -> None:
    """The level at the upper end is guided and the one at the lower is not, whatever a processor's last digits."""
    scheduler = SCHEDULERS[name]()
    levels = sampler_levels(scheduler, 10)
    low, high = (float(levels[i].float() * (1 + ulps * 2.0**-23)) for i in (7, 3))
    expected = [high * 1.001 > level > low * 1.001 for level in levels.tolist()]
    guider = sigma_window_guider(scheduler, low, high, 2.0)
    scheduler.set_timesteps(10)
    asked = []
    for step, t in enumerate(scheduler.timesteps):
        guider.set_state(step, 10, t)
        asked.append(guider._is_cfg_enabled())
    assert asked == expected
    scale, callback = guidance_callback(scheduler, 10, low, high, 2.0)
    pipe, scales = type("Pipe", (), {})(), [scale]
    for step, t in enumerate(scheduler.timesteps[:-1]):
        callback(pipe, step, t, {})
        scales.append(pipe._guidance_scale)
    assert [scale == 2.0 for scale in scales] == expected


@pytest.mark.filterwarnings("ignore")
def test_fractions_of_the_steps_would_guide_others() -> None:
    """diffusers' own guider, given the window's percent as its start and stop, misses it on a Karras schedule."""
    from diffusers.guiders import ClassifierFreeGuidance

    scheduler = SCHEDULERS["euler-karras"]()
    table = noise_table(scheduler)
    theirs = ClassifierFreeGuidance(3.0, start=table.percent(HIGH), stop=table.percent(LOW))
    ours = sigma_window_guider(scheduler, LOW, HIGH, guidance_scale=3.0)
    calls = [modular_calls(SCHEDULERS["euler-karras"](), theirs, 30), modular_calls(scheduler, ours, 30)]
    assert calls[0] != calls[1]


def classic_scales(kind: Any, scheduler: Any, steps: int, begin: int, guided: tuple[float, Any]) -> list[float]:
    """Run a Stable Diffusion pipeline with a scale and callback; return the scale that each step was guided with."""
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
        norm_num_groups=4, cross_attention_dim=6, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, layers_per_block=1)
    pipe = kind(vae, None, None, unet, scheduler, None, None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    outs, fed = [], []
    unet.register_forward_hook(lambda _m, _i, out: outs.append(out[0].detach()))
    step = scheduler.step
    scheduler.step = lambda out, *rest, **more: (fed.append(out.detach()), step(out, *rest, **more))[1]
    scale, callback = guided
    where = {"image": torch.randn(1, 4, 8, 8), "strength": 0.4} if begin else {"height": 8, "width": 8}
    pipe(
        prompt_embeds=torch.randn(1, 3, 6), negative_prompt_embeds=torch.randn(1, 3, 6), num_inference_steps=steps,
        guidance_scale=scale, callback_on_step_end=callback, output_type="latent", **where,
    )  # fmt: skip
    scales = []
    for both, used in zip(outs, fed, strict=True):
        uncond, cond = both.chunk(2)
        scales.append(float(((used - uncond) * (cond - uncond)).sum() / (cond - uncond).square().sum()))
    return scales


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_classic_pipeline_guides_the_steps_inside_the_window(name: str) -> None:
    """Stable Diffusion's own loop with the callback: its scheduler is fed guided noise inside, conditional outside."""
    scheduler = SCHEDULERS[name]()
    callback = guidance_callback(scheduler, 12, LOW, HIGH, guidance_scale=3.0)
    scales = classic_scales(diffusers.StableDiffusionPipeline, scheduler, 12, 0, callback)
    levels = sampler_levels(SCHEDULERS[name](), 12)
    guided = guided_steps(Interval(LOW, HIGH), levels)
    assert guided
    assert scales == pytest.approx([3.0 if i in guided else 1.0 for i in range(len(levels))], abs=1e-2)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_classic_pipeline_from_an_image_guides_the_steps_inside_the_window(name: str) -> None:
    """At strength 0.4 of 10 steps the loop begins late, inside the window or before it."""
    begin = 12 if name == "heun" else 6
    levels = sampler_levels(SCHEDULERS[name](), 10)[begin:]
    first, second, third = levels.unique().flip(0)[:3].tolist()
    for low, high in ((1.01 * third, 2 * first), (0.99 * third, 1.01 * second)):
        scheduler = SCHEDULERS[name]()
        callback = guidance_callback(scheduler, 10, low, high, guidance_scale=3.0, begin=begin)
        scales = classic_scales(diffusers.StableDiffusionImg2ImgPipeline, scheduler, 10, begin, callback)
        expected = [3.0 if low < level <= high else 1.0 for level in levels.tolist()]
        assert 3.0 in expected
        assert scales == pytest.approx(expected, abs=1e-2)


# levels of another sampler than any of these, none of whose own equals one
SCHEDULE = Weights(
    torch.tensor([20.0, 6.0, 2.5, 0.9, 0.2], dtype=torch.float64),
    torch.tensor([1.0, 0.0, 4.0, 2.0, 0.0], dtype=torch.float64),
)


def nearest(levels: torch.Tensor) -> list[float]:
    """Return the scale at the schedule's nearest level, by the distance of logarithms."""
    return (1 + SCHEDULE.weights[(levels.log()[:, None] - SCHEDULE.levels.log()).abs().argmin(1)]).tolist()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("begin", [0, 4])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_schedule_scales_every_step_of_the_modular_loop_by_its_level(name: str, begin: int) -> None:
    """The network's answer without condition is 0: what the scheduler is fed over the other one is the scale."""
    scheduler, fed, given = SCHEDULERS[name](), [], []
    guider = sigma_weights_guider(scheduler, SCHEDULE)
    step, scaled = scheduler.step, scheduler.scale_model_input
    scheduler.step = lambda out, *rest, **more: (fed.append(out), step(out, *rest, **more))[1]
    scheduler.scale_model_input = lambda *args: (given.append(scaled(*args)), given[-1])[1]
    begin = 2 * begin if name == "heun" else begin
    calls = modular_calls(scheduler, guider, 12, begin)
    expected = nearest(sampler_levels(SCHEDULERS[name](), 12)[begin:])
    assert len(set(expected)) > 2
    scales = [float((out / x).mean()) / 0.1 for out, x in zip(fed, given, strict=True)]
    assert scales == pytest.approx(expected, rel=1e-4)
    assert len(calls) == sum(1 + (scale != 1) for scale in expected), "unguided steps call the network once"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_schedule_scales_every_step_of_the_classic_pipeline_by_its_level(name: str) -> None:
    scheduler = SCHEDULERS[name]()
    guided = weights_callback(scheduler, 12, SCHEDULE)
    scales = classic_scales(diffusers.StableDiffusionPipeline, scheduler, 12, 0, guided)
    expected = nearest(sampler_levels(SCHEDULERS[name](), 12))
    assert len(set(expected)) > 2
    assert scales == pytest.approx(expected, abs=1e-2)


def test_a_schedule_that_no_step_can_follow_is_refused() -> None:
    scheduler = SCHEDULERS["euler"]()
    low = Weights(SCHEDULE.levels, torch.tensor([0, 0, 0, 0, 1.0], dtype=torch.float64))
    with refused(r"sampler_steps: w\(sigma\) is 0 at all of these 2, from 14.61 to 0.83\d*: use more steps, or other"):
        weights_callback(scheduler, 2, low, timesteps=[999, 300])
    with refused("weights: got -0.5; expected 0 or more: a pipeline with guidance_scale"):
        weights_callback(scheduler, 12, Weights(SCHEDULE.levels, SCHEDULE.weights - 0.5))


def test_a_window_between_the_steps_is_refused() -> None:
    scheduler = SCHEDULERS["euler"]()
    with pytest.raises(ValueError, match="sampler_steps: none of these 4 falls into"):
        guidance_callback(scheduler, 4, 3.0, 3.1, 2.0)
    with pytest.raises(ValueError, match="interval: got"):
        sigma_window_guider(scheduler, 3.0, 1.0, 2.0)
    assert UNGUIDED > 1
