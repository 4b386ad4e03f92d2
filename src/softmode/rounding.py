"""Comparisons of noise levels and times that come out of different computations, and so differ in their last digits."""

from typing import TypeVar, overload

from torch import Tensor

# a few float32 steps of 1.2e-7: tables of schedulers are float32, and processors differ in their last digits
TABLE = 1e-6
# float64 grids after a round trip through a process's time
GRID = 1e-9

Number = TypeVar("Number", float, Tensor)


def rounding_at(level: Number) -> Number:
    """Return the relative rounding of a scheduler's noise level, of the shape of level.

    A flow keeps s = sigma / (1 + sigma) in float32, whose relative rounding grows by 1 + sigma on the way to sigma.
    """
    return TABLE * (1 + level)


@overload
def within(value: float, low: float, high: float, rounding: float = GRID) -> bool: ...
@overload
def within(value: Tensor, low: float, high: float, rounding: float | Tensor = GRID) -> Tensor: ...
def within(value: Tensor | float, low: float, high: float, rounding: float | Tensor = GRID) -> Tensor | bool:
    """Return whether low <= value <= high, an end being met by what equals it up to rounding; NaN is in no range.

    Args:
        value: Noise levels or times, not negative, of any shape.
        low: Lower end.
        high: Upper end.
        rounding: Relative difference that is taken for rounding.
    """
    met = (value >= low * (1 - rounding)) & (value <= high * (1 + rounding))
    return met if isinstance(met, Tensor) else bool(met)


@overload
def above(value: float, bound: float, rounding: float = GRID) -> bool: ...
@overload
def above(value: Tensor, bound: Tensor | float, rounding: float = GRID) -> Tensor: ...
def above(value: Tensor | float, bound: Tensor | float, rounding: float = GRID) -> Tensor | bool:
    """Return whether value > bound by more than rounding; what equals the bound up to rounding is not above it.

    Args:
        value: Noise levels or times, not negative, of any shape.
        bound: What they are compared with, not negative, broadcast against them.
        rounding: Relative difference that is taken for rounding.
    """
    met = value > bound * (1 + rounding)
    return met if isinstance(met, Tensor) else bool(met)
