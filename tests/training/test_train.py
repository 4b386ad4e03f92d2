"""Whole trainings: what they write, and how they end."""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_training import (
    BINARY,
    CLASSIFIER,
    FILES,
    LABELLED,
    contents,
    data,
    make,
    record_draws,
    stop_after,
)
from torch import Tensor, nn

import softmode as sm
from softmode import cli
from softmode.networks.card import load_weights, read_tensors
from softmode.training import recipes, store, train
from softmode.training.config import TrainConfig
from softmode.training.directory import CHECKPOINT, WEIGHTS
from softmode.training.recipes import NETWORKS
from softmode.training.state import NonFiniteLossError, Training
from softmode.training.train import run


def test_an_epoch_shows_no_image_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All 32 of 32 images once, in another order each epoch and for another seed."""
    drawn = record_draws(monkeypatch)
    run(CLASSIFIER, tmp_path / "a", data(CLASSIFIER, 32))
    run(replace(CLASSIFIER, seed=1), tmp_path / "b", data(CLASSIFIER, 32))
    orders = [torch.cat([batch for batch, _ in drawn[i : i + 4]]).tolist() for i in (0, 4, 8, 12)]
    assert all(sorted(order) == list(range(32)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_images_that_fill_no_batch_wait_for_another_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """35 images make four batches of 8, and over some epochs every image has its turn."""
    drawn = record_draws(monkeypatch)
    run(replace(CLASSIFIER, epochs=4.0), tmp_path / "out", data(CLASSIFIER))
    assert [len(batch) for batch, _ in drawn] == [8] * 16
    assert len({int(i) for batch, _ in drawn for i in batch}) == 35


@pytest.mark.parametrize("config", [BINARY, CLASSIFIER], ids=lambda config: config.network)
def test_the_loss_decreases(config: TrainConfig, tmp_path: Path) -> None:
    """On 40 images seen several times; the noise on others that were never seen, too."""
    noisy = config is BINARY
    config = replace(config, epochs=5.0 if noisy else 12.0, learning_rate=1e-2, ema=0.5)
    run(config, tmp_path / "out", data(config, 40))
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    if noisy:
        assert history[-1]["held_out"]["mean"] < 0.8 * history[0]["held_out"]["mean"]


def test_the_network_of_the_paper_trains_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 64 and 128 channels: one epoch of two steps makes weights that load, with the data's card."""
    monkeypatch.setitem(NETWORKS, BINARY.network, replace(NETWORKS[BINARY.network], width=0))
    config = TrainConfig("fashion-mnist-binary", "paper", epochs=1.0, batch=8)
    path = run(config, tmp_path / "out", data(config, 16))
    network, card, _ = load_weights(path)
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_833_793
    assert (card.channels, card.size, card.classes, card.values) == (1, (8, 8), 0, "binary")


@pytest.mark.parametrize("config", [BINARY, LABELLED, CLASSIFIER], ids=lambda config: config.network)
def test_weights_are_the_average_with_a_card_that_tells_how(config: TrainConfig, tmp_path: Path) -> None:
    """In half precision; the card repeats the last line of the history, the process, seed and command."""
    config = replace(config, seed=3, t_min=0.01, t_max=20.0, ema=0.7)
    path = run(config, tmp_path / "out", data(config))
    assert path == tmp_path / "out" / WEIGHTS
    assert contents(tmp_path / "out").keys() == FILES
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
    assert (card.epochs, card.seed, card.classes) == (2, 3, NETWORKS[config.network].classes)
    noisy = config.network != CLASSIFIER.network
    assert (card.schedule, card.t_min, card.t_max) == (("vp:1", 0.01, 20.0) if noisy else ("", 0.0, 0.0))
    kept = dataclasses.asdict(config).items()
    assert card.made["config"] == {name: value for name, value in kept if name not in {"data", "device", "download"}}
    assert card.made["bfloat16"] is False
    assert card.made["versions"]["torch"] == torch.__version__
    assert card.command.startswith(f"softmode train {config.network} --recipe paper --epochs 2 ")


def test_the_history_has_a_line_per_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean loss of the epoch's steps, and the held-out loss at three times evenly spaced in log t."""
    step, losses = Training.train_step, []

    def recorded(self: Training) -> float:
        losses.append(step(self))
        return losses[-1]

    monkeypatch.setattr(Training, "train_step", recorded)
    config = replace(BINARY, t_min=0.01, t_max=1.0)
    run(config, tmp_path / "out", data(config))
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert [line["epoch"] for line in history] == [1, 2]
    assert [line["loss"] for line in history] == pytest.approx([np.mean(losses[:4]), np.mean(losses[4:])], rel=1e-12)
    for line in history:
        held_out = line["held_out"]
        assert held_out["t"] == pytest.approx([0.01, 0.1, 1.0], rel=1e-12)
        assert held_out["mean"] == pytest.approx(np.mean(held_out["loss"]), rel=1e-12)
        assert held_out["images"] == 7


def test_a_part_of_an_epoch_is_measured_and_written(tmp_path: Path) -> None:
    """Half an epoch ends with weights whose card says so, and goes on to the end of the epoch like one that did not."""
    for name, epochs in (("parts", (0.5, 1.0)), ("whole", (1.0,))):
        for sitting in epochs:
            path = run(replace(BINARY, epochs=sitting), tmp_path / name, data(BINARY))
            assert load_weights(path)[1].epochs == sitting
    parts, whole = (read_tensors(tmp_path / name / WEIGHTS)[0] for name in ("parts", "whole"))
    assert all(torch.equal(parts[name], whole[name]) for name in whole)


def test_checkpoints_are_as_far_apart_as_they_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a step of two seconds and five seconds between them: at steps 3 of 4 and at the end of each epoch."""
    write, clock, steps = store.write_checkpoint, [0.0], []

    def at(training: Training) -> None:
        steps.append(training.step)
        write(training)

    def two_seconds(self: Training) -> float:
        clock[0] += 2
        return 1.0

    monkeypatch.setattr(train, "SECONDS_BETWEEN_CHECKPOINTS", 5)
    monkeypatch.setattr(train.time, "monotonic", lambda: clock[0])
    made = make(BINARY, tmp_path)
    made.train_step()  # so that the optimiser has a state
    monkeypatch.setattr(store, "write_checkpoint", at)
    monkeypatch.setattr(Training, "train_step", two_seconds)
    train._take_steps(made, progress=False)
    assert steps == [3, 4, 7, 8]


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
            run(CLASSIFIER, tmp_path / "out", data(CLASSIFIER))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "out") in str(caught.value)
    _, card, _ = load_weights(tmp_path / "out" / WEIGHTS)
    assert card.epochs == 1
    run(CLASSIFIER, tmp_path / "out", data(CLASSIFIER))
    assert contents(tmp_path / "out") == contents(finished)


def test_a_learning_rate_that_is_far_too_large_is_noticed(tmp_path: Path) -> None:
    """Without any help: the weights overflow after the first step."""
    with pytest.raises(NonFiniteLossError, match=r"epoch 1, step [23] of 4"):
        run(replace(BINARY, learning_rate=1e30), tmp_path / "out", data(BINARY))
    run(BINARY, tmp_path / "out", data(BINARY))


def test_weights_of_another_network_are_refused_at_once(denoiser: Path, tmp_path: Path) -> None:
    """A U-Net for a classifier; nothing is written."""
    with pytest.raises(ValueError, match="another architecture than Classifier"):
        run(replace(CLASSIFIER, start=str(denoiser)), tmp_path / "out", data(CLASSIFIER))
    assert not (tmp_path / "out").exists()


def test_the_whole_time_is_estimated_from_the_first_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A slow first step, then 15 s each: 2 h for 480 steps, and 1 h 40 min for the 400 of one that goes on."""
    clock = [0.0]

    def slow(self: Training) -> float:
        clock[0] += 600.0 if clock[0] == 0 else 15.0
        return 1.0

    def estimates(made: Training) -> list[str]:
        train._take_steps(made, progress=False)
        return [line for line in capsys.readouterr().err.splitlines() if "about" in line]

    monkeypatch.setattr(train.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(train, "_finish_epoch", lambda made: "measured")
    monkeypatch.setattr(store, "write_checkpoint", lambda made: None)
    monkeypatch.setattr(Training, "train_step", slow)
    made = make(replace(BINARY, epochs=120.0), tmp_path)
    assert estimates(made) == ["about 2 hours for 480 steps of 8 images on cpu"]
    made.step = 80
    assert estimates(made) == ["about 100 min for 400 steps of 8 images on cpu"]


def test_python_gets_a_model_of_the_trained_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From plain values or a config: the denoiser that is loaded from its directory, or a classifier."""
    monkeypatch.setattr(
        recipes,
        "fashion_mnist",
        lambda split, values, *rest: data(BINARY if values == "binary" else CLASSIFIER)[split == "test"],
    )
    out = tmp_path / "out"
    model = sm.train("fashion-mnist-binary", recipe="paper", epochs=0.5, batch=8, precision="float32", out=out)
    loaded = sm.load_model(str(out))
    x, sigma = torch.randn(2, 1, 8, 8), torch.tensor([0.5, 5.0])
    assert torch.equal(model.denoiser()(x, sigma), loaded.denoiser()(x, sigma))
    assert (model.name, model.shape, model.card.epochs) == (str(out), (1, 8, 8), 0.5)
    again = sm.train(
        replace(TrainConfig("fashion-mnist-binary", "paper"), batch=8, precision="float32"), str(out), epochs=1
    )
    assert again.card.epochs == 1
    classified = sm.train("fashion-mnist-classifier", epochs=0.5, batch=8, precision="float32", out=tmp_path / "other")
    assert classified(x).shape == (2, 10)


def test_python_is_told_which_setting_is_unknown(tmp_path: Path) -> None:
    """By name, with the names that there are."""
    with pytest.raises(ValueError, match=r"^epoch: is no setting; expected one of network, recipe, epochs"):
        sm.train("fashion-mnist-binary", epoch=1, out=tmp_path / "out")
    with pytest.raises(ValueError, match=r"^recipe: got paper for avatars; expected edm: F.4 knows no attributes"):
        sm.train("avatars", recipe="paper", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("steps", "ends"),
    [
        (2, "there is no checkpoint yet, so the same command begins anew"),
        (5, "the same command resumes at the last checkpoint"),
    ],
)
def test_an_interruption_promises_what_is_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], steps: int, ends: str
) -> None:
    """Before the first epoch's end there is nothing to resume."""
    monkeypatch.setattr(recipes, "fashion_mnist", lambda split, *rest: data(CLASSIFIER)[split == "test"])
    stop_after(monkeypatch, steps)
    words = [
        "train",
        "fashion-mnist-classifier",
        "--batch",
        "8",
        "--precision",
        "float32",
        "--out",
        str(tmp_path / "out"),
    ]
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"error interrupted: {ends}"


@pytest.mark.parametrize(
    "words",
    [["--epochs", "1e12"], ["--batch", "1000000000"], ["--seed", str(2**63)], ["--clip", "inf"], ["--out", ""]],
    ids=" ".join,
)
def test_the_command_line_refuses_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """With exit code 2, the option's name and what is expected of it; nothing is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipes, "fashion_mnist", lambda split, *rest: data(CLASSIFIER)[split == "test"])
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", "fashion-mnist-classifier", *words])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error {words[0].removeprefix('--')}: got ")
    assert "; expected " in line
    assert list(tmp_path.iterdir()) == []
