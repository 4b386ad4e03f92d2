"""What a classifier makes of a model's unguided samples, beside what it makes of held-out images."""

import math

import numpy as np
import torch
from torch import Tensor

from softmode.data import CLASSES, Images
from softmode.estimate import Estimate
from softmode.observe.alignment import frechet_distance
from softmode.process import VE
from softmode.runs.results import Quantity, Table
from softmode.samplers import Heun
from softmode.simulation import simulate
from softmode.streams import TrajectoryNoise, tag
from softmode.training.quality import subject as subjects
from softmode.training.quality.sheet import write_sheet
from softmode.training.quality.subject import Part, Subject, mean, parts

FIRST, LAST, SAMPLER_STEPS = 80.0, 0.002, 32


def batches(subject: Subject) -> int:
    """Return how many batches of samples are drawn."""
    kinds, count = len(subject.asked()), subject.config.samples
    return sum(-(-len(range(place, count, kinds)) // subjects.AT_ONCE) for place in range(kinds))


def times() -> Tensor:
    """Return the noise levels of the sampler."""
    return Heun().grid(VE(), FIRST, LAST, SAMPLER_STEPS)


def draw(subject: Subject) -> tuple[Tensor, Tensor]:
    """Return unguided samples at 32 levels of Heun, in their order, and the value of each of their labels."""
    asked, device = subject.asked(), subject.images.pixels.device
    found, values, order = [], [], list[int]()
    for place, (label, row) in enumerate(asked):
        own = range(place, subject.config.samples, len(asked))
        for part in parts(len(own)):
            noise = TrajectoryNoise(subject.config.seed, own[part], device, (tag("quality"),))
            x = FIRST * noise.fill_(torch.empty(len(own[part]), *subject.model.shape, device=device))
            denoiser, advance = subject.denoiser(label), subject.advance
            found.append(simulate(denoiser, VE(), x, times(), noise, sampler=Heun(), on_step=advance).state)
            values += [row] * len(own[part])
            order += own[part]
    back = torch.tensor(order).argsort()
    return torch.cat(found)[back], torch.tensor(values)[back]


def samples(subject: Subject) -> Part:
    """Tell how many samples are recognised, and how far their features are from those of real images."""
    drawn, asked = draw(subject)
    held_out = subject.real.first(subject.config.samples)
    rest = Images(subject.real.pixels[-len(held_out) :], subject.real.labels[-len(held_out) :], subject.real.values)
    reference = _features(subject, rest.tensor())
    kinds = {
        "samples": (drawn, asked),
        "held-out images": (held_out.tensor(), held_out.labels.reshape(len(held_out), -1).cpu()),
    }
    shares, distances = {}, {}
    for name, (images, values) in kinds.items():
        features = _features(subject, images)
        distances[name] = frechet_distance(features.double().numpy(), reference.double().numpy())
        right = _right(subject, features, values)
        shares[name] = [mean(each) for each in right]
        if name == "samples":
            titles, wrong = _titles(values, right)
    if subject.config.figure:
        write_sheet(subject.config.figure, drawn.cpu(), held_out.tensor().cpu(), titles, wrong)
    names = [f"{target.name} recognised" for target in subject.targets]
    rows = (*zip(names, *shares.values(), strict=True), ("Fréchet distance", *distances.values()))
    distance = Estimate(distances["samples"], math.nan, len(drawn))
    quantities = [Quantity("frechet", 0, distance, "Fréchet distance of samples to real images")]
    for place, (target, share) in enumerate(zip(subject.targets, shares["samples"], strict=True), 1):
        what = f"share of unguided samples whose {target.name} is recognised"
        quantities.append(Quantity("recognised", place if len(names) > 1 else 0, share, what))
    note = f"{len(drawn)} of each; distance to {len(rest)} other held-out images; {SAMPLER_STEPS} levels of Heun"
    return quantities, {"samples": Table("Unguided samples", ("", *kinds), rows, note)}


def _titles(values: Tensor, right: list[np.ndarray]) -> tuple[list[str], list[bool]]:
    """Return the class of each sample, and whether another one is seen; nothing of a model without classes."""
    if len(right) != 1:
        return [], []
    return [CLASSES[int(value)] for value in values[:, 0]], [not each for each in right[0]]


def _features(subject: Subject, images: Tensor) -> Tensor:
    device = subject.real.pixels.device
    return torch.cat([subject.classifier.features(images[part].to(device)) for part in parts(len(images))]).cpu()


def _right(subject: Subject, features: Tensor, values: Tensor) -> list[np.ndarray]:
    """Tell of each label of each image whether the classifier recognises it, [label][image]."""
    logits = subject.classifier.head(features.to(subject.real.pixels.device)).cpu()
    counts = [len(target.labels) for target in subject.targets]
    told = [part.argmax(1) for part in logits.split(counts, 1)] if counts else []
    return [(each == values[:, place]).double().numpy() for place, each in enumerate(told)]
