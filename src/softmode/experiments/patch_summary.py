"""Every critical quantity of a patch run, theory beside measurement, each with its interval."""

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
from softmode.exact.dictionary import PatchDictionary
from softmode.process import Process
from softmode.store import Run
from softmode.theory import landau


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


def theory_quantities(process: Process, dictionary: PatchDictionary) -> list[Quantity]:
    """Return the critical times of the symmetric point x = 0, of the score and of the reverse SDE's drift."""
    quantities = []
    symmetric = dictionary.is_symmetric()
    for name, omega, label in (
        ("omega", float(dictionary.receptive_field.size), r"|\Omega|"),
        ("omega_eff", dictionary.omega_eff, r"\Omega_{\mathrm{eff}}"),
    ):
        score = landau.critical_time(process, omega) if symmetric else math.nan
        drift = landau.drift_critical_time(process, omega, "sde") if symmetric else math.nan
        at = f"at x = 0, {name} = {omega:.4g}"
        reason = (
            "x = 0 is no fixed point of a dictionary without sign symmetry" if not symmetric
            else "the uniform mode never softens" if omega <= 0
            else "beyond the end of the schedule" if math.isnan(score)
            else ""
        )  # fmt: skip
        quantities += [
            Quantity(f"t_c_score_{name}", Estimate.exact(score, reason), f"r = 0 of the score {at}", "Eqs. 18-22",
                     rf"$r=0$, ${label}$"),
            Quantity(f"t_c_drift_{name}", Estimate.exact(drift, reason),
                     f"zero of the reverse SDE drift's lambda_0 {at}", "Eq. 58", rf"$\lambda_0=0$, ${label}$"),
        ]  # fmt: skip
    return quantities


def measured_quantities(run: Run) -> list[Quantity]:
    """Return every critical time measured along the trajectories of a finished run."""
    data = run.arrays
    times, k, growth = (data[name].to_numpy() for name in ("time", "k", "growth"))
    rates = data["eigenvalue"].to_numpy(), 1 - data["gain"].to_numpy()

    def several(name: str, curves: Array, feature: Feature, definition: str, source: str) -> list[Quantity]:
        estimates = estimate_times(curves, times, feature) or [
            Estimate(math.nan, math.nan, len(curves), reason="the median curve has none")
        ]
        return [Quantity(f"{name}_{i}", e, definition, source) for i, e in enumerate(estimates, 1)]

    quantities = several(
        "lambda_0_zero", rates[0][:, :, 0].mean(-1), lasting_crossings,
        "lasting sign change of the reverse SDE drift's lambda_0 on the trajectory", "Eq. 64",
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


def summarise(run: Run, process: Process, dictionary: PatchDictionary, seconds: float) -> dict[str, Any]:
    """Return the summary of a finished run as plain data."""
    trajectories = int(run.config["trajectories"])
    quantities = theory_quantities(process, dictionary) + measured_quantities(run)
    return {
        **run.identity,
        "machine": provenance.machine(),
        "wall_seconds": round(seconds, 3),
        "trajectory_seeds": [trajectory_seed(int(run.config["seed"]), i) for i in range(trajectories)],
        "receptive_field": {
            "size": dictionary.receptive_field.size,
            "c_omega": dictionary.receptive_field.c_omega,
            "omega_eff": dictionary.omega_eff,
            "symmetric": dictionary.is_symmetric(),
        },
        "quantities": [
            {"name": q.name, **asdict(q.estimate), "definition": q.definition, "source": q.source, "label": q.label}
            for q in quantities
        ],
        "undefined": {
            "bands": undefined(run),
            "reason": "lambda_0 (or 1 - G_0) <= 0, or negative curvature: the ratio of Eq. 69 has no meaning there",
        },
    }
