"""Tables of an experiment on guidance: what each condition did, and the critical pulse minus each of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from softmode.comparison import is_least
from softmode.estimate import Estimate
from softmode.runs.results import Cell, Table

POOLED = (
    "mean over classes with its 95 % t interval; p by flipping signs of classes, corrected for the number of "
    "comparisons by Holm"
)
BY_CLASS = "means over trials with their 95 % bootstrap intervals; p by flipping signs of trials, not corrected"
MARKED = "means over trials; * where p < 0.05 by flipping signs of trials, not corrected"
# behind a p-value, and what it says; more samples could give a smaller one
LEAST, SAID = "†", "; †: the smallest possible p-value of so few samples"
# p-values below this are significant
LEVEL = 0.05

Rows = Sequence[Mapping[str, Any]]


def comparison_table(rows: Rows, measure: str, chosen: str = "Critical pulse") -> Table:
    """Return one condition minus each other in one measure, pooled over classes."""
    cells = tuple(
        (row["baseline"], row["pooled"], row["pooled"].interval,
         *(_p(shown, row["p"], row["pooled"]) for shown in (row["p"], row["p_holm"])))
        for row in rows
    )  # fmt: skip
    title = f"{chosen} minus each other condition: {measure}"
    return Table(title, ("minus", "difference", "95 % interval", "p", "p corrected"), cells, _noted(POOLED, cells))


def condition_tables(rows: Rows) -> dict[str, Table]:
    """Return every condition: how well samples fit their class, what it cost, what it did to them, and what it is."""
    aligned = tuple(
        (row["name"], row["probability"], row["logit"], row["top1"], row["guided_steps"]["mean"], row["guide_calls"],
         row["unguided_trials"], row["dose"])
        for row in rows
    )  # fmt: skip
    effects = ("change", "diversity", "diversity_ratio", "frechet", "frechet_change")
    return {
        "conditions": Table(
            "Every condition: alignment and cost, means over classes",
            ("condition", "p", "logit", "top-1", "levels guided", "guided calls", "trials without any",
             "w d log sigma"),
            aligned,
        ),
        "effects": Table(
            "Every condition: what it does to samples",
            ("condition", "rms change from the unguided twin", "diversity", "of the unguided", "Fréchet distance",
             "its change"),
            tuple((row["name"], *(row.get(name) for name in effects)) for row in rows),
        ),
        "definitions": Table(
            "Every condition: what it is", ("condition", "guidance", "source"),
            tuple((row["name"], row["definition"], row["source"]) for row in rows),
        ),
    }  # fmt: skip


def by_class_table(rows: Rows, baseline: str) -> Table:
    """Return the critical pulse minus one other condition by class, in every measure, one measure a row."""
    classes = [entry["label"] for entry in rows[0]["by_class"]]
    cells: list[tuple[Cell, ...]] = []
    for place, label in enumerate(classes):
        entries = [row["by_class"][place] for row in rows]
        measured = [(entry["estimate"], entry["p"]) for entry in entries]
        cells.append((label, *(cell for e, p in measured for cell in (e, e.interval, _p(p, p, e)))))
    heads = [head for row in rows for head in (f"Δ {row['measure']}", "95 % interval", "p")]
    return Table(f"Critical pulse minus {baseline}, by class", ("class", *heads), tuple(cells), _noted(BY_CLASS, cells))


def every_class_table(rows: Rows, measure: str) -> Table:
    """Return the critical pulse minus each other condition in one measure, for every class."""
    labels = [f"class {entry['label']}" for entry in rows[0]["by_class"]]
    cells = tuple((row["baseline"], *(_marked(entry) for entry in row["by_class"])) for row in rows)
    return Table(f"Critical pulse minus each other condition, by class: {measure}", ("minus", *labels), cells, MARKED)


def _marked(entry: Mapping[str, Any]) -> str:
    star = "*" if entry["p"] is not None and entry["p"] < LEVEL else ""
    return f"{entry['estimate'].value:+.2f}{star}"


def _p(shown: float | None, p: float | None, difference: Estimate) -> Cell:
    """Return a p-value, corrected or not, with a mark if that of the test is the smallest possible."""
    return f"{shown:.4g}{LEAST}" if is_least(p, difference.samples) else shown


def _noted(note: str, cells: Sequence[tuple[Cell, ...]]) -> str:
    """Return the note of a table, which says what the mark means where there is one."""
    return note + SAID * any(isinstance(cell, str) and cell.endswith(LEAST) for row in cells for cell in row)
