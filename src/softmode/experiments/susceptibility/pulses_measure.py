r"""The susceptibility curve: the same pulse of guidance at many noise levels, and where it aligns the samples most."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from softmode.experiments.pulse.critical import Critical
from softmode.experiments.pulse.measure import TrialsPlan, trials_plan
from softmode.experiments.pulse.trials import Condition, find_guidance, fixed
from softmode.experiments.susceptibility.config import Config
from softmode.guidance.weights import log_pulse
from softmode.rounding import TABLE, within

# trajectories that are copied for the clone curve of a window that is measured for the experiment
CLONES = 16


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> TrialsPlan:
    """Check a config and build what it describes.

    Args:
        config: What to guide and how.
        given: The `model`, the `guide` (a Model) and the `classifier` (an ImageClassifier) that are at hand.

    Raises:
        ValueError: If any field is out of range or a model cannot be used, naming the remedy.
    """
    guidance = find_guidance(config, given or {})
    conditions = build(config, guidance.levels)

    def settle(critical: Critical) -> tuple[Config, list[Condition]]:
        return replace(config, sigma_c=critical.sigma_c.value), conditions

    return trials_plan(guidance, settle, len(conditions), CLONES, given or {})


def build(config: Config, levels: Float[Tensor, " level"]) -> list[Condition]:
    """Return no guidance, and one pulse for every centre.

    Args:
        config: The config.
        levels: Falling noise levels of the sampler.

    Raises:
        ValueError: If the centres are out of range, or a pulse holds no level.
    """
    first, last = float(levels[0]), float(levels[-1])
    known = all(within(level, last, first, TABLE) for level in (config.lowest, config.highest))
    if not known or config.lowest >= config.highest:
        raise ValueError(
            f"lowest, highest: got {config.lowest:g} and {config.highest:g}; expected rising noise levels in "
            f"[{last:.4g}, {first:.4g}], those of the sampler"
        )
    found = [Condition("unguided", "no guidance", "H.4", None)]
    for centre in np.geomspace(config.highest, config.lowest, config.centres):
        pulse = log_pulse(float(centre), config.width, config.weight)
        if not bool((pulse(levels) != 0).any()):
            raise ValueError(
                f"width: got {config.width:g}; the pulse at sigma = {centre:.3g} holds no level of the sampler: use a "
                "wider one or more steps"
            )
        text = f"w = {config.weight:g} in ({pulse.low:.3g}, {pulse.high:.3g}]"
        found.append(Condition(f"{centre:.4g}", text, "chi(sigma)", fixed(pulse)))
    return found
