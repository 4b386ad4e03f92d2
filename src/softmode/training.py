"""Training: the paper's noise prediction (F.4), resumable at any step, on one device or several.

Every random number of step n comes from a generator of its own, seeded by (seed, n), so that a training that is resumed
ends bit-identical to one that was not, and its batches do not depend on the number of processes.
"""

import json
import math
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from softmode import provenance
from softmode.config import TrainConfig
from softmode.data import Images, fashion_mnist
from softmode.device import parse_device
from softmode.dynamics import trajectory_seed
from softmode.held_out import accuracy, loss_by_level
from softmode.networks.card import Card, check_state, read_tensors, save_weights, write_tensors
from softmode.networks.shipped import start_from
from softmode.process import VP
from softmode.progress import training_bar
from softmode.recipes import Recipe, check, check_images, command, data_statistics, uses_bfloat16
from softmode.workers import Workers

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"
SECONDS_BETWEEN_CHECKPOINTS = 300
# images that go through the U-Net at once on a CPU: a whole batch falls out of its cache and takes twice as long
CPU_IMAGES_AT_ONCE = 32


class NonFiniteLossError(ArithmeticError):
    """The loss or its gradient became NaN or infinite."""


def train(
    config: TrainConfig, out: str | Path, data: tuple[Images, Images] | None = None, progress: bool = False
) -> Path:
    """Train a network, or resume its training, and return the path of its weights.

    Args:
        config: What to train.
        out: Directory of the training; one that holds a training of the same config goes on.
        data: Training and held-out images; Fashion-MNIST when left out.
        progress: Whether to show a progress bar.

    Returns:
        `out/weights.safetensors`: the averaged weights in half precision, with their card.

    Raises:
        ValueError: If the config, the data or the directory is unusable; nothing is written then.
        NonFiniteLossError: If the loss becomes NaN or infinite; the last checkpoint and weights are kept.

    Source: paper F.4; the averaged weights: karras2022.
    """
    recipe = check(config)
    device = parse_device(config.device)
    images, held_out = data or tuple(
        fashion_mnist(split, recipe.values, config.data or None, config.download) for split in ("train", "test")
    )
    if len(images) < config.batch:
        raise ValueError(f"batch: got {config.batch}; expected at most {len(images)}, the number of training images")
    check_images(images, recipe)
    workers = Workers.of(device, config)
    training = Training(config, recipe, Path(out), images, held_out, device, workers)
    training.resume()
    training.run(progress)
    return Path(out) / WEIGHTS


def generator(device: torch.device, seed: int, *key: int) -> torch.Generator:
    """Return the generator of one stream of a training, for example of one step."""
    return torch.Generator(device).manual_seed(trajectory_seed(seed, *key))


# streams of random numbers: (ORDER, epoch), (STEP, step), (HELD_OUT, )
ORDER, STEP, HELD_OUT = range(3)


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
        if config.start and not (out / CHECKPOINT).exists():
            start_from(self.network, config.start)
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
    def epochs(self) -> float:
        """Epochs that are done."""
        return self.step / self.steps_per_epoch

    @property
    def identity(self) -> dict[str, Any]:
        """What the weights are a function of: the config without what may change between two sittings."""
        free = ("epochs", "device", "data", "download")
        return {name: value for name, value in asdict(self.config).items() if name not in free}

    def resume(self) -> None:
        """Take up the checkpoint of `out`, if there is one, or make the directory.

        Raises:
            ValueError: If the directory holds something else, or a training of another config.
        """
        path = self.out / CHECKPOINT
        # what a process that was killed while it wrote has left
        staged = [file for name in (CHECKPOINT, WEIGHTS) for file in self.out.glob(f".{name}-*")]
        if not path.exists():
            if self.out.exists() and (not self.out.is_dir() or set(self.out.iterdir()) - set(staged)):
                raise ValueError(f"out: {str(self.out)!r} exists and holds no training; choose another directory")
            try:
                self.out.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ValueError(f"out: cannot make {str(self.out)!r} ({error.strerror})") from None
        if self.workers.rank == 0:
            for file in staged:
                file.unlink(missing_ok=True)
        if not path.exists():
            return
        tensors, metadata = read_tensors(path)
        stored = json.loads(metadata.get("softmode", "{}"))
        before = stored.get("identity", {})
        changed = [f"{n} {before.get(n)!r} instead of {v!r}" for n, v in self.identity.items() if before.get(n) != v]
        if changed:
            raise ValueError(
                f"out: {str(self.out)!r} holds a training with {', '.join(changed)}; choose another directory"
            )
        parts: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            part, _, key = name.partition("/")
            parts.setdefault(part, {})[key] = value.to(self.device)
        check_state(self.network, parts["network"], str(path))
        self.network.load_state_dict(parts["network"])
        self.average = parts["average"]
        self.step, self.history, self.losses = stored["step"], stored["history"], stored["losses"]
        for name, parameter in self.network.named_parameters():
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(self.step)),
                "exp_avg": parts["exp_avg"][name],
                "exp_avg_sq": parts["exp_avg_sq"][name],
            }

    def run(self, progress: bool = False) -> None:
        """Train up to the config's number of epochs, measuring and writing the weights after each and at the end."""
        total = max(1, round(self.config.epochs * self.steps_per_epoch))
        saved = time.monotonic()
        if self.history and self.history[-1].get("step") == self.step:
            self.write_weights()
        with training_bar(progress and self.workers.rank == 0, self.step, total) as (say, advance):
            while self.step < total:
                self.losses.append(self.train_step())
                self.step += 1
                advance(self.losses[-1])
                if self.step % self.steps_per_epoch == 0 or self.step == total:
                    line = self.finish_epoch()
                    if self.workers.rank == 0:
                        say(line)
                    saved = time.monotonic()
                elif time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                    self.write_checkpoint()
                    saved = time.monotonic()
        self.workers.wait()

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
        at_once = CPU_IMAGES_AT_ONCE if self.device.type == "cpu" and self.recipe.architecture == "unet" else share
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
            raise NonFiniteLossError(
                f"loss: became NaN or infinite in epoch {epoch + 1}, step {place + 1} of {self.steps_per_epoch}; the "
                f"last checkpoint of {str(self.out)!r} is kept: use a smaller learning_rate or float32"
            )
        self.optimizer.step()
        self.update_average()
        return value

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

    def finish_epoch(self) -> str:
        """Measure the averaged weights on held-out images, write checkpoint and weights, return a line to print."""
        measured = self.measure(self.averaged())
        mean = math.fsum(self.losses) / len(self.losses)
        self.history.append({"epoch": self.epochs, "step": self.step, "loss": mean, "held_out": measured})
        self.losses = []
        self.write_checkpoint()
        self.write_weights()
        score = f"accuracy {measured['accuracy']:.4f}" if "accuracy" in measured else f"held-out {measured['mean']:.4f}"
        return f"epoch {self.epochs:g}/{self.config.epochs:g}  loss {mean:.4f}  {score}"

    def averaged(self) -> nn.Module:
        """Return a network with the averaged weights, for evaluation."""
        network = self.card.build().to(self.device).eval()
        network.load_state_dict(self.average)
        return network

    def write_weights(self) -> None:
        """Write the averaged weights of a finished epoch and then the history, unless both are already there."""
        path, history = self.out / "history.json", json.dumps(self.history, indent=1) + "\n"
        written = (self.out / WEIGHTS).is_file() and path.is_file() and path.read_text() == history
        if self.workers.rank or written:
            return
        card = replace(
            self.card,
            epochs=self.epochs,
            seed=self.config.seed,
            command=command(self.config, self.epochs),
            held_out=self.history[-1]["held_out"],
            made={"config": asdict(self.config), "versions": provenance.versions(), "bfloat16": self.bfloat16},
        )
        statistics = data_statistics(self.images, self.held_out, self.recipe)
        save_weights(self.out / WEIGHTS, self.averaged(), card, statistics)
        path.write_text(history)

    def measure(self, network: nn.Module) -> dict[str, Any]:
        """Return the held-out loss per noise level, or a classifier's accuracy."""
        if self.recipe.architecture == "classifier":
            return accuracy(network, self.held_out)
        noise = generator(torch.device("cpu"), self.config.seed, HELD_OUT)
        levels = self.config.t_max, self.config.t_min
        return loss_by_level(partial(self.loss, network), self.held_out, noise, *levels)

    def write_checkpoint(self) -> None:
        """Write everything that the next step depends on, atomically."""
        if self.workers.rank:
            return
        tensors = {f"network/{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average/{name}": value for name, value in self.average.items()}
        for name, parameter in self.network.named_parameters():
            state = self.optimizer.state[parameter]
            tensors |= {f"{key}/{name}": state[key] for key in ("exp_avg", "exp_avg_sq")}
        self.out.mkdir(parents=True, exist_ok=True)
        stored = {"identity": self.identity, "step": self.step, "history": self.history, "losses": self.losses}
        write_tensors(self.out / CHECKPOINT, tensors, {"softmode": json.dumps(stored)})
