"""Whatever a user names becomes a model, or one line that says what to do."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from helpers.models import assert_takes_labels_together
from softmode.data import Images
from softmode.networks.card import Card, read_tensors, save_weights, write_tensors
from softmode.networks.classifier import Classifier
from softmode.networks.load import load_classifier, load_model
from softmode.networks.shipped import ALIASES, SHIPPED, find_weights, shipped_names
from softmode.networks.unet import UNet
from softmode.process import VE, VP


def unet_file(path: Path, classes: int = 0, rms: bool = False) -> UNet:
    """Write a random U-Net with data statistics of its own and return it."""
    torch.manual_seed(0)
    network = UNet(1, (classes,) if classes else (), rms=rms)
    torch.nn.init.normal_(network.leave.weight, std=0.02)
    groups = classes + 1 if classes else 1
    statistics = {
        "spectrum": torch.arange(1.0, groups + 1).reshape(-1, 1, 1).expand(-1, 8, 8).clone(),
        "mean": torch.arange(groups).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8).float().clone(),
        "images": torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8),
        "labels": torch.arange(5) % max(classes, 1),
    }
    save_weights(path, network, Card("unet", 1, (8, 8), classes, "toys", "binary", "vp:1"), statistics)
    return network.half().float()


def test_weights_become_a_denoiser_of_their_process(tmp_path: Path) -> None:
    """D = (x_t - s eps)/alpha at x_t = alpha x, in the time of the VP process of training."""
    network = unet_file(tmp_path / "weights.safetensors")
    for source in (tmp_path, tmp_path / "weights.safetensors"):
        model = load_model(str(source))
        x, sigma = torch.randn(3, 1, 8, 8), 1.7
        t = torch.tensor(1 + sigma**2).log()
        alpha, noise = (-t / 2).exp(), (1 - (-t).exp()).sqrt()
        with torch.no_grad():
            expected = (alpha * x - noise * network(alpha * x, t.expand(3))) / alpha
        torch.testing.assert_close(model.denoiser()(x, sigma), expected, rtol=1e-5, atol=1e-5)
        assert model.shape == (1, 8, 8)
        assert model.binary
        assert isinstance(model.process, VP)


def test_another_process_changes_the_sampling_not_the_denoiser(tmp_path: Path) -> None:
    """--schedule ve samples in sigma with the same D(x, sigma)."""
    unet_file(tmp_path / "weights.safetensors")
    own, other = load_model(str(tmp_path)), load_model(str(tmp_path), "ve")
    assert isinstance(other.process, VE)
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(own.denoiser()(x, 0.8), other.denoiser()(x, 0.8), rtol=0, atol=0)


def test_classes_are_bound_and_have_their_own_null(tmp_path: Path) -> None:
    """A label reaches the network and picks the class's spectrum; none stands for all classes."""
    network = unet_file(tmp_path / "weights.safetensors", classes=3)
    model, x = load_model(str(tmp_path)), torch.randn(2, 1, 8, 8)
    alpha, noise, t = 0.5**0.5, 0.5**0.5, torch.tensor(2.0).log()
    for label, index in ((1, 1), (None, 3)):
        with torch.no_grad():
            eps = network(alpha * x, t.expand(2), torch.full((2,), index))
        torch.testing.assert_close(model.denoiser(label)(x, 1.0), x - noise / alpha * eps, rtol=1e-5, atol=1e-5)
        null = model.null(label)
        assert null is not None
        assert float(null.spectrum[0, 0]) == index + 1
        assert float(torch.as_tensor(null.mean).flatten()[0]) == index
    for label in (-1, 3):
        with pytest.raises(ValueError, match=f"label: got {label}; expected 0 to 2"):
            model.denoiser(label)


def around_gaussian(path: Path, **changes: Tensor | None) -> None:
    """Write a random U-Net around the Gaussian model of its data."""
    unet_file(path, rms=True)
    tensors, _ = read_tensors(path)
    found = {name: value for name, value in {**tensors, **changes}.items() if value is not None}
    card = Card(
        "unet", 1, (8, 8), 0, "toys", "grey", "vp:1", sigma_data=0.5, gaussian=True, rms=True, levels=(0.002, 80.0)
    )
    write_tensors(path, found, {"softmode": json.dumps(asdict(card))})


def test_a_network_around_a_gaussian_model_is_of_its_sides_alone(tmp_path: Path) -> None:
    """Where noise is far above the data it is the null model; other sides have no spectrum."""
    around_gaussian(path := tmp_path / "weights.safetensors")
    model, x = load_model(str(path)), 1e4 * torch.randn(2, 1, 8, 8)
    null = model.null()
    assert null is not None
    assert float((model.denoiser()(x, 1.0) - null(x, 1.0)).abs().max()) < 10
    with pytest.raises(ValueError, match=r"shape: got sides \(8, 12\); expected \(8, 8\)"):
        load_model(str(path), shape=(1, 8, 12))


def test_a_binary_network_predicts_what_its_card_says(tmp_path: Path) -> None:
    """Files from before log-odds add to D itself, which far states take beyond 1; log-odds never do."""
    around_gaussian(path := tmp_path / "weights.safetensors")
    tensors, metadata = read_tensors(path)
    card, x = json.loads(metadata["softmode"]), 1e4 * torch.randn(2, 1, 8, 8)
    for log_odds in (None, True):
        fields = {**card, "values": "binary", "log_odds": log_odds}
        told = {name: value for name, value in fields.items() if value is not None}
        write_tensors(path, tensors, {"softmode": json.dumps(told)})
        with torch.no_grad():
            largest = float(load_model(str(path)).denoiser()(x, 1.0).abs().max())
        assert (largest <= 1) == bool(log_odds)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.spectrum": None, "data.mean": None}, "lacks data.spectrum, which it is built around"),
        ({"data.spectrum": -torch.ones(1, 8, 8)}, "got a negative or non-finite value"),
        ({"data.spectrum": torch.rand(1, 8, 8)}, "a real field needs a spectrum even in k"),
    ],
)
def test_what_no_gaussian_model_has_is_refused(tmp_path: Path, changes: dict[str, Tensor | None], words: str) -> None:
    """A damaged spectrum, in one line."""
    around_gaussian(path := tmp_path / "weights.safetensors", **changes)
    with pytest.raises(ValueError, match=words) as caught:
        load_model(str(path))
    assert "\n" not in str(caught.value)


def test_held_out_images_come_along(tmp_path: Path) -> None:
    """The images kept beside the weights are the model's data, in its values."""
    unet_file(tmp_path / "weights.safetensors")
    images = load_model(str(tmp_path)).images
    assert isinstance(images, Images)
    assert set(images.tensor().unique().tolist()) == {-1.0, 1.0}


def test_another_lattice_size_has_no_null(tmp_path: Path) -> None:
    """A convolutional network works on any size divisible by 4; its data's spectrum does not."""
    unet_file(tmp_path / "weights.safetensors")
    model = load_model(str(tmp_path), shape=(1, 12, 16))
    assert model.denoiser()(torch.zeros(1, 1, 12, 16), 1.0).shape == (1, 1, 12, 16)
    assert model.null() is None
    with pytest.raises(ValueError, match=r"shape: got \(3, 8, 8\); expected 1 channel\(s\)"):
        load_model(str(tmp_path), shape=(3, 8, 8))


def test_a_function_makes_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """python:module:function is imported from the user's directory and called without arguments."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_zoo.py").write_text(
        "def half():\n    return lambda x, sigma: x / 2\n\ndef number():\n    return 3\n"
    )
    model = load_model("python:my_zoo:half", "ve", (1, 6, 6))
    torch.testing.assert_close(model.denoiser()(torch.ones(1, 1, 6, 6), 1.0), torch.full((1, 1, 6, 6), 0.5))
    assert isinstance(model.process, VE)
    for source, shape, message in (
        ("python:my_zoo:half", (), "shape: got .*1,28,28"),
        ("python:my_zoo:number", (1, 6, 6), "returned int; expected a Denoiser"),
        ("python:my_zoo:nothing", (1, 6, 6), "cannot import 'python:my_zoo:nothing'"),
        ("python:no_such_zoo:f", (1, 6, 6), "cannot import 'python:no_such_zoo:f'"),
        ("python:my_zoo", (1, 6, 6), "expected python:module:function"),
    ):
        with pytest.raises(ValueError, match=message):
            load_model(source, "", shape)
    sys.modules.pop("my_zoo")


def test_unknown_names_get_the_nearest_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt name, a missing file and a directory without weights each say what to do."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match="there is no 'fashion-mnist-clasifier'; did you mean fashion-mnist-classifier"
    ):
        find_weights("fashion-mnist-clasifier")
    with pytest.raises(
        ValueError,
        match=r"there is no file 'runs/mine\.safetensors' \(no such file or directory\); softmode train makes one",
    ):
        find_weights("runs/mine.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there is no file"):
        find_weights("empty")


def test_a_name_of_before_names_the_network_that_took_its_place() -> None:
    """The labelled network of the paper's recipe gave way to the one with classes."""
    for alias, name in ALIASES.items():
        assert find_weights(alias) == find_weights(name)
        assert alias not in shipped_names()
    assert load_model("fashion-mnist-labelled").classes == 10


def test_labels_go_through_a_shipped_network_together(tmp_path: Path) -> None:
    """Classes and none, attributes and some left open, in one call, by either recipe."""
    unet_file(tmp_path / "weights.safetensors", classes=4)
    paper = load_model(str(tmp_path), dtype=torch.float64)
    assert_takes_labels_together(paper, [3, None, 0, 3, 1], torch.float64)
    assert_takes_labels_together(load_model("avatars"), ["hat=1", None, "hat=0+glasses=1", "skin=2"])


def test_networks_of_the_other_kind_are_refused() -> None:
    """A classifier is no denoiser, and a denoiser no classifier."""
    with pytest.raises(ValueError, match="'fashion-mnist-classifier' is a classifier, no denoiser"):
        load_model("fashion-mnist-classifier")
    assert isinstance(load_classifier(), Classifier)
    with pytest.raises(ValueError, match="'fashion-mnist-binary' is no classifier"):
        load_classifier("fashion-mnist-binary")


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_weights_load_and_are_small(name: str) -> None:
    """Every shipped file loads, says how it was made, and is at most 4 MB."""
    path = SHIPPED / f"{name}.safetensors"
    assert path.stat().st_size <= 4e6
    if name.endswith("classifier"):
        load_classifier(name)
        return
    card = load_model(name).card
    assert card is not None
    assert card.command.startswith(f"softmode train {name.removesuffix('-f4')} ")
    assert f"--epochs {card.epochs:g}" in card.command
    levels = card.held_out["sigma" if card.sigma_data else "t"]
    assert len(card.held_out["loss"]) == len(levels) == 12
