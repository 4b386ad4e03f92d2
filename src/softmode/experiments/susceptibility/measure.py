r"""The susceptibility curve: the same pulse of guidance at many noise levels, and where it aligns the samples most."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from softmode.config import SusceptibilityConfig
from softmode.experiments import guided_run
from softmode.experiments.guided_setup import Condition, Guidance, Weight, prepare
from softmode.experiments.susceptibility_summary import summarise
from softmode.guidance import log_pulse
from softmode.model import Model
from softmode.networks.classifier import ImageClassifier
from softmode.store import Run

# trajectories that are copied for the clone curve of a window that is measured for the experiment
CLONES = 16


def run(
    config: SusceptibilityConfig,
    out: str | Path,
    model: Model | None = None,
    guide: Model | None = None,
    classifier: ImageClassifier | None = None,
    progress: bool = False,
) -> Run:
    """Run the experiment, or resume it, and return the stored run.

    Args:
        config: What to guide and how.
        out: Directory of the run; one that holds an unfinished run of the same config is resumed. Where the config
            names no sigma_c and no window, a window is measured in its directory `window` first (H.3).
        model: The model, where it is at hand; loaded by the config's name when left out.
        guide: The model of the guide, where it is at hand.
        classifier: The classifier, where it is at hand.
        progress: Whether to show progress bars.

    Raises:
        ValueError: If the config, a model or the directory is unusable, or there is no sigma_c.
        NonFiniteStateError: If a state becomes NaN or infinite; finished blocks stay readable.
    """
    guidance = prepare(config, model, guide, classifier)
    conditions = build(config, guidance.levels)
    sigma_c, _ = guided_run.critical_level("susceptibility", guidance, out, CLONES, progress)
    settled: Guidance = replace(guidance, config=replace(config, sigma_c=sigma_c))
    return guided_run.run("susceptibility", settled, conditions, out, summarise, progress)


def build(config: SusceptibilityConfig, levels: Tensor) -> list[Condition]:
    """Return no guidance, and one pulse for every centre.

    Args:
        config: The config.
        levels: Falling noise levels of the sampler [level].

    Raises:
        ValueError: If the centres or the width are out of range, or a pulse holds no level.
    """
    if config.centres < 3:
        raise ValueError(
            f"centres: got {config.centres}; expected at least 3, among which a curve can have its maximum"
        )
    if not 0 < config.width < math.inf:
        raise ValueError(f"width: got {config.width}; expected a positive number")
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

        def weight(_label: int, _trials: Sequence[int], pulse: Weight = pulse) -> Weight:
            return pulse

        text = f"w = {config.weight:g} in ({pulse.low:.3g}, {pulse.high:.3g}]"
        found.append(Condition(f"{centre:.4g}", text, "chi(sigma)", weight))
    return found
