"""What an information run found: by which noise level a label is decided, in how many nats, and in which modes."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import logsumexp

from softmode.cumulative import accumulated, shortest
from softmode.estimate import Array, Estimate, bootstrap
from softmode.posterior import label_information, label_score
from softmode.runs.results import Quantity, Results, Table
from softmode.runs.run import Run

ROWS = 8
SOURCE = "path posterior, guo2005"
# share of the entropy of a label that is next to nothing
LITTLE = 0.05


class Known(NamedTuple):
    """What the paths tell of one label.

    Attributes:
        name: What the label is called.
        values: How each of its values is asked for.
        information: log K less the entropy of the posterior, [trajectory, level].
        score: log K + log q(true value), [trajectory, level]; NaN where that is not known.
        truth: The value of each, [trajectory]; -1 where not known.
    """

    name: str
    values: list[str]
    information: Float[Array, "trajectory level"]
    score: Float[Array, "trajectory level"]
    truth: Array

    @property
    def entropy(self) -> float:
        """Log K (nats)."""
        return math.log(len(self.values))


def analyse(run: Run) -> Results:
    """Return the information about every label with its window, and about the sample by bands of modes.

    `values` has for each label the `window`: its ends and the level by which half is gained, with intervals from a
    bootstrap over images within their values.
    """
    levels, share = run.dataset["level"].to_numpy(), float(run.config["share"])
    known = labels_of(run)
    quantities: list[Quantity] = []
    windows = {}
    for index, each in enumerate(known, 1):
        found = _of_label(each, levels, share, index if len(known) > 1 else 0)
        windows[each.name] = {q.kind: q.estimate for q in found}
        quantities += found
    sample, notes = _of_sample(run, levels)
    quantities += sample
    tables = {}
    if len(known) == 1:
        tables["label"] = _by_level(known[0], levels)
        if len(known[0].values) > 2:
            tables["pairs"] = _pairs(run, known[0], levels)
    elif known:
        tables["labels"] = _by_label(known, quantities)
    tables["bands"] = _bands(run, levels)
    return Results(
        answer=_answer(known, quantities, run),
        quantities=tuple(quantities),
        tables=tables,
        notes=(f"what is noised: {run.identity['noised']}", *notes),
        values={"windows": windows, "share": share},
    )


def labels_of(run: Run) -> list[Known]:
    """Return what the paths tell of every label of a run."""
    if "likelihood" not in run.dataset:
        return []
    likelihood, truth = run.dataset["likelihood"].to_numpy(), run.dataset["truth"].to_numpy()
    found, begin = [], 0
    for place, (name, values) in enumerate(run.identity["targets"].items()):
        own = likelihood[..., begin : begin + len(values)]
        begin += len(values)
        found.append(_known(name, [str(value) for value in values], own, truth[:, place]))
    return found


def _known(name: str, values: list[str], likelihood: Array, truth: Array) -> Known:
    posterior = torch.from_numpy(likelihood - logsumexp(likelihood, axis=-1, keepdims=True))
    score = label_score(posterior.transpose(0, 1), torch.from_numpy(truth).clamp(min=0)).T.numpy()
    score = np.where(truth[:, None] >= 0, score, np.nan)
    return Known(name, values, label_information(posterior).numpy(), score, truth)


def _of_label(known: Known, levels: Array, share: float, index: int) -> list[Quantity]:
    """Return the information about a label, the noise levels of its window, and its calibration."""
    groups = known.truth.tolist()

    def statistic(curve: Array) -> Array:
        return np.array([curve[-1], *shortest(curve, levels, share)])

    total, low, high, half = bootstrap(known.information, statistic, centre=_mean, groups=groups)
    of = f"about {'the ' * (known.name in ('class', 'label'))}{known.name}"
    found = [
        Quantity("information", index, total, f"information {of}, of {known.entropy:.3f} nats", "", SOURCE),
        Quantity(
            "sigma_lo", index, low, f"lower end of the window that gains {share:.0%} of it", "", SOURCE, low.value
        ),
        Quantity("sigma_hi", index, high, "upper end of it", "", SOURCE, high.value),
        Quantity("sigma_half", index, half, f"noise level by which half of it is gained, {of}", "", SOURCE, half.value),
    ]
    if bool((known.truth >= 0).all()):
        gaps = known.information - known.score
        (gap,) = bootstrap(gaps, lambda mean: mean[[int(np.abs(mean).argmax())]], centre=_mean, groups=groups)
        what = "largest difference from log K + log q(true), 0 where the model is calibrated"
        found.append(Quantity("calibration", index, gap, what, "", SOURCE))
    return found


def _of_sample(run: Run, levels: Array) -> tuple[list[Quantity], list[str]]:
    """Return the information about the sample itself, and how far the data are from Gaussian."""
    error = run.dataset["error"].to_numpy().sum(2)
    found = [_integral("sample_information", error, levels, "information about the sample between these noise levels")]
    if "null_error" not in run.dataset:
        return found, ["how far the data are from Gaussian is not known without their spectrum: give --data"]
    departure = run.dataset["null_error"].to_numpy().sum(2) - error
    what = "divergence of the data from the Gaussian of the same spectrum, gained between these noise levels"
    return [*found, _integral("departure", departure, levels, what)], []


def _integral(kind: str, rate: Array, levels: Array, what: str) -> Quantity:
    (total,) = bootstrap(rate, lambda mean: accumulated(mean, levels)[-1:], centre=_mean)
    return Quantity(kind, 0, total, f"{what} (nats)", "", "guo2005")


def _mean(curves: Array) -> Array:
    return np.asarray(curves.mean(0))


def pair_levels(likelihood: Array, truth: Array, levels: Array) -> Float[Array, "value value"]:
    """Return for each pair of values the noise level by which half of what tells them apart is known; NaN without any.

    Args:
        likelihood: Log-likelihoods of paths under each value, [trajectory, level, value].
        truth: Value of each trajectory.
        levels: Falling noise levels.
    """
    count = likelihood.shape[-1]
    found = np.full((count, count), np.nan)
    for a in range(count):
        for b in range(a):
            own = (truth == a) | (truth == b)
            if not own.any():
                continue
            pair = _known("", ["", ""], likelihood[own][:, :, [a, b]], np.zeros(int(own.sum()), dtype=np.int64))
            found[a, b] = found[b, a] = shortest(pair.information.mean(0), levels, 0.5).half
    return found


def _pairs(run: Run, known: Known, levels: Array) -> Table:
    """Return the pairs that are decided first and last."""
    half = pair_levels(run.dataset["likelihood"].to_numpy(), known.truth, levels)
    pairs = [(half[a, b], known.values[b], known.values[a]) for a in range(len(half)) for b in range(a)]
    ranked = sorted((pair for pair in pairs if math.isfinite(pair[0])), reverse=True)
    shown = ranked if len(ranked) <= ROWS else ranked[: ROWS // 2] + ranked[-ROWS // 2 :]
    rows = tuple((f"{a} or {b}", float(level)) for level, a, b in shown)
    title = "Which differences are decided first, and which last"
    return Table(title, ("pair", "sigma by which half is known"), rows, f"{len(rows)} of {len(ranked)} pairs")


def _by_level(known: Known, levels: Array) -> Table:
    shown = np.linspace(0, len(levels) - 1, min(ROWS, len(levels))).round().astype(int)
    rows = tuple((float(levels[i]), _estimate(known.information[:, i]), _estimate(known.score[:, i])) for i in shown)
    columns = ("sigma", "known (nats)", "log K + log q(true)")
    title = f"Information about the {known.name} from sigma = {levels[0]:.3g} down, of {known.entropy:.3f} nats"
    return Table(title, columns, rows, "the two agree where the model is calibrated")


def _by_label(known: Sequence[Known], quantities: Sequence[Quantity]) -> Table:
    by = {(q.kind, q.index): q.estimate for q in quantities}
    rows = tuple(
        (each.name, round(each.entropy, 3), by["information", i], by["sigma_half", i],
         f"{by['sigma_lo', i].value:.2g} to {by['sigma_hi', i].value:.2g}")
        for i, each in enumerate(known, 1)
    )  # fmt: skip
    return Table("Information about each label", ("label", "entropy", "known (nats)", "half by sigma", "window"), rows)


def _bands(run: Run, levels: Array) -> Table:
    """Return the information about the sample by bands of modes, the lowest ones each."""
    rate = run.dataset["error"].to_numpy()
    sizes = run.dataset["band_size"].to_numpy()
    total = accumulated(np.moveaxis(rate, 2, 1), levels)[..., -1]
    ends = [*range(ROWS - 1), len(sizes)] if len(sizes) > ROWS else [*range(len(sizes) + 1)]
    rows = []
    for low, high in itertools.pairwise(ends):
        name = f"{low}" if high == low + 1 else f"{low} to {high - 1}"
        rows.append((name, int(sizes[low:high].sum()), _estimate(total[:, low:high].sum(1))))
    note = "wavenumber in units of the lowest; the bands add up to the whole"
    return Table("Information about the sample by Fourier modes", ("wavenumber", "modes", "nats"), tuple(rows), note)


def _estimate(values: Array) -> Estimate:
    if np.isnan(values).any():
        return Estimate.missing(len(values), "the true label is not known")
    (found,) = bootstrap(values[:, None], lambda mean: mean, centre=_mean)
    return found


def _answer(known: Sequence[Known], quantities: Sequence[Quantity], run: Run) -> str:
    by = {q.name: q.estimate for q in quantities}
    if not known:
        return (
            f"This model takes no labels. Between sigma = {run.config['highest']:g} and {run.config['lowest']:g} its "
            f"samples are decided in {by['sample_information']} nats"
            + (f", {by['departure']} of them beyond a Gaussian of the same spectrum." if "departure" in by else ".")
        )
    if len(known) == 1:
        half, low, high, total = (by[name] for name in ("sigma_half", "sigma_lo", "sigma_hi", "information"))
        if not total.value > LITTLE * known[0].entropy:
            return (
                f"Next to nothing is known of the {known[0].name} down to sigma = {run.config['lowest']:.3g}: "
                f"{max(0.0, total.value):.2g} of {known[0].entropy:.3f} nats."
            )
        return (
            f"The {known[0].name} is decided between sigma = {high.value:.3g} {high.interval} and {low.value:.3g} "
            f"{low.interval}, where {run.config['share']:.0%} of {total} nats are gained, of "
            f"{known[0].entropy:.3f}; half by sigma = {half.value:.3g} {half.interval}."
        )
    halves = [(by[f"sigma_half_{i}"].value, each.name) for i, each in enumerate(known, 1)]
    (first, early), (last, late) = max(halves), min(halves)
    return (
        f"Of {len(known)} attributes {early} is decided first, half of it by sigma = {first:.3g}, and {late} last, "
        f"by sigma = {last:.3g}."
    )
