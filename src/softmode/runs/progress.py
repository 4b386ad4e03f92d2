"""Progress bars of long work, on standard error."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


def duration(seconds: float) -> str:
    """Return a time in words, to the precision of an estimate."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


@contextmanager
def progress_bar(show: bool, total: int, what: str = "sampling") -> Iterator[Callable[[], None]]:
    """Show a progress bar with the time left, on a terminal; yield the function that advances it by one step."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not (show and console.is_terminal)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def training_bar(show: bool, done: int, total: int) -> Iterator[tuple[Callable[[str], None], Callable[[float], None]]]:
    """Show a progress bar with the loss; yield what prints a line above it and what advances it by a step."""
    columns = (
        TextColumn("training"), BarColumn(), TextColumn("step {task.completed}/{task.total}"),
        TextColumn("loss {task.fields[loss]:.4f}"), TimeRemainingColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not show) as bar:
        task = bar.add_task("", total=total, completed=done, loss=math.nan)
        yield (
            lambda line: console.print(line, highlight=False),
            lambda loss: bar.update(task, advance=1, loss=loss),
        )
