"""The ways to spend a sampler's effort: more levels, or corrector steps at all of them, or at some."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from softmode.estimate import Array
from softmode.message import refusal

PLAIN, MORE, SPREAD, WINDOW, ABOVE, BELOW = "plain", "more levels", "spread", "window", "above", "below"
# where correctors are put, beside more levels, in the order of tables
PLACES = (SPREAD, WINDOW, ABOVE, BELOW)
# what tables call them
LABELS = {
    PLAIN: "sampler alone",
    MORE: "more levels",
    SPREAD: "at every level",
    WINDOW: "in the window",
    ABOVE: "above it",
    BELOW: "below it",
}
DEFINITIONS = {
    PLAIN: "the sampler alone",
    MORE: "no correctors, as many more levels as cost the same",
    SPREAD: "correctors at every level",
    WINDOW: "all correctors at the levels inside the window",
    ABOVE: "all correctors at the levels above the window",
    BELOW: "all correctors at the levels below the window",
}


class Condition(NamedTuple):
    """One way to sample.

    Attributes:
        kind: Where the effort is spent, a key of DEFINITIONS.
        effort: Corrector steps for each level of the plain sampler, on average, or what costs as much.
        levels: Noise levels of the sampler.
        correctors: Corrector steps at each of its times, the levels and a last one without noise.
    """

    kind: str
    effort: int
    levels: int
    correctors: tuple[int, ...]

    @property
    def plain(self) -> dict[str, Any]:
        """The same as JSON's own types, as a run keeps it."""
        return {**self._asdict(), "correctors": list(self.correctors), "calls": self.calls}

    @property
    def calls(self) -> int:
        """Network evaluations of one sample: Heun's, whose last step is Euler's, and one for each corrector."""
        return 2 * self.levels - 1 + sum(self.correctors)


def conditions(
    efforts: tuple[int, ...], levels: Float[Array, " level"], window: tuple[float, float]
) -> list[Condition]:
    """Return the plain sampler, and every way to spend each effort, all of one effort at the same cost.

    Args:
        efforts: Corrector steps for each level, on average; 0 is the plain sampler.
        levels: Falling noise levels of the plain sampler; at the first there is nothing to correct.
        window: Lowest and highest noise level of the window; it is open below and closed above.

    Raises:
        ValueError: If the number of levels is even, or none of them is in a part.
    """
    count = len(levels)
    if count % 2 == 0:
        raise refusal(f"steps: got {count}; expected an odd number, so that more levels can cost what correctors do")
    inside = (levels > window[0]) & (levels <= window[1])
    parts = {
        SPREAD: np.ones(count, bool), WINDOW: inside, ABOVE: levels > window[1], BELOW: levels <= window[0],
    }  # fmt: skip
    for kind, part in parts.items():
        part[0] = False
        if not part.any():
            where = "inside" if kind == WINDOW else kind
            raise refusal(
                f"steps: {count} noise levels have none {where} the window, {window[0]:.3g} to {window[1]:.3g}, after "
                "the first; use more steps, or another window"
            )
    found = [Condition(PLAIN, 0, count, (0,) * (count + 1))]
    for effort in (each for each in efforts if each):
        total = effort * (count - 1)
        more = count + total // 2
        found.append(Condition(MORE, effort, more, (0,) * (more + 1)))
        found += [Condition(kind, effort, count, (*dealt(total, parts[kind]), 0)) for kind in PLACES]
    return found


def dealt(total: int, part: Array) -> list[int]:
    """Return a number of corrector steps dealt out to some levels as evenly as can be, the highest noise first."""
    places = np.flatnonzero(part)
    share = np.zeros(len(part), int)
    share[places] = total // len(places)
    share[places[: total % len(places)]] += 1
    return share.tolist()
