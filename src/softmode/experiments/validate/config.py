"""What a user of the validation chooses."""

from dataclasses import dataclass
from typing import Annotated

from softmode.bounds import Bounds
from softmode.settings import Compute, Count

Some = Annotated[int, Bounds(0, 10**6)]


@dataclass(frozen=True, kw_only=True)
class Config(Compute):
    """Score every criterion of a window on models whose answer is known: false alarms, misses, bias and coverage.

    Example: softmode validate --out runs/validate

    Example: softmode validate --nulls 20 --transitions 20 --quick --out runs/small

    Each model gets a window of its own, in the settings of softmode window. An interrupted run is resumed by the same
    command.
    """

    nulls: Some = 300
    """Models without a transition: Gaussian fields, unimodal mixtures, independent pixels and untrained networks."""
    transitions: Some = 200
    """Models with one or several: two classes along any mode, several classes, and trees, with labels and without."""
    trajectories: Count = 16
    """Trajectories of each window."""
    quick: bool = False
    """Give each model the first answer of softmode window --quick."""
    block: Count = 4
    """Models scored one after another and stored together; an interrupted run resumes at its last finished block."""
