"""What a run of reverse sweeps says of every trial, and what is estimated of their gains: places, and typical sizes."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from softmode.critical import peak_time
from softmode.cumulative import shortest
from softmode.estimate import Array, Estimate, bootstrap
from softmode.experiments.susceptibility.maximum import own_name
from softmode.runs.run import Run

# alignment -> what guidance gains
WHAT = {
    "probability": "the probability of the class",
    "log-probability": "the log-probability of the class",
    "logit": "the clipped log-odds of the class",
    "change": "the rms change of the sample",
}


def what_of(alignment: str) -> str:
    """Return what guidance gains."""
    return WHAT.get(alignment) or own_name(alignment)


# of all that is gained, what the shortest interval holds
SHARE = 0.8
# share of trials on either side that a trimmed mean leaves out, and of those that carry most
TRIMMED, TOP = 0.1, 0.05


class Trials(NamedTuple):
    """What is known of every trial.

    Attributes:
        levels: Falling noise levels [level].
        edges: Where the shares of log sigma of the levels end, [level + 1].
        labels: Class of each trial.
        share: What each level gains, [trial, level]; NaN where it has no derivative.
        response: What each would gain if the response without guidance held, w dA/dw_i, [trial, level].
        gain: What guidance gains, measured, [trial].
    """

    levels: Float[Array, " level"]
    edges: Float[Array, " edge"]
    labels: Int[Array, " trial"]
    share: Float[Array, "trial level"]
    response: Float[Array, "trial level"]
    gain: Float[Array, " trial"]

    @property
    def widths(self) -> Float[Array, " level"]:
        """Shares of log sigma."""
        return -np.diff(np.log(self.edges))

    @property
    def whole(self) -> Bool[Array, " trial"]:
        """Trials whose gain and derivatives are all finite."""
        return np.isfinite(self.share).all(1) & np.isfinite(self.gain)

    @property
    def begun(self) -> Bool[Array, " trial"]:
        """Trials whose derivatives without guidance are."""
        return np.isfinite(self.response).all(1)


def edges_of(levels: Float[Array, " level"]) -> Float[Array, " edge"]:
    """Return the ends of the trapezium rule's shares of log sigma; of the last step, to no noise, one."""
    middle = np.sqrt(levels[1:] * levels[:-1])
    return np.concatenate([levels[:1], middle, levels[-1:] / math.e])


def trials_of(run: Run) -> Trials:
    """Return what a run's arrays say of every trial."""
    data, weight = run.dataset, float(run.config["weight"])
    levels, gradient, value, share = (data[name].to_numpy() for name in ("level", "gradient", "value", "share"))
    return Trials(levels, edges_of(levels), data["label"].to_numpy(), share.astype(float), weight * gradient[:, 0],
                  value[:, -1] - value[:, 0])  # fmt: skip


class Place(NamedTuple):
    """Where along the noise levels something is gained.

    Attributes:
        top: Where most per unit of log sigma.
        low: Lower end of the shortest interval of log sigma with 80 % of all.
        high: Its upper end.
    """

    top: Estimate
    low: Estimate
    high: Estimate


def place_of(shares: Float[Array, "trial level"], trials: Trials, kept: Bool[Array, " trial"]) -> Place:
    """Estimate where the mean of shares is gained, or lost if less than nothing is; bootstrap within classes."""

    def found(mean: Array) -> Array:
        mean = math.copysign(1.0, mean.sum()) * mean
        ends = shortest(np.concatenate([[0.0], np.cumsum(mean)]), trials.edges, SHARE)
        return np.array([peak_time(mean / trials.widths, trials.levels), ends.low, ends.high])

    if not kept.any():
        return Place(*[Estimate.missing(0, "no trial has a derivative")] * 3)
    return Place(*bootstrap(shares[kept], found, centre=mean_of, groups=trials.labels[kept].tolist()))


class ClassPlace(NamedTuple):
    """Where a class gains.

    Attributes:
        label: The class.
        place: Where most and 80 % is gained.
        curve: Mean gain per unit of log sigma, [level].
    """

    label: int
    place: Place
    curve: Float[Array, " level"]


def class_places(run: Run, trials: Trials) -> list[ClassPlace]:
    """Return where each class gains."""
    found = []
    for label in run.identity["model"]["labels"]:
        kept = (trials.labels == label) & trials.whole
        curve = (trials.share / trials.widths)[kept].mean(0) if kept.any() else np.full(len(trials.levels), math.nan)
        found.append(ClassPlace(label, place_of(trials.share, trials, kept), curve))
    return found


def slopes_of(
    run: Run,
) -> tuple[Float[Array, " node"], Float[Array, "trial node"], Float[Array, "trial node"]]:
    """Return the weights of a run's strengths, A at each of them, and dA/dw along the way."""
    data = run.dataset
    return (
        float(run.config["weight"]) * data["strength"].to_numpy(),
        data["value"].to_numpy(),
        data["gradient"].to_numpy().sum(2),
    )


class Typical(NamedTuple):
    """What is typical of trials.

    Attributes:
        mean: The mean.
        median: The median.
        trimmed: The mean without a tenth at either side.
        top: Share of the sum of sizes that the twentieth with the largest carries.
    """

    mean: Estimate
    median: Estimate
    trimmed: Estimate
    top: Estimate


def typical(values: Float[Array, " trial"], labels: Int[Array, " trial"]) -> Typical:
    """Estimate a mean and what heavy tails do not move, with a bootstrap over trials within classes."""

    def found(rows: Array) -> Array:
        ordered, sizes = np.sort(rows), np.sort(np.abs(rows))[::-1]
        cut, most = int(TRIMMED * len(rows)), math.ceil(TOP * len(rows))
        top = sizes[:most].sum() / sizes.sum() if sizes.any() else math.nan
        return np.array([rows.mean(), np.median(rows), ordered[cut : len(rows) - cut].mean(), top])

    if not len(values):
        return Typical(*[Estimate.missing(0, "no trial has a derivative")] * 4)
    return Typical(*bootstrap(values, found, centre=lambda rows: rows, groups=labels.tolist()))


def mean_of(rows: Array) -> Array:
    """Return the mean over trials."""
    return np.asarray(rows.mean(0))


def one(values: Float[Array, " trial"]) -> Estimate:
    """Estimate a mean over trials."""
    return bootstrap(values, np.atleast_1d, centre=mean_of)[0]
