"""Windows as guidance: which steps an interval guides, and what every export says of them."""

import json
import math
import re
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from softmode.denoiser import Guided
from softmode.guidance.export import export, sampler_levels, units
from softmode.guidance.weights import AtLevels, Interval, Pulses, guided_steps, log_pulse, sigma_pulse
from softmode.process import rho_grid

LOW, HIGH = 0.6, 4.0


def estimate(value: float | None) -> dict[str, Any]:
    return {"value": value, "stderr": 0.1, "low": 0.5, "high": 9.0, "samples": 8, "reason": ""}


WINDOW = {
    "verdict": "found", "answer": "guide where", "sigma_c": estimate(1.5), "sigma_lo": estimate(LOW),
    "sigma_hi": estimate(HIGH), "model": {"name": "tiny"},
}  # fmt: skip


def test_an_interval_is_open_below_and_closed_above() -> None:
    sigma = torch.tensor([0.5, 1.0, 1.5, 2.0, 2.5], dtype=torch.float64)
    assert Interval(1.0, 2.0, 0.7)(sigma).tolist() == [0.0, 0.0, 0.7, 0.7, 0.0]
    assert float(Interval(1.0, 2.0)(torch.tensor(2.0))) == 1.0


def test_a_guide_is_called_inside_the_interval_alone() -> None:
    """As the weight of a guided denoiser: the extrapolation inside, the denoiser itself outside."""
    calls = []

    def guide(x: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
        calls.append(float(torch.as_tensor(sigma)))
        return torch.zeros_like(x)

    guided = Guided(lambda x, _s: 0.5 * x, guide, Interval(1.0, 2.0, 3.0))
    x = torch.ones(1, 1, 2, 2)
    outs = [float(guided(x, sigma).mean()) for sigma in (0.5, 1.5, 3.0)]
    assert outs == [0.5, 2.0, 0.5]
    assert calls == [1.5]


@pytest.mark.parametrize(
    ("low", "high", "weight", "message"),
    [
        (2.0, 1.0, 1.0, r"interval: got \(2, 1\]"),
        (-1.0, 1.0, 1.0, "interval: got"),
        (1.0, 2.0, math.nan, "weight: got nan"),
    ],
)
def test_impossible_intervals_are_refused(low: float, high: float, weight: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Interval(low, high, weight)


def test_pulses_have_their_width_in_their_coordinate() -> None:
    pulse = sigma_pulse(3.0, 1.0, 2.0)
    assert (pulse.low, pulse.high, pulse.weight) == (2.0, 4.0, 2.0)
    assert sigma_pulse(0.5, 1.0, 1.0).low == 0
    pulse = log_pulse(3.0, math.log(4), 2.0)
    assert (pulse.low, pulse.high) == pytest.approx((1.5, 6.0))


def test_pulses_of_a_batch_are_each_an_interval() -> None:
    """At one level or at one for each; one without ends guides nothing."""
    low, high = torch.tensor([[1.0, 2.0], [math.nan, math.nan], [0.0, math.inf]]).T.double()
    pulses = Pulses(low, high, 3.0)
    for level in (0.5, 1.0, 1.5, 2.0, 2.5):
        expected = [float(Interval(1.0, 2.0, 3.0)(torch.tensor(level))), 0.0, 3.0]
        assert pulses(torch.tensor(level, dtype=torch.float64)).tolist() == expected
    assert pulses(torch.tensor([1.5, 1.5, 1.5], dtype=torch.float64)).tolist() == [3.0, 0.0, 3.0]


def test_guidance_at_levels_is_at_these_alone() -> None:
    levels = rho_grid(levels=8)
    weight = AtLevels(levels[[2, 5]], 1.5)
    assert torch.stack([weight(level) for level in levels]).tolist() == [0, 0, 1.5, 0, 0, 1.5, 0, 0]
    assert float(weight(levels[2] * (1 + 1e-9))) == 0


def test_an_interval_between_two_steps_is_an_error() -> None:
    levels = rho_grid(levels=8)
    with pytest.raises(ValueError, match=r"sampler_steps: none of these 8 falls into \(2.6, 3\]; the nearest are at"):
        guided_steps(Interval(2.6, 3.0), levels)


def edm_loop(levels: torch.Tensor, weight: Any) -> list[int]:
    """Run Euler steps of k-diffusion on a linear model and return the steps at which the guidance was not nothing."""
    x, guided = torch.ones(1, 1, 2, 2, dtype=torch.float64) * levels[0], []
    for i, (sigma, after) in enumerate(zip(levels, [*levels[1:], torch.tensor(0.0)], strict=True)):
        cond, uncond = 0.5 * x, 0.1 * x
        w = weight(i, sigma)
        denoised = uncond + (1 + w) * (cond - uncond)
        if float((denoised - cond).abs().max()) > 1e-12:
            guided.append(i)
        x = x + (x - denoised) / sigma * (after - sigma)
    return guided


@pytest.mark.parametrize("steps", [6, 20, 63])
def test_plain_exports_guide_the_same_steps_of_a_sigma_loop(steps: int) -> None:
    """sigmas by step, json by its ends and by its list, and ComfyUI's rule sigma_end <= sigma <= sigma_start."""
    levels = sampler_levels(None, steps)
    expected = edm_loop(levels, lambda _i, sigma: Interval(LOW, HIGH, 2.0)(sigma))
    assert expected
    plain = json.loads(export(WINDOW, "json", 2.0, None, steps))
    lines = [line.split() for line in export(WINDOW, "sigmas", 2.0, None, steps).splitlines()]
    comfy = json.loads(export(WINDOW, "comfyui", 2.0))
    low, high = plain["sigma_lo"]["value"], plain["sigma_hi"]["value"]
    loops = [
        edm_loop(levels, lambda _i, s: plain["weight"] * (low < s <= high)),
        edm_loop(levels, lambda i, _s: plain["weights"][i]),
        edm_loop(levels, lambda i, _s: float(lines[i][2])),
        edm_loop(levels, lambda _i, s: 2.0 * (comfy["sigma_end"] <= s <= comfy["sigma_start"])),
    ]
    assert all(loop == expected for loop in loops)
    assert plain["steps"] == expected
    assert plain["guidance_scale"] == 3.0


def test_an_end_that_is_a_level_is_treated_alike() -> None:
    """A level equal to the upper end is guided and one equal to the lower is not, by ComfyUI's closed rule too."""
    levels = rho_grid(levels=20)
    window = WINDOW | {"sigma_lo": estimate(float(levels[12])), "sigma_hi": estimate(float(levels[8]))}
    comfy = json.loads(export(window, "comfyui", 1.0))
    expected = [8, 9, 10, 11]
    assert edm_loop(levels, lambda _i, s: 1.0 * (comfy["sigma_end"] <= s <= comfy["sigma_start"])) == expected
    assert json.loads(export(window, "json", 1.0, None, 20))["steps"] == expected


def percent_to_sigma(scheduler: Any, percent: float) -> float:
    """ComfyUI's own rule, by kind: log sigma linear in the timestep (1 - p) 999; of a flow its shifted time."""
    if "FlowMatch" in type(scheduler).__name__:
        t, shift = 1 - percent, scheduler.config.shift
        return shift * t / (1 + (shift - 1) * t)
    log_sigmas = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt().log().double()
    t = (1 - percent) * 999
    below = min(int(t), 998)
    return float((log_sigmas[below] + (t - below) * (log_sigmas[below + 1] - log_sigmas[below])).exp())


@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
        diffusers.DDPMScheduler(),
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    ],
    ids=["sd", "ddpm", "flow"],
)
def test_comfyui_s_percents_are_its_sigmas(scheduler: Any) -> None:
    """Percents and sigmas of the export name the same ends; of a flow ComfyUI's sigma is the flow's time."""
    comfy = json.loads(export(WINDOW, "comfyui", 1.0, scheduler))
    assert comfy["start_percent"] < comfy["end_percent"]
    for side in ("start", "end"):
        assert percent_to_sigma(scheduler, comfy[f"{side}_percent"]) == pytest.approx(comfy[f"sigma_{side}"], rel=1e-4)
    if "Flow" in type(scheduler).__name__:
        assert comfy["sigma_start"] == pytest.approx(HIGH / (1 + HIGH))


def test_a_scheduler_adds_its_own_units() -> None:
    scheduler = diffusers.DDIMScheduler()
    plain = json.loads(export(WINDOW, "json", 1.0, scheduler, 25))
    scheduler.set_timesteps(25)
    inside = [i for i, t in enumerate(scheduler.timesteps) if plain["timestep"]["lo"] < t <= plain["timestep"]["hi"]]
    assert plain["steps"] == inside
    assert plain["scheduler"] == "DDIMScheduler"


def test_a_window_is_said_in_the_pipelines_units() -> None:
    """Its timesteps enclose those of the steps it guides; a window between two steps guides none."""
    scheduler = diffusers.DDIMScheduler()
    said = dict(units(Interval(LOW, HIGH), scheduler, 25))
    low, high = (float(number) for number in re.findall(r"\d+\.\d+", said["timestep"]))
    inside = [i for i, t in enumerate(scheduler.timesteps) if low < t <= high]
    assert said["steps"].startswith(f"{inside[0]} to {inside[-1]} of 0 to 24, of DDIMScheduler")
    assert dict(units(Interval(0.6, 0.601), None, 8))["steps"].startswith("none of 0 to 7, of EDM's sampler")


def test_no_window_is_not_exported() -> None:
    nothing = WINDOW | {"verdict": "none", "answer": "no critical window found: flat", "sigma_c": estimate(None)}
    with pytest.raises(ValueError, match="window: there is nothing to export, no critical window found: flat"):
        export(nothing, "json", 1.0)
    with pytest.raises(ValueError, match="sampler_steps: got 1; expected at least 2"):
        export(WINDOW, "json", 1.0, None, 1)


def test_the_snippet_is_python_that_names_what_exists(tmp_path: Path) -> None:
    """Its import and first statement run on a stand-in of a pipeline."""
    text = export(WINDOW, "diffusers", 2.0)
    compile(text, "snippet", "exec")
    head = text.partition("pipe.update_components")[0]
    scheduler = diffusers.EulerDiscreteScheduler()
    namespace: dict[str, Any] = {"pipe": type("Pipe", (), {"scheduler": scheduler})}
    exec(head, namespace)
    assert namespace["guider"].guidance_scale == 3.0
