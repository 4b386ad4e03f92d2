"""The arguments of one command, made into its options; whatever is wrong with them is told in one line."""

import contextlib
import difflib
import inspect
import io
import re
import types
from collections.abc import Sequence
from dataclasses import MISSING, fields, make_dataclass
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import tyro
from tyro.conf import Positional, arg

from softmode.bounds import Bounds, check
from softmode.message import quote, refusal
from softmode.settings import LABELS

# what is meant as an option, and no negative number
FLAG = re.compile(r"-(?!(?:inf|infinity|nan)$)-*[A-Za-z]", re.IGNORECASE)
# where tyro's messages name the option that they are about
ABOUT = re.compile(r"(?:parsing|argument) '?(--[\w-]+|\w+)")
# what marks an argument that is no option
POSITIONAL = get_args(Positional[str])[1]
# characters of a mistyped option that are compared with those that there are
COMPARED = 40
KINDS = {int: "an integer", float: "a number", str: "text", bool: "no value"}


class Options(NamedTuple):
    """What a command line said: the config, what to print of it where there is a choice, and the directory."""

    config: Any
    output: Any
    out: str


def parse(
    name: str, arguments: Sequence[str], config: type[Any], output: type[Any] | None = None, out: str = ""
) -> Options:
    """Return the options of a command line, checked.

    Args:
        name: The command.
        arguments: What stands behind it.
        config: Dataclass of its options.
        output: Dataclass of what it prints, where there is a choice.
        out: Default of --out; there is no such option without one.

    Raises:
        ValueError: In one line, for whatever is wrong with them.
        SystemExit: After the help was printed.
    """
    what = f"Directory of the {'training' if name == 'train' else 'run'}."
    own = [("out", Annotated[str, arg(help=what)], out)] if out else []
    bases = (config,) if output is None else (output, config)
    whole = make_dataclass(config.__name__, own, bases=bases, frozen=True, kw_only=True)
    _check_flags(name, arguments, whole)
    arguments = _apart(arguments, whole)
    said = io.StringIO()
    found: Any
    try:
        with contextlib.redirect_stderr(said):
            found, surplus = tyro.cli(
                whole, prog=f"softmode {name}", args=list(arguments),
                description=inspect.cleandoc(config.__doc__ or ""), return_unknown_args=True,
            )  # fmt: skip
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise _wrong(name, said.getvalue(), arguments, whole) from None
    if surplus:
        raise refusal(f"arguments: softmode {name} has no place for {quote(surplus[0])}; see softmode {name} --help")
    if out and not found.out.strip():
        raise refusal(f"out: got {quote(found.out)}; expected a directory, for example {out}")
    parts = [None if part is None else _part(part, found) for part in (config, output)]
    return Options(parts[0], parts[1], getattr(found, "out", ""))


def _part(kind: type[Any], whole: Any) -> Any:
    """Return the fields of a dataclass that a larger one has inherited, checked."""
    part = kind(**{field.name: getattr(whole, field.name) for field in fields(kind)})
    check(part)
    return part


def _check_flags(name: str, arguments: Sequence[str], whole: type[Any]) -> None:
    """Raise a ValueError, with a remedy, if there is no such option, or one of several names is given twice."""
    hints = {field.name: field.type for field in fields(whole) if POSITIONAL not in get_args(field.type)}
    known = [f"--{field.replace('_', '-')}" for field in hints]
    switches = [f"--no-{field}" for field, hint in hints.items() if hint is bool]
    seen = set[str]()
    for given in arguments[: list(arguments).index("--") if "--" in arguments else None]:
        flag = given.partition("=")[0].replace("_", "-")
        if FLAG.match(flag) and flag not in (*known, *switches, "--help", "-h"):
            near = difflib.get_close_matches(flag[:COMPARED], known, n=2)
            remedy = f"did you mean {' or '.join(near)}?" if near else f"see softmode {name} --help"
            raise refusal(f"arguments: softmode {name} has no option {quote(given.partition('=')[0])}; {remedy}")
        if flag in seen and _is_names(hints[flag.strip("-").replace("-", "_")]):
            raise refusal(f"arguments: got {flag} twice; give it once, with all of its values behind it")
        seen |= {flag} & {*known}


def _is_names(hint: Any) -> bool:
    """Return whether a field takes several names, of which a second option would silently leave only its own."""
    return hint == tuple[str, ...] or LABELS in get_args(hint)


def _apart(arguments: Sequence[str], whole: type[Any]) -> list[str]:
    """Return the arguments, with several numbers apart that are joined by commas."""
    several = {f"--{each.name.replace('_', '-')}" for each in fields(whole) if _is_numbers(each.type)}
    found, flag = list[str](), ""
    for given in arguments:
        words = given.split("=", 1) if FLAG.match(given) else [given]
        if FLAG.match(given):
            flag = words[0].replace("_", "-")
        whole_word = flag not in several or "," not in given
        found += [given] if whole_word else [part for word in words for part in word.split(",") if part]
    return found


def _is_numbers(hint: Any) -> bool:
    """Return whether a field takes several numbers."""
    each = get_args(hint)[0] if get_origin(hint) is tuple else None
    return (get_args(each)[0] if get_origin(each) is Annotated else each) in (int, float)


def _wrong(name: str, box: str, arguments: Sequence[str], whole: type[Any]) -> ValueError:
    """Return the error of what tyro refused, told in a box: the option, what came, and what was expected."""
    words = _first_words(box)
    if words.startswith("Missing from"):
        required = [field.name for field in fields(whole) if field.default is MISSING]
        lacking = " and ".join(required[-words.count("(required)") :])
        return refusal(f"{lacking}: missing; see softmode {name} --help")
    about, hints = ABOUT.search(words), get_type_hints(whole, include_extras=True)
    field = about[1].strip("-").replace("-", "_") if about else ""
    if field not in hints:
        return refusal(f"arguments: {words}; see softmode {name} --help")
    return refusal(f"{field}: got {_given(field, arguments)}; expected {expected(hints[field])}")


def _first_words(box: str) -> str:
    """Return what stands in a box between its title and its first rule, as one line."""
    # a terminal without box drawings gets the title on a line of its own, above a rule
    lines = [line.strip(" │") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    sections = re.split(r"(?m)^[─-]+$", "\n".join(lines))
    return " ".join(sections[min(0 if "╭" in box else 1, len(sections) - 1)].split())


def _given(field: str, arguments: Sequence[str]) -> str:
    """Return the values that were given to an option, where it was given last."""
    flags = [given.partition("=")[0].replace("_", "-") for given in arguments]
    flag = f"--{field.replace('_', '-')}"
    if flag not in flags:
        return "nothing"
    start = len(flags) - 1 - flags[::-1].index(flag)
    _, equals, value = arguments[start].partition("=")
    values = [value] if equals else []
    for given in arguments[start + 1 :]:
        if FLAG.match(given) or given == "--":
            break
        values.append(given)
    return " ".join(map(quote, values[:4])) + (" ..." if len(values) > 4 else "") or "nothing"


def expected(hint: Any) -> str:
    """Return what a field takes, in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if LABELS in arguments:
        return "classes, for example 3,7, or attributes, for example hat=1"
    if origin is Annotated:
        bounds = " and ".join(str(each) for each in arguments[1:] if isinstance(each, Bounds))
        return f"{expected(arguments[0])} {bounds}".strip()
    if origin in (Union, types.UnionType):
        return expected(next(each for each in arguments if each is not type(None)))
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        each = expected(arguments[0])
        return f"values, each {each}" if arguments[1:] == (...,) else f"{len(arguments)} values, each {each}"
    return KINDS.get(hint, "another value")
