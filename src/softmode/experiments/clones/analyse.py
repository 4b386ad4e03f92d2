"""The summary of a clone run: when copies agree, with errors, and what it cost."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from softmode.runs import provenance
from softmode.critical import lasting_crossings
from softmode.dynamics import trajectory_seed
from softmode.estimate import Array, Estimate, bootstrap
from softmode.experiments.quantities import Quantity
from softmode.process import Process
from softmode.runs.run import Run

# agreement of the copies of two equal classes at their speciation, alpha^2 |mu|^2 = sigma^2 (biroli2024)
THRESHOLD = 0.775


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


def agreement_estimates(curves: Array, times: Array, process: Process) -> tuple[Estimate, Estimate]:
    """Estimate the time, and the noise level, at which the mean agreement rises through THRESHOLD.

    Args:
        curves: Agreement of each trajectory's copies, [trajectory, time].
        times: Falling times [time].
        process: Gives the noise level.
    """

    def statistic(curve: Array) -> Array:
        t = rise_time(curve, times)
        return np.array([t, math.nan if math.isnan(t) else float(process.noise_level(t))])

    at, level = bootstrap(curves, statistic, centre=_mean)
    if not math.isnan(at.value):
        return at, level
    curve = _mean(curves)
    low, high = int(curve.argmin()), int(curve.argmax())
    reason = (
        f"the mean stays below {THRESHOLD}: it is at most {curve[high]:.3f}, at t = {times[high]:.4g}"
        if curve[high] < THRESHOLD
        else f"the mean stays above {THRESHOLD}: it is at least {curve[low]:.3f}, at t = {times[low]:.4g}"
        if curve[low] >= THRESHOLD
        else f"the mean falls through {THRESHOLD} as t falls, and never rises through it"
    )
    missing = Estimate(math.nan, math.nan, len(curves), reason=reason)
    return missing, missing


def _mean(curves: Array) -> Array:
    return np.asarray(curves.mean(0))


def steps(steps: int, copies: int, starts: Sequence[int]) -> tuple[int, int]:
    """Return the steps of one trajectory, and of all its copies from these grid indices on."""
    return steps, copies * sum(steps - k for k in starts)


def summarise(run: Run, process: Process, seconds: float) -> dict[str, Any]:
    """Return the summary of a finished run as plain data.

    `quantities` are times and `noise_levels` the same in sigma/alpha; `agreement` is the mean at every copy time with
    its error, `baseline` that at the earliest; `evaluations` counts the states that went through the network.
    """
    data, trajectories, seed = run.dataset, int(run.config["trajectories"]), int(run.config["seed"])
    times = data["copy_time"].to_numpy()
    quantities, levels, table = [], [], {}
    for kind in ("class", "sign"):
        if f"{kind}_agreement" not in data:
            continue
        curves = data[f"{kind}_agreement"].to_numpy()
        what = f"mean {kind} agreement of copies rises through {THRESHOLD}"
        at, level = agreement_estimates(curves, times, process)
        quantities.append(Quantity(f"{kind}_agreement_time", at, what, "biroli2024"))
        levels.append(Quantity(f"{kind}_agreement_level", level, f"sigma/alpha where {what}", "biroli2024"))
        table[kind] = [asdict(e) for e in bootstrap(curves, lambda mean: mean, centre=_mean)]
    counts = steps(run.config["steps"], run.config["copies"], data["copy_step"].to_numpy().tolist())
    parents, copies = (trajectories * count for count in counts)
    return {
        **run.identity,
        "machine": provenance.machine(),
        "wall_seconds": round(seconds, 3),
        "trajectory_seeds": [trajectory_seed(seed, i) for i in range(trajectories)],
        "quantities": [_plain(q) | {"noise_level": s.estimate.value} for q, s in zip(quantities, levels, strict=True)],
        "noise_levels": [_plain(s) for s in levels],
        "threshold": THRESHOLD,
        "agreement": table,
        "baseline": {"copy_time": float(times[0]), **{kind: rows[0] for kind, rows in table.items()}},
        "evaluations": {"trajectories": parents, "copies": copies, "total": parents + copies},
        "undefined": {"bands": {}, "reason": ""},
    }  # fmt: skip


def _plain(quantity: Quantity) -> dict[str, Any]:
    return {
        "name": quantity.name, **asdict(quantity.estimate), "definition": quantity.definition,
        "source": quantity.source, "label": quantity.label,
    }  # fmt: skip
