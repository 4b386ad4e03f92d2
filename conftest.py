"""The python blocks of README.md and docs/ run as tests, each page in a folder of its own that is thrown away."""

import contextlib
import tempfile
from typing import Any

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser


def enter_scratch_folder(namespace: dict[str, Any]) -> None:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="softmode-docs-"))
        stack.enter_context(contextlib.chdir(folder))
        namespace["_scratch"] = stack.pop_all()


def leave_scratch_folder(namespace: dict[str, Any]) -> None:
    namespace["_scratch"].close()


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md"],
    setup=enter_scratch_folder,
    teardown=leave_scratch_folder,
).pytest()
