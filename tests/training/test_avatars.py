"""Images with several attributes: their file, and the networks that are trained on them."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from softmode.data import avatars
from softmode.exact.gaussian import null_model
from softmode.networks.card import load_weights
from softmode.networks.load import load_model
from softmode.training.config import TrainConfig
from softmode.training.train import run

ATTRIBUTES = {"hat": ["none", "worn"], "skin": ["light", "brown", "dark"]}
CONFIG = TrainConfig("avatars", epochs=1.0, batch=8, precision="float32")


def arrays() -> dict[str, Any]:
    """Colour images of 8x8 pixels whose attributes are all combinations in turn."""
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {"attributes": np.frombuffer(json.dumps(ATTRIBUTES).encode(), np.uint8)}
    for split, count in (("train", 36), ("test", 12)):
        found[f"{split}_images"] = rng.integers(0, 256, (count, 3, 8, 8), np.uint8)
        found[f"{split}_labels"] = np.stack([np.arange(count) % 2, np.arange(count) % 3], 1)
    return found


def write(path: Path, **changes: Any) -> str:
    kept = {name: value for name, value in {**arrays(), **changes}.items() if value is not None}
    np.savez(path / "avatars.npz", **kept)
    return str(path / "avatars.npz")


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Bytes, labels and the names of attributes and values."""
    found = avatars("test", write(tmp_path))
    assert torch.equal(found.pixels, torch.from_numpy(arrays()["test_images"]))
    assert torch.equal(found.labels, torch.from_numpy(arrays()["test_labels"]))
    assert found.attributes == {"hat": ("none", "worn"), "skin": ("light", "brown", "dark")}
    assert found.first(2).attributes == found.attributes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_labels": None}, "cannot read"),
        ({"attributes": np.frombuffer(b"[1", np.uint8)}, "has no attributes"),
        ({"attributes": np.frombuffer(b"[1]", np.uint8)}, "has no attributes"),
        ({"train_images": np.zeros((36, 3, 8, 8), np.float32)}, "expected bytes"),
        ({"train_labels": np.zeros((36, 3), np.int64)}, "expected bytes .* and labels"),
        ({"train_labels": np.full((36, 2), 2)}, "labels beyond the values"),
        ({"train_labels": np.zeros((36, 2), np.int64)}, r"\[36, 0\] images by value of 'hat'"),
        ({"train_images": np.zeros((36, 3, 8, 6), np.uint8)}, "divisible by 4"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """In one line that begins with data, before anything is written."""
    path = write(tmp_path, **changes)
    with pytest.raises(ValueError, match=f"^data: .*{words}") as caught:
        run(replace(CONFIG, data=path), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_without_a_file_it_is_said_how_to_make_it(tmp_path: Path) -> None:
    """The images do not come with softmode."""
    with pytest.raises(ValueError, match=r"^data: avatars.npz is not here; make it with tools/avatars"):
        run(CONFIG, tmp_path / "out")


def test_a_network_takes_any_subset_of_the_attributes(tmp_path: Path) -> None:
    """It knows their names, keeps held-out images with their labels, and loads as a model of colour images."""
    path = run(replace(CONFIG, data=write(tmp_path)), tmp_path / "out")
    network, card, statistics = load_weights(path)
    assert card.attributes == {"hat": ("none", "worn"), "skin": ("light", "brown", "dark")}
    assert (card.labels, card.classes, card.data, card.channels) == ((2, 3), 0, "avatars", 3)
    assert network.state_dict()["label.weight"].shape == (2 + 1 + 3 + 1, 128)
    assert statistics["labels"].shape == (4, 2)
    model = load_model(str(path))
    assert model.images is not None
    assert model.images.attributes == card.attributes
    x = torch.randn(2, 3, 8, 8)
    assert model.denoiser()(x, 1.0).shape == x.shape
    some = network(x, torch.zeros(2), torch.tensor([[1, 3], [2, 3]]))
    assert not torch.equal(some[0], some[1])


def test_a_classifier_tells_every_attribute(tmp_path: Path) -> None:
    """Its logits follow each other, and each attribute's accuracy is on the card."""
    config = replace(CONFIG, network="avatars-classifier", data=write(tmp_path))
    network, card, _ = load_weights(run(config, tmp_path / "out"))
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 5)
    assert len(card.held_out["by_label"]) == 2
    assert card.held_out["accuracy"] == pytest.approx(np.mean(card.held_out["by_label"]))


def test_a_card_says_nothing_of_the_machine(tmp_path: Path) -> None:
    """Neither where the data lie nor on which device; the null model is that of the luminance, as for any data."""
    path = write(tmp_path)
    weights = run(replace(CONFIG, data=path), tmp_path / "out")
    _, card, statistics = load_weights(weights)
    assert str(tmp_path) not in json.dumps(asdict(card))
    assert card.made["config"].keys().isdisjoint({"data", "device", "download"})
    expected = null_model(avatars("train", path).tensor())
    torch.testing.assert_close(statistics["spectrum"][0].double(), expected.spectrum, rtol=1e-4, atol=1e-6)
