"""Kinds of pipelines: of one state only, in half precision, of several stages; each bound or refused by name."""

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

import softmode as sm
from helpers.errors import refused
from helpers.pipelines import FAMILIES, ddpm, picture, stable_diffusion
from softmode.experiments.call import experiment, plan


@pytest.mark.parametrize("shift", [1.0, 1.1])
def test_a_wrong_shift_of_time_is_told_from_rounding(shift: float) -> None:
    """In bfloat16, whose numbers are 1 part in 128 apart: a time of another shift is off by 1 in 20 and refused."""
    pipe = FAMILIES["Flux"].build().to(torch.bfloat16)

    class Shifted(type(pipe.transformer)):  # type: ignore[misc]
        def __call__(self, *args: Any, timestep: Any, **kwargs: Any) -> Any:
            shifted = shift * timestep / (1 + (shift - 1) * timestep)
            return super().__call__(*args, timestep=shifted, **kwargs)

    pipe.transformer.__class__ = Shifted
    if shift == 1:
        assert sm.from_pipeline(pipe, ["a b"], size=(16, 16), max_sequence_length=16).shape == (1, 16, 16)
        return
    with refused("FluxPipeline calls its network at times 1, 0.8.* where its scheduler's are"):
        sm.from_pipeline(pipe, ["a b"], size=(16, 16), max_sequence_length=16)


def cascade() -> Any:
    """A pipeline of two stages."""
    pipe = stable_diffusion()
    pipe.prior_pipe, pipe.decoder_pipe = ddpm(), ddpm()
    return pipe


def embeddings() -> Any:
    """A pipeline of embeddings, as those before the stages that make images."""

    class Network(torch.nn.Module):
        config, dtype, device = {}, torch.float32, torch.device("cpu")

        def forward(self, hidden_states: Any, timestep: Any) -> Any:
            return (0.1 * hidden_states,)

    class Prior(diffusers.DDPMPipeline):
        def __init__(self, prior: Any, scheduler: Any) -> None:
            diffusers.DiffusionPipeline.__init__(self)
            self.register_modules(prior=prior, scheduler=scheduler)

        @torch.no_grad()
        def __call__(self, num_inference_steps: int = 4, generator: Any = None) -> Any:
            self.scheduler.set_timesteps(num_inference_steps)
            x = torch.randn(1, 8, generator=generator)
            for t in self.scheduler.timesteps:
                x = self.scheduler.step(self.prior(x, t)[0], t, x).prev_sample
            return x

    return Prior(Network(), diffusers.DDPMScheduler())


def one_prompt() -> Any:
    """A pipeline that takes one prompt only."""

    class One(diffusers.StableDiffusionPipeline):
        def __call__(
            self, prompt: Any = None, height: int = 16, width: int = 16, num_inference_steps: int = 50,
            guidance_scale: float = 7.5, generator: Any = None,
        ) -> Any:  # fmt: skip
            if not isinstance(prompt, str):
                raise TypeError("one prompt only")
            return super().__call__(
                prompt, height, width, num_inference_steps, guidance_scale=guidance_scale, generator=generator
            )

    parts = stable_diffusion().components
    return One(**parts, requires_safety_checker=False)


def test_a_pipeline_of_one_state_is_asked_for_one_after_another() -> None:
    """It is said, and the answers are those of the same pipeline that takes several prompts."""
    x, sigma = torch.randn(2, 4, 16, 16), torch.tensor([0.5, 2.0])
    with pytest.warns(UserWarning, match="One is not asked for several states at once"):
        model = sm.from_pipeline(one_prompt(), ["a b"])
    several = sm.from_pipeline(stable_diffusion(), ["a b"], size=(16, 16))
    torch.testing.assert_close(model.denoiser(0)(x, sigma), several.denoiser(0)(x, sigma), rtol=1e-4, atol=1e-5)


def sounding() -> Any:
    """A pipeline of sound by its name alone."""

    class AudioPipeline(diffusers.DDPMPipeline):
        pass

    return AudioPipeline(ddpm().unet, diffusers.DDPMScheduler())


def tokens_apart() -> Any:
    """A pipeline that gives some of its state another time, as one that holds a frame of a video fixed."""
    pipe = FAMILIES["Wan"].build()

    class Apart(type(pipe.transformer)):  # type: ignore[misc]
        def __call__(self, hidden_states: Any, timestep: Any, *args: Any, **kwargs: Any) -> Any:
            times = timestep[:, None].repeat(1, 48).float()
            times[:, 0] = 0
            return super().__call__(hidden_states, times, *args, **kwargs)

    pipe.transformer.__class__ = Apart
    return pipe


@pytest.mark.parametrize(
    ("build", "call", "message"),
    [
        (
            cascade,
            {"prompts": ["a"]},
            r"is a cascade of prior_pipe and decoder_pipe; .*from_pipeline\(pipe.decoder_pip",
        ),
        (embeddings, {}, r"the states of Prior are of shape \(8,\), embeddings, sound or tokens"),
        (sounding, {}, "AudioPipeline makes audio"),
        (
            FAMILIES["CogVideoX"].build,
            {"prompts": ["a"], "size": (13, 16, 16), "max_sequence_length": 16},
            "have as many frames as channels, 4, .* give another number of frames",
        ),
        (
            tokens_apart,
            {"prompts": ["a"], "size": (5, 16, 16), "max_sequence_length": 16},
            "changes hidden_states and timestep from step to step, with another time for some tokens or frames",
        ),
    ],
)
def test_kinds_that_are_refused(build: Any, call: dict[str, Any], message: str) -> None:
    with refused(message):
        sm.from_pipeline(build(), **call)


def test_a_loop_that_begins_late_is_recorded_for_enough_steps() -> None:
    """At a tenth of its steps, which of four steps is none."""
    pipe = FAMILIES["SD from an image"].build()
    assert sm.from_pipeline(pipe, ["a b"], image=picture(), strength=0.1).shape == (4, 16, 16)


@pytest.mark.filterwarnings("ignore")
def test_another_pipeline_guides_with_the_same_prompts(tmp_path: Path) -> None:
    """By its directory or alive: each prompt is pushed away from what the other makes of the same prompt."""
    pipe, other = stable_diffusion(), stable_diffusion()
    with torch.no_grad():
        other.unet.conv_in.weight.mul_(1.5)
    other.save_pretrained(tmp_path)
    prompts, x = ["a b", "c"], torch.randn(1, 4, 16, 16)
    theirs = sm.from_pipeline(other, prompts, size=(16, 16))
    settings = {"prompts": prompts, "classifier": "none", "sigma_c": 3.0, "trials": 1, "steps": 4, "half_width": 2.9}
    for guide in (other, f"diffusers:{tmp_path}"):
        made = plan(experiment("pulse"), model=pipe, guide=guide, **settings)
        for label in (0, 1):
            guides = made.guidance.denoisers[label][1]
            torch.testing.assert_close(guides(x, 1.0), theirs.denoiser(label)(x, 1.0), rtol=1e-4, atol=1e-5)
