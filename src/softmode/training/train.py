"""Train a network: from a recipe to weights, resumable at any step."""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from softmode.bounds import build, shown, shown_path
from softmode.data import Images
from softmode.device import parse_device
from softmode.model import Model
from softmode.networks.classifier import ImageClassifier
from softmode.networks.load import load_classifier, load_model
from softmode.runs.progress import duration, training_bar
from softmode.training import store
from softmode.training.config import TrainConfig
from softmode.training.directory import WEIGHTS, claim
from softmode.training.memory import check_batch
from softmode.training.recipes import NETWORKS, check, check_images, read_images
from softmode.training.state import Training
from softmode.training.workers import Workers

SECONDS_BETWEEN_CHECKPOINTS = 300
# steps that are not timed, since the first is slower, and steps that are, before the whole time is estimated
WARM_UP, TIMED = 1, 2


def train(
    network: str | TrainConfig, out: str | Path = "runs/train", *, progress: bool = False, **settings: Any
) -> Model | ImageClassifier:
    """Train a network, as `softmode train` does, and return it as a model to probe, or as a classifier.

    Args:
        network: One of softmode models, for example fashion-mnist; or a config.
        out: Directory of the training; one that holds an unfinished training of the same settings is resumed.
        progress: Whether to show a progress bar.
        **settings: Any field of `TrainConfig`, for example `epochs=1`.

    Raises:
        ValueError: If a setting or the directory is unusable; nothing is written then.
        NonFiniteLossError: If the loss becomes NaN or infinite; the last checkpoint and weights are kept.
        OSError: If a file cannot be written.
    """
    own = vars(network) if isinstance(network, TrainConfig) else {"network": network}
    config = build(TrainConfig, {**own, **settings})
    path = str(run(config, out, progress=progress))
    if NETWORKS[config.network].architecture == "classifier":
        return load_classifier(path, config.device)
    return replace(load_model(path, device=config.device), name=str(out))


def run(
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
        OSError: If a file cannot be written.

    Source: paper F.4; the averaged weights: karras2022.
    """
    config, network = check(config)
    if not str(out) or "\0" in str(out):
        raise ValueError(f"out: got {shown_path(out)}; expected a directory, for example runs/train")
    device = parse_device(config.device)
    images, held_out = data or read_images(config, network)
    if config.batch is not None and len(images) < config.batch:
        raise ValueError(
            f"batch: got {shown(config.batch)}; expected at most {len(images)}, the number of training images"
        )
    check_images(images, network)
    workers = Workers.of(device, config)
    training = Training(config, network, Path(out), images, held_out, device, workers)
    check_batch(training)
    with claim(training.out, workers):
        store.resume(training)
        try:
            _take_steps(training, progress)
        except torch.cuda.OutOfMemoryError:
            raise ValueError(
                f"batch: got {training.settings[1]}; expected fewer images: a step does not fit into memory of {device}"
            ) from None
    return training.out / WEIGHTS


def _take_steps(training: Training, progress: bool) -> None:
    """Train up to the config's number of epochs, measuring and writing the weights after each and at the end."""
    speaks, first = training.workers.rank == 0, training.step
    begun = saved = time.monotonic()
    with training_bar(progress and speaks, first, training.total) as (say, advance):
        while training.step < training.total:
            training.losses.append(training.train_step())
            training.step += 1
            advance(training.losses[-1])
            if training.step == first + WARM_UP:
                begun = time.monotonic()
            if training.step == first + WARM_UP + TIMED and speaks:
                say(_estimate(training, (time.monotonic() - begun) / TIMED, training.total - first))
            if training.step % training.steps_per_epoch == 0 or training.step == training.total:
                line = _finish_epoch(training)
                if speaks:
                    say(line)
                saved = time.monotonic()
            elif time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                store.write_checkpoint(training)
                saved = time.monotonic()
    training.workers.wait()


def _estimate(training: Training, seconds: float, steps: int) -> str:
    """Return a line on how long steps of so many seconds take."""
    images = training.settings[1]
    return f"about {duration(seconds * steps)} for {steps} steps of {images} images on {training.device}"


def _finish_epoch(training: Training) -> str:
    """Measure the averaged weights on held-out images, write everything, and return a line to print."""
    measured = training.measure(training.averaged())
    mean = math.fsum(training.losses) / len(training.losses)
    training.history.append({"epoch": training.epochs, "step": training.step, "loss": mean, "held_out": measured})
    training.losses = []
    store.write_checkpoint(training)
    if training.workers.rank == 0:
        store.write_weights(training)
        store.write_history(training)
    score = f"accuracy {measured['accuracy']:.4f}" if "accuracy" in measured else f"held-out {measured['mean']:.4f}"
    return f"epoch {training.epochs:g}/{training.settings[0]:g}  loss {mean:.4f}  {score}"
