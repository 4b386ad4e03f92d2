"""The commands that pages and help texts name, as words."""

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from softmode.cli import commands

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r" {0,3}```(\w*)")
SHELLS = ("", "sh", "bash", "shell", "console")
INLINE = re.compile(r"`(softmode [^`]+)`")


def blocks(text: str) -> tuple[list[str], str]:
    """Return the lines of a page's indented and fenced shell blocks, and the rest of it."""
    shell, prose, inside = [], [], None
    for line in text.splitlines():
        fence = FENCE.match(line)
        if fence:
            inside = fence[1] if inside is None else None
        elif inside is not None:
            shell += [line] if inside in SHELLS else []
        elif line.startswith("    "):
            shell.append(line)
        else:
            prose.append(line)
    return [line.strip().removeprefix("$ ") for line in shell], "\n".join(prose)


def block_commands(text: str) -> Iterator[list[str]]:
    """Yield the words behind `softmode` of every command line of a page's shell blocks, in order."""
    for line in blocks(text)[0]:
        if line.startswith("softmode "):
            yield shlex.split(line, comments=True)[1:]


def inline_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of the whole commands in a page's prose; a name with nothing behind it is not one."""
    for command in INLINE.findall(blocks(text)[1]):
        words = shlex.split(command)[1:]
        # RUN and NAME stand for something of the reader's
        if len(words) > 1 and "..." not in words and not any(word.isupper() for word in words):
            yield words


def help_commands() -> Iterator[list[str]]:
    """Yield the words of every example in the help of the commands."""
    for command in commands().values():
        text = getattr(import_module(command.module), command.options).__doc__
        for line in re.findall(r"(?m)^\s*Example: softmode (.+)$", text):
            yield shlex.split(line)
