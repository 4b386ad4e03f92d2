"""Tables for the terminal: pulses of guidance, the susceptibility curve, and a window checked against it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from softmode.estimate import Estimate
from softmode.report import estimate_of
from softmode.runs.store import Run

# p-values below this are marked
LEVEL = 0.05
# the baseline whose table by class the paper has (H.7)
PAPERS = "random"


def print_pulse(run: Run) -> None:
    """Print every condition, then the critical pulse against each: pooled over classes, and by class."""
    summary, console = run.summary, Console()
    for table in (_alignment(run, summary), _effects(summary), _pooled(summary)):
        console.print(table)
    console.print(_by_class(summary, PAPERS))
    console.print(_every_class(summary, "probability"))
    real = summary["real_diversity"]
    notes = [
        "pooled over classes: mean with its 95 % t interval; p by flipping signs of classes, corrected for the number "
        "of baselines by Holm",
        "by class: mean with its 95 % bootstrap interval; * where p < 0.05 by flipping signs of trials; summary.json "
        "has all of them",
        *([] if real is None else [f"diversity of real images within a class: {real:.3g}"]),
    ]
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True)


def _alignment(run: Run, summary: Mapping[str, Any]) -> Table:
    config = run.config
    title = f"{run.directory}: sigma_c = {config['sigma_c']:.3g}, w = {config['weight']:g}, means over classes"
    table = _table(title, "condition", "p", "logit", "top-1", "steps", "calls", "no step")
    for row in summary["conditions"]:
        numbers = [str(estimate_of(row[name])) for name in ("probability", "logit", "top1")]
        steps = f"{row['guided_steps']['mean']:.3g}"
        table.add_row(row["name"], *numbers, steps, f"{row['guide_calls']:.3g}", str(row["unguided_trials"]))
    return table


def _effects(summary: Mapping[str, Any]) -> Table:
    title = "what it does to samples: rms change from the unguided twin, diversity, distance to real data"
    table = _table(title, "condition", "change", "diversity", "ratio", "Fréchet", "its change")
    for row in summary["conditions"]:
        names = ("change", "diversity", "diversity_ratio", "frechet", "frechet_change")
        table.add_row(row["name"], *(str(estimate_of(row[name])) if name in row else "none" for name in names))
    return table


def _pooled(summary: Mapping[str, Any]) -> Table:
    table = _table("critical pulse less each other condition, pooled over classes", "measure", "less", "difference",
                   "95 % interval", "p", "corrected")  # fmt: skip
    for row in summary["comparisons"]:
        estimate = estimate_of(row["pooled"])
        table.add_row(row["measure"], row["baseline"], str(estimate), escape(_interval(estimate)),
                      _p(row["p"]), _p(row["p_holm"]))  # fmt: skip
    return table


def _by_class(summary: Mapping[str, Any], baseline: str) -> Table:
    rows = {row["measure"]: row["by_class"] for row in summary["comparisons"] if row["baseline"] == baseline}
    table = _table(f"critical less {baseline} pulse, by class", "class", "Δp", "Δz", "Δ top-1")
    for place, entry in enumerate(rows["probability"]):
        cells = []
        for measure in ("probability", "logit", "top1"):
            estimate = estimate_of(rows[measure][place])
            cells.append(f"{estimate.value:.2f} {escape(_interval(estimate, 2))}{_mark(rows[measure][place])}")
        table.add_row(str(entry["label"]), *cells)
    return table


def _every_class(summary: Mapping[str, Any], measure: str) -> Table:
    rows = [row for row in summary["comparisons"] if row["measure"] == measure]
    labels = [str(entry["label"]) for entry in rows[0]["by_class"]]
    table = _table(f"{measure} of the critical pulse less each other condition, by class", "less", *labels)
    for row in rows:
        table.add_row(row["baseline"], *(f"{entry['value']:+.2f}{_mark(entry)}" for entry in row["by_class"]))
    return table


def _table(title: str, first: str, *columns: str) -> Table:
    """Return an empty table whose numbers are aligned to the right, narrow enough for ten classes."""
    table = Table(title=title, title_justify="left", padding=(0, 0), pad_edge=False)
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, no_wrap=True, justify="left" if column == "less" else "right")
    return table


def _mark(entry: Mapping[str, Any]) -> str:
    return "*" if entry["p"] is not None and entry["p"] < LEVEL else " "


def print_susceptibility(run: Run) -> None:
    """Print chi at every centre, its maximum, and how far that is from sigma_c."""
    summary, console = run.summary, Console()
    title = f"{run.directory}: chi, the gain per unit of w d log sigma"
    table = _table(title, "sigma/alpha", "levels", "guided p", "chi of p", "chi of logit", "of rms change")
    for place, centre in enumerate(summary["centres"]):
        row = summary["conditions"][place + 1]
        chi = [str(estimate_of(summary["curves"][name][place])) for name in summary["curves"]]
        levels = f"{row['guided_steps']['mean']:.0f}"
        table.add_row(f"{centre:.3g}", levels, str(estimate_of(row["probability"])), *chi)
    console.print(table)
    sigma_c = estimate_of(summary["sigma_c"])
    for measure, found in summary["argmax"].items():
        argmax, distance = estimate_of(found), estimate_of(summary["distance"][measure])
        console.print(
            f"maximum  of chi of {measure}: sigma = {argmax} {_interval(argmax)}; log(that / sigma_c) = {distance} "
            f"{_interval(distance)}, sigma_c = {sigma_c}",
            highlight=False, soft_wrap=True, markup=False,
        )  # fmt: skip
    window = run.config["window"] or f"{run.directory}/window"
    console.print(f"next     softmode window {window} --check {run.directory}", highlight=False, soft_wrap=True)


def print_check(window: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print whether a window, found without looking at any guided sample, contains the measured maximum of chi."""
    console = Console()
    console.print(f"window   {window['answer']}", highlight=False, soft_wrap=True, markup=False)
    for row in rows:
        argmax = estimate_of(row["argmax"])
        verdict = {None: "there is no window", True: "inside the window", False: "outside the window"}[row["inside"]]
        sure = "" if row["inside"] is None or row["certain"] else ", but not all of its interval"
        console.print(
            f"check    chi of {row['measure']} is largest at sigma = {argmax} {_interval(argmax)}: {verdict}{sure}",
            highlight=False, soft_wrap=True, markup=False,
        )  # fmt: skip


def _interval(estimate: Estimate, decimals: int | None = None) -> str:
    form = ".3g" if decimals is None else f".{decimals}f"
    return "none" if math.isnan(estimate.low) else f"[{estimate.low:{form}}, {estimate.high:{form}}]"


def _p(value: float | None) -> str:
    return "none" if value is None else f"{value:.2g}"
