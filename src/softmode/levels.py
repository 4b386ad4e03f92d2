"""Where a generation begins and ends: times and noise levels within those that a model knows."""

import math

from torch import Tensor

from softmode.bounds import shown
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.process import VE
from softmode.rounding import TABLE, within
from softmode.samplers import FLOW_LEVELS


def flow_levels(model: Model) -> tuple[float, float]:
    """Return the first and the last noise level of the paper's probability flow (G.2), within what a model knows."""
    lowest, highest = model.levels or (0.0, math.inf)
    return min(FLOW_LEVELS[0], highest), max(FLOW_LEVELS[1], lowest)


def settled_levels(
    model: Model, highest: float | None, lowest: float | None, defaults: tuple[float, float]
) -> tuple[float, float]:
    """Return the highest and the lowest of the noise levels at which to measure; where left out, the model's at most.

    Args:
        model: The model.
        highest: What the user wants; None for the default.
        lowest: The same.
        defaults: Highest and lowest level of a model that knows them all.

    Raises:
        ValueError: If a level is beyond what the model knows, or the two are the wrong way round.
    """
    least, most = model.levels or (0.0, math.inf)
    top = min(defaults[0], most) if highest is None else highest
    bottom = max(defaults[1], least) if lowest is None else lowest
    if not bottom < top:
        raise refusal(f"highest: got {top:g}; expected a noise level above lowest = {bottom:g}")
    for name, level in (("highest", top), ("lowest", bottom)):
        if not within(level, least, most, TABLE):
            raise refusal(
                f"{name}: got {level:g}; {quote(model.name)} knows noise levels in [{least:.4g}, {most:.4g}]: leave "
                f"{name} out"
            )
    return top, bottom


def check_level(name: str, level: float, model: Model) -> None:
    """Raise a ValueError if a noise level, the argument of a name, is beyond what a model knows."""
    least, most = model.levels or (0.0, math.inf)
    if not within(level, least, most, TABLE):
        raise refusal(
            f"{name}: got {level:g}; expected {least:.4g} to {most:.4g}, the noise levels of {quote(model.name)}"
        )


def check_reaches(lowest: float, *images: Tensor | None) -> None:
    """Raise a ValueError if the lowest noise level is above the scale of all data, below which all is decided.

    Args:
        lowest: Lowest noise level.
        images: Data of each class, in the model's units; None where there are none.
    """
    known = [float(each.std()) for each in images if each is not None and each.numel() > 1]
    if known and lowest > max(known):
        raise refusal(
            f"lowest: got {lowest:.3g}; expected less than the scale of the data, {max(known):.3g}: what is decided "
            "below a level cannot be seen from above it"
        )


def default_times(model: Model, ends: tuple[float, float] | None = None) -> tuple[float, float]:
    """Return the first and the last time of the reverse grid, within what the model knows.

    Args:
        model: The model.
        ends: Times for a VP process, such as a sampler's own; None for the times of FLOW_LEVELS, which a VE process
            always has.
    """
    process = model.process
    if ends is None or isinstance(process, VE):
        first, last = (float(process.time(level)) for level in flow_levels(model))
    else:
        first, last = ends
    if model.levels is not None:
        lowest, highest = (float(process.time(level)) for level in model.levels)
        first, last = min(first, highest), max(last, lowest)
    return first, last


def check_levels(model: Model, t_max: float, t_min: float) -> None:
    """Raise a ValueError if the times t_max or t_min are beyond the noise levels that a model knows, up to rounding."""
    if model.levels is None:
        return
    lowest, highest = model.levels
    for name, t in (("t_max", t_max), ("t_min", t_min)):
        level = float(model.process.noise_level(t))
        if not within(level, lowest, highest, TABLE):
            raise refusal(
                f"{name}: got {t:g}, noise level {level:.4g}; {quote(model.name)} knows those in "
                f"[{lowest:.4g}, {highest:.4g}]: leave {name} out"
            )


def parse_range(name: str, text: str, example: str = "0.3:20") -> tuple[float, float]:
    """Return the two noise levels of a range such as 0.3:20, the lower one first.

    Args:
        name: What it is called in messages.
        text: Both, with a colon between.
        example: What a message shows.

    Raises:
        ValueError: If they are not two rising positive numbers.
    """
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        low = high = math.nan
    if not 0 < low < high < math.inf:
        raise refusal(f"{name}: got {shown(text)}; expected two rising noise levels, for example {example}")
    return low, high
