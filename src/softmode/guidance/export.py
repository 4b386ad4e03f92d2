"""A window of guidance in the forms that pipelines take: noise levels, timesteps, percents, steps, or Python."""

import json
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from softmode.estimate import Estimate
from softmode.guidance.weights import Interval, Weight, guided_steps
from softmode.message import refusal
from softmode.networks.diffusers_sampling import MOST_STEPS, NOTHING, Asked, check_mu, set_steps
from softmode.networks.diffusers_scheduler import NoiseTable, is_dynamic, is_flow, noise_table, step_levels
from softmode.process import rho_grid
from softmode.rounding import rounding_at

Format = Literal["json", "sigmas", "flow", "comfyui", "diffusers"]


class Window(NamedTuple):
    """The window that was found for a model, or why there is none.

    Attributes:
        sigma_c: Critical noise level.
        sigma_lo: Lower end of the window, not included.
        sigma_hi: Upper end, included.
        verdict: found, doubtful or none.
        answer: The same as a sentence.
        model: Name of the model.
    """

    sigma_c: Estimate
    sigma_lo: Estimate
    sigma_hi: Estimate
    verdict: str
    answer: str
    model: str


def export(
    window: Window, form: Format, weight: float, scheduler: Any = None, steps: int | None = None, asked: Asked = NOTHING
) -> str:
    """Return the window of a run in a form that a pipeline takes.

    Args:
        window: What softmode window found.
        form: `json`: everything, for one's own code; `sigmas`: a line per step; `flow`: the same in the time of a
            flow, s = sigma / (1 + sigma); `comfyui`: the ends in ComfyUI's sigma and percent; `diffusers`: Python that
            builds a guider bound to the scheduler.
        weight: Weight w inside the window.
        scheduler: The pipeline's scheduler of diffusers; steps are those of EDM's sampler when left out.
        steps: Steps of the sampler.
        asked: What else the scheduler is asked for.

    Raises:
        ValueError: If there is no window, no step falls into it, or the form needs a scheduler or its mu.
    """
    if window.verdict == "none":
        raise ValueError(f"window: there is nothing to export, {window.answer}")
    check_export(form, weight, scheduler, steps, asked)
    interval = Interval(window.sigma_lo.value, window.sigma_hi.value, weight)
    levels = None if steps is None else sampler_levels(scheduler, steps, asked)
    match form:
        case "json":
            return json.dumps(_plain(window, interval, scheduler, levels, asked), indent=2)
        case "sigmas":
            return _lines(interval, levels)
        case "flow":
            return _lines(interval, levels, flow_time)
        case "comfyui":
            return json.dumps(comfyui_ends(interval, scheduler, asked.mu), indent=2)
        case "diffusers":
            return _snippet(interval, asked.mu)


def check_export(
    form: Format | Literal["table"], weight: float, scheduler: Any, steps: int | None, asked: Asked = NOTHING
) -> None:
    """Raise a ValueError if no window could be exported so, whatever its ends; the arguments are those of `export`.

    Raises:
        ValueError: If the weight is not finite, the scheduler makes no such steps, has no mu or is of no known kind.
    """
    # any interval, for its checks
    Interval(1.0, 2.0, weight)
    if scheduler is None:
        if asked.mu is not None:
            raise refusal(f"mu: got {asked.mu:g}; only schedulers of diffusers take one: leave it out")
    else:
        noise_table(scheduler)
        if asked.mu is not None or form == "comfyui":
            check_mu(scheduler, asked.mu)
    if steps is not None:
        sampler_levels(scheduler, steps, asked)


def sampler_levels(scheduler: Any, steps: int | None, asked: Asked = NOTHING) -> Tensor:
    """Return the noise levels at which a sampler of so many steps calls its network, [call].

    Args:
        scheduler: A scheduler of diffusers, which is left as it is; None for EDM's sampler, sigma 80 to 0.002 with rho
            7, whose one step is at 80.
        steps: Steps of the sampler; None where they are asked for one by one.
        asked: What else the scheduler is asked for.

    Raises:
        ValueError: If the steps are not from 1 to 100000, or the scheduler cannot take what it is asked for.
    """
    if scheduler is not None:
        return step_levels(set_steps(scheduler, steps, asked))
    if steps is None or not 1 <= steps <= MOST_STEPS:
        raise refusal(f"sampler_steps: got {steps}; expected 1 to {MOST_STEPS}")
    return rho_grid(levels=max(steps, 2))[:steps]


def units(
    interval: Interval, scheduler: Any, steps: int, asked: Asked = NOTHING, required: bool = True
) -> list[tuple[str, str]]:
    """Return an interval in a pipeline's own units, in words: its timesteps, and the steps that its sampler guides.

    Args:
        interval: The interval.
        scheduler: A scheduler of diffusers; None for EDM's sampler, whose timestep is sigma itself.
        steps: Steps of the sampler.
        asked: What else the scheduler is asked for.
        required: Whether steps that the scheduler cannot make are an error; a row says why there are none otherwise.

    Raises:
        ValueError: If the steps are not from 1 to 100000, or the scheduler cannot take what it is asked for.
    """
    found = []
    name = "EDM's sampler" if scheduler is None else type(scheduler).__name__
    if scheduler is not None:
        if is_flow(scheduler):
            low, high = (flow_time(end) for end in (interval.low, interval.high))
            found.append(("flow time", f"{low:.4g} < s <= {high:.4g}, s = sigma / (1 + sigma)"))
        # a pipeline with timesteps of its own for shifted levels has no timestep of a level
        if asked.timesteps is None or asked.sigmas is None:
            low, high = _timesteps(interval, noise_table(scheduler, asked.mu)).values()
            found.append(("timestep", f"{low:.4g} < t <= {high:.4g}, of {name}"))
    try:
        levels = sampler_levels(scheduler, steps, asked)
    except ValueError as error:
        if required:
            raise
        return [*found, ("steps", f"not known; {error}")]
    guided = torch.nonzero(interval(levels)).flatten().tolist()
    where = f"{guided[0]} to {guided[-1]}" if guided else "none"
    shifted = "" if asked.mu is None else f", mu = {asked.mu:.4g}"
    told = f"{where} of 0 to {len(levels) - 1}, of {name} in {steps} step{'s' * (steps > 1)}{shifted}"
    return [*found, ("steps", told)]


def _plain(window: Window, interval: Interval, scheduler: Any, levels: Tensor | None, asked: Asked) -> dict[str, Any]:
    """Return the window as plain data."""
    plain: dict[str, Any] = {
        "convention": "guide where sigma_lo < sigma <= sigma_hi; sigma is the EDM noise level sigma/alpha; "
        "D + weight * (D - D_guide), a guidance scale of 1 + weight",
        **{name: _number(getattr(window, name)) for name in ("sigma_c", "sigma_lo", "sigma_hi")},
        "flow_time": {"lo": flow_time(interval.low), "hi": flow_time(interval.high)},
        "weight": interval.weight,
        "guidance_scale": 1 + interval.weight,
        "verdict": window.verdict,
        "model": window.model,
    }
    if scheduler is not None:
        table = noise_table(scheduler, asked.mu)
        plain["scheduler"] = type(scheduler).__name__
        if is_dynamic(scheduler):
            plain["mu"] = asked.mu
        if asked.timesteps is None or asked.sigmas is None:
            plain["timestep"] = _timesteps(interval, table)
        percents = {name: table.percent(level) for name, level in _within(interval, table).items()}
        # of a shift that is not known there is none
        plain["percent"] = {name: None if math.isnan(percent) else percent for name, percent in percents.items()}
    if levels is not None:
        plain |= plain_steps(interval, levels)
    return plain


def plain_steps(weight: Weight, levels: Tensor) -> dict[str, list[Any]]:
    """Return which steps of a sampler are guided, and the levels and weights of all, as plain data.

    Args:
        weight: The weight w(sigma).
        levels: Noise level of each step, [step].

    Raises:
        ValueError: If no step is guided.
    """
    return {
        "steps": guided_steps(weight, levels),
        "levels": finite(levels),
        "flow_times": [flow_time(level) for level in levels.tolist()],
        "weights": weight(levels).tolist(),
    }


def finite(levels: Tensor) -> list[float | None]:
    """Return levels as plain data: JSON has no infinity, where a flow begins."""
    return [level if math.isfinite(level) else None for level in levels.tolist()]


def _number(estimate: Estimate) -> dict[str, float | None]:
    plain = estimate.plain()
    return {name: plain[name] for name in ("value", "stderr", "low", "high")}


def _within(interval: Interval, table: NoiseTable) -> dict[str, float]:
    """Return the ends of an interval, cut to the levels of a scheduler's table."""
    lowest, highest = float(table.levels[0]), float(table.levels[-1])
    return {"lo": min(max(interval.low, lowest), highest), "hi": min(max(interval.high, lowest), highest)}


def _timesteps(interval: Interval, table: NoiseTable) -> dict[str, float]:
    """Return the ends of an interval in a scheduler's timesteps, which enclose those of the steps that it guides."""
    if table.kind == "flow":
        # its table is cut, but its first step is at s = 1
        last = float(table.timesteps[-1]) / flow_time(float(table.levels[-1]))
        return {"lo": last * flow_time(interval.low), "hi": last * flow_time(interval.high)}
    return {name: float(table.timestep(level)) for name, level in _within(interval, table).items()}


def flow_time(level: float) -> float:
    """Return a flow's time of a noise level, s = sigma / (1 + sigma)."""
    return level / (1 + level) if math.isfinite(level) else 1.0


def _lines(interval: Interval, levels: Tensor | None, of: Callable[[float], float] = float) -> str:
    """Return one line per step, or without steps the two ends, in a function of the level."""
    if levels is None:
        return f"{of(interval.low):.9g} {of(interval.high):.9g}"
    return step_lines(interval, levels, of)


def step_lines(weight: Weight, levels: Tensor, of: Callable[[float], float] = float) -> str:
    """Return one line per step, `step level weight`.

    Args:
        weight: The weight w(sigma).
        levels: Noise level of each step, [step].
        of: What is written of a level.

    Raises:
        ValueError: If no step is guided.
    """
    guided_steps(weight, levels)
    weights = weight(levels).tolist()
    return "\n".join(f"{i} {of(s):.6g} {w:g}" for i, (s, w) in enumerate(zip(levels.tolist(), weights, strict=True)))


def comfyui_ends(interval: Interval, scheduler: Any, mu: float | None) -> dict[str, float]:
    """Return an interval as ComfyUI's nodes take it: active where sigma_end <= sigma <= sigma_start.

    Its sigma is the EDM noise level, but of a flow the time s = sigma / (1 + sigma). Both ends are raised by half of
    what is taken for rounding: a level at the lower end, which is closed there, is not guided, and one at the upper end
    is. Percents are those of its `percent_to_sigma`.
    """
    low, high = (end * (1 + rounding_at(end) / 2) for end in (interval.low, interval.high))
    if scheduler is None:
        return {"sigma_start": high, "sigma_end": low}
    table = noise_table(scheduler, mu)
    inside = _within(Interval(low, high), table)
    percents = {"start_percent": table.percent(inside["hi"]), "end_percent": table.percent(inside["lo"])}
    if is_flow(scheduler):
        low, high = flow_time(low), flow_time(high)
    return {"sigma_start": high, "sigma_end": low, **percents}


def _snippet(interval: Interval, mu: float | None) -> str:
    """Return Python that builds the guider of this interval in diffusers."""
    low, high, scale = (float(f"{number:.9g}") for number in (interval.low, interval.high, 1 + interval.weight))
    window = f"{low}, {high}, guidance_scale={scale}"
    shift = "" if mu is None else f", mu={mu:.9g}"
    return "\n".join((
        "from softmode.guidance.guider import guidance_callback, sigma_window_guider",
        "from softmode.guidance.own_loop import guided_within",
        "",
        "# a modular pipeline",
        f"guider = sigma_window_guider(pipe.scheduler, {window})",
        "pipe.update_components(guider=guider)",
        "",
        "# any other pipeline with guidance_scale and callback_on_step_end",
        f"scale, callback = guidance_callback(pipe.scheduler, steps, {window}{shift})",
        "pipe(prompt, num_inference_steps=steps, guidance_scale=scale, callback_on_step_end=callback)",
        "",
        "# a pipeline that takes no callback, or reads its scale once, before its loop begins",
        f"with guided_within(pipe, {low}, {high}):",
        f"    pipe(prompt, num_inference_steps=steps, guidance_scale={scale})",
    ))  # fmt: skip
