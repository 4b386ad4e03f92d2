"""A first answer: what makes it smaller, and what the full one would take."""

import math
from typing import Any

from softmode.experiments.instability.measure import PRODUCTS, TYPICAL
from softmode.experiments.probe.cost import evaluations_each
from softmode.experiments.window.config import Config
from softmode.experiments.window.criteria import PROBE
from softmode.experiments.window.decided import INFORMATION, INSTABILITY, KNOWN_IN, SOFT_IN, beside
from softmode.runs.progress import duration
from softmode.runs.run import Run

# states that the answer is of, for each trajectory of the probe
STATES = 4
# settings of the probe, of what is known of the labels, of the softest modes
QUICK: dict[str, dict[str, Any]] = {
    "probe": {"trajectories": 3, "steps": 16, "snapshots": ()},
    "known": {"trajectories": 20, "levels": 14},
    "soft": {"trajectories": 8, "levels": 13},
}
# evaluations of a trajectory's copies, about
CLONES = 1800


def quick_note(run: Run) -> str:
    """Return what to say of a first answer: that it is one, and about how long the full one takes; empty of a full one.

    The time is that of the parts that were run, in proportion to their evaluations of the network.
    """
    known, soft = beside(run, KNOWN_IN, INFORMATION), beside(run, SOFT_IN, INSTABILITY)
    parts = (("known", known), ("soft", soft))
    if not any(part is not None and part.config["levels"] == QUICK[name]["levels"] for name, part in parts):
        return ""
    count, seconds = Config.trajectories, 0.0
    per_call = _seconds(run.of(PROBE)) / (run.dataset.sizes["trajectory"] * _calls(run, len(run.dataset["time"])))
    # the default steps of Heun's method
    seconds += per_call * count * (_calls(run, 64) + CLONES)
    if known is not None:
        sizes = known.dataset.sizes
        states = sizes["trajectory"] * sizes["level"]
        seconds += _seconds(known) * STATES * count * INFORMATION.config.levels / states
    levels = INSTABILITY.config.levels * count * (STATES if known is None else 1)
    if soft is not None:
        seconds += _seconds(soft) * levels / (soft.dataset.sizes["trajectory"] * soft.dataset.sizes["level"])
    else:
        seconds += per_call * levels * PRODUCTS * TYPICAL
    took = "" if math.isnan(seconds) else f": the full one takes about {duration(seconds)} on the same machine"
    return f"a first answer, of few states and noise levels{took}; leave --quick out for it"


def _seconds(run: Run) -> float:
    """Return what a part took; NaN where that is not known."""
    return float(run.summary["seconds"] or math.nan)


def _calls(run: Run, times: int) -> int:
    """Return how often one trajectory of a probe of so many times goes through the network."""
    config, shape = run.config | {"steps": times - 1}, run.identity["model"]["shape"]
    axes, looks = len(shape) - 1, run.dataset.sizes["snapshot"]
    each = evaluations_each(config, shape[0], axes, times, looks, "class_entropy" in run.dataset)
    return sum(each.values())
