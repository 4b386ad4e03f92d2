"""What the realisations have in common: order and its kind, overlaps, critical times; averages over disorder last."""

import math
from dataclasses import replace

import numpy as np

from softmode.estimate import Array, Estimate, bootstrap_mean, of_mean, of_share
from softmode.experiments.dictionary.found import FROZEN, SAMPLES, Found
from softmode.experiments.dictionary.states import PAIRS, longest_wave
from softmode.experiments.dictionary.tables import ageing_table, closed_form_table, overlap_table, realisation_table
from softmode.experiments.dictionary.verdict import LEAST_WAIT, ORDERED, VERDICTS, near
from softmode.observe.overlap import SAME
from softmode.process import Process, parse_process
from softmode.runs.results import Cell, Quantity, Results, Table
from softmode.runs.run import Run

# fewest realisations whose shares say much, and fewest patches on a lattice on which one patch is no order
FEW, PATCHES = 8, 40


def analyse(run: Run) -> Results:
    """Return which order the realisations have, and by what it is told; `values` has the counts of each verdict."""
    found, process = Found.of(run), parse_process(run.config["schedule"])
    masses = found.masses
    return Results(
        answer=_answer(found),
        quantities=tuple(q for place in range(len(masses)) for q in _quantities(found, process, place)),
        tables={
            "verdicts": _verdicts(found), "sizes": _sizes(found), "overlaps": overlap_table(found),
            "ageing": ageing_table(found), "closed_form": closed_form_table(found, process),
            "realisations": realisation_table(found),
        },
        notes=_notes(found),
        values={"ordered_from": ORDERED, "same_from": SAME,
                "verdicts": {f"{mass:g}": {name: found.count(name, i) for name in VERDICTS}
                             for i, mass in enumerate(masses)}},
    )  # fmt: skip


def bragg_exponent(heights: Array, sizes: Array, dimensions: int) -> Estimate:
    r"""Return y of $S(k)/N \sim N^{-y}$ between the smallest and the largest lattice: 0 with order, 1 without.

    Args:
        heights: S(k)/N of the peak of every realisation, [realisation, size].
        sizes: Sides of the lattices.
        dimensions: d.
    """
    if len(sizes) < 2:
        return Estimate.missing(len(heights), "one lattice alone")
    decades = dimensions * math.log(sizes[-1] / sizes[0])

    def slope(means: Array) -> Array:
        return np.asarray(np.log(means[:, 0] / means[:, 1]) / decades)

    return bootstrap_mean(heights[:, [0, -1]], slope)


def _answer(found: Found) -> str:
    count, config = len(found.verdict), found.config
    of = "one of every site" if found.of_sites else "the same at all sites"
    parts = []
    for place, mass in enumerate(found.masses):
        uniform, modulated, frustrated, undecided = (found.count(name, place) for name in VERDICTS)
        share = of_share(uniform + modulated, count)
        at = f"at uniform mass {mass:g} " if len(found.masses) > 1 else ""
        parts.append(
            f"{at}{share.value:.0%} [{100 * share.low:.0f}, {100 * share.high:.0f}] order ({uniform} uniformly, "
            f"{modulated} in a modulated wave), {frustrated} are frustrated, {undecided} undecided"
        )
    areas = (of_mean(found["susceptibility"][:, 0, -1, which]) for which in (FROZEN, SAMPLES))
    # an area is not less than none
    areas = (replace(each, low=max(each.low, 0.0)) for each in areas)
    frozen, samples = (f"{each.value:.3g} {each.interval}".strip() for each in areas)
    sites = config["sizes"][-1] ** config["dimensions"]
    text = "; ".join(parts if len(parts) <= 2 else [parts[0], parts[-1]])
    first = f" at uniform mass {found.masses[0]:g}" if len(parts) > 1 else ""
    return (
        f"Of {count} dictionaries of {config['patterns']} random patterns, {of}, under a score frozen at "
        f"{config['level']:g} of the critical noise level, {text}. Order{first} spans {frozen} of {sites} sites there, "
        f"and {samples} in generated samples; a patch has {found.field.size}."
    )


def _quantities(found: Found, process: Process, place: int) -> list[Quantity]:
    index = place + 1 if len(found.masses) > 1 else 0
    at = f", uniform mass {found.masses[place]:g}" if index else ""
    count, sizes, dimensions = len(found.verdict), found["size"], found.config["dimensions"]
    made: list[Quantity] = []

    def add(kind: str, estimate: Estimate, what: str, source: str = "", level: float = math.nan) -> None:
        made.append(Quantity(kind, index, estimate, what + at, "", source, level))

    for name in VERDICTS:
        add(name, of_share(found.count(name, place), count), f"share of dictionaries that are {name}")
    for kind, times, what in (
        ("t_c", found["t_c"][:, place, -1], "the lattice"), ("t_c_patch", found["t_c_patch"][:, place], "a patch"),
    ):  # fmt: skip
        mean = of_mean(times)
        add(kind, mean, f"time at which {what} goes soft, quenched mean", "Eqs. 42, 43; B.8",
            float(process.noise_level(mean.value)))  # fmt: skip
    add("strength", of_mean(found["strength"][:, place, -1]), "max_k Re C_0(k)", "Eqs. 7, 30")
    add("lambda_max", of_mean(found["lambda_max"][:, place]), "largest eigenvalue of C", "Eq. 41")
    for kind, which, what in (("samples", SAMPLES, "generated samples"), ("frozen", FROZEN, "under the frozen score")):
        heights = found["bragg"][:, place, :, which]
        add(f"bragg_{kind}", of_mean(heights[:, -1]), f"S(k)/N at its peak, {what}, largest lattice")
        add(f"bragg_exponent_{kind}", bragg_exponent(heights, sizes, dimensions),
            f"y of S(k)/N ~ N^-y: 0 with order, 1 without, {what}")  # fmt: skip
        area = found["susceptibility"][:, place, -1, which]
        add(f"susceptibility_{kind}", of_mean(area), f"N <q^2> (sites), {what}, largest lattice", "binder1986")
        add(f"long_waves_{kind}", of_mean(found["long_waves"][:, place, -1, which]),
            f"share of the power in waves longer than two patches, {what}")  # fmt: skip
        different = found["distinct"][:, place, -1, which] / found.config["replicas"]
        add(f"distinct_{kind}", of_mean(different), f"share of replicas that differ, {what}")
        pair = found["overlap"][:, place, -1, PAIRS.index(kind)]
        add(f"overlap_{kind}", of_mean(pair), f"mean |q| of two noises, {what}, largest lattice", "edwards1975")
    add("overlap_copies", of_mean(found["overlap"][:, place, -1, PAIRS.index("copies")]),
        "mean |q| of a sample and its copy made at t_c", "edwards1975")  # fmt: skip
    if not found.of_sites:
        star = found["k_star"][:, place]
        within = longest_wave(found.field)
        at_star = near(found["peak"][:, place, -1, FROZEN], star, within)
        add("at_k_star", of_share(int(at_star.sum()), count), "share whose peak under the frozen score is at +-k*")
        long = np.linalg.norm(star, axis=-1) <= within
        add("k_star_long", of_share(int(long.sum()), count), "share whose k* is a wave longer than two patches")
    add("edwards_anderson", of_mean(found["edwards_anderson"][:, place, -1]),
        "q of a sample and its copy made at t_c, as they stand", "edwards1975")  # fmt: skip
    return made


def _verdicts(found: Found) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for place, mass in enumerate(found.masses):
        sites = [of_mean(found["susceptibility"][:, place, -1, which]) for which in (SAMPLES, FROZEN)]
        counts = [found.count(name, place) for name in VERDICTS]
        rows.append((mass, *sites, *counts))
    note = (
        "mass: prior of the uniform patterns; samples, frozen: N <q^2> over pairs of replicas, in sites, of generated "
        f"samples and under the frozen score; verdicts by the latter: more than {ORDERED:g} of the power in one wave "
        "is order, uniform if that is longer than two patches; less, and N <q^2> below a patch, is frustrated; by two "
        "standard errors each, or undecided"
    )
    columns = ("mass", "samples", "frozen", *VERDICTS)
    return Table(f"Order of {len(found.verdict)} dictionaries", columns, tuple(rows), note)


def _sizes(found: Found) -> Table:
    dimensions, rows = found.config["dimensions"], list[tuple[Cell, ...]]()
    for place, mass in enumerate(found.masses):
        for size, side in enumerate(found["size"].tolist()):
            cells = [of_mean(found[name][:, place, size, which])
                     for name in ("bragg", "susceptibility") for which in (SAMPLES, FROZEN)]  # fmt: skip
            rows.append((mass, side, *cells, f"{side**-dimensions:.2g}"))
    columns = ("mass", "L", "S(k)/N, samples", "S(k)/N, frozen", "N <q^2>, samples", "N <q^2>, frozen", "1/N")
    note = "independent signs have S(k)/N = 1/N and N <q^2> = 1; order keeps the first, and its lack the second"
    return Table("Order against the side L of the lattice", columns, tuple(rows), note)


def _notes(found: Found) -> tuple[str, ...]:
    notes = []
    if found.config["dimensions"] < 3:
        none = {1: "one dimension nothing orders", 2: "two dimensions no spin glass exists"}
        notes.append(
            f"in {none[found.config['dimensions']]} at a finite temperature: a verdict is one on these lattices and "
            "this time, and names no phase"
        )
    notes.append(
        "bonds are random in space here, but not symmetric, as those of Edwards and Anderson are: what a site reads of "
        "another and the other of it are independent, and networks of such bonds do not freeze (crisanti1987)"
        if found.of_sites
        else "one dictionary at all sites makes no bond disorder in space (B.5): its order is a pattern, however "
        "random its patches; --disorder-of site has a dictionary at every site"
    )
    sites = found.config["sizes"][-1] ** found.config["dimensions"]
    if sites < PATCHES * found.field.size:
        notes.append(
            f"the largest lattice has {sites} sites, {sites / found.field.size:.0f} patches: on so few what is ordered "
            "over a patch or two passes for order"
        )
    if found.config["waits"][-1] < LEAST_WAIT:
        notes.append(
            f"the score was frozen for few relaxation times: before {LEAST_WAIT:g} nothing is called frustrated; raise "
            "--waits"
        )
    if len(found.verdict) < FEW:
        notes.append(f"{len(found.verdict)} realisations: shares of so few have wide intervals")
    return tuple(notes)
