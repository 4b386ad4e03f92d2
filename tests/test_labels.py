"""What a sample is asked to be, in the words of the command line, and how it reaches a network."""

from pathlib import Path
from typing import Any

import pytest
import torch

from softmode.cli import main
from softmode.labels import Label, read_label
from softmode.networks.card import Card, save_weights
from softmode.networks.load import load_model
from softmode.networks.unet import UNet
from softmode.runs.classes import dealt_labels

FACES = {"hat": ("none", "worn"), "skin": ("light", "brown", "dark")}


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("hat=1", (1, 3)), ("hat=worn", (1, 3)), ("skin=2+hat=0", (0, 2)), (" skin = dark + hat = none ", (0, 2)),
        (None, None),
    ],
)  # fmt: skip
def test_any_subset_of_attributes_is_read(label: Label, shown: Any) -> None:
    """By place or by name, in any order; what is not asked for is one beyond its values."""
    assert read_label(label, 0, FACES) == shown


@pytest.mark.parametrize(
    ("label", "classes", "attributes", "words"),
    [
        ("hta=1", 0, FACES, "labels: there is no attribute 'hta'; did you mean hat?"),
        ("zzz=1", 0, FACES, "there is no attribute 'zzz'; expected one of hat, skin"),
        ("hat=2", 0, FACES, r"got hat=2; expected one of 0 \(none\), 1 \(worn\)"),
        ("hat=-1", 0, FACES, "got hat=-1; expected one of"),
        ("hat=", 0, FACES, "got hat=; expected one of"),
        ("hat=²", 0, FACES, "got hat=²; expected one of"),
        (f"hat={'9' * 5000}", 0, FACES, "got hat=9+"),
        ("hat=1+hat=0", 0, FACES, "got hat twice in 'hat=1.hat=0'; name it once, or deal both out: hat=0,hat=1"),
        ("hat=1+", 0, FACES, "there is no attribute ''"),
        (3, 0, FACES, "got 3; expected attributes, hat, skin, for example hat=1"),
        ("hat=1", 10, {}, "got 'hat=1'; expected 0 to 9"),
        ("hat=1", 0, {}, "got 'hat=1'; expected none: the model has no classes"),
        (10, 10, {}, "got 10; expected 0 to 9"),
    ],
)
def test_what_a_model_lacks_is_refused(label: Label, classes: int, attributes: Any, words: str) -> None:
    """In one line that names the nearest, or what there is."""
    with pytest.raises(ValueError, match=words) as caught:
        read_label(label, classes, attributes)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300


def faces(path: Path) -> UNet:
    """Write a random network of two attributes, with six held-out images, and return it."""
    torch.manual_seed(0)
    network = UNet(3, (2, 3), width=16)
    for parameter in (network.leave.weight, network.label.weight):  # type: ignore[union-attr] # it has labels
        torch.nn.init.normal_(parameter, std=0.1)
    statistics = {
        "images": torch.arange(6).reshape(6, 1, 1, 1).expand(6, 3, 8, 8).to(torch.uint8),
        "labels": torch.stack([torch.arange(6) % 2, torch.arange(6) % 3], 1),
    }
    card = Card("unet", 3, (8, 8), 0, "toys", "grey", "vp:1", width=16, sigma_data=0.5, levels=(0.002, 80.0),
                attributes=FACES)  # fmt: skip
    save_weights(path, network, card, statistics)
    return network.half().float()


def test_attributes_reach_the_network_and_pick_the_data(tmp_path: Path) -> None:
    """Each label shows the network its values, and its held-out images are those that have them all."""
    network = faces(tmp_path / "weights.safetensors")
    model, x = load_model(str(tmp_path)), torch.randn(2, 3, 8, 8)
    assert model.attributes == FACES
    total = (1 + 0.25) ** 0.5
    for label, shown in (("hat=1", (1, 3)), ("hat=0+skin=dark", (0, 2)), (None, (2, 3))):
        with torch.no_grad():
            output = network(x / total, torch.zeros(2), torch.tensor([shown, shown]))
            found = model.denoiser(label)(x, 1.0)
        torch.testing.assert_close(found, 0.25 / 1.25 * x + 0.5 / total * output, rtol=1e-4, atol=1e-5)
    for label, places in (("hat=1", [1, 3, 5]), ("hat=0+skin=2", [2]), (None, range(6))):
        images = model.held_out(label)
        assert images is not None
        assert ((images[:, 0, 0, 0] + 1) * 127.5).round().tolist() == [float(place) for place in places]
    assert model.null("hat=1") is None
    assert "attributes=['hat', 'skin']" in repr(model)


def test_two_names_of_one_label_are_dealt_once(tmp_path: Path) -> None:
    """hat=1 and hat=worn are the same."""
    faces(tmp_path / "weights.safetensors")
    model = load_model(str(tmp_path))
    assert dealt_labels(("hat=1", "hat=0+skin=1"), model, 2) == ("hat=1", "hat=0+skin=1")
    with pytest.raises(ValueError, match="in which a class comes twice"):
        dealt_labels(("hat=1", "hat=worn"), model, 2)


def test_a_probe_of_an_attribute_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line's words; both values are dealt out; an unknown one is refused in one line."""
    monkeypatch.chdir(tmp_path)
    faces(tmp_path / "faces.safetensors")
    few = ["--steps", "4", "--trajectories", "4", "--shells", "3", "--sampler", "heun"]
    main(["probe", "faces.safetensors", "--labels", "hat=1,hat=0+skin=dark", *few, "--out", "out"])
    with pytest.raises(SystemExit) as caught:
        main(["probe", "faces.safetensors", "--labels", "hta=1", "--out", "other"])
    assert caught.value.code == 2
    assert not (tmp_path / "other").exists()
