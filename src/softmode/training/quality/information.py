"""What a model knows of its labels: by the posterior of noising paths, and by both square-error forms."""

import math

import numpy as np
import torch
from torch import Tensor

from softmode.estimate import Estimate
from softmode.posterior import label_information, label_score, noising_path, path_log_posterior, square_error_rates
from softmode.runs.results import Cell, Quantity, Table
from softmode.targets import Target
from softmode.training.quality.subject import Part, Subject, mean

# noise levels of the paths
PATH_LEVELS, FIRST, LAST = 40, 80.0, 0.05
# levels of a table, and the one down to which the two measures are compared
SHOWN, COMPARED = 8, 3.0
COLUMNS = ("path posterior", "log K + log q(true)", "|D_z - D|^2", "difference of errors")


def information(subject: Subject) -> Part:
    """Measure the information about each label by the path posterior and by both square-error forms."""
    if not subject.targets:
        return [], {}
    x = subject.images.tensor()
    levels = torch.tensor(np.geomspace(FIRST, LAST, PATH_LEVELS))
    stream = subject.generator("information")
    path = noising_path(x, levels, lambda out: torch.randn(out.shape, generator=stream, dtype=out.dtype).to(out))
    without = [subject.denoiser()(state.float(), sigma) for state, sigma in zip(path, levels.tolist(), strict=True)]
    curves = [_curves(subject, target, path, levels, without) for target in subject.targets]
    quantities = [
        quantity
        for index, (target, each) in enumerate(zip(subject.targets, curves, strict=True))
        for quantity in _quantities(target, each, levels, index + 1 if len(curves) > 1 else 0)
    ]
    return quantities, {
        "information": _by_level(curves[0], levels) if len(curves) == 1 else _by_label(subject, curves, levels)
    }


def _curves(subject: Subject, target: Target, path: Tensor, levels: Tensor, without: list[Tensor]) -> Tensor:
    """Return what is known of a label of each image down to each level in the four ways, [way, level, image]."""
    x = subject.images.tensor()
    denoisers = [subject.denoiser(label) for label in target.labels]
    posterior = path_log_posterior(denoisers, path, levels, subject.advance).cpu()
    rates = []
    for state, plain, sigma in zip(path, without, levels.tolist(), strict=True):
        given = subject.of_own(target, state.float(), sigma)
        rates.append(torch.stack(square_error_rates(x, given, plain, sigma)).cpu())
    log_width = math.log(FIRST / LAST) / (PATH_LEVELS - 1)
    forms = torch.stack(rates, 1).cumsum(1) * log_width
    score = label_score(posterior, target.truth(subject.images).cpu())
    return torch.cat([torch.stack([label_information(posterior), score]), forms])


def _quantities(target: Target, curves: Tensor, levels: Tensor, index: int) -> list[Quantity]:
    known, score = curves[:2]
    best = int(score.mean(1).argmax())
    gaps = (known - score)[levels >= COMPARED]
    worst = mean(gaps[int(gaps.mean(1).abs().argmax())])
    entropy, of = math.log(len(target.labels)), f"about {'the ' * (target.name == 'class')}{target.name}"
    half = Estimate(_half(known, levels), math.nan, known.shape[1])
    at = f"at its best, sigma = {float(levels[best]):.2g}"
    return [
        Quantity("label_information", index, mean(known[-1]), f"information {of}, of {entropy:.3f} nats"),
        Quantity("label_score", index, mean(score[best]), f"log K + log q(true) {of}, {at}"),
        Quantity("label_half", index, half, f"sigma by which half of the information {of} is there"),
        Quantity(
            "calibration_gap", index, worst, f"the largest difference of the two down to sigma = {COMPARED:g}, in nats"
        ),
    ]


def _half(known: Tensor, levels: Tensor) -> float:
    """Return the noise level at which half of what is known in the end is known, by interpolation in its logarithm."""
    curve = known.mean(1).numpy()
    place = int(np.argmax(curve >= curve[-1] / 2))
    if place == 0:
        return float(levels[0])
    logs = levels.log().numpy()
    between = (curve[-1] / 2 - curve[place - 1]) / (curve[place] - curve[place - 1])
    return float(np.exp(logs[place - 1] + between * (logs[place] - logs[place - 1])))


def _by_level(curves: Tensor, levels: Tensor) -> Table:
    shown = np.linspace(0, PATH_LEVELS - 1, SHOWN).round().astype(int)
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (float(levels[i]), *(mean(values[i]) for values in curves)) for i in shown
    )
    note = (
        "nats from sigma = 80 down; the last two subtract large numbers: what they have beyond log K is the error of "
        "the branch without a label"
    )
    return Table("Information about the class", ("sigma", *COLUMNS), rows, note)


def _by_label(subject: Subject, curves: list[Tensor], levels: Tensor) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for target, each in zip(subject.targets, curves, strict=True):
        known, score = (mean(values[-1]) for values in each[:2])
        rows.append((target.name, round(math.log(len(target.labels)), 3), known, score, _half(each[0], levels)))
    note = f"nats from sigma = 80 down to {LAST:g}, the other attributes left open; and by which sigma half of them"
    columns = ("attribute", "entropy", *COLUMNS[:2], "half by")
    return Table("Information about each attribute", columns, tuple(rows), note)
