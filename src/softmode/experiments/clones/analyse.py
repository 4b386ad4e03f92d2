"""What a clone run found: from which noise level on copies agree, with errors, and what it cost."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch

from softmode.critical import lasting_crossings
from softmode.estimate import Array, Estimate, bootstrap
from softmode.experiments.clones.measure import evaluations
from softmode.runs.clock import Clock
from softmode.runs.results import Quantity, Results, Table
from softmode.runs.run import Run

# agreement of the copies of two equal classes at their speciation, alpha^2 |mu|^2 = sigma^2 (biroli2024)
THRESHOLD = 0.775
KINDS = ("sign", "class")
# rows of the table that a terminal shows
ROWS = 8


def analyse(run: Run) -> Results:
    """Return from when on copies agree, their agreement at every copy time, and the network evaluations.

    `values` has the `threshold`, the mean `agreement` of each kind at every copy time, the `baseline` at the earliest
    one, where copies have forgotten all they can, and the `evaluations`: states that went through the network.
    """
    data = run.dataset
    times = data["copy_time"].to_numpy()
    clock = Clock.of(run, "step_time", "step_level")
    curves = {kind: data[f"{kind}_agreement"].to_numpy() for kind in KINDS if f"{kind}_agreement" in data}
    quantities = [quantity for kind in curves for quantity in _quantities(kind, curves[kind], times, clock.level)]
    agreement = {kind: bootstrap(each, lambda mean: mean, centre=_mean) for kind, each in curves.items()}
    counts = evaluations(
        torch.tensor(data["step_time"].to_numpy()), run.config["copies"], data["copy_step"].to_numpy().tolist()
    )
    parents, copies = (data.sizes["trajectory"] * count for count in counts)
    cost = {"trajectories": parents, "copies": copies, "total": parents + copies}
    note = run.identity["classifier"]["note"]
    return Results(
        answer=_answer(quantities),
        quantities=tuple(quantities),
        tables={
            **_tables(times, data["copy_level"].to_numpy(), agreement),
            "evaluations": Table("Network evaluations", ("of", "states"), tuple(cost.items())),
        },
        notes=(note,) if note else (),
        values={
            "threshold": THRESHOLD,
            "agreement": agreement,
            "baseline": {"copy_time": float(times[0]), **{kind: each[0] for kind, each in agreement.items()}},
            "evaluations": cost,
        },
    )


def rise_time(curve: Array, times: Array) -> float:
    """Return the last time at which a curve rises through THRESHOLD as t falls; NaN if it never does.

    Args:
        curve: Agreement [time].
        times: Falling times [time].
    """
    above = curve - THRESHOLD
    crossings = lasting_crossings(above, times)
    # rises and falls alternate; the first is a fall if the curve starts above
    falls_first = bool((above[above != 0][:1] > 0).any())
    rises = crossings[1 if falls_first else 0 :: 2]
    return float(rises[-1]) if len(rises) else math.nan


def agreement_estimates(curves: Array, times: Array, level: Callable[[float], float]) -> tuple[Estimate, Estimate]:
    """Estimate the time, and the noise level, at which the mean agreement rises through THRESHOLD.

    Args:
        curves: Agreement of each trajectory's copies, [trajectory, time].
        times: Falling times [time].
        level: Gives the noise level of a time, NaN of NaN.
    """

    def statistic(curve: Array) -> Array:
        t = rise_time(curve, times)
        return np.array([t, level(t)])

    at, noise = bootstrap(curves, statistic, centre=_mean)
    if not math.isnan(at.value):
        return at, noise
    curve = _mean(curves)
    low, high = int(curve.argmin()), int(curve.argmax())
    reason = (
        f"the mean stays below {THRESHOLD}: it is at most {curve[high]:.3f}, at t = {times[high]:.4g}"
        if curve[high] < THRESHOLD
        else f"the mean stays above {THRESHOLD}: it is at least {curve[low]:.3f}, at t = {times[low]:.4g}"
        if curve[low] >= THRESHOLD
        else f"the mean falls through {THRESHOLD} as t falls, and never rises through it"
    )
    missing = Estimate.missing(len(curves), reason)
    return missing, missing


def _mean(curves: Array) -> Array:
    return np.asarray(curves.mean(0))


def _quantities(kind: str, curves: Array, times: Array, level: Callable[[float], float]) -> list[Quantity]:
    what = f"mean {kind} agreement of copies rises through {THRESHOLD}"
    at, noise = agreement_estimates(curves, times, level)
    return [
        Quantity(f"{kind}_agreement_time", 0, at, what, "", "biroli2024", noise.value),
        Quantity(f"{kind}_agreement_level", 0, noise, f"sigma/alpha where {what}", "", "biroli2024", noise.value),
    ]


def _tables(times: Array, levels: Array, agreement: Mapping[str, list[Estimate]]) -> dict[str, Table]:
    """Return the agreement at a few copy times, and at all of them with intervals."""
    at = list(zip(map(float, times), map(float, levels), strict=True))
    kinds = tuple(f"{kind} agreement" for kind in agreement)
    each = list(zip(*agreement.values(), strict=True))
    some = sorted({round(i) for i in np.linspace(0, len(at) - 1, min(len(at), ROWS))})
    title = "Mean agreement of trajectories and their copies, by the time t* of copying"
    note = f"{ROWS} of {len(at)} times; all are in the report" if len(some) < len(at) else ""
    return {
        "agreement": Table(title, ("sigma/alpha", "t*", *kinds), tuple((*at[i][::-1], *each[i]) for i in some), note),
        "intervals": Table(
            "The same at every time, with 95 % intervals",
            ("sigma/alpha", "t*", *(head for kind in kinds for head in (kind, "interval"))),
            tuple(
                (*when[::-1], *(cell for estimate in row for cell in (estimate, estimate.interval)))
                for when, row in zip(at, each, strict=True)
            ),
        ),
    }


def _answer(quantities: list[Quantity]) -> str:
    """Return from when on copies agree, each kind that does first."""
    found, missing = [], []
    for at, noise in zip(quantities[::2], quantities[1::2], strict=True):
        kind = at.kind.partition("_")[0]
        if math.isnan(at.estimate.value):
            missing.append(f"In {kind}, {at.estimate.reason.replace('the mean', 'their mean agreement', 1)}.")
            continue
        interval = f" {noise.estimate.interval}" if noise.estimate.interval else ""
        doubt = " (in doubt)" if at.estimate.reason and at.estimate.samples > 1 else ""
        found.append(f"in {kind} at sigma/alpha = {noise.level:.3g}{interval} (t = {at.estimate.value:.3g}){doubt}")
    if not found:
        return " ".join(["No noise level was found at which copies begin to agree.", *missing])
    return " ".join([f"Copies begin to agree {', and '.join(found)}: earlier the sample is undecided.", *missing])
