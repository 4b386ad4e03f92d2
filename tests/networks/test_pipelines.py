"""Pipelines of diffusers as models, each family against its own loop: what its network is given, what is made of it."""

import functools
import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from helpers.models import assert_takes_labels_together
from helpers.pipelines import FAMILIES
from softmode.networks.pipeline import Opened, open_pipeline
from softmode.networks.pipeline_live import SCALE
from softmode.networks.pipeline_record import Recording, network_of, record
from softmode.networks.pipeline_same import difference
from softmode.networks.pipeline_stack import bound_of, stacked

TESTED = [name for name, tiny in FAMILIES.items() if tiny.new]
PROMPTS, NEGATIVE, STRENGTH = ("a b", "c"), "d", 2.5
# families that guide by an input of their network, or not at all
UNGUIDED = ("LCM", "DDPM", "DDIM")
# families whose loop makes whole numbers of its timesteps
WHOLE = ("Wan",)
CLOSE = 1e-5


@functools.cache
def opened(name: str) -> Opened:
    """Return the model of a tiny pipeline of a family."""
    tiny = FAMILIES[name]
    texts = {"prompts": PROMPTS, "negative": None if name in UNGUIDED else NEGATIVE} if tiny.text else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return open_pipeline(tiny.build(), size=tiny.size, **texts, **tiny.call)


def own_loop(name: str, guided: bool, steps: int = 5) -> Recording:
    """Return what a family's own loop does for its second condition, with guidance or without."""
    live = opened(name).live
    what = PROMPTS[1] if FAMILIES[name].text else 1 if live.classes else None
    # which scale its guidance goes by, and where it is off, is the pipeline's own matter
    knob = next(iter(live.guidance.off or live.guidance.on or {}), SCALE)
    off = live.guidance.off or {knob: 1.0}
    chosen: dict[str, Any] = {} if name in UNGUIDED else {knob: STRENGTH} if guided else off
    if guided and FAMILIES[name].text and "negative_prompt" in live.taken:
        chosen["negative_prompt"] = NEGATIVE
    given = live.arguments(what) | chosen | {"num_inference_steps": steps}
    return record(live.pipe, given)


def denoisers(name: str) -> tuple[Any, Any]:
    """Return the denoiser of a family's second condition, and that of what guidance pushes it away from."""
    model = opened(name).model
    own = model.denoiser(1 if model.classes else None)
    if name in UNGUIDED:
        return own, own
    return own, model.dropped(1) if model.dropped else model.denoiser(None)


@contextmanager
def fed(module: Any) -> Iterator[list[dict[str, Any]]]:
    """Collect what a module is called with."""
    calls: list[dict[str, Any]] = []
    signature = inspect.signature(module.forward)
    hook = module.register_forward_hook(
        lambda _module, args, kwargs, _out: calls.append(signature.bind(*args, **kwargs).arguments), with_kwargs=True
    )
    yield calls
    hook.remove()


@pytest.mark.parametrize("name", TESTED)
def test_shape_and_answers(name: str) -> None:
    """States are of the pipeline's latents; two states of two noise levels are each what they are alone."""
    model, tiny = opened(name).model, FAMILIES[name]
    assert model.shape == tiny.shape
    assert model.classes == (len(PROMPTS) if tiny.text else 1000 if name == "DiT" else 0)
    label = 0 if model.classes else None
    x = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.3, 2.0])
    both = model.denoiser(label)(x, sigma)
    assert both.shape == x.shape
    assert both.dtype == x.dtype
    for place in range(2):
        alone = model.denoiser(label)(x[place : place + 1], float(sigma[place]))
        torch.testing.assert_close(both[place : place + 1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", TESTED)
def test_the_network_is_called_as_by_its_own_loop(name: str) -> None:
    """At every step of another number of steps, of another prompt: each argument by name, the state and the time."""
    denoiser, _ = denoisers(name)
    live, module = opened(name).live, network_of(opened(name).live.pipe)[1]
    recording = own_loop(name, guided=False)
    sigmas = step_sigmas(recording)
    compared = 0
    for step, sigma in zip(recording.steps, sigmas, strict=True):
        if not live.table.range[0] <= sigma <= live.table.range[1]:
            continue
        theirs = step.calls[0].arguments
        sample = denoiser.network.layouts.scheduler.gather(step.sample)
        alpha = 1 / (1 + sigma) if live.table.kind == "flow" else (1 + sigma**2) ** -0.5
        # Euler's states are x_0 + sigma eps, which it scales before the network sees them
        x = sample if name == "SDXL" else sample / alpha
        with fed(module) as calls, torch.no_grad():
            denoiser(x, sigma)
        assert len(calls) == 1
        assert calls[0].keys() == theirs.keys()
        for argument, value in theirs.items():
            if argument == denoiser.network.time:
                ours, own = (float(torch.as_tensor(each).flatten()[0]) for each in (calls[0][argument], value))
                assert abs(ours - own) <= (1.0 if name in WHOLE else CLOSE * max(1.0, abs(own))), argument
            else:
                assert difference(calls[0][argument], value) < CLOSE, argument
        compared += 1
    assert compared >= len(recording.steps) - 1


def step_sigmas(recording: Recording) -> list[float]:
    """Return the noise level of every step of a loop, from its scheduler's own numbers."""
    scheduler = recording.scheduler
    if not hasattr(scheduler, "sigmas"):
        alphas = scheduler.alphas_cumprod[[int(step.timestep) for step in recording.steps]].double()
        return ((1 - alphas) / alphas).sqrt().tolist()
    sigmas = scheduler.sigmas[: len(recording.steps)].double()
    flow = type(scheduler).__name__.startswith("FlowMatch") or scheduler.config.get("use_flow_sigmas")
    return (sigmas / (1 - sigmas) if flow else sigmas).tolist()


@pytest.mark.parametrize("name", [name for name in TESTED if name not in UNGUIDED])
def test_both_branches_make_up_its_own_guidance(name: str) -> None:
    """Of a prompt and a negative prompt, what its scheduler is given with guidance is ours, step by step."""
    own, other = denoisers(name)
    recording = own_loop(name, guided=True)
    assert recording.guided
    for step in recording.steps:
        x_t = own.network.fed(step.calls[0].arguments[own.network.state])[:1]
        t = torch.tensor([step.timestep], dtype=torch.float64)
        with torch.no_grad():
            with_prompt, without = own.network(x_t, t), other.network(x_t, t)
        assert float((with_prompt - without).abs().max()) > 10 * CLOSE * float(without.abs().max())
        # Z-Image adds its scale times the difference, others less by one
        guided = without + (STRENGTH + (name == "Z-Image")) * (with_prompt - without)
        # DiT's scheduler steps both branches at once
        theirs = own.network.layouts.scheduler.gather(step.prediction)[:1]
        assert difference(guided, theirs) < 3 * CLOSE


@pytest.mark.parametrize("name", TESTED)
def test_d_is_what_its_scheduler_makes_of_it(name: str) -> None:
    """Its own estimate of x_0 where it tells one, at every step; else the state after a last step without noise."""
    checked = opened(name).checked
    assert checked.steps >= 1
    assert checked.denoised < CLOSE
    assert checked.given < CLOSE
    recording = own_loop(name, guided=False)
    denoiser, scheduler = denoisers(name)[0], recording.scheduler
    last, sigma = recording.steps[-1], step_sigmas(recording)[-1]
    if getattr(scheduler, "sigmas", [1.0])[-1] != 0 or last.denoised is not None:
        return
    gather = denoiser.network.layouts.scheduler.gather
    alpha = 1 / (1 + sigma) if opened(name).live.table.kind == "flow" else (1 + sigma**2) ** -0.5
    with torch.no_grad():
        # asked at the time that a loop of whole timesteps names, as its noise level is that of another by up to 1
        x = gather(last.sample) / alpha
        out = denoiser.network(alpha * x, torch.tensor([last.timestep]))
    torch.testing.assert_close(denoiser.estimate(x, sigma, out), gather(last.following), rtol=CLOSE, atol=CLOSE)


# embeddings of Kandinsky's prompts are as long as these: such conditions stay apart, as below
@pytest.mark.parametrize(
    "name", [name for name in TESTED if (FAMILIES[name].text or name == "DiT") and name != "Kandinsky 5"]
)
def test_conditions_go_through_the_network_together(name: str) -> None:
    """States with prompts or classes of their own, in one call of the network, are what they are under each alone."""
    model, module = opened(name).model, network_of(opened(name).live.pipe)[1]
    assert_takes_labels_together(model, [1, 0, 1])
    with fed(module) as calls, torch.no_grad():
        model.of_states([1, 0, 1])(torch.randn(3, *model.shape), 1.3)
    assert len(calls) == 1


def test_conditions_of_other_shapes_stay_apart() -> None:
    """Prompts that fill another number of tokens, or whose shared arguments differ, are no batch."""
    first = bound_of(opened("SD 3").model.denoiser(0))
    longer = {name: torch.cat([value, value], 1) for name, value in first.others.items() if is_tokens(value)}
    assert longer
    assert stacked([first, replace(first, others={**first.others, **longer})]) is None
    shared = {name: f"{value} too" for name, value in first.others.items() if not first.batched[name]}
    assert shared
    assert stacked([first, replace(first, others={**first.others, **shared})]) is None
    assert stacked([first, first]) is not None


def is_tokens(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == 3
