"""Guidance in a window of noise levels for diffusers' own pipelines: a guider, and a callback for older ones.

diffusers' guiders begin and stop at fractions of the steps, which are other noise levels for every schedule and number
of steps. These are bound to the scheduler: they ask it for the level of every step. A loop that begins late, as one
from an image does, counts its steps from there; the scheduler's begin_index, or else the timestep, tells where it
stands.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch

from softmode.guidance.export import sampler_levels
from softmode.guidance.weights import Interval, guided_steps
from softmode.networks.diffusers_scheduler import step_levels
from softmode.rounding import TABLE

# a scale above 1, for which pipelines compute both branches, that guides by nothing
UNGUIDED = 1 + 1e-6


def sigma_window_guider(scheduler: Any, low: float, high: float, guidance_scale: float) -> Any:
    """Return a ClassifierFreeGuidance of diffusers that guides where low < sigma <= high.

    Outside the window the guider asks for the conditional branch only, so that the network is called once.

    Args:
        scheduler: The scheduler of the pipeline that will use the guider.
        low: Lower end of the window, EDM noise level sigma/alpha.
        high: Upper end.
        guidance_scale: Scale s inside, 1 + w.

    Raises:
        ValueError: If diffusers is not installed, or the window is none.
    """
    try:
        from diffusers.guiders.classifier_free_guidance import ClassifierFreeGuidance
    except ImportError:
        raise ValueError("guider: it needs a recent diffusers: pip install 'softmode[diffusers]'") from None
    interval = Interval(low, high, guidance_scale - 1)

    class SigmaWindowGuidance(ClassifierFreeGuidance):
        """Classifier-free guidance in a window of noise levels."""

        def _is_cfg_enabled(self) -> bool:
            if not self._enabled:
                return False
            if self._step is None:
                # before the loop begins, a pipeline asks whether it will need both branches
                return True
            return bool(interval(step_levels(scheduler)[_place(scheduler, self._step, self._timestep)]))

    # diffusers warns of every guider that its interface may change
    logger = logging.getLogger("diffusers.guiders.guider_utils")
    before, logger.disabled = logger.disabled, True
    try:
        return SigmaWindowGuidance(guidance_scale=guidance_scale)
    finally:
        logger.disabled = before


def guidance_callback(
    scheduler: Any, steps: int, low: float, high: float, guidance_scale: float, begin: int | None = None
) -> tuple[float, Callable[..., dict[str, Any]]]:
    """Return the guidance_scale and the callback_on_step_end of a pipeline that guides where low < sigma <= high.

    Such a pipeline decides once whether to compute both branches, so it computes them at every step; outside the window
    its scale is 1 + 1e-6.

    Args:
        scheduler: The pipeline's scheduler.
        steps: Its num_inference_steps.
        low: Lower end of the window, EDM noise level sigma/alpha.
        high: Upper end.
        guidance_scale: Scale s inside, 1 + w.
        begin: Index of the timestep at which its loop begins, 0 from noise; of a pipeline from an image its
            `get_timesteps` leaves out (steps - int(steps * strength)) * scheduler.order. The scheduler's begin_index
            when left out, or 0 if it has none.

    Raises:
        ValueError: If no step falls into the window, or the loop begins after the last.
    """
    begin = _begin(scheduler) if begin is None else begin
    levels = sampler_levels(scheduler, steps)
    if not 0 <= begin < len(levels):
        raise ValueError(f"begin: got {begin}; expected 0 to {len(levels) - 1}, a timestep of the sampler")
    guided = {begin + i for i in guided_steps(Interval(low, high, guidance_scale - 1), levels[begin:])}
    scales = [guidance_scale if i in guided else UNGUIDED for i in range(len(levels))]

    def callback(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        after = _place(scheduler, step, timestep, begin) + 1
        if after < len(scales):
            pipe._guidance_scale = scales[after]
        return values

    return scales[begin], callback


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
