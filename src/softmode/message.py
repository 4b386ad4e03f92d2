"""Messages in one line of bounded length, whatever the input holds that they quote."""

import reprlib
from typing import Any

# characters of a message, of a value that it quotes, and of another error's words
LONGEST, QUOTED, REASON = 300, 120, 150


class _Brief(reprlib.Repr):
    """A repr that looks at a few entries of a few levels of anything built in, and at none of what is derived of it."""

    def repr_instance(self, x: Any, level: int) -> str:
        if isinstance(x, dict | list | tuple | set | frozenset):
            return f"<{type(x).__name__}>"
        return super().repr_instance(x, level)


_brief = _Brief()
_brief.maxlevel = 2
_brief.maxstring = _brief.maxother = _brief.maxlong = QUOTED


def shorten(text: str, limit: int = LONGEST) -> str:
    """Return a text in one printable line of at most `limit` characters, its middle left out where it is longer."""
    # more than can be kept is not worth looking at
    if len(text) > 4 * limit:
        text = f"{text[: 2 * limit]} … {text[-2 * limit :]}"
    line = " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in text).split())
    if len(line) <= limit:
        return line
    tail = limit // 3
    return f"{line[: limit - tail - 3]} … {line[-tail:]}"


def quote(value: object) -> str:
    """Return the repr of anything, in one short line."""
    try:
        return shorten(_brief.repr(value), QUOTED)
    # an int of thousands of digits, or a repr of the user's own that fails
    except Exception:
        return f"<{type(value).__name__}>"


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, after its type unless it is a plain ValueError, in a short line."""
    reason, kind = str(error).strip().partition("\n")[0], type(error).__name__
    if reason and type(error) is ValueError:
        return shorten(reason, REASON)
    return shorten(f"{kind}: {reason}" if reason else kind, REASON)


def refusal(text: str) -> ValueError:
    """Return the error of an unusable input, `field: got X; expected Y: remedy`, in one line of bounded length."""
    return ValueError(shorten(text))
