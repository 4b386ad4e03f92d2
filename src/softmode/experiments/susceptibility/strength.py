r"""How strongly to guide: the knee of alignment against Fréchet distance along the weight.

Alignment a and distance d are scaled to [0, 1] over the weights that were tried, and the knee is where a - d is
largest, furthest from the chord on which alignment costs the same everywhere. Between the weights both are monotone
cubics.

Source: satopaa2011 (Sec. III).
"""

import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.interpolate import PchipInterpolator

from softmode.estimate import NORMAL_95, Array, Estimate, jackknife
from softmode.experiments.pulse.analyse import real_features, shape_of
from softmode.observe.alignment import frechet_distance
from softmode.runs.run import Run

# places between two neighbouring weights at which the knee is looked for
FINE = 50


class Strength(NamedTuple):
    """How strongly to guide.

    Attributes:
        weights: Those that were tried, from none up.
        alignment: Mean of what samples are at each.
        distance: Fréchet distance to real images at each; none without real images.
        knee: The recommended weight; undefined with a reason.
        sentence: What it is, or why there is none.
    """

    weights: Float[Array, " node"]
    alignment: list[Estimate]
    distance: list[Estimate]
    knee: Estimate
    sentence: str


def knee_of(weights: Float[Array, " node"], alignment: Float[Array, " node"], distance: Float[Array, " node"]) -> float:
    """Return the weight at the knee of alignment against distance; NaN where either does not change.

    Args:
        weights: Rising.
        alignment: What is gained.
        distance: What it costs.
    """
    fine = np.unique(np.concatenate([np.linspace(a, b, FINE + 1) for a, b in pairwise(weights)]))
    scaled = []
    for curve in (alignment, distance):
        span = float(np.ptp(curve))
        if not span > 0:
            return math.nan
        scaled.append((PchipInterpolator(weights, curve)(fine) - curve.min()) / span)
    return float(fine[int(np.argmax(scaled[0] - scaled[1]))])


def strength_of(run: Run) -> Strength:
    """Return how strongly to guide, from the samples at the strengths of a run; a jackknife over trials."""
    data, (classes, trials) = run.dataset, shape_of(run)
    # the rms change is no alignment
    name = "probability" if run.config["alignment"] == "change" else "value"
    values = data[name].to_numpy().reshape(classes, trials, -1)
    features = data["features"].to_numpy().reshape(classes, trials, values.shape[2], -1)
    weights, real = data["strength"].to_numpy() * float(run.config["weight"]), real_features(run)
    if not np.isfinite(values).all():
        real = None
    far = None if real is None else _distances(features, real)
    return strength_from(weights, values, far)


def strength_from(
    weights: Float[Array, " node"],
    values: Float[Array, "class trial node"],
    far: Callable[[Bool[Array, " trial"]], Float[Array, " node"]] | None,
) -> Strength:
    """Return how strongly to guide.

    Args:
        weights: From 0 to the weight in use.
        values: Alignment of every sample.
        far: Maps which trials are kept to the Fréchet distance at each weight; None without real images.
    """
    count, nodes = values.shape[1], range(len(weights))
    mean: Callable[[Array], Array] = lambda keep: values[:, keep].mean((0, 1))  # noqa: E731
    alignment = [jackknife(count, lambda keep, i=i: float(mean(keep)[i])) for i in nodes]  # type: ignore[misc] # i is bound
    if far is None:
        why = "no real images are known: name some with --data"
        return Strength(weights, alignment, [], Estimate.missing(count, why), f"no strength is recommended: {why}")
    distance = [jackknife(count, lambda keep, i=i: float(far(keep)[i])) for i in nodes]  # type: ignore[misc] # i is bound
    best, least = int(np.nanargmax(mean(np.ones(count, bool)))), int(np.argmin([each.value for each in distance]))
    rise = jackknife(count, lambda keep: float(mean(keep)[best] - mean(keep)[0]))
    growth = jackknife(count, lambda keep: float(far(keep)[-1] - far(keep)[least]))
    if not rise.value > NORMAL_95 * rise.stderr:
        why = "alignment does not rise by more than twice its error"
        said = f"no strength is recommended: {why}"
        return Strength(weights, alignment, distance, Estimate.missing(count, why), said)
    if not growth.value > NORMAL_95 * growth.stderr:
        most = f"w = {weights[-1]:g}, the largest tried"
        why = f"the Fréchet distance does not grow up to {most}"
        said = f"{why}: stronger guidance may gain more"
        return Strength(weights, alignment, distance, Estimate.missing(count, why), said)
    sign, largest = math.copysign(1.0, weights[-1]), abs(float(weights[-1]))
    found = jackknife(count, lambda keep: knee_of(np.abs(weights), mean(keep), far(keep)))
    low, high = sorted(sign * min(max(end, 0.0), largest) for end in (found.low, found.high))
    knee = Estimate(sign * found.value, found.stderr, found.samples, low, high, found.reason)
    tried = ", ".join(f"{each:.3g}" for each in weights)
    said = f"the knee of alignment against Fréchet distance is at w = {knee} {knee.interval}, of w = {tried} tried"
    return Strength(weights, alignment, distance, knee, said)


def _distances(features: Float[Array, "class trial node feature"], real: Array) -> Callable[[Array], Array]:
    """Return what maps trials that are kept to the Fréchet distances, each computed once."""
    nodes, wide = features.shape[2:]

    @cache
    def kept(which: bytes) -> Array:
        rows = features[:, np.frombuffer(which, bool)]
        return np.array([frechet_distance(rows[:, :, node].reshape(-1, wide), real) for node in range(nodes)])

    return lambda keep: kept(keep.tobytes())
