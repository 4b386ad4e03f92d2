"""Whether a frozen patch model orders, where, and whether as the Ising model does."""

import math

from softmode.estimate import Estimate
from softmode.experiments.equilibrium.lattice_balance import Balance
from softmode.experiments.equilibrium.lattice_found import COEXISTENCE, FITS, ISING, ISING_SOURCE, Found
from softmode.finite_size.crossings import crossings, order_at_ends
from softmode.finite_size.series import LEAST_TIMES
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
        if found.quoted
        else f"no series is {LEAST_TIMES} autocorrelation times long"
    )
    answer = (
        f"The frozen score of the {_model(found)} has no transition that this run shows, between times "
        f"{found.seen.times.min():.3g} and {found.seen.times.max():.3g}: {what}; {ends[0]}; {ends[1]}."
    )
    balance = Balance.of(found)
    tables = {"sides": _sides(found), **({"balance": balance.table()} if balance else {})}
    return Results(answer, tables=tables, notes=_notes(found),
                   values={"tree": landau.critical_time(found.process, found.omega)})  # fmt: skip


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
    if found.dimensions not in ISING:
        return at
    reference, values = ISING[found.dimensions], found.universal()
    three = ("U4", "xi/L", "nu")
    said = ", ".join(f"{name}{'' if name == 'nu' else '*'} = {values[name]} ({reference[name]:.4g})" for name in three)
    away = max(abs(values[name].value - reference[name]) / values[name].stderr for name in three)
    if any(values[name].stderr > SHARP * reference[name] for name in three):
        word = "too coarse for a verdict"
    elif found.fit is not None and found.fit.p_value < FITS:
        word = "no verdict, as no fit describes all sides"
    elif away <= AGREE:
        word = f"as the Ising model's in {found.dimensions} dimensions, within {away:.1f} standard errors"
    else:
        word = f"not the Ising model's, by up to {away:.1f} standard errors"
    return f"{at} There {said}: {word}."


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
        away = (estimate.value - known) / estimate.stderr
        known_text, away_text = (f"{known:.5g}", f"{away:+.1f}") if math.isfinite(known) else ("", "")
        label = f"{name} at t_c" if name in ("U4", "xi/L") else name
        rows.append((label, estimate, estimate.interval, known_text, away_text))
    fit = found.fit
    assert fit is not None
    note = (
        f"joint fit of U4 and xi/L, sides {', '.join(map(str, fit.sides))}: chi^2 = {fit.chi2:.0f} for {fit.dof} "
        f"degrees of freedom, p = {fit.p_value:.2g}; Ising: {ISING_SOURCE.get(found.dimensions, 'none')}; away: in "
        "standard errors"
    )
    return Table("Universal numbers", ("number", "value", "95 %", "Ising", "away"), tuple(rows), note)


def _sides(found: Found) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for s, side in enumerate(found.seen.sides):
        middle = found.seen.times.shape[1] // 2
        known = found.seen.points[s][middle].observables()
        rows.append((side, float(found.seen.times[s, middle]), known["U4"], known["xi/L"], known["|m|"],
                     f"{found.run.config['step'] * found.seen.tau[s, middle]:.3g}", f"{found.lengths[s].min():.0f}",
                     f"{found.apart(s):.1f}"))  # fmt: skip
    columns = ("L", "t", "U4", "xi/L", "|m|", "tau", "series/tau", "starts apart")
    note = (
        "at the middle of each side's points; tau: autocorrelation time of m^2 in units of sigma^2; series/tau: length "
        f"of the shortest series, below {LEAST_TIMES} it is not quoted; starts apart: largest difference of m^2 "
        "between ordered and disordered starts, in standard errors, of all points of a side"
    )
    return Table("Sides of the lattice", columns, tuple(rows), note)


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
    notes = []
    left = sorted({side for side, lengths in zip(found.seen.sides, found.lengths, strict=True)
                   if (lengths < LEAST_TIMES).any()})  # fmt: skip
    if left:
        notes.append(
            f"sides {', '.join(map(str, left))}: some series are shorter than {LEAST_TIMES} autocorrelation times and "
            "are not quoted; ask for a smaller --error"
        )
    if found.fit is not None and found.fit.p_value < FITS:
        notes.append(
            f"no fit describes the curves (p = {found.fit.p_value:.2g}): corrections to scaling are larger than the "
            "errors; larger sides would tell"
        )
    worst = max(found.apart(s) for s in range(len(found.seen.sides)))
    if worst > 5:
        notes.append(
            f"ordered and disordered starts differ by {worst:.1f} standard errors somewhere: not at equilibrium"
        )
    least = found.least_binder
    if least.value + 2 * least.stderr < COEXISTENCE:
        notes.append(f"U4 falls to {least}: two phases coexist, as at a discontinuous transition")
    notes.append(
        "the local score is no gradient beyond linear order: what is measured is a steady state, with the symmetry and "
        "the range of an equilibrium but no Boltzmann weight"
    )
    return tuple(notes)
