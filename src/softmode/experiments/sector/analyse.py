"""What a soft sector is: how many modes are soft, and whether their couplings are those of one order parameter."""

import math
from dataclasses import replace

import numpy as np
import torch

from softmode.estimate import Array, Estimate, bootstrap, of_mean, of_share
from softmode.experiments.sector.sectors import ROUNDING, Sectors
from softmode.observe.spectrum import Spectrum
from softmode.runs.results import Quantity, Results, Table
from softmode.runs.run import Run

# share of states from which on a sector is called soft, or frustrated
MOSTLY = 0.5
# share of the stiffness that is extrapolation from which on it is doubtful
FAR = 0.3
# overlap of two states' softest modes from which on they are the same
SAME = 0.7
# eigenvalues above which the share of all is told
LEVELS = (1.0, 0.5, 0.1)
C4, C5 = "paper C.4", "paper C.5"


def analyse(run: Run) -> Results:
    """Return how many modes are soft, their mass, stiffness and couplings, and C.5's question by its measures.

    `values` has the `verdict` (none, scalar, star, several, frustrated, undecided) and the share of `unstable` states.
    """
    sectors = Sectors.of(run)
    measures = _measures(run, sectors)
    verdict = verdict_of(sectors)
    return Results(
        answer=_answer(run, sectors, measures, verdict),
        quantities=tuple(measures.values()),
        tables={"modes": _modes(sectors), "measures": _table(measures), "couplings": _couplings(sectors),
                "spectrum": _spectrum(run)},
        notes=tuple(_notes(run, sectors)),
        values={"verdict": verdict, "unstable": float((sectors.soft > 0).mean())},
    )  # fmt: skip


def median_of(values: Array) -> Estimate:
    """Return the median over states, with its interval; exact of one state alone."""
    if len(values) == 1:
        return _of_one(float(values[0]))
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return Estimate.missing(len(values), "undefined at nearly all states")
    (found,) = bootstrap(known[:, None], lambda curve: curve)
    return found


def _of_pairs(sectors: Sectors) -> Estimate:
    count = len(sectors.values)
    if count < 2:
        return Estimate.missing(count, "one state alone")
    return Estimate(float(np.median(sectors.overlaps)), math.nan, count, reason="pairs of states are not independent")


def mean_of(values: Array) -> Estimate:
    """Return the mean of counts over states, with its interval; exact of one state alone."""
    if len(values) == 1:
        return _of_one(float(values[0]))
    found = of_mean(values)
    return replace(found, low=max(found.low, 0.0))  # counts are not less than none


def _of_one(value: float) -> Estimate:
    """Return what was measured at x = 0, which is one state, or at one state of many."""
    return Estimate.missing(1, "undefined") if math.isnan(value) else Estimate.exact(value)


def _measures(run: Run, sectors: Sectors) -> dict[str, Quantity]:
    data, count = run.dataset, sectors.values.shape[1]
    u, signs = sectors.quartic[:, 0, 0, 0, 0], of_share(int(sectors.both_signs.sum()), len(sectors.both_signs))
    rows: list[tuple[str, Estimate, str, str]] = [
        ("eigenvalue", median_of(sectors.values[:, 0]), "largest eigenvalue of dD/dx", "r = 0: paper Eq. 4"),
        ("soft", mean_of(sectors.soft), f"unstable modes of a state, of {count}", C5),
        ("alike", mean_of(sectors.alike), f"modes as soft as the softest, within the error, of {count}", C5),
        ("sites", median_of(sectors.extents[:, 0]), "sites of the softest mode", "bell1970"),
        ("mass", median_of(sectors.mass[:, 0, 0]), "mass M of the softest mode", C5),
        ("stiffness", median_of(sectors.stiffness[:, 0, 0]), "its stiffness K, mean of the axes (site^2)", C5),
        ("quartic", median_of(u), "its quartic coupling U", C5),
        ("defect", median_of(sectors.defect), "how far M and K are from commuting, 0 to 1", C4),
        ("both_signs", signs, "share of states whose U takes both signs, beyond its error", C4),
        ("least_quartic", median_of(sectors.low / sectors.size), "least U over directions, of its largest size", C4),
        ("departure", median_of(sectors.departure), "how far U is from the isotropic form, 0 to 1", C5),
        ("overlap", _of_pairs(sectors), "median overlap |u . v| of the softest modes of two states", C5),
        ("antisymmetric", median_of(data["antisymmetric"].to_numpy()),
         "antisymmetric part of dD/dx at the softest mode, 0 for an exact score", "paper C.1"),
        ("uneven", median_of(data["uneven"].to_numpy()), "share of the cubic response that is no gradient's", "Eq. 14"),
    ]  # fmt: skip
    return {kind: Quantity(kind, 0, estimate, what, "", source) for kind, estimate, what, source in rows}


def verdict_of(sectors: Sectors) -> str:
    """Return the word for the numbers: none, scalar, star, several, frustrated or undecided."""
    unstable = sectors.soft > 0
    if unstable.mean() < MOSTLY:
        return "none"
    if sectors.alone[unstable].mean() >= MOSTLY:
        return "scalar"
    if sectors.of_one_star.mean() >= MOSTLY and (sectors.soft <= sectors.alike).mean() >= MOSTLY:
        return "star"
    if (sectors.soft[unstable] > 1).mean() < MOSTLY:
        return "undecided"
    competing = np.nan_to_num(sectors.defect - sectors.defect_error)[unstable] > 0
    return "frustrated" if min(sectors.both_signs[unstable].mean(), competing.mean()) >= MOSTLY else "several"


WORDS = {
    "none": "no mode is soft there",
    "few": "most states have no soft mode",
    "scalar": "one mode is soft, a scalar order parameter",
    "scalars": "one mode is soft at a state, a scalar order parameter, but another one at another state",
    "star": "the soft modes are the waves of one star, the components of one order parameter",
    "several": "several modes are soft at once, and the measures do not say that they compete",
    "frustrated": "several modes are soft at once and compete: U takes both signs, and M and K do not commute",
    "undecided": "one mode is unstable at a time, but others are as soft within the network's own error",
}


def _answer(run: Run, sectors: Sectors, measures: dict[str, Quantity], verdict: str) -> str:
    count, modes = sectors.values.shape
    where = "x = 0" if run.config["states"] == "symmetric" else f"{count} states"
    unstable = sectors.soft > 0
    said = f"At sigma = {run.config['sigma']:.3g}, at {where}, the largest eigenvalue of dD/dx is "
    said += _with(measures["eigenvalue"].estimate)
    if unstable.any():
        soft, alike = (each[unstable].mean() for each in (sectors.soft, sectors.alike))
        counted = f"{soft:.2g} modes on average (counted up to {modes}), {alike:.2g} as soft as the softest can be told"
        said += ", where it" if count == 1 else f"; {unstable.sum()} of them"
        said += f"{' is' if count == 1 or unstable.sum() == 1 else ' are'} unstable, in "
        said += "one mode alone" if soft == alike == 1 else counted
    if verdict == "none" and unstable.any():
        verdict = "few"
    if verdict == "scalar" and len(sectors.overlaps) and np.median(sectors.overlaps) < SAME:
        verdict = "scalars"
    return f"{said}: {WORDS[verdict]}."


def _with(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "an unknown share"
    interval = "" if estimate.interval == "exact" else estimate.interval
    return f"{estimate.value:.3g} {interval}".strip()


def _modes(sectors: Sectors) -> Table:
    rows = tuple(
        (a + 1, median_of(sectors.values[:, a]), median_of(sectors.extents[:, a]), median_of(sectors.mass[:, a, a]),
         median_of(sectors.stiffness[:, a, a]), median_of(sectors.quartic[:, a, a, a, a]), _wave(sectors, a))
        for a in range(sectors.values.shape[1])
    )  # fmt: skip
    columns = ("mode", "eigenvalue", "sites", "mass M", "stiffness K", "quartic U", "wave")
    note = (
        "medians over states; the modes of each state by falling eigenvalue; M = (1 - eigenvalue) / sigma^2; wave: the "
        "strongest, in units of the lowest, in most states, and its share of them"
    )
    return Table("The soft sector, mode by mode", columns, rows, note)


def _wave(sectors: Sectors, a: int) -> str:
    """Return the wave that is the strongest in most states."""
    waves, counts = np.unique(sectors.waves[:, a].astype(int), axis=0, return_counts=True)
    place = int(counts.argmax())
    return f"{', '.join(map(str, waves[place]))}: {counts[place] / counts.sum():.0%}"


def _table(measures: dict[str, Quantity]) -> Table:
    rows = tuple((q.what, q.estimate, q.estimate.interval, q.source) for q in measures.values())
    return Table("One order parameter or several?", ("measure", "value", "95 % interval", "source"), rows)


def _couplings(sectors: Sectors) -> Table:
    """Return the couplings between two modes that do not depend on the modes' signs."""
    count = sectors.values.shape[1]
    rows = tuple(
        (
            f"{a + 1} and {b + 1}",
            median_of(sectors.quartic[:, a, a, b, b]),
            median_of(np.abs(sectors.stiffness[:, a, b])),
        )
        for a in range(count)
        for b in range(a + 1, count)
    )
    return Table("Couplings of two modes", ("modes", "U_aabb", "|K_ab|"), rows, "medians over states")


def _spectrum(run: Run) -> Table:
    sites = math.prod(run.identity["model"]["shape"])
    low, high = shares(run, np.array(LEVELS))
    rows = tuple((level, f"{sites * low[i]:.1f} to {sites * high[i]:.1f}") for i, level in enumerate(LEVELS))
    note = "means over states and random fields, by the bounds of their quadratures"
    return Table("Eigenvalues above a level", ("level", f"how many, of {sites}"), rows, note)


def shares(run: Run, levels: Array) -> tuple[Array, Array]:
    """Return the least and the largest share of eigenvalues above levels, mean over states and fields, [level]."""
    data = run.dataset
    seen = Spectrum(*(torch.from_numpy(data[name].to_numpy()) for name in ("node_value", "node_weight")))
    bounds = [seen.share_above(float(level)) for level in levels]
    low, high = (np.array([float(pair[side].mean()) for pair in bounds]) for side in (0, 1))
    return low, high


def _notes(run: Run, sectors: Sectors) -> list[str]:
    notes = ["a state's modes are those of its own dD/dx; M, K and U are those of fields of mean square 1 in x / alpha"]
    if (sectors.alike == sectors.values.shape[1]).any():
        notes.append("at some states all modes that were looked for have the largest eigenvalue: raise --modes")
    if run.config["states"] == "symmetric":
        answer = float(run.dataset["answer"].to_numpy()[0])
        if answer > ROUNDING:
            notes.append(f"x = 0 is no fixed point of this model: D(0) has an rms of {answer:.3g}")
    error, size = (float(np.median(np.abs(each[:, 0, 0]))) for each in (sectors.stiffness_error, sectors.stiffness))
    if error > FAR * size:
        notes.append(
            f"the stiffness of the softest mode by waves of two lengths differs by {3 * error / size:.0%}: its modes "
            "are no longer than the lowest wave, and an expansion in gradients says little"
        )
    return notes
