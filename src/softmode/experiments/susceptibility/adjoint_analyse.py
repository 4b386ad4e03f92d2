r"""What reverse sweeps found: what guidance gains at each noise level, and the response of samples without guidance.

A level's share is the integral of $w\,\partial A/\partial w_i$ from no guidance to the weight w in use, and all shares
add up to the gain of A. chi is $\partial A/\partial w_i$ without guidance per unit of log sigma.
"""

import math

import numpy as np

from softmode.estimate import NORMAL_95, Estimate
from softmode.experiments.pulse.analyse import judged_by
from softmode.experiments.pulse.critical import Critical
from softmode.experiments.susceptibility.adjoint_tables import classes, compared, first_table, levels, lost, strengths
from softmode.experiments.susceptibility.adjoint_trials import (
    Place,
    class_places,
    place_of,
    slopes_of,
    trials_of,
    typical,
    what_of,
)
from softmode.experiments.susceptibility.known import LabelKnown
from softmode.experiments.susceptibility.linear import MISSED as TENTH
from softmode.experiments.susceptibility.linear import linear_range
from softmode.experiments.susceptibility.maximum import contained, distance
from softmode.experiments.susceptibility.strength import Strength, strength_of
from softmode.runs.results import Quantity, Results, Table
from softmode.runs.run import Run

# share of the gain that the levels' shares may miss before they say nothing of where it is made
MISSED = 0.1


def analyse(run: Run) -> Results:
    """Return what guidance gains at every level, where most and 80 % of it, and the same of the response without it."""
    trials, name = trials_of(run), str(run.config["alignment"])
    kept, begun, groups, valued = trials.whole, trials.begun, trials.labels, np.isfinite(trials.gain)
    gain, total = typical(trials.gain[valued], groups[valued]), typical(trials.share[kept].sum(1), groups[kept])
    left = typical((trials.gain - trials.share.sum(1))[kept], groups[kept]).mean
    response = typical(trials.response[begun].sum(1), groups[begun])
    at, first = place_of(trials.share, trials, kept), place_of(trials.response, trials, begun)
    critical = Critical.stored(run) if "sigma_c" in run.identity else None
    away = None if critical is None or math.isnan(at.top.value) else distance(at.top, critical.sigma_c)
    window = None if critical is None else critical.window
    known, strength, linear = LabelKnown.stored(run), strength_of(run), linear_range(*slopes_of(run), groups)
    half = None if known is None else known.half
    from_half = None if half is None or math.isnan(at.top.value + half.value) else distance(at.top, half)
    by_class = class_places(run, trials)
    return Results(
        answer=_answer(run, gain.mean, total.mean, left, at, away, critical, strength),
        quantities=(
            *_quantities(name, gain.mean, left, at, first, away, critical),
            *_more_quantities(linear, strength, half, from_half),
        ),
        tables={
            "gain": first_table(run, gain.mean, total.mean, left, at, first, away, contained(name, at.top, window)),
            "compared": compared(linear, strength.knee, half, from_half, away),
            "trials": Table(
                f"Trials, {what_of(name)}: their mean, and what heavy tails do not move",
                ("of trials", "mean", "median", "trimmed", "in the top 5 %"),
                (("gain", *gain), ("sum over levels", *total), ("w dA/dw at w = 0", *response)),
                "trimmed: without a tenth on either side; in the top 5 %: share of the sum of sizes that these carry",
            ),
            "classes": classes(trials, by_class),
            "strengths": strengths(run, strength),
            "levels": levels(run, trials),
        },
        notes=(_said_linear(linear), strength.sentence, *lost(run), *judged_by(run)),
        values={
            "argmax": {name: at.top}, "argmax_first": first.top, "interval": [at.low, at.high],
            "interval_first": [first.low, first.high], "half": half,
            "classes": {
                str(label): {
                    "argmax": place.top, "interval": [place.low, place.high], "gain": mean.tolist(), "sure": sure,
                }
                for label, place, mean, sure in by_class
            },
            "strength": {
                "weights": strength.weights.tolist(), "alignment": strength.alignment, "distance": strength.distance,
                "knee": strength.knee,
            },
            "trials": {"gain": trials.gain.tolist(), "defect": (trials.gain - trials.share.sum(1)).tolist()},
        },
    )  # fmt: skip


def _answer(
    run: Run, gain: Estimate, total: Estimate, left: Estimate, at: Place, away: Estimate | None,
    critical: Critical | None, strength: Strength,
) -> str:  # fmt: skip
    name, weight = str(run.config["alignment"]), f"guidance of w = {run.config['weight']:g}"
    if not abs(gain.value) > NORMAL_95 * gain.stderr:
        return (
            f"This run cannot tell at which noise levels {weight} aligns samples with their class: it changes "
            f"{what_of(name)} by {gain}, within twice its error."
        )
    way, done = ("raises", "earned") if gain.value > 0 else ("lowers", "lost")
    size = Estimate(abs(gain.value), gain.stderr, gain.samples)
    what = f"changes the sample by {size} rms" if name == "change" else f"{way} {what_of(name)} by {size}"
    found = f"G{weight[1:]} {what}"
    if math.isnan(at.top.value):
        return f"{found}, and no trial says at which noise levels."
    if abs(left.value) > MISSED * abs(gain.value):
        return (
            f"{found}, but this run cannot tell at which noise levels: their shares add up to {total}. Use a "
            "smaller --tolerance, or a smaller --weight, up to which the response changes less."
        )
    found += f"; 80 % of that is {done} between sigma = {at.low} and {at.high}, most at {at.top}."
    more = [] if math.isnan(strength.knee.value) else [strength.sentence]
    if away is not None and critical is not None:
        more.insert(0, f"from sigma_c = {_short(critical.sigma_c)} that is {away} in log sigma")
    second = "; ".join(more)
    return f"{found} {second[0].upper()}{second[1:]}." if second else found


def _said_linear(linear: Estimate) -> str:
    """Say up to which strength linear response holds."""
    if math.isnan(linear.value):
        return f"linear response: {linear.reason}"
    most = f"beyond, it misses the gain by over {100 * TENTH:.0f} %"
    return f"linear response holds up to w = {linear} {linear.interval}: {most}"


def _short(estimate: Estimate) -> str:
    return f"{estimate}" if estimate.samples and math.isfinite(estimate.stderr) else f"{estimate.value:.3g}"


def _quantities(
    name: str, gain: Estimate, left: Estimate, at: Place, first: Place, away: Estimate | None,
    critical: Critical | None,
) -> tuple[Quantity, ...]:  # fmt: skip
    found = [
        Quantity("gain", 0, gain, f"gain of {what_of(name)}, not a time", "", "sundararajan2017"),
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


def _more_quantities(
    linear: Estimate, strength: Strength, half: Estimate | None, from_half: Estimate | None
) -> list[Quantity]:
    """Return where linear response ends, the recommended strength, and what the label's information says."""
    found = [
        Quantity(
            "w_linear", 0, linear, f"weight up to which linear response holds within {100 * TENTH:.0f} %, not a time"
        ),
        Quantity("w_knee", 0, strength.knee, "recommended weight, not a time", "", "satopaa2011"),
    ]
    if half is not None:
        what = "noise level by which half of the label is known"
        found.append(Quantity("information_half", 0, half, what, "", "path posterior", half.value))
    if from_half is not None:
        found.append(Quantity("distance_information", 0, from_half, "log of argmax / information_half, not a time"))
    return found
