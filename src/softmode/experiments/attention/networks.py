"""The networks whose Jacobians are compared: the whole one, and those without a part of it."""

from typing import NamedTuple

from softmode.networks.ablation import Attending, GlobalParts, Norming

WHOLE, NULL = "whole network", "Wiener null"
OFF, FROZEN, WEIGHTS = "attention off", "attention frozen", "weights frozen"
NORMS, BOTH = "norms frozen", "both frozen"


class Ablation(NamedTuple):
    """A network without a part of it.

    Attributes:
        name: What tables call it.
        attention: What becomes of its attention.
        norms: What becomes of its norms.
    """

    name: str
    attention: Attending = "kept"
    norms: Norming = "kept"


def ablations(parts: GlobalParts) -> tuple[Ablation, ...]:
    """Return the networks that differ, as far as a network has what is taken out."""
    found = [Ablation(WHOLE)]
    if parts.attention:
        found += [Ablation(OFF, "off"), Ablation(WEIGHTS, "weights frozen"), Ablation(FROZEN, "frozen")]
    if parts.norms:
        found.append(Ablation(NORMS, norms="frozen"))
    if parts.attention and parts.norms:
        found.append(Ablation(BOTH, "frozen", "frozen"))
    return tuple(found)
