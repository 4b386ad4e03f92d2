"""What a run of quenches found: exponents against theory, freeze-out, and where the paper's rate stands."""

import math
from collections.abc import Mapping

import numpy as np

from softmode.estimate import Array, Estimate
from softmode.experiments.quench.found import (
    DECAY,
    ESTIMATORS,
    PAPER,
    SHARE,
    WALLS,
    XI,
    Exponent,
    Found,
    Lengths,
    chosen,
)
from softmode.experiments.quench.theory import Theory
from softmode.formulas.kibble_zurek import critical_level
from softmode.runs.results import Cell, Quantity, Results, Table
from softmode.runs.run import Run

# rows of the first table
ROWS = 8
# levels between the critical one and that at which freeze-out is over
BEYOND = 2
# the rate of the reverse SDE
PAPER_RATE = 1.0
# the estimator whose exponent is quoted
QUOTED = {"critical": XI, "own": XI, "beyond": WALLS, "end": WALLS}


def analyse(run: Run) -> Results:
    """Return how lengths grow with the rate, at the critical level and at the end, and which theory says so.

    `values` has the `verdicts` by place: Kibble-Zurek, coarsening, either, or where else the exponent is.
    """
    found = Found.of(run)
    theory = Theory.of(found)
    places = places_of(found)
    measured = {name: found.at(levels) for name, levels in places.items()}
    lengths = {name: each.estimates for name, each in measured.items()}
    scans = {name: [each.exponents(i) for i in range(len(ESTIMATORS))] for name, each in measured.items()}
    quoted = {name: chosen(scans[name][QUOTED[name]]) for name in places}
    verdicts = {name: theory.verdict(each.estimate) if each else "undecided" for name, each in quoted.items()}
    tables = {"lengths": _lengths(found, lengths), "exponents": _exponents(theory, scans),
              "scan": _scan(scans)}  # fmt: skip
    tables["levels"] = _levels(found)
    if "own" in lengths:
        tables["freeze_out"] = _freeze_out(found, theory, lengths["own"][XI])
    return Results(
        answer=_answer(found, theory, lengths, quoted),
        quantities=_quantities(found, lengths, quoted),
        tables=tables,
        notes=_notes(found, measured, quoted),
        values={"verdicts": verdicts, "kibble_zurek": theory.exponent, "lengths": lengths},
    )


def places_of(found: Found) -> dict[str, Array]:
    """Return the noise levels of every rate at which lengths are told, by their names."""
    rates, levels, critical = found["rate"], found["level"], found.config["critical"]
    end = {"end": np.full(len(rates), levels[-1])}
    if critical is None:
        return end
    beyond = levels[min(int(np.argmin(abs(levels - critical))) + BEYOND, len(levels) - 1)]
    fixed = {"critical": critical, "beyond": float(beyond)}
    own = {"own": np.minimum(critical_level(critical, rates), levels[0])}
    return {name: np.full(len(rates), level) for name, level in fixed.items()} | own | end


def _answer(
    found: Found, theory: Theory, lengths: Mapping[str, list[list[Estimate]]],
    quoted: Mapping[str, Exponent | None],
) -> str:  # fmt: skip
    critical = found.config["critical"] or math.nan
    told = {
        "own": "where each quench turns critical itself, the correlation length grows like",
        "critical": f"where the frozen score does (sigma = {critical:.3g}) like",
        "end": "at the end the spacing of walls grows like",
    }
    parts = []
    for name, words in told.items():
        if name not in lengths:
            continue
        each = quoted[name]
        if each is None:
            parts.append(
                f"{words.removesuffix(' like')} by a power that is not known: fewer than three rates fit; raise --size"
            )
            continue
        power = f"{words} R^{each.estimate.value:.3g} {each.estimate.interval} for R = {each.first:g} to {each.last:g}"
        misfit = f"chi^2/dof = {each.chi_square / each.freedom:.2g}" if each.freedom else "no misfit known"
        parts.append(f"{power} ({theory.verdict(each.estimate)}; {misfit}{'' if each.fits else ': no power law'})")
    text = "; ".join(parts)
    text = text[0].upper() + text[1:]
    rates = found["rate"].tolist()
    if PAPER_RATE in rates:
        at = rates.index(PAPER_RATE)
        xi, walls = lengths["end"][PAPER][at], lengths["end"][WALLS][at]
        text += f". At R = 1, the reverse SDE, xi_x ends at {xi} sites and walls are {walls} apart"
    return f"{text}."


def _quantities(
    found: Found, lengths: Mapping[str, list[list[Estimate]]],
    quoted: Mapping[str, Exponent | None],
) -> tuple[Quantity, ...]:  # fmt: skip
    quantities = []
    for name, each in quoted.items():
        estimate = each.estimate if each else Estimate.missing(0, "fewer than three rates fit the lattice")
        what = f"exponent of the length ({list(ESTIMATORS.values())[QUOTED[name]]}) against R, {name}"
        quantities.append(Quantity(f"exponent_{name}", 0, estimate, what, "", "zurek1985"))
    if PAPER_RATE in found["rate"]:
        at = found["rate"].tolist().index(PAPER_RATE)
        what = "correlation length xi_x at the end of the reverse SDE, R = 1"
        quantities.append(Quantity("xi_x_reverse_sde", 0, lengths["end"][PAPER][at], what, "", "Eq. 63"))
    return tuple(quantities)


def _lengths(found: Found, lengths: Mapping[str, list[list[Estimate]]]) -> Table:
    shown = sorted({round(i * (len(found["rate"]) - 1) / (ROWS - 1)) for i in range(ROWS)})
    way = [(f"{what} {name}", lengths[name][QUOTED[name]])
           for name, what in (("own", "xi"), ("critical", "xi"), ("beyond", "wall")) if name in lengths]  # fmt: skip
    end = [(f"{name} end", lengths["end"][which])
           for name, which in (("wall", WALLS), ("1/e", DECAY), ("xi_x", PAPER))]  # fmt: skip
    columns = [*way, *end]
    rows: list[tuple[Cell, ...]] = [(float(found["rate"][i]), *(each[i] for _, each in columns)) for i in shown]
    note = "xi: of x, by 1/S(k); wall: sites per wall, 1/e: decay of C(r), both of sign D; xi_x: Eq. 63"
    if "own" in lengths:
        beyond = places_of(found)["beyond"][0]
        note += f"; own: at sigma_c sqrt(1 + 1/R); critical: at sigma_c; beyond: at sigma = {beyond:.3g}"
    return Table("Lengths by the rate of the quench (sites)", ("R", *(name for name, _ in columns)), tuple(rows), note)


def _levels(found: Found) -> Table:
    levels, ends = found["level"], (0, len(found["rate"]) - 1)
    shown = sorted({round(i * (len(levels) - 1) / (ROWS - 1)) for i in range(ROWS)})
    columns = [(f"{name} R={found['rate'][i]:g}", which, i)
               for name, which in (("xi", XI), ("wall", WALLS), ("xi_x", PAPER)) for i in ends]  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for place in shown:
        at = found.at(levels[place]).estimates
        rows.append((float(levels[place]), *(at[which][i] for _, which, i in columns)))
    title = "Lengths by noise level, of the fastest and the slowest quench (sites)"
    return Table(title, ("sigma", *(name for name, *_ in columns)), tuple(rows), "as in the first table")


def _exponents(theory: Theory, scans: Mapping[str, list[list[Exponent]]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, of_place in scans.items():
        for estimator, scan in zip(ESTIMATORS.values(), of_place, strict=True):
            if (each := chosen(scan)) is None:
                continue
            misfit = round(each.chi_square / each.freedom, 2) if each.freedom else math.nan
            away = [each.estimate.errors_from(other) for other in theory.both]
            off = [f"{number:+.1f}" if math.isfinite(number) else "" for number in away]
            rows.append((name, estimator, each.estimate, f"{each.first:g} to {each.last:g}",
                         misfit, *off, theory.verdict(each.estimate)))  # fmt: skip
    note = "the widest range of R on a power law (chi^2 probability above 5 %), else the last; distances in its errors"
    columns = ("place", "length", "exponent", "R", "chi^2/dof", "from KZ", "from 1/2", "verdict")
    return Table("Exponents of lengths against the rate", columns, tuple(rows), note)


def _scan(scans: Mapping[str, list[list[Exponent]]]) -> Table:
    rows = [
        (name, list(ESTIMATORS.values())[QUOTED[name]], each.first, each.last, each.estimate,
         round(each.chi_square / each.freedom, 2), each.fits)
        for name in scans for each in scans[name][QUOTED[name]]
    ]  # fmt: skip
    columns = ("place", "length", "from R", "to R", "exponent", "chi^2/dof", "fits")
    return Table("Exponents as the smallest rates are left out", columns, tuple(rows))


def _freeze_out(found: Found, theory: Theory, lengths: list[Estimate]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for rate, length in zip(found["rate"].tolist(), lengths, strict=True):
        at = theory.freeze_out(rate)
        level = found.config["critical"] * math.exp(at.distance)
        ratio = Estimate(length.value / at.length, length.stderr / at.length, length.samples)
        rows.append((rate, level, at.distance, at.length, length, ratio))
    columns = ("R", "freeze-out sigma", "log(sigma/sigma_c)", "xi_eq there", "xi own", "ratio")
    note = (
        "theory: where the relaxation time of the mean under the frozen score meets the time left, R log(sigma/"
        "sigma_c); a ratio that R does not change is Kibble and Zurek's claim; nearer than frozen levels by scaling"
    )
    return Table("Freeze-out", columns, tuple(rows), note)


def _notes(found: Found, measured: Mapping[str, Lengths], quoted: Mapping[str, Exponent | None]) -> tuple[str, ...]:
    notes, rates, side = [], found["rate"], found.config["size"]
    for name, each in measured.items():
        if (beyond := each.too_long(QUOTED[name])).any():
            notes.append(
                f"{name}: lengths of R >= {rates[beyond.argmax()]:g} exceed {SHARE:g} of the side, {side} sites, and "
                "are left out of the fit: raise --size"
            )
    for name, power in quoted.items():
        if power is not None and not power.fits:
            notes.append(f"{name}: no three rates or more are on a power law; its exponent is that of the last three")
    if "critical" not in measured:
        notes.append("without --critical nothing is told of freeze-out: softmode equilibrium finds that level")
    return tuple(notes)
