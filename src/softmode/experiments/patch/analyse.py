"""What a patch run found: theory at the symmetric point beside what was measured on the trajectories."""

import math
from collections.abc import Sequence

import torch

from softmode.estimate import Estimate
from softmode.exact.dictionary import PatchDictionary
from softmode.formulas import landau
from softmode.formulas.softest_wave import has_equal_norms, softest_wave
from softmode.lattice import ReceptiveField
from softmode.process import Process, parse_process
from softmode.runs.critical_times import (
    few_trajectories,
    first_of_each,
    measured_times,
    said,
    undefined,
    undefined_table,
)
from softmode.runs.results import Quantity, Results
from softmode.runs.run import Run

# what the terminal shows, the first of each
SHOWN = ("t_c_score_omega", "t_c_score_softest", "lambda_0_zero", "xi_eq_drift_peak", "xi_eq_gain_peak",
         "growth_onset", "growth_peak")  # fmt: skip


def analyse(run: Run) -> Results:
    """Return the critical times of a finished run, and those of the theory at x = 0."""
    process, dictionary = parse_process(run.config["schedule"]), stored_dictionary(run)
    theory = theory_times(process, dictionary, (int(run.config["size"]),) * int(run.config["dimensions"]))
    measured = measured_times(run)
    bands = undefined(run)
    field = dictionary.receptive_field
    return Results(
        answer=_answer(theory, measured),
        quantities=(*theory, *measured),
        tables={"times": first_of_each([*theory, *measured], SHOWN), "undefined": undefined_table(bands)},
        notes=tuple(few_trajectories(run.dataset.sizes["trajectory"])),
        values={
            "undefined": bands,
            "receptive_field": {
                "size": field.size, "c_omega": field.c_omega, "omega_eff": dictionary.omega_eff,
                "symmetric": dictionary.is_symmetric(),
            },
        },
    )  # fmt: skip


def stored_dictionary(run: Run) -> PatchDictionary:
    """Return the dictionary that a run keeps."""
    data = run.dataset
    field = ReceptiveField(tuple(tuple(int(c) for c in u) for u in data["offsets"].to_numpy()))
    return PatchDictionary(field, *(torch.tensor(data[name].to_numpy()) for name in ("patterns", "prior")))


def theory_times(process: Process, dictionary: PatchDictionary, shape: Sequence[int]) -> list[Quantity]:
    """Return the critical times of the symmetric point x = 0, of the score and of the reverse SDE's drift.

    With |Omega| they are the paper's, of the uniform mode of two uniform patterns; the softest wave is the dictionary's
    own, of all waves of the lattice.

    Args:
        process: Process of the run.
        dictionary: Its dictionary.
        shape: Sides of its lattice.
    """
    quantities = []
    symmetric, equal = dictionary.is_symmetric(), has_equal_norms(dictionary)
    wave = softest_wave(dictionary, shape=shape) if symmetric and equal else None
    where = "" if wave is None else f" k = ({', '.join(f'{c:.4g}' for c in wave.k)})"
    for name, omega, label, of in (
        ("omega", float(dictionary.receptive_field.size), r"$|\Omega|$", "omega"),
        ("softest", math.nan if wave is None else wave.strength, "softest wave", f"softest wave{where}, C_0(k)"),
    ):
        known = symmetric and math.isfinite(omega)
        score = landau.critical_time(process, omega) if known else math.nan
        drift = landau.drift_critical_time(process, omega, "sde") if known else math.nan
        at = f"at x = 0, {of} = {omega:.4g}"
        reason = (
            "x = 0 is no fixed point of a dictionary without sign symmetry" if not symmetric
            else "patterns of unequal norms: softmode theory gives the score's" if math.isnan(omega)
            else "no wave ever softens" if omega <= 0
            else "beyond the end of the schedule" if math.isnan(score)
            else ""
        )  # fmt: skip
        for kind, time, what, symbol, source in (
            ("score", score, f"r = 0 of the score {at}", rf"$r=0$, {label}", "Eqs. 18-22"),
            ("drift", drift, f"lambda = 0 of the reverse SDE {at}", rf"$\lambda=0$, {label}", "Eq. 58"),
        ):
            level = float(process.noise_level(time)) if math.isfinite(time) else math.nan
            exact = Estimate.exact(time, reason)
            quantities.append(Quantity(f"t_c_{kind}_{name}", 0, exact, what, symbol, source, level))
    return quantities


def _answer(theory: list[Quantity], measured: list[Quantity]) -> str:
    first = {kind: next(q for q in measured if q.kind == kind) for kind in ("lambda_0_zero", "growth_peak")}
    score = next(q for q in theory if q.kind == "t_c_score_softest")
    beside = f"; the score at x = 0 softens {said(score)}" if math.isfinite(score.estimate.value) else ""
    zero, growth = first["lambda_0_zero"], first["growth_peak"]
    soft = f"goes soft {said(zero)}" if math.isfinite(zero.estimate.value) else "never goes soft for good"
    grow = f"grow fastest {said(growth)}" if math.isfinite(growth.estimate.value) else "are nowhere defined"
    return f"On its trajectories the drift's constant mode {soft}, and correlations {grow}{beside}."
