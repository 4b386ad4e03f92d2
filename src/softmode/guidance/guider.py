"""Guidance by noise level for diffusers' own pipelines, in a window or by any w(sigma): a guider, or a callback.

diffusers' guiders begin and stop at fractions of the steps, which are other noise levels for every schedule and number
of steps. These are bound to the scheduler: they ask it for the level of every step, whatever shift, levels or timesteps
its pipeline has asked it for. A loop that begins late, as one from an image does, counts its steps from there; the
scheduler's begin_index, or else the timestep, tells where it stands.
"""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch

from softmode.guidance.export import sampler_levels
from softmode.guidance.weights import Interval, Weight, guided_steps
from softmode.message import refusal
from softmode.networks.diffusers_sampling import Asked, Numbers
from softmode.networks.diffusers_scheduler import noise_table, step_levels
from softmode.rounding import TABLE

# a scale above 1, for which pipelines compute both branches, that guides by nothing
UNGUIDED = 1 + 1e-6


def sigma_window_guider(scheduler: Any, low: float, high: float, guidance_scale: float) -> Any:
    """Return a ClassifierFreeGuidance of diffusers that guides where low < sigma <= high.

    Outside the window it asks for the conditional branch only, so that the network is called once.

    Args:
        scheduler: The scheduler of the pipeline that will use the guider.
        low: Lower end of the window, EDM noise level sigma/alpha.
        high: Upper end.
        guidance_scale: Scale s inside, 1 + w.

    Raises:
        ValueError: If diffusers is not installed, the scheduler is of no known kind, or the window is none.
    """
    return _guider(scheduler, Interval(low, high, guidance_scale - 1), guidance_scale)


def sigma_weights_guider(scheduler: Any, weights: Weight) -> Any:
    """Return a ClassifierFreeGuidance of diffusers that guides each step by the weight of its noise level.

    Where the weight is 0 the guider asks for the conditional branch only, so that the network is called once.

    Args:
        scheduler: The scheduler of the pipeline that will use the guider.
        weights: The weight w(sigma), such as a schedule's `Weights`; the scale is 1 + w.

    Raises:
        ValueError: If diffusers is not installed, or the scheduler is of no known kind.
    """
    return _guider(scheduler, weights, 1.0)


def _guider(scheduler: Any, weights: Weight, guidance_scale: float) -> Any:
    """Return the guider, whose scale is the given one until the loop begins."""
    try:
        from diffusers.guiders.classifier_free_guidance import ClassifierFreeGuidance
    except ImportError:
        raise ValueError("guider: it needs a recent diffusers: pip install 'softmode[diffusers]'") from None
    # whether its levels are known, and what is to be said of them
    noise_table(scheduler)

    class SigmaGuidance(ClassifierFreeGuidance):
        """Classifier-free guidance by the noise level of each step."""

        def _is_cfg_enabled(self) -> bool:
            if not self._enabled:
                return False
            if self._step is None:
                # before the loop begins, a pipeline asks whether it will need both branches
                return True
            weight = float(weights(step_levels(scheduler)[_place(scheduler, self._step, self._timestep)]))
            self.guidance_scale = 1 + weight
            return bool(weight)

    # diffusers warns of every guider that its interface may change
    logger = logging.getLogger("diffusers.guiders.guider_utils")
    before, logger.disabled = logger.disabled, True
    try:
        return SigmaGuidance(guidance_scale=guidance_scale)
    finally:
        logger.disabled = before


def guidance_callback(
    scheduler: Any,
    steps: int | None,
    low: float,
    high: float,
    guidance_scale: float,
    begin: int | None = None,
    *,
    mu: float | None = None,
    sigmas: Numbers | None = None,
    timesteps: Numbers | None = None,
) -> tuple[float, Callable[..., dict[str, Any]]]:
    """Return the guidance_scale and the callback_on_step_end of a pipeline that guides where low < sigma <= high.

    Args:
        scheduler: The pipeline's scheduler.
        steps: Its num_inference_steps; None where sigmas or timesteps are given one by one.
        low: Lower end of the window, EDM noise level sigma/alpha.
        high: Upper end.
        guidance_scale: Scale s inside, 1 + w.
        begin: Index of the timestep at which its loop begins; `weights_callback` says more.
        mu: Of a scheduler whose shift depends on the size of an image, what the pipeline computes of that.
        sigmas: Levels that the pipeline asks its scheduler for.
        timesteps: Timesteps that it asks for.

    Raises:
        ValueError: If no step falls into the window, the loop begins after the last, or the scheduler makes no such
            steps.
    """
    window = Interval(low, high, guidance_scale - 1)
    return weights_callback(scheduler, steps, window, begin, mu=mu, sigmas=sigmas, timesteps=timesteps)


def weights_callback(
    scheduler: Any,
    steps: int | None,
    weights: Weight,
    begin: int | None = None,
    *,
    mu: float | None = None,
    sigmas: Numbers | None = None,
    timesteps: Numbers | None = None,
) -> tuple[float, Callable[..., dict[str, Any]]]:
    """Return the guidance_scale and the callback_on_step_end of a pipeline that guides by a weight w(sigma).

    Such a pipeline decides once whether to compute both branches, so it computes them at every step; where the weight
    is 0 its scale is 1 + 1e-6. The first scale is that of the steps described here; all later ones are of the levels
    that the scheduler has while the loop runs, and a first one that proves wrong is warned of.

    Args:
        scheduler: The pipeline's scheduler.
        steps: Its num_inference_steps; None where sigmas or timesteps are given one by one.
        weights: The weight w(sigma), not negative, such as a schedule's `Weights`; the scale is 1 + w.
        begin: Index of the timestep at which its loop begins, 0 from noise; of a pipeline from an image its
            `get_timesteps` leaves out (steps - int(steps * strength)) * scheduler.order. The scheduler's begin_index
            when left out, or 0 if it has none.
        mu: Of a scheduler whose shift depends on the size of an image, what the pipeline computes of that.
        sigmas: Levels that the pipeline asks its scheduler for, as its argument sigmas; Flux's makes 1, 1 - 1/N, ...
        timesteps: Timesteps that it asks for, as its argument timesteps.

    Raises:
        ValueError: If no step is guided, one by a negative weight, the loop begins after the last, or the scheduler
            makes no such steps.
    """
    begin = _begin(scheduler) if begin is None else begin
    noise_table(scheduler)
    levels = sampler_levels(scheduler, steps, Asked(mu, sigmas, timesteps))
    if not 0 <= begin < len(levels):
        raise refusal(f"begin: got {begin}; expected 0 to {len(levels) - 1}, a timestep of the sampler")
    guided_steps(weights, levels[begin:])
    least = float(weights(levels[begin:]).min())
    if least < 0:
        raise refusal(
            f"weights: got {least:g}; expected 0 or more: a pipeline with guidance_scale guides by scales above 1 alone"
        )

    def scale(level: torch.Tensor) -> float:
        weight = float(weights(level))
        return 1 + weight if weight else UNGUIDED

    first = scale(levels[begin])

    def callback(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        real, place = step_levels(scheduler), _place(scheduler, step, timestep, begin)
        if step == 0 and scale(real[place]) != first:
            warnings.warn(
                f"guider: the loop began at sigma = {float(real[place]):.4g}, not {float(levels[begin]):.4g}, so its "
                "first step was scaled wrongly; describe it by begin, mu, sigmas or timesteps",
                stacklevel=2,
            )
        if place + 1 < len(real):
            pipe._guidance_scale = scale(real[place + 1])
        return values

    return first, callback


def _begin(scheduler: Any) -> int:
    return getattr(scheduler, "begin_index", None) or 0


def _place(scheduler: Any, step: int, timestep: Any, begin: int = 0) -> int:
    """Return at which of a scheduler's timesteps a loop stands.

    Args:
        scheduler: The scheduler.
        step: Step of the loop, which may begin late.
        timestep: Timestep of the step.
        begin: Where the loop begins, if neither the scheduler nor the timestep says so.
    """
    if getattr(scheduler, "begin_index", None) is not None:
        return _begin(scheduler) + step
    if timestep is None:
        return begin + step
    known = scheduler.timesteps.double().cpu()
    same = torch.isclose(known, torch.as_tensor(timestep).double().cpu(), rtol=TABLE, atol=0.0).nonzero().flatten()
    # rounded timesteps may come twice
    later = same[same >= step].tolist()
    return int(later[0]) if later else begin + step
