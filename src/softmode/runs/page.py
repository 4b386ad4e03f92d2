"""Results as HTML: the answer, every table, note and figure."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from softmode.runs.results import Quantity, Results, Table, text


def page_body(title: str, results: Results, figures: Mapping[str, Path]) -> str:
    """Return the answer, tables, notes and figures of some results as HTML."""
    parts = [f"<h1>softmode {escape(title)}</h1>", f"<p class=answer>{escape(results.answer)}</p>"]
    tables = list(results.tables.values())
    parts += [table_of(table) for table in tables[:1]]
    parts += [_figure(stem, path) for stem, path in figures.items()]
    if results.quantities:
        parts.append(table_of(quantity_table(results.quantities)))
    parts += [table_of(table) for table in tables[1:]]
    if results.notes:
        parts.append("<h2>Notes</h2><ul>" + "".join(f"<li>{escape(note)}</li>" for note in results.notes) + "</ul>")
    return "\n".join(parts)


def quantity_table(quantities: Sequence[Quantity]) -> Table:
    """Return every quantity as a table."""
    rows = tuple(
        (q.name, q.estimate, q.estimate.interval, q.level, q.what, q.source, q.estimate.reason) for q in quantities
    )
    return Table(
        "Every quantity",
        ("name", "value", "95 % interval", "sigma/alpha", "what it is", "source", "in doubt, why"),
        rows,
    )


def table_of(table: Table) -> str:
    """Return a table as HTML."""
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{escape(text(cell))}</td>" for cell in row) + "</tr>" for row in table.rows)
    note = f"<p class=note>{escape(table.caption)}</p>" if table.caption else ""
    return f"<table><caption>{escape(table.title)}</caption><tr>{head}</tr>{rows}</table>{note}"


def _figure(name: str, path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    title = escape(name.replace("_", " "))
    return f'<figure><img alt="{title}" src="data:image/png;base64,{content}"><figcaption>{title}</figcaption></figure>'
