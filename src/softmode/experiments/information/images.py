"""What is noised: held-out data, data of a file, or samples of the model itself, with their labels where known."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from softmode.data import read_images
from softmode.experiments.information.config import Config
from softmode.labels import Label
from softmode.levels import flow_levels
from softmode.message import refusal
from softmode.model import Model
from softmode.process import VE
from softmode.samplers import Heun
from softmode.simulation import simulate
from softmode.streams import TrajectoryNoise, stream_seed, tag
from softmode.targets import Target

# levels of Heun's method for the model's own samples
STEPS = 32
DATA, FILE, SAMPLES = "held-out data", "the data of a file", "the model's own samples"


@dataclass(frozen=True, eq=False)
class Noised:
    """Images, or how to sample them, and the values of their labels.

    Args:
        what: What they are, in words.
        model: The model.
        labels: The label that each trajectory is of, None for none.
        truth: Value of each target, [trajectory, target]; -1 where not known.
        images: The images [trajectory, channel, *space]; None where the model samples them.
        seed: Seed of the run.
        device: Device of the states.
        dtype: Floating type of the states.
    """

    what: str
    model: Model
    labels: Sequence[Label]
    truth: Tensor
    images: Tensor | None
    seed: int
    device: torch.device
    dtype: torch.dtype

    def of(self, trajectories: list[int]) -> tuple[Tensor, Tensor]:
        """Return the images of some trajectories, and the values of their labels."""
        images = self._sampled(trajectories) if self.images is None else self.images[trajectories]
        return images.to(self.device, self.dtype), self.truth[trajectories]

    def _sampled(self, trajectories: list[int]) -> Tensor:
        """Return samples of the model."""
        first, last = flow_levels(self.model)
        times = Heun().grid(VE(), first, last, STEPS)
        noise = TrajectoryNoise(self.seed, trajectories, self.device, (tag("samples to noise"),))
        x = noise.fill_(torch.empty(len(trajectories), *self.model.shape, dtype=self.dtype, device=self.device)) * first
        labels = [self.labels[i] for i in trajectories]
        if self.model.batched is not None and len(set(labels)) > 1:
            return simulate(self.model.of_states(labels), VE(), x, times, sampler=Heun()).state
        found = torch.empty_like(x, device="cpu")
        for label in dict.fromkeys(labels):
            own = [place for place, each in enumerate(labels) if each == label]
            found[own] = simulate(self.model.denoiser(label), VE(), x[own], times, sampler=Heun()).state
        return found


def noised_images(
    config: Config, model: Model, targets: Sequence[Target], device: torch.device, dtype: torch.dtype
) -> Noised:
    """Return what a config noises.

    Raises:
        ValueError: If there are no data where they are asked for, or too few.
    """
    count, unknown = config.trajectories, torch.full((config.trajectories, len(targets)), -1)
    none: list[Label] = [None] * count
    if config.data:
        if config.states == "samples":
            raise refusal("states: got samples beside --data; leave one of them out")
        images = read_images(config.data, model.shape)
        _check_count(config, len(images))
        return Noised(FILE, model, none, unknown, images[:count], config.seed, device, dtype)
    own = model.held_out()
    if config.states == "data" and own is None:
        raise refusal("states: got data, which this model lacks; name a file with --data, or use --states samples")
    sampled = config.states == "samples" or own is None
    if len(targets) == 1:
        labels = [targets[0].labels[i % len(targets[0].labels)] for i in range(count)]
        truth = (torch.arange(count) % len(targets[0].labels))[:, None]
        found = None if sampled else _of_labels(config, model, targets[0])
        return Noised(SAMPLES if sampled else DATA, model, labels, truth, found, config.seed, device, dtype)
    if sampled:
        truth = _random_values(config, targets)
        return Noised(SAMPLES, model, _together(targets, truth), truth, None, config.seed, device, dtype)
    assert own is not None
    assert model.images is not None
    _check_count(config, len(own))
    truth = torch.stack([target.truth(model.images)[:count] for target in targets], 1) if targets else unknown
    return Noised(DATA, model, none, truth, own[:count], config.seed, device, dtype)


def _of_labels(config: Config, model: Model, target: Target) -> Tensor:
    """Return held-out data of each label in turn."""
    each = [model.held_out(label) for label in target.labels]
    found = torch.empty(config.trajectories, *model.shape)
    for place, images in enumerate(each):
        assert images is not None
        own = range(place, config.trajectories, len(each))
        _check_count(config, len(images), len(own), len(each))
        found[list(own)] = images[: len(own)]
    return found


def _random_values(config: Config, targets: Sequence[Target]) -> Tensor:
    """Return a value of each attribute for each trajectory, all combinations equally likely."""
    rows = []
    for i in range(config.trajectories):
        stream = torch.Generator().manual_seed(stream_seed(config.seed, i, tag("attributes")))
        rows.append([int(torch.randint(len(target.labels), (1,), generator=stream)) for target in targets])
    return torch.tensor(rows, dtype=torch.int64).reshape(config.trajectories, len(targets))


def _together(targets: Sequence[Target], truth: Tensor) -> list[Label]:
    """Return the label that asks for all values of each trajectory at once."""
    rows: list[list[int]] = truth.tolist()
    return ["+".join(str(t.labels[v]) for t, v in zip(targets, row, strict=True)) or None for row in rows]


def _check_count(config: Config, there: int, wanted: int | None = None, labels: int = 1) -> None:
    if (config.trajectories if wanted is None else wanted) > there:
        raise refusal(
            f"trajectories: got {config.trajectories}; expected at most {there * labels}, the held-out data; name more "
            "with --data, or use --states samples"
        )
