"""Results in a terminal: first the answer, then one table, then where the rest is."""

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from softmode.estimate import Estimate
from softmode.runs.results import Results, Table, text
from softmode.runs.run import Run

# rows that a terminal shows
ROWS = 8


def say(label: str, text: str, error: bool = False) -> None:
    """Print a line with a label in front; whatever the text holds is printed as it is."""
    Console(stderr=error).print(f"[bold]{label:<9}[/]{escape(text)}", highlight=False, soft_wrap=True)


def print_run(run: Run, page: Path, figures: Sequence[Path]) -> None:
    """Print the answer of a run, its evidence, and where its report, figures and arrays are."""
    print_results(run.results)
    say("report", str(page))
    if figures:
        names = ", ".join(path.stem for path in figures if path.suffix == ".png")
        say("figures", f"{figures[0].parent}: {names}")
    say("results", str(run.results_file))


def print_results(results: Results, tables: int | None = 1) -> None:
    """Print the answer and the first tables, or all of them."""
    say("answer", results.answer)
    for table in list(results.tables.values())[:tables]:
        print_table(table)


def print_table(table: Table, most: int = ROWS) -> None:
    """Print a table of at most so many rows."""
    shown = RichTable(
        title=escape(table.title), title_justify="left", caption_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    for place, column in enumerate(table.columns):
        numbers = all(isinstance(row[place], int | float | Estimate | None) for row in table.rows)
        shown.add_column(escape(column), justify="right" if numbers else "left", no_wrap=numbers)
    for row in table.rows[:most]:
        shown.add_row(*(escape(text(cell)) for cell in row))
    left = len(table.rows) - most
    notes = [*([f"and {left} more in the report"] if left > 0 else []), *([table.note] if table.note else [])]
    if notes:
        shown.caption = escape("; ".join(notes))
    Console().print(shown, highlight=False)
