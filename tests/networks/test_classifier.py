"""Anybody's function as a classifier: its form, its preprocessing, and the model itself where there is none."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from helpers.errors import refused
from helpers.guidance import corners, nearest
from softmode.networks.classifier import AnyClassifier, ImageClassifier, Preprocessed, as_classifier
from softmode.networks.own_posterior import NEVER, OwnPosterior
from softmode.runs.classifier import find_classifier, named_inputs

SHAPE, CPU = (3, 4, 4), torch.device("cpu")


def colours(x: Tensor) -> Tensor:
    """Tell red from green and blue."""
    return x.mean((2, 3))


@pytest.mark.parametrize("wrap", [lambda logits: logits, lambda logits: SimpleNamespace(logits=logits)])
def test_any_function_of_states_is_a_classifier(wrap: object) -> None:
    """Logits as they are, or as an attribute: the features are the logits, so that everything that needs them works."""
    assert callable(wrap)
    made = as_classifier(lambda x: wrap(colours(x)), SHAPE, CPU)
    x = torch.rand(5, *SHAPE)
    assert isinstance(made, ImageClassifier)
    assert (made.channels, made.classes) == (3, 3)
    torch.testing.assert_close(made(x), colours(x))
    torch.testing.assert_close(made.head(made.features(x)), colours(x))
    assert as_classifier(nearest(), SHAPE, CPU) is not None
    assert not isinstance(as_classifier(nearest(), SHAPE, CPU), AnyClassifier)


def test_what_is_no_classifier_is_refused() -> None:
    for made, message in (
        (3, "classifier: got int; expected a function of images that returns logits"),
        (nn.Linear(7, 2), r"classifier: Linear fails on states \(3, 4, 4\) .*sm.Preprocessed"),
        (lambda x: x, r"classifier: function returned \(2, 3, 4, 4\) for two states; expected logits \(2, classes\)"),
        (lambda x: None, "classifier: function returned NoneType for two states"),
    ):
        with refused(message):
            as_classifier(made, SHAPE, CPU)


def test_preprocessing_sees_images_between_0_and_1() -> None:
    """A transform as torchvision's: values normalised; what is beyond white or black is clipped first."""
    seen = []

    def transform(images: Tensor) -> Tensor:
        seen.append(images)
        return (images - 0.5) / 0.25

    made = Preprocessed(colours, transform)
    x = torch.tensor([-3.0, -1.0, 0.0, 1.0, 5.0]).reshape(5, 1, 1, 1).expand(5, *SHAPE)
    torch.testing.assert_close(made(x)[:, 0], torch.tensor([-2.0, -2.0, 0.0, 2.0, 2.0]))
    assert (float(seen[0].min()), float(seen[0].max())) == (0.0, 1.0)


def test_a_processor_of_transformers_does_not_divide_by_255() -> None:
    """Its own normalisation of an image of bytes is what it makes of our values."""
    transformers = pytest.importorskip("transformers")
    processor = transformers.ViTImageProcessorPil(
        size={"height": 4, "width": 4}, do_resize=False, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4]
    )
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0)).mul(255).round() / 127.5 - 1
    images = [((image + 1) * 127.5).round().to(torch.uint8).numpy() for image in x]
    expected = processor(images=images, input_data_format="channels_first", return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(Preprocessed(colours, processor)(x), colours(expected), rtol=1e-4, atol=1e-4)


def test_a_classifier_of_one_s_own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named itself, or made by a function without arguments; its source is part of what a run is of."""
    (tmp_path / "reads_corners.py").write_text(
        "def tells(x):\n    return x.flatten(1)[:, :3]\n\n\ndef makes():\n    return tells\n\n\n"
        "def fails():\n    raise KeyError('weights')\n\n\ndef neither():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    model, x = corners(), torch.rand(2, *corners().shape)
    for name in ("python:reads_corners:tells", "python:reads_corners:makes"):
        found, _, note = find_classifier(name, model, CPU)
        assert found is not None
        assert note == ""
        torch.testing.assert_close(found(x), x.flatten(1)[:, :3])
        assert list(named_inputs(name)) == ["source"]
    for name, message in (
        ("python:reads_corners:fails", "classifier: .* failed when it was called without arguments"),
        ("python:reads_corners:neither", "classifier: .* expected a function of images"),
        ("python:reads_corners:absent", "classifier: cannot import"),
        ("python:reads_corners", "classifier: got .*; expected python:module:function"),
    ):
        with refused(message):
            find_classifier(name, model, CPU)


def test_a_model_tells_its_own_classes() -> None:
    """Its posterior along a noising path names the class of nearly every sample, as the exact classifier does."""
    model, exact = corners(), nearest()
    own = OwnPosterior(model, [0, 1, 2], CPU)
    data = torch.cat([model.denoiser(label)(torch.zeros(1, *model.shape), 100.0) for label in (0, 1, 2)])
    noise = torch.randn(24, *model.shape, generator=torch.Generator().manual_seed(1))
    x = data.repeat_interleave(8, 0) + 0.05 * noise
    assert own(x).argmax(1).tolist() == exact(x).argmax(1).tolist()
    torch.testing.assert_close(own(x[5:6]), own(x)[5:6], msg="a sample is judged alike alone and in a batch")
    torch.testing.assert_close(own(x).exp().sum(1), torch.ones(24, dtype=torch.float64))
    some = OwnPosterior(model, [0, 2], CPU)(x)
    assert (some[:, 1] == NEVER).all()
    torch.testing.assert_close(some.exp().sum(1), torch.ones(24, dtype=torch.float64))
