"""Tables of a run of reverse sweeps: the gain and its places, classes, strengths, levels, and what is left out."""

import math

import numpy as np

from softmode.estimate import Estimate, bootstrap
from softmode.experiments.susceptibility.adjoint_trials import ClassPlace, Place, Trials, mean_of, one, what_of
from softmode.experiments.susceptibility.maximum import Contained
from softmode.experiments.susceptibility.strength import Strength
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
        (f"gain of {what_of(run.config['alignment'])}", gain), ("sum over levels", total), ("gain less the sum", left),
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


def compared(
    linear: Estimate, knee: Estimate, half: Estimate | None, from_half: Estimate | None, away: Estimate | None
) -> Table:
    """Return up to which weight response is linear, the recommended one, and where most is gained beside what is known.

    Args:
        linear: Weight up to which linear response holds.
        knee: Recommended weight.
        half: Noise level by which half of the label is known; None where that is not asked for.
        from_half: Log of the place where most is gained to it.
        away: The same to sigma_c.
    """
    rows = [("linear response up to w", linear), ("recommended w, the knee", knee)]
    for what, found in (("half of the label known at sigma", half), ("ln(most / half known)", from_half),
                        ("ln(most / sigma_c)", away)):  # fmt: skip
        if found is not None:
            rows.append((what, found))
    return Table(
        "How strongly, and beside what is known of the label",
        ("", "estimate", "95 % interval"),
        tuple((what, found, found.interval) for what, found in rows),
    )


def classes(trials: Trials, found: list[ClassPlace]) -> Table:
    """Return what guidance gains of every class, and where."""
    rows = []
    for label, place, _ in found:
        own = (trials.labels == label) & np.isfinite(trials.gain)
        kept = own & trials.whole
        gain = one(trials.gain[own]) if own.any() else Estimate.missing(0, "no trial has a gain")
        left = float((trials.gain - trials.share.sum(1))[kept].mean()) if kept.any() else math.nan
        ends = f"{place.low.value:.2g} to {place.high.value:.2g}" if math.isfinite(place.low.value) else ""
        rows.append((label, int(kept.sum()), gain, gain.interval, left, place.top, place.top.interval, ends))
    heads = ("class", "trials", "gain", "95 % interval", "less the sum", "most at", "95 % interval", "80 % in sigma")
    return Table("By class", heads, tuple(rows))


def strengths(run: Run, found: Strength) -> Table:
    """Return what samples are at every strength; their rms change is from their twins without guidance."""
    data, images = run.dataset, run.dataset["image"].to_numpy()
    rows = []
    for node, weight in enumerate(found.weights):
        change = np.sqrt(np.square((images[:, node] - images[:, 0]).reshape(len(images), -1)).mean(1))
        columns = (data["value"].to_numpy()[:, node], data["probability"].to_numpy()[:, node], change)
        means = [one(values[np.isfinite(values)]) for values in columns]
        rows.append((float(weight), *means, found.distance[node] if found.distance else None))
    heads = ("w", "value", "probability", "rms change", "Fréchet distance")
    return Table("Samples at the strengths that all trials share", heads, tuple(rows))


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
    """Return notes on trials whose derivatives or values are not finite, and on the level where these cease to be."""
    gradient, levels = run.dataset["gradient"].to_numpy(), run.dataset["level"].to_numpy()
    weights = float(run.config["weight"]) * run.dataset["strength"].to_numpy()

    def named(row: int, node: int) -> str:
        label, trial = (int(run.dataset[name].to_numpy()[row]) for name in ("label", "trial"))
        return f"trial {trial} of class {label} at w = {weights[node]:.3g}"

    said = []
    for row, node in np.argwhere(~np.isfinite(gradient).all(2)):
        level = levels[np.flatnonzero(~np.isfinite(gradient[row, node]))[-1]]
        said.append(f"{named(row, node)} from sigma = {level:.3g}")
    values = [named(row, node) for row, node in np.argwhere(~np.isfinite(run.dataset["value"].to_numpy()))]
    notes = []
    for what, those in (("derivatives", said), ("values of what guidance is to gain", values)):
        if those:
            more = f", and {len(those) - NAMED} others" if len(those) > NAMED else ""
            notes.append(f"{what} that are not finite, left out: {'; '.join(those[:NAMED])}{more}")
    return notes
