"""Where a sample is decided: the label, by its information; without labels, by unstable modes that are extended."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator, PPoly

from softmode.cumulative import rates, shortest, simultaneous
from softmode.estimate import Array, Estimate, bootstrap, bootstrap_draws
from softmode.experiments.information.analyse import Known, labels_of
from softmode.experiments.instability.analyse import EXTENDED, TINY, Curves
from softmode.runs.experiment import Experiment
from softmode.runs.run import Run
from softmode.runs.store import is_run

INFORMATION = Experiment("information", "softmode.experiments.information")
INSTABILITY = Experiment("instability", "softmode.experiments.instability")
# their directories in that of the probe
KNOWN_IN, SOFT_IN = "information", "instability"

Verdict = Literal["found", "doubtful", "none"]

# share of unstable states from which on they are counted
FIRST = 0.05
# nats of information that are none
NOTHING = 1e-3
# share of resamples that must show a valley between two steps: in a flat rate, the worst case, 2 % have one by chance
SURE = 0.995
# levels that are averaged where separate steps of a decision are looked for
COARSE = 3


class Window(NamedTuple):
    """One interval of noise levels in which something is decided.

    Attributes:
        sigma_c: Where half of that is known, or half of the states are unstable.
        low: Its lower end.
        high: Its upper end.
        gained: Nats that are gained in its step; NaN where no label was followed.
    """

    sigma_c: Estimate
    low: Estimate
    high: Estimate
    gained: float = math.nan


class Decided(NamedTuple):
    """The answer, and what it is of.

    Attributes:
        verdict: found, doubtful or none.
        by: label, softest modes, or nothing where only a probe was made.
        windows: From the highest noise level down; none without a window.
        sentence: The answer.
        samples: Trajectories behind it.
    """

    verdict: Verdict
    by: str
    windows: tuple[Window, ...]
    sentence: str
    samples: int

    @property
    def main(self) -> Window:
        """The window in which most is gained, or the first; undefined where there is none."""
        if not self.windows:
            missing = Estimate.missing(self.samples, self.sentence)
            return Window(missing, missing, missing)
        return max(self.windows, key=lambda each: each.gained if math.isfinite(each.gained) else 0.0)


def decided(run: Run) -> Decided:
    """Return the windows of a probe by what was measured beside it: labels first, else the softest modes."""
    known = beside(run, KNOWN_IN, INFORMATION)
    if known is not None:
        return by_labels(labels_of(known), known.dataset["level"].to_numpy(), float(known.config["share"]))
    soft = beside(run, SOFT_IN, INSTABILITY)
    if soft is not None:
        return by_modes(Curves.of(soft))
    return Decided(
        "none", "", (),
        "no window was looked for: a probe alone cannot tell one from noise; softmode window MODEL measures the labels "
        "and the softest modes beside it",
        run.dataset.sizes["trajectory"],
    )  # fmt: skip


def by_labels(labels: Sequence[Known], levels: Array, share: float) -> Decided:
    """Return the shortest intervals that gain a share of what is known of a label in the end.

    Of several labels all that is known of each is added up. Where the density of the information has separate modes,
    steps of a hierarchy, each has an interval of its own.

    Args:
        labels: What the paths tell of each label.
        levels: Falling noise levels.
        share: The share.
    """
    information = np.sum([each.information for each in labels], axis=0)
    score = np.sum([each.score for each in labels], axis=0)
    groups = labels[0].truth.tolist() if len(labels) == 1 else []
    entropy, count = sum(each.entropy for each in labels), len(information)
    name = f"the {labels[0].name}" if len(labels) == 1 else "its labels"
    if not (np.isnan(score).any() or simultaneous(score, groups).low.max() > NOTHING):
        best = max(0.0, float(score.mean(0).max()))
        why = f"the model knows nothing of {name} for sure, at its best {best:.2g} of {entropy:.3f} nats"
        return _nothing(why, "label", count)
    (total,) = bootstrap(information[:, -1:], lambda curve: curve, centre=_mean, groups=groups)
    cuts = [0, *separations(information, levels, groups), len(levels) - 1]
    windows = []
    for first, last in itertools.pairwise(cuts):
        own = information[:, first : last + 1] - information[:, first : first + 1]
        low, high, half = bootstrap(own, _shortest(levels[first : last + 1], share), centre=_mean, groups=groups)
        windows.append(Window(half, low, high, float(own[:, -1].mean())))
    known = f"{total} nats about {name}, of {entropy:.3f}"
    if len(windows) == 1:
        said = f"there {share:.0%} of {known}, are gained, half of them by sigma_c = {_short(windows[0].sigma_c)}"
    else:
        steps = ", ".join(f"{each.gained:.2g} by {each.low.value:.3g}" for each in windows)
        said = f"{known}, are gained in {len(windows)} separate steps: {steps}"
    return _answer("label", windows, said, count)


def _shortest(levels: Array, share: float) -> Callable[[Array], Array]:
    return lambda curve: np.array(shortest(curve, levels, share))


def separations(
    information: Float[Array, "trajectory level"], levels: Float[Array, " level"], groups: Sequence[int] = ()
) -> list[int]:
    """Return the places of levels between which information is gained in separate steps.

    There the rate of gain is below its highest on either side, in SURE of the resamples of the trajectories.
    """
    places = np.arange(0, len(levels), COARSE)
    if len(places) < 4:
        return []
    rate = rates(information[:, places], levels[places])
    mean, resampled = rate.mean(0), np.stack([rate[draw].mean(0) for draw in bootstrap_draws(len(rate), groups)])

    def split(first: int, last: int) -> list[int]:
        """Return the steps of a stretch at which it falls apart."""
        for valley in sorted(range(first + 1, last), key=lambda i: float(mean[i])):
            before, after = (
                first + int(mean[first:valley].argmax()),
                valley + 1 + int(mean[valley + 1 : last + 1].argmax()),
            )
            lower = np.minimum(resampled[:, before], resampled[:, after])
            if float((lower > resampled[:, valley]).mean()) >= SURE:
                return [*split(first, valley - 1), valley, *split(valley + 1, last)]
        return []

    return [int(places[step] + COARSE // 2) for step in split(0, len(mean) - 1)]


def _mean(curves: Array) -> Array:
    return np.asarray(curves.mean(0))


def by_modes(curves: Curves) -> Decided:
    """Return the levels from the first unstable extended mode down to where the softest modes have become local.

    They are counted from where FIRST of the states are unstable in a mode of at least EXTENDED of the sites, and only
    if they are so by more than the network's own error: than its Jacobian fails to be symmetric, and where its mean
    over states is one that a denoiser's can be.
    """
    count, scores = len(curves.values), extended_score(curves, curves.sure)
    found = intervals(first(scores), curves.levels)
    sure = first(extended_score(curves, np.nan_to_num(curves.surest)))
    real = [each for each in found if (sure[(curves.levels <= each[0]) & (curves.levels >= each[1])] > 0).any()]
    if real:
        sites = f"more than {EXTENDED * curves.sites:.0f} of {curves.sites} sites"
        least = f"at least {FIRST:.0%}" if FIRST * count >= 1 else "at least one"
        said = f"there {least} of {count} states are unstable, in modes of {sites}"
        return _answer("softest modes", [_of_modes(scores, curves.levels, each) for each in real], said, count)
    return _nothing(_why_none(curves, found), "softest modes", count)


def extended_score(curves: Curves, values: Float[Array, "state level"]) -> Float[Array, "state level"]:
    """Return a number above 0 where an eigenvalue is above 1 and its mode is extended; both enter by their logarithms.

    Args:
        curves: The softest modes.
        values: Their eigenvalues, less what these may be wrong by.
    """
    soft, extent = np.log(np.maximum(values, TINY)), np.log(curves.extents / (EXTENDED * curves.sites))
    return np.fmin(soft, extent)


def first(scores: Float[Array, "state level"]) -> Float[Array, " level"]:
    """Return the score above which FIRST of the states are, at each level."""
    return np.quantile(scores, 1 - FIRST, axis=0, method="median_unbiased")


def intervals(
    curve: Float[Array, " level"],
    levels: Float[Array, " level"],
    between: Callable[[Array, Array], PPoly] = PchipInterpolator,
) -> list[tuple[float, float]]:
    """Return where a curve is above 0: upper and lower ends, interpolated in the log of the level.

    A stretch that begins at the highest level has no upper end and is left out; one that lasts ends at the last level.

    Args:
        curve: Values at the levels.
        levels: Falling noise levels.
        between: Interpolant; monotone cubics when left out.
    """
    logs = np.log(levels)
    curve_between = between(-logs, curve)
    crossings = -np.sort(curve_between.roots(extrapolate=False))
    ends = [*(at for at in crossings if np.isfinite(at)), logs[-1]]
    pairs = itertools.pairwise(ends)
    return [(math.exp(high), math.exp(low)) for high, low in pairs if curve_between(-(high + low) / 2) > 0]


def _lines(x: Array, y: Array) -> PPoly:
    """Return straight lines from point to point."""
    return PPoly(np.stack([np.diff(y) / np.diff(x), y[:-1]]), x)


def _of_modes(scores: Array, levels: Array, reference: tuple[float, float]) -> Window:
    """Return a window with its errors, over states and of the interpolation between noise levels.

    A resample's window is the one that shares most of it. The interpolation is known to what cubics differ from lines.
    """

    def statistic(sample: Array, between: Callable[[Array, Array], PPoly] = PchipInterpolator) -> Array:
        found = intervals(first(sample), levels, between)
        best = max(found, key=lambda each: _shared(each, reference), default=None)
        if best is None or _shared(best, reference) <= 0:
            return np.full(3, np.nan)
        high, low = best
        half = intervals(np.median(sample, axis=0), levels, between)
        inside = [level for level, _ in half if low < level <= high]
        return np.array([inside[0] if inside else math.sqrt(low * high), low, high])

    found = bootstrap(scores, statistic, centre=lambda sample: sample)
    half, low, high = map(_widened, found, statistic(scores, _lines).tolist())
    return Window(half, low, high)


def _widened(estimate: Estimate, other: float) -> Estimate:
    """Return a level whose error also holds how far it is from what another interpolation gives."""
    factor = max(other / estimate.value, estimate.value / other)
    stderr = math.hypot(estimate.stderr, estimate.value - other)
    return replace(estimate, stderr=stderr, low=estimate.low / factor, high=estimate.high * factor)


def _shared(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Return the length, in log sigma, that two intervals share."""
    return math.log(min(one[0], other[0]) / max(one[1], other[1]))


def _why_none(curves: Curves, found: Sequence[tuple[float, float]]) -> str:
    """Say what there is in place of an extended instability."""
    count, unstable = len(curves.values), curves.unstable.mean(0)
    if found:
        return (
            f"states are unstable from sigma = {found[0][0]:.3g} on, but by no more than the network's own error: its "
            "Jacobian is not symmetric, or exceeds 1 on average"
        )
    if unstable.max() == 0:
        return f"none of {count} states is unstable, the largest eigenvalue of dD/dx is {curves.values.max():.3g}"
    if unstable[0] >= FIRST:
        return f"{unstable[0]:.0%} of the states are unstable at the highest level, {curves.levels[0]:.3g}, already"
    if unstable.max() < FIRST:
        return f"at most {unstable.max():.0%} of {count} states are unstable"
    extent = float(np.nanmedian(np.where(curves.unstable, curves.extents, np.nan)))
    if extent >= EXTENDED * curves.sites:
        return (
            f"at most {unstable.max():.0%} of {count} states are unstable, in modes of {extent:.3g} of {curves.sites} "
            "sites: too few of them, or for too few noise levels, to be sure"
        )
    return f"decisions are local: unstable modes take {extent:.3g} of {curves.sites} sites"


def _answer(by: str, windows: Sequence[Window], said: str, samples: int) -> Decided:
    doubts = [each.reason for window in windows for each in window[:3] if each.reason]
    ends = " and ".join(f"{_short(each.low)} < sigma <= {_short(each.high)}" for each in windows)
    if doubts:
        return Decided("doubtful", by, tuple(windows), f"a window is in doubt, {ends}, {doubts[0]}: {said}", samples)
    return Decided("found", by, tuple(windows), f"guide where {ends}: {said}", samples)


def _short(estimate: Estimate) -> str:
    return f"{estimate.value:.3g} {estimate.interval}".strip()


def _nothing(why: str, by: str, samples: int) -> Decided:
    return Decided("none", by, (), f"no critical window found: {why}", samples)


def beside(run: Run, place: str, experiment: Experiment) -> Run | None:
    """Return a run in a directory of the probe's; None where there is none.

    Raises:
        ValueError: If it is not finished.
    """
    found = Run(run.directory / place, experiment)
    if not is_run(found.directory):
        return None
    _ = found.results
    return found
