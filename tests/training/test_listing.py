"""The list of models says what their cards say."""

from dataclasses import replace
from pathlib import Path

import pytest

from softmode.cli import main
from softmode.estimate import Estimate
from softmode.networks import shipped
from softmode.networks.card import Card, load_weights, save_weights
from softmode.runs.results import Quantity
from softmode.training.listing import models_table
from softmode.training.quality.measure import record

# as long as the longest name of a shipped network
NAMES = ("fashion-mnist-classifier", "fashion-mnist-with-edges", "ising-model-on-a-lattice")


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three networks as if they were shipped: a classifier, a denoiser, and one that nobody measured."""
    classifier = Card("classifier", 1, (8, 8), 10, "Fashion-MNIST", "grey", epochs=6.0, held_out={"accuracy": 0.92764})
    denoiser = Card("unet", 1, (8, 8), 0, "Ising", "binary", epochs=0.25, held_out={"mean": 0.01483})
    for name, card in zip(NAMES, (classifier, denoiser, replace(denoiser, held_out={})), strict=True):
        save_weights(tmp_path / f"{name}.safetensors", card.build(), card, {})
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path)
    return tmp_path


def test_every_network_has_its_data_classes_epochs_quality_and_size(three: Path) -> None:
    table, files = models_table()
    assert files == [(name, three / f"{name}.safetensors") for name in NAMES]
    assert table.columns == ("name", "data", "labels", "epochs", "held out", "MiB")
    sizes = [round((three / f"{name}.safetensors").stat().st_size / 2**20, 1) for name in NAMES]
    assert table.rows == (
        (NAMES[0], "Fashion-MNIST,\ngrey", "10\nclasses", 6.0, "accuracy\n0.9276", sizes[0]),
        (NAMES[1], "Ising,\nbinary", None, 0.25, "loss\n0.0148", sizes[1]),
        (NAMES[2], "Ising,\nbinary", None, 0.25, "unknown", sizes[2]),
    )


def test_what_quality_has_recorded_is_shown(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of samples that are recognised and the label's information; of a model without classes the distance."""
    path = three / f"{NAMES[1]}.safetensors"
    estimates = {"recognised": Estimate(0.876, 0.01, 9), "label_information": Estimate(2.123, 0.01, 9)}
    record(path, [Quantity(name, 0, estimate, "") for name, estimate in estimates.items()])
    assert models_table()[0].rows[1][4] == "88%,\n2.12 nats"
    record(path, [Quantity("frechet", 0, Estimate(1.234), "")])
    assert models_table()[0].rows[1][4] == "Fréchet\n1.23"
    assert load_weights(path)[1].held_out["mean"] == 0.01483


def test_a_network_with_attributes_names_the_first(three: Path) -> None:
    """In colour; of what quality has recorded the mean share and the sum of the information."""
    card = Card("unet", 3, (8, 8), 0, "faces", "grey", attributes={"hat": ("no", "yes"), "eye": ("a", "b", "c")})
    path = three / f"{NAMES[1]}.safetensors"
    save_weights(path, card.build(), card, {})
    found = {"recognised": (0.8, 1.0), "label_information": (0.6, 1.0)}
    record(
        path,
        [Quantity(kind, i + 1, Estimate(v, 0.01, 9), "") for kind, each in found.items() for i, v in enumerate(each)],
    )
    assert models_table()[0].rows[1][1:5] == ("faces,\ncolour", "hat,\n1 more", 0.0, "90%,\n1.60 nats")


def test_the_command_prints_them_and_what_a_model_may_be(
    three: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However narrow the terminal, no name and no number is cut; a path stays on its line."""
    monkeypatch.setenv("COLUMNS", "80")
    main(["models"])
    printed = capsys.readouterr().out
    assert f"{NAMES[2]}: {three / f'{NAMES[2]}.safetensors'}\n" in printed
    for words in (*(f"{name} " for name in NAMES), "accuracy", "0.9276", "0.0148", "none", "python:module:function"):
        assert words in printed
    assert "…" not in printed
