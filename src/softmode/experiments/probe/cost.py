"""What a probe costs: how often its states go through the network."""

from collections.abc import Mapping
from typing import Any

from softmode.observe.gains import all_evaluations
from softmode.observe.response import response_evaluations
from softmode.process import log_grid
from softmode.samplers import SAMPLERS


def evaluations_each(
    config: Mapping[str, Any], channels: int, axes: int, times: int, snapshots: int, classes: bool
) -> dict[str, int]:
    """Return how often one trajectory's states go through the network, and what for.

    Args:
        config: The config of the probe, with no field left open.
        channels: Channels of a state.
        axes: Axes of the lattice.
        times: Times of measurement.
        snapshots: Snapshots.
        classes: Whether the class of D(x) is followed.
    """
    # calls depend on the number of times and on whether the last one has noise, not on what lies between
    grid = log_grid(config["t_max"], config["t_min"], config["steps"])
    sampling = int(SAMPLERS[config["sampler"]].calls(grid).sum()) if config["states"] == "reverse" else 0
    return {
        "sampling": sampling,
        "gains": all_evaluations(config["method"], config["shells"], axes, channels, times),
        # and D(x) itself, which is kept
        "locality": snapshots * (response_evaluations(channels) + 1),
        "classes": times if classes else 0,
    }
