"""A schedule, a weight for each noise level, in the forms that pipelines take."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from softmode.guidance.export import (
    Format,
    check_export,
    comfyui_ends,
    flow_time,
    plain_steps,
    sampler_levels,
    step_lines,
)
from softmode.guidance.weights import Interval, Weights
from softmode.message import refusal
from softmode.networks.diffusers_sampling import NOTHING, Asked
from softmode.networks.diffusers_scheduler import is_dynamic, is_flow

# where ComfyUI's sampling begins, whatever its sampler: its percent_to_sigma(0)
COMFYUI_START = 999999999.9


def exported(
    weights: Weights,
    form: Format,
    scheduler: Any = None,
    steps: int | None = None,
    asked: Asked = NOTHING,
    about: Mapping[str, Any] = {},
) -> str:
    """Return a schedule in a form that a pipeline takes.

    Args:
        weights: The schedule.
        form: `json`: everything, for one's own code; `sigmas`: a line per step; `flow`: the same in the time of a
            flow, s = sigma / (1 + sigma); `comfyui`: intervals of one guidance scale in ComfyUI's sigma and percent;
            `diffusers`: Python that guides a pipeline by these weights.
        scheduler: The pipeline's scheduler of diffusers; steps are those of EDM's sampler when left out.
        steps: Steps of the sampler, each of which takes the weight of the nearest level; the schedule's own levels
            when left out.
        asked: What else the scheduler is asked for.
        about: What else is to be told in `json`, as plain data.

    Raises:
        ValueError: If nothing is guided, no step of the sampler is, or the scheduler makes no such steps, has no mu or
            is of no known kind.
    """
    if not bool(weights.weights.any()):
        raise refusal(f"weights: got 0 at all {len(weights.levels)} levels; there is nothing to export")
    check_export(form, 0.0, scheduler, steps, asked)
    levels = weights.levels if steps is None else sampler_levels(scheduler, steps, asked)
    match form:
        case "json":
            return json.dumps(_plain(weights, scheduler, None if steps is None else levels, asked, about), indent=2)
        case "sigmas":
            return step_lines(weights, levels)
        case "flow":
            return step_lines(weights, levels, flow_time)
        case "comfyui":
            return json.dumps(_comfyui(weights, scheduler, asked.mu), indent=2)
        case "diffusers":
            return _snippet(weights, asked.mu)


def _plain(
    weights: Weights, scheduler: Any, levels: Tensor | None, asked: Asked, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the schedule as plain data."""
    plain: dict[str, Any] = {
        "convention": "between levels the weight is that of the nearest in log sigma, so it changes at the edges; "
        "sigma is the EDM noise level sigma/alpha; D + weight * (D - D_guide), a guidance scale of 1 + weight",
        "levels": weights.levels.tolist(),
        "weights": weights.weights.tolist(),
        "guidance_scales": (1 + weights.weights).tolist(),
        "edges": weights.edges.tolist(),
        "about": dict(about),
    }
    if levels is not None:
        plain["sampler"] = plain_steps(weights, levels) | {"guidance_scales": (1 + weights(levels)).tolist()}
        if scheduler is not None:
            plain["sampler"]["scheduler"] = type(scheduler).__name__
            if is_dynamic(scheduler):
                plain["sampler"]["mu"] = asked.mu
    return plain


def _comfyui(weights: Weights, scheduler: Any, mu: float | None) -> dict[str, Any]:
    """Return the intervals of one guidance scale, from the start of sampling to its end.

    What ComfyUI calls the start and the end is its own: percents 0 and 1, sigma 999999999.9 (of a flow 1) and 0.
    """
    changes = torch.nonzero(weights.weights.diff()).flatten().tolist()
    edges = [COMFYUI_START, *weights.edges[changes].tolist(), 0.0]
    scales = [1 + float(weights.weights[place]) for place in (*changes, -1)]
    chain = []
    for high, low, scale in zip(edges[:-1], edges[1:], scales, strict=True):
        chain.append({"cfg": scale} | comfyui_ends(Interval(low, high), scheduler, mu))
    chain[0]["sigma_start"] = 1.0 if scheduler is not None and is_flow(scheduler) else COMFYUI_START
    chain[-1]["sigma_end"] = 0.0
    if scheduler is not None:
        chain[0]["start_percent"], chain[-1]["end_percent"] = 0.0, 1.0
    return {
        "convention": "one cfg for each interval sigma_end <= sigma <= sigma_start, 1 being no guidance: SplitSigmas "
        "cuts the sampler's sigmas at the ends, and every part has a CFGGuider of its cfg in a SamplerCustomAdvanced "
        "of its own, the later ones with DisableNoise; a node of start_percent and end_percent takes one interval",
        "intervals": chain,
    }


def _snippet(weights: Weights, mu: float | None) -> str:
    """Return Python that guides a pipeline of diffusers by these weights."""
    strength = float(f"{float(weights.weights.abs().max()):.9g}")
    shift = "" if mu is None else f", mu={mu:.9g}"
    return "\n".join((
        "import torch",
        "",
        "from softmode.guidance.guider import sigma_weights_guider, weights_callback",
        "from softmode.guidance.own_loop import guided_by",
        "from softmode.guidance.weights import Weights",
        "",
        "# noise levels sigma/alpha and their weights; every step of a pipeline takes that of the nearest level",
        f"levels = {_numbers(weights.levels)}",
        f"weights = {_numbers(weights.weights)}",
        "schedule = Weights(torch.tensor(levels, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64))",
        "",
        "# a modular pipeline",
        "guider = sigma_weights_guider(pipe.scheduler, schedule)",
        "pipe.update_components(guider=guider)",
        "",
        "# any other pipeline with guidance_scale and callback_on_step_end",
        f"scale, callback = weights_callback(pipe.scheduler, steps, schedule{shift})",
        "pipe(prompt, num_inference_steps=steps, guidance_scale=scale, callback_on_step_end=callback)",
        "",
        "# a pipeline that takes no callback, or reads its scale once, before its loop begins",
        f"with guided_by(pipe, schedule, {strength}):",
        f"    pipe(prompt, num_inference_steps=steps, guidance_scale={1 + strength:.9g})",
    ))  # fmt: skip


def _numbers(values: Tensor) -> str:
    """Return a list of numbers as Python, a few to a line."""
    written = [f"{number:.9g}" for number in values.tolist()]
    rows = [", ".join(written[place : place + 8]) for place in range(0, len(written), 8)]
    return "[\n    " + ",\n    ".join(rows) + ",\n]"
