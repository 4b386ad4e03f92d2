"""Every critical time and Ginzburg-Landau parameter of the symmetric point of a patch model, in closed form."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from torch import Tensor

from softmode.bounds import check
from softmode.exact.dictionary import PatchDictionary, parse_dictionary
from softmode.experiments.theory.config import Config
from softmode.formulas import landau
from softmode.formulas.softest_wave import (
    SoftestWave,
    has_equal_norms,
    lattice_critical_time,
    patch_critical_time,
    softest_wave,
)
from softmode.lattice import ReceptiveField
from softmode.process import Process, parse_process
from softmode.runs.results import Cell, Results, Table

# strengths that differ by less are the same
SAME = 1e-9
SOFTEST = "score: r = 0, softest wave"


def theory(config: Config) -> Results:
    """Return the geometry, the critical times and the Ginzburg-Landau parameters of a patch model.

    Raises:
        ValueError: If the config is unusable.
    """
    check(config)
    field = ReceptiveField.parse(config.receptive_field, config.dimensions)
    process = parse_process(config.schedule)
    dictionary = parse_dictionary(config.dictionary, config.seed, field)
    wave, times = softest_wave(dictionary), critical_times(process, dictionary)
    return Results(
        answer=_answer(process, times, wave),
        tables={
            "times": _times(process, times),
            "geometry": _geometry(dictionary, wave),
            "landau": _landau(process, dictionary, times),
        },
        values={
            "times": times,
            "size": field.size,
            "omega_eff": dictionary.omega_eff,
            "c_omega": field.c_omega,
            "softest_wave": wave._asdict(),
        },
    )


def critical_times(process: Process, dictionary: PatchDictionary) -> dict[str, float]:
    """Return every critical time of the symmetric point x = 0 by name; NaN where there is none.

    A drift's zero needs the gain at another noise level than the score's: for patterns of unequal norms it is left out.
    """
    size, wave = float(dictionary.receptive_field.size), softest_wave(dictionary)
    times = {SOFTEST: lattice_critical_time(process, dictionary)}
    if has_equal_norms(dictionary):
        times |= _drifts(process, "softest wave", wave.strength)
    times["score: one patch by itself"] = patch_critical_time(process, dictionary)
    if any(wave.k) or abs(wave.strength - size) > SAME:
        return times | {"score: r = 0, |Omega|": landau.critical_time(process, size)}
    # |Omega|, which the paper names, is the softest wave's strength
    return {name.replace("softest wave", "|Omega|"): time for name, time in times.items()}


def _drifts(process: Process, name: str, omega: float) -> dict[str, float]:
    conventions: tuple[Literal["sde", "ode"], ...] = ("sde", "ode")
    return {
        f"{convention} drift: lambda = 0, {name}": landau.drift_critical_time(process, omega, convention)
        for convention in conventions
    }


def _answer(process: Process, times: Mapping[str, float], wave: SoftestWave) -> str:
    time = next(iter(times.values()))
    which = f"wave k = {_vector(wave.k)}" if any(wave.k) else "constant mode"
    if math.isnan(time):
        return "No wave of the score ever goes soft at x = 0."
    level = float(process.noise_level(time))
    return f"The {which} of the score goes soft first at x = 0, at t = {time:.6f} (sigma/alpha = {level:.4g})."


def _vector(k: Sequence[float]) -> str:
    return f"({', '.join(f'{c:.4g}' for c in k)})"


def _geometry(dictionary: PatchDictionary, wave: SoftestWave) -> Table:
    field = dictionary.receptive_field
    tensor = np.array2string(field.c_tensor().numpy(), separator=", ").replace("\n", "")
    rows = (
        ("|Omega|", str(field.size)), ("Omega_eff, of the constant mode", f"{dictionary.omega_eff:.6g}"),
        ("largest Re C_0(k), of the softest wave", f"{wave.strength:.6g}"),
        ("softest wave k (radians per site)", _vector(wave.k)), ("its drift, Im/Re of C_0(k)", f"{wave.drift:.4g}"),
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
    """Tabulate the parameters where the score and the reverse SDE go soft, and at half and twice the first of these."""
    first, second = list(times.values())[:2]
    chosen = {t for t in (first, second, first / 2, 2 * first) if t < process.t_end}
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
