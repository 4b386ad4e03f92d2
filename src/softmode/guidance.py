r"""Guidance in a window of noise levels: the weight w(sigma), the steps that it falls on, and its forms for pipelines.

Weights are the paper's: $D + w(\sigma)(D - D_{\mathrm{guide}})$, so w = 0 is unguided. The guidance scale of pipelines,
$D_{\mathrm{guide}} + s\,(D - D_{\mathrm{guide}})$, is s = 1 + w.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from softmode.networks.diffusers_scheduler import is_flow, noise_table, step_levels
from softmode.process import rho_grid

Format = Literal["json", "sigmas", "comfyui", "diffusers"]


@dataclass(frozen=True)
class Interval:
    """Constant guidance inside an interval of noise levels, low < sigma <= high, and none outside: a weight w(sigma).

    Args:
        low: Lower end, sigma/alpha, not included.
        high: Upper end, included.
        weight: The weight inside.

    Source: kynkaanniemi2024, whose intervals are open below and closed above; paper H.4.
    """

    low: float
    high: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Raise a ValueError unless the ends are ordered and the weight is finite."""
        if not 0 <= self.low < self.high or math.isnan(self.high):
            raise ValueError(f"interval: got ({self.low:g}, {self.high:g}]; expected 0 <= low < high")
        if not math.isfinite(self.weight):
            raise ValueError(f"weight: got {self.weight}; expected a finite number")

    def __call__(self, sigma: Tensor) -> Tensor:
        """Return the weight at noise levels of any shape."""
        return ((sigma > self.low) & (sigma <= self.high)).to(sigma) * self.weight


def sigma_pulse(centre: float, half_width: float, weight: float) -> Interval:
    r"""Return the pulse of constant weight where $|\sigma - \sigma_c| \le \Delta$.

    Args:
        centre: Its centre, a noise level.
        half_width: Half its width, in sigma; a pulse that would begin below 0 begins there.
        weight: The weight inside.

    Source: paper H.4.
    """
    return Interval(max(centre - half_width, 0.0), centre + half_width, weight)


def log_pulse(centre: float, width: float, weight: float) -> Interval:
    r"""Return the pulse of constant weight where $|\log(\sigma/\sigma_c)| \le$ width / 2.

    Args:
        centre: Its centre, a noise level.
        width: Its width in log sigma.
        weight: The weight inside.
    """
    return Interval(centre * math.exp(-width / 2), centre * math.exp(width / 2), weight)


@dataclass(frozen=True, eq=False)
class Pulses:
    """An interval of its own for every state of a batch: a weight w(sigma) that differs between them.

    Args:
        low: Lower ends, not included, float64 [batch]; NaN for a state that is never guided.
        high: Upper ends, included, [batch].
        weight: The weight inside.
    """

    low: Tensor
    high: Tensor
    weight: float

    def __call__(self, sigma: Tensor) -> Tensor:
        """Return the weights at one noise level, or at one for every state, [batch]."""
        return ((sigma > self.low) & (sigma <= self.high)).double() * self.weight


@dataclass(frozen=True, eq=False)
class AtLevels:
    """Guidance at some noise levels of a sampler and no others: a weight w(sigma).

    Args:
        levels: The guided levels, float64 [level].
        weight: The weight there.
    """

    levels: Tensor
    weight: float

    def __call__(self, sigma: Tensor) -> Tensor:
        """Return the weight at noise levels of any shape."""
        return torch.isin(sigma, self.levels).to(sigma) * self.weight


def guided_steps(interval: Interval, levels: Tensor) -> list[int]:
    """Return the steps that an interval guides.

    Args:
        interval: The interval.
        levels: Noise level at which each step calls the network, [step].

    Raises:
        ValueError: If no step falls into the interval.
    """
    steps = torch.nonzero(interval(levels)).flatten().tolist()
    if not steps and interval.weight:
        above, below = levels[levels > interval.high], levels[levels <= interval.low]
        ends = [f"{float(side):.4g}" for side in (*above[-1:], *below[:1])]
        raise ValueError(
            f"sampler_steps: none of these {len(levels)} falls into ({interval.low:.4g}, {interval.high:.4g}]; the "
            f"nearest are at {' and '.join(ends)}: use more steps"
        )
    return steps


def export(
    window: Mapping[str, Any], form: Format, weight: float, scheduler: Any = None, steps: int | None = None
) -> str:
    """Return the window of a run in a form that a pipeline takes.

    Args:
        window: The answer of `softmode window`, with `sigma_c`, `sigma_lo` and `sigma_hi`.
        form: `json`: everything, for one's own code; `sigmas`: a line per step; `comfyui`: the ends in ComfyUI's sigma
            and percent; `diffusers`: Python that builds a guider bound to the scheduler.
        weight: Weight w inside the window.
        scheduler: The pipeline's scheduler of diffusers; steps are those of EDM's sampler when left out.
        steps: Steps of the sampler.

    Raises:
        ValueError: If there is no window, no step falls into it, or the form needs a scheduler.
    """
    if window["verdict"] == "none":
        raise ValueError(f"window: there is nothing to export, {window['answer']}")
    interval = Interval(window["sigma_lo"]["value"], window["sigma_hi"]["value"], weight)
    levels = None if steps is None else sampler_levels(scheduler, steps)
    match form:
        case "json":
            return json.dumps(_plain(window, interval, scheduler, levels), indent=2)
        case "sigmas":
            return _sigmas(interval, levels)
        case "comfyui":
            return json.dumps(_comfyui(interval, scheduler), indent=2)
        case "diffusers":
            return _snippet(interval)


def sampler_levels(scheduler: Any, steps: int) -> Tensor:
    """Return the noise levels at which a sampler of so many steps calls its network, [call].

    Args:
        scheduler: A scheduler of diffusers; None for EDM's sampler, sigma 80 to 0.002 with rho 7.
        steps: Steps of the sampler.

    Raises:
        ValueError: If there are too few steps.
    """
    if steps < 2:
        raise ValueError(f"sampler_steps: got {steps}; expected at least 2")
    if scheduler is None:
        return rho_grid(levels=steps)
    scheduler.set_timesteps(steps)
    return step_levels(scheduler)


def units(interval: Interval, scheduler: Any, steps: int) -> list[tuple[str, str]]:
    """Return an interval in a pipeline's own units, in words: its timesteps, and the steps that its sampler guides.

    Args:
        interval: The interval.
        scheduler: A scheduler of diffusers; None for EDM's sampler, whose timestep is sigma itself.
        steps: Steps of the sampler.

    Raises:
        ValueError: If there are too few steps.
    """
    levels, found = sampler_levels(scheduler, steps), []
    name = "EDM's sampler" if scheduler is None else type(scheduler).__name__
    if scheduler is not None:
        table = noise_table(scheduler)
        low, high = (float(table.timestep(level)) for level in _within(interval, table.range).values())
        found.append(("timestep", f"{low:.4g} < t <= {high:.4g}, of {name}"))
    guided = torch.nonzero(interval(levels)).flatten().tolist()
    where = f"{guided[0]} to {guided[-1]}" if guided else "none"
    return [*found, ("steps", f"{where} of 0 to {len(levels) - 1}, of {name} in {steps} steps")]


def _plain(window: Mapping[str, Any], interval: Interval, scheduler: Any, levels: Tensor | None) -> dict[str, Any]:
    """Return the window as plain data."""
    plain: dict[str, Any] = {
        "convention": "guide where sigma_lo < sigma <= sigma_hi; sigma is the EDM noise level sigma/alpha; "
        "D + weight * (D - D_guide), a guidance scale of 1 + weight",
        **{name: _number(window[name]) for name in ("sigma_c", "sigma_lo", "sigma_hi")},
        "weight": interval.weight,
        "guidance_scale": 1 + interval.weight,
        "verdict": window["verdict"],
        "model": window["model"]["name"],
    }
    if scheduler is not None:
        table = noise_table(scheduler)
        inside = _within(interval, table.range)
        plain["scheduler"] = type(scheduler).__name__
        plain["timestep"] = {name: float(table.timestep(level)) for name, level in inside.items()}
        plain["percent"] = {name: table.percent(level) for name, level in inside.items()}
    if levels is not None:
        plain["steps"] = guided_steps(interval, levels)
        plain["levels"], plain["weights"] = levels.tolist(), interval(levels).tolist()
    return plain


def _number(estimate: Mapping[str, Any]) -> dict[str, float]:
    return {name: estimate[name] for name in ("value", "stderr", "low", "high")}


def _within(interval: Interval, known: Sequence[float]) -> dict[str, float]:
    """Return the ends of an interval, cut to the levels that a scheduler knows."""
    lowest, highest = known
    return {"lo": min(max(interval.low, lowest), highest), "hi": min(max(interval.high, lowest), highest)}


def _sigmas(interval: Interval, levels: Tensor | None) -> str:
    """Return one line per step, `step sigma weight`, or without steps the two ends."""
    if levels is None:
        return f"{interval.low:.6g} {interval.high:.6g}"
    guided_steps(interval, levels)
    weights = interval(levels).tolist()
    return "\n".join(f"{i} {s:.6g} {w:g}" for i, (s, w) in enumerate(zip(levels.tolist(), weights, strict=True)))


def _comfyui(interval: Interval, scheduler: Any) -> dict[str, float]:
    """Return the window as ComfyUI's nodes take it: active where sigma_end <= sigma <= sigma_start.

    Its sigma is the EDM noise level, but of a flow the time s = sigma / (1 + sigma). The lower end, which is open here
    and closed there, is the next number above it. Percents are those of its `percent_to_sigma`.
    """
    low, high = math.nextafter(interval.low, math.inf), interval.high
    if scheduler is None:
        return {"sigma_start": high, "sigma_end": low}
    table = noise_table(scheduler)
    inside = _within(Interval(low, high), table.range)
    percents = {"start_percent": table.percent(inside["hi"]), "end_percent": table.percent(inside["lo"])}
    if is_flow(scheduler):
        low, high = low / (1 + low), high / (1 + high)
    return {"sigma_start": high, "sigma_end": low, **percents}


def _snippet(interval: Interval) -> str:
    """Return Python that builds the guider of this interval in diffusers."""
    low, high, scale = (float(f"{number:.6g}") for number in (interval.low, interval.high, 1 + interval.weight))
    window = f"{low}, {high}, guidance_scale={scale}"
    return "\n".join((
        "from softmode.networks.diffusers_guider import guidance_callback, sigma_window_guider",
        "",
        "# a modular pipeline",
        f"guider = sigma_window_guider(pipe.scheduler, {window})",
        "pipe.update_components(guider=guider)",
        "",
        "# any other pipeline with guidance_scale and callback_on_step_end",
        f"scale, callback = guidance_callback(pipe.scheduler, steps, {window})",
        "pipe(prompt, num_inference_steps=steps, guidance_scale=scale, callback_on_step_end=callback)",
    ))  # fmt: skip
