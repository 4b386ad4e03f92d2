"""Tiny networks and images to train, and the plain formulas that trainings are compared with."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from softmode.data import Images
from softmode.training import held_out, recipes, state
from softmode.training.config import TrainConfig
from softmode.training.directory import CHECKPOINT, HISTORY, LOCK, WEIGHTS
from softmode.training.recipes import NETWORKS
from softmode.training.state import Training
from softmode.training.workers import Workers

CPU = torch.device("cpu")
BINARY = TrainConfig("fashion-mnist-binary", "paper", epochs=2.0, batch=8, learning_rate=1e-3, precision="float32")
LABELLED = replace(BINARY, network="fashion-mnist")
CLASSIFIER = replace(BINARY, network="fashion-mnist-classifier")
FILES = {CHECKPOINT, WEIGHTS, HISTORY}


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Few channels, though two in a group (one alone has no mean to learn); few held-out images and levels."""
    for name, network in NETWORKS.items():
        patch.setitem(NETWORKS, name, replace(network, width=4 if network.architecture == "classifier" else 16))
    patch.setattr(held_out, "IMAGES", 7)
    patch.setattr(held_out, "LEVELS", 3)
    patch.setattr(recipes, "KEPT_IMAGES", 4)
    patch.delenv("WORLD_SIZE", raising=False)


def copy_of(out: Path, tmp_path: Path) -> Path:
    copied = tmp_path / "copied"
    shutil.copytree(out, copied)
    return copied


def images(count: int, network: str, seed: int = 0) -> Images:
    """Blocks of 4x4 pixels on 8x8 sites: one tells the class, three are random; all classes in turn."""
    blocks = torch.randint(0, 256, (count, 1, 2, 2), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    labels = torch.arange(count) % 10
    blocks[:, 0, 0, 0] = 25 * labels
    pixels = blocks.repeat_interleave(4, 2).repeat_interleave(4, 3)
    return Images(pixels, labels, NETWORKS[network].values)


def data(config: TrainConfig, count: int = 35) -> tuple[Images, Images]:
    """Four batches of 8 an epoch and three images over; 12 held out."""
    return images(count, config.network), images(12, config.network, seed=1)


def make(config: TrainConfig, out: Path = Path("unused"), count: int = 35, rough: bool = True) -> Training:
    """A training that has not begun; rough weights give every parameter a gradient."""
    made = Training(config, NETWORKS[config.network], out, *data(config, count), CPU, Workers())
    if rough:
        stream = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in made.network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=stream))
        made.average = {name: value.clone() for name, value in made.network.state_dict().items()}
    return made


def contents(out: Path) -> dict[str, bytes]:
    """The files of a training; that of its lock says nothing."""
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != LOCK}


def record_draws(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
    """Keep the numbers of each batch's images and what was drawn for them."""
    draw, drawn = Training.draw, []

    def recorded(self: Training, batch: Tensor, stream: torch.Generator) -> tuple[Tensor, ...]:
        terms = draw(self, batch, stream)
        drawn.append((batch, terms))
        return terms

    monkeypatch.setattr(Training, "draw", recorded)
    return drawn


def plain_loss(network: nn.Module, terms: tuple[Tensor, ...], classes: int) -> Tensor:
    """F.4 in a few lines: the mean squared error of the noise at x_t = e^(-t/2) x + sqrt(1 - e^-t) noise."""
    if len(terms) == 2:
        return nn.CrossEntropyLoss()(network(terms[0]), terms[1])
    x, t, noise, labels = terms
    alpha, sigma = torch.exp(-t / 2)[:, None, None, None], torch.sqrt(1 - torch.exp(-t))[:, None, None, None]
    state = (alpha * x.double() + sigma * noise.double()).float()
    predicted = network(state, t, labels) if classes else network(state, t)
    return nn.MSELoss()(predicted, noise)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def draws(config: TrainConfig, steps: int, count: int = 2000) -> list[tuple[Tensor, ...]]:
    """What is drawn for batches of all images."""
    made = make(config, count=count)
    everything = torch.arange(count)
    return [made.draw(everything, state.generator(CPU, config.seed, state.STEP, step)) for step in range(steps)]


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Interrupt the training before its next step, as Ctrl-C would."""
    step, done = Training.train_step, []

    def interrupted(self: Training) -> float:
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(1)
        return step(self)

    monkeypatch.setattr(Training, "train_step", interrupted)
