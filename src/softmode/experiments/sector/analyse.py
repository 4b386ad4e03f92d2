"""What a soft sector is: how many modes are soft, and whether their couplings are those of one order parameter."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from softmode.estimate import Array, Estimate, bootstrap, of_mean
from softmode.formulas.couplings import commutation_defect, departure, extremes
from softmode.observe.spectrum import Spectrum
from softmode.runs.results import Quantity, Results, Table
from softmode.runs.run import Run

# rounding of an eigenvalue in single precision
ROUNDING = 1e-4
# share of states from which on a sector is called soft, or frustrated
MOSTLY = 0.5
# modes counted per state from which on there are several
SEVERAL = 1.5
# share of the modes in one star of wave vectors from which on they are its components
OF_STAR = 0.9
# eigenvalues above which the share of all is told
LEVELS = (1.0, 0.5, 0.1)
C4, C5 = "paper C.4", "paper C.5"


@dataclass(frozen=True, eq=False)
class Sectors:
    """What was measured of every state.

    Args:
        values: Largest eigenvalues [state, mode], in falling order.
        errors: What they may be wrong by: residual and rounding.
        antisymmetric: What of the Jacobian is no gradient's at the softest mode [state], the network's own error.
        extents: Sites of the modes [state, mode].
        waves: Strongest waves of the modes [state, mode, axis], in units of the lowest.
        stars: Shares of the modes in the star of that wave [state, mode].
        mass: M [state, a, b].
        stiffness: K, its mean over the axes [state, a, b].
        stiffness_error: What it may be wrong by.
        quartic: U [state, a, b, c, d].
        low: Least value of U over directions [state].
        high: Largest value.
        quartic_error: What these may be wrong by [state]: the differences, and what of the response is no gradient's.
    """

    values: Array
    errors: Array
    antisymmetric: Array
    extents: Array
    waves: Array
    stars: Array
    mass: Array
    stiffness: Array
    stiffness_error: Array
    quartic: Array
    low: Array
    high: Array
    quartic_error: Array

    @classmethod
    def of(cls, run: Run) -> "Sectors":
        """Return those of a run."""
        data = {str(name): values.to_numpy() for name, values in run.dataset.data_vars.items()}
        errors = data["residual"] + ROUNDING
        axes = data["stiffness"].shape[-1]
        bend, bend_error = (np.einsum("sabmm->sab", data[n]) / axes for n in ("stiffness", "stiffness_error"))
        low, high = (each.numpy() for each in extremes(torch.from_numpy(data["quartic"].astype(np.float64))))
        # the form's value changes by less than the norm of what the tensor changes by
        sizes = [
            np.sqrt((data[n].astype(float) ** 2).reshape(len(low), -1).sum(1)) for n in ("quartic_error", "quartic")
        ]
        wrong = sizes[0] + data["uneven"] * sizes[1]
        return cls(
            data["eigenvalue"], errors, data["antisymmetric"], data["extent"], data["wave"], data["star"], data["mass"], bend, bend_error,
            data["quartic"], low, high, wrong,
        )  # fmt: skip

    @property
    def soft(self) -> Float[Array, " state"]:
        """How many of the modes are unstable: their eigenvalues exceed 1 by more than their error."""
        return (self.values - self.errors > 1).sum(1).astype(float)

    @property
    def alike(self) -> Float[Array, " state"]:
        """How many of the modes have the largest eigenvalue, as far as the network itself knows."""
        within = self.errors[:, :1] + self.errors + self.antisymmetric[:, None]
        return (self.values[:, :1] - self.values <= within).sum(1).astype(float)

    @property
    def of_one_star(self) -> Float[Array, " state"]:
        """Whether the modes with the largest eigenvalue are waves of one star."""
        same = (self.waves == self.waves[:, :1]).all(2) & (self.stars > OF_STAR)
        return np.where(np.arange(self.values.shape[1]) < self.alike[:, None], same, True).all(1).astype(float)

    @property
    def both_signs(self) -> Float[Array, " state"]:
        """Whether U takes both signs, by more than it may be wrong."""
        return ((self.low < -self.quartic_error) & (self.high > self.quartic_error)).astype(float)

    @property
    def defect(self) -> Float[Array, " state"]:
        """How far M and K are from commuting; NaN where one of them is one number as far as can be told."""
        found = commutation_defect(*(torch.from_numpy(each.astype(float)) for each in (self.mass, self.stiffness)))
        alike = self.alike >= self.values.shape[1]
        return np.where(alike, np.nan, found.numpy())

    @property
    def departure(self) -> Float[Array, " state"]:
        """How far U is from the isotropic form."""
        return np.asarray(departure(torch.from_numpy(self.quartic.astype(float))))


def analyse(run: Run) -> Results:
    """Return how many modes are soft, their mass, stiffness and couplings, and C.5's question by its measures.

    `values` has the `verdict`: none, scalar, star, several, frustrated or undecided.
    """
    sectors = Sectors.of(run)
    measures = _measures(run, sectors)
    verdict = _verdict(sectors)
    return Results(
        answer=_answer(run, sectors, measures, verdict),
        quantities=tuple(measures.values()),
        tables={"modes": _modes(sectors), "measures": _table(measures), "couplings": _couplings(sectors),
                "spectrum": _spectrum(run)},
        notes=tuple(_notes(run, sectors)),
        values={"verdict": verdict},
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


def mean_of(values: Array) -> Estimate:
    """Return the mean over states, with its interval; exact of one state alone."""
    return _of_one(float(values[0])) if len(values) == 1 else of_mean(values)


def _of_one(value: float) -> Estimate:
    """Return what was measured at x = 0, which is one state, or at one state of many."""
    return Estimate.missing(1, "undefined") if math.isnan(value) else Estimate.exact(value)


def _measures(run: Run, sectors: Sectors) -> dict[str, Quantity]:
    data, count = run.dataset, sectors.values.shape[1]
    u = sectors.quartic[:, 0, 0, 0, 0]
    scale = np.maximum(np.abs(sectors.low), np.abs(sectors.high))
    rows: list[tuple[str, Estimate, str, str]] = [
        ("eigenvalue", median_of(sectors.values[:, 0]), "largest eigenvalue of dD/dx", "r = 0: paper Eq. 4"),
        ("soft", mean_of(sectors.soft), f"unstable modes of a state, of {count}", C5),
        ("alike", mean_of(sectors.alike), f"modes as soft as the softest, within the error, of {count}", C5),
        ("sites", median_of(sectors.extents[:, 0]), "sites of the softest mode", "bell1970"),
        ("mass", median_of(sectors.mass[:, 0, 0]), "mass M of the softest mode", C5),
        ("stiffness", median_of(sectors.stiffness[:, 0, 0]), "its stiffness K, mean of the axes (site^2)", C5),
        ("quartic", median_of(u), "its quartic coupling U", C5),
        ("defect", median_of(sectors.defect), "how far M and K are from commuting, 0 to 1", C4),
        ("both_signs", mean_of(sectors.both_signs), "share of states whose U takes both signs, beyond its error", C4),
        ("least_quartic", median_of(sectors.low / scale), "least U over directions, in units of its largest size", C4),
        ("departure", median_of(sectors.departure), "how far U is from the isotropic form, 0 to 1", C5),
        ("antisymmetric", median_of(data["antisymmetric"].to_numpy()),
         "antisymmetric part of dD/dx at the softest mode, 0 for an exact score", "paper C.1"),
        ("uneven", median_of(data["uneven"].to_numpy()), "share of the cubic response that is no gradient's", "Eq. 14"),
    ]  # fmt: skip
    return {kind: Quantity(kind, 0, estimate, what, "", source) for kind, estimate, what, source in rows}


def _verdict(sectors: Sectors) -> str:
    """Return the word for the numbers: none, scalar, star, several, frustrated or undecided."""
    unstable = sectors.soft > 0
    if unstable.mean() < MOSTLY:
        return "none"
    soft, alike = sectors.soft[unstable].mean(), sectors.alike[unstable].mean()
    if max(soft, alike) < SEVERAL:
        return "scalar"
    if sectors.of_one_star.mean() >= MOSTLY and (sectors.soft <= sectors.alike).mean() >= MOSTLY:
        return "star"
    if soft < SEVERAL:
        return "undecided"
    defects = sectors.defect - _defect_error(sectors)
    competing = np.nan_to_num(defects[unstable]) > 0
    return "frustrated" if min(sectors.both_signs[unstable].mean(), competing.mean()) >= MOSTLY else "several"


def _defect_error(sectors: Sectors) -> Array:
    """Return what the commutation defect may be wrong by: the error of K in units of what differs between modes."""
    size = sectors.stiffness_error.shape[1]
    free = sectors.stiffness - np.einsum("saa->s", sectors.stiffness)[:, None, None] / size * np.eye(size)
    norms = [np.sqrt((each.astype(float) ** 2).sum((1, 2))) for each in (sectors.stiffness_error, free)]
    return np.asarray(norms[0] / np.maximum(norms[1], np.finfo(float).tiny))


WORDS = {
    "none": "no mode is soft there at most states",
    "scalar": "one mode is soft, a scalar order parameter",
    "star": "the soft modes are the waves of one star, the components of one order parameter",
    "several": "several modes are soft at once, and the measures do not say that they compete",
    "frustrated": "several modes are soft at once and compete: U takes both signs, and M and K do not commute",
    "undecided": "one mode is unstable at a time, but others are as soft within the network's own error",
}


def _answer(run: Run, sectors: Sectors, measures: dict[str, Quantity], verdict: str) -> str:
    count, modes = sectors.values.shape
    where = "x = 0" if run.config["states"] == "symmetric" else f"{count} states"
    unstable = sectors.soft > 0
    most = " or more" if (sectors.soft == modes).any() else ""
    said = f"At sigma = {run.config['sigma']:.3g}, at {where}, the largest eigenvalue of dD/dx is "
    said += _with(measures["eigenvalue"].estimate)
    if unstable.any():
        of_all = "" if count == 1 else f", {unstable.sum()} states are unstable"
        soft, alike = (_with(mean_of(each[unstable])) for each in (sectors.soft, sectors.alike))
        said += f"{of_all}, in {soft}{most} modes at once, with {alike} as soft as the softest within their error"
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
    far = np.abs(sectors.stiffness_error[:, 0, 0] / sectors.stiffness[:, 0, 0])
    if np.median(far) > 0.3:
        notes.append(
            f"the stiffness of the softest mode by waves of two lengths differs by {3 * np.median(far):.0%}: its modes "
            "are no longer than the lowest wave, and an expansion in gradients says little"
        )
    return notes
