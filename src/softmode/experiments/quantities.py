"""Every critical quantity that can be read off stored curves, each with its interval."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from softmode import provenance
from softmode.critical import (
    Feature,
    estimate_times,
    fit_dispersion,
    lasting_crossings,
    onset_time,
    peak_time,
    peak_times,
    undefined_bands,
)
from softmode.dynamics import trajectory_seed
from softmode.estimate import Array, Estimate, median
from softmode.process import Process
from softmode.store import Run


@dataclass(frozen=True)
class Quantity:
    """A named time with its uncertainty.

    Args:
        name: Stable identifier, numbered in falling order of time where there are several.
        estimate: Value in the process's own time.
        definition: What it is, in one line.
        source: Equation or section.
        label: Short label for figures; empty if it is not marked there.
    """

    name: str
    estimate: Estimate
    definition: str
    source: str
    label: str = ""


def flows(run: Run) -> bool:
    """Return whether a run's eigenvalues are those of the probability flow, by which it was sampled."""
    return bool(run.identity.get("model", {}).get("convention") == "ode")


def measured_quantities(run: Run) -> list[Quantity]:
    """Return every critical time measured along the trajectories of a finished run."""
    data = run.arrays
    times, k, growth = (data[name].to_numpy() for name in ("time", "k", "growth"))
    rates = data["eigenvalue"].to_numpy(), 1 - data["gain"].to_numpy()

    drift = "probability flow's" if flows(run) else "reverse SDE's"

    def several(name: str, curves: Array, feature: Feature, definition: str, source: str) -> list[Quantity]:
        estimates = estimate_times(curves, times, feature) or [
            Estimate(math.nan, math.nan, len(curves), reason="the median curve has none")
        ]
        return [Quantity(f"{name}_{i}", e, definition, source) for i, e in enumerate(estimates, 1)]

    quantities = several(
        "lambda_0_zero", rates[0][:, :, 0].mean(-1), lasting_crossings,
        f"lasting sign change of the {drift} lambda_0 on the trajectory", "Eq. 64",
    )  # fmt: skip
    variants: tuple[tuple[str, Array, Literal["constant mode", "free"], str], ...] = (
        ("drift", rates[0], "constant mode", "lambda_n of the drift (the paper's convention)"),
        ("gain", rates[1], "constant mode", "1 - G_n (convention-free)"),
        ("free", rates[1], "free", "1 - G_n, free intercept over n >= 1"),
    )
    for name, rate, intercept, convention in variants:
        softness = fit_dispersion(rate, k, intercept).softness(math.pi / k[1].min())
        quantities += several(f"xi_eq_{name}_peak", softness, peak_times, f"peak of xi_eq from {convention}", "Eq. 69")
    return [
        *quantities,
        *several("growth_onset", growth, onset_time, "growth of xi_x first reaches 10 % of its peak", "E.7"),
        *several("growth_peak", growth, peak_time, "fastest growth of xi_x", "E.7"),
    ]  # fmt: skip


def undefined(run: Run) -> dict[str, list[tuple[float, float]]]:
    """Return the bands of time in which the median of each xi_eq is undefined."""
    data = run.arrays
    times = data["time"].to_numpy()
    return {
        name: undefined_bands(median(data[name].to_numpy()), times)
        for name in ("xi_eq_drift", "xi_eq_gain", "xi_eq_free")
    }


def common_summary(run: Run, process: Process, quantities: list[Quantity], seconds: float) -> dict[str, Any]:
    """Return what the summary of every experiment says: identity, machine, seeds, quantities, undefined bands."""
    seed, trajectories = int(run.config["seed"]), int(run.config["trajectories"])
    return {
        **run.identity,
        "machine": provenance.machine(),
        "wall_seconds": round(seconds, 3),
        "trajectory_seeds": [trajectory_seed(seed, i) for i in range(trajectories)],
        "quantities": [
            {
                "name": q.name,
                **asdict(q.estimate),
                "noise_level": float(process.noise_level(q.estimate.value)),
                "definition": q.definition,
                "source": q.source,
                "label": q.label,
            }
            for q in quantities
        ],
        "undefined": {
            "bands": undefined(run),
            "reason": "lambda_0 (or 1 - G_0) <= 0, or negative curvature: the ratio of Eq. 69 has no meaning there",
        },
    }
