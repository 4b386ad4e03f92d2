"""Checks of what a user chooses, declared on the fields of a frozen config. Nothing heavy is imported."""

import math
import sys
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Settings = TypeVar("Settings")

# characters of a value, and of a path, that a message shows
SHOWN, SHOWN_PATH = 60, 100
# bits of an integer that a message does not write out
LONG = 1000
# entries of a tuple
MOST_ENTRIES = 10**5


@dataclass(frozen=True)
class Bounds:
    """Range of a number that a user chooses, as `Annotated[int, Bounds(low=1)]` on its field.

    Args:
        low: Least value.
        high: Greatest value.
        above: What the value must exceed.
        below: What the value must stay below.
    """

    low: int | float = -math.inf
    high: int | float = math.inf
    above: int | float = -math.inf
    below: int | float = math.inf

    def __contains__(self, value: int | float) -> bool:
        """Return whether a number is in range; NaN never is."""
        return self.low <= value <= self.high and self.above < value < self.below

    def __str__(self) -> str:
        """Return the range in words, for example `at least 0 and below 1`."""
        words = {"at least": self.low, "above": self.above, "at most": self.high, "below": self.below}
        return " and ".join(f"{word} {_number(value)}" for word, value in words.items() if math.isfinite(value))


def check(settings: object) -> None:
    """Check every field of a config against its type, its Bounds and its choices.

    Args:
        settings: A dataclass; fields that are dataclasses are checked as well. None passes where a type allows it, and
            every entry of a tuple is checked.

    Raises:
        ValueError: If a value is of another type, not finite, out of bounds or none of the choices.
    """
    for name, hint in get_type_hints(type(settings), include_extras=True).items():
        _check(name, getattr(settings, name), hint)


def build(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Return a config of plain Python values: integers become numbers, and lists tuples, where a field wants them so.

    Raises:
        ValueError: If there is no field of a name, or a field that has no default is missing.
    """
    hints = get_type_hints(kind, include_extras=True)
    unknown = [name for name in values if name not in hints]
    if unknown:
        raise ValueError(f"{unknown[0][:SHOWN]}: is no setting; expected one of {', '.join(hints)}")
    own = fields(kind)  # type: ignore[arg-type] # a dataclass, which no type can say
    needed = [each.name for each in own if each.default is MISSING and each.default_factory is MISSING]
    missing = [name for name in needed if name not in values]
    if missing:
        raise ValueError(f"{missing[0]}: missing; it has no default, and must be given")
    return kind(**{name: _plain(value, hints[name]) for name, value in values.items()})


def shown(value: object, most: int = SHOWN) -> str:
    """Return a value as a message shows it: in at most so many characters, its start and its end where it is long."""
    if isinstance(value, float):
        return _number(value)
    # Python refuses to write out very long integers
    long = isinstance(value, int) and value.bit_length() > LONG
    text = f"an integer of more than {LONG} bits" if long else repr(value)
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"


def shown_path(path: object) -> str:
    """Return a path as a message shows it."""
    return shown(str(path), SHOWN_PATH)


def _plain(value: Any, hint: Any) -> Any:
    """Return a value in the form of its type, where that is clear; `check` refuses what is not."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _plain(value, arguments[0])
    if origin in (Union, types.UnionType):
        changed = (_plain(value, argument) for argument in arguments)
        return next((new for new in changed if type(new) is not type(value)), value)
    if origin is tuple and isinstance(value, list | tuple):
        entries = arguments[:1] * len(value) if len(arguments) == 2 and arguments[1] is Ellipsis else arguments
        return tuple(map(_plain, value, entries)) if len(entries) == len(value) else tuple(value)
    if hint is float and type(value) is int and abs(value) <= sys.float_info.max:
        return float(value)
    return value


def _check(name: str, value: Any, hint: Any) -> None:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        _check(name, value, arguments[0])
        for bounds in arguments[1:]:
            if isinstance(bounds, Bounds):
                _check_bounds(name, value, bounds)
    elif origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return
        _check_one_of(name, value, [argument for argument in arguments if argument is not type(None)])
    elif origin is Literal:
        if value not in arguments:
            raise _error(name, value, f"one of {', '.join(map(str, arguments))}")
    elif origin is tuple:
        _check_tuple(name, value, arguments)
    elif hint is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not abs(value) <= sys.float_info.max:
            raise _error(name, value, "a finite number")
    elif hint is int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _error(name, value, "an integer")
    elif hint in (str, bool):
        if not isinstance(value, hint):
            raise _error(name, value, "text" if hint is str else "True or False")
    elif is_dataclass(hint):
        check(value)


def _check_bounds(name: str, value: Any, bounds: Bounds) -> None:
    for number in value if isinstance(value, tuple) else (value,):
        if number is not None and number not in bounds:
            raise _error(name, number, str(bounds))


def _check_one_of(name: str, value: Any, hints: list[Any]) -> None:
    errors = []
    for hint in hints:
        try:
            return _check(name, value, hint)
        except ValueError as error:
            errors.append(error)
    raise errors[0]


def _check_tuple(name: str, value: Any, hints: tuple[Any, ...]) -> None:
    if not isinstance(value, tuple):
        raise _error(name, value, "a tuple")
    if len(value) > MOST_ENTRIES:
        raise ValueError(f"{name}: got {len(value)} values; expected at most {MOST_ENTRIES}")
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(value) != len(hints):
        raise _error(name, value, f"{len(hints)} values")
    for entry, hint in zip(value, hints, strict=True):
        _check(name, entry, hint)


def _error(name: str, value: object, expected: str) -> ValueError:
    return ValueError(f"{name}: got {shown(value)}; expected {expected}")


def _number(value: int | float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
