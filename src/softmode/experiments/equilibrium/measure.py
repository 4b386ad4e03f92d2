"""The plan of an equilibrium: of a network where one is named, of a patch model on lattices otherwise."""

from collections.abc import Mapping
from typing import Any

from softmode.bounds import check
from softmode.experiments.equilibrium import lattice_measure, network_measure
from softmode.experiments.equilibrium.config import Config, check_kind
from softmode.runs.experiment import Plan


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> Plan:
    """Check a config and build what it describes.

    Args:
        config: What is frozen, and how long.
        given: The `model` and the `classifier` of a network that are at hand.

    Raises:
        ValueError: If any field is out of range or something cannot be used, naming the remedy.
    """
    check(config)
    check_kind(config)
    return network_measure.prepare(config, given) if config.model else lattice_measure.prepare(config)
