"""In which noise window to guide a model, or that there is none, beside every other criterion."""

import math

from softmode.critical import peak_windows
from softmode.estimate import Array, median
from softmode.experiments.information.analyse import labels_of
from softmode.experiments.window.criteria import (
    PROBE,
    Criterion,
    clone_criteria,
    departure_criterion,
    entropy_criterion,
    growth_criterion,
    information_criteria,
    instability_criteria,
    peak_criterion,
)
from softmode.experiments.window.decided import (
    INFORMATION,
    INSTABILITY,
    KNOWN_IN,
    SOFT_IN,
    Decided,
    Window,
    beside,
    decided,
)
from softmode.experiments.window.quick import quick_note
from softmode.experiments.window.softness import null_softness, simulated_null, softness
from softmode.rounding import within
from softmode.runs.clock import Clock
from softmode.runs.geometry import geometry_notes
from softmode.runs.results import Quantity, Results, Table
from softmode.runs.run import Run

# nats by which a model must be surer than it is right to be told so
SURER = 0.1
SOURCES = {"label": "path posterior, guo2005", "softest modes": "r = 0 of any mode: paper Eq. 4, Sec. 5", "": ""}
MIDDLES = {
    "label": "noise level by which half of what is known of the label is known",
    "softest modes": "noise level below which half of the states are unstable, or the middle of the window",
    "": "noise level at which something is decided",
}


def analyse(run: Run) -> Results:
    """Return the window of a probe and what was measured beside it, and every other criterion.

    `values` has the `verdict` (found, doubtful or none), what the window is `by`, all `windows`, the `peaks` of the
    median softness, the `null` model's peaks and origin, and the `criteria`. Without a window the quantities sigma_c,
    sigma_lo and sigma_hi are undefined.

    Args:
        run: A probe; in directories of it what is known of the labels, the softest modes, and clones, where there are.

    Raises:
        ValueError: If the probe is not finished.
    """
    _ = run.of(PROBE).results
    levels, clock, found = run.dataset["noise_level"].to_numpy(), Clock.of(run), decided(run)
    curves = softness(run)
    null, origin = null_softness(run, levels)
    criteria = _criteria(run, curves, null, levels)
    quantities, shown = _quantities(found), _shown(found, criteria)
    return Results(
        answer=found.sentence,
        quantities=quantities,
        tables={"criteria": _table(shown), "definitions": _definitions(shown), "units": _units(found, clock)},
        notes=tuple(_remarks(run, found, criteria, origin)),
        values={
            "verdict": found.verdict,
            "by": found.by,
            "windows": [each._asdict() for each in found.windows],
            "times": {q.kind: clock.time(q.estimate.value) for q in quantities},
            "peaks": peak_windows(median(curves), levels).tolist(),
            "null": {"from": origin, "peaks": [] if null is None else peak_windows(null, levels).tolist()},
            "criteria": [criterion.plain(found.main.sigma_c) for criterion in criteria],
        },
    )


def _criteria(run: Run, curves: Array, null: Array | None, levels: Array) -> list[Criterion]:
    """Return every criterion beside the window's own, the most telling first."""
    simulated = simulated_null(run, levels)
    found: list[Criterion | None] = [
        *information_criteria(run),
        *instability_criteria(run),
        peak_criterion(run, levels, "constant mode", simulated),
        peak_criterion(run, levels, "free", simulated),
        *clone_criteria(run),
        entropy_criterion(run, levels),
        None if null is None else departure_criterion(curves, null, levels),
        growth_criterion(run, levels),
    ]
    return [criterion for criterion in found if criterion is not None]


def _quantities(found: Decided) -> tuple[Quantity, ...]:
    """Return sigma_c and the ends of the window as noise levels; of further windows too, numbered from 2 on."""
    source, main = SOURCES[found.by], found.main
    others = [each for each in found.windows if each is not main]
    quantities = []
    for index, window in [(0, main), *enumerate(others, 2)]:
        rows = (
            ("sigma_c", window.sigma_c, MIDDLES[found.by], r"$\sigma_c$"),
            (
                "sigma_lo",
                window.low,
                "lower end of the window, not included",
                r"$\sigma_{\mathrm{lo}}$",
            ),
            ("sigma_hi", window.high, "upper end of the window, included", r"$\sigma_{\mathrm{hi}}$"),
        )
        quantities += [Quantity(name, index, e, what, sign, source, e.value) for name, e, what, sign in rows]
    return tuple(quantities)


def _shown(found: Decided, criteria: list[Criterion]) -> list[Criterion]:
    """Return the windows, and then the other criteria, those that are met first."""
    what = f"{MIDDLES[found.by]}; interval: the window"
    windows = [
        Criterion("sigma_c", each.sigma_c, what, SOURCES[found.by], each.low.value, each.high.value)
        for each in found.windows
    ]
    return [*windows, *sorted(criteria, key=lambda row: math.isnan(row.sigma.value))]


def _table(rows: list[Criterion]) -> Table:
    cells = tuple((row.title, row.sigma, row.sigma.interval, _ends(row)) for row in rows)
    doubt = "?: in doubt, as the report says" if any(row.sigma.reason for row in rows) else ""
    columns = ("criterion", "sigma/alpha", "95 % interval", "its window")
    return Table("Noise levels at which a sample is decided", columns, cells, doubt)


def _definitions(rows: list[Criterion]) -> Table:
    cells = tuple((row.title, row.definition, row.source, row.p, row.sigma.reason) for row in rows)
    columns = ("criterion", "definition", "source", "p of the null", "in doubt, why")
    return Table("What the criteria are", columns, cells)


def _ends(row: Criterion) -> str:
    return f"{row.low:.3g} to {row.high:.3g}" if math.isfinite(row.low) and math.isfinite(row.high) else ""


def _units(found: Decided, clock: Clock) -> Table:
    """Return the window in noise levels and in the process's own time."""
    rows: tuple[tuple[str, str], ...] = ()
    if found.windows:
        low, high = found.main.low.value, found.main.high.value
        rows = (
            ("sigma/alpha", f"{low:.4g} < sigma <= {high:.4g}"),
            ("time", f"{clock.time(low):.4g} < t <= {clock.time(high):.4g}, of the process"),
        )
    return Table("The window in other units", ("unit", "window"), rows)


def _remarks(run: Run, found: Decided, criteria: list[Criterion], origin: str) -> list[str]:
    """Say what a reader must know: what the null is, which window is exported, and which criteria disagree."""
    remarks = {
        "data": [],
        "samples": ["the null model has the power spectrum of this run's samples: give --data for that of the data"],
        "none": ["there is no null model to compare with: give --data"],
    }[origin]
    remarks = [*_first_remarks(run), *remarks, *geometry_notes(run)]
    if not found.windows:
        return remarks
    main = found.main
    if len(found.windows) > 1:
        which = "where most is gained" if found.by == "label" else "the first"
        remarks.append(f"of {len(found.windows)} windows, that {which} is the one that is exported")
    for criterion in criteria:
        if _disagrees(criterion, found):
            remarks.append(_disagreement(criterion, main))
    return remarks


def _first_remarks(run: Run) -> list[str]:
    """Say of a first answer that it is one, what was noised, and what of a label cannot be known."""
    remarks = [first] if (first := quick_note(run)) else []
    known, soft = beside(run, KNOWN_IN, INFORMATION), beside(run, SOFT_IN, INSTABILITY)
    if known is not None:
        remarks.append(
            f"the labels are those of {known.dataset.sizes['trajectory']} images: {known.identity['noised']}"
        )
        of_label = labels_of(known)
        if any((each.truth < 0).any() for each in of_label):
            remarks.append("which label an image truly has is not known: the model may be surer than it is right")
        for quantity in known.results.of("calibration"):
            gap = quantity.estimate
            if gap.value > max(SURER, 2 * gap.stderr):
                remarks.append(f"the model is surer of its label than it is right, by {gap} nats where it is worst")
    elif soft is not None:
        what = "held-out data" if soft.config["states"] == "forward" else "the model's own samples"
        remarks.append(f"the softest modes are those of {soft.dataset.sizes['trajectory']} states: {what}, noised")
        if len(run.config["labels"]) == 1:
            remarks.append(f"of one label alone, {run.config['labels'][0]}, there is nothing to know: 0 nats")
    return remarks


def _disagrees(criterion: Criterion, found: Decided) -> bool:
    """Tell whether a criterion lies outside the window by two standard errors; the first state must lie above."""
    sigma, main = criterion.sigma.value, found.main
    if not math.isfinite(sigma) or within(sigma, main.low.value, main.high.value):
        return False
    if found.by == "softest modes" and criterion.name == "first_unstable_state":
        return False
    distance = criterion.distance(main.sigma_c)
    return not abs(distance.value) < 2 * distance.stderr


def _disagreement(criterion: Criterion, window: Window) -> str:
    sigma, distance = criterion.sigma.value, criterion.distance(window.sigma_c)
    side = "above" if sigma > window.high.value else "below"
    away = abs(distance.errors_from(0.0))
    errors = f", {away:.1f} standard errors" if math.isfinite(away) else ""
    return (
        f"{criterion.title} disagrees: sigma = {sigma:.3g} is {side} the window, "
        f"a factor {math.exp(abs(distance.value)):.3g} from sigma_c{errors}"
    )
