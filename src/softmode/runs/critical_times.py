"""Every critical time that can be read off the stored curves of a generation, each with its interval."""

import math
from collections.abc import Sequence
from typing import Literal

from softmode.critical import (
    Feature,
    estimate_times,
    fit_dispersion,
    lasting_crossings,
    onset_time,
    peak_time,
    peak_times,
    undefined_bands,
)
from softmode.estimate import Array, Estimate, median
from softmode.runs.clock import Clock
from softmode.runs.resolved import resolved_times
from softmode.runs.results import Quantity, Table
from softmode.runs.run import Run

LENGTHS = ("xi_eq_drift", "xi_eq_gain", "xi_eq_free")
# fewest times among which a peak is looked for
LEAST = 3
# trajectories from which on an interval of a median can cover 95 %
ENOUGH = 6


def measured_times(run: Run, convention: str = "sde") -> list[Quantity]:
    """Return every critical time measured along the trajectories of a finished run.

    Args:
        run: A run with the curves of `softmode.observe.critical_curves`.
        convention: Whose drift its eigenvalues are of.
    """
    data = run.dataset
    times, k, growth = (data[name].to_numpy() for name in ("time", "k", "growth"))
    clock = Clock.of(run)
    rates = data["eigenvalue"].to_numpy(), 1 - data["gain"].to_numpy()
    drift = "probability flow's" if convention == "ode" else "reverse SDE's"

    def several(kind: str, curves: Array, feature: Feature, what: str, symbol: str, source: str) -> list[Quantity]:
        found = estimate_times(curves, times[: curves.shape[1]], feature) if curves.shape[1] >= LEAST else []
        if not found:
            return [Quantity(kind, 1, Estimate.missing(len(curves), "the median curve has none"), what, symbol, source)]
        return [Quantity(kind, i, e, what, symbol, source, clock.level(e.value)) for i, e in enumerate(found, 1)]

    quantities = several(
        "lambda_0_zero", rates[0][:, :, 0].mean(-1), lasting_crossings,
        f"lasting sign change of the {drift} lambda_0", r"$\lambda_0=0$", "Eq. 64",
    )  # fmt: skip
    variants: tuple[tuple[str, Array, Literal["constant mode", "free"], str, str], ...] = (
        ("drift", rates[0], "constant mode", "the drift's lambda_n (the paper's convention)", "drift"),
        ("gain", rates[1], "constant mode", "1 - G_n (convention-free)", "convention-free"),
        ("free", rates[1], "free", "1 - G_n of shells n >= 1 alone", "free intercept"),
    )
    for name, rate, intercept, convention_free, short in variants:
        softness = fit_dispersion(rate, k, intercept).softness(math.pi / k[1].min())
        seen = resolved_times(run, intercept)
        quantities += several(
            f"xi_eq_{name}_peak", softness[:, :seen], peak_times, f"peak of xi_eq from {convention_free}",
            rf"peak of $\xi_{{\mathrm{{eq}}}}$, {short}", "Eq. 69",
        )  # fmt: skip
    return [
        *quantities,
        *several("growth_onset", growth, onset_time, "growth of xi_x reaches 10 % of its peak", "onset", "E.7"),
        *several("growth_peak", growth, peak_time, "fastest growth of xi_x", "fastest", "E.7"),
    ]  # fmt: skip


def first_of_each(quantities: Sequence[Quantity], kinds: Sequence[str]) -> Table:
    """Return the first quantity of each of some kinds as a table, in falling order of time."""
    chosen = [next((q for q in quantities if q.kind == kind), None) for kind in kinds]
    found = [q for q in chosen if q is not None]
    rows = tuple(
        (q.what, q.estimate, q.estimate.interval, q.level)
        for q in sorted(found, key=lambda q: -q.estimate.value if math.isfinite(q.estimate.value) else math.inf)
    )
    doubt = "?: found in fewer than 95 % of bootstrap resamples" if any(q.estimate.reason for q in found) else ""
    return Table("Critical times", ("what", "t", "95 % interval", "sigma/alpha"), rows, doubt)


def undefined(run: Run) -> dict[str, list[tuple[float, float]]]:
    """Return the bands of time (first, last; falling) in which the median of each xi_eq is undefined, or in doubt."""
    data, found = run.dataset, {}
    for name in LENGTHS:
        curve = median(data[name].to_numpy())
        curve[resolved_times(run, "free" if name == "xi_eq_free" else "constant mode") :] = math.nan
        found[name] = undefined_bands(curve, data["time"].to_numpy())
    return found


def undefined_table(bands: dict[str, list[tuple[float, float]]]) -> Table:
    """Return those bands as a table."""
    rows = tuple((name, float(first), float(last)) for name, found in bands.items() for first, last in found)
    why = (
        "lambda_0 (or 1 - G_0) <= 0, or negative curvature: the ratio of Eq. 69 has no meaning there; or, down to the "
        "last time, 1 - G is lost in its own error, by sampling and by the step of the difference"
    )
    return Table("Where the median xi_eq is undefined", ("xi_eq", "from t", "down to t"), rows, why)


def few_trajectories(trajectories: int) -> list[str]:
    """Return a note if there are too few trajectories for a 95 % interval of a median."""
    if trajectories >= ENOUGH:
        return []
    bound = 100 * (1 - 2.0 ** (1 - trajectories))
    few = "1 trajectory has" if trajectories == 1 else f"{trajectories} trajectories have"
    return [f"{few} intervals of a median that cover at most {bound:.0f} %; use --trajectories {ENOUGH} or more"]


def said(quantity: Quantity) -> str:
    """Return a time with its noise level as an answer says it."""
    if not math.isfinite(quantity.estimate.value):
        return "never"
    doubt = " (in doubt)" if quantity.estimate.reason and quantity.estimate.samples > 1 else ""
    return f"at t = {quantity.estimate} (sigma/alpha = {quantity.level:.3g}){doubt}"
