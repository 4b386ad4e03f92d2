"""The summary of a probe: critical times, gains with errors, the response's structure, the null and its bound."""

import math
from typing import Any

import numpy as np
from scipy import stats

from softmode.critical import fit_dispersion, peak_times, undefined_bands
from softmode.estimate import bootstrap
from softmode.experiments.quantities import common_summary, measured_quantities
from softmode.experiments.response import response_evaluations, response_table
from softmode.observe.gains import evaluations
from softmode.process import Process
from softmode.runs.run import Run

# standard errors beyond which a gain above the bound is the score's error; one-sided, as a normal distribution's
BOUND_STDERRS = 4.0
# error of a gain measured by differences in float32
ROUNDING = 2e-3


def summarise(run: Run, process: Process, seconds: float) -> dict[str, Any]:
    """Return the summary of a finished run as plain data."""
    summary = common_summary(run, process, measured_quantities(run), seconds) | {
        "evaluations": network_evaluations(run),
        "gain": gain_table(run),
        "locality": response_table(run, process),
    }
    if "null_gain" in run.dataset:
        summary |= {"null": null_peaks(run), "bound": bound_check(run)}
    return summary


def network_evaluations(run: Run) -> dict[str, int]:
    """Return how many states went through the network, and what for."""
    config, data = run.config, run.dataset
    trajectories, times, snapshots = (data.sizes[name] for name in ("trajectory", "time", "snapshot"))
    gains = evaluations(config["method"], config["shells"], data.sizes["axis"], data.sizes["channel"])
    # Heun looks at both ends of a step
    looks = 2 if config["sampler"] == "heun" else 1
    counts = {
        "sampling": trajectories * looks * config["steps"] if config["states"] == "reverse" else 0,
        "gains": trajectories * times * gains,
        "locality": trajectories * snapshots * response_evaluations(data.sizes["channel"]),
        "classes": trajectories * times if "class_entropy" in data else 0,
    }
    return counts | {"total": sum(counts.values())}


def gain_table(run: Run) -> dict[str, Any]:
    """Return the median gain of every mode at every time with its standard error, [time, shell, axis]."""
    gains = run.dataset["gain"].to_numpy()
    estimates = bootstrap(gains, np.ravel, resamples=200)
    shape = gains.shape[1:]
    return {
        "median": np.reshape([e.value for e in estimates], shape).tolist(),
        "stderr": np.reshape([e.stderr for e in estimates], shape).tolist(),
        "samples": len(gains),
    }


def null_peaks(run: Run) -> dict[str, Any]:
    """Return the times at which the null model's xi_eq peaks, by convention."""
    data = run.dataset
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
