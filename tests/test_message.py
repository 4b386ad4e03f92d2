"""Messages stay one short line, whatever they quote."""

import pytest

from softmode.message import LONGEST, QUOTED, first_line, quote, refusal, shorten

LOOKED: list[object] = []


class Loud(dict):  # type: ignore[type-arg]
    """A dictionary that notes who looks into it."""

    def __repr__(self) -> str:
        LOOKED.append(self)
        return "looked into"


def laughs(levels: int) -> list[object]:
    """Return a list of few objects whose repr has 10 ** levels entries."""
    held: list[object] = [1]
    for _ in range(levels):
        held = [held] * 10
    return held


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, "a\nb", "\x1b[31mred", 10**5000, laughs(30), {"k": laughs(30)}, Loud(a=1), {Loud: laughs(9)},
     b"\xff" * 999],
    ids=["long", "lines", "colour", "digits", "laughs", "inside", "derived", "key", "bytes"],
)  # fmt: skip
def test_a_quote_is_short_and_printable(value: object) -> None:
    """An exponentially large repr is never made, and a terminal never gets its control characters."""
    text = quote(value)
    assert text
    assert len(text) <= QUOTED
    assert text.isprintable()
    assert not LOOKED


def test_what_is_short_is_quoted_in_full() -> None:
    assert quote("runs/a b") == "'runs/a b'"
    assert quote((1, 28, 28)) == "(1, 28, 28)"
    assert quote(16.5) == "16.5"


def test_both_ends_of_a_long_message_are_kept() -> None:
    """It begins with the field and ends with the remedy."""
    text = str(refusal(f"model: {'x' * 10**6} : call .eval()"))
    assert len(text) <= LONGEST
    assert text.startswith("model: xxx")
    assert text.endswith("call .eval()")
    assert shorten("a\n  b\tc") == "a b c"
    assert shorten("y" * LONGEST) == "y" * LONGEST
    assert len(shorten("y" * (LONGEST + 1))) == LONGEST


def test_an_error_is_told_by_its_first_line() -> None:
    assert first_line(TypeError("no\nmore")) == "TypeError: no"
    assert first_line(ValueError("shape: got 3")) == "shape: got 3"
    assert first_line(KeyError()) == "KeyError"
