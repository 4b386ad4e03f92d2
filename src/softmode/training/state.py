"""A network in training, step by step, on one device or several.

Every random number of step n comes from a generator of its own, seeded by (seed, n), so that a training that is resumed
ends bit-identical to one that was not, and its batches do not depend on the number of processes.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from softmode.bounds import shown_path
from softmode.data import Images
from softmode.exact.gaussian import GaussianDenoiser
from softmode.networks.card import Card
from softmode.networks.shipped import find_weights, start_from
from softmode.runs import provenance
from softmode.streams import stream_seed
from softmode.training.checkpoint import digest
from softmode.training.config import TrainConfig
from softmode.training.directory import CHECKPOINT
from softmode.training.objectives import HIGHEST, LOWEST, SHIFT, Classes, Edm, Noise, Objective
from softmode.training.recipes import Network, command, data_statistics, uses_bfloat16
from softmode.training.workers import Workers

# images that go through the U-Net at once on a CPU: a whole batch falls out of its cache and takes twice as long
CPU_IMAGES_AT_ONCE = 32
# fields of a config that the weights do not depend on
FREE = ("device", "data", "download")
# share of a training of the recipe edm in which the learning rate rises
WARM_UP = 0.05


def generator(device: torch.device, seed: int, *key: int) -> torch.Generator:
    """Return the generator of one stream of a training, for example of one step."""
    return torch.Generator(device).manual_seed(stream_seed(seed, *key))


# streams of random numbers: (ORDER, epoch), (STEP, step), (HELD_OUT, )
ORDER, STEP, HELD_OUT = range(3)


class NonFiniteLossError(ArithmeticError):
    """The loss or its gradient became NaN or infinite."""


class Training:
    """A network in training: its weights, their running average, the optimiser and the history of its epochs.

    Args:
        config: What to train, with its recipe's choices.
        kind: The config's network.
        out: Directory of the training.
        images: Training images.
        held_out: Held-out images.
        device: Where to train.
        workers: The processes that share the work.
    """

    def __init__(
        self,
        config: TrainConfig,
        kind: Network,
        out: Path,
        images: Images,
        held_out: Images,
        device: torch.device,
        workers: Workers,
    ) -> None:
        self.config, self.kind, self.out, self.device, self.workers = config, kind, out, device, workers
        self.images, self.held_out = images.to(device), held_out.to(device)
        self.card = Card(
            kind.architecture, images.shape[0], images.shape[1:], kind.classes, kind.data, kind.values,
            width=kind.width, attention=kind.attention, attributes=images.attributes,
        )  # fmt: skip
        labels, dropout = self.card.labels, config.label_dropout
        self.objective: Objective
        if kind.architecture == "classifier":
            self.objective = Classes(labels, SHIFT if config.recipe == "edm" else 0)
        elif config.recipe == "paper":
            self.objective = Noise(labels, dropout, config.t_max, config.t_min)
            self.card = replace(self.card, schedule="vp:1", t_min=config.t_min, t_max=config.t_max)
        else:
            sigma_data = float(self.images.tensor().std())
            spectrum, mean = (self.statistics[name][-1].to(device) for name in ("spectrum", "mean"))
            binary, null = kind.values == "binary", GaussianDenoiser(spectrum.double(), mean)
            self.objective = Edm(labels, dropout, sigma_data, null, binary)
            self.card = replace(
                self.card, schedule="vp:1", sigma_data=sigma_data, gaussian=True, rms=True, log_odds=binary,
                levels=(LOWEST, HIGHEST),
            )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.network = self.card.build()
        self.inputs = {
            "data": digest((images.pixels, images.labels)),
            "held_out": digest((held_out.pixels, held_out.labels)),
        }
        if config.start:
            self.load_start()
        self.step = 0
        self.bfloat16 = uses_bfloat16(config.precision, device)
        self.network.to(device)
        if self.bfloat16:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # missing in its stubs
        self.parallel = workers.wrap(self.network)
        betas = (0.9, 0.99) if config.recipe == "edm" else (0.9, 0.999)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.learning_rate, betas=betas)
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.history: list[dict[str, Any]] = []
        self.losses: list[float] = []

    @property
    def settings(self) -> tuple[float, int, float]:
        """Epochs, batch and learning rate, as the recipe has chosen them where the user has not."""
        config = self.config
        assert config.epochs is not None
        assert config.batch is not None
        assert config.learning_rate is not None
        return config.epochs, config.batch, config.learning_rate

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step: it rises for a twentieth of a training, and falls by half a cosine to 0."""
        rate = self.settings[2]
        if self.config.recipe == "paper":
            return rate
        warm = max(1, round(WARM_UP * self.total))
        if self.step < warm:
            return rate * (self.step + 1) / warm
        return rate * 0.5 * (1 + math.cos(math.pi * (self.step - warm) / max(1, self.total - warm)))

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch; images that fill no batch wait for another order."""
        return len(self.images) // self.settings[1]

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        return max(1, round(self.settings[0] * self.steps_per_epoch))

    @property
    def epochs(self) -> float:
        """Epochs that are done."""
        return self.step / self.steps_per_epoch

    @property
    def identity(self) -> dict[str, Any]:
        """What the weights are a function of: the config without what may change between two sittings.

        The learning rate falls towards the last epoch, so that only a training of F.4 can be prolonged.
        """
        free = ["epochs"] if self.config.recipe == "paper" else []
        return {name: value for name, value in self.recipe.items() if name not in free}

    @property
    def recipe(self) -> dict[str, Any]:
        """The config without what is of one machine: where the data lie, and the device."""
        return {name: value for name, value in asdict(self.config).items() if name not in FREE}

    def load_start(self) -> None:
        """Take the weights to start from; a training with a checkpoint needs them no more."""
        begun = (self.out / CHECKPOINT).exists()
        try:
            path = find_weights(self.config.start)
        except ValueError:
            if begun:
                return
            raise
        if not begun:
            start_from(self.network, self.config.start)
        self.inputs["start"] = digest((path.read_bytes(),))

    def train_step(self) -> float:
        """Take one optimiser step and return its loss, averaged over the batch and every process."""
        epoch, place = divmod(self.step, self.steps_per_epoch)
        stream, size = generator(torch.device("cpu"), self.config.seed, ORDER, epoch), self.settings[1]
        order = torch.randperm(len(self.images), generator=stream)
        batch = order[place * size : (place + 1) * size].to(self.device)
        terms = self.draw(batch, generator(self.device, self.config.seed, STEP, self.step))
        own = slice(self.workers.rank, None, self.workers.count)
        terms = tuple(term[own] for term in terms)
        share = len(terms[0])
        at_once = self.images_at_once(share)
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for start in range(0, share, at_once):
            part = tuple(term[start : start + at_once] for term in terms)
            with self.workers.hold(self.parallel, last=start + at_once >= share):
                loss = self.loss(self.parallel, *part).sum() / share
                loss.backward()
            total += loss.detach()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        value = self.workers.mean(total)
        if not (math.isfinite(value) and bool(torch.isfinite(norm))):
            kept = "keeps its last" if (self.out / CHECKPOINT).is_file() else "has no"
            raise NonFiniteLossError(
                f"loss: became NaN or infinite in epoch {epoch + 1}, step {place + 1} of {self.steps_per_epoch}; "
                f"{shown_path(self.out)} {kept} checkpoint: use a smaller learning_rate or float32"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        self.optimizer.step()
        self.update_average()
        return value

    def images_at_once(self, share: int) -> int:
        """Return how many of a process's share of a batch go through the network at once."""
        chunked = self.device.type == "cpu" and self.kind.architecture == "unet"
        return min(share, CPU_IMAGES_AT_ONCE) if chunked else share

    def draw(self, batch: Tensor, stream: torch.Generator) -> tuple[Tensor, ...]:
        """Return the images of a batch with everything random about them, and their labels."""
        return self.objective.draw(self.images.tensor(batch), self.images.labels[batch], stream)

    def loss(self, network: nn.Module, x: Tensor, *terms: Tensor) -> Tensor:
        """Return each image's loss, [image], the layers computed in the training's precision."""
        if self.bfloat16:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            return self.objective.loss(network, x, *terms)

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the averaged weights towards the present ones; the average is shorter over the first steps."""
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def averaged(self) -> nn.Module:
        """Return a network with the averaged weights, for evaluation."""
        network = self.card.build().to(self.device).eval()
        network.load_state_dict(self.average)
        return network

    @cached_property
    def statistics(self) -> Mapping[str, Tensor]:
        """What is kept of the data beside the weights."""
        return data_statistics(self.images, self.held_out, self.kind)

    def measure(self, network: nn.Module) -> dict[str, Any]:
        """Return what the objective measures on held-out images, in the training's precision."""
        stream = generator(torch.device("cpu"), self.config.seed, HELD_OUT)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            return self.objective.measure(network, self.held_out, stream)

    @property
    def finished_card(self) -> Card:
        """The card of the averaged weights after the last epoch of the history."""
        return replace(
            self.card,
            epochs=self.epochs,
            seed=self.config.seed,
            command=command(self.config, self.epochs),
            held_out=self.history[-1]["held_out"],
            made={"config": self.recipe, "versions": provenance.versions(), "bfloat16": self.bfloat16},
        )
