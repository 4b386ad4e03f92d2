"""Windows in the forms that pipelines take: every export guides the same steps."""

import json
import math
import re
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from softmode.estimate import Estimate
from softmode.guidance.export import Window, export, sampler_levels, units
from softmode.guidance.guider import guidance_callback, sigma_window_guider
from softmode.guidance.weights import Interval, guided_steps
from softmode.networks.diffusers_scheduler import is_flow, noise_table

LOW, HIGH = 0.6, 4.0


def flow_unipc(shift: float) -> Any:
    return diffusers.UniPCMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=shift
    )  # fmt: skip


def nudged(level: float, ulps: int, flow: bool = False) -> float:
    """Return a level some float32 steps away; those of a flow are steps of s = sigma / (1 + sigma)."""
    number = np.float32(level / (1 + level) if flow else level)
    for _ in range(abs(ulps)):
        number = np.nextafter(number, np.float32(math.copysign(math.inf, ulps)))
    return float(number) / (1 - float(number)) if flow else float(number)


def estimate(value: float) -> Estimate:
    return Estimate(value, 0.1, 8, 0.5, 9.0)


WINDOW = Window(estimate(1.5), estimate(LOW), estimate(HIGH), "found", "guide where", "tiny")


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


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_window_in_flow_time_guides_the_same_steps_of_a_flow_s_loop(shift: float) -> None:
    """s = sigma / (1 + sigma): by the two ends, by the list, and by the ends in JSON."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    low, high = map(float, export(WINDOW, "flow", 1.0, scheduler).split())
    assert (low, high) == pytest.approx((LOW / (1 + LOW), HIGH / (1 + HIGH)))
    plain = json.loads(export(WINDOW, "json", 1.0, scheduler, 20))
    assert plain["flow_time"] == pytest.approx({"lo": low, "hi": high})
    rows = [line.split() for line in export(WINDOW, "flow", 1.0, scheduler, 20).splitlines()]
    scheduler.set_timesteps(20)
    inside = [i for i, s in enumerate(scheduler.sigmas[:-1].tolist()) if low < s <= high]
    assert inside == plain["steps"] == [int(row[0]) for row in rows if float(row[2])]
    assert [float(row[1]) for row in rows] == pytest.approx(scheduler.sigmas[:-1].tolist(), abs=1e-5)
    assert plain["flow_times"] == pytest.approx(scheduler.sigmas[:-1].tolist(), abs=1e-6)


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


@pytest.mark.parametrize("ulps", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("kind", ["edm", "euler", "flow"])
def test_an_end_that_is_a_level_is_treated_alike(kind: str, ulps: int) -> None:
    """A level that equals an end up to float32 is guided at the upper and not at the lower one, by every export.

    Where a comparison takes the last digits for a difference, one of the two ends slips on each side.
    """
    name = {"euler": "EulerDiscreteScheduler", "flow": "FlowMatchEulerDiscreteScheduler"}.get(kind)
    scheduler = getattr(diffusers, name)() if name else None
    levels = sampler_levels(scheduler, 20)
    low, high = (nudged(float(levels[i]), ulps, flow=kind == "flow") for i in (12, 3))
    window = WINDOW._replace(sigma_lo=estimate(low), sigma_hi=estimate(high))
    expected = list(range(3, 12))
    plain = json.loads(export(window, "json", 1.0, scheduler, 20))
    lines = [line.split() for line in export(window, "sigmas", 1.0, scheduler, 20).splitlines()]
    comfy = json.loads(export(window, "comfyui", 1.0, scheduler))
    theirs = levels / (1 + levels) if kind == "flow" else levels
    times = [line.split() for line in export(window, "flow", 1.0, scheduler, 20).splitlines()]
    assert [i for i, line in enumerate(times) if float(line[2])] == expected
    assert plain["steps"] == [i for i, weight in enumerate(plain["weights"]) if weight] == expected
    assert [i for i, line in enumerate(lines) if float(line[2])] == expected
    assert [i for i, s in enumerate(theirs) if comfy["sigma_end"] <= s <= comfy["sigma_start"]] == expected
    assert dict(units(Interval(low, high), scheduler, 20))["steps"].startswith("3 to 11 of 0 to 19")
    ends = re.search(r"guider\(pipe.scheduler, (\S+), (\S+), guidance", export(window, "diffusers", 1.0))
    assert ends
    assert guided_steps(Interval(*map(float, ends.groups())), levels) == expected


def percent_to_sigma(scheduler: Any, percent: float) -> float:
    """ComfyUI's own rule, by kind: log sigma linear in the timestep (1 - p) 999; of a flow its shifted time."""
    if is_flow(scheduler):
        t, shift = 1 - percent, scheduler.config.get("shift") or scheduler.config.flow_shift
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
        flow_unipc(5.0),
    ],
    ids=["sd", "ddpm", "flow", "flow-unipc"],
)
def test_comfyui_s_percents_are_its_sigmas(scheduler: Any) -> None:
    """Percents and sigmas of the export name the same ends; of a flow ComfyUI's sigma is the flow's time."""
    comfy = json.loads(export(WINDOW, "comfyui", 1.0, scheduler))
    assert comfy["start_percent"] < comfy["end_percent"]
    for side in ("start", "end"):
        assert percent_to_sigma(scheduler, comfy[f"{side}_percent"]) == pytest.approx(comfy[f"sigma_{side}"], rel=1e-4)
    if is_flow(scheduler):
        assert comfy["sigma_start"] == pytest.approx(HIGH / (1 + HIGH), rel=1e-5)


def test_a_scheduler_adds_its_own_units() -> None:
    scheduler = diffusers.DDIMScheduler()
    plain = json.loads(export(WINDOW, "json", 1.0, scheduler, 25))
    assert scheduler.num_inference_steps is None, "the pipeline's own scheduler is left as it is"
    scheduler.set_timesteps(25)
    inside = [i for i, t in enumerate(scheduler.timesteps) if plain["timestep"]["lo"] < t <= plain["timestep"]["hi"]]
    assert plain["steps"] == inside
    assert plain["scheduler"] == "DDIMScheduler"


def test_a_window_is_said_in_the_pipelines_units() -> None:
    """Its timesteps enclose those of the steps it guides; a window between two steps guides none."""
    scheduler = diffusers.DDIMScheduler()
    said = dict(units(Interval(LOW, HIGH), scheduler, 25))
    scheduler.set_timesteps(25)
    low, high = (float(number) for number in re.findall(r"\d+\.\d+", said["timestep"]))
    inside = [i for i, t in enumerate(scheduler.timesteps) if low < t <= high]
    assert said["steps"].startswith(f"{inside[0]} to {inside[-1]} of 0 to 24, of DDIMScheduler")
    assert dict(units(Interval(0.6, 0.601), None, 8))["steps"].startswith("none of 0 to 7, of EDM's sampler")


def test_no_window_is_not_exported() -> None:
    nothing = WINDOW._replace(verdict="none", answer="no critical window found: flat", sigma_c=estimate(math.nan))
    with pytest.raises(ValueError, match="window: there is nothing to export, no critical window found: flat"):
        export(nothing, "json", 1.0)


@pytest.mark.parametrize("steps", [-1, 0, 100_001, 10**10])
def test_impossible_numbers_of_steps_are_refused_before_their_levels_are_made(steps: int) -> None:
    """1e10 levels would be 80 GB."""
    for scheduler in (None, diffusers.EulerDiscreteScheduler()):
        with pytest.raises(ValueError, match=f"sampler_steps: got {steps}; expected 1 to 100000"):
            sampler_levels(scheduler, steps)


def test_more_steps_than_a_scheduler_takes_are_refused_in_its_words() -> None:
    with pytest.raises(ValueError, match="sampler_steps: got 1500, of which DDIMScheduler makes no schedule") as error:
        sampler_levels(diffusers.DDIMScheduler(), 1500)
    assert len(str(error.value)) < 300


def test_one_and_two_steps_are_answered() -> None:
    """Turbo models take as few: EDM's one is at its highest level, a scheduler's where it puts it."""
    assert sampler_levels(None, 1).tolist() == [80.0]
    assert sampler_levels(None, 2).tolist() == [80.0, 0.002]
    turbo = diffusers.EulerDiscreteScheduler(timestep_spacing="trailing")
    highest = noise_table(turbo).range[1]
    for steps in (1, 2):
        levels = sampler_levels(turbo, steps)
        assert (len(levels), float(levels[0])) == (steps, pytest.approx(highest))
        said = dict(units(Interval(highest / 2, 2 * highest), turbo, steps))
        assert said["steps"].startswith(f"0 to 0 of 0 to {steps - 1}, of EulerDiscreteScheduler in {steps} step")
    assert json.loads(export(WINDOW._replace(sigma_hi=estimate(100.0)), "json", 1.0, None, 1))["weights"] == [1.0]
    with pytest.raises(
        ValueError, match=r"sampler_steps: none of these 1 falls into \(0.6, 4\]; the nearest are at 80"
    ):
        export(WINDOW, "json", 1.0, None, 1)


@pytest.mark.parametrize(
    ("shift", "percent", "above"), [(1.0, 0.1, 5), (3.0, 0.25, 11), (5.0, 5 / 14, 15), (8.0, 8 / 17, 19)]
)
def test_percents_of_a_flow_know_its_shift_by_either_name(shift: float, percent: float, above: int) -> None:
    """At sigma = 9, s = 0.9: t = s / (shift - (shift - 1) s); so many of 40 steps lie above."""
    scheduler = flow_unipc(shift)
    assert noise_table(scheduler).percent(9.0) == pytest.approx(percent)
    assert noise_table(scheduler).level_at_percent(percent) == pytest.approx(9.0)
    assert int((sampler_levels(scheduler, 40) > 9).sum()) == above
    match = diffusers.FlowMatchEulerDiscreteScheduler()
    match.set_shift(shift)
    assert noise_table(match).percent(9.0) == pytest.approx(percent)


@pytest.mark.filterwarnings("ignore:scheduler. the schedule of")
@pytest.mark.parametrize(
    ("scheduler", "last"),
    [
        (diffusers.EulerDiscreteScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing"), 999.0),
        (diffusers.DDIMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing"), 999.0),
        (diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing"), 999.0),
        (diffusers.FlowMatchEulerDiscreteScheduler(), 1000.0),
        (flow_unipc(3.0), 999.0),
    ],
    ids=["euler-zero-snr", "ddim-zero-snr", "ddpm-cosine", "flow", "flow-unipc"],
)  # fmt: skip
def test_the_printed_timesteps_enclose_a_first_step_of_hardly_any_signal(scheduler: Any, last: float) -> None:
    """A window of all high levels guides the first step, so its range of timesteps holds that step's."""
    window = Interval(LOW, math.inf)
    said = dict(units(window, scheduler, 10))
    assert said["steps"].startswith("0 to ")
    scheduler.set_timesteps(10)
    assert float(scheduler.timesteps[0]) == last
    low, high = (float(number) for number in re.findall(r"[\d.]+", said["timestep"])[:2])
    guided = [i for i, t in enumerate(scheduler.timesteps.tolist()) if low < t <= high]
    assert said["steps"].startswith(f"{guided[0]} to {guided[-1]} of")


@pytest.mark.parametrize("name", ["DDIM", "EulerDiscrete", "DPMSolverMultistep", "UniPCMultistep"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_schedule_without_signal_is_told_of_where_the_noise_says_nothing(name: str, prediction: str) -> None:
    """Of the four that can be without any signal; the velocity and the sample do say what x_0 is."""
    made = getattr(diffusers, f"{name}Scheduler")(
        rescale_betas_zero_snr=True, prediction_type=prediction, timestep_spacing="trailing"
    )  # fmt: skip
    window = Interval(LOW, HIGH)
    if prediction != "epsilon":
        units(window, made, 10)
        return
    for call in (
        lambda: units(window, made, 10),
        lambda: export(WINDOW, "json", 1.0, made),
        lambda: sigma_window_guider(made, LOW, HIGH, 2.0),
        lambda: guidance_callback(made, 10, LOW, HIGH, 2.0),
    ):
        with pytest.warns(UserWarning, match=f"scheduler: the schedule of {name}Scheduler ends without any signal"):
            call()
    for ordinary in (diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"), diffusers.DDIMScheduler()):
        units(window, ordinary, 10)


def test_the_snippet_is_python_that_names_what_exists(tmp_path: Path) -> None:
    """Its import and first statement run on a stand-in of a pipeline."""
    text = export(WINDOW, "diffusers", 2.0)
    compile(text, "snippet", "exec")
    head = text.partition("pipe.update_components")[0]
    scheduler = diffusers.EulerDiscreteScheduler()
    namespace: dict[str, Any] = {"pipe": type("Pipe", (), {"scheduler": scheduler})}
    exec(head, namespace)
    assert namespace["guider"].guidance_scale == 3.0
