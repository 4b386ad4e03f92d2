"""What a probe found: where its modes soften, the null model and its bound, the response's structure, the cost."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from softmode.critical import fit_dispersion, peak_times, undefined_bands
from softmode.estimate import Estimate, bootstrap, median
from softmode.experiments.probe.cost import evaluations_each
from softmode.experiments.probe.locality import locality_rows, locality_table
from softmode.runs.clock import Clock
from softmode.runs.critical_times import (
    few_trajectories,
    first_of_each,
    measured_times,
    undefined,
    undefined_table,
)
from softmode.runs.geometry import geometry_notes
from softmode.runs.resolved import resolved_times, systematic
from softmode.runs.results import Quantity, Results, Table
from softmode.runs.run import Run
from softmode.weighted_fit import MISFIT, weighted_fit

# standard errors beyond which a gain above the bound is the score's error; one-sided, as a normal distribution's
BOUND_STDERRS = 4.0
# fewest trajectories whose covariance can weigh a fit, and levels in its table
FITTED, ROWS = 4, 8
# error of a gain measured by differences in float32
ROUNDING = 2e-3
# what the terminal shows, the first of each
SHOWN = ("xi_eq_gain_peak", "xi_eq_drift_peak", "xi_eq_free_peak", "growth_onset", "growth_peak", "lambda_0_zero")


def analyse(run: Run) -> Results:
    """Return the critical times of a finished run, and what else was measured."""
    clock, measured = Clock.of(run), measured_times(run, run.identity["model"]["convention"])
    bands, rows, spent = undefined(run), locality_rows(run, clock), network_evaluations(run)
    tables = {
        "times": first_of_each(measured, SHOWN),
        "locality": locality_table(rows),
        "cost": Table("Network evaluations", ("what for", "states"), tuple(spent.items())),
        "undefined": undefined_table(bands),
    }
    values = {"undefined": bands, "gain": gain_table(run), "locality": rows, "evaluations": spent}
    if run.dataset.sizes["trajectory"] >= FITTED:
        values["fit"] = fit = fitted_lengths(run)
        tables["fit"] = _fit_table(run, fit)
    peaks, notes = None, few_trajectories(run.dataset.sizes["trajectory"])
    if "null_gain" in run.dataset:
        peaks, bound = null_peaks(run), bound_check(run)
        values |= {"null": peaks, "bound": bound}
        tables |= {"null": _null_table(peaks, clock), "bound": _bound_table(bound)}
    else:
        notes.append("there is no null model to compare with, as the model came without data: name some with --data")
    notes += geometry_notes(run)
    return Results(_answer(run, measured, peaks, clock), tuple(measured), tables, tuple(notes), values)


def network_evaluations(run: Run) -> dict[str, int]:
    """Return how many states went through the network, and what for."""
    data = run.dataset
    channels, axes, times, snapshots = (data.sizes[name] for name in ("channel", "axis", "time", "snapshot"))
    each = evaluations_each(run.config, channels, axes, times, snapshots, "class_entropy" in data)
    counts = {what: data.sizes["trajectory"] * number for what, number in each.items()}
    return counts | {"total": sum(counts.values())}


def gain_table(run: Run) -> dict[str, Any]:
    """Return the median gain of every mode at every time with its errors, [time, shell, axis].

    `stderr` is that of sampling, `wrong` how far all trajectories may be off together by the step of the difference.
    """
    gains, change = (run.dataset[name].to_numpy() for name in ("gain", "gain_change"))
    estimates = bootstrap(gains, np.ravel, resamples=200)
    shape = gains.shape[1:]
    return {
        "median": np.reshape([e.value for e in estimates], shape).tolist(),
        "stderr": np.reshape([e.stderr for e in estimates], shape).tolist(),
        "wrong": systematic(change).tolist(),
        "samples": len(gains),
    }


def fitted_lengths(run: Run) -> dict[str, list[Any]]:
    """Return xi_eq from 1 - G_n by generalised least squares at every time, undefined where 1 - G is lost in its error.

    `misfit` is the chi square per degree of freedom.
    """
    data, seen = run.dataset, resolved_times(run)
    fit = weighted_fit(1 - data["gain"].to_numpy(), data["k"].to_numpy())
    lost = Estimate.missing(data.sizes["trajectory"], "1 - G is lost in its error")
    lengths = [fit.length(place) if place < seen else lost for place in range(data.sizes["time"])]
    return {"xi_eq": lengths, "misfit": fit.misfit.tolist()}


def _fit_table(run: Run, fit: dict[str, list[Any]]) -> Table:
    """Return those lengths beside the median of Eq. 69, at few enough noise levels."""
    data = run.dataset
    levels, of_medians = data["noise_level"].to_numpy(), median(data["xi_eq_gain"].to_numpy())
    known = [place for place, length in enumerate(fit["xi_eq"]) if math.isfinite(length.value)]
    places = sorted({known[round(float(i))] for i in np.linspace(0, len(known) - 1, min(ROWS, len(known)))})
    rows = tuple(
        (float(levels[i]), fit["xi_eq"][i], fit["xi_eq"][i].interval, float(of_medians[i]), round(fit["misfit"][i], 2))
        for i in places
    )
    columns = ("sigma/alpha", "xi_eq, weighted fit", "95 % interval", "median of Eq. 69", "misfit")
    note = (
        f"misfit: chi square per degree of freedom; above {MISFIT:g} the rates are not quadratic in k, and the error "
        "is enlarged by its root; times without a length are left out"
    )
    return Table("xi_eq by generalised least squares (sites)", columns, rows, note)


def null_peaks(run: Run) -> dict[str, list[float]]:
    """Return the times at which the null model's xi_eq peaks, by convention."""
    data = run.dataset
    times, k = data["time"].to_numpy(), data["k"].to_numpy()
    rates = {"drift": data["null_eigenvalue"].to_numpy(), "gain": 1 - data["null_gain"].to_numpy()}
    return {
        f"xi_eq_{name}": peak_times(fit_dispersion(rate, k).softness(math.pi / k[1].min()), times).tolist()
        for name, rate in rates.items()
    }


def bound_check(run: Run) -> dict[str, Any]:
    r"""Compare the mean gain over noised data with its bound $S/(S+\sigma^2)$, for every shell, axis and time.

    An exact score cannot exceed it; where the mean does by more than BOUND_STDERRS standard errors (Student's quantile
    of the same probability), the learned score is wrong, and the bands of noise levels are listed by shell.

    Source: the bound is MMSE <= linear MMSE, averaged over the data.
    """
    data = run.dataset
    gains, bound = data["gain"].to_numpy(), data["null_gain"].to_numpy()
    if run.config["states"] != "forward":
        return {"checked": False, "reason": "sampled states need not follow the data's law; use --states forward"}
    if len(gains) < 2:
        return {"checked": False, "reason": "one trajectory has no standard error; use more"}
    stderr = gains.std(0, ddof=1) / math.sqrt(len(gains))
    limit = float(stats.t.isf(stats.norm.sf(BOUND_STDERRS), len(gains) - 1))
    excess = gains.mean(0) - bound
    # rounding of float32 differences, where the gains have no spread
    above = excess > np.maximum(limit * stderr, ROUNDING)
    sigma = data["noise_level"].to_numpy()
    violations = []
    for n in range(above.shape[1]):
        wrong = above[:, n].any(-1)
        for first, last in undefined_bands(np.where(wrong, np.nan, 0.0), sigma):
            band = (sigma <= first) & (sigma >= last)
            worst = float(excess[band][:, n].max())
            violations.append({"shell": n, "sigma_from": first, "sigma_to": last, "excess": worst})
    return {"checked": True, "comparisons": int(above.size), "above": int(above.sum()), "violations": violations}


def _null_table(peaks: dict[str, list[float]], clock: Clock) -> Table:
    rows = tuple((name, t, clock.level(t)) for name, times in peaks.items() for t in times)
    note = "a Gaussian with the data's power spectrum, which has no transition" + ("" if rows else ": no peak")
    return Table("Peaks of the null model", ("of", "t", "sigma/alpha"), rows, note)


def _bound_table(bound: dict[str, Any]) -> Table:
    title, columns = "Gains above the bound S/(S + sigma^2)", ("shell", "from sigma/alpha", "down to", "by up to")
    if not bound["checked"]:
        return Table(title, columns, (), f"not checked: {bound['reason']}")
    rows = tuple((v["shell"], v["sigma_from"], v["sigma_to"], v["excess"]) for v in bound["violations"])
    return Table(
        title, columns, rows,
        f"by more than {BOUND_STDERRS:.0f} standard errors, an error of the learned score" if rows
        else f"it holds at all {bound['comparisons']} modes and noise levels",
    )  # fmt: skip


def _answer(run: Run, measured: list[Quantity], null: dict[str, list[float]] | None, clock: Clock) -> str:
    """Say where the long waves are softest, whether that is sure, and what the null model does."""
    name = "/".join(Path(run.identity["model"]["name"]).parts[-2:])
    found = [q for q in measured if q.kind == "xi_eq_gain_peak" and math.isfinite(q.estimate.value)]
    if not found:
        start = f"No softening of the long waves of {name} stands out at any noise level: xi_eq has no peak"
    else:
        level = _level(found[0], clock)
        several = f", the first of {len(found)} peaks" if len(found) > 1 else ""
        doubt = ", which few resamples show" if found[0].estimate.reason and found[0].estimate.samples > 1 else ""
        start = (
            f"The long waves of {name} are softest at sigma/alpha = {level} (t = {found[0].estimate}), where the "
            f"equilibrium correlation length xi_eq peaks{several}{doubt}"
        )
    if null is None:
        return f"{start}; there is no Gaussian null model to compare with."
    levels = ", ".join(f"{clock.level(t):.3g}" for t in null["xi_eq_gain"])
    if levels:
        return f"{start}; the Gaussian null model, which has no transition, peaks too, at sigma/alpha = {levels}."
    return f"{start}; the Gaussian null model, which has the same power spectrum, has no {'such ' * bool(found)}peak."


def _level(quantity: Quantity, clock: Clock) -> Estimate:
    """Return the noise level of a time, its error in proportion."""
    at = quantity.estimate
    low, high = (clock.level(end) for end in (at.low, at.high))
    step = math.exp(1e-3)
    slope = math.log(clock.level(at.value * step) / clock.level(at.value / step)) / 2e-3
    return Estimate(quantity.level, quantity.level * abs(slope) * at.stderr / at.value, at.samples, low, high)
