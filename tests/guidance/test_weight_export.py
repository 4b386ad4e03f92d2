"""Schedules in the forms that pipelines take: every export gives each step the weight of its level."""

import json
from itertools import pairwise
from typing import Any

import diffusers
import pytest
import torch

from helpers.errors import refused
from softmode.guidance.export import Format, sampler_levels
from softmode.guidance.weight_export import exported
from softmode.guidance.weights import Weights
from softmode.networks.diffusers_sampling import Asked
from softmode.process import rho_grid

LEVELS = rho_grid(levels=8)
# two neighbours of one weight, and a first and a last guided level
SCHEDULE = Weights(LEVELS, torch.tensor([1.5, 0, 2, 2, 1, 0, 0, 3], dtype=torch.float64))
SCHEDULERS = {
    "euler": diffusers.EulerDiscreteScheduler,
    "flow": lambda: diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
}


def nearest(levels: torch.Tensor) -> list[float]:
    """Return the weight of the nearest level, by the distance of logarithms; an infinite level is nearest to 80."""
    apart = (levels.clamp(max=1e6).log()[:, None] - LEVELS.log()).abs()
    return SCHEDULE.weights[apart.argmin(1)].tolist()


@pytest.mark.parametrize("name", [None, *SCHEDULERS])
def test_every_form_gives_a_sampler_s_steps_the_weight_of_the_nearest_level(name: str | None) -> None:
    """json by its list, its levels and its edges; sigmas and flow by their lines; ComfyUI's intervals by its rule."""
    scheduler = SCHEDULERS[name]() if name else None
    levels = sampler_levels(scheduler, 21)
    expected = nearest(levels)
    assert len(set(expected)) > 2
    plain = json.loads(exported(SCHEDULE, "json", scheduler, 21, about={"gain": 0.1}))
    assert plain["about"] == {"gain": 0.1}
    assert plain["sampler"]["weights"] == expected
    assert plain["sampler"]["guidance_scales"] == [1 + weight for weight in expected]
    assert plain["sampler"]["steps"] == [i for i, weight in enumerate(expected) if weight]
    read = Weights(*(torch.tensor(plain[each], dtype=torch.float64) for each in ("levels", "weights")))
    assert read(levels).tolist() == expected
    assert [1 + weight for weight in plain["weights"]] == plain["guidance_scales"]
    assert [plain["weights"][sum(edge > level for edge in plain["edges"])] for level in levels] == expected
    lines = [line.split() for line in exported(SCHEDULE, "sigmas", scheduler, 21).splitlines()]
    assert [float(line[2]) for line in lines] == expected
    times = [line.split() for line in exported(SCHEDULE, "flow", scheduler, 21).splitlines()]
    s = torch.where(levels.isfinite(), levels / (1 + levels), 1.0)
    assert [float(line[1]) for line in times] == pytest.approx(s.tolist(), rel=1e-5)
    assert [float(line[2]) for line in times] == expected
    chain = json.loads(exported(SCHEDULE, "comfyui", scheduler, 21))["intervals"]
    theirs = s if name == "flow" else levels
    found = [
        [each["cfg"] - 1 for each in chain if each["sigma_end"] <= sigma <= each["sigma_start"]]
        for sigma in theirs.tolist()
    ]
    assert found == [[weight] for weight in expected], "exactly one interval holds each level"


def test_without_steps_the_levels_are_the_schedule_s_own() -> None:
    lines = [line.split() for line in exported(SCHEDULE, "sigmas").splitlines()]
    assert [float(line[1]) for line in lines] == pytest.approx(LEVELS.tolist(), rel=1e-5)
    assert [float(line[2]) for line in lines] == SCHEDULE.weights.tolist()
    assert "sampler" not in json.loads(exported(SCHEDULE, "json"))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_comfyui_s_intervals_follow_each_other_from_its_start_to_its_end(name: str) -> None:
    """One for each run of equal weights, in its sigma and in percent."""
    found = json.loads(exported(SCHEDULE, "comfyui", SCHEDULERS[name]()))["intervals"]
    assert [each["cfg"] for each in found] == [2.5, 1, 3, 2, 1, 4]
    for before, after in pairwise(found):
        assert before["sigma_end"] == after["sigma_start"]
        assert before["end_percent"] == after["start_percent"] > before["start_percent"]
    ends = (found[0]["sigma_start"], found[-1]["sigma_end"], found[0]["start_percent"], found[-1]["end_percent"])
    assert ends == ((1.0 if name == "flow" else 999999999.9), 0, 0, 1)


def test_the_snippet_makes_the_same_schedule() -> None:
    """Its imports and statements run on a stand-in of a pipeline, up to its first call."""
    text = exported(SCHEDULE, "diffusers")
    compile(text, "snippet", "exec")
    namespace: dict[str, Any] = {"pipe": type("Pipe", (), {"scheduler": SCHEDULERS["euler"]()}), "steps": 21}
    head, _, rest = text.partition("pipe.update_components(guider=guider)")
    exec(head, namespace)
    levels = rho_grid(levels=40)
    assert namespace["schedule"](levels).tolist() == SCHEDULE(levels).tolist()
    exec(next(line for line in rest.splitlines() if "weights_callback" in line), namespace)
    assert namespace["scale"] == 2.5
    assert "with guided_by(pipe, schedule, 3.0):\n    pipe(prompt, num_inference_steps=steps, guidance_scale=4)" in text


def test_what_guides_nothing_is_not_exported() -> None:
    nothing = Weights(LEVELS, 0 * SCHEDULE.weights)
    forms: list[Format] = ["json", "sigmas", "flow", "comfyui", "diffusers"]
    for form in forms:
        with refused("weights: got 0 at all 8 levels; there is nothing to export"):
            exported(nothing, form)
    last = Weights(LEVELS, torch.tensor([0.0] * 7 + [1], dtype=torch.float64))
    for form in ("json", "sigmas", "flow"):
        with refused(r"sampler_steps: w\(sigma\) is 0 at all of these 1, from 80 to 80: use more steps"):
            exported(last, form, None, 1)
    with refused("sampler_steps: got 0; expected 1 to 100000"):
        exported(SCHEDULE, "sigmas", None, 0)
    with refused("mu: got 1; only schedulers of diffusers take one: leave it out"):
        exported(SCHEDULE, "diffusers", asked=Asked(mu=1.0))


@pytest.mark.parametrize(
    ("levels", "weights", "message"),
    [
        ([1.0, 2.0], [0.0, 1.0], "levels: got 2 from 1 to 2; expected finite noise levels above 0 that fall"),
        ([2.0, 0.0], [0.0, 1.0], "levels: got 2 from 2 to 0; expected finite noise levels above 0 that fall"),
        ([float("inf"), 1.0], [0.0, 1.0], "levels: got 2 from inf to 1; expected finite noise levels above 0"),
        ([2.0, 1.0], [0.0], r"weights: got shape \(1,\) for levels of \(2,\); expected one for each level"),
        ([2.0, 1.0], [0.0, float("nan")], "weights: got nan at level 1; expected finite numbers"),
    ],
)
def test_impossible_schedules_are_refused(levels: list[float], weights: list[float], message: str) -> None:
    with refused(message):
        Weights(torch.tensor(levels, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64))
