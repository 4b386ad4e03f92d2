"""What an experiment found: the answer in a sentence, quantities with errors, tables, notes; read back from JSON."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np

from softmode.estimate import Estimate

Cell = str | int | float | bool | None | Estimate
ESTIMATE = frozenset(each.name for each in fields(Estimate))


class Quantity(NamedTuple):
    """A named number with its uncertainty.

    Attributes:
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


@dataclass(frozen=True)
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

    def of(self, kind: str) -> list[Quantity]:
        """Return the quantities of a kind that were found, in falling order of time."""
        return [q for q in self.quantities if q.kind == kind and not math.isnan(q.estimate.value)]

    def plain(self) -> dict[str, Any]:
        """Return the results as JSON's own types; NaN and infinity become null."""
        return {
            "answer": self.answer,
            "quantities": [{"name": q.name, **_plain(q._asdict())} for q in self.quantities],
            "tables": {name: _plain(table._asdict()) for name, table in self.tables.items()},
            "notes": list(self.notes),
            "values": _plain(self.values),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Results":
        """Return the results that `plain` wrote.

        Raises:
            ValueError: If it is something else.
        """
        try:
            quantities = [
                Quantity(**{k: _read(v) for k, v in q.items() if k != "name"} | {"level": _number(q["level"])})
                for q in plain["quantities"]
            ]
            tables = {
                name: Table(t["title"], tuple(t["columns"]), tuple(tuple(_read(row)) for row in t["rows"]), t["note"])
                for name, t in plain["tables"].items()
            }
            return cls(plain["answer"], tuple(quantities), tables, tuple(plain["notes"]), _read(plain["values"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no results of softmode ({error})") from None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate):
        return value.plain()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(value: Any) -> Any:
    if isinstance(value, Mapping):
        if value.keys() == ESTIMATE:
            return Estimate.from_plain(value)
        return {key: _read(item) for key, item in value.items()}
    return [_read(item) for item in value] if isinstance(value, list) else value


def text(cell: Cell) -> str:
    """Return a cell of a table as text."""
    if cell is None:
        return "none"
    if isinstance(cell, Estimate):
        return "none" if math.isnan(cell.value) else f"{cell}" + ("?" if cell.reason else "")
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
