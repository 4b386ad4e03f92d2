"""Which of the paper's cases the long-range couplings of a state are, by stated measures."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from softmode.estimate import Array

# share of the squared strengths from which on a mode dominates, and coherence from which on its sites move alike
DOMINANT, COHERENT = 2 / 3, 0.5
NONE, CURIE_WEISS, MATTIS, HOPFIELD, MIXED = "none", "Curie-Weiss-like", "Mattis-like", "Hopfield-like", "mixed"


class Verdict(NamedTuple):
    """The case of one state, and what it is read from.

    Attributes:
        word: The case.
        positive: Modes beyond the edge with a positive strength, which align what they couple.
        negative: Modes beyond the edge with a negative one.
        dominance: Share of the strongest in the squared strengths; NaN of none.
    """

    word: str
    positive: int
    negative: int
    dominance: float


def verdict(
    gamma: Float[Array, " pair"], coherence: Float[Array, " pair"], uniform: float, null: float, edge: float
) -> Verdict:
    """Return the case of a state.

    None: no mode is beyond the edge. Curie-Weiss-like: the strongest has more than two thirds of the squared strengths,
    is positive, and its sites move alike. Mattis-like: the same with sites of both signs, one pattern u, which is a
    Curie-Weiss coupling of the amplitude u.x and as little frustrated. Hopfield-like: none has two thirds, so that
    several compete. Mixed: one dominates that is negative.

    A coupling that all sites share moves with the site and is in no rest. As far as it exceeds the null's it counts as
    one more mode, whose coherence is 1.

    Args:
        gamma: Strengths of the modes beyond the edge, NaN for none.
        coherence: Coherence of these modes.
        uniform: Gain of the constant mode through distant sites.
        null: The same of the Wiener null; NaN where there is none, and the uniform coupling is left out.
        edge: Size that a mode must exceed.

    Source: paper D.3, D.4; mattis1976.
    """
    found = np.isfinite(gamma)
    strengths, alike = gamma[found], coherence[found]
    if math.isfinite(null) and abs(uniform - null) > edge:
        strengths, alike = np.append(strengths, uniform - null), np.append(alike, 1.0)
    if len(strengths) == 0:
        return Verdict(NONE, 0, 0, math.nan)
    square, lead = strengths**2, int(np.argmax(np.abs(strengths)))
    dominance = float(square[lead] / square.sum())
    word = HOPFIELD
    if dominance > DOMINANT and strengths[lead] > 0:
        word = CURIE_WEISS if alike[lead] > COHERENT else MATTIS
    elif dominance > DOMINANT:
        word = MIXED
    return Verdict(word, int((strengths > 0).sum()), int((strengths < 0).sum()), dominance)
