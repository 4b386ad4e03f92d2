r"""What reverse sweeps found: what guidance gains at each noise level, and the response of samples without guidance.

A level's share is the integral of $w\,\partial A/\partial w_i$ from no guidance to the weight w in use, and all shares
add up to the gain of A. chi is $\partial A/\partial w_i$ without guidance per unit of log sigma.
"""

import math

from softmode.estimate import NORMAL_95, Estimate
from softmode.experiments.pulse.analyse import judged_by
from softmode.experiments.pulse.critical import Critical
from softmode.experiments.susceptibility.adjoint_tables import classes, first_table, levels, lost, strengths
from softmode.experiments.susceptibility.adjoint_trials import WHAT, Place, place_of, trials_of, typical
from softmode.experiments.susceptibility.maximum import contained, distance
from softmode.runs.results import Quantity, Results, Table
from softmode.runs.run import Run

# share of the gain that the levels' shares may miss before they say nothing of where it is made
MISSED = 0.1


def analyse(run: Run) -> Results:
    """Return what guidance gains at every level, where most and 80 % of it, and the same of the response without it."""
    trials, name = trials_of(run), str(run.config["alignment"])
    kept, begun, groups = trials.whole, trials.begun, trials.labels
    gain, total = typical(trials.gain, groups), typical(trials.share[kept].sum(1), groups[kept])
    left = typical((trials.gain - trials.share.sum(1))[kept], groups[kept]).mean
    response = typical(trials.response[begun].sum(1), groups[begun])
    at, first = place_of(trials.share, trials, kept), place_of(trials.response, trials, begun)
    critical = Critical.stored(run) if "sigma_c" in run.identity else None
    away = None if critical is None or math.isnan(at.top.value) else distance(at.top, critical.sigma_c)
    window = None if critical is None else critical.window
    return Results(
        answer=_answer(run, gain.mean, total.mean, left, at, away, critical),
        quantities=_quantities(name, gain.mean, left, at, first, away, critical),
        tables={
            "gain": first_table(run, gain.mean, total.mean, left, at, first, away, contained(name, at.top, window)),
            "trials": Table(
                f"Trials, {WHAT[name]}: their mean, and what heavy tails do not move",
                ("of trials", "mean", "median", "trimmed", "in the top 5 %"),
                (("gain", *gain), ("sum over levels", *total), ("w dA/dw at w = 0", *response)),
                "trimmed: without a tenth on either side; in the top 5 %: share of the sum of sizes that these carry",
            ),
            "classes": classes(run, trials),
            "strengths": strengths(run),
            "levels": levels(run, trials),
        },
        notes=(*lost(run), *judged_by(run)),
        values={
            "argmax": {name: at.top}, "argmax_first": first.top, "interval": [at.low, at.high],
            "interval_first": [first.low, first.high],
            "trials": {"gain": trials.gain.tolist(), "defect": (trials.gain - trials.share.sum(1)).tolist()},
        },
    )  # fmt: skip


def _answer(
    run: Run, gain: Estimate, total: Estimate, left: Estimate, at: Place, away: Estimate | None,
    critical: Critical | None,
) -> str:  # fmt: skip
    name, weight = str(run.config["alignment"]), f"guidance of w = {run.config['weight']:g}"
    if not abs(gain.value) > NORMAL_95 * gain.stderr:
        return (
            f"This run cannot tell at which noise levels {weight} aligns samples with their class: it changes "
            f"{WHAT[name]} by {gain}, within twice its error."
        )
    way, done = ("raises", "earned") if gain.value > 0 else ("lowers", "lost")
    size = Estimate(abs(gain.value), gain.stderr, gain.samples)
    what = f"changes the sample by {size} rms" if name == "change" else f"{way} {WHAT[name]} by {size}"
    found = f"G{weight[1:]} {what}"
    if math.isnan(at.top.value):
        return f"{found}, and no trial says at which noise levels."
    if abs(left.value) > MISSED * abs(gain.value):
        return (
            f"{found}, but this run cannot tell at which noise levels: their shares add up to {total}. Use more "
            "--nodes, or a smaller --weight, up to which the response changes less."
        )
    found += f"; 80 % of that is {done} between sigma = {at.low} and {at.high}, most at {at.top}."
    if away is None or critical is None:
        return found
    return f"{found} From sigma_c = {_short(critical.sigma_c)} that is {away} in log sigma."


def _short(estimate: Estimate) -> str:
    return f"{estimate}" if estimate.samples and math.isfinite(estimate.stderr) else f"{estimate.value:.3g}"


def _quantities(
    name: str, gain: Estimate, left: Estimate, at: Place, first: Place, away: Estimate | None,
    critical: Critical | None,
) -> tuple[Quantity, ...]:  # fmt: skip
    found = [
        Quantity("gain", 0, gain, f"gain of {WHAT[name]}, not a time", "", "sundararajan2017"),
        Quantity(
            "defect", 0, left, "what the levels' shares leave out of the gain, not a time", "", "sundararajan2017"
        ),
    ]
    for kind, place, when in (("", at, "up to the weight in use"), ("_first", first, "without guidance")):
        for end, estimate, what in (
            ("argmax", place.top, "noise level where most is gained"),
            ("low", place.low, "lower end of the shortest interval with 80 % of the gain"),
            ("high", place.high, "its upper end"),
        ):
            found.append(Quantity(f"{end}{kind}", 0, estimate, f"{what}, {when}", level=estimate.value))
    if critical is not None:
        sigma_c = critical.sigma_c
        found.append(Quantity("sigma_c", 0, sigma_c, "critical noise level", r"$\sigma_c$", "H.3", sigma_c.value))
    if away is not None:
        found.append(Quantity("distance", 0, away, "log of argmax / sigma_c"))
    return tuple(found)
