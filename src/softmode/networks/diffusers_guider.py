"""Guidance in a window of noise levels for diffusers' own pipelines: a guider, and a callback for older ones.

diffusers' guiders begin and stop at fractions of the steps, which are other noise levels for every schedule and number
of steps. These are bound to the scheduler: they ask it for the level of every step.
"""

import logging
from collections.abc import Callable
from typing import Any

from softmode.guidance import Interval, guided_steps, sampler_levels
from softmode.networks.diffusers_scheduler import step_levels

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
            # before the loop begins, a pipeline asks whether it will need both branches
            return self._step is None or bool(interval(step_levels(scheduler)[self._step]))

    # diffusers warns of every guider that its interface may change
    logger = logging.getLogger("diffusers.guiders.guider_utils")
    before, logger.disabled = logger.disabled, True
    try:
        return SigmaWindowGuidance(guidance_scale=guidance_scale)
    finally:
        logger.disabled = before


def guidance_callback(
    scheduler: Any, steps: int, low: float, high: float, guidance_scale: float
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

    Raises:
        ValueError: If no step falls into the window.
    """
    levels = sampler_levels(scheduler, steps)
    guided = set(guided_steps(Interval(low, high, guidance_scale - 1), levels))
    scales = [guidance_scale if i in guided else UNGUIDED for i in range(len(levels))]

    def callback(pipe: Any, step: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if step + 1 < len(scales):
            pipe._guidance_scale = scales[step + 1]
        return values

    return scales[0], callback
