"""Quality on held-out images against plain loops."""

import math

import numpy as np
import pytest
import torch
from small_training import (
    BINARY,
    CLASSIFIER,
    CPU,
    LABELLED,
    data,
    images,
    make,
    plain_loss,
)
from torch import Tensor, nn

from softmode.training import state
from softmode.training.config import TrainConfig


@pytest.mark.parametrize("config", [BINARY, LABELLED], ids=lambda config: config.network)
def test_the_held_out_loss_is_that_of_a_plain_loss(config: TrainConfig) -> None:
    """Per level over seven images with their labels and fixed noise, with the standard error of the mean."""
    made = make(config)
    _, held_out = data(config)
    measured = made.measure(made.network)
    assert measured == made.measure(made.network)
    noise = torch.randn(7, 1, 8, 8, generator=state.generator(CPU, config.seed, state.HELD_OUT))
    for t, loss, stderr in zip(measured["t"], measured["loss"], measured["stderr"], strict=True):
        times = torch.full((1,), t, dtype=torch.float64)
        each = []
        for i in range(7):
            terms = held_out.tensor()[i : i + 1], times, noise[i : i + 1], held_out.labels[i : i + 1]
            each.append(plain_loss(made.network, terms, made.kind.classes).item())
        assert loss == pytest.approx(np.mean(each), rel=1e-5)
        assert stderr == pytest.approx(np.std(each, ddof=1) / math.sqrt(7), rel=1e-4)


def test_a_classifier_is_measured_by_its_share_of_right_answers() -> None:
    """Over all held-out images, more than go through at once."""
    made = make(CLASSIFIER)
    made.held_out = images(1203, CLASSIFIER.network)

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.eye(10)[2].expand(len(x), 10)

    assert made.measure(Constant()) == {"accuracy": 121 / 1203, "images": 1203}
