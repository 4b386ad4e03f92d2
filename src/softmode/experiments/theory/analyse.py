"""Every critical time and Ginzburg-Landau parameter of the symmetric point of a patch model, in closed form."""

import math
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from softmode.bounds import check
from softmode.exact.dictionary import PatchDictionary, parse_dictionary
from softmode.experiments.theory.config import Config
from softmode.formulas import landau
from softmode.lattice import ReceptiveField
from softmode.process import Process, parse_process
from softmode.runs.results import Cell, Results, Table

# |Omega| and Omega_eff that differ by less are the same
SAME = 1e-9


def theory(config: Config) -> Results:
    """Return the geometry, the critical times and the Ginzburg-Landau parameters of a patch model.

    Raises:
        ValueError: If the config is unusable.
    """
    check(config)
    field = ReceptiveField.parse(config.receptive_field, config.dimensions)
    process = parse_process(config.schedule)
    dictionary = parse_dictionary(config.dictionary, config.seed, field)
    times = critical_times(process, dictionary)
    return Results(
        answer=_answer(process, times),
        tables={
            "times": _times(process, times),
            "geometry": _geometry(field, dictionary),
            "landau": _landau(process, dictionary, times),
        },
        values={"times": times, "size": field.size, "omega_eff": dictionary.omega_eff, "c_omega": field.c_omega},
    )


def critical_times(process: Process, dictionary: PatchDictionary) -> dict[str, float]:
    """Return every critical time of the symmetric point x = 0 by name; NaN where there is none."""
    field = dictionary.receptive_field
    omegas = {"|Omega|": float(field.size)}
    if abs(dictionary.omega_eff - field.size) > SAME:
        omegas["Omega_eff"] = dictionary.omega_eff
    times = {}
    for name, omega in omegas.items():
        times[f"score: r = 0, {name}"] = landau.critical_time(process, omega)
        for convention in ("sde", "ode"):
            time = landau.drift_critical_time(process, omega, convention)
            times[f"{convention} drift: lambda_0 = 0, {name}"] = time
    return times


def _answer(process: Process, times: Mapping[str, float]) -> str:
    scores = [time for name, time in times.items() if name.startswith("score")]
    time = scores[-1]
    if math.isnan(time):
        return "The constant mode of the score never goes soft at x = 0."
    level = float(process.noise_level(time))
    return f"The constant mode of the score goes soft at x = 0 at t = {time:.6f} (sigma/alpha = {level:.4g})."


def _geometry(field: ReceptiveField, dictionary: PatchDictionary) -> Table:
    tensor = np.array2string(field.c_tensor().numpy(), separator=", ").replace("\n", "")
    rows = (
        ("|Omega|", str(field.size)), ("Omega_eff", f"{dictionary.omega_eff:.6g}"),
        ("c_Omega", f"{field.c_omega:.6g}"), ("c tensor", tensor),
    )  # fmt: skip
    return Table("Receptive field", ("quantity", "value"), rows)


def _times(process: Process, times: Mapping[str, float]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, t in times.items():
        if math.isnan(t):
            rows.append((name, "none", "", "", ""))
            continue
        values = (process.alpha(t), process.sigma(t), process.noise_level(t))
        rows.append((name, f"{t:.6f}", *(f"{float(value):.6f}" for value in values)))
    return Table("Critical times at x = 0", ("condition", "t", "alpha", "sigma", "sigma/alpha"), tuple(rows))


def _landau(process: Process, dictionary: PatchDictionary, times: Mapping[str, float]) -> Table:
    """Tabulate the parameters at every critical time, and at half and twice them where the schedule reaches."""
    finite = [t for t in times.values() if math.isfinite(t)]
    chosen = {*finite, *(0.5 * t for t in finite), *(2 * t for t in finite if 2 * t < process.t_end)}
    rows = []
    for t in sorted(chosen, reverse=True):
        parameters = landau.ginzburg_landau(process, t, dictionary)
        mass, scale = float(parameters.r), 1 / float(process.sigma(t)) ** 2
        critical = abs(mass) < 1e-12 * scale
        length = (
            "diverges" if critical and float(parameters.kappa) > 0 else _number(landau.mean_field_length(parameters))
        )
        branch = (f(process, t, dictionary.omega_eff) for f in (landau.effective_coupling, landau.mean_field_branch))
        rows.append(
            (f"{t:.6f}", "0" if critical else _number(mass), _number(parameters.kappa), _number(parameters.u), length,
             *(_number(value) for value in branch))
        )  # fmt: skip
    columns = ("t", "r", "kappa", "u", "sqrt(kappa/r)", "J_eff", "m")
    return Table("Ginzburg-Landau parameters around x = 0, and the mean-field branch", columns, tuple(rows))


def _number(value: Tensor | float) -> str:
    return "undefined" if math.isnan(float(value)) else f"{float(value):.4g}"
