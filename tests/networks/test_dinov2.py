"""DINOv2's classifiers: transformers' own logits and pixels, from RGB images of any size, by name and in a probe."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from helpers.runs import run
from softmode.exact.empirical import EmpiricalDenoiser
from softmode.model import Model
from softmode.networks.classifier import ImageClassifier
from softmode.networks.load import load_classifier
from softmode.process import VE

# of facebook/dinov2-base-imagenet1k-1-layer; the tiny networks here have sides of their own
IMAGENET: dict[str, Any] = {
    "crop_size": {"height": 224, "width": 224}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
    "do_rescale": True, "do_resize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    "image_processor_type": "BitImageProcessor", "resample": 3, "rescale_factor": 1 / 255,
    "size": {"shortest_edge": 256},
}  # fmt: skip
TINY = IMAGENET | {"crop_size": {"height": 28, "width": 28}, "size": {"shortest_edge": 32}}


def settings(home: Path, name: str, **changes: Any) -> None:
    """Change entries of a JSON file, or drop those that are None."""
    path = home / f"{name}.json"
    changed = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in changed.items() if value is not None}))


def tiny(home: Path, preprocessor: dict[str, Any] = TINY, **changes: Any) -> transformers.Dinov2ForImageClassification:
    """Save a random network of 7 classes whose logits differ much from image to image, and return it."""
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14,
        **{"num_labels": 7} | changes,
    )  # fmt: skip
    network = transformers.Dinov2ForImageClassification(config).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    network.save_pretrained(home)
    (home / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return network


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dinov2")
    tiny(directory)
    return directory


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Pixels 0 .. 255 of a smooth field with steps and noise, whose bicubic enlargement overshoots black and white."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    field = torch.nn.functional.avg_pool2d(x, 5, 1, 2)
    return (127.5 + 400 * field + 20 * x).clamp(0, 255).round().to(torch.uint8)


@pytest.mark.parametrize("sides", [(64, 64), (40, 61), (61, 40), (256, 256), (300, 351)])
def test_pixels_are_those_of_transformers_processor(sides: tuple[int, int], tmp_path: Path) -> None:
    """Small images are enlarged, large ones reduced; PIL rounds to whole grey levels after either direction."""
    tiny(tmp_path, IMAGENET)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    pixels = images(2, 3, *sides)
    expected = processor([image.permute(1, 2, 0).numpy() for image in pixels], return_tensors="pt").pixel_values
    classifier = load_classifier(f"dinov2:{tmp_path}")
    found = classifier.preprocessing(pixels / 127.5 - 1)
    assert found.shape == (2, 3, 224, 224)
    levels = 255 * (found - expected).abs() * torch.tensor(IMAGENET["image_std"])[:, None, None]
    assert float(levels.max()) < 1.5
    assert float(levels.mean()) < 0.33  # 0.25 for one rounding


def test_values_beyond_black_and_white_are_clipped(home: Path) -> None:
    classifier = load_classifier(f"dinov2:{home}")
    x = 3 * torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(classifier(x), classifier(x.clamp(-1, 1)), rtol=0, atol=0)
    lowest, highest = (classifier.preprocessing(torch.full((1, 3, 8, 8), value)) for value in (-5.0, 5.0))
    mean, std = (torch.tensor(TINY[name]) for name in ("image_mean", "image_std"))
    torch.testing.assert_close(lowest[0, :, 3, 4], -mean / std)
    torch.testing.assert_close(highest[0, :, 3, 4], (1 - mean) / std)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_logits_are_those_of_transformers(dtype: torch.dtype, tmp_path: Path) -> None:
    """Its own forward on the same pixels; the head on the features; whatever the images' type, in float32."""
    network = tiny(tmp_path)
    classifier = load_classifier(f"dinov2:{tmp_path}")
    x = (images(3, 3, 20, 24) / 127.5 - 1).to(dtype)
    with torch.no_grad():
        expected = network(classifier.preprocessing(x.float())).logits
    assert float(expected.std(0).min()) > 0.1
    logits, features = classifier(x), classifier.features(x)
    assert (classifier.channels, classifier.classes, logits.dtype) == (3, 7, torch.float32)
    assert features.shape == (3, 2 * 16)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(classifier.head(features), logits)
    assert not logits.requires_grad
    assert not any(parameter.requires_grad for parameter in classifier.parameters())


def test_a_loaded_network_is_in_evaluation_and_float32(tmp_path: Path) -> None:
    """Dropout that was trained with is off, and half-precision weights are widened."""
    network = tiny(tmp_path, hidden_dropout_prob=0.5, drop_path_rate=0.5)
    network.bfloat16().save_pretrained(tmp_path)
    classifier = load_classifier(f"dinov2:{tmp_path}")
    x = torch.rand(2, 3, 12, 12)
    torch.testing.assert_close(classifier(x), classifier(x), rtol=0, atol=0)
    torch.testing.assert_close(classifier(x), network.float()(classifier.preprocessing(x)).logits.detach())
    assert {parameter.dtype for parameter in classifier.parameters()} == {torch.float32}


def test_the_own_classifier_has_features_too() -> None:
    """The head's input; logits of the shipped weights are what they were, a number each for three plain images."""
    classifier: ImageClassifier = load_classifier()
    x = torch.linspace(-1, 1, 3 * 784).reshape(3, 1, 28, 28)
    with torch.no_grad():
        logits, features = classifier(x), classifier.features(x)
    assert (classifier.channels, classifier.classes) == (1, 10)
    assert features.shape == (3, 192)
    torch.testing.assert_close(classifier.head(features), logits)
    torch.testing.assert_close(logits.square().mean(1), torch.tensor([85.9073, 127.8349, 124.7363]), rtol=1e-4, atol=0)


def data() -> torch.Tensor:
    return images(4, 3, 12, 12, seed=3).double() / 127.5 - 1


def exact(points: torch.Tensor) -> Model:
    return Model("exact", VE(), tuple(points.shape[1:]), lambda _label: EmpiricalDenoiser(points))


SMALL = {"steps": 8, "shells": 3, "trajectories": 2, "block": 2, "dtype": "float64", "sampler": "heun"}


def test_a_probe_follows_its_entropy(home: Path, tmp_path: Path) -> None:
    """The class of D(x) by name: the entropy of the classifier's own logits, at each noise level."""
    name = f"dinov2:{home}"
    measured = run("probe", tmp_path / "run", model=exact(data()), classifier=name, snapshots=(80.0, 0.002), **SMALL)
    entropy = measured.dataset["class_entropy"].to_numpy()
    assert entropy.shape == (2, 9)
    denoised = torch.tensor(measured.dataset["denoised"].to_numpy())
    for at, snapshot in ((0, 0), (-1, 1)):
        p = load_classifier(name)(denoised[:, snapshot]).double().softmax(1).numpy()
        np.testing.assert_allclose(entropy[:, at], -(p * np.log(p)).sum(1), rtol=1e-5)
    assert float(np.abs(entropy[:, 0] - entropy[:, -1]).max()) > 1e-3


def test_clones_are_told_by_it(home: Path, tmp_path: Path) -> None:
    """Classes of final states, which are nearly the four data, are the classifier's of these data."""
    name = f"dinov2:{home}"
    copied = run(
        "clones", tmp_path / "run", model=exact(data()), classifier=name, trajectories=4, times=(1.0,), steps=200,
        t_max=20.0, t_min=0.01, block=4, dtype="float64",
    )  # fmt: skip
    known = set(load_classifier(name)(data()).argmax(1).tolist())
    assert set(copied.dataset["parent_class"].to_numpy().flatten().tolist()) <= known


@pytest.mark.parametrize("shape", [(1, 12, 12), (4, 12, 12), (3, 12), (3, 4, 4, 4)])
def test_states_that_are_no_rgb_images_are_refused(shape: tuple[int, ...], home: Path, tmp_path: Path) -> None:
    """Before anything is written, and by the classifier itself: grey images would pass through the normalisation."""
    settings = {"classifier": f"dinov2:{home}", "times": (1.0,)}
    with pytest.raises(ValueError, match=r"^classifier: .* of RGB images \(3, height, width\), not of states") as error:
        run("clones", tmp_path / "run", model=exact(torch.zeros(2, *shape)), **settings)
    assert str(shape) in str(error.value)
    assert not (tmp_path / "run").exists()


def test_grey_images_are_refused(home: Path) -> None:
    with pytest.raises(ValueError, match=r"^x: got \(2, 1, 12, 12\); expected RGB images"):
        load_classifier(f"dinov2:{home}")(torch.zeros(2, 1, 12, 12))


def drop(name: str) -> Callable[[Path], None]:
    return lambda home: (home / name).unlink()


def change(file: str, **changes: Any) -> Callable[[Path], None]:
    return lambda home: settings(home, file, **changes)


def pickled(home: Path) -> None:
    torch.save(torch.ones(2), home / "pytorch_model.bin")
    (home / "model.safetensors").unlink()


def headless(home: Path) -> None:
    config = transformers.Dinov2Config.from_pretrained(home)
    transformers.Dinov2Model(config).save_pretrained(home)


PREPROCESSOR = "preprocessor_config"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop("config.json"), r"cannot load '.*' \(.*config\.json"),
        (drop("preprocessor_config.json"), r"cannot load '.*' \(.*preprocessor_config\.json"),
        (pickled, r"cannot load .*model\.safetensors \(no pickle is read\)"),
        (lambda home: (home / "model.safetensors").write_bytes(b"0123456789"), "cannot load"),
        (lambda home: (home / "config.json").write_text("{"), "cannot load"),
        (
            change("config", hidden_size=32),
            "lacks some weights .* of config.json's sizes; give one",
        ),
        (change("config", model_type="vit"), "is a model of type 'vit'; expected 'dinov2'"),
        (change("config", model_type=None), "is a model of type None; expected 'dinov2'"),
        (headless, "lacks some weights"),
        (lambda home: tiny(home, num_labels=0), "lacks some weights"),
        (change(PREPROCESSOR, resample=2), "has resample = 2; expected 3"),
        (change(PREPROCESSOR, do_center_crop=None), "has do_center_crop = None; expected True"),
        (change(PREPROCESSOR, size={"height": 32, "width": 32}), r"cannot be used \('shortest_edge'\); expected size"),
        (change(PREPROCESSOR, size=32), "cannot be used"),
        (change(PREPROCESSOR, size={"shortest_edge": 20}), r"crops \(28, 28\) from shortest_edge 20"),
    ],
)
def test_a_directory_that_does_not_fit(spoil: Callable[[Path], Any], message: str, home: Path, tmp_path: Path) -> None:
    """One line that says what is wrong with it."""
    spoilt = tmp_path / "spoilt"
    shutil.copytree(home, spoilt)
    spoil(spoilt)
    with pytest.raises(ValueError, match=f"^classifier: .*{message}") as error:
        load_classifier(f"dinov2:{spoilt}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["dinov2:huge", "dinov2:facebook/dinov2-base-imagenet1k-1-layer"])
def test_an_unknown_name_never_asks_the_hub(name: str) -> None:
    with pytest.raises(ValueError, match=r"^classifier: there is no directory '.*' for .* small, base, large, giant"):
        load_classifier(name)


@pytest.mark.parametrize(("name", "asked"), [("dinov2", "base"), ("dinov2:base", "base"), ("dinov2:giant", "giant")])
def test_a_size_while_offline_says_so(name: str, asked: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    message = (
        f"^classifier: cannot find 'facebook/dinov2-{asked}-imagenet1k-1-layer' on this machine, nor reach it on the "
        r"hub \(.*\); download it first and give its directory, dinov2:path$"
    )
    with pytest.raises(ValueError, match=message):
        load_classifier(name)


def test_without_transformers_only_dinov2_is_missing() -> None:
    """In a fresh interpreter that cannot import it: the package, the shipped classifier, and one line on what to do."""
    code = """
import sys
sys.modules["transformers"] = None
import softmode
softmode.load_classifier()
try:
    softmode.load_classifier("dinov2")
except ValueError as error:
    print(error)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "classifier: DINOv2 needs transformers: pip install 'softmode[transformers]'"


def test_loading_says_nothing(home: Path, tmp_path: Path) -> None:
    """No progress, no report of weights that lack: the error says it."""
    shutil.copytree(home, tmp_path / "headless")
    headless(tmp_path / "headless")
    code = f"""
import contextlib
import softmode
softmode.load_classifier("dinov2:{home}")
with contextlib.suppress(ValueError):
    softmode.load_classifier("dinov2:{tmp_path / "headless"}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
