"""Trainings that are interrupted and resumed in every way."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import (
    BINARY,
    CLASSIFIER,
    LABELLED,
    contents,
    copy_of,
    data,
    stop_after,
)

from softmode.networks.card import load_weights, read_tensors, save_weights, write_tensors
from softmode.training import store, train
from softmode.training.config import TrainConfig
from softmode.training.directory import CHECKPOINT, HISTORY, LOCK, WEIGHTS
from softmode.training.train import run


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("network", "fashion-mnist"),
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
        run(config, copied, data(config))
    for shown in (value, getattr(CLASSIFIER, field)):
        assert (f"{shown:g}" if isinstance(shown, float) else repr(shown)) in str(caught.value)
    assert contents(copied) == contents(finished)


@pytest.mark.parametrize(
    "config",
    [LABELLED, CLASSIFIER, replace(BINARY, precision="bfloat16")],
    ids=lambda config: f"{config.network}-{config.precision}",
)
def test_two_sittings_end_like_one(config: TrainConfig, tmp_path: Path) -> None:
    """One epoch, then another: checkpoint, weights and history are the same bytes."""
    run(config, tmp_path / "one", data(config))
    run(replace(config, epochs=1.0), tmp_path / "two", data(config))
    assert contents(tmp_path / "one") != contents(tmp_path / "two")
    run(config, tmp_path / "two", data(config))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("config", [LABELLED, CLASSIFIER], ids=lambda config: config.network)
def test_a_training_interrupted_at_every_third_step_ends_like_one_that_was_not(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight steps in three sittings, in the middle of epochs: the same bytes."""
    run(config, tmp_path / "one", data(config))
    monkeypatch.setattr(train, "SECONDS_BETWEEN_CHECKPOINTS", -1)
    for _ in range(2):
        with monkeypatch.context() as patch:
            stop_after(patch, 3)
            with pytest.raises(KeyboardInterrupt):
                run(config, tmp_path / "many", data(config))
    run(config, tmp_path / "many", data(config))
    assert contents(tmp_path / "one") == contents(tmp_path / "many")


def test_steps_since_the_last_checkpoint_are_taken_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the second epoch with the first epoch's checkpoint only."""
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            run(CLASSIFIER, tmp_path / "out", data(CLASSIFIER))
    assert len(json.loads((tmp_path / "out" / "history.json").read_text())) == 1
    run(CLASSIFIER, tmp_path / "out", data(CLASSIFIER))
    assert contents(tmp_path / "out") == contents(finished)


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
        patch.setattr(store, "save_weights", dies)
        with pytest.raises(KeyboardInterrupt):
            run(CLASSIFIER, tmp_path / "out", data(CLASSIFIER))
    with pytest.warns(UserWarning, match="weights.safetensors and history.json of .*: written again"):
        run(CLASSIFIER, tmp_path / "out", data(CLASSIFIER))
    assert contents(tmp_path / "out") == contents(finished)


def test_a_checkpoint_of_an_older_version_is_resumed(finished: Path, tmp_path: Path) -> None:
    """Without digests and numbers of steps: its weights are those of a training of today."""
    out = copy_of(finished, tmp_path)
    tensors, metadata = read_tensors(out / CHECKPOINT)
    stored = json.loads(metadata["softmode"])
    for line in stored["history"]:
        del line["step"]
    del stored["inputs"], stored["tensors"]
    write_tensors(out / CHECKPOINT, tensors, {"softmode": json.dumps(stored)})
    (out / HISTORY).write_text(json.dumps(stored["history"], indent=1) + "\n")
    config = replace(CLASSIFIER, epochs=3.0)
    found, expected = (read_tensors(run(config, path, data(config)))[0] for path in (out, tmp_path / "one"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_finished_training_run_again_leaves_its_files_as_they_are(finished: Path, tmp_path: Path) -> None:
    """It returns its weights."""
    out = copy_of(finished, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in out.iterdir() if path.name != LOCK}
    assert run(CLASSIFIER, out, data(CLASSIFIER)) == out / WEIGHTS
    assert times == {path: path.stat().st_mtime_ns for path in out.iterdir() if path.name != LOCK}


def change_tensor(path: Path, name: str) -> None:
    """Change one number of a file that stays valid."""
    tensors, metadata = read_tensors(path)
    tensors[name].view(-1)[0] += 1
    write_tensors(path, tensors, metadata)


def change_card(path: Path) -> None:
    tensors, metadata = read_tensors(path)
    card = json.loads(metadata["softmode"])
    write_tensors(path, tensors, {"softmode": json.dumps(card | {"epochs": 30.0})})


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "weights deleted": (WEIGHTS, Path.unlink),
    "weights cut": (WEIGHTS, lambda path: path.write_bytes(path.read_bytes()[:100])),
    "weights empty": (WEIGHTS, lambda path: path.write_bytes(b"")),
    "another weight": (WEIGHTS, lambda path: change_tensor(path, "leave.bias")),
    "another mean": (WEIGHTS, lambda path: change_tensor(path, "data.mean")),
    "another card": (WEIGHTS, change_card),
    "card a list": (WEIGHTS, lambda path: write_tensors(path, {}, {"softmode": "[]"})),
    "card nested": (WEIGHTS, lambda path: write_tensors(path, {}, {"softmode": "[" * 100000})),
    "no card": (WEIGHTS, lambda path: write_tensors(path, {}, {})),
    "history deleted": (HISTORY, Path.unlink),
    "history cut": (HISTORY, lambda path: path.write_text(path.read_text()[:40])),
    "history of bytes": (HISTORY, lambda path: path.write_bytes(b"\xff\xfe")),
    "another history": (HISTORY, lambda path: path.write_text("[]\n")),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_lost_is_written_again_from_the_checkpoint(denoiser: Path, tmp_path: Path, kind: str) -> None:
    """The same bytes, and one line that says so: a damaged file passed for the result before."""
    name, damage = DAMAGE[kind]
    out = copy_of(denoiser, tmp_path)
    damage(out / name)
    with pytest.warns(UserWarning, match=f"^{name} of .*: written again from the checkpoint"):
        run(replace(BINARY, epochs=1.0), out, data(BINARY))
    assert contents(out) == contents(denoiser)


def test_weights_lost_within_an_epoch_are_made_by_the_rest_of_it(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint of step 6 lacks the average of step 4, but has the history."""
    monkeypatch.setattr(train, "SECONDS_BETWEEN_CHECKPOINTS", -1)
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            run(CLASSIFIER, tmp_path / "out", data(CLASSIFIER))
    for name in (WEIGHTS, HISTORY):
        (tmp_path / "out" / name).unlink()
    with pytest.warns(UserWarning, match=r"^history\.json of "):
        run(CLASSIFIER, tmp_path / "out", data(CLASSIFIER))
    assert contents(tmp_path / "out") == contents(finished)


def test_other_images_are_refused_by_name(finished: Path, tmp_path: Path) -> None:
    """One pixel, one label, or other held-out images: a resumed training mixed them in silence."""
    out = copy_of(finished, tmp_path)
    own, held_out = data(CLASSIFIER)
    pixels, labels = own.pixels.clone(), own.labels.clone()
    pixels[3, 0, 2, 1] ^= 1
    labels[[0, 1]] = labels[[1, 0]]
    for given, words in (
        ((replace(own, pixels=pixels), held_out), "training images"),
        ((replace(own, labels=labels), held_out), "training images"),
        ((own, own.first(12)), "held-out images"),
    ):
        with pytest.raises(ValueError, match=f"^data: got other {words} .*SHA-256") as caught:
            run(replace(CLASSIFIER, epochs=3.0), out, given)
        assert len(str(caught.value)) <= 300
    assert contents(out) == contents(finished)


def test_fewer_epochs_than_are_done_are_refused(finished: Path, tmp_path: Path) -> None:
    """The weights on disk are not those that are asked for."""
    out = copy_of(finished, tmp_path)
    with pytest.raises(ValueError, match=r"^epochs: got 1; .* for 2: raise epochs or choose another directory"):
        run(replace(CLASSIFIER, epochs=1.0), out, data(CLASSIFIER))
    assert contents(out) == contents(finished)


def test_where_it_runs_may_change_between_sittings(finished: Path, tmp_path: Path) -> None:
    """More epochs, another name of the device and of the data's directory: the training goes on."""
    out = copy_of(finished, tmp_path)
    config = replace(CLASSIFIER, epochs=3.0, device="cpu:0", data=str(tmp_path), download=True)
    _, card, _ = load_weights(run(config, out, data(CLASSIFIER)))
    assert card.epochs == 3
    assert len(json.loads((out / "history.json").read_text())) == 3


def test_weights_to_start_from_are_not_needed_to_resume_but_may_not_change(denoiser: Path, tmp_path: Path) -> None:
    """They are in the checkpoint; others under the same name are refused."""
    start = copy_of(denoiser, tmp_path)
    config = replace(BINARY, start=str(start))
    run(replace(config, epochs=0.5), tmp_path / "out", data(BINARY))
    (start / WEIGHTS).rename(tmp_path / "elsewhere")
    run(replace(config, epochs=1.0), tmp_path / "out", data(BINARY))
    (tmp_path / "elsewhere").rename(start / WEIGHTS)
    change_tensor(start / WEIGHTS, "leave.bias")
    with pytest.raises(ValueError, match=r"^start: got other first weights than the training in .*SHA-256"):
        run(config, tmp_path / "out", data(BINARY))
