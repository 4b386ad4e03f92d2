r"""The summary of a susceptibility curve: chi(sigma), its maximum, and how far that is from sigma_c."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from softmode.runs import provenance
from softmode.critical import peak_time
from softmode.estimate import NORMAL_95, Array, Estimate, bootstrap
from softmode.experiments import window as windows
from softmode.experiments.guided_run import WINDOW
from softmode.experiments.pulse_summary import by_trial, condition_table, dose
from softmode.rounding import above
from softmode.store import Run

# what chi is of: measure -> what it is
GAINS = {"probability": "probability of the target class", "logit": "logit of the target class"}
CHANGE = "change"


def summarise(run: Run, seconds: float) -> dict[str, Any]:
    """Return the summary of a finished run.

    `curves` has, for every measure, the gain over the unguided twins per unit of w d log sigma at every centre,
    `argmax` its maximum, and `distance` log(argmax / sigma_c). The axis is the centre of the guidance that the sampler
    really gave.
    """
    centres = given_centres(run)
    curves = {name: gain_curves(run, name) for name in (*GAINS, CHANGE)}
    sigma_c = _sigma_c(run)
    argmax = {name: argmax_of(values, centres) for name, values in curves.items()}
    return {
        **run.identity,
        "machine": provenance.machine(),
        "wall_seconds": round(seconds, 3),
        "conditions": condition_table(run),
        "centres": centres.tolist(),
        "curves": {name: [asdict(e) for e in _mean(values)] for name, values in curves.items()},
        "argmax": {name: asdict(e) for name, e in argmax.items()},
        "sigma_c": asdict(sigma_c),
        "distance": {name: asdict(distance(e, sigma_c)) for name, e in argmax.items()},
    }


def given_centres(run: Run) -> Array:
    """Return the centre of every pulse in log sigma, weighted with the guidance that the sampler gave, [centre]."""
    levels, given = np.log(run.dataset["level"].to_numpy()), _dose(run)
    middle = 0.5 * (levels[1:] + levels[:-1])
    return np.exp((given * middle).sum(1) / given.sum(1))


def gain_curves(run: Run, measure: str) -> Array:
    """Return a measure's gain over the unguided twin per unit of w d log sigma, [trajectory, centre]."""
    values = by_trial(run, measure)
    gain = (values[1:] - values[:1]).reshape(len(values) - 1, -1)
    return (gain / _dose(run).sum(1)[:, None]).T


def _dose(run: Run) -> Array:
    """Return the guidance that the sampler gave in every step, [centre, step]; it is the same for all trials."""
    return dose(run.dataset["weight"].to_numpy()[0, 1:], run.dataset["level"].to_numpy())


def argmax_of(curves: Array, centres: Array) -> Estimate:
    """Estimate where the mean of curves [trajectory, centre] is highest; the vertex of a parabola in log sigma."""
    (found,) = bootstrap(curves, lambda mean: np.array([peak_time(mean, centres)]), centre=_mean_curve)
    return found


def distance(argmax: Estimate, sigma_c: Estimate) -> Estimate:
    """Return log(argmax / sigma_c), both independent, with a normal interval."""
    value = math.log(argmax.value / sigma_c.value)
    stderr = math.hypot(argmax.stderr / argmax.value, sigma_c.stderr / sigma_c.value)
    reach = NORMAL_95 * stderr
    return Estimate(value, stderr, argmax.samples, value - reach, value + reach)


def contains(window: Mapping[str, Any], run: Run) -> list[dict[str, Any]]:
    """Say whether a window contains the measured maximum of chi, for every measure.

    Args:
        window: The answer of softmode window.
        run: A finished susceptibility run.

    Returns:
        `measure`, `argmax`, `inside` (or None without a window), and `certain`, whether the whole 95 % interval is on
        the same side.

    Raises:
        ValueError: If the run is no susceptibility curve, or is of another model than the window.
    """
    if run.identity["experiment"] != "susceptibility":
        raise ValueError(f"check: {str(run.directory)!r} holds no run of softmode susceptibility")
    if (name := run.identity["model"]["name"]) != window["model"]["name"]:
        raise ValueError(f"check: {str(run.directory)!r} is of {name!r}, the window of {window['model']['name']!r}")
    low, high = window["sigma_lo"]["value"], window["sigma_hi"]["value"]
    rows = []
    for measure, argmax in run.summary["argmax"].items():
        inside, *ends = [
            None if low is None or level is None else above(level, low) and not above(level, high)
            for level in (argmax["value"], argmax["low"], argmax["high"])
        ]
        certain = inside is not None and ends == [inside, inside]
        rows.append({"measure": measure, "argmax": argmax, "inside": inside, "certain": certain})
    return rows


def _sigma_c(run: Run) -> Estimate:
    """Return the critical noise level with the error that its window gave; without one, as given."""
    config = run.config
    home = Path(config["window"]) if config["window"] else run.directory / WINDOW
    if (home / windows.FILE).is_file():
        found = windows.read(Run.open(home))["sigma_c"]
        if found["value"] is not None and math.isclose(found["value"], config["sigma_c"]):
            numbers = {n: math.nan if found[n] is None else found[n] for n in ("value", "stderr", "low", "high")}
            return Estimate(**numbers, samples=found["samples"], reason=found["reason"])
    return Estimate.exact(float(config["sigma_c"]))


def _mean_curve(rows: Array) -> Array:
    return np.asarray(rows.mean(0))


def _mean(curves: Array) -> list[Estimate]:
    return bootstrap(curves, lambda mean: mean, centre=_mean_curve)
