"""The summary of a patch run: theory beside measurement."""

import math
from typing import Any

from softmode.estimate import Estimate
from softmode.exact.dictionary import PatchDictionary
from softmode.experiments.quantities import Quantity, common_summary, measured_quantities
from softmode.process import Process
from softmode.store import Run
from softmode.theory import landau


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


def summarise(run: Run, process: Process, dictionary: PatchDictionary, seconds: float) -> dict[str, Any]:
    """Return the summary of a finished run as plain data."""
    quantities = theory_quantities(process, dictionary) + measured_quantities(run)
    return common_summary(run, process, quantities, seconds) | {
        "receptive_field": {
            "size": dictionary.receptive_field.size,
            "c_omega": dictionary.receptive_field.c_omega,
            "omega_eff": dictionary.omega_eff,
            "symmetric": dictionary.is_symmetric(),
        }
    }
