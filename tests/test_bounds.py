"""Checks of configs: every bound at its edge, every kind of value that is not one."""

import math
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from softmode.bounds import SHOWN, Bounds, build, check, shown

LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Inner:
    width: Annotated[float, Bounds(above=0.0)] = 1.0


@dataclass(frozen=True)
class Example:
    count: Annotated[int, Bounds(low=1, high=10)] = 1
    seed: Annotated[int, Bounds(0, LARGEST)] = 0
    share: Annotated[float, Bounds(low=0.0, below=1.0)] = 0.5
    rate: Annotated[float, Bounds(above=0.0)] = 1.0
    level: Annotated[float | None, Bounds(above=0.0)] = None
    steps: Annotated[int, Bounds(low=1)] | None = None
    times: tuple[Annotated[float, Bounds(above=0.0)], ...] = ()
    interval: Annotated[tuple[float, float], Bounds(low=0.0)] = (0.0, 1.0)
    kind: Literal["cut", "clip"] = "cut"
    name: str = ""
    labels: str | tuple[int, ...] = ""
    fetch: bool = False
    inner: Inner = field(default_factory=Inner)


def changed(**fields: Any) -> Example:
    """An example with any values, as a caller could make it who does not check types."""
    made = Example()
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"count": 10}, {"seed": LARGEST}, {"share": 0.0}, {"share": math.nextafter(1.0, 0.0)}, {"rate": 5e-324},
        {"rate": 3}, {"level": 2.0}, {"steps": 1}, {"times": (1.0, 2)}, {"interval": (0.0, 0.0)}, {"kind": "clip"},
        {"labels": (3, 5)}, {"labels": "3,5"},
    ],
    ids=str,
)  # fmt: skip
def test_values_in_range_pass(fields: dict[str, Any]) -> None:
    """The edges themselves where they are included, an integer for a number, None where it is allowed."""
    check(changed(**fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"count": 0}, "count: got 0; expected at least 1 and at most 10"),
        ({"count": 11}, "count: got 11; expected at least 1 and at most 10"),
        ({"count": 2.5}, "count: got 2.5; expected an integer"),
        ({"count": True}, "count: got True; expected an integer"),
        ({"count": None}, "count: got None; expected an integer"),
        ({"seed": 2**63}, f"seed: got {2**63}; expected at least 0 and at most {LARGEST}"),
        ({"seed": -1}, f"seed: got -1; expected at least 0 and at most {LARGEST}"),
        ({"share": 1.0}, "share: got 1; expected at least 0 and below 1"),
        ({"share": math.nan}, "share: got nan; expected a finite number"),
        ({"share": "0.5"}, "share: got '0.5'; expected a finite number"),
        ({"rate": 0.0}, "rate: got 0; expected above 0"),
        ({"rate": 10**400}, "rate: got an integer of more than 1000 bits; expected a finite number"),
        ({"rate": math.inf}, "rate: got inf; expected a finite number"),
        ({"level": 0.0}, "level: got 0; expected above 0"),
        ({"steps": 0}, "steps: got 0; expected at least 1"),
        ({"times": (1.0, -1.0)}, "times: got -1; expected above 0"),
        ({"times": [1.0]}, "times: got [1.0]; expected a tuple"),
        ({"interval": (0.5, -0.5)}, "interval: got -0.5; expected at least 0"),
        ({"interval": (0.5,)}, "interval: got (0.5,); expected 2 values"),
        ({"kind": "both"}, "kind: got 'both'; expected one of cut, clip"),
        ({"name": 3}, "name: got 3; expected text"),
        ({"labels": 3}, "labels: got 3; expected text"),
        ({"fetch": 1}, "fetch: got 1; expected True or False"),
        ({"inner": Inner(width=0.0)}, "width: got 0; expected above 0"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_other_values_are_refused_by_name(fields: dict[str, Any], message: str) -> None:
    """The field, what came, and what was expected."""
    with pytest.raises(ValueError, match="expected") as caught:
        check(changed(**fields))
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [10**10000, -(10**10000), "x" * 10**6, tuple(range(1000))], ids=["", "-", "x", "()"])
def test_messages_stay_short(value: object) -> None:
    """Whatever came: even an integer that Python does not write out."""
    assert len(shown(value)) <= SHOWN
    with pytest.raises(ValueError, match="count: got ") as caught:
        check(changed(count=value))
    assert len(str(caught.value)) < 150


def test_plain_values_take_the_form_of_their_fields() -> None:
    """An integer where a number is wanted and a list where a tuple is; what fits nowhere stays for `check`."""
    values = {"rate": 3, "level": 2, "steps": 4, "times": [1, 2.5], "interval": [0, 1], "labels": [3, 5], "count": 2}
    made = build(Example, values)
    assert made == Example(rate=3.0, level=2.0, steps=4, times=(1.0, 2.5), interval=(0.0, 1.0), labels=(3, 5), count=2)
    assert [type(value) for value in (made.rate, made.level, made.steps, made.times[0])] == [float, float, int, float]
    check(made)


def test_names_of_no_field_are_refused() -> None:
    """With the names that there are."""
    with pytest.raises(ValueError, match=r"^rates: is no setting; expected one of count, seed, share, rate, "):
        build(Example, {"rates": 1.0})


def test_what_has_no_default_must_be_given() -> None:
    """By its name, not Python's own complaint."""

    @dataclass(frozen=True, kw_only=True)
    class Needy:
        sigma: float
        inner: Inner = field(default_factory=Inner)

    with pytest.raises(ValueError, match=r"^sigma: missing; it has no default"):
        build(Needy, {})
    assert build(Needy, {"sigma": 1}).sigma == 1.0


def test_nothing_heavy_is_imported() -> None:
    """The command line prints its help without torch and numpy."""
    code = "import sys, softmode.bounds, softmode.training.config; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
