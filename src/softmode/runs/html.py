"""Results as a page: the answer, every table, note and figure of a run, in one file that needs nothing else."""

import base64
import uuid
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from softmode.runs.report import text
from softmode.runs.results import Quantity, Results, Table
from softmode.runs.run import Run

PAGE = "report.html"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
.answer { font-size: 1.15rem; border-left: 4px solid #c00000; padding-left: 1rem }
table { border-collapse: collapse; margin: 1rem 0; font-size: .9rem }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }
caption { text-align: left; font-weight: bold } figure { margin: 1.5rem 0 } img { max-width: 100% }
.note { color: #555; font-size: .85rem }
"""


def write_page(run: Run, figures: Sequence[Path]) -> Path:
    """Write the report of a finished run to DIR/report.html and return its path."""
    images = {path.stem: path for path in figures if path.suffix == ".png"}
    config = Table("Config", ("option", "value"), tuple((name, str(value)) for name, value in run.config.items()))
    made = Table(
        "Made by", ("what", "version"), tuple((name, str(value)) for name, value in run.identity["versions"].items())
    )
    body = page_body(run.experiment.name, run.results, images) + _table(config) + _table(made)
    path = run.directory / PAGE
    staged = path.with_name(f".{PAGE}-{uuid.uuid4().hex}")
    try:
        staged.write_text(
            f"<!doctype html><html lang=en><meta charset=utf-8><title>softmode {escape(run.experiment.name)}</title>"
            f"<style>{STYLE}</style><body>{body}</body></html>\n",
            encoding="utf-8",
        )
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)
    return path


def page_body(name: str, results: Results, figures: Mapping[str, Path]) -> str:
    """Return the answer, tables, notes and figures of some results as HTML."""
    parts = [f"<h1>softmode {escape(name)}</h1>", f"<p class=answer>{escape(results.answer)}</p>"]
    tables = list(results.tables.values())
    parts += [_table(table) for table in tables[:1]]
    parts += [_figure(stem, path) for stem, path in figures.items()]
    if results.quantities:
        parts.append(_table(quantity_table(results.quantities)))
    parts += [_table(table) for table in tables[1:]]
    if results.notes:
        parts.append("<h2>Notes</h2><ul>" + "".join(f"<li>{escape(note)}</li>" for note in results.notes) + "</ul>")
    return "\n".join(parts)


def quantity_table(quantities: Sequence[Quantity]) -> Table:
    """Return every quantity as a table."""
    rows = tuple(
        (q.name, q.estimate, q.estimate.interval, q.level, q.what, q.source, q.estimate.reason) for q in quantities
    )
    return Table(
        "Every quantity", ("name", "value", "95 % interval", "sigma/alpha", "what it is", "source", "in doubt, why"), rows
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{escape(text(cell))}</td>" for cell in row) + "</tr>" for row in table.rows)
    note = f"<p class=note>{escape(table.note)}</p>" if table.note else ""
    return f"<table><caption>{escape(table.title)}</caption><tr>{head}</tr>{rows}</table>{note}"


def _figure(name: str, path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    title = escape(name.replace("_", " "))
    return f'<figure><img alt="{title}" src="data:image/png;base64,{content}"><figcaption>{title}</figcaption></figure>'
