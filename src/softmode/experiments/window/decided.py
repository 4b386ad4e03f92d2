"""Where a sample is decided: the label, by its information; without labels, by unstable modes that are extended."""

import math
from typing import Literal, NamedTuple

import numpy as np

from softmode.estimate import Array, Estimate, bootstrap
from softmode.experiments.information.analyse import Known, labels_of
from softmode.experiments.information.curves import shortest, simultaneous
from softmode.experiments.instability.analyse import EXTENDED, Curves, crossing
from softmode.runs.experiment import Experiment
from softmode.runs.run import Run
from softmode.runs.store import is_run

INFORMATION = Experiment("information", "softmode.experiments.information")
INSTABILITY = Experiment("instability", "softmode.experiments.instability")
# their directories in that of the probe
KNOWN_IN, SOFT_IN = "information", "instability"

Verdict = Literal["found", "doubtful", "none"]


class Decided(NamedTuple):
    """The window, and what it is of.

    Attributes:
        verdict: found, doubtful or none.
        by: label, or softest modes.
        sigma_c: The noise level at its middle: where half of the label is known, or half of the states are unstable.
        low: Its lower end.
        high: Its upper end.
        sentence: The answer.
    """

    verdict: Verdict
    by: str
    sigma_c: Estimate
    low: Estimate
    high: Estimate
    sentence: str


def decided(run: Run) -> Decided:
    """Return the window of a probe by what was measured beside it: labels first, else the softest modes."""
    known = beside(run, KNOWN_IN, INFORMATION)
    if known is not None:
        return by_labels(labels_of(known), known.dataset["level"].to_numpy(), float(known.config["share"]))
    soft = beside(run, SOFT_IN, INSTABILITY)
    if soft is not None:
        return by_modes(Curves.of(soft))
    none = Estimate.missing(run.dataset.sizes["trajectory"], "only a probe was made")
    sentence = (
        "a probe alone cannot tell a window from noise: softmode window MODEL measures the labels and the softest "
        "modes beside it"
    )
    return Decided("none", "", none, none, none, sentence)


def by_labels(labels: list[Known], levels: Array, share: float) -> Decided:
    """Return the shortest interval that gains a share of what is known of a label in the end.

    Of several labels, the shares of their entropies together: half of it, for example, is half of all there is to know.

    Args:
        labels: What the paths tell of each label.
        levels: Falling noise levels.
        share: The share.
    """
    information = np.sum([each.information for each in labels], axis=0)
    score = np.sum([each.score for each in labels], axis=0)
    groups = labels[0].truth.tolist() if len(labels) == 1 else []
    (total,) = bootstrap(information[:, -1:], lambda curve: curve, centre=_mean, groups=groups)
    low, high, half = bootstrap(
        information, lambda curve: np.array(shortest(curve, levels, share)), centre=_mean, groups=groups
    )
    entropy = sum(each.entropy for each in labels)
    name = f"the {labels[0].name}" if len(labels) == 1 else "its labels"
    if not (np.isnan(score).any() or simultaneous(score, groups).low.max() > 0):
        best = float(score.mean(0).max())
        sentence = (
            f"no critical window found: the model knows nothing of {name} for sure, at its best {best:.2g} of "
            f"{entropy:.3f} nats"
        )
        return Decided("none", "label", *(Estimate.missing(half.samples, sentence),) * 3, sentence)
    said = (
        f"there {share:.0%} of {total} nats about {name} are gained, of {entropy:.3f}, half of them by sigma_c = {half}"
    )
    return _window("label", half, low, high, said)


def _mean(curves: Array) -> Array:
    return np.asarray(curves.mean(0))


def by_modes(curves: Curves) -> Decided:
    """Return the levels from the first unstable extended mode down to where the softest modes have become local.

    The first is where a tenth of the states is unstable; a mode is extended if it takes a tenth of the sites.
    """
    stacked = np.stack([curves.values - curves.residuals, curves.extents], 2)

    def statistic(sample: Array) -> Array:
        values, extents = sample[..., 0], np.where(sample[..., 0] > 1, sample[..., 1], np.nan)
        first, half = (crossing(np.quantile(values, q, axis=0), curves.levels) for q in (1 - FIRST, 0.5))
        local = _falls_below(_median(extents), curves.levels, EXTENDED * curves.sites, first)
        return np.array([half if local < half else math.sqrt(first * local), local, first])

    half, low, high = bootstrap(stacked, statistic, centre=lambda sample: sample)
    count = len(curves.values)
    if math.isfinite(high.value) and math.isfinite(low.value):
        said = (
            f"from there on at least {FIRST:.0%} of {count} states are unstable, in modes of more than "
            f"{EXTENDED * curves.sites:.0f} of {curves.sites} sites; below it decisions are local"
        )
        return _window("softest modes", half, low, high, said)
    unstable = curves.unstable.mean(0).max()
    if unstable == 0:
        why = f"none of {count} states is unstable, the largest eigenvalue is {curves.values.max():.3g}"
    elif curves.unstable[:, 0].mean() >= FIRST:
        why = f"states are unstable at the highest level, {curves.levels[0]:.3g}, already"
    elif unstable < FIRST:
        why = f"at most {unstable:.0%} of {count} states are unstable"
    else:
        why = (
            f"decisions are local: unstable modes take {float(np.nanmedian(_first_extents(curves))):.3g} of "
            f"{curves.sites} sites when they appear"
        )
    sentence = f"no critical window found: {why}"
    return Decided("none", "softest modes", *(Estimate.missing(count, sentence),) * 3, sentence)


# share of unstable states from which on they are counted
FIRST = 0.1


def _median(extents: Array) -> Array:
    """Return the median over states where any has a value; NaN where none has."""
    some = np.isfinite(extents).any(0)
    return np.where(some, np.nanmedian(np.where(some, extents, 0.0), axis=0), np.nan)


def _first_extents(curves: Curves) -> Array:
    """Return the extent of each state's mode where it first is unstable; NaN where it never is."""
    first = curves.unstable.argmax(1)
    found = np.take_along_axis(curves.extents, first[:, None], 1)[:, 0]
    return np.where(curves.unstable.any(1), found, np.nan)


def _falls_below(extents: Array, levels: Array, height: float, first: float) -> float:
    """Return the level, at or below a first one, at which the extent of unstable modes falls below a height.

    Returns:
        NaN where they begin below it, or never fall.
    """
    below = levels < first if math.isfinite(first) else np.zeros(len(levels), bool)
    places = np.flatnonzero(below & np.isfinite(extents))
    if not len(places) or extents[places[0]] < height:
        return math.nan
    small = places[extents[places] < height]
    if not len(small):
        return math.nan
    after = int(small[0])
    before = int(places[places < after][-1])
    share = math.log(extents[before] / height) / math.log(extents[before] / extents[after])
    return float(levels[before] * (levels[after] / levels[before]) ** share)


def _window(by: str, sigma_c: Estimate, low: Estimate, high: Estimate, said: str) -> Decided:
    doubts = [each.reason for each in (sigma_c, low, high) if each.reason]
    ends = f"{low.value:.3g} {low.interval} < sigma <= {high.value:.3g} {high.interval}"
    if doubts:
        return Decided("doubtful", by, sigma_c, low, high, f"a window is in doubt, {ends}, {doubts[0]}: {said}")
    return Decided("found", by, sigma_c, low, high, f"guide where {ends}: {said}")


def beside(run: Run, place: str, experiment: Experiment) -> Run | None:
    """Return a finished run in a directory of the probe's."""
    found = Run(run.directory / place, experiment)
    return found if is_run(found.directory) and found.results_file.is_file() else None
