"""The tables of details: overlaps, ageing, closed form quenched and annealed, and every realisation."""

import math

import numpy as np

from softmode.estimate import Estimate, of_mean
from softmode.experiments.dictionary.found import FROZEN, SAMPLES, Found
from softmode.experiments.dictionary.states import PAIRS, longest_wave
from softmode.experiments.dictionary.verdict import VERDICTS, near
from softmode.formulas.bifurcation import critical_time
from softmode.formulas.softest_wave import edge
from softmode.observe.overlap import SAME
from softmode.process import Process
from softmode.runs.results import Cell, Table

SAID = {
    "samples": "samples of two noises",
    "copies": "a sample and its copy from t_c on",
    "frozen": "frozen score, two noises",
    "random signs": "control: independent signs",
    "same spectrum": "control: the samples' spectrum, random phases",
}


def overlap_table(found: Found) -> Table:
    """Return the overlaps of every kind of pair on the largest lattice."""
    rows: list[tuple[Cell, ...]] = []
    above = found["bin"] > SAME
    for place, mass in enumerate(found.masses):
        for pair, name in enumerate(PAIRS):
            same = found["histogram"][:, place, -1, pair][:, above].sum(1)
            rows.append((mass, SAID[name], of_mean(found["overlap"][:, place, -1, pair]), of_mean(same)))
    over = "as it is" if found.of_sites else "the largest over all translations"
    note = f"|q|, {over}; the same: |q| above about {SAME:g}"
    columns = ("mass", "pairs", "mean |q|", "share the same")
    return Table(f"Overlaps on {found['size'][-1]} sites a side", columns, tuple(rows), note)


def ageing_table(found: Found) -> Table:
    """Return how a state under the frozen score resembles itself after a few times, by its age."""
    lags, waits = found["lag"], found["wait"]
    shown = sorted({int(np.argmin(abs(np.log(lags / wait)))) for wait in waits})
    rows: list[tuple[Cell, ...]] = []
    name = "ageing" if found.of_sites else "ageing_moved"
    for place, mass in enumerate(found.masses):
        for i, wait in enumerate(waits.tolist()):
            kept = [of_mean(found[name][:, place, i, lag]) for lag in shown]
            rows.append((mass, wait, *kept, of_mean(found["spread"][:, place, i])))
    over = "" if found.of_sites else ", the largest over all translations: waves move"
    columns = ("mass", "t_w", *(f"C(t_w, t_w + {lags[i]:.3g})" for i in shown), "N <q^2> at t_w")
    note = f"times in units of sigma^2; overlaps{over}; without ageing a column is the same at every t_w"
    return Table(f"Ageing under the frozen score, {found['size'][-1]} sites a side", columns, tuple(rows), note)


def closed_form_table(found: Found, process: Process) -> Table:
    """Return what is known without simulation, its quenched mean beside what the averaged dictionary has."""
    patterns, size = found.config["patterns"], found.field.size
    rows: list[tuple[Cell, ...]] = []
    for place, mass in enumerate(found.masses):
        # E C = (1 - u) 1 + u (all ones), whose lattice and patch both go soft at k = 0
        annealed = 1 - mass + mass * size
        values = {
            "max_k Re C_0(k)": (found["strength"][:, place, -1], annealed),
            "t_c of the lattice": (found["t_c"][:, place, -1], critical_time(process, annealed)),
            "largest eigenvalue of C": (found["lambda_max"][:, place], annealed),
            "t_c of a patch": (found["t_c_patch"][:, place], critical_time(process, annealed)),
        }
        rows += [(mass, name, of_mean(each), exact) for name, (each, exact) in values.items()]
    rows.append(("random part", "mean of C_uv, u < v", of_mean(found["covariance_mean"]), 0.0))
    rows.append(("random part", "mean of C_uv^2, u < v", of_mean(found["covariance_square"]), 1 / patterns))
    note = (
        "annealed: of the dictionary averaged over disorder first (Eq. 45), whose frustration is gone; of C_uv it is "
        f"what Eqs. 38 and 39 say; the edge of C's spectrum for many patterns is {edge(patterns, size):.3g}"
    )
    columns = ("mass", "quantity", "quenched", "annealed")
    return Table("Closed form, quenched and annealed", columns, tuple(rows), note)


def realisation_table(found: Found) -> Table:
    """Return every realisation by itself."""
    rows: list[tuple[Cell, ...]] = []
    within = longest_wave(found.field)
    for i, seed in enumerate(found["seed"].tolist()):
        for place, mass in enumerate(found.masses):
            peak, star = found["peak"][i, place, -1, FROZEN], found["k_star"][i, place]
            at = "" if found.of_sites else "yes" if near(peak, star, within) else "no"
            height = Estimate(found["bragg"][i, place, -1, FROZEN], found["bragg_error"][i, place, -1, FROZEN],
                              found.config["replicas"])  # fmt: skip
            rows.append(
                (seed, mass, float(found["t_c"][i, place, -1]), "" if found.of_sites else vector(star),
                 float(found["drift"][i, place]), vector(peak), at, height,
                 float(found["susceptibility"][i, place, -1, SAMPLES]), VERDICTS[found.verdict[i, place]])
            )  # fmt: skip
    columns = ("seed", "mass", "t_c", "k*", "Im/Re at k*", "peak, frozen", "the same", "S(k)/N there",
               "N <q^2>, samples", "verdict")  # fmt: skip
    note = (
        "k*: the wave that goes soft first, in units of pi; the same: the peak is nearer to +-k* than one wave of two "
        "patches; seed: that of softmode theory and patch, --dictionary random:M --seed SEED"
    )
    return Table("Realisations", columns, tuple(rows), note)


def vector(k: object) -> str:
    """Return a wave vector in units of pi; of a pair of opposite ones always the same."""
    turns = [round(float(c) / math.pi, 2) + 0.0 for c in np.asarray(k)]
    sign = next((math.copysign(1, c) for c in turns if c), 1.0)
    return ", ".join(f"{sign * c + 0.0:.2g}" for c in turns)
