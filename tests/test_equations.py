"""docs/equations.md lists every numbered equation once, and what it names exists."""

import ast
import importlib
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "equations.md"
HEADERS = (
    ["Eq.", "Says", "Function", "Test", "Note"],
    ["Where", "Says", "Function", "Test", "Note"],
)
EQUATIONS = [f"({n})" for n in range(1, 71)]
STATUS = re.compile(r"\*\*(open|remark|definition)\*\*")
CODE = re.compile(r"`([^`]+)`")


class Row(NamedTuple):
    """One row of a table: its cells as written."""

    label: str
    says: str
    function: str
    test: str
    note: str

    @property
    def status(self) -> str:
        """Return `open`, `remark` or `definition`, or nothing for an equation that a function computes."""
        found = STATUS.match(self.function)
        return found.group(1) if found else ""


def cells(line):
    """Return the cells of a table row; an escaped bar does not end one."""
    assert line.endswith("|"), f"no bar at the end of: {line}"
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def tables():
    """Return the tables of the page, each a list of rows of cells with the header first."""
    found, previous = [], ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            if not previous.startswith("|"):
                found.append([])
            found[-1].append(cells(line))
        previous = line
    return found


TABLES = tables()
ROWS = [Row(*row) for table in TABLES for row in table[2:] if len(row) == len(Row._fields)]
rows = pytest.mark.parametrize("row", ROWS, ids=[f"{row.label} {row.says[:20]}" for row in ROWS])


def resolve(path):
    """Return what a dotted path names: the longest importable module, then attributes of it."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for name in parts[end:]:
            found = getattr(found, name)
        return found
    raise ModuleNotFoundError(path)


@cache
def names_in(path):
    """Return the tests of a file, test functions and methods of classes, as pytest names them."""
    names = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
    return {name for name in names if name.rpartition("::")[2].startswith("test_")}


def test_tables_are_two_of_five_columns():
    """A stray bar inside a formula would shift the cells of its row."""
    assert [table[0] for table in TABLES] == list(HEADERS)
    for table in TABLES:
        assert set(table[1]) == {"---"}
        for row in table:
            assert len(row) == len(Row._fields), row


def test_every_numbered_equation_is_listed_once_and_in_order():
    """The first table has exactly the rows (1) to (70)."""
    assert [row[0] for row in TABLES[0][2:]] == EQUATIONS


@rows
def test_named_functions_exist(row):
    """Every function named resolves by import and attributes; a function cell names nothing but functions."""
    paths = CODE.findall(row.function)
    assert all(path.startswith("softmode.") for path in paths), paths
    for path in paths + [path for path in CODE.findall(row.note) if path.startswith("softmode.")]:
        resolve(path)


@rows
def test_named_tests_exist(row):
    """Every test named stands in its file; a test cell names nothing but tests."""
    for name in CODE.findall(row.test):
        path, _, test = name.partition("::")
        assert re.fullmatch(r"tests/[\w/]*test_\w+\.py", path), f"{name} is no path::name of a test"
        assert (ROOT / path).is_file(), f"{path} does not exist"
        assert test in names_in(path), f"{path} has no test {test}"


@rows
def test_rows_say_what_they_claim(row):
    """A function comes with a test; without one the row says open, remark or definition; open rows claim nothing."""
    functions, named = CODE.findall(row.function), CODE.findall(row.test)
    if row.status == "open":
        assert row.function == "**open**"
        assert row.test == "–"
        assert row.note, "say what is missing"
    elif row.status:
        assert bool(functions) == bool(named), "a test without a function, or a function without a test"
    else:
        assert functions, "no function: say open, remark or definition"
        assert named, "a function without a test"
        # nothing but paths in the cells, so that none escapes the checks
        for cell in (row.function, row.test):
            assert re.fullmatch(r"`[^`]+`(<br>`[^`]+`)*", cell), cell


def test_every_source_that_is_cited_is_listed() -> None:
    """A key in a docstring or a page that refs.bib lacks would cite nothing."""
    known = set(re.findall(r"^@\w+\{(\w+),", (PAGE.parents[1] / "refs.bib").read_text(), re.MULTILINE))
    pages = [*PAGE.parent.glob("*.md"), PAGE.parents[1] / "README.md", *(PAGE.parents[1] / "src").rglob("*.py")]
    cited = {key for page in pages for key in re.findall(r"\b[a-z]{3,}(?:19|20)\d\d\b", page.read_text())}
    assert len(cited) > 20
    assert not cited - known
