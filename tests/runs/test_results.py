"""What an experiment found, through JSON and back."""

import json
import math

import numpy as np
import pytest

from softmode.estimate import Estimate
from softmode.runs.results import Quantity, Results, Table, plain, text

MEASURED = Estimate(1.5, 0.25, 8, 1.0, 2.0, "found in 90 % of bootstrap resamples")
UNBOUNDED = Estimate(2.0, math.inf, 3, -math.inf, math.inf)
EVERYTHING = Results(
    answer="<b>Soft</b> at [red]t = 1[/red] ± ∞.",
    quantities=(
        Quantity("t_c", 2, MEASURED, "where it softens", r"$t_c$", "Eq. 64", 0.75),
        Quantity("peak", 0, Estimate.missing(4, "none"), "a peak"),
        Quantity("limit", 0, UNBOUNDED, "a limit", level=math.inf),
    ),
    tables={
        "cells": Table(
            "Cells", ("a", "b"),
            (("text", None), (1, 2.5), (True, False), (MEASURED, UNBOUNDED), (math.inf, -math.inf), ("", 0)),
            "a note",
        ),
        "empty": Table("Empty", ("a",), ()),
    },
    notes=("one", "two"),
    values={"nested": {"list": [1, 2.5, None, True, "x", MEASURED], "deeper": {"e": UNBOUNDED}}, "inf": -math.inf},
)  # fmt: skip


def stored(results: Results) -> Results:
    """Return results as they come back from a file that knows no NaN and no infinity."""
    return Results.from_plain(json.loads(json.dumps(results.plain(), allow_nan=False)))


def test_results_come_back_as_they_were() -> None:
    """Text, numbers, truth values, nothing, estimates and infinities, in cells, quantities and nested values."""
    back = stored(EVERYTHING)
    assert repr(back) == repr(EVERYTHING)  # NaN is not equal to itself
    assert back["t_c_2"] == EVERYTHING["t_c_2"]
    assert isinstance(back.values["nested"]["list"][-1], Estimate)
    assert back.plain() == EVERYTHING.plain()


def test_what_is_undefined_is_null() -> None:
    """NaN is null in the file; where a number must be it is NaN again, elsewhere None."""
    nan = Results("x", (Quantity("t", 0, Estimate(math.nan), "t"),), {"t": Table("t", ("a",), ((math.nan,),))}, (),
                  {"curve": [1.0, math.nan]})  # fmt: skip
    assert nan.plain()["quantities"][0]["estimate"]["value"] is nan.plain()["quantities"][0]["level"] is None
    back = stored(nan)
    assert math.isnan(back["t"].estimate.value)
    assert math.isnan(back["t"].level)
    assert back.tables["t"].rows == ((None,),)
    assert back.values == {"curve": [1.0, None]}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5), (np.int64(3), 3), (np.bool_(True), True), (np.eye(2), [[1, 0], [0, 1]]),
        (np.array([np.inf, np.nan, 1.0]), ["Infinity", None, 1.0]), ((1, (2, 3)), [1, [2, 3]]), ({3: "x"}, {"3": "x"}),
        (np.float64(-np.inf), "-Infinity"),
    ],
)  # fmt: skip
def test_numpys_numbers_and_tuples_become_plain(value: object, expected: object) -> None:
    """What an analysis has at hand can be put into results as it is."""
    found = plain(value)
    assert found == expected
    json.dumps(found, allow_nan=False)


def test_quantities_are_found_by_name_and_by_kind() -> None:
    """A numbered name, all that were found of a kind, and an error that names those that there are."""
    assert EVERYTHING["t_c_2"].estimate is MEASURED
    assert [q.name for q in EVERYTHING.of("t_c")] == ["t_c_2"]
    assert EVERYTHING.of("peak") == []
    with pytest.raises(KeyError, match="t_c_2, peak, limit"):
        EVERYTHING["nothing"]


@pytest.mark.parametrize(
    ("cell", "shown"),
    [(None, "none"), (math.nan, "none"), (np.float64("nan"), "none"), (Estimate.missing(3, "why"), "none"),
     (True, "yes"), (False, "no"), (3, "3"), (0.123456, "0.1235"), ("[x]", "[x]"), (math.inf, "inf"),
     (Estimate(1.234, 0.005, 9), "1.234(5)"), (Estimate(1.234, 0.005, 9, reason="why"), "1.234(5)?")],
)  # fmt: skip
def test_cells_as_text(cell: object, shown: str) -> None:
    """What is undefined is said alike whatever its type, and a doubtful estimate is marked."""
    assert text(cell) == shown


def test_a_question_mark_is_explained_below_its_table() -> None:
    """With the reasons of its cells, unless the note says what it means; none without one, and none for undefined."""
    doubted, other = (Estimate(1.0, 0.1, 8, reason=why) for why in ("not settled", "too short"))
    table = Table("t", ("a",), ((doubted,), (other,), (doubted,), (Estimate(1.0, 0.1, 8),)), "a note")
    assert table.caption == "a note; ?: in doubt (not settled; too short)"
    assert table._replace(note="").caption == "?: in doubt (not settled; too short)"
    assert table._replace(note="?: as I say").caption == "?: as I say"
    assert table._replace(rows=((Estimate(1.0, 0.1, 8),), (Estimate.missing(8, "none"),))).caption == "a note"
    assert table._replace(rows=(("yes?",),)).caption == "a note; ?: in doubt"
    many = tuple((Estimate(1.0, 0.1, 8, reason=f"reason {i}"),) for i in range(5))
    caption = "?: in doubt (reason 0; reason 1; reason 2; 2 other reasons, in the results' file)"
    assert table._replace(rows=many, note="").caption == caption
