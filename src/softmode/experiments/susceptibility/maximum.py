"""Where guidance acts most, and whether that is inside a window."""

import math
from typing import NamedTuple

from softmode.estimate import NORMAL_95, Estimate
from softmode.rounding import above
from softmode.runs.results import Results

# what chi is of: measure -> what it is
GAINS = {
    "probability": "probability of the target class",
    "log-probability": "log-probability of the target class",
    "logit": "logit of the target class",
    "change": "rms change of the sample",
}


def own_name(alignment: str) -> str:
    """Return how an alignment that is a function of the user's own is called."""
    name = alignment.rpartition(":")[2]
    return name if name.isidentifier() else "A"


class Contained(NamedTuple):
    """Whether a window contains the measured maximum of chi.

    Attributes:
        measure: What chi is of.
        argmax: Where it is largest.
        inside: Whether that is inside; None without a window.
        certain: Whether all of its 95 % interval is on the same side.
    """

    measure: str
    argmax: Estimate
    inside: bool | None
    certain: bool

    @property
    def verdict(self) -> str:
        """The same in words."""
        if self.inside is None:
            return "there is no window"
        side = "inside the window" if self.inside else "outside the window"
        return side if self.certain else f"{side}, but not all of its interval"

    def __str__(self) -> str:
        """Return the finding as a sentence."""
        at = f"sigma = {self.argmax} {self.argmax.interval}".strip()
        return f"chi of {GAINS.get(self.measure) or own_name(self.measure)} is largest at {at}: {self.verdict}"


def contains(window: tuple[float, float] | None, results: Results) -> list[Contained]:
    """Say whether a window contains the measured maximum of chi, for every measure.

    Args:
        window: Lowest and highest noise level; None where no window was found.
        results: Results of a susceptibility experiment on the same model.
    """
    return [contained(name, found, window) for name, found in results.values["argmax"].items()]


def contained(name: str, argmax: Estimate, window: tuple[float, float] | None) -> Contained:
    """Say the same of one measure."""
    if window is None or math.isnan(argmax.value):
        return Contained(name, argmax, None, False)
    low, high = window
    inside, *ends = (above(e, low) and not above(e, high) for e in (argmax.value, argmax.low, argmax.high))
    known = math.isfinite(argmax.low) and math.isfinite(argmax.high)
    return Contained(name, argmax, inside, known and ends == [inside, inside])


def distance(argmax: Estimate, sigma_c: Estimate) -> Estimate:
    """Return log(argmax / sigma_c), both independent, with a normal interval."""
    value = math.log(argmax.value / sigma_c.value)
    stderr = math.hypot(argmax.stderr / argmax.value, sigma_c.stderr / sigma_c.value)
    reach = NORMAL_95 * stderr
    return Estimate(value, stderr, argmax.samples, value - reach, value + reach)
