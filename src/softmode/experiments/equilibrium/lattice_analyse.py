"""Whether a frozen patch model orders, where, and whether as the Ising model does."""

import math
from collections.abc import Sequence

import numpy as np

from softmode.estimate import LEAST_ERROR, Array, Estimate
from softmode.experiments.equilibrium.lattice_balance import Balance
from softmode.experiments.equilibrium.lattice_found import COEXISTENCE, FITS, ISING, ISING_SOURCE, Found
from softmode.experiments.equilibrium.lattice_stages import CUT
from softmode.finite_size.crossings import crossings, order_at_ends
from softmode.finite_size.scaling import ScalingFit
from softmode.finite_size.series import LEAST_TIMES, Thermalised
from softmode.formulas import landau
from softmode.runs.results import Cell, Quantity, Results, Table
from softmode.runs.run import Run

# standard errors within which a value agrees with another
AGREE = 4.0
# share of a value that its standard error may reach in a verdict
SHARP = 0.05
NAMES = {
    "U4": ("U4_star", "Binder's cumulant at t_c", "binder1981"),
    "xi/L": ("xi_star", "second-moment length over the side at t_c", "binder1981"),
    "nu": ("nu", "exponent of the correlation length", "binder1981"),
    "beta/nu": ("beta_over_nu", "power with which |m| falls with the side at t_c", "binder1981"),
    "gamma/nu": ("gamma_over_nu", "power with which chi grows with the side at t_c", "binder1981"),
}


def analyse(run: Run) -> Results:
    """Return where the frozen score orders and how; of a stage alone, what it searched."""
    if run.identity["stage"] != "main":
        return _stage(run)
    found = Found.of(run)
    if found.refused:
        return _refused(found)
    if found.fit is None:
        return _nothing(found)
    tree, balance = landau.critical_time(found.process, found.omega), Balance.of(found)
    return Results(
        answer=_answer(found, tree) + (f" {balance.said}" if balance else ""),
        quantities=(*_quantities(found, tree), *(balance.quantities() if balance else ())),
        tables={
            "class": _class(found),
            **({"balance": balance.table()} if balance else {}),
            "sides": _sides(found),
            "fits": _fits(found),
            "crossings": _crossings(found),
        },
        notes=_notes(found),
        values={"t_c": found.fit.t_c, "nu": found.fit.nu, "smallest": min(found.fit.sides), "tree": tree},
    )


def _stage(run: Run) -> Results:
    data = run.dataset
    low, high = float(data["level"].min()), float(data["level"].max())
    return Results(
        f"The stage {run.identity['stage']!r} of a finite-size run, noise levels {low:.3g} to {high:.3g}: it says "
        "where the next one measures."
    )


def _model(found: Found) -> str:
    config = found.run.config
    what = "two-state patch model" if config["dictionary"] == "two-state" else f"patch model {config['dictionary']}"
    return f"{what} ({config['receptive_field']}, d = {found.dimensions})"


def _nothing(found: Found) -> Results:
    ends = order_at_ends([point for row in found.seen.points for point in row])
    what = (
        "in one dimension nothing of finite range orders"
        if found.dimensions == 1
        else "curves of xi/L of different sides do not cross"
    )
    answer = (
        f"The frozen score of the {_model(found)} has no transition that this run shows, between times "
        f"{found.seen.times.min():.3g} and {found.seen.times.max():.3g}: {what}; {ends[0]}; {ends[1]}."
    )
    balance = Balance.of(found)
    tables = {"sides": _sides(found), **({"balance": balance.table()} if balance else {})}
    return Results(answer, tables=tables, notes=_notes(found),
                   values={"tree": landau.critical_time(found.process, found.omega)})  # fmt: skip


def _refused(found: Found) -> Results:
    """Say why nothing is quoted, and what to do."""
    error, where = found.run.config["error"], found.where
    longest = max(row[np.abs(times - where).argmin()]
                  for row, times in zip(found.seen.lengths, found.seen.times, strict=True))  # fmt: skip
    why = (
        f"series are {longest:.0f} autocorrelation times long at most, of {LEAST_TIMES} that a number needs"
        if longest < LEAST_TIMES
        else "series from ordered and disordered starts, or their halves, do not agree"
    )
    answer = (
        f"Nothing is quoted of the frozen score of the {_model(found)}: near t = {where:.3g}, where the transition "
        f"is sought, {why}. Ask for a smaller --error, for example {error / 2:.2g}, which makes them longer (and for "
        "more --minutes where it says so), or for smaller --sizes."
    )
    return Results(answer, tables={"sides": _sides(found)}, notes=_notes(found),
                   values={"tree": landau.critical_time(found.process, found.omega)})  # fmt: skip


def _misfit(fit: ScalingFit) -> str:
    """Return the misfit of a fit in words."""
    return f"chi^2 = {fit.chi2:.0f} for {fit.dof} degrees of freedom, p = {fit.p_value:.2g}"


def _answer(found: Found, tree: float) -> str:
    t_c, level = found.t_c, float(found.process.noise_level(found.t_c.value))
    at = (
        f"Frozen, the score of the {_model(found)} orders at t_c = {t_c} (noise level {level:.3g}), not at the "
        f"tree-level {tree:.3f}: fluctuations hold order back to {math.expm1(t_c.value) / math.expm1(tree):.0%} of the "
        "tree-level noise variance."
        if found.run.config["schedule"] == "vp:1"
        else f"Frozen, the score of the {_model(found)} orders at t_c = {t_c} (noise level {level:.3g}), not at the "
        f"tree-level {tree:.3f}."
    )
    assert found.fit is not None
    fits, collapses = found.misfits["fits"], found.misfits["collapses"]
    bad = f" Worse than chance, so that errors are too small: {fits}." if fits else ""
    if found.fit.t_c.reason:
        bad += f" Errors, of the joint fit, are those of fewer resamples than were drawn: {found.fit.t_c.reason}."
    if collapses:
        bad += (
            f" Without corrections to scaling, with which all numbers are found, curves do not collapse: {collapses}."
        )
    if found.dimensions not in ISING:
        return at + bad
    reference, values = ISING[found.dimensions], found.universal()
    three = ("U4", "xi/L", "nu")
    said = ", ".join(f"{name}{'' if name == 'nu' else '*'} = {values[name]} ({reference[name]:.4g})" for name in three)
    away = float(np.max([abs(values[name].errors_from(reference[name])) for name in three]))
    if any(values[name].stderr > SHARP * reference[name] for name in three):
        word = "too coarse for a verdict"
    elif found.fit.p_value < FITS:
        word = "no verdict, as no fit describes all sides"
    elif math.isnan(away):
        word = "no verdict, as a number without an error of its own is far from none"
    elif away <= AGREE:
        word = f"as the Ising model's in {found.dimensions} dimensions, within {away:.1f} standard errors"
    else:
        word = (
            f"off the Ising model's by up to {away:.1f} standard errors, which know of one correction to scaling alone"
        )
    return f"{at} There {said}: {word}.{bad}"


def _quantities(found: Found, tree: float) -> list[Quantity]:
    assert found.fit is not None
    process, made = found.process, list[Quantity]()

    def add(kind: str, estimate: Estimate, what: str, source: str = "", level: float = math.nan) -> None:
        made.append(Quantity(kind, 0, estimate, what, "", source, level))

    add("t_c", found.t_c, "time at which the frozen score orders, extrapolated to no step", "Sec. 5; binder1981",
        float(process.noise_level(found.t_c.value)))  # fmt: skip
    at = found.fit.t_c
    add("t_c_step", at, "the same with the step of the run", "binder1981", float(process.noise_level(at.value)))
    add("shift", found.shift, "t_c with half the step less that with the whole one")
    add("t_c_tree", Estimate.exact(tree), "time at which the uniform mode goes soft at tree level", "Eqs. 18-22",
        float(process.noise_level(tree)))  # fmt: skip
    for name, estimate in found.universal().items():
        kind, what, source = NAMES[name]
        add(kind, estimate, what, source)
    add("U4_least", found.least_binder, "lowest U4 of all points; below 0 where two phases coexist")
    return made


def _class(found: Found) -> Table:
    reference, rows = ISING.get(found.dimensions, {}), list[tuple[Cell, ...]]()
    for name, estimate in found.universal().items():
        known = reference.get(name, math.nan)
        away = estimate.errors_from(known)
        known_text, away_text = (f"{each:{form}}" if math.isfinite(each) else "" for each, form in
                                 ((known, ".5g"), (away, "+.1f")))  # fmt: skip
        label = f"{name} at t_c" if name in ("U4", "xi/L") else name
        rows.append((label, estimate, estimate.interval, known_text, away_text))
    fit = found.fit
    assert fit is not None
    note = (
        f"joint fit of U4 and xi/L, sides {', '.join(map(str, fit.sides))}: {_misfit(fit)}; Ising: "
        f"{ISING_SOURCE.get(found.dimensions, 'none')}; away: in standard errors"
    )
    return Table("Universal numbers", ("number", "value", "95 %", "Ising", "away"), tuple(rows), note)


def _sides(found: Found) -> Table:
    rows: list[tuple[Cell, ...]] = []
    seen, step = found.seen, found.run.config["step"]
    for s, side in enumerate(seen.sides):
        middle = seen.times.shape[1] // 2
        known = seen.points[s][middle].observables()
        first = seen.cut[s, middle]
        rows.append((side, float(seen.times[s, middle]), known["U4"], known["xi/L"], known["|m|"],
                     f"{step * seen.tau[s, middle]:.3g}", f"{step * first:.3g}", f"{seen.lengths[s].min():.0f}",
                     _largest(seen.starts[s])))  # fmt: skip
    columns = ("L", "t", "U4", "xi/L", "|m|", "tau", "cut", "series/tau", "apart")
    note = (
        "at the middle of each side's points; tau: autocorrelation time of m^2, cut: what is left out at the start "
        f"beyond {CUT} tau of the stage before, both in units of sigma^2; series/tau: of the shortest series, below "
        f"{LEAST_TIMES} it is not quoted; apart: largest difference of m^2 between ordered and disordered starts, or "
        "between halves, of all points of a side, in standard errors"
    )
    return Table("Sides of the lattice", columns, tuple(rows), note)


def _largest(starts: Sequence[Thermalised]) -> str:
    found = max(max(abs(each.apart), abs(each.drift)) for each in starts)
    # replicas that do not vary have an error of rounding alone
    return f"{found:.1f}" if found < 1 / LEAST_ERROR else f"> {1 / LEAST_ERROR:.0g}"


def _fits(found: Found) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (fit.sides[0], fit.t_c, fit.nu, *fit.fixed.values(), f"{fit.chi2:.0f}/{fit.dof}", f"{fit.p_value:.2g}")
        for fit in found.fits
    ]
    columns = ("from L", "t_c", "nu", "U4*", "xi/L*", "chi^2/dof", "p")
    return Table("The joint fit without the smallest sides", columns, tuple(rows),
                 f"t_c with the step of the run; quoted is the first with p of at least {FITS:g}")  # fmt: skip


def _crossings(found: Found) -> Table:
    rows: list[tuple[Cell, ...]] = []
    both = [crossings(found.curves, name) for name in ("U4", "xi/L")]
    for binder, length in zip(*both, strict=True):
        rows.append((f"{binder.sides[0]}, {binder.sides[1]}", binder.control, binder.value, length.control,
                     length.value))  # fmt: skip
    columns = ("sides", "t of U4", "U4", "t of xi/L", "xi/L")
    return Table("Where curves of neighbouring sides cross", columns, tuple(rows), "with the step of the run")


def _notes(found: Found) -> tuple[str, ...]:
    notes, seen = [], found.seen
    short = _where(found, seen.lengths < LEAST_TIMES)
    if short:
        notes.append(
            f"series shorter than {LEAST_TIMES} autocorrelation times are not quoted: {short}; ask for a smaller "
            "--error"
        )
    apart = _where(found, ~np.array([[each.agrees for each in row] for row in seen.starts]))
    if apart:
        notes.append(
            "points at which ordered and disordered starts, or halves of the series, differ beyond chance are not at "
            f"equilibrium and not quoted: {apart}"
        )
    if found.fit is not None and not found.at_transition.all():
        left = [side for side, sure in zip(seen.sides, found.at_transition, strict=True) if not sure]
        notes.append(f"at the transition itself sides {', '.join(map(str, left))} are not quoted")
    if found.fit is not None and found.fit.p_value < FITS:
        notes.append(
            f"no fit describes the curves ({_misfit(found.fit)}): corrections to scaling are larger than the errors; "
            "larger sides would tell"
        )
    least = found.least_binder
    if least.value + 2 * least.stderr < COEXISTENCE:
        notes.append(f"U4 falls to {least}: two phases coexist, as at a discontinuous transition")
    notes.append(
        "the local score is no gradient beyond linear order: what is measured is a steady state, with the symmetry and "
        "the range of an equilibrium but no Boltzmann weight"
    )
    return tuple(notes)


def _where(found: Found, points: Array) -> str:
    """Return of which sides how many points are marked, [side, point], in words."""
    marked = [
        f"{count} of {points.shape[1]} of L = {side}"
        for side, count in zip(found.seen.sides, points.sum(1).tolist(), strict=True)
        if count
    ]
    return ", ".join(marked)
