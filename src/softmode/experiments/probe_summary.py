"""The summary of a probe: critical times, gains with errors, the response's structure, the null and its bound."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy import stats

from softmode.critical import fit_dispersion, peak_times, undefined_bands
from softmode.estimate import Array, Estimate, bootstrap
from softmode.experiments.quantities import common_summary, measured_quantities
from softmode.observe.gains import evaluations
from softmode.process import Process
from softmode.store import Run

# standard errors beyond which a gain above the bound is the score's error; one-sided, as a normal distribution's
BOUND_STDERRS = 4.0
# error of a gain measured by differences in float32
ROUNDING = 2e-3
LOCALITY = ("total", "square", "spread", "symmetric", "antisymmetric", "equivariance", "oddness")
# evaluations per state: four pairs, one of the constant mode, D(x), two shifts and D(-x) with a D(x) of their own
LOCALITY_EVALUATIONS = 16


def summarise(run: Run, process: Process, seconds: float) -> dict[str, Any]:
    """Return the summary of a finished run as plain data."""
    summary = common_summary(run, process, measured_quantities(run), seconds) | {
        "evaluations": network_evaluations(run),
        "gain": gain_table(run),
        "locality": locality_table(run, process),
    }
    if "null_gain" in run.arrays:
        summary |= {"null": null_peaks(run), "bound": bound_check(run)}
    return summary


def network_evaluations(run: Run) -> dict[str, int]:
    """Return how many states went through the network, and what for."""
    config, data = run.config, run.arrays
    trajectories, times, snapshots = (data.sizes[name] for name in ("trajectory", "time", "snapshot"))
    gains = evaluations(config["method"], config["shells"], data.sizes["axis"])
    counts = {
        "sampling": trajectories * config["steps"] if config["states"] == "reverse" else 0,
        "gains": trajectories * times * gains,
        "locality": trajectories * snapshots * LOCALITY_EVALUATIONS,
    }
    return counts | {"total": sum(counts.values())}


def gain_table(run: Run) -> dict[str, Any]:
    """Return the median gain of every mode at every time with its standard error, [time, shell, axis]."""
    gains = run.arrays["gain"].to_numpy()
    estimates = bootstrap(gains, np.ravel, resamples=200)
    shape = gains.shape[1:]
    return {
        "median": np.reshape([e.value for e in estimates], shape).tolist(),
        "stderr": np.reshape([e.stderr for e in estimates], shape).tolist(),
        "samples": len(gains),
    }


def locality_table(run: Run, process: Process) -> list[dict[str, Any]]:
    r"""Return the structure of the denoiser's response at every snapshot.

    `omega` is the effective number of sites that a site answers to, $(\sum_u K)^2/\sum_u K^2$, which is |Omega| for a
    patch model at x = 0; `t_c` the time at which r would vanish for it, sigma/alpha = sqrt(omega); `radius` the root
    mean square distance of $K^2$; `antisymmetric` the share of the Jacobian's norm in its antisymmetric part.

    Source: paper C.1 and Eqs. 18-22.
    """
    data = run.arrays
    rows = []
    for place, t in enumerate(data["snapshot"].to_numpy()):
        at = {name: data[name].to_numpy()[:, place].astype(float) for name in LOCALITY}
        omega = _of_means(at, ("total", "square"), lambda total, square: total**2 / _positive(square))
        rows.append({
            "t": float(t),
            "sigma": float(data["snapshot_level"].to_numpy()[place]),
            "omega": asdict(omega),
            "t_c": float(process.time(math.sqrt(omega.value))),
            "radius": asdict(
                _of_means(at, ("spread", "square"), lambda spread, square: np.sqrt(spread / _positive(square)))
            ),
            "antisymmetric": asdict(
                _of_means(at, ("antisymmetric", "symmetric"), lambda anti, sym: np.sqrt(anti / (anti + sym)))
            ),
            **{name: asdict(_of_means(at, (name,), lambda error: error)) for name in ("equivariance", "oddness")},
        })  # fmt: skip
    return rows


def _of_means(columns: Mapping[str, Array], names: tuple[str, ...], function: Callable[..., Array]) -> Estimate:
    """Estimate a function of the means of some columns over trajectories; NaN where it has no real value."""

    def statistic(means: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            value = function(*means[:, None])
        return np.where(np.isfinite(value), value, np.nan)

    (estimate,) = bootstrap(np.stack([columns[name] for name in names], 1), statistic, centre=_mean)
    return estimate


def _positive(square: Array) -> Array:
    """Return an unbiased estimate of a square where it is positive; noise can make it negative, then NaN."""
    return np.where(square > 0, square, np.nan)


def _mean(curves: Array) -> Array:
    return np.asarray(curves.mean(0))


def null_peaks(run: Run) -> dict[str, Any]:
    """Return the null model's peaks of xi_eq, and its xi_eq at the times at which the model's own peaks lie."""
    data = run.arrays
    times, k = data["time"].to_numpy(), data["k"].to_numpy()
    rates = {"drift": data["null_eigenvalue"].to_numpy(), "gain": 1 - data["null_gain"].to_numpy()}
    peaks = {}
    for name, rate in rates.items():
        fit = fit_dispersion(rate, k)
        peaks[f"xi_eq_{name}"] = peak_times(fit.softness(math.pi / k[1].min()), times).tolist()
    return {"peaks": peaks}


def bound_check(run: Run) -> dict[str, Any]:
    r"""Compare the mean gain over noised data with its bound $S/(S+\sigma^2)$, for every shell, axis and time.

    An exact score cannot exceed it; where the mean does by more than BOUND_STDERRS standard errors (Student's quantile
    of the same probability), the learned score is wrong, and the bands of noise levels are listed by shell.

    Source: the bound is MMSE <= linear MMSE, averaged over the data.
    """
    data = run.arrays
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
