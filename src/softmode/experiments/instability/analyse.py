"""What an instability run found: from which noise level on states are unstable, and how far their modes extend."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from softmode.estimate import Array, Estimate, bootstrap, median, of_mean
from softmode.runs.results import Cell, Quantity, Results, Table
from softmode.runs.run import Run

# share of a lattice's sites from which on a mode is called extended
EXTENDED = 0.1
# the shares of unstable states whose noise level is reported: any, and half of them
SHARES = {"first": 1.0, "half": 0.5}
ROWS = 8
# rounding of a top eigenvalue in single precision
ROUNDING = 1e-4
# least eigenvalue that has a logarithm
TINY = 1e-3
# top eigenvalue below which D does not depend on its state
ANSWERING = 0.02
SOURCE = "r = 0 of any mode: paper Eq. 4, Sec. 5"


@dataclass(frozen=True, eq=False)
class Curves:
    """What was found along the noise levels.

    Args:
        levels: Falling noise levels [level].
        values: Top eigenvalue of every state, [state, level].
        residuals: How far an eigenvalue may be from it.
        antisymmetric: What an exact score has not, at its mode.
        extents: Sites of its mode; NaN where no eigenvalue is above ANSWERING.
        wrong: Whether the mean gain over states along the first one's softest mode exceeds that of any score, [level].
        sites: Sites of the lattice.
    """

    levels: Array
    values: Array
    residuals: Array
    antisymmetric: Array
    extents: Array
    wrong: Array
    sites: int

    @classmethod
    def of(cls, run: Run) -> "Curves":
        """Return those of a run."""
        data = run.dataset
        residuals, antisymmetric, extents = (data[n].to_numpy() for n in ("residual", "antisymmetric", "extent"))
        values, sites = data["eigenvalue"].to_numpy()[:, :, 0], math.prod(run.identity["model"]["shape"][1:])
        # where D answers to nothing, no mode is the softest
        extents = np.where(values > ANSWERING, extents, np.nan)
        levels = data["level"].to_numpy()
        wrong = beyond_linear(data["first_gain"].to_numpy()[1:], data["first_part"].to_numpy()[1:], levels)
        return cls(levels, values, residuals, antisymmetric, extents, wrong, sites)

    @property
    def sure(self) -> Array:
        """Least value that a top eigenvalue has, up to its residual and rounding, [state, level]."""
        return self.values - self.residuals - ROUNDING

    @property
    def unstable(self) -> Array:
        """Whether a state's top eigenvalue is above 1 by more than it may be wrong, [state, level]."""
        return self.sure > 1

    @property
    def surest(self) -> Array:
        """The same, less how far the Jacobian fails to be symmetric; NaN where its mean is no score's."""
        return np.where(self.wrong, np.nan, self.sure - self.antisymmetric)

    @property
    def certain(self) -> Array:
        """Whether a state is unstable by more than the network's own error, [state, level]."""
        return self.surest > 1


def beyond_linear(
    gain: Float[Array, "state level"], part: Float[Array, "state level"], levels: Float[Array, " level"]
) -> Bool[Array, " level"]:
    r"""Return where the mean gain along a fixed direction v exceeds what any score's can be, by twice its errors.

    On average over states the gain is at most the linear one,
    $S_v/(S_v+\sigma^2) = 1 - \sigma^2/\mathrm{Var}(v\cdot x)$.

    Args:
        gain: v.(dD/dx)v of every state.
        part: v.x of every state.
        levels: Noise levels.

    Source: MMSE <= linear MMSE.
    """
    count = len(gain)
    if count < 2:
        return np.zeros(len(levels), dtype=bool)
    least = gain.mean(0) - 2 * gain.std(0, ddof=1) / math.sqrt(count)
    most = part.var(0, ddof=1) * (1 + 2 * math.sqrt(2 / (count - 1)))
    return np.asarray(least > 1 - levels**2 / np.maximum(most, levels**2))


def analyse(run: Run) -> Results:
    """Return where states go unstable, the extent of their modes there, and everything by noise level.

    `values` has the `verdict`: none, local or extended, by the extent of the modes where half of the states are
    unstable, or of the first where fewer ever are.
    """
    curves = Curves.of(run)
    found = {name: levels_of(curves, quantile) for name, quantile in SHARES.items()}
    decided = next((each for each in (found["half"], found["first"]) if math.isfinite(each[0].value)), None)
    extended = decided is not None and decided[1].value >= EXTENDED * curves.sites
    verdict = "none" if decided is None else "extended" if extended else "local"
    return Results(
        answer=_answer(curves, found, verdict),
        quantities=_quantities(found),
        tables={
            "levels": _table(run, curves),
            "waves": _waves(run, curves),
            "between": _between(run, curves.levels),
        },
        notes=(),
        values={"verdict": verdict, "extended_from": EXTENDED * curves.sites},
    )


def crossing(curve: Array, levels: Array) -> float:
    """Return the highest noise level at which a curve rises through 1 as noise falls, by interpolation of logarithms.

    Returns:
        NaN where it never does, or is above 1 from the start.
    """
    above = curve > 1
    place = int(np.argmax(above))
    if not above.any() or place == 0:
        return math.nan
    below, beyond = math.log(max(float(curve[place - 1]), TINY)), math.log(float(curve[place]))
    share, logs = below / (below - beyond), np.log(levels)
    return float(np.exp(logs[place - 1] + share * (logs[place] - logs[place - 1])))


def levels_of(curves: Curves, quantile: float) -> tuple[Estimate, Estimate]:
    """Return the level from which on a share of the states is unstable, and the median extent of modes there.

    That of the first state is one of these states alone, and has no error.
    """
    stacked = np.stack([curves.sure, curves.extents], 2)
    logs = np.log(curves.levels)[::-1]

    def statistic(sample: Array) -> Array:
        values, extents = sample[..., 0], sample[..., 1]
        level = crossing(np.quantile(values, quantile, axis=0), curves.levels)
        if math.isnan(level):
            return np.array([math.nan, math.nan])
        # of the states whose modes are the softest there, as many as the share leaves above
        count = max(1, round((1 - quantile) * len(values)))
        softest = np.take_along_axis(extents, np.argsort(-values, axis=0)[:count], 0)
        return np.array([level, math.exp(np.interp(math.log(level), logs, np.log(median(softest))[::-1]))])

    level, extent = bootstrap(stacked, statistic, centre=lambda sample: sample)
    if quantile == 1 and not math.isnan(level.value):
        # the extreme of these states, of which resamples know nothing
        return Estimate.exact(level.value), Estimate.exact(extent.value)
    if not math.isnan(level.value):
        return level, extent
    top = np.quantile(curves.values, quantile, axis=0)
    missing = Estimate.missing(
        len(curves.values),
        f"already unstable at the highest level, {curves.levels[0]:.3g}: raise --highest"
        if top[0] > 1
        else f"unstable at most {curves.unstable.mean(0).max():.0%}",
    )
    return missing, missing


def _quantities(found: dict[str, tuple[Estimate, Estimate]]) -> tuple[Quantity, ...]:
    (first, first_extent), (half, half_extent) = found["first"], found["half"]
    return (
        Quantity("sigma_c", 0, half, "noise level below which half of the states are unstable", r"$\sigma_c$", SOURCE,
                 half.value),
        Quantity("extent_c", 0, half_extent, "sites of the softest mode there, median", "", "bell1970"),
        Quantity("sigma_first", 0, first, "noise level at which the first state is unstable", "", SOURCE, first.value),
        Quantity("extent_first", 0, first_extent, "sites of its mode", "", "bell1970"),
    )  # fmt: skip


def _answer(curves: Curves, found: dict[str, tuple[Estimate, Estimate]], verdict: str) -> str:
    count, sites = len(curves.values), curves.sites
    if verdict == "none":
        if curves.values[:, 0].max() > 1:
            return f"Some states are unstable at the highest noise level, {curves.levels[0]:.3g}: raise --highest."
        return (
            f"None of {count} states is unstable between sigma = {curves.levels[0]:.3g} and {curves.levels[-1]:.3g}: "
            f"the largest eigenvalue is {curves.values.max():.3g}, and below 1 nothing is decided in one mode rather "
            "than gradually."
        )
    (first, first_extent), (half, half_extent) = found["first"], found["half"]
    if math.isnan(half.value):
        return (
            f"The first of {count} states is unstable at sigma = {_with(first)}, in a mode of "
            f"{first_extent.value:.0f} of {sites} sites; at most {curves.unstable.mean(0).max():.0%} of them ever are."
        )
    sure = curves.certain[:, int(np.argmin(abs(np.log(curves.levels / half.value))))].mean()
    return (
        f"Half of the states are unstable below sigma = {_with(half)}, in modes of {_with(half_extent)} of {sites} "
        f"sites ({'extended' if verdict == 'extended' else 'local'}); the first of {count} is at {first.value:.3g}. "
        f"There {sure:.0%} of them are so by more than the network's Jacobian fails to be symmetric."
    )


def _with(estimate: Estimate) -> str:
    return f"{estimate.value:.3g} {estimate.interval}".strip()


def _table(run: Run, curves: Curves) -> Table:
    """Return everything by noise level, at few enough of them."""
    data = run.dataset
    growth, control, kept, wave = (
        np.median(data[name].to_numpy(), axis=0) for name in ("growth", "growth_random", "kept", "wavenumber")
    )
    pushed = np.flatnonzero(np.isfinite(growth)) if run.config["growth"] else np.arange(len(growth))
    shown = pushed[shown_levels(len(pushed), ROWS)]
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (float(curves.levels[i]), round(float(np.median(curves.values[:, i])), 3),
         f"{curves.unstable[:, i].mean():.0%}", f"{curves.certain[:, i].mean():.0%}",
         round(float(median(curves.extents)[i]), 1), round(float(wave[i]), 2), round(float(kept[i]), 2),
         *([f"{growth[i]:.2g} / {control[i]:.2g}"] if run.config["growth"] else []))
        for i in shown
    )  # fmt: skip
    columns: tuple[str, ...] = ("sigma", "eigenvalue", "unstable", "beyond", "sites", "wavenumber", "kept")
    note = (
        "medians over states; beyond: by more than the antisymmetric part; kept: overlap with the mode at the level "
        "before"
    )
    if run.config["growth"]:
        columns = (*columns, "growth / random")
        note += "; growth of a push along the mode until the end, and of one in a random direction"
    return Table("The softest mode by noise level", columns, rows, note)


def _waves(run: Run, curves: Curves) -> Table:
    """Return the softest plane wave beside the softest mode, at few enough noise levels."""
    gains = run.dataset["wave_gain"].to_numpy()
    rows: list[tuple[Cell, ...]] = []
    for i in shown_levels(len(curves.levels), ROWS):
        k, gain = softest_wave(gains[:, i])
        eigenvalue = round(float(curves.values[:, i].mean()), 3)
        seen = gain.value > 2 * gain.stderr
        rows.append((float(curves.levels[i]), ", ".join(map(str, k)) if seen else "none seen", gain, eigenvalue))
    note = (
        "wave vectors in units of the lowest, in the order of the axes (y, x); each gain is of states that had no part "
        "in the choice of its wave; none seen: below two standard errors; the mean top eigenvalue bounds all gains"
    )
    return Table("The softest plane wave", ("sigma", "wave vector", "mean gain", "eigenvalue"), tuple(rows), note)


def softest_wave(gains: Float[Array, "state *space"]) -> tuple[tuple[int, ...], Estimate]:
    """Return the wave vector of the largest mean gain, in units of the lowest, and that gain.

    The largest of many noisy means is too large: the gain is that of each half of the states at the wave that the
    other half has chosen.
    """
    sides, count = gains.shape[1:], len(gains)
    flat = gains.reshape(count, -1)
    place = int(flat.mean(0).argmax())
    k = tuple(
        int(i) - side * (2 * int(i) > side) for i, side in zip(np.unravel_index(place, sides), sides, strict=True)
    )
    # of k and -k, which are one wave, the one whose first component that is not 0 is positive
    k = max(k, tuple(-i for i in k))
    if count < 4:
        return k, Estimate(float(flat.mean(0)[place]), math.nan, count, reason="too few states for an error")
    halves = [flat[half::2][:, int(flat[1 - half :: 2].mean(0).argmax())] for half in (0, 1)]
    return k, of_mean(np.concatenate(halves))


def _between(run: Run, levels: Array) -> Table:
    """Return how alike the softest modes of different states are."""
    modes = run.dataset["mode"].to_numpy()
    flat = modes.reshape(*modes.shape[:2], -1)
    rows = []
    for i, level in enumerate(levels):
        overlaps = np.abs(flat[:, i] @ flat[:, i].T)[np.triu_indices(len(flat), 1)]
        rows.append((float(level), float(np.median(overlaps)) if len(overlaps) else math.nan))
    return Table("Overlap of the softest modes of two states", ("sigma", "median |u . v|"), tuple(rows))


def shown_levels(levels: int, count: int) -> list[int]:
    """Return the places of a few of so many levels, evenly spread."""
    return sorted({round(float(i)) for i in np.linspace(0, levels - 1, min(count, levels))})
