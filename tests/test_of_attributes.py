"""A model of attributes as one of classes: its denoisers, its classifier, its images, and what cannot be asked."""

import pytest
import torch

from softmode.data import Images
from softmode.model import Model
from softmode.of_attributes import values_of
from softmode.process import VE

ATTRIBUTES = {"hat": ("none", "worn"), "skin": ("a", "b", "c")}


def _faces() -> Model:
    """Return a model whose denoiser tells what it was asked for: 10 hat + skin, -1 for nothing."""

    def bind(told: tuple[int, ...] | None):
        value = -1.0 if told is None else 10.0 * told[0] + told[1]
        return lambda x, sigma: torch.full_like(x, value)

    labels = torch.tensor([[hat, skin] for hat in range(2) for skin in range(3)])
    pixels = torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1, 1).expand(6, 1, 2, 2)
    images = Images(pixels, labels, "grey", ATTRIBUTES)
    return Model("faces", VE(), (1, 2, 2), bind, images=images, attributes=ATTRIBUTES)


def test_an_attributes_name_stands_for_all_its_values() -> None:
    values = values_of(_faces(), ("skin",))
    assert values.labels == ("skin=0", "skin=1", "skin=2")
    assert values.complete
    assert not values_of(_faces(), ("skin=0", "skin=c")).complete


def test_each_class_is_the_denoiser_of_its_values_and_of_its_images() -> None:
    model = values_of(_faces(), ("hat=1+skin=2", "skin=0+hat=0")).as_classes()
    x = torch.zeros(1, 1, 2, 2)
    assert [float(model.denoiser(label)(x, 1.0).mean()) for label in (0, 1, None)] == [12, 0, -1]
    assert model.classes == 2
    assert model.images is not None
    assert model.images.labels.tolist() == [1, 0]
    assert model.images.pixels[:, 0, 0, 0].tolist() == [0, 5]


def test_what_is_left_open_is_asked_for_as_such() -> None:
    model = values_of(_faces(), ("hat",)).as_classes()
    assert float(model.denoiser(1)(torch.zeros(1, 1, 2, 2), 1.0).mean()) == 13


def test_logits_of_values_are_the_probabilities_of_classes() -> None:
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hat, skin = logits[:, :2].softmax(1), logits[:, 2:].softmax(1)
    found = values_of(_faces(), ("hat=1+skin=2", "hat=0+skin=0")).logits(logits).exp()
    torch.testing.assert_close(found[:, 0], hat[:, 1] * skin[:, 2])
    torch.testing.assert_close(found[:, 1], hat[:, 0] * skin[:, 0])
    torch.testing.assert_close(found.sum(1), torch.ones(4, dtype=torch.float64), msg="the rest is of neither")
    torch.testing.assert_close(values_of(_faces(), ("skin",)).logits(logits).exp(), skin)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ((), r"labels: got none; expected what to align samples with: one of hat, skin, or values, hat=0,hat=1"),
        (("hat", "skin"), "not of the same attributes"),
        (("hat=0", "hat=0+skin=1"), "not of the same attributes"),
        (("hat", "hat=worn"), "in which one comes twice"),
        (("shoe",), "there is no attribute 'shoe'"),
        ((1,), "labels: got 1; expected attributes"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: tuple[int | str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        values_of(_faces(), labels)
