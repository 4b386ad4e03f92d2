"""The plan of a susceptibility: by reverse sweeps through the sampler, or by pulses at many noise levels."""

from collections.abc import Mapping
from typing import Any

from softmode.bounds import check
from softmode.experiments.susceptibility import adjoint_measure, pulses_measure
from softmode.experiments.susceptibility.config import Config, check_method
from softmode.runs.experiment import Plan


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> Plan:
    """Check a config and build what it describes.

    Args:
        config: What to guide and how.
        given: The `model`, the `guide` (a Model) and the `classifier` (an ImageClassifier) that are at hand.

    Raises:
        ValueError: If any field is out of range or a model cannot be used, naming the remedy.
    """
    check(config)
    check_method(config)
    return (pulses_measure if config.method == "pulses" else adjoint_measure).prepare(config, given)
