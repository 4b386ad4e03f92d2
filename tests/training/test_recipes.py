"""What can be trained: configs, images, statistics and precision."""

import copy
import math
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tyro
from small_training import (
    BINARY,
    CLASSIFIER,
    CPU,
    LABELLED,
    data,
    images,
)

from softmode.data import Images
from softmode.training import recipes
from softmode.training.config import TrainConfig
from softmode.training.recipes import NETWORKS
from softmode.training.state import Training
from softmode.training.train import run


def dense_variance(x: np.ndarray, wave: tuple[int, int]) -> float:
    """v.Cv of the dense covariance C of single-channel fields, v the unit Fourier mode of a wave number."""
    height, width = x.shape[-2:]
    covariance = np.cov(x.reshape(len(x), -1).astype(np.float64), rowvar=False)
    rows, columns = np.mgrid[:height, :width]
    mode = np.exp(2j * np.pi * (wave[0] * rows / height + wave[1] * columns / width)).ravel() / math.sqrt(
        height * width
    )
    return float((mode.conj() @ covariance @ mode).real)


@pytest.mark.parametrize("config", [BINARY, LABELLED], ids=lambda config: config.network)
def test_statistics_of_the_data_are_those_of_the_dense_covariance(config: TrainConfig, tmp_path: Path) -> None:
    """The spectrum along four modes and the mean, by class where there are classes and for all images last."""
    pixels = torch.randint(0, 256, (60, 1, 4, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    network = NETWORKS[config.network]
    labels = torch.arange(60) % 10
    pixels[:, :, :, :4] //= 1 + labels[:, None, None, None].to(torch.uint8)
    found = recipes.data_statistics(Images(pixels, labels, network.values), images(12, config.network), network)
    values = pixels.numpy() / 127.5 - 1
    values = np.where(values > 0, 1.0, -1.0) if network.values == "binary" else values
    groups = [*(labels.numpy() == c for c in range(network.classes)), np.full(60, True)]
    assert found["spectrum"].shape == (len(groups), 4, 8)
    assert found["mean"].shape == (len(groups), 1, 4, 8)
    for group, spectrum, mean in zip(groups, found["spectrum"], found["mean"], strict=True):
        np.testing.assert_allclose(mean.numpy(), values[group].mean(0), atol=1e-6)
        for wave in ((0, 0), (1, 0), (0, 3), (2, 5)):
            assert float(spectrum[wave]) == pytest.approx(dense_variance(values[group], wave), rel=1e-4)
    assert torch.equal(found["images"], images(12, config.network).pixels[:4])
    assert found["labels"].tolist() == [0, 1, 2, 3]


def test_a_classifier_keeps_no_statistics() -> None:
    """It is no denoiser, so there is no null model of it."""
    assert recipes.data_statistics(*data(CLASSIFIER), NETWORKS[CLASSIFIER.network]) == {}


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig("fashion-mnist"),
        TrainConfig("fashion-mnist", epochs=7.0, batch=32, learning_rate=3e-5, clip=0.25, ema=0.99, label_dropout=0.0),
        TrainConfig("fashion-mnist", "paper", t_max=20.0, t_min=1e-5, seed=12, precision="float32"),
        TrainConfig("fashion-mnist-binary", start="my models/it's here"),
    ],
)
def test_the_command_on_the_card_is_the_config(config: TrainConfig) -> None:
    """Read back by a shell and the command line, it is the same training; where it ran and its data are left out."""
    made = Training.__new__(Training)
    config, _ = recipes.check(config)
    made.config = replace(config, device="cuda", data="/somewhere", download=True)
    words = shlex.split(recipes.command(made.config, config.epochs))
    assert words[:2] == ["softmode", "train"]
    assert recipes.check(tyro.cli(TrainConfig, args=words[2:]))[0] == config
    assert "--device" not in recipes.command(made.config, 3.0)
    assert "--epochs 3" in recipes.command(made.config, 3.0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"network": "mnist"}, ("network", "'mnist'", "fashion-mnist-binary")),
        ({"epochs": 0.0}, ("epochs", "0", "above 0")),
        ({"batch": 0}, ("batch", "0", "at least 1")),
        ({"batch": 36}, ("batch", "36", "at most 35")),
        ({"learning_rate": 0.0}, ("learning_rate", "0", "above 0")),
        ({"learning_rate": math.nan}, ("learning_rate", "nan", "finite")),
        ({"learning_rate": math.inf}, ("learning_rate", "inf", "finite")),
        ({"clip": -1.0}, ("clip", "-1", "above 0")),
        ({"ema": 1.0}, ("ema", "1", "below 1")),
        ({"ema": -0.1}, ("ema", "-0.1", "at least 0")),
        ({"label_dropout": 1.0}, ("label_dropout", "1", "below 1")),
        ({"label_dropout": math.nan}, ("label_dropout", "nan", "finite")),
        ({"t_min": 0.0}, ("t_min", "0", "above 0")),
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
        run(config, tmp_path / "out", data(BINARY))
    for words in expected:
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


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
        run(config, tmp_path / "out", (replace(fitting, **change), held_out))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


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
