"""Results in a terminal: first the answer, then one table, then where the rest is."""

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from softmode.estimate import Estimate
from softmode.runs.results import Results, Table, text
from softmode.runs.run import Run

# rows that a terminal shows
ROWS = 8


def say(label: str, text: str, error: bool = False) -> None:
    """Print a line with a label in front; whatever the text holds is printed as it is."""
    Console(stderr=error).print(Text.assemble((f"{label:<9}", "bold"), _visible(text)), soft_wrap=True)


def print_run(run: Run, page: Path, figures: Sequence[Path]) -> None:
    """Print the answer of a run, its evidence, and where its report, figures and arrays are."""
    say("answer", run.results.answer)
    for table in list(run.results.tables.values())[:1]:
        print_table(table, ROWS)
    say("report", str(page))
    if figures:
        names = ", ".join(path.stem for path in figures if path.suffix == ".png")
        say("figures", f"{figures[0].parent}: {names}")
    say("results", str(run.results_file))


def print_results(results: Results) -> None:
    """Print results that no report keeps, all of them."""
    say("answer", results.answer)
    for table in results.tables.values():
        print_table(table)
    for note in results.notes:
        say("note", note)


def print_table(table: Table, most: int | None = None) -> None:
    """Print a table, or so many rows of it where a report has all of them."""
    # rich reads markup and emoji in plain text
    shown = RichTable(
        title=Text(_visible(table.title)), title_justify="left", caption_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    for place, column in enumerate(table.columns):
        numbers = all(isinstance(row[place], int | float | Estimate | None) for row in table.rows)
        shown.add_column(
            Text(_visible(column)), justify="right" if numbers else "left", no_wrap=numbers, overflow="fold"
        )
    rows = table.rows[:most]
    for row in rows:
        shown.add_row(*(Text("\n".join(map(_visible, text(cell).split("\n")))) for cell in row))
    left = len(table.rows) - len(rows)
    notes = ([f"and {left} more in the report"] if left else []) + ([table.caption] if table.caption else [])
    if notes:
        shown.caption = Text(_visible("; ".join(notes)))
    Console().print(shown)


def _visible(text: str) -> str:
    """Return a text with a code for whatever would steer the terminal, or is no text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
