r"""What pulses at many noise levels found: chi(sigma), its maximum, and how far that is from sigma_c and the window."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats

from softmode.critical import peak_time
from softmode.estimate import Array, Estimate, bootstrap
from softmode.experiments.pulse.analyse import by_trial, condition_rows, dose, judged_by
from softmode.experiments.pulse.critical import Critical
from softmode.experiments.pulse.tables import LEVEL, condition_tables
from softmode.experiments.susceptibility.maximum import GAINS, Contained, contained, distance
from softmode.runs.results import Quantity, Results, Table
from softmode.runs.run import Run

# what chi is of, in a word
SHORT = {"probability": "probability", "logit": "logit", "change": "rms change"}
# the bounded one, whose mean no single trial can make
MAIN = "probability"


def analyse(run: Run) -> Results:
    """Return chi at every centre, for every measure, its maximum and the distance of that from sigma_c.

    The curves are the gain over the unguided twins per unit of w d log sigma. The axis is the centre of the guidance
    that the sampler really gave.
    """
    critical, centres, conditions = Critical.stored(run), given_centres(run), condition_rows(run)
    each = {name: gain_curves(run, name) for name in SHORT}
    curves = {name: _mean(values) for name, values in each.items()}
    argmax = {name: argmax_of(values, centres) for name, values in each.items()}
    distances = {name: distance(found, critical.sigma_c) for name, found in argmax.items()}
    checked = {name: contained(name, found, critical.window) for name, found in argmax.items()}
    return Results(
        answer=_answer(curves[MAIN], checked[MAIN], distances[MAIN], critical),
        quantities=_quantities(argmax, distances, critical.sigma_c),
        tables={
            "maximum": Table(
                "Noise level sigma/alpha at which guidance acts most",
                ("chi of", "largest at", "95 % interval", "ln(that/sigma_c)", "in the window"),
                tuple((SHORT[name], found, found.interval, distances[name], _mark(checked[name]))
                      for name, found in argmax.items()),
                "?: not all of the interval" if any(_mark(each).endswith("?") for each in checked.values()) else "",
            ),
            "curve": Table(
                "chi, the gain per unit of w d log sigma",
                ("sigma/alpha", "levels guided", "p when guided", *(f"chi of {GAINS[name]}" for name in SHORT)),
                tuple(
                    (float(centre), conditions[place + 1]["guided_steps"]["mean"], conditions[place + 1]["probability"],
                     *(curve[place] for curve in curves.values()))
                    for place, centre in enumerate(centres)
                ),
            ),
            **condition_tables(conditions),
        },
        notes=tuple(judged_by(run)),
        values={"conditions": conditions, "centres": centres.tolist(), "curves": curves, "argmax": argmax,
                "distance": distances},
    )  # fmt: skip


def _answer(curve: Sequence[Estimate], top: Contained, distance: Estimate, critical: Critical) -> str:
    highest = max(curve, key=lambda e: e.value)
    # of so many places one is the highest by chance
    reach = float(stats.norm.isf(LEVEL / len(curve)))
    if not highest.value > reach * highest.stderr:
        return (
            "This run cannot tell where guidance aligns samples with their class: the gain in the probability of the "
            f"class is at no noise level above 0 within its error, corrected for {len(curve)} of them."
        )
    window, where = critical.window, ""
    if window is not None:
        side = "inside" if top.inside else "outside"
        where = f", {side} the window {window[0]:.2g} to {window[1]:.2g} that was found without guiding any sample"
    interval = f" {top.argmax.interval}" if top.argmax.interval else ""
    sigma_c = critical.sigma_c
    said = f"{sigma_c}" if sigma_c.samples and math.isfinite(sigma_c.stderr) else f"{sigma_c.value:.3g}"
    return (
        f"Guidance aligns samples with their class most at sigma = {top.argmax}{interval}{where}. "
        f"From sigma_c = {said} that is {distance} in log sigma."
    )


def _mark(found: Contained) -> str:
    """Return whether a maximum is inside the window, in a word."""
    if found.inside is None:
        return "no window"
    return ("yes" if found.inside else "no") + ("" if found.certain else "?")


def _quantities(
    argmax: Mapping[str, Estimate], distances: Mapping[str, Estimate], sigma_c: Estimate
) -> tuple[Quantity, ...]:
    return (
        Quantity("sigma_c", 0, sigma_c, "critical noise level of the window", r"$\sigma_c$", "H.3", sigma_c.value),
        *(
            Quantity(f"argmax_{name}", 0, found, f"noise level where chi of {GAINS[name]} is largest", "", "",
                     found.value)
            for name, found in argmax.items()
        ),
        *(
            Quantity(f"distance_{name}", 0, found, f"log of argmax_{name} / sigma_c")
            for name, found in distances.items()
        ),
    )  # fmt: skip


def given_centres(run: Run) -> Float[Array, " centre"]:
    """Return the centre of every pulse in log sigma, weighted with the guidance that the sampler gave."""
    levels, given = np.log(run.dataset["level"].to_numpy()), _dose(run)
    middle = 0.5 * (levels[1:] + levels[:-1])
    return np.exp((given * middle).sum(1) / given.sum(1))


def gain_curves(run: Run, measure: str) -> Float[Array, "trajectory centre"]:
    """Return a measure's gain over the unguided twin per unit of w d log sigma."""
    values = by_trial(run, measure)
    gain = (values[1:] - values[:1]).reshape(len(values) - 1, -1)
    return (gain / _dose(run).sum(1)[:, None]).T


def _dose(run: Run) -> Array:
    """Return the guidance that the sampler gave in every step, [centre, step]; it is the same for all trials."""
    return dose(run.dataset["weight"].to_numpy()[0, 1:], run.dataset["level"].to_numpy())


def argmax_of(curves: Float[Array, "trajectory centre"], centres: Float[Array, " centre"]) -> Estimate:
    """Estimate where the mean of curves is highest; the vertex of a parabola in log sigma."""
    (found,) = bootstrap(curves, lambda mean: np.array([peak_time(mean, centres)]), centre=_mean_curve)
    return found


def _mean_curve(rows: Array) -> Array:
    return np.asarray(rows.mean(0))


def _mean(curves: Array) -> list[Estimate]:
    return bootstrap(curves, lambda mean: mean, centre=_mean_curve)
