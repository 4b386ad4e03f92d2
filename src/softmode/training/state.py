"""A network in training: the paper's noise prediction (F.4) step by step, on one device or several.

Every random number of step n comes from a generator of its own, seeded by (seed, n), so that a training that is resumed
ends bit-identical to one that was not, and its batches do not depend on the number of processes.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from softmode.bounds import shown_path
from softmode.data import Images
from softmode.networks.card import Card
from softmode.networks.shipped import find_weights, start_from
from softmode.process import VP
from softmode.runs import provenance
from softmode.streams import stream_seed
from softmode.training.checkpoint import digest
from softmode.training.config import TrainConfig
from softmode.training.directory import CHECKPOINT
from softmode.training.quality import accuracy, loss_by_level
from softmode.training.recipes import Recipe, command, data_statistics, uses_bfloat16
from softmode.training.workers import Workers

# images that go through the U-Net at once on a CPU: a whole batch falls out of its cache and takes twice as long
CPU_IMAGES_AT_ONCE = 32


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
        config: What to train.
        recipe: The config's recipe.
        out: Directory of the training.
        images: Training images.
        held_out: Held-out images.
        device: Where to train.
        workers: The processes that share the work.
    """

    def __init__(
        self,
        config: TrainConfig,
        recipe: Recipe,
        out: Path,
        images: Images,
        held_out: Images,
        device: torch.device,
        workers: Workers,
    ) -> None:
        self.config, self.recipe, self.out, self.device, self.workers = config, recipe, out, device, workers
        self.images, self.held_out = images.to(device), held_out.to(device)
        self.process = VP()
        self.card = Card(
            recipe.architecture, images.shape[0], images.shape[1:], recipe.classes, "Fashion-MNIST", recipe.values
        )
        if recipe.architecture == "unet":
            self.card = replace(self.card, schedule="vp:1", t_min=config.t_min, t_max=config.t_max)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.network = self.card.build()
        self.inputs = {
            "data": digest((images.pixels, images.labels)),
            "held_out": digest((held_out.pixels, held_out.labels)),
        }
        if config.start:
            self.load_start()
        self.bfloat16 = uses_bfloat16(config.precision, device)
        self.network.to(device)
        if self.bfloat16:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # missing in its stubs
        self.parallel = workers.wrap(self.network)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=config.learning_rate)
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.step = 0
        self.history: list[dict[str, Any]] = []
        self.losses: list[float] = []

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch; images that fill no batch wait for another order."""
        return len(self.images) // self.config.batch

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        return max(1, round(self.config.epochs * self.steps_per_epoch))

    @property
    def epochs(self) -> float:
        """Epochs that are done."""
        return self.step / self.steps_per_epoch

    @property
    def identity(self) -> dict[str, Any]:
        """What the weights are a function of: the config without what may change between two sittings."""
        free = ("epochs", "device", "data", "download")
        return {name: value for name, value in asdict(self.config).items() if name not in free}

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
        stream = generator(torch.device("cpu"), self.config.seed, ORDER, epoch)
        order = torch.randperm(len(self.images), generator=stream)
        batch = order[place * self.config.batch : (place + 1) * self.config.batch].to(self.device)
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
        self.optimizer.step()
        self.update_average()
        return value

    def images_at_once(self, share: int) -> int:
        """Return how many of a process's share of a batch go through the network at once."""
        chunked = self.device.type == "cpu" and self.recipe.architecture == "unet"
        return min(share, CPU_IMAGES_AT_ONCE) if chunked else share

    def draw(self, batch: Tensor, stream: torch.Generator) -> tuple[Tensor, ...]:
        """Return the images of a batch with everything random about them."""
        x, labels = self.images.tensor(batch), self.images.labels[batch]
        uniform = torch.rand(2, len(x), generator=stream, device=self.device, dtype=torch.float64)
        if self.recipe.architecture == "classifier":
            flipped = (uniform[0] < 0.5).reshape(-1, *[1] * (x.ndim - 1))
            return torch.where(flipped, x.flip(-1), x), labels
        span = math.log(self.config.t_max / self.config.t_min)
        t = self.config.t_min * torch.exp(uniform[0] * span)
        labels = torch.where(uniform[1] < self.config.label_dropout, self.recipe.classes, labels)
        return x, t, torch.randn(x.shape, generator=stream, device=self.device), labels

    def loss(self, network: nn.Module, x: Tensor, *terms: Tensor) -> Tensor:
        """Return each image's loss, [image]: cross entropy, or the squared error of the noise averaged over sites.

        Source: paper F.4, per site, so that the clipping of gradients does not depend on the image's size.
        """
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            if self.recipe.architecture == "classifier":
                logits: Tensor = network(x)
                return functional.cross_entropy(logits.float(), terms[0], reduction="none")
            t, noise, labels = terms
            alpha, sigma = (f(t).reshape(-1, 1, 1, 1).to(x.dtype) for f in (self.process.alpha, self.process.sigma))
            state = alpha * x + sigma * noise
            if self.bfloat16:
                state = state.contiguous(memory_format=torch.channels_last)
            predicted: Tensor = network(state, t, labels if self.recipe.classes else None)
        return (predicted.float() - noise).square().flatten(1).mean(1)

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
        return data_statistics(self.images, self.held_out, self.recipe)

    def measure(self, network: nn.Module) -> dict[str, Any]:
        """Return the held-out loss per noise level, or a classifier's accuracy."""
        if self.recipe.architecture == "classifier":
            return accuracy(network, self.held_out)
        noise = generator(torch.device("cpu"), self.config.seed, HELD_OUT)
        levels = self.config.t_max, self.config.t_min
        return loss_by_level(partial(self.loss, network), self.held_out, noise, *levels)

    @property
    def finished_card(self) -> Card:
        """The card of the averaged weights after the last epoch of the history."""
        return replace(
            self.card,
            epochs=self.epochs,
            seed=self.config.seed,
            command=command(self.config, self.epochs),
            held_out=self.history[-1]["held_out"],
            made={"config": asdict(self.config), "versions": provenance.versions(), "bfloat16": self.bfloat16},
        )
