"""What an experiment found: the answer in a sentence, quantities with errors, tables, notes; read back from JSON.

In JSON what is undefined, NaN, is null, and an infinite number is the text "Infinity" or "-Infinity". Read back, null
is NaN in estimates and levels, which are numbers, and None elsewhere.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np

from softmode.estimate import Estimate

Cell = str | int | float | bool | None | Estimate
ESTIMATE = frozenset(each.name for each in fields(Estimate))
# how a note begins to say what a question mark means, and the reasons that are told at most
DOUBT, MOST_REASONS = "?:", 3
INFINITE = {"Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True)
class Quantity:
    """A named number with its uncertainty.

    Args:
        kind: Stable identifier of what it is.
        index: Which of several of a kind, from 1 in falling order of time; 0 where there can be only one.
        estimate: Its value, a time of the process unless `what` says otherwise.
        what: What it is, in one line.
        symbol: Short label for figures, in mathtext; empty where it is not marked there.
        source: Equation, section or key of a publication.
        level: The same as a noise level sigma/alpha, where it is a time; NaN otherwise.
    """

    kind: str
    index: int
    estimate: Estimate
    what: str
    symbol: str = ""
    source: str = ""
    level: float = math.nan

    @property
    def name(self) -> str:
        """The kind, numbered where there are several."""
        return f"{self.kind}_{self.index}" if self.index else self.kind


class Table(NamedTuple):
    """A table of results.

    Attributes:
        title: What it shows.
        columns: Heads of the columns, with units.
        rows: Cells, one for each column.
        note: How to read it; empty where that is plain.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    @property
    def caption(self) -> str:
        """The note, and what a question mark behind a number means, where a cell has one and the note does not say."""
        cells = [cell for row in self.rows for cell in row]
        if DOUBT in self.note or not any(text(cell).endswith("?") for cell in cells):
            return self.note
        doubted = [cell for cell in cells if isinstance(cell, Estimate) and text(cell).endswith("?")]
        reasons = list(dict.fromkeys(cell.reason for cell in doubted))
        left = len(reasons) - MOST_REASONS
        why = [*reasons[:MOST_REASONS], *([f"{left} other reasons, in the results' file"] if left > 0 else [])]
        meaning = f"{DOUBT} in doubt" + (f" ({'; '.join(why)})" if why else "")
        return f"{self.note}; {meaning}" if self.note else meaning


@dataclass(frozen=True, repr=False)
class Results:
    """What an experiment found.

    Args:
        answer: The answer, in one or two sentences that a stranger understands.
        quantities: Named numbers.
        tables: Tables by name; the first one is the evidence for the answer, the others are details.
        notes: What a reader must know besides.
        values: Everything else that figures and programs read, as plain data and estimates.
    """

    answer: str
    quantities: tuple[Quantity, ...] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Quantity:
        """Return the quantity of a name.

        Raises:
            KeyError: If there is none, naming those that there are.
        """
        for quantity in self.quantities:
            if quantity.name == name:
                return quantity
        raise KeyError(f"no quantity {name!r}; there are {', '.join(q.name for q in self.quantities) or 'none'}")

    def __contains__(self, name: object) -> bool:
        """Return whether there is a quantity of a name."""
        return any(quantity.name == name for quantity in self.quantities)

    def __iter__(self) -> Iterator[Quantity]:
        """Go through the quantities."""
        return iter(self.quantities)

    def __len__(self) -> int:
        """Return the number of quantities."""
        return len(self.quantities)

    def __repr__(self) -> str:
        """Return the answer, every quantity in a line, and the names of the tables."""
        lines = [f"  {q.name:<28} {text(q.estimate):<12} {q.estimate.interval:<18} {q.what}" for q in self.quantities]
        tables = [f"tables: {', '.join(self.tables)}"] if self.tables else []
        return "\n".join([self.answer, *lines, *tables])

    def of(self, kind: str) -> list[Quantity]:
        """Return the quantities of a kind that were found, in falling order of time."""
        return [q for q in self.quantities if q.kind == kind and not math.isnan(q.estimate.value)]

    def plain(self) -> dict[str, Any]:
        """Return the results as JSON's own types."""
        quantities = [{"name": q.name, **plain(vars(q))} for q in self.quantities]
        tables = {name: plain(table._asdict()) for name, table in self.tables.items()}
        return {"answer": self.answer, "quantities": quantities, "tables": tables, "notes": list(self.notes),
                "values": plain(self.values)}  # fmt: skip

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Results":
        """Return the results that `plain` wrote."""
        quantities = [
            Quantity(
                q["kind"], q["index"], _read(q["estimate"]), q["what"], q["symbol"], q["source"], _number(q["level"])
            )
            for q in plain["quantities"]
        ]
        tables = {
            name: Table(t["title"], tuple(t["columns"]), tuple(tuple(map(_read, row)) for row in t["rows"]), t["note"])
            for name, t in plain["tables"].items()
        }
        return cls(plain["answer"], tuple(quantities), tables, tuple(plain["notes"]), _read(plain["values"]))


def plain(value: Any) -> Any:
    """Return estimates, arrays, NumPy's numbers and whatever holds them as JSON's own types."""
    if isinstance(value, Estimate):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return next((name for name, infinite in INFINITE.items() if value == infinite), None)
    return value


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _read(value: Any) -> Any:
    """Return what `plain` was given; lists for tuples and arrays."""
    if isinstance(value, Mapping):
        if value.keys() == ESTIMATE:
            return Estimate.from_plain(value)
        return {key: _read(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_read(item) for item in value]
    return INFINITE.get(value, value) if isinstance(value, str) else value


def text(cell: Cell) -> str:
    """Return a cell of a table as text."""
    number = cell.value if isinstance(cell, Estimate) else cell
    if number is None or (isinstance(number, float) and math.isnan(number)):
        return "none"
    if isinstance(cell, Estimate):
        return f"{cell}" + ("?" if cell.reason else "")
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
