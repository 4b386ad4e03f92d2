"""Training against plain loops, interrupted in every way, and shared by two processes. Networks and images are tiny."""

import copy
import dataclasses
import json
import math
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tyro
from softmode.config import TrainConfig
from softmode.recipes import RECIPES
from softmode.workers import Workers
from torch import Tensor, nn

from softmode import held_out, recipes, training
from softmode.data import Images
from softmode.device import parse_device
from softmode.networks import classifier, unet
from softmode.networks.card import load_weights, read_tensors, save_weights, write_tensors
from softmode.training import CHECKPOINT, WEIGHTS, NonFiniteLossError, Training, train

CPU = torch.device("cpu")
BINARY = TrainConfig("fashion-mnist-binary", epochs=2.0, batch=8, learning_rate=1e-3, precision="float32")
LABELLED = replace(BINARY, recipe="fashion-mnist-labelled")
CLASSIFIER = replace(BINARY, recipe="fashion-mnist-classifier")
FILES = {CHECKPOINT, WEIGHTS, "history.json"}


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Few channels, though two in a group (one alone has no mean to learn); few held-out images and levels."""
    patch.setattr(unet, "WIDTHS", (16, 32))
    patch.setattr(classifier, "WIDTHS", (4, 8, 8))
    patch.setattr(held_out, "IMAGES", 7)
    patch.setattr(held_out, "LEVELS", 3)
    patch.setattr(recipes, "KEPT_IMAGES", 4)
    patch.delenv("WORLD_SIZE", raising=False)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of CLASSIFIER, the quicker network, both epochs in one go."""
    out = tmp_path_factory.mktemp("finished") / "out"
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        train(CLASSIFIER, out, data(CLASSIFIER))
    return out


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of BINARY, one epoch."""
    out = tmp_path_factory.mktemp("denoiser") / "out"
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        train(replace(BINARY, epochs=1.0), out, data(BINARY))
    return out


def copy_of(out: Path, tmp_path: Path) -> Path:
    copied = tmp_path / "copied"
    shutil.copytree(out, copied)
    return copied


def images(count: int, recipe: str, seed: int = 0) -> Images:
    """Blocks of 4x4 pixels on 8x8 sites: one tells the class, three are random; all classes in turn."""
    blocks = torch.randint(0, 256, (count, 1, 2, 2), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    labels = torch.arange(count) % 10
    blocks[:, 0, 0, 0] = 25 * labels
    pixels = blocks.repeat_interleave(4, 2).repeat_interleave(4, 3)
    return Images(pixels, labels, RECIPES[recipe].values)


def data(config: TrainConfig, count: int = 35) -> tuple[Images, Images]:
    """Four batches of 8 an epoch and three images over; 12 held out."""
    return images(count, config.recipe), images(12, config.recipe, seed=1)


def make(config: TrainConfig, out: Path = Path("unused"), count: int = 35, rough: bool = True) -> Training:
    """A training that has not begun; rough weights give every parameter a gradient."""
    made = Training(config, RECIPES[config.recipe], out, *data(config, count), CPU, Workers())
    if rough:
        stream = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in made.network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=stream))
        made.average = {name: value.clone() for name, value in made.network.state_dict().items()}
    return made


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


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


@pytest.mark.parametrize("config", [BINARY, LABELLED, CLASSIFIER], ids=lambda config: config.recipe)
def test_the_gradient_is_that_of_a_plain_loss(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """To 1e-5 in every tensor, though the batch goes through the network in two unequal parts."""
    monkeypatch.setattr(training, "CPU_IMAGES_AT_ONCE", 5)
    drawn = record_draws(monkeypatch)
    made = make(replace(config, clip=1e9))
    network = copy.deepcopy(made.network)
    value = made.train_step()
    loss = plain_loss(network, drawn[0][1], made.recipe.classes)
    loss.backward()
    assert value == pytest.approx(loss.item(), rel=1e-5)
    largest = max(float(parameter.grad.norm()) for parameter in network.parameters())
    for (name, found), expected in zip(made.network.named_parameters(), network.parameters(), strict=True):
        assert float((found.grad - expected.grad).norm()) < 1e-5 * max(float(expected.grad.norm()), 1e-3 * largest), (
            name
        )


@pytest.mark.parametrize("config", [BINARY, LABELLED, CLASSIFIER], ids=lambda config: config.recipe)
def test_three_steps_are_those_of_a_plain_loop(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """AdamW on the clipped gradient, and the average w' = d w' + (1 - d) w, d = min(ema, (1 + n) / (10 + n))."""
    drawn = record_draws(monkeypatch)
    ema, clip = 0.15, 0.1
    made = make(replace(config, ema=ema, clip=clip))
    network = copy.deepcopy(made.network)
    average = {name: value.double() for name, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate)
    norms = []
    for step in range(3):
        made.losses.append(made.train_step())
        made.step += 1
        optimizer.zero_grad()
        plain_loss(network, drawn[step][1], made.recipe.classes).backward()
        gradients = [parameter.grad for parameter in network.parameters()]
        norms.append(math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients)))
        for gradient in gradients:
            gradient.mul_(min(1.0, clip / norms[-1]))
        optimizer.step()
        decay = min(ema, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            average[name] = decay * average[name] + (1 - decay) * value.double()
    assert min(norms) > clip
    state = network.state_dict()
    for name, value in made.network.state_dict().items():
        if not value.is_floating_point():
            assert int(value) == int(made.average[name]) == 3
            continue
        assert relative(value, state[name]) < 2e-5, name
        assert relative(made.average[name].double(), average[name]) < 2e-5, name
        assert relative(made.average[name], value) > 1e-6, name


def test_a_small_gradient_is_not_clipped_and_a_large_one_keeps_its_direction() -> None:
    """The norm of what the optimiser sees is the smaller of the gradient's and the limit."""
    seen = {}
    for clip in (1e9, 0.01):
        made = make(replace(BINARY, clip=clip))
        made.train_step()
        seen[clip] = torch.cat([parameter.grad.flatten() for parameter in made.network.parameters()])
    whole, clipped = seen[1e9], seen[0.01]
    assert float(whole.norm()) > 0.05
    assert float(clipped.norm()) == pytest.approx(0.01, rel=1e-3)
    assert float(nn.functional.cosine_similarity(whole, clipped, dim=0)) == pytest.approx(1, abs=1e-5)


def draws(config: TrainConfig, steps: int, count: int = 2000) -> list[tuple[Tensor, ...]]:
    """What is drawn for batches of all images."""
    made = make(config, count=count)
    everything = torch.arange(count)
    return [made.draw(everything, training.generator(CPU, config.seed, training.STEP, step)) for step in range(steps)]


def test_times_are_log_uniform() -> None:
    """log t is uniform between its ends: mean and ten bins within four standard errors, over 20000 times."""
    config = replace(BINARY, t_min=1e-2, t_max=20.0)
    t = torch.cat([terms[1] for terms in draws(config, 10)])
    assert t.dtype == torch.float64
    place = torch.log(t / 1e-2) / math.log(20.0 / 1e-2)
    assert 0 <= float(place.min()) < 1e-3
    assert 1 - 1e-3 < float(place.max()) <= 1
    assert abs(float(place.mean()) - 0.5) < 4 * math.sqrt(1 / 12 / len(t))
    bins = torch.histc(place, 10, 0.0, 1.0) / len(t)
    assert float((bins - 0.1).abs().max()) < 4 * math.sqrt(0.1 * 0.9 / len(t))


def test_noise_is_standard_normal_and_new_at_every_step_and_site() -> None:
    """Mean, variance and fourth moment, the correlation of sites, of images and of steps, within four errors."""
    first, second = (terms[2].flatten(1).double() for terms in draws(BINARY, 2))
    count = first.numel()
    assert abs(float(first.mean())) < 4 / math.sqrt(count)
    assert abs(float(first.square().mean()) - 1) < 4 * math.sqrt(2 / count)
    assert abs(float(first.pow(4).mean()) - 3) < 4 * math.sqrt(96 / count)
    for other in (first.roll(1, 0), first.roll(1, 1), second):
        assert abs(float((first * other).mean())) < 4 / math.sqrt(count)


def test_every_step_of_every_epoch_and_seed_has_its_own_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs of two steps with two seeds: eight noises and eight lists of times, no two alike."""
    drawn = record_draws(monkeypatch)
    for seed in (0, 1):
        made = make(replace(BINARY, seed=seed), count=16)
        for _ in range(4):
            made.train_step()
            made.step += 1
    for term in (1, 2):
        assert len({tuple(terms[term].flatten().tolist()) for _, terms in drawn}) == 8


def test_labels_are_dropped_by_their_share_at_any_time() -> None:
    """The label `classes` in 10% of images, of any log t and class, within four standard errors; others keep theirs."""
    own = torch.arange(2000) % 10
    places, classes = [], []
    for x, t, _, labels in draws(LABELLED, 5):
        dropped = labels == 10
        assert torch.equal(labels[~dropped], own[~dropped])
        assert torch.equal(x, images(2000, LABELLED.recipe).tensor())
        places.append(torch.log(t[dropped] / 1e-3) / math.log(50.0 / 1e-3))
        classes.append(own[dropped].double())
    place, dropped_class = torch.cat(places), torch.cat(classes)
    assert abs(len(place) / 10000 - 0.1) < 4 * math.sqrt(0.09 / 10000)
    assert abs(float(place.mean()) - 0.5) < 4 * math.sqrt(1 / 12 / len(place))
    assert abs(float(dropped_class.mean()) - 4.5) < 4 * math.sqrt(8.25 / len(place))
    kept = draws(replace(LABELLED, label_dropout=0.0), 1)[0][3]
    assert torch.equal(kept, own)


def test_the_classifier_sees_half_of_the_images_mirrored() -> None:
    """Left and right exchanged, never top and bottom; labels stay."""
    made = make(CLASSIFIER, count=2000)
    ramp = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(2000, 1, 8, 8)
    made.images = Images(ramp.contiguous(), made.images.labels, "grey")
    x, labels = made.draw(torch.arange(2000), torch.Generator().manual_seed(0))
    mirrored = x[:, 0, 0, 0] > x[:, 0, 0, -1]
    upright = made.images.tensor()
    assert torch.equal(x[~mirrored], upright[~mirrored])
    assert torch.equal(x[mirrored], upright[mirrored].flip(3))
    assert abs(float(mirrored.double().mean()) - 0.5) < 4 * math.sqrt(0.25 / 2000)
    assert torch.equal(labels, made.images.labels)


def test_an_epoch_shows_no_image_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All 32 of 32 images once, in another order each epoch and for another seed."""
    drawn = record_draws(monkeypatch)
    train(CLASSIFIER, tmp_path / "a", data(CLASSIFIER, 32))
    train(replace(CLASSIFIER, seed=1), tmp_path / "b", data(CLASSIFIER, 32))
    orders = [torch.cat([batch for batch, _ in drawn[i : i + 4]]).tolist() for i in (0, 4, 8, 12)]
    assert all(sorted(order) == list(range(32)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_images_that_fill_no_batch_wait_for_another_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """35 images make four batches of 8, and over some epochs every image has its turn."""
    drawn = record_draws(monkeypatch)
    train(replace(CLASSIFIER, epochs=4.0), tmp_path / "out", data(CLASSIFIER))
    assert [len(batch) for batch, _ in drawn] == [8] * 16
    assert len({int(i) for batch, _ in drawn for i in batch}) == 35


@pytest.mark.parametrize("config", [BINARY, CLASSIFIER], ids=lambda config: config.recipe)
def test_the_loss_decreases(config: TrainConfig, tmp_path: Path) -> None:
    """On 40 images seen several times; the noise on others that were never seen, too."""
    noisy = config is BINARY
    config = replace(config, epochs=5.0 if noisy else 12.0, learning_rate=1e-2, ema=0.5)
    train(config, tmp_path / "out", data(config, 40))
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    if noisy:
        assert history[-1]["held_out"]["mean"] < 0.8 * history[0]["held_out"]["mean"]


def test_the_network_of_the_paper_trains_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 64 and 128 channels: one epoch of two steps makes weights that load, with the data's card."""
    monkeypatch.setattr(unet, "WIDTHS", (64, 128))
    config = TrainConfig("fashion-mnist-binary", epochs=1.0, batch=8)
    path = train(config, tmp_path / "out", data(config, 16))
    network, card, _ = load_weights(path)
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_833_793
    assert (card.channels, card.size, card.classes, card.values) == (1, (8, 8), 0, "binary")


# what is written


@pytest.mark.parametrize("config", [BINARY, LABELLED, CLASSIFIER], ids=lambda config: config.recipe)
def test_weights_are_the_average_with_a_card_that_tells_how(config: TrainConfig, tmp_path: Path) -> None:
    """In half precision; the card repeats the last line of the history, the process, seed and command."""
    config = replace(config, seed=3, t_min=0.01, t_max=20.0, ema=0.7)
    path = train(config, tmp_path / "out", data(config))
    assert path == tmp_path / "out" / WEIGHTS
    assert {file.name for file in (tmp_path / "out").iterdir()} == FILES
    tensors, _ = read_tensors(tmp_path / "out" / CHECKPOINT)
    network, card, _ = load_weights(path)
    differences = 0.0
    for name, value in network.state_dict().items():
        average = tensors[f"average/{name}"]
        assert torch.equal(value, average.half().float() if value.is_floating_point() else average)
        differences += float((average - tensors[f"network/{name}"]).abs().sum())
    assert differences > 0.01
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert card.held_out == history[-1]["held_out"]
    assert (card.epochs, card.seed, card.classes) == (2, 3, RECIPES[config.recipe].classes)
    noisy = config.recipe != CLASSIFIER.recipe
    assert (card.schedule, card.t_min, card.t_max) == (("vp:1", 0.01, 20.0) if noisy else ("", 0.0, 0.0))
    assert card.made["config"] == dataclasses.asdict(config)
    assert card.made["bfloat16"] is False
    assert card.made["versions"]["torch"] == torch.__version__
    assert card.command.startswith(f"softmode train {config.recipe} --epochs 2 ")


def test_the_history_has_a_line_per_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean loss of the epoch's steps, and the held-out loss at three times evenly spaced in log t."""
    step, losses = Training.train_step, []

    def recorded(self: Training) -> float:
        losses.append(step(self))
        return losses[-1]

    monkeypatch.setattr(Training, "train_step", recorded)
    config = replace(BINARY, t_min=0.01, t_max=1.0)
    train(config, tmp_path / "out", data(config))
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert [line["epoch"] for line in history] == [1, 2]
    assert [line["loss"] for line in history] == pytest.approx([np.mean(losses[:4]), np.mean(losses[4:])], rel=1e-12)
    for line in history:
        held_out = line["held_out"]
        assert held_out["t"] == pytest.approx([0.01, 0.1, 1.0], rel=1e-12)
        assert held_out["mean"] == pytest.approx(np.mean(held_out["loss"]), rel=1e-12)
        assert held_out["images"] == 7


@pytest.mark.parametrize("config", [BINARY, LABELLED], ids=lambda config: config.recipe)
def test_the_held_out_loss_is_that_of_a_plain_loss(config: TrainConfig) -> None:
    """Per level over seven images with their labels and fixed noise, with the standard error of the mean."""
    made = make(config)
    _, held_out = data(config)
    measured = made.measure(made.network)
    assert measured == made.measure(made.network)
    noise = torch.randn(7, 1, 8, 8, generator=training.generator(CPU, config.seed, training.HELD_OUT))
    for t, loss, stderr in zip(measured["t"], measured["loss"], measured["stderr"], strict=True):
        times = torch.full((1,), t, dtype=torch.float64)
        each = []
        for i in range(7):
            terms = held_out.tensor()[i : i + 1], times, noise[i : i + 1], held_out.labels[i : i + 1]
            each.append(plain_loss(made.network, terms, made.recipe.classes).item())
        assert loss == pytest.approx(np.mean(each), rel=1e-5)
        assert stderr == pytest.approx(np.std(each, ddof=1) / math.sqrt(7), rel=1e-4)


def test_a_classifier_is_measured_by_its_share_of_right_answers() -> None:
    """Over all held-out images, more than go through at once."""
    made = make(CLASSIFIER)
    made.held_out = images(1203, CLASSIFIER.recipe)

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.eye(10)[2].expand(len(x), 10)

    assert made.measure(Constant()) == {"accuracy": 121 / 1203, "images": 1203}


def dense_variance(x: np.ndarray, wave: tuple[int, int]) -> float:
    """v.Cv of the dense covariance C of single-channel fields, v the unit Fourier mode of a wave number."""
    height, width = x.shape[-2:]
    covariance = np.cov(x.reshape(len(x), -1).astype(np.float64), rowvar=False)
    rows, columns = np.mgrid[:height, :width]
    mode = np.exp(2j * np.pi * (wave[0] * rows / height + wave[1] * columns / width)).ravel() / math.sqrt(
        height * width
    )
    return float((mode.conj() @ covariance @ mode).real)


@pytest.mark.parametrize("config", [BINARY, LABELLED], ids=lambda config: config.recipe)
def test_statistics_of_the_data_are_those_of_the_dense_covariance(config: TrainConfig, tmp_path: Path) -> None:
    """The spectrum along four modes and the mean, by class where there are classes and for all images last."""
    pixels = torch.randint(0, 256, (60, 1, 4, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    recipe = RECIPES[config.recipe]
    labels = torch.arange(60) % 10
    pixels[:, :, :, :4] //= 1 + labels[:, None, None, None].to(torch.uint8)
    found = recipes.data_statistics(Images(pixels, labels, recipe.values), images(12, config.recipe), recipe)
    values = pixels.numpy() / 127.5 - 1
    values = np.where(values > 0, 1.0, -1.0) if recipe.values == "binary" else values
    groups = [*(labels.numpy() == c for c in range(recipe.classes)), np.full(60, True)]
    assert found["spectrum"].shape == (len(groups), 4, 8)
    assert found["mean"].shape == (len(groups), 1, 4, 8)
    for group, spectrum, mean in zip(groups, found["spectrum"], found["mean"], strict=True):
        np.testing.assert_allclose(mean.numpy(), values[group].mean(0), atol=1e-6)
        for wave in ((0, 0), (1, 0), (0, 3), (2, 5)):
            assert float(spectrum[wave]) == pytest.approx(dense_variance(values[group], wave), rel=1e-4)
    assert torch.equal(found["images"], images(12, config.recipe).pixels[:4])
    assert found["labels"].tolist() == [0, 1, 2, 3]


def test_a_classifier_keeps_no_statistics() -> None:
    """It is no denoiser, so there is no null model of it."""
    assert recipes.data_statistics(*data(CLASSIFIER), RECIPES[CLASSIFIER.recipe]) == {}


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig("fashion-mnist"),
        TrainConfig("fashion-mnist", epochs=7.0, batch=32, learning_rate=3e-5, clip=0.25, ema=0.99, label_dropout=0.0),
        TrainConfig("fashion-mnist-labelled", t_max=20.0, t_min=1e-5, seed=12, precision="float32"),
        TrainConfig("fashion-mnist-binary", start="my models/it's here"),
    ],
)
def test_the_command_on_the_card_is_the_config(config: TrainConfig) -> None:
    """Read back by a shell and the command line, it is the same training; where it ran and its data are left out."""
    made = Training.__new__(Training)
    made.config = replace(config, device="cuda", data="/somewhere", download=True)
    words = shlex.split(recipes.command(made.config, config.epochs))
    assert words[:2] == ["softmode", "train"]
    assert tyro.cli(TrainConfig, args=words[2:]) == config
    assert "--batch 256" not in recipes.command(made.config, 3.0)
    assert "--epochs 3" in recipes.command(made.config, 3.0)


# what is refused


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"recipe": "mnist"}, ("recipe", "'mnist'", "fashion-mnist-binary")),
        ({"epochs": 0.0}, ("epochs", "0", "positive")),
        ({"batch": 0}, ("batch", "0", "at least 1")),
        ({"batch": 36}, ("batch", "36", "at most 35")),
        ({"learning_rate": 0.0}, ("learning_rate", "0", "positive")),
        ({"learning_rate": math.nan}, ("learning_rate", "nan", "positive")),
        ({"learning_rate": math.inf}, ("learning_rate", "inf", "positive")),
        ({"clip": -1.0}, ("clip", "-1", "positive")),
        ({"ema": 1.0}, ("ema", "1", "below 1")),
        ({"ema": -0.1}, ("ema", "-0.1", "at least 0")),
        ({"label_dropout": 1.0}, ("label_dropout", "1", "below 1")),
        ({"label_dropout": math.nan}, ("label_dropout", "nan", "below 1")),
        ({"t_min": 0.0}, ("t_min", "0", "positive")),
        ({"t_min": 50.0}, ("t_max", "50", "above t_min")),
        ({"t_max": math.inf}, ("t_max", "inf", "finite")),
        ({"seed": -1}, ("seed", "-1", "at least 0")),
        ({"precision": "float16"}, ("precision", "'float16'", "auto, float32, bfloat16")),
        ({"device": "tpu"}, ("device", "'tpu'", "cpu")),
        ({"start": "no/such/weights"}, ("", "'no/such/weights'", "no file")),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_a_config_that_cannot_be_used_is_refused(
    tmp_path: Path, change: dict[str, Any], expected: tuple[str, ...]
) -> None:
    """The field, what came and what was expected, in one line; nothing is written."""
    config = copy.copy(BINARY)
    for name, value in change.items():
        object.__setattr__(config, name, value)  # as a caller could who does not check types
    with pytest.raises(ValueError, match=f"^{expected[0]}") as caught:
        train(config, tmp_path / "out", data(BINARY))
    for words in expected:
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["cuda:99", "meta", "mps:7", "privateuseone", "", "cpu:x"])
def test_devices_that_are_not_here_are_refused_in_a_line(name: str) -> None:
    """With their name and no page of torch's."""
    with pytest.raises(ValueError, match=r"^device: got ") as caught:
        parse_device(name)
    assert repr(name) in str(caught.value)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)
    assert parse_device("cpu") == CPU


@pytest.mark.parametrize(
    ("config", "change", "words"),
    [
        (BINARY, {"pixels": torch.zeros(35, 1, 8, 6, dtype=torch.uint8)}, r"\(8, 6\); expected .* divisible by 4"),
        (BINARY, {"values": "grey"}, "grey values; expected binary"),
        (LABELLED, {"labels": torch.arange(35) % 11}, "10 classes of at least two"),
        (LABELLED, {"labels": torch.arange(35) % 9}, r"3, 0\] images by class"),
        (CLASSIFIER, {"labels": torch.arange(35) // 2}, "10 classes of at least two"),
    ],
    ids=["sides", "values", "extra class", "empty class", "many classes"],
)
def test_images_that_do_not_fit_the_recipe_are_refused(
    tmp_path: Path, config: TrainConfig, change: dict[str, Any], words: str
) -> None:
    """Before the first step, not after the first epoch; nothing is written."""
    fitting, held_out = data(config)
    with pytest.raises(ValueError, match=f"^data: got .*{words}") as caught:
        train(config, tmp_path / "out", (replace(fitting, **change), held_out))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_directories_with_other_things_are_left_as_they_are(tmp_path: Path) -> None:
    """A file, a folder of notes, a file above the folder, someone else's and a broken checkpoint."""
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    for name in ("broken", "foreign"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / CHECKPOINT).write_bytes(b"half a checkpoint")
    write_tensors(tmp_path / "foreign" / CHECKPOINT, {"x": torch.ones(2)}, {"format": "pt"})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for place, words in (
        (notes, "holds no training"),
        (tmp_path, "holds no training"),
        (notes / "out", "cannot make"),
        (tmp_path / "broken", "truncated"),
        (tmp_path / "foreign", "recipe None instead of 'fashion-mnist-classifier'"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            train(CLASSIFIER, place, data(CLASSIFIER))
        assert str(place) in str(caught.value)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("recipe", "fashion-mnist"),
        ("batch", 4),
        ("learning_rate", 2e-3),
        ("clip", 2.0),
        ("ema", 0.5),
        ("label_dropout", 0.2),
        ("t_max", 20.0),
        ("t_min", 1e-2),
        ("start", "other"),
        ("seed", 1),
        ("precision", "bfloat16"),
    ],
)
def test_a_training_of_another_config_is_not_resumed(finished: Path, tmp_path: Path, field: str, value: object) -> None:
    """Every field that the weights depend on is compared, and named with both values."""
    copied = copy_of(finished, tmp_path)
    config = replace(CLASSIFIER, **{field: value})
    with pytest.raises(ValueError, match=rf"^out: .*{field} .* instead of ") as caught:
        train(config, copied, data(config))
    for shown in (value, getattr(CLASSIFIER, field)):
        assert repr(shown) in str(caught.value)
    assert contents(copied) == contents(finished)


# interrupted and resumed


@pytest.mark.parametrize(
    "config",
    [LABELLED, CLASSIFIER, replace(BINARY, precision="bfloat16")],
    ids=lambda config: f"{config.recipe}-{config.precision}",
)
def test_two_sittings_end_like_one(config: TrainConfig, tmp_path: Path) -> None:
    """One epoch, then another: checkpoint, weights and history are the same bytes."""
    train(config, tmp_path / "one", data(config))
    train(replace(config, epochs=1.0), tmp_path / "two", data(config))
    assert contents(tmp_path / "one") != contents(tmp_path / "two")
    train(config, tmp_path / "two", data(config))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Interrupt the training before its next step, as Ctrl-C would."""
    step, done = Training.train_step, []

    def interrupted(self: Training) -> float:
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(1)
        return step(self)

    monkeypatch.setattr(Training, "train_step", interrupted)


@pytest.mark.parametrize("config", [LABELLED, CLASSIFIER], ids=lambda config: config.recipe)
def test_a_training_interrupted_at_every_third_step_ends_like_one_that_was_not(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight steps in three sittings, in the middle of epochs: the same bytes."""
    train(config, tmp_path / "one", data(config))
    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", -1)
    for _ in range(2):
        with monkeypatch.context() as patch:
            stop_after(patch, 3)
            with pytest.raises(KeyboardInterrupt):
                train(config, tmp_path / "many", data(config))
    train(config, tmp_path / "many", data(config))
    assert contents(tmp_path / "one") == contents(tmp_path / "many")


def test_steps_since_the_last_checkpoint_are_taken_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the second epoch with the first epoch's checkpoint only."""
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            train(CLASSIFIER, tmp_path / "out", data(CLASSIFIER))
    assert len(json.loads((tmp_path / "out" / "history.json").read_text())) == 1
    train(CLASSIFIER, tmp_path / "out", data(CLASSIFIER))
    assert contents(tmp_path / "out") == contents(finished)


def test_checkpoints_are_as_far_apart_as_they_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a step of two seconds and five seconds between them: at steps 3 of 4 and at the end of each epoch."""
    write, clock, steps = Training.write_checkpoint, [0.0], []

    def at(self: Training) -> None:
        steps.append(self.step)
        write(self)

    def two_seconds(self: Training) -> float:
        clock[0] += 2
        return 1.0

    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", 5)
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])
    made = make(BINARY, tmp_path)
    made.train_step()  # so that the optimiser has a state
    monkeypatch.setattr(Training, "write_checkpoint", at)
    monkeypatch.setattr(Training, "train_step", two_seconds)
    made.run()
    assert steps == [3, 4, 7, 8]


@pytest.mark.parametrize("epoch", [1, 2])
def test_weights_lost_between_two_writings_are_written_on_resume(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    """A death after an epoch's checkpoint and before its weights, also the last epoch's."""
    calls = []

    def dies(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == epoch:
            raise KeyboardInterrupt
        save_weights(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_weights", dies)
        with pytest.raises(KeyboardInterrupt):
            train(CLASSIFIER, tmp_path / "out", data(CLASSIFIER))
    train(CLASSIFIER, tmp_path / "out", data(CLASSIFIER))
    assert contents(tmp_path / "out") == contents(finished)


def test_a_checkpoint_from_before_histories_counted_steps_is_resumed(finished: Path, tmp_path: Path) -> None:
    """Its weights are those of a training of today."""
    out = copy_of(finished, tmp_path)
    tensors, metadata = read_tensors(out / CHECKPOINT)
    stored = json.loads(metadata["softmode"])
    for line in stored["history"]:
        del line["step"]
    write_tensors(out / CHECKPOINT, tensors, {"softmode": json.dumps(stored)})
    config = replace(CLASSIFIER, epochs=3.0)
    found, expected = (read_tensors(train(config, path, data(config)))[0] for path in (out, tmp_path / "one"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("lost", [WEIGHTS, "history.json"])
def test_a_finished_training_writes_again_what_is_missing_and_no_more(
    finished: Path, tmp_path: Path, lost: str
) -> None:
    """Run again it returns at once with its weights, which it leaves as they are."""
    out = copy_of(finished, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert train(CLASSIFIER, out, data(CLASSIFIER)) == out / WEIGHTS
    assert times == {path: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / lost).unlink()
    train(CLASSIFIER, out, data(CLASSIFIER))
    assert contents(out) == contents(finished)


def test_what_a_killed_writing_has_left_is_swept(finished: Path, tmp_path: Path) -> None:
    """Half a file with a hidden name, before the first checkpoint and beside a later one."""
    for out in (tmp_path / "fresh", copy_of(finished, tmp_path)):
        out.mkdir(exist_ok=True)
        for name in (CHECKPOINT, WEIGHTS):
            (out / f".{name}-0123456789abcdef").write_bytes(b"half of it")
        train(CLASSIFIER, out, data(CLASSIFIER))
        assert contents(out) == contents(finished)


def test_where_it_runs_may_change_between_sittings(finished: Path, tmp_path: Path) -> None:
    """More epochs, another name of the device and of the data's directory: the training goes on."""
    out = copy_of(finished, tmp_path)
    config = replace(CLASSIFIER, epochs=3.0, device="cpu:0", data=str(tmp_path), download=True)
    _, card, _ = load_weights(train(config, out, data(CLASSIFIER)))
    assert card.epochs == 3
    assert len(json.loads((out / "history.json").read_text())) == 3


KILLED = """
import sys
sys.path.insert(0, {folder!r})
import pytest, torch
from softmode import held_out, recipes, training
from test_training import BINARY, data, shrink
torch.set_num_threads(1)
shrink(pytest.MonkeyPatch())
training.SECONDS_BETWEEN_CHECKPOINTS = -1
training.train(training.replace(BINARY, epochs=100.0), sys.argv[1], data(BINARY))
"""


def test_a_training_ended_by_kill_9_is_resumed(tmp_path: Path) -> None:
    """Killed wherever it is, most likely while it writes, it goes on from its last checkpoint to the same weights."""
    out = tmp_path / "out"
    script = tmp_path / "killed.py"
    script.write_text(KILLED.format(folder=str(Path(__file__).parent)))
    process = subprocess.Popen([sys.executable, str(script), str(out)], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while not (out / WEIGHTS).exists():
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = json.loads(read_tensors(out / CHECKPOINT)[1]["softmode"])["step"]
    assert 4 <= done < 400
    config = replace(BINARY, epochs=float(done // 4 + 1))
    train(config, out, data(config))
    train(config, tmp_path / "one", data(config))
    assert contents(out) == contents(tmp_path / "one")


# losses that are not finite


def break_loss(monkeypatch: pytest.MonkeyPatch, at: int, change: Callable[[Training, Tensor], Tensor]) -> None:
    loss = Training.loss

    def broken(self: Training, network: nn.Module, *terms: Tensor) -> Tensor:
        value = loss(self, network, *terms)
        return change(self, value) if self.step == at and network is self.parallel else value

    monkeypatch.setattr(Training, "loss", broken)


@pytest.mark.parametrize(
    "change",
    [
        lambda self, loss: loss * math.nan,
        lambda self, loss: loss + math.inf,
        lambda self, loss: loss + (0 * self.network.head.weight.sum()).sqrt(),
    ],
    ids=["nan", "inf", "gradient"],
)
def test_a_loss_that_is_not_finite_ends_the_training_and_keeps_its_checkpoint(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Training, Tensor], Tensor]
) -> None:
    """The sixth step is step 2 of epoch 2; what the first epoch left loads, and goes on once the cause is gone."""
    with monkeypatch.context() as patch:
        break_loss(patch, 5, change)
        with pytest.raises(NonFiniteLossError, match=r"epoch 2, step 2 of 4") as caught:
            train(CLASSIFIER, tmp_path / "out", data(CLASSIFIER))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "out") in str(caught.value)
    _, card, _ = load_weights(tmp_path / "out" / WEIGHTS)
    assert card.epochs == 1
    train(CLASSIFIER, tmp_path / "out", data(CLASSIFIER))
    assert contents(tmp_path / "out") == contents(finished)


def test_a_learning_rate_that_is_far_too_large_is_noticed(tmp_path: Path) -> None:
    """Without any help: the weights overflow after the first step."""
    with pytest.raises(NonFiniteLossError, match=r"epoch 1, step [23] of 4"):
        train(replace(BINARY, learning_rate=1e30), tmp_path / "out", data(BINARY))
    train(BINARY, tmp_path / "out", data(BINARY))


# weights to start from


def test_a_training_starts_from_other_weights(denoiser: Path, tmp_path: Path) -> None:
    """From a directory or a file; network and average are the stored halves."""
    stored, _, _ = load_weights(denoiser / WEIGHTS)
    for start in (denoiser, denoiser / WEIGHTS):
        made = make(replace(BINARY, start=str(start)), rough=False)
        for name, value in stored.state_dict().items():
            assert torch.equal(made.network.state_dict()[name], value)
            assert torch.equal(made.average[name], value)


def test_a_network_with_classes_starts_from_one_without(denoiser: Path) -> None:
    """The labels change nothing at first, and learn."""
    made = make(replace(LABELLED, start=str(denoiser)), rough=False)
    stored, _, _ = load_weights(denoiser / WEIGHTS)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0.1, 1.0])
    assert torch.equal(made.network(x, t, torch.tensor([3, 10])), stored(x, t))
    made.train_step()
    assert float(made.network.label.weight.detach().abs().sum()) > 0


def test_a_classifier_starts_from_a_classifier(tmp_path: Path) -> None:
    """With the running averages of its batch norms and their integer counts."""
    path = train(CLASSIFIER, tmp_path / "out", data(CLASSIFIER))
    made = make(replace(CLASSIFIER, start=str(path)), rough=False)
    stored, _, _ = load_weights(path)
    for name, value in stored.state_dict().items():
        assert torch.equal(made.network.state_dict()[name], value)


def test_weights_of_another_network_are_refused_at_once(denoiser: Path, tmp_path: Path) -> None:
    """A U-Net for a classifier; nothing is written."""
    with pytest.raises(ValueError, match="another architecture than Classifier"):
        train(replace(CLASSIFIER, start=str(denoiser)), tmp_path / "out", data(CLASSIFIER))
    assert not (tmp_path / "out").exists()


def test_weights_to_start_from_are_not_needed_to_resume(denoiser: Path, tmp_path: Path) -> None:
    """They are in the checkpoint."""
    start = copy_of(denoiser, tmp_path)
    config = replace(BINARY, start=str(start))
    train(replace(config, epochs=1.0), tmp_path / "out", data(BINARY))
    for path in start.iterdir():
        path.unlink()
    train(config, tmp_path / "out", data(BINARY))


# precision


@pytest.mark.parametrize(
    ("precision", "device", "has", "expected"),
    [
        ("bfloat16", "cpu", {}, True),
        ("float32", "cpu", {"avx512_bf16": True}, False),
        ("auto", "cpu", {}, False),
        ("auto", "cpu", {"avx512_bf16": False, "avx512_f": True}, False),
        ("auto", "cpu", {"avx512_bf16": True}, True),
        ("auto", "cpu", {"amx_bf16": True}, True),
        ("auto", "cuda", {"cuda": True}, True),
        ("auto", "cuda", {"cuda": False, "avx512_bf16": True}, False),
        ("float32", "cuda", {"cuda": True}, False),
    ],
)
def test_layers_compute_in_bfloat16_where_the_device_does(
    monkeypatch: pytest.MonkeyPatch, precision: str, device: str, has: dict[str, bool], expected: bool
) -> None:
    """As asked, and for auto by the instructions of the processor; emulation on a GPU does not count."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    supported = lambda including_emulation=True: including_emulation or has["cuda"]  # noqa: E731
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert recipes.uses_bfloat16(precision, torch.device(device)) is expected


def test_an_older_torch_that_cannot_tell_takes_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """auto does not fail there."""
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert recipes.uses_bfloat16("auto", CPU) is False


def test_bfloat16_is_an_approximation_and_weights_stay_in_single_precision() -> None:
    """Convolutions compute in bfloat16, the first loss differs from float32 by a little, in either direction."""
    exact, rounded = (make(replace(BINARY, precision=precision)) for precision in ("float32", "bfloat16"))
    dtypes: list[torch.dtype] = []
    for made in (exact, rounded):
        made.network.middle1.conv1.register_forward_hook(lambda *seen: dtypes.append(seen[2].dtype))
    losses = exact.train_step(), rounded.train_step()
    assert dtypes == [torch.float32, torch.bfloat16]
    assert 1e-6 < abs(losses[1] / losses[0] - 1) < 0.01
    assert {value.dtype for value in rounded.network.state_dict().values()} == {torch.float32}
    assert {value.dtype for value in rounded.average.values()} == {torch.float32}


# several processes


def test_a_batch_that_the_processes_cannot_share_evenly_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is written or another process is waited for."""
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="batch: got 8; expected a multiple of 3"):
        train(BINARY, tmp_path / "out", data(BINARY))
    assert not (tmp_path / "out").exists()


def test_several_processes_without_accelerate_say_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ValueError, match=r"softmode\[train\]"):
        train(BINARY, tmp_path / "out", data(BINARY))


SHARED = """
import sys
sys.path.insert(0, {folder!r})
import os, pytest, torch
from dataclasses import replace
from softmode import held_out, recipes, training
from softmode.networks import card
from test_training import BINARY, LABELLED, CLASSIFIER, data, shrink
torch.set_num_threads(1)
world = os.environ["WORLD_SIZE"]
shrink(pytest.MonkeyPatch())
os.environ["WORLD_SIZE"] = world
training.CPU_IMAGES_AT_ONCE = 3
out, write = sys.argv[1], training.write_tensors
def told(*arguments):
    print("wrote")
    write(*arguments)
card.write_tensors = training.write_tensors = told
for name, config in (("labelled", LABELLED), ("classifier", CLASSIFIER)):
    training.train(config, out + "/" + name, data(config, 27))
    training.train(replace(config, epochs=1.0), out + "/resumed-" + name, data(config, 27))
    training.train(config, out + "/resumed-" + name, data(config, 27))
try:
    training.train(replace(BINARY, learning_rate=1e30), out + "/diverged", data(BINARY, 27))
except training.NonFiniteLossError:
    print("refused NaN")
try:
    training.train(replace(CLASSIFIER, seed=5), out + "/classifier", data(CLASSIFIER, 27))
except ValueError as error:
    print("refused", error)
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, str]]]:
    """Trainings of two processes on this machine, and what each printed."""
    pytest.importorskip("accelerate")
    folder = tmp_path_factory.mktemp("shared")
    (folder / "script.py").write_text(SHARED.format(folder=str(Path(__file__).parent)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
        "ACCELERATE_MIXED_PRECISION": "bf16",  # as in a user's settings of accelerate: not obeyed
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, str(folder / "script.py"), str(folder / "out")],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        printed = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, (_, error) in zip(processes, printed, strict=True):
        assert process.returncode == 0, error
    return folder / "out", printed


def test_two_processes_train_the_same_weights_as_one(
    shared: tuple[Path, list[tuple[str, str]]], tmp_path: Path
) -> None:
    """Weights, average and the optimiser's means to 1e-5, the losses to 1e-6, by the same names in the same files."""
    together = shared[0] / "labelled"
    train(LABELLED, tmp_path / "alone", data(LABELLED, 27))
    assert {path.name for path in together.iterdir()} == FILES
    (one, metadata_one), (two, metadata_two) = (
        read_tensors(out / CHECKPOINT) for out in (tmp_path / "alone", together)
    )
    assert one.keys() == two.keys()
    for part in ("network/", "average/", "exp_avg/", "exp_avg_sq/"):
        first, second = (
            torch.cat([value.flatten() for name, value in tensors.items() if name.startswith(part)])
            for tensors in (one, two)
        )
        assert relative(second, first) < 1e-5, part
    stored = [json.loads(metadata["softmode"]) for metadata in (metadata_one, metadata_two)]
    assert stored[0]["identity"] == stored[1]["identity"]
    lines = [line for each in stored for line in each["history"]]
    assert [line["loss"] for line in lines[:2]] == pytest.approx([line["loss"] for line in lines[2:]], rel=1e-6)
    cards = [load_weights(out / WEIGHTS)[1] for out in (tmp_path / "alone", together)]
    assert cards[0].made == cards[1].made
    assert cards[0].held_out["loss"] == pytest.approx(cards[1].held_out["loss"], rel=1e-5)


@pytest.mark.parametrize("name", ["labelled", "classifier"])
def test_two_processes_resume_bit_identically(shared: tuple[Path, list[tuple[str, str]]], name: str) -> None:
    """One epoch and then another are the same bytes as both at once."""
    assert contents(shared[0] / f"resumed-{name}") == contents(shared[0] / name)


def test_only_the_first_of_two_processes_speaks_and_writes(shared: tuple[Path, list[tuple[str, str]]]) -> None:
    """Lines and files are the first's; both notice a diverging loss and a training of another config."""
    (out, error), (other_out, other_error) = shared[1]
    assert error.count("epoch 2/2") == 4
    assert "epoch" not in other_error
    assert "wrote" in out
    assert "wrote" not in other_out
    for printed in (out, other_out):
        assert "refused NaN" in printed
        assert "seed 0 instead of 5" in printed


def test_a_part_of_an_epoch_is_measured_and_written(tmp_path: Path) -> None:
    """Half an epoch ends with weights whose card says so, and goes on to the end of the epoch like one that did not."""
    for name, epochs in (("parts", (0.5, 1.0)), ("whole", (1.0,))):
        for sitting in epochs:
            path = train(replace(BINARY, epochs=sitting), tmp_path / name, data(BINARY))
            assert load_weights(path)[1].epochs == sitting
    parts, whole = (read_tensors(tmp_path / name / WEIGHTS)[0] for name in ("parts", "whole"))
    assert all(torch.equal(parts[name], whole[name]) for name in whole)
