"""The quality of a model against plain loops, and of models whose quality is known."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from softmode.data import CLASSES, Images, fashion_mnist
from softmode.denoiser import Denoiser
from softmode.estimate import Estimate
from softmode.model import Model
from softmode.networks.load import load_classifier, load_model
from softmode.process import VP
from softmode.runs.results import Results
from softmode.training.quality import errors, information, measure, samples, subject
from softmode.training.quality.config import QualityConfig
from softmode.training.quality.sheet import write_sheet

CONFIG = QualityConfig("known", images=12, samples=20)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few levels, for the time."""
    monkeypatch.setattr(errors, "LEVELS", (80.0, 1.0, 0.002))
    monkeypatch.setattr(errors, "BOUND_LEVELS", (80.0, 0.1))
    monkeypatch.setattr(information, "PATH_LEVELS", 12)
    monkeypatch.setattr(samples, "SAMPLER_STEPS", 12)


def known(monkeypatch: pytest.MonkeyPatch, denoiser: Denoiser | None = None, gain: float = 1.0) -> Model:
    """A model whose classes are ten of the data's means, and all classes together the Wiener filter."""
    stored = load_model("fashion-mnist")
    null = stored.null()
    assert null is not None
    assert stored.mean is not None
    mean = stored.mean

    def bind(label: int | None) -> Denoiser:
        if label is None:
            return denoiser or (lambda x, sigma: null.mean.to(x) + gain * null.jvp(x, sigma, x - null.mean.to(x)))
        return lambda x, sigma: mean[label].to(x).expand_as(x)

    model = replace(stored, bind=bind, process=VP())
    monkeypatch.setattr(measure, "load_model", lambda source, device: model)
    return model


def cell(results: Results, table: str, row: int, column: str) -> float:
    found = results.tables[table]
    value = found.rows[row][found.columns.index(column)]
    assert isinstance(value, Estimate | float | int)
    return value.value if isinstance(value, Estimate) else value


def test_the_gaussian_null_model_has_its_own_errors_and_keeps_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where D is the Wiener filter the two columns agree; its gains are the bound up to rounding."""
    known(monkeypatch)
    found = measure.quality(CONFIG)
    for row in range(3):
        assert cell(found, "errors", row, "D") == pytest.approx(cell(found, "errors", row, "Gaussian"), rel=1e-4)
    for row in range(2):
        assert cell(found, "bound", row, "G_0") == pytest.approx(cell(found, "bound", row, "bound of G_0"), rel=0.02)


def test_a_gain_above_the_bound_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One and a half times the Wiener filter breaks it, in the answer too."""
    known(monkeypatch, gain=1.5)
    found = measure.quality(CONFIG)
    assert found["bound_excess"].estimate.value > 10
    assert "breaks the Gaussian bound" in found.answer


def test_the_distance_at_the_lowest_level_is_in_units_of_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that leaves its states alone is one sigma away from the image."""
    known(monkeypatch, denoiser=lambda x, sigma: x)
    found = measure.quality(CONFIG)
    assert found["distance_lowest"].estimate.value == pytest.approx(1, rel=0.03)
    assert cell(found, "errors", 1, "D") == pytest.approx(1, rel=0.03)


def test_classes_that_are_points_are_told_by_their_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    """The posterior of the paths is that of the nearest class mean, whose samples are that mean."""
    model = known(monkeypatch)
    found = measure.quality(CONFIG)
    assert model.mean is not None
    assert found["label_information"].estimate.value == pytest.approx(math.log(10), abs=1e-6)
    images = fashion_mnist("test", "grey").first(12)
    distance = (images.tensor()[:, None] - model.mean[:10]).flatten(2).square().sum(2)
    right = (distance.argmin(1) == images.labels).double().mean()
    final = cell(found, "information", information.SHOWN - 1, "log K + log q(true)")
    assert (final > 0) == bool(right == 1)
    told = load_classifier()(model.mean[:10]).argmax(1) == torch.arange(10)
    assert found["recognised"].estimate.value == pytest.approx(float(told.double().mean()))


def test_the_picture_shows_the_first_samples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sixteen class means in the order in which classes are dealt out; red where another class is seen."""
    model = known(monkeypatch)
    shown: list[Any] = []
    monkeypatch.setattr(samples, "write_sheet", lambda *arguments: shown.append(arguments))
    path = str(tmp_path / "samples.png")
    measure.quality(replace(CONFIG, figure=path))
    ((where, images, real, titles, wrong),) = shown
    assert where == path
    assert titles == [CLASSES[i % 10] for i in range(20)]
    assert model.mean is not None
    # the noise of the lowest level is left in them
    torch.testing.assert_close(images, model.mean[torch.arange(20) % 10], rtol=0, atol=0.02)
    torch.testing.assert_close(real, fashion_mnist("test", "grey").first(20).tensor())
    told = load_classifier()(images).argmax(1)
    assert wrong == (told != torch.arange(20) % 10).tolist()


def test_a_picture_has_samples_on_the_left_and_real_images_on_the_right(tmp_path: Path) -> None:
    """White samples below black titles, black ones below red titles; grey real images without titles."""
    images = torch.ones(20, 1, 8, 8) * torch.tensor([1.0, -1.0]).repeat(10).reshape(-1, 1, 1, 1)
    write_sheet(str(tmp_path / "a.png"), images, torch.zeros_like(images), ["Coat"] * 20, [False, True] * 10)
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    left, right = np.array_split(pixels, 2, axis=1)
    for half, black, red in ((left, (0.25, 0.5), True), (right, (0, 0.02), False)):
        assert black[0] <= float((half.sum(2) < 60).mean()) <= black[1]
        assert bool(((half[..., 0] > 180) & (half[..., 1] < 100)).any()) == red
    assert float((abs(right - 127) < 3).all(2).mean()) > 0.5
    write_sheet(str(tmp_path / "b.png"), torch.zeros(2, 3, 8, 8), torch.zeros(1, 3, 8, 8), [], [])
    assert (tmp_path / "b.png").stat().st_size > 0


def test_the_work_is_counted_before_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many states go through the denoisers as were announced, once what times a batch is left out."""
    model, seen = known(monkeypatch), list[int]()

    def bind(label: int | None) -> Denoiser:
        denoiser = model.bind(label)

        def counted(x: Tensor, sigma: Tensor | float) -> Tensor:
            seen.append(len(x))
            return denoiser(x, sigma)

        return counted

    monkeypatch.setattr(measure, "load_model", lambda source, device: replace(model, bind=bind))
    said: list[str] = []
    measure.quality(CONFIG, say=said.append)
    announced = int(said[0].split()[4])
    assert announced == sum(seen) - 2 * CONFIG.images
    assert said[0].endswith(" evaluations of the network on cpu")


def test_a_gain_without_error_does_not_stop_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """A denoiser that answers no push at all has gains of 0 in every state: far below the bound."""
    known(monkeypatch, denoiser=lambda x, sigma: torch.zeros_like(x))
    assert measure.quality(CONFIG)["bound_excess"].estimate.value < 0


@pytest.mark.parametrize(("path", "words"), [("a.pdf", "ends in .png"), ("nowhere/a.png", "'nowhere' is no directory")])
def test_a_picture_that_cannot_be_written_is_refused(path: str, words: str) -> None:
    """Before anything is measured."""
    with pytest.raises(ValueError, match=f"figure: .*{words}"):
        measure.quality(replace(CONFIG, figure=path))


def test_samples_do_not_depend_on_how_they_are_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a stream of its own."""
    model = known(monkeypatch)
    monkeypatch.setattr(subject, "AT_ONCE", 1)

    def drawn() -> Tensor:
        images = fashion_mnist("test", "grey")
        return samples.draw(subject.Subject(CONFIG, model, images, images, load_classifier(), lambda: None))[0]

    apart = drawn()
    monkeypatch.setattr(subject, "AT_ONCE", 50)
    torch.testing.assert_close(drawn(), apart, rtol=1e-4, atol=1e-4)


def test_a_model_without_classes_is_measured_without_them() -> None:
    """The binary network: no information, no recognised share, and a sentence all the same."""
    found = measure.quality(replace(CONFIG, model="fashion-mnist-binary"))
    kinds = {quantity.kind for quantity in found.quantities}
    assert kinds == {"distance_lowest", "bound_excess", "constant_gain", "frechet"}
    assert found.answer.startswith("The Fréchet distance of its samples to real images is ")
    assert all(len(table.rows) <= 8 for table in found.tables.values())
    assert np.isfinite(cell(found, "samples", 0, "samples"))


@pytest.fixture
def faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> QualityConfig:
    """A model of faces whose hat is the first pixel's sign, its skin one of three means, with a classifier of both."""
    hat, skin = torch.tensor([-0.9, 0.9]), torch.tensor([-0.5, 0.0, 0.5])
    labels = torch.stack([torch.arange(60) % 2, torch.arange(60) % 3], 1)
    x = skin[labels[:, 1]].reshape(-1, 1, 1, 1).repeat(1, 3, 8, 8)
    x[:, :, 0, 0] = hat[labels[:, 0], None]
    pixels = ((x + 1) * 127.5).round().to(torch.uint8)
    attributes = {"hat": ("none", "worn"), "skin": ("light", "brown", "dark")}
    held_out = Images(pixels, labels, "grey", attributes)

    def bind(shown: tuple[int, int] | None) -> Denoiser:
        asked = torch.tensor(shown or (2, 3))
        free = asked == torch.tensor([2, 3])
        rows = (((labels == asked) | free).all(1)).nonzero().flatten()
        means = held_out.tensor(rows).unique(dim=0)

        def exact(z: Tensor, sigma: Tensor | float) -> Tensor:
            distance = (z[:, None] - means).flatten(2).square().sum(2)
            return torch.einsum("bk,k...->b...", (-distance / (2 * torch.as_tensor(sigma) ** 2)).softmax(1), means)

        return exact

    class Told(torch.nn.Module):
        channels, classes = 3, 5

        def features(self, z: Tensor) -> Tensor:
            return torch.stack([z[:, 0, 0, 0], z[:, 0, 1, 1]], 1)

        def head(self, features: Tensor) -> Tensor:
            return -torch.cat([(features[:, :1] - hat).abs(), (features[:, 1:] - skin).abs()], 1)

        def forward(self, z: Tensor) -> Tensor:
            return self.head(self.features(z))

    model = Model("faces", VP(), (3, 8, 8), bind, attributes=attributes)
    monkeypatch.setattr(measure, "load_model", lambda source, device: model)
    monkeypatch.setattr(measure, "load_classifier", lambda source, device: Told())
    monkeypatch.setattr(measure, "avatars", lambda split, path: held_out)
    return QualityConfig("faces", images=24, samples=40)


def test_attributes_are_measured_one_by_one(faces: QualityConfig) -> None:
    """An exact model of six points knows each attribute wholly, skin long before hat, and draws what is asked."""
    found = measure.quality(faces)
    for index, (name, count) in enumerate({"hat": 2, "skin": 3}.items(), 1):
        information = found[f"label_information_{index}"]
        assert information.estimate.value == pytest.approx(math.log(count), abs=0.02)
        assert f"about {name}, of {math.log(count):.3f} nats" in information.what
        assert found[f"recognised_{index}"].estimate.value == 1
    assert found["label_half_1"].estimate.value < 0.5 * found["label_half_2"].estimate.value
    assert [row[0] for row in found.tables["information"].rows] == ["hat", "skin"]
    names = ["hat recognised", "skin recognised", "Fréchet distance"]
    assert [row[0] for row in found.tables["samples"].rows] == names
    assert "100% of what there is to know" in found.answer


def test_half_of_what_is_known_is_found_between_levels() -> None:
    """A curve that is linear in log sigma, from 0 at 80 to 1 at 0.8, is at half at sigma = 8."""
    levels = torch.tensor([80.0, 80 / 10**0.75, 80 / 10**1.5, 0.8])
    curve = torch.tensor([0.0, 0.375, 0.75, 1.0])
    assert information._half(curve[:, None].expand(-1, 3), levels) == pytest.approx(8)  # its own test


def test_a_classifier_of_other_labels_is_refused(faces: QualityConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of ten classes cannot tell attributes."""
    monkeypatch.setattr(measure, "load_classifier", load_classifier)
    with pytest.raises(ValueError, match="takes 1 channels and tells 10 values; expected 3 and 5, the model's"):
        measure.quality(replace(faces, classifier="fashion-mnist-classifier"))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (replace(CONFIG, model="no-such-model"), "model: there is no 'no-such-model'"),
        (replace(CONFIG, model="fashion-mnist-classifier"), "is a classifier, no denoiser"),
        (replace(CONFIG, model="fashion-mnist-binary", samples=10001), "samples: got 10001; expected at most 10000"),
    ],
)
def test_what_cannot_be_measured_is_refused(config: QualityConfig, words: str) -> None:
    """Before anything is measured, in one line."""
    with pytest.raises(ValueError, match=words) as caught:
        measure.quality(config)
    assert "\n" not in str(caught.value)
