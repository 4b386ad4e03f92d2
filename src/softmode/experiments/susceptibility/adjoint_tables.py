"""Tables of a run of reverse sweeps: the gain and its places, classes, strengths, levels, and what is left out."""

import math

import numpy as np

from softmode.critical import peak_time
from softmode.estimate import Array, Estimate, bootstrap, jackknife
from softmode.experiments.pulse.analyse import real_features, shape_of
from softmode.experiments.susceptibility.adjoint_trials import WHAT, Place, Trials, mean_of, one
from softmode.experiments.susceptibility.maximum import Contained
from softmode.guidance.adjoint import radau
from softmode.observe.alignment import frechet_distance
from softmode.runs.results import Table
from softmode.runs.run import Run

# trials without a derivative that notes name
NAMED = 5


def first_table(
    run: Run, gain: Estimate, total: Estimate, left: Estimate, at: Place, first: Place, away: Estimate | None,
    checked: Contained,
) -> Table:  # fmt: skip
    """Return the evidence: the gain, the sum rule, and where the gain is made."""
    rows = [
        (f"gain of {WHAT[run.config['alignment']]}", gain), ("sum over levels", total), ("gain less the sum", left),
        ("most is gained at sigma", at.top), ("80 % from sigma", at.low), ("80 % to sigma", at.high),
        ("most at sigma, w = 0", first.top),
    ]  # fmt: skip
    if away is not None:
        rows.append(("ln(most / sigma_c)", away))
    note = "" if checked.inside is None else f"most is gained {checked.verdict}"
    return Table(
        f"What guidance of w = {run.config['weight']:g} gains, and at which noise levels sigma/alpha",
        ("", "mean over trials", "95 % interval"),
        tuple((what, found, found.interval) for what, found in rows),
        note,
    )


def classes(run: Run, trials: Trials) -> Table:
    """Return what guidance gains of every class, and where."""
    rows = []
    for label in run.identity["model"]["labels"]:
        own = trials.labels == label
        kept = own & trials.whole
        gain = bootstrap(trials.gain[own], np.atleast_1d, centre=mean_of)[0]
        top = (
            bootstrap(trials.share[kept], lambda mean: _peak(mean, trials), centre=mean_of)[0]
            if kept.any()
            else Estimate.missing(0, "no trial has a derivative")
        )
        left = float((trials.gain - trials.share.sum(1))[kept].mean()) if kept.any() else math.nan
        rows.append((label, int(kept.sum()), gain, gain.interval, left, top, top.interval))
    return Table(
        "By class",
        ("class", "trials", "gain", "95 % interval", "less the sum", "most at sigma", "95 % interval"),
        tuple(rows),
    )


def _peak(mean: Array, trials: Trials) -> Array:
    return np.array([peak_time(math.copysign(1.0, mean.sum()) * mean / trials.widths, trials.levels)])


def strengths(run: Run) -> Table:
    """Return what samples are at every strength; their rms change is from their twins without guidance."""
    data, (classes, trials) = run.dataset, shape_of(run)
    images, features, real = data["image"].to_numpy(), data["features"].to_numpy(), real_features(run)
    rows = []
    for node, strength in enumerate((*radau(run.config["nodes"])[0], 1.0)):
        change = np.sqrt(np.square((images[:, node] - images[:, 0]).reshape(len(images), -1)).mean(1))
        means = [one(values) for values in (data["value"].to_numpy()[:, node], data["probability"].to_numpy()[:, node],
                                             change)]  # fmt: skip
        far = None if real is None else _far(features[:, node].reshape(classes, trials, -1), real)
        rows.append((float(run.config["weight"] * strength), *means, far))
    heads = ("w", "value", "probability", "rms change", "Fréchet distance")
    return Table("Samples at the strengths of the sweeps, and at the one in use", heads, tuple(rows))


def _far(seen: Array, real: Array) -> Estimate:
    """Return the Fréchet distance of features [class, trial, feature] to real ones, by leaving trials out."""
    wide = seen.shape[-1]
    return jackknife(seen.shape[1], lambda keep: frechet_distance(seen[:, keep].reshape(-1, wide), real))


def levels(run: Run, trials: Trials) -> Table:
    """Return what every level gains per unit of log sigma, and chi without guidance, per unit of w d log sigma."""
    weight = float(run.config["weight"])
    columns = []
    for shares, kept in ((trials.share, trials.whole), (trials.response / weight, trials.begun)):
        rows = (shares / trials.widths)[kept]
        means = (
            bootstrap(rows, lambda mean: mean, centre=mean_of, groups=trials.labels[kept].tolist())
            if kept.any()
            else None
        )
        middle = np.median(rows, axis=0) if kept.any() else np.full(len(trials.levels), math.nan)
        columns += [means or [Estimate.missing(0, "no trial has a derivative")] * len(trials.levels), middle.tolist()]
    return Table(
        "Every level: gain per unit of log sigma, and chi = dA/dw without guidance per unit of w d log sigma",
        ("sigma/alpha", "gain", "median", "chi", "median"),
        tuple((float(level), *cells) for level, *cells in zip(trials.levels, *columns, strict=True)),
    )


def lost(run: Run) -> list[str]:
    """Return a note on the trials whose derivatives are not finite, and on the level where they cease to be."""
    gradient, levels = run.dataset["gradient"].to_numpy()[:, :-1], run.dataset["level"].to_numpy()
    places = [*radau(run.config["nodes"])[0]]
    bad = np.argwhere(~np.isfinite(gradient).all(2))
    said = []
    for row, node in bad[:NAMED]:
        level = levels[np.flatnonzero(~np.isfinite(gradient[row, node]))[-1]]
        label, trial = (int(run.dataset[name].to_numpy()[row]) for name in ("label", "trial"))
        said.append(
            f"trial {trial} of class {label} at w = {run.config['weight'] * places[node]:.3g} from sigma = {level:.3g}"
        )
    if not said:
        return []
    more = f", and {len(bad) - NAMED} others" if len(bad) > NAMED else ""
    return [f"derivatives that are not finite, left out: {'; '.join(said)}{more}"]
