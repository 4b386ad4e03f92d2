"""A pipeline's own scheduler under guidance: its own call, derivatives by the weight at each level, and refusals."""

import functools
from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from helpers.errors import refused
from helpers.models import mixture_model, two_gaussians
from helpers.pipeline_parts import flow_scheduler, latent_scheduler, picture
from helpers.pipelines import dit, image_to_image, sd3, stable_diffusion
from softmode.guidance.adjoint import Adjoint
from softmode.model import Model
from softmode.networks.diffusers_steps import SchedulerSteps, check_deterministic, scheduler_steps
from softmode.networks.pipeline import from_pipeline

PROMPTS, STEPS, WEIGHT = ("a b", "c"), 5, 1.5
# what a pipeline may sample with, and the kind of its network
SCHEDULERS: dict[str, Any] = {
    "ddim": lambda: latent_scheduler("DDIMScheduler", clip_sample=False),
    "euler": lambda: latent_scheduler("EulerDiscreteScheduler", timestep_spacing="leading"),
    "dpm++2m": lambda: latent_scheduler("DPMSolverMultistepScheduler"),
    "dpm++2m karras": lambda: latent_scheduler("DPMSolverMultistepScheduler", use_karras_sigmas=True),
    "unipc": lambda: latent_scheduler("UniPCMultistepScheduler"),
    "deis": lambda: latent_scheduler("DEISMultistepScheduler"),
    "flow": lambda: flow_scheduler(shift=3.0),
}


@functools.cache
def pipeline(name: str) -> tuple[Any, Model]:
    """Return a tiny pipeline with a scheduler, and its model."""
    scheduler = SCHEDULERS[name]()
    if name == "flow":
        pipe, more = sd3(), {"max_sequence_length": 16}
        pipe.scheduler = scheduler
    else:
        pipe, more = stable_diffusion(scheduler), {}
    return pipe, from_pipeline(pipe, PROMPTS, "d", (16, 16), **more)


def start(steps: SchedulerSteps, model: Model) -> Tensor:
    noise = torch.randn(1, *model.shape, generator=torch.Generator().manual_seed(3))
    return noise * float(getattr(steps.scheduler, "init_noise_sigma", 1.0))


def adjoint_of(steps: SchedulerSteps, x: Tensor, denoiser: Any, guide: Any) -> Adjoint:
    def sample(function: Any) -> Tensor:
        *_, final = steps.states(function, x)
        return final

    return Adjoint(sample, steps.asked(denoiser), steps.asked(guide), steps.levels)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_guided_samples_are_those_of_the_pipeline_s_own_call(name: str) -> None:
    """From the same noise, at a constant guidance_scale of 1 + w, whatever the scheduler; which is left as it was."""
    pipe, model = pipeline(name)
    before = pipe.scheduler.timesteps.tolist()
    steps = scheduler_steps(model, model, [1], STEPS)
    x = start(steps, model)
    assert model.dropped is not None
    found = adjoint_of(steps, x, model.denoiser(1), model.dropped(1)).guided(torch.full((1, STEPS), WEIGHT))
    again = adjoint_of(steps, x, model.denoiser(1), model.dropped(1)).guided(torch.full((1, STEPS), WEIGHT))
    assert pipe.scheduler.timesteps.tolist() == before
    torch.testing.assert_close(found, again, rtol=0, atol=0)
    pipe.set_progress_bar_config(disable=True)
    more = {"max_sequence_length": 16} if name == "flow" else {}
    # pipelines scale their noise themselves
    latents = x / float(getattr(steps.scheduler, "init_noise_sigma", 1.0))
    theirs = pipe(
        PROMPTS[1], negative_prompt="d", latents=latents, num_inference_steps=STEPS, guidance_scale=1 + WEIGHT,
        output_type="latent", height=16, width=16, **more,
    ).images  # fmt: skip
    torch.testing.assert_close(found, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


class Smooth(torch.nn.Module):
    """A small network of states and times, in float64."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.last = (torch.nn.Conv2d(a, b, 3, padding=1, dtype=torch.float64) for a, b in ((4, 6), (6, 4)))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return a prediction."""
        return self.last(torch.tanh(self.first(x) + 1e-3 * t.reshape(-1, 1, 1, 1)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["ddim", "dpm++2m", "unipc", "flow"])
@pytest.mark.parametrize("strength", [0.0, 1.2])
def test_derivatives_are_those_of_central_differences(name: str, strength: float) -> None:
    """Of the weight at every level, which a scheduler of several steps lets act in later ones too.

    Schedulers move states in float32, so that differences are wide.
    """
    _, model = pipeline(name)
    steps = scheduler_steps(model, model, [0], STEPS)
    own, guide = (replace(model.denoiser(0), network=Smooth(seed), module=None) for seed in (1, 2))
    generator = torch.Generator().manual_seed(0)
    scale = float(getattr(steps.scheduler, "init_noise_sigma", 1.0))
    adjoint = adjoint_of(steps, scale * torch.randn(1, 4, 4, 4, generator=generator, dtype=torch.float64), own, guide)
    weights = torch.full((1, STEPS), strength, dtype=torch.float64)
    outcome = lambda final: final.flatten(1).square().mean(1).log()  # noqa: E731
    found, width = adjoint.sweep(weights, outcome).gradient[0], 3e-2
    for level in range(STEPS):
        moved = torch.zeros_like(weights)
        moved[0, level] = width
        above, below = (float(outcome(adjoint.guided(weights + sign * moved))) for sign in (1, -1))
        assert abs(float(found[level]) - (above - below) / (2 * width)) < 2e-3 * float(found.abs().max()), level


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (
            diffusers.DDPMScheduler,
            "^sampler: DDPMScheduler draws noise at its steps.*use a pipeline with DDIM",
        ),
        (diffusers.EulerAncestralDiscreteScheduler, "^sampler: EulerAncestralDiscreteScheduler draws noise"),
        (
            lambda: diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"),
            "algorithm_type=sde-dpm.*heun",
        ),
        (lambda: flow_scheduler(stochastic_sampling=True), "stochastic_sampling=True draws noise at its steps.*heun"),
        (
            diffusers.HeunDiscreteScheduler,
            "^sampler: HeunDiscreteScheduler draws noise .* or its steps are not known here",
        ),
    ],
)
def test_schedulers_that_draw_noise_are_refused(scheduler: Any, message: str) -> None:
    with refused(message):
        check_deterministic(scheduler())


@pytest.mark.filterwarnings("ignore")
def test_models_and_guides_without_a_scheduler_are_refused() -> None:
    """A mixture has none, a guide must be of diffusers too and predict the same, and a loop must begin from noise."""
    _, model = pipeline("ddim")
    mixture = mixture_model(two_gaussians(torch.ones(4, 16, 16), 0.5))
    with refused("^sampler: got 'scheduler'.*no pipeline of diffusers.*--sampler heun"):
        scheduler_steps(mixture, mixture, [0], STEPS)
    with refused("^guide: .*is no pipeline of diffusers"):
        scheduler_steps(model, mixture, [0], STEPS)
    with refused("^guide: .* predicts flow .*the model epsilon"):
        scheduler_steps(model, pipeline("flow")[1], [0], STEPS)
    with refused("^sampler: got 'scheduler' with a network, or a guide, that is none of diffusers"):
        scheduler_steps(model, model, [0], STEPS).asked(mixture.denoiser(0))
    late = from_pipeline(image_to_image(), PROMPTS, image=picture(), strength=0.6)
    with refused("^sampler: the loop of StableDiffusionImg2ImgPipeline does not begin from noise; use --sampler heun"):
        scheduler_steps(late, late, [0], STEPS)


@pytest.mark.filterwarnings("ignore")
def test_classes_have_the_scheduler_too() -> None:
    """DiT's, as the pipeline asks it."""
    pipe = dit()
    model = from_pipeline(pipe, size=())
    steps = scheduler_steps(model, model, [3], STEPS)
    pipe.scheduler.set_timesteps(STEPS)
    assert steps.scheduler.timesteps.tolist() == pipe.scheduler.timesteps.tolist()
