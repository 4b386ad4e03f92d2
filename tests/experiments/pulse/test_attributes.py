"""Guidance of a model of attributes: its classes are values of these, told by the classifier of the same attributes."""

import numpy as np
import pytest
import torch

from softmode.experiments.pulse.config import Config
from softmode.experiments.pulse.trials import Guidance, find_guidance


@pytest.fixture(scope="module")
def guidance() -> Guidance:
    """Return what aligns the shipped faces with each value of an attribute."""
    return find_guidance(Config(model="avatars", labels=("skin",), trials=1, steps=4, sigma_c=2.0), {})


def test_the_classes_are_the_values_of_the_attribute(guidance: Guidance) -> None:
    assert guidance.names == tuple(f"skin={value}" for value in range(len(guidance.labels)))
    assert guidance.fingerprint()["names"] == list(guidance.names)


def test_the_classifier_of_attributes_tells_them(guidance: Guidance) -> None:
    images = guidance.model.images
    assert images is not None
    found = guidance.classifier(images.tensor(slice(0, 40))).detach()
    torch.testing.assert_close(found.exp().sum(1), torch.ones(40))
    assert float((found.argmax(1) == images.labels[:40]).double().mean()) > 0.9


def test_each_class_is_pushed_from_the_model_without_its_attributes(guidance: Guidance) -> None:
    x = torch.randn(2, *guidance.model.shape, generator=torch.Generator().manual_seed(0)) * 3
    with torch.no_grad():
        seen = [denoiser(x, 3.0) for denoiser, _ in guidance.denoisers.values()]
        together, guide = guidance.pair([0, 1])
        torch.testing.assert_close(together(x, 3.0), torch.stack([seen[0][0], seen[1][1]]), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(guide(x, 3.0), guidance.denoisers[0][1](x, 3.0))
    assert float((seen[0] - seen[1]).abs().max()) > 1e-2


def test_real_images_of_the_values_are_known(guidance: Guidance) -> None:
    features, labels = guidance.real
    assert len(features) == len(labels) > 100
    assert sorted(np.unique(labels)) == guidance.labels
