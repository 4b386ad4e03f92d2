"""What an anneal run found: samples of each condition beside real images, and what effort in the window gains."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from softmode.estimate import Array, Estimate, jackknife, of_mean, of_share
from softmode.experiments.anneal.conditions import ABOVE, BELOW, DEFINITIONS, LABELS, MORE, PLAIN, SPREAD, WINDOW
from softmode.observe.alignment import diversity, frechet_distance
from softmode.runs.results import Cell, Quantity, Results, Table
from softmode.runs.run import Run

# most groups of samples that are left out one at a time
GROUPS = 40
# samples for each dimension of the features from which on the bias of a Fréchet distance is small
MANY = 10
BIASED = ": too large, as samples are few, so that only differences count"
MEASURES = {
    "frechet": "Fréchet distance to real images",
    "recognised": "share of samples that are recognised as their class",
    "diversity": "mean distance of two samples of a class, in features",
    "entropy": "entropy of the classes that are recognised (nats)",
    "xi_x": "correlation length xi_x of the sign (sites)",
}
NAMES = {
    MORE: "more levels",
    SPREAD: "correctors at every level",
    WINDOW: "correctors in the window",
    ABOVE: "correctors above it",
    BELOW: "correctors below it",
}
COLUMNS = ("condition", "calls", "Fréchet", "recognised", "diversity", "entropy", "xi_x")


def analyse(run: Run) -> Results:
    """Return what every condition did, and the window minus every other condition of the same cost."""
    rows, differences, gains = condition_rows(run), difference_rows(run), gain_rows(run)
    most = max(row["effort"] for row in rows)
    real = real_row(run)
    shown = [row for row in rows if row["effort"] in (0, most)]
    low, high = run.identity["window"]
    note = (
        f"correctors at every level, or all of them in the window ({low:.3g} < sigma <= {high:.3g}), above or below "
        f"it; {run.dataset.sizes['trajectory']} samples of each condition from the same noise, distances to the same "
        f"{run.dataset.sizes['real']} real images{BIASED if _notes(run) else ''}"
    )
    return Results(
        answer=_answer(run, rows, differences, most),
        quantities=tuple(
            Quantity(f"{name}_window_minus_{row['minus'].replace(' ', '_')}_{row['effort']}", 0, row[name],
                     f"{what}, window minus {row['minus']}, {row['effort']} correctors a level", "", "song2021")
            for row in differences for name, what in MEASURES.items()
        ),
        tables={
            "conditions": Table(
                f"The same cost spent in different places, {most} correctors for each level",
                COLUMNS, (*map(_cells, shown), _cells(real)), note,
            ),
            "differences": _difference_table("Correctors in the window minus the same effort elsewhere", "minus",
                                             differences),
            "gains": _difference_table("Correctors minus more levels of the same cost", "kind", gains),
            "all": Table(
                "Every condition", ("effort", *COLUMNS), tuple((row["effort"], *_cells(row)) for row in rows), note
            ),
            "definitions": Table(
                "What the conditions are", ("condition", "definition"),
                tuple((LABELS[kind], what) for kind, what in DEFINITIONS.items()),
            ),
        },
        notes=_notes(run),
        values={"conditions": rows, "differences": differences, "gains": gains, "real": real, "window": [low, high]},
    )  # fmt: skip


def condition_rows(run: Run) -> list[dict[str, Any]]:
    """Return every condition with what its samples are like."""
    return [
        {key: each[key] for key in ("kind", "effort", "levels", "calls")} | _measured(run, (place,))
        for place, each in enumerate(run.identity["conditions"])
    ]


def difference_rows(run: Run) -> list[dict[str, Any]]:
    """Return the window minus every other condition of its cost, of the same noise."""
    return [row for row in _pairs(run) if row["kind"] == WINDOW]


def gain_rows(run: Run) -> list[dict[str, Any]]:
    """Return correctors in every place minus more levels of the same cost, of the same noise."""
    return [row for row in _pairs(run) if row["minus"] == MORE]


def _pairs(run: Run) -> list[dict[str, Any]]:
    """Return the window minus all others, and all others minus more levels, of one cost each."""
    made = run.identity["conditions"]
    return [
        {"effort": one["effort"], "kind": one["kind"], "minus": other["kind"]} | _measured(run, (i, k))
        for i, one in enumerate(made)
        for k, other in enumerate(made)
        if i != k and one["effort"] == other["effort"] and (one["kind"] == WINDOW or other["kind"] == MORE)
    ]


def real_row(run: Run) -> dict[str, Any]:
    """Return what real images are like; a distance of as many other ones is not at hand, and no other is comparable."""
    lengths = run.dataset["real_xi_x"].to_numpy()
    missing = Estimate.missing(len(lengths), "of samples alone")
    return {"kind": "real images", "calls": None, **dict.fromkeys(MEASURES, missing), "xi_x": of_mean(lengths)}


def _measured(run: Run, places: tuple[int, ...]) -> dict[str, Estimate]:
    """Return every measure of one condition, or of the first minus the second, leaving out groups of samples."""
    data, classes = run.dataset, run.dataset["label"].to_numpy()
    features, real = data["features"].to_numpy()[:, list(places)], data["real_features"].to_numpy()
    predicted, lengths = (data[name].to_numpy()[:, list(places)] for name in ("predicted", "xi_x"))
    count = len(classes)
    groups = np.arange(count) * min(GROUPS, count) // count

    def estimate(measure: Callable[[int, Array], float]) -> Estimate:
        def statistic(kept: Array) -> float:
            chosen = kept[groups]
            first, *second = (measure(i, chosen) for i in range(len(places)))
            return first - sum(second)

        return jackknife(int(groups[-1]) + 1, statistic)

    right = (predicted == classes[:, None]).astype(float)
    return {
        "frechet": estimate(lambda i, kept: frechet_distance(features[kept, i], real)),
        "recognised": _recognised(right)
        if (classes >= 0).all()
        else Estimate.missing(count, "the model has no classes"),
        "diversity": estimate(lambda i, kept: _diversity(features[kept, i], classes[kept])),
        "entropy": estimate(lambda i, kept: _entropy(predicted[kept, i])),
        "xi_x": of_mean(lengths[:, 0] - lengths[:, 1:].sum(1)),
    }


def _recognised(right: Array) -> Estimate:
    """Return the share of samples that are recognised, or the difference of two of the same noise."""
    return of_share(int(right.sum()), len(right)) if right.shape[1] == 1 else of_mean(right[:, 0] - right[:, 1])


def _diversity(features: Array, classes: Array) -> float:
    """Return the mean over classes of the mean distance of two samples; classes of one sample have none."""
    kinds = [features[classes == each] for each in np.unique(classes)]
    return float(np.mean([diversity(each) for each in kinds if len(each) > 1] or [math.nan]))


def _entropy(predicted: Array) -> float:
    shares = np.unique(predicted, return_counts=True)[1] / len(predicted)
    return float(-(shares * np.log(shares)).sum())


def _cells(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    return LABELS.get(row["kind"], row["kind"]), row["calls"], *(row[name] for name in MEASURES)


def _difference_table(title: str, name: str, rows: list[dict[str, Any]]) -> Table:
    """Return differences of two conditions, one a row."""
    cells = tuple(
        (
            row["effort"],
            LABELS[row[name]],
            row["frechet"],
            row["frechet"].interval,
            row["recognised"],
            row["recognised"].interval,
        )
        for row in rows
    )
    columns = ("effort", name, "Δ Fréchet", "95 % interval", "Δ recognised", "95 % interval")
    return Table(title, columns, cells, "of the same noise; jackknife over samples")


def _answer(run: Run, rows: list[dict[str, Any]], differences: list[dict[str, Any]], most: int) -> str:
    """Say whether effort in the window pays, by the Fréchet distance, against the same cost spent otherwise."""
    against = {row["minus"]: row["frechet"] for row in differences if row["effort"] == most}
    of = {row["kind"]: row for row in rows if row["effort"] in (0, most)}
    better, worse = (
        [NAMES[kind] for kind, each in against.items() if verdict(each) == word] for word in ("better", "worse")
    )
    pays = {"better": "pays", "worse": "does not pay", "not known": "makes no difference that is seen"}
    told = [f"{word} than {_list(names)}" for word, names in (("better", better), ("worse", worse)) if names]
    best = min((kind for kind in of if kind != PLAIN), key=lambda kind: of[kind]["frechet"].value)
    return (
        f"With {of[WINDOW]['calls']} network calls a sample, correctors in the window have a Fréchet distance of "
        f"{of[WINDOW]['frechet']} to real images, more levels {of[MORE]['frechet']} (difference {against[MORE]} "
        f"{against[MORE].interval}), the sampler alone {of[PLAIN]['frechet']} at {of[PLAIN]['calls']} calls. Effort in "
        f"the window {pays[verdict(against[MORE])]}: it is {', '.join(told) or 'like any other'}; the least distance, "
        f"{of[best]['frechet']}, is that of {NAMES[best]}."
    )


def _notes(run: Run) -> tuple[str, ...]:
    """Return that distances of few samples are too large, where they are few."""
    samples, dimensions = run.dataset.sizes["trajectory"], run.dataset["features"].shape[-1]
    if samples >= MANY * dimensions:
        return ()
    return (
        f"Fréchet distances of {samples} samples in {dimensions} features are biased: too large, the more so the fewer "
        "samples. Only their differences within a run count, of conditions with as many samples; distances of other "
        "runs or publications are no comparison",
    )


def _list(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def verdict(difference: Estimate) -> str:
    """Return whether a difference of Fréchet distances is better (below 0), worse, or not known: its 95 % interval."""
    return "better" if difference.high < 0 else "worse" if difference.low > 0 else "not known"
