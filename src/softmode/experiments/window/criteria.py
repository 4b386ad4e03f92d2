"""Every published criterion of when a generation is critical, as noise levels, from a probe and its clones."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from softmode.critical import (
    PROMINENCE,
    crossing_times,
    estimate_times,
    growth_rate,
    onset_time,
    peak_time,
    smooth,
)
from softmode.estimate import Array, Estimate, bootstrap, median
from softmode.experiments.window.decided import INFORMATION, INSTABILITY, KNOWN_IN, SOFT_IN, beside
from softmode.experiments.window.softness import Intercept, peak_of
from softmode.runs.experiment import Experiment
from softmode.runs.run import Run

PROBE = Experiment("probe", "softmode.experiments.probe")
CLONES = Experiment("clones", "softmode.experiments.clones")
# p above which a peak may be one of the null model's
SIGNIFICANT = 0.05
# directory of the clones in that of their probe
CLONES_IN = "clones"
# a fall of the entropy is marked where it is done by half, its interval by these shares
FALL = (0.25, 0.5, 0.75)
# least fall of the entropy (nats) that is one: a tenth of a coin's
LEAST_FALL = 0.07


@dataclass(frozen=True)
class Criterion:
    """One answer to the question where along the noise levels a sample is decided.

    Args:
        name: Stable identifier.
        sigma: Noise level sigma/alpha.
        definition: What it is, in one line.
        source: Equation, section or key of the publication.
        low: Lower end of the interval that the criterion itself gives; NaN without one.
        high: Its upper end.
        p: Probability of such a one without any transition; NaN where it has none.
    """

    name: str
    sigma: Estimate
    definition: str
    source: str
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan

    @property
    def title(self) -> str:
        """The name in words."""
        return "sigma_c, the window" if self.name == "sigma_c" else self.name.replace("_", " ").replace("xi ", "xi_")

    def distance(self, sigma_c: Estimate) -> Estimate:
        """Return log(sigma / sigma_c)."""
        if not (math.isfinite(self.sigma.value) and math.isfinite(sigma_c.value)):
            return Estimate.missing(sigma_c.samples, "one of both is undefined")
        stderr = math.hypot(*(e.stderr / e.value for e in (self.sigma, sigma_c)))
        return Estimate(math.log(self.sigma.value / sigma_c.value), stderr, sigma_c.samples)

    def plain(self, sigma_c: Estimate) -> dict[str, Any]:
        """Return the criterion as results keep it, with its distance from sigma_c in log sigma."""
        return {
            "name": self.name, "sigma": self.sigma, "definition": self.definition, "source": self.source,
            "interval": [self.low, self.high], "p": self.p, "distance": self.distance(sigma_c),
        }  # fmt: skip


def growth_criterion(run: Run, levels: Array) -> Criterion:
    """Return where xi_x grows fastest in log sigma; its interval begins at the onset."""
    xi = run.dataset[run.identity["model"]["xi"]].to_numpy()
    growth = growth_rate(xi, levels)
    (fastest,) = estimate_times(growth, levels, peak_time) or [Estimate.missing(len(xi), "xi_x is nowhere defined")]
    onset = onset_time(median(growth), levels)
    return Criterion(
        "growth_of_xi_x", fastest, "fastest growth of xi_x; interval from its onset (10 % of that)", "paper E.7",
        fastest.value, onset,
    )  # fmt: skip


def peak_criterion(run: Run, levels: Array, intercept: Intercept, null: Array | None) -> Criterion:
    """Return the peak of xi_eq with its window, by one of the two fits, in doubt where the null model may have it."""
    peak = peak_of(run, levels, intercept, null)
    name, what = {
        "constant mode": ("peak_of_xi_eq", "peak of xi_eq from all shells (Eq. 69)"),
        "free": ("peak_without_constant_mode", "peak of xi_eq from shells n >= 1 alone"),
    }[intercept]
    sigma = peak.sigma_c
    if math.isfinite(peak.p) and peak.p > SIGNIFICANT:
        sigma = replace(sigma, reason=f"the Gaussian null model has one as high with p = {peak.p:.2g}")
    return Criterion(name, sigma, what, "paper G.7, H.3", peak.low.value, peak.high.value, peak.p)


def departure_criterion(curves: Array, null: Array, levels: Array) -> Criterion:
    """Return where the median softness leaves the Gaussian null's for good, by more than PROMINENCE.

    It leaves it downwards: an exact score's gains cannot exceed the null's on average, and a model that decides between
    discrete alternatives stiffens where the null, which never decides, goes on softening.

    Args:
        curves: Softness [trajectory, level].
        null: The null's [level].
        levels: Falling noise levels [level].
    """
    what = f"softness log(1 + xi_eq^2) leaves the Gaussian null's, by more than {PROMINENCE}, for good"

    def last_crossing(curve: Array) -> Array:
        beyond = np.abs(smooth(curve - null, levels)) - PROMINENCE
        crossings = crossing_times(beyond, levels)
        return crossings[-1:] if len(crossings) and beyond[-1] > 0 else np.full(1, np.nan)

    (sigma,) = bootstrap(curves, last_crossing)
    if math.isnan(sigma.value):
        sigma = Estimate.missing(len(curves), "it ends within that distance of the null's")
    return Criterion("departure_from_null", sigma, what, "MMSE <= linear MMSE")


def entropy_criterion(run: Run, levels: Array) -> Criterion | None:
    """Return where the mean entropy of a classifier's classes of D(x) has fallen by half; None without a classifier."""
    if "class_entropy" not in run.dataset:
        return None
    curves = run.dataset["class_entropy"].to_numpy()
    what = "mean entropy of the class of D(x) has fallen by half; interval by a quarter and three quarters"

    def crossings(curve: Array) -> Array:
        curve = smooth(curve, levels)
        top = int(curve.argmax())
        fall = curve[top] - curve[-1]
        if fall < LEAST_FALL:
            return np.full(len(FALL), np.nan)
        # the last time above: afterwards the class is decided
        last = [int(np.flatnonzero(curve >= curve[top] - share * fall)[-1]) for share in FALL]
        return np.array([_between(curve, levels, i, curve[top] - s * fall) for i, s in zip(last, FALL, strict=True)])

    first, half, last = bootstrap(curves, crossings, centre=lambda rows: np.asarray(rows.mean(0)))
    if math.isnan(half.value):
        half = Estimate.missing(len(curves), f"the mean entropy falls by less than {LEAST_FALL} nats")
    return Criterion("posterior_class_entropy", half, what, "ambrogioni2025", last.value, first.value)


def _between(curve: Array, levels: Array, i: int, height: float) -> float:
    """Return the level between i and i + 1 at which a falling curve takes a height, by interpolation in log."""
    if i + 1 == len(curve):
        return float(levels[i])
    share = (curve[i] - height) / (curve[i] - curve[i + 1])
    return float(levels[i] * (levels[i + 1] / levels[i]) ** share)


def information_criteria(run: Run) -> list[Criterion]:
    """Return by which noise level half of each of several labels is known, with the interval that gains most of it."""
    known = beside(run, KNOWN_IN, INFORMATION)
    if known is None or len(known.results.values["windows"]) == 1:
        return []
    share, found = float(known.config["share"]), []
    for name, window in known.results.values["windows"].items():
        what = f"half of all that is known of {name} is known; interval: where {share:.0%} of it is gained"
        ends = window["sigma_lo"].value, window["sigma_hi"].value
        found.append(Criterion(f"half_of_{name}_known", window["sigma_half"], what, "path posterior, guo2005", *ends))
    return found


def instability_criteria(run: Run) -> list[Criterion]:
    """Return at which noise level the first states are unstable, and half of them."""
    soft = beside(run, SOFT_IN, INSTABILITY)
    if soft is None:
        return []
    rows = (
        ("first_unstable_state", "sigma_first", "the first state has"),
        ("half_of_states_unstable", "sigma_c", "half of the states have"),
    )
    return [
        Criterion(
            name, soft.results[quantity].estimate, f"{what} an eigenvalue of dD/dx above 1",
            "r = 0 of any mode: paper Eq. 4",
        )
        for name, quantity, what in rows
    ]  # fmt: skip


def clone_criteria(run: Run) -> list[Criterion]:
    """Return where the copies of a probe's trajectories begin to agree, in sign and, if known, in class; none without.

    Args:
        run: The probe, with finished clones in its directory `clones`, if there are any.
    """
    clones = beside(run, CLONES_IN, CLONES)
    if clones is None:
        return []
    results, criteria = clones.results, []
    threshold = results.values["threshold"]
    for kind, what in (("sign", "clones agree in the sign of a site"), ("class", "clones agree in their class")):
        if kind not in results.values["agreement"]:
            continue
        rows = results.values["agreement"][kind]
        definition = f"{what}: the mean rises through {threshold} (from {rows[0].value:.2f} to {rows[-1].value:.2f})"
        sigma = results[f"{kind}_agreement_level"].estimate
        criteria.append(Criterion(f"clone_{kind}_agreement", sigma, definition, "biroli2024"))
    return criteria
