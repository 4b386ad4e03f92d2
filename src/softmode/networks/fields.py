"""Checks of the numbers and texts in a foreign file's description of its network, before anything is built of them."""

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from softmode.message import quote, refusal

# of one number, one text and one list in a config of diffusers or transformers
MOST = 10**6
LONGEST_TEXT = 1000
LONGEST_LIST = 10**5
DEEPEST = 8
# the one infinite number that diffusers writes
UNBOUNDED = ("lambda_min_clipped", -math.inf)
# names of counts of layers, and the most of them
REPEATS = ("layers", "blocks", "depth")
MOST_LAYERS = 256
# names of sides of a state, and the longest
SIDES = ("sample_size", "image_size", "sample_height", "sample_width")
LONGEST_SIDE = 4096

Config = TypeVar("Config")


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Raise a ValueError unless a value is a whole number between two bounds; True and 2.0 are none."""
    if type(value) is not int or not low <= value <= high:
        raise refusal(f"{name}: got {quote(value)}; expected a whole number from {low} to {high}")


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise a ValueError unless a value is a number between two bounds, both of which are allowed; NaN is none."""
    if type(value) not in (int, float) or not low <= value <= high:  # type: ignore[operator] # compared once both are known to be numbers
        raise refusal(f"{name}: got {quote(value)}; expected a number from {low:g} to {high:g}")


def check_wholes(name: str, values: object, count: tuple[int, int], bounds: tuple[int, int]) -> None:
    """Raise a ValueError unless a value is a tuple of so many whole numbers between two bounds."""
    if not isinstance(values, tuple) or not count[0] <= len(values) <= count[1]:
        raise refusal(f"{name}: got {quote(values)}; expected a list of {count[0]} to {count[1]} whole numbers")
    for value in values:
        check_whole(name, value, *bounds)


def check_pair(name: str, values: object, bounds: tuple[float, float]) -> None:
    """Raise a ValueError unless a value is a list of two rising numbers between two bounds."""
    if not isinstance(values, list) or len(values) != 2:
        raise refusal(f"{name}: got {quote(values)}; expected a list of two numbers")
    for value in values:
        check_number(name, value, *bounds)
    if not values[0] < values[1]:
        raise refusal(f"{name}: got {quote(values)}; expected rising numbers")


def check_text(name: str, value: object) -> None:
    """Raise a ValueError unless a value is a text of bounded length."""
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise refusal(f"{name}: got {quote(value)}; expected a text of at most {LONGEST_TEXT} characters")


def made(
    kind: type[Config],
    given: Mapping[str, Any],
    check: Callable[[Mapping[str, object]], None],
    numbers: Container[str],
) -> Config:
    """Return a config of which JSON or a pickle gives the fields, lists for tuples and 256 for 256.0.

    Args:
        kind: Its dataclass.
        given: Its fields; those with a default may be left out.
        check: Raises a ValueError if one is of another type or beyond its bounds.
        numbers: Names of those that are floats.

    Raises:
        ValueError: If a field is not known, lacks, is of another type or beyond its bounds.
    """
    known = {field.name: field.default is MISSING for field in fields(kind)}  # type: ignore[arg-type] # a dataclass, which no type can say
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(f"arguments of the network that are not known: {quote(unknown)}")
    if lacking := [name for name, needed in known.items() if needed and name not in given]:
        raise ValueError(f"lacks {', '.join(lacking)}")
    arguments: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    check(arguments)
    return kind(**{name: float(value) if name in numbers else value for name, value in arguments.items()})


def check_config(config: Mapping[str, Any]) -> None:
    """Raise a ValueError if a config of a library's network asks for something that no published network has.

    Such a config may name anything its class takes; numbers are bounded by what their names tell.
    """
    for name, value in config.items():
        check_text("config", name)
        most = LONGEST_SIDE if name in SIDES else MOST
        most = MOST_LAYERS if any(part in name for part in REPEATS) else most
        _check_value(name, value, most, DEEPEST)


def _check_value(name: str, value: object, most: int, deepest: int) -> None:
    if isinstance(value, Mapping | list | tuple):
        if len(value) > LONGEST_LIST or not deepest:
            raise refusal(f"{name}: got {quote(value)}; expected fewer or less nested entries")
        for each in value.values() if isinstance(value, Mapping) else value:
            _check_value(name, each, most, deepest - 1)
    elif isinstance(value, str):
        check_text(name, value)
    elif isinstance(value, int | float) and not abs(value) <= most and (name, value) != UNBOUNDED:
        raise refusal(f"{name}: got {quote(value)}; expected at most {most}")
