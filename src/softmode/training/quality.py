"""How good a denoiser is, measured the same way for every model: errors, bounds, labels and samples."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from softmode.data import CLASSES, Images, Values, fashion_mnist
from softmode.denoiser import Autocast, Denoiser
from softmode.device import parse_device
from softmode.estimate import NORMAL_95, Estimate
from softmode.information import label_information, label_score, noising_path, path_log_posterior, square_error_rates
from softmode.lattice import Lattice
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.networks.card import read_tensors, write_tensors
from softmode.networks.classifier import ImageClassifier
from softmode.networks.load import load_classifier, load_model
from softmode.networks.shipped import find_weights
from softmode.observe.alignment import frechet_distance
from softmode.observe.gains import mode_signs, multiplexed_gains
from softmode.process import VE
from softmode.runs.progress import progress_bar
from softmode.runs.results import Cell, Quantity, Results, Table
from softmode.samplers import Heun
from softmode.simulate import simulate
from softmode.streams import TrajectoryNoise, stream_seed, tag
from softmode.training.quality_config import QualityConfig

# noise levels of the errors, of the bound, and of the paths, each falling
LEVELS = (80.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.002)
BOUND_LEVELS = (80.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
PATH_LEVELS, FIRST, LAST = 40, 80.0, 0.05
SHOWN = 8
SHELLS = 6
SAMPLER_STEPS = 32
AT_ONCE = 50
SUMMARY = ("name", "what", "value")


@dataclass(frozen=True, eq=False)
class Subject:
    """A model with the images and the random numbers that it is measured with."""

    config: QualityConfig
    model: Model
    images: Images
    real: Images
    classifier: ImageClassifier
    advance: Callable[[], None]

    def denoiser(self, label: int | None = None) -> Denoiser:
        """Return the denoiser of a class, or of all, in the precision asked for."""
        found = self.model.denoiser(label)
        return found if self.config.precision == "full" else Autocast(found, torch.bfloat16)

    def generator(self, what: str) -> torch.Generator:
        """Return the stream of one measurement, on the CPU."""
        return torch.Generator().manual_seed(stream_seed(self.config.seed, tag(what)))

    def by_label(self, x: Tensor, sigma: float) -> Tensor:
        """Return D of each image's own class."""
        out = torch.empty_like(x)
        for label in range(self.model.classes):
            own = self.images.labels == label
            if bool(own.any()):
                out[own] = self.denoiser(label)(x[own], sigma)
        return out


def quality(config: QualityConfig, progress: bool = False) -> Results:
    """Measure a model, and return what `softmode quality` prints.

    Args:
        config: The model, and how much is measured.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If the model, the data or the classifier cannot be used, or are of different images.
    """
    device = parse_device(config.device)
    model = load_model(config.model, device=device)
    values: Values = "binary" if model.binary else "grey"
    test = fashion_mnist("test", values, config.data or None).to(device)
    if model.shape != test.shape or model.classes not in (0, len(CLASSES)):
        raise refusal(f"model: {quote(config.model)} is of states {model.shape}; expected Fashion-MNIST's {test.shape}")
    if config.samples > len(test):
        raise refusal(f"samples: got {config.samples}; expected at most {len(test)}, the number of held-out images")
    classifier = load_classifier(config.classifier, device)
    labels, steps = max(1, model.classes), len(LEVELS) + len(BOUND_LEVELS) + SAMPLER_STEPS * _batches(config, model)
    with progress_bar(progress, steps + (PATH_LEVELS if labels > 1 else 0), "measuring") as advance, torch.no_grad():
        subject = Subject(config, model, test.first(config.images), test, classifier, advance)
        parts = [_errors(subject), _bound(subject), *([_information(subject)] if labels > 1 else []), _samples(subject)]
    quantities = [quantity for part in parts for quantity in part[0]]
    tables = {name: table for part in parts for name, table in part[1].items()}
    if config.record:
        record(find_weights(config.model), quantities)
    rows = tuple((q.kind, q.what, q.estimate) for q in quantities)
    return Results(_answer(quantities), tuple(quantities), {"quality": Table("Quality", SUMMARY, rows), **tables}, ())


def record(path: Path, quantities: Sequence[Quantity]) -> None:
    """Write quantities on the card of a weights file, in place of those of an earlier measurement."""
    tensors, metadata = read_tensors(path)
    card = json.loads(metadata["softmode"])
    found = {quantity.kind: quantity.estimate.plain() for quantity in quantities}
    card["held_out"] = {**card["held_out"], "quality": found}
    write_tensors(path, tensors, {"softmode": json.dumps(card)})


Part = tuple[list[Quantity], dict[str, Table]]


def _batches(config: QualityConfig, model: Model) -> int:
    labels = max(1, model.classes)
    return sum(-(-len(range(label, config.samples, labels)) // AT_ONCE) for label in range(labels))


def _mean(values: Tensor | np.ndarray, reason: str = "") -> Estimate:
    """Return the mean of independent values with its standard error."""
    each = np.asarray(values, dtype=np.float64)
    mean, stderr = float(each.mean()), float(each.std(ddof=1) / math.sqrt(len(each)))
    return Estimate(mean, stderr, len(each), mean - NORMAL_95 * stderr, mean + NORMAL_95 * stderr, reason)


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, start + AT_ONCE) for start in range(0, count, AT_ONCE))


def _errors(subject: Subject) -> Part:
    """Tabulate the square error of D per site by noise level, beside the Gaussian null model's on the same states."""
    x, null = subject.images.tensor(), subject.model.null()
    noise = torch.randn(x.shape, generator=subject.generator("errors")).to(x)
    rows: list[tuple[Cell, ...]] = []
    for sigma in LEVELS:
        state = x + sigma * noise
        denoised = torch.cat([subject.denoiser()(state[part], sigma) for part in _parts(len(x))])
        each = (denoised - x).flatten(1).double().square().mean(1)
        row: list[Cell] = [sigma, _mean(each.cpu())]
        if subject.model.classes:
            own = (subject.by_label(state, sigma) - x).flatten(1).double().square().mean(1)
            row.append(_mean((own - each).cpu()))
        if null is not None:
            row.append(float((null(state, sigma) - x).double().square().mean()))
        rows.append(tuple(row))
        subject.advance()
    lowest = math.sqrt(rows[-1][1].value) / LEVELS[-1]  # type: ignore[union-attr] # an Estimate
    columns = ("sigma", "D", *(["label less none"] if subject.model.classes else []), *(["Gaussian"] if null else []))
    note = "per site, on held-out images; an exact D has less than the Gaussian model of the same spectrum"
    near = Estimate(lowest, math.nan, len(x))
    return [Quantity("distance_lowest", 0, near, "rms of D - x_0 at sigma = 0.002, in units of sigma")], {
        "errors": Table("Square error by noise level", columns, tuple(rows), note)
    }


def _bound(subject: Subject) -> Part:
    """Compare the mean gain of each shell on noised data with the Gaussian bound S/(S + sigma^2)."""
    null = subject.model.null()
    if null is None:
        return [], {}
    x, lattice = subject.images.tensor(), Lattice.of(subject.images.tensor())
    generator, modes = subject.generator("bound"), 2 * lattice.dimensions * SHELLS
    rows: list[tuple[Cell, ...]] = []
    for place, sigma in enumerate(BOUND_LEVELS):
        state = x + sigma * torch.randn(x.shape, generator=generator).to(x)
        gains = []
        for part in _parts(len(x)):
            signs = mode_signs(modes, range(len(x))[part], place, subject.config.seed)
            # in full precision: half precision's rounding does not cancel in a difference
            gains.append(multiplexed_gains(subject.model.denoiser(), state[part], sigma, SHELLS, signs))
        found = torch.cat(gains).double().mean(2).cpu()
        limit = null.dispersion(state[:1].double(), sigma, lattice.shell_vectors(SHELLS))[0].mean(1).cpu()
        excess = [_mean(found[:, n] - limit[n]) for n in range(SHELLS + 1)]
        ratios = [each.value / each.stderr for each in excess]
        worst = int(np.argmax(ratios))
        rows.append((sigma, _mean(found[:, 0]), float(limit[0]), worst, round(ratios[worst], 1)))
        subject.advance()
    highest = max(float(row[4]) for row in rows)  # type: ignore[arg-type] # a number
    columns = ("sigma", "G_0", "bound of G_0", "worst shell", "its excess in s.e.")
    note = f"shells 0 to {SHELLS}, on noised held-out images; an exact D exceeds no bound"
    constant = rows[-1][1]
    assert isinstance(constant, Estimate)
    quantities = [
        Quantity("bound_excess", 0, Estimate(highest, math.nan, len(x)), "largest excess over the bound, in s.e."),
        Quantity("constant_gain", 0, constant, f"gain of the constant mode at sigma = {BOUND_LEVELS[-1]}"),
    ]
    return quantities, {"bound": Table("The Gaussian bound", columns, tuple(rows), note)}


def _information(subject: Subject) -> Part:
    """Measure the information about the class by the path posterior and by both square-error forms."""
    x, labels = subject.images.tensor(), subject.images.labels
    levels = torch.tensor(np.geomspace(FIRST, LAST, PATH_LEVELS))
    path = noising_path(x, levels, subject.generator("information"))
    denoisers = [_in_parts(subject.denoiser(label)) for label in range(subject.model.classes)]
    posterior = path_log_posterior(denoisers, path, levels, subject.advance).cpu()
    information, score = label_information(posterior), label_score(posterior, labels.cpu())
    rates = []
    for state, sigma in zip(path, levels.tolist(), strict=True):
        given, without = subject.by_label(state.float(), sigma), _in_parts(subject.denoiser())(state.float(), sigma)
        rates.append(torch.stack(square_error_rates(x, given, without, sigma)).cpu())
    log_width = math.log(FIRST / LAST) / (PATH_LEVELS - 1)
    forms = torch.stack(rates).cumsum(0) * log_width
    shown = np.linspace(0, PATH_LEVELS - 1, SHOWN).round().astype(int)
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (float(levels[i]), *(_mean(values[i]) for values in (information, score, forms[:, 0], forms[:, 1])))
        for i in shown
    )
    best = int(score.mean(1).argmax())
    entropy = math.log(subject.model.classes)
    above = levels >= 3
    gaps = (information - score)[above]
    worst = _mean(gaps[int(gaps.mean(1).abs().argmax())])
    quantities = [
        Quantity("label_information", 0, _mean(information[-1]), f"information about the class, of {entropy:.3f} nats"),
        Quantity(
            "label_score", 0, _mean(score[best]), f"log K + log q(true), at its best, sigma = {float(levels[best]):.2g}"
        ),
        Quantity("calibration_gap", 0, worst, "the largest difference of the two down to sigma = 3, in nats"),
    ]
    columns = ("sigma", "path posterior", "log K + log q(true)", "|D_z - D|^2", "difference of errors")
    note = (
        "nats from sigma = 80 down; the last two subtract large numbers: what they have beyond log K is the error of "
        "the branch without a label"
    )
    return quantities, {"information": Table("Information about the class", columns, rows, note)}


def _in_parts(denoiser: Denoiser) -> Denoiser:
    def call(x: Tensor, sigma: Tensor | float) -> Tensor:
        return torch.cat([denoiser(x[part], sigma) for part in _parts(len(x))])

    return call


def samples(subject: Subject) -> tuple[Tensor, Tensor]:
    """Return unguided samples at 32 levels of Heun, and their classes."""
    times = Heun().grid(VE(), FIRST, 0.002, SAMPLER_STEPS)
    labels = max(1, subject.model.classes)
    found, classes = [], []
    for label in range(labels):
        own = range(label, subject.config.samples, labels)
        for part in _parts(len(own)):
            device = subject.images.pixels.device
            noise = TrajectoryNoise(subject.config.seed, own[part], device, (tag("quality"),))
            x = FIRST * noise.fill_(torch.empty(len(own[part]), *subject.model.shape, device=device))
            denoiser = subject.denoiser(label if subject.model.classes else None)
            run = simulate(denoiser, VE(), x, times, noise, sampler=Heun(), on_step=subject.advance)
            found.append(run.state)
            classes += [label] * len(own[part])
    return torch.cat(found), torch.tensor(classes)


def _samples(subject: Subject) -> Part:
    """Tell how many samples are recognised, and how far their features are from those of real images."""
    drawn, classes = samples(subject)
    held_out = subject.real.first(subject.config.samples)
    rest = Images(subject.real.pixels[-len(held_out) :], subject.real.labels[-len(held_out) :], subject.real.values)
    kinds = {"samples": (drawn, classes), "held-out images": (held_out.tensor(), held_out.labels.cpu())}
    reference = _features(subject, rest.tensor())[0]
    rows: list[tuple[Cell, ...]] = []
    quantities: list[Quantity] = []
    for name, (images, labels) in kinds.items():
        features, told = _features(subject, images)
        distance = frechet_distance(features, reference)
        right = _mean((told == labels).double()) if subject.model.classes else None
        rows.append((name, len(images), *([right] if right else []), distance))
        if name == "samples":
            found = Estimate(distance, math.nan, len(drawn))
            quantities.append(Quantity("frechet", 0, found, "Fréchet distance of samples to real images"))
            if right:
                quantities.append(
                    Quantity("recognised", 0, right, "share of unguided samples recognised as their class")
                )
    columns = ("", "images", *(["recognised"] if subject.model.classes else []), "Fréchet distance")
    note = f"to {len(rest)} other held-out images, by {subject.config.classifier}; {SAMPLER_STEPS} levels of Heun"
    return quantities, {"samples": Table("Unguided samples", columns, tuple(rows), note)}


def _features(subject: Subject, images: Tensor) -> tuple[np.ndarray, Tensor]:
    found = [subject.classifier.features(images[part].to(subject.real.pixels.device)) for part in _parts(len(images))]
    features = torch.cat(found)
    return features.double().cpu().numpy(), subject.classifier.head(features).argmax(1).cpu()


def _answer(quantities: Sequence[Quantity]) -> str:
    """Say how good the model is in two sentences."""
    found: Mapping[str, Quantity] = {quantity.kind: quantity for quantity in quantities}
    said = []
    if "recognised" in found:
        said.append(
            f"{found['recognised'].estimate.value:.0%} of its samples are recognised as their class, and it carries "
            f"{found['label_information'].estimate} of {math.log(len(CLASSES)):.3f} nats about it."
        )
    said.append(f"The Fréchet distance of its samples to real images is {found['frechet'].estimate.value:.3g}.")
    if "bound_excess" in found:
        kept = found["bound_excess"].estimate.value < 4
        said.append(f"It {'keeps' if kept else 'breaks'} the Gaussian bound of the mean gains.")
    return " ".join(said)
