"""Models of anybody's, as they come: few noise levels, own labels, networks that return objects."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import softmode as sm
from helpers.guidance import corners
from softmode.experiments.call import experiment, plan
from softmode.runs.identity import fingerprints
from softmode.soundness import UnsoundWarning

# a hundred timesteps of what are mostly a thousand
ABAR = (1 - torch.linspace(1e-4, 0.02, 100, dtype=torch.float64)).cumprod(0)


def noise(x_t: Tensor, t: Tensor) -> Any:
    """Return the noise that three classes leave in a state, as a network of diffusers would."""
    alpha = ABAR.to(x_t)[t.long()].sqrt()[:, None, None, None]
    sigma = (1 - alpha**2).sqrt()
    x = x_t / alpha
    return SimpleNamespace(sample=(x - corners().denoiser()(x, float((sigma / alpha)[0]))) * alpha / sigma)


def test_a_schedule_that_ends_inside_the_data_is_warned_of_and_measured() -> None:
    """A hundred steps end at sigma = 1.3: a warning, and a run whose identity is taken at levels that there are."""
    denoiser = sm.from_discrete(noise, ABAR)
    assert denoiser.levels[1] == pytest.approx(1.323, abs=1e-3)
    with pytest.warns(UnsoundWarning, match=r"highest noise level of 'noise': 1\.32.*sampling starts inside the d"):
        run = sm.probe(denoiser, shape=(1, 8, 8), trajectories=2, steps=8, shells=3, block=2)
    assert float(run.dataset["noise_level"].max()) == pytest.approx(1.323, abs=1e-3)


def test_fingerprints_tell_models_of_few_levels_apart() -> None:
    """All three are taken at levels that the model knows."""
    asked: list[float] = []

    def denoiser(x: Tensor, sigma: Tensor | float, scale: float = 1.0) -> Tensor:
        asked.append(float(sigma))
        return scale * x / 2

    model = sm.Model("few", sm.VE(), (1, 4, 4), lambda _label: denoiser, levels=(0.5, 1.3))
    found = fingerprints({None: denoiser}, model, torch.device("cpu"), torch.float32)
    assert asked == [0.5, 1.0, 1.3]
    assert len(found["all"]) == 3


@pytest.mark.parametrize("name", ["window", "probe"])
def test_ones_own_labels_are_judged_by_no_classifier_that_was_not_named(name: str) -> None:
    """Of 1x28x28 states too, as Fashion-MNIST's are: a model without a card names none."""
    field = torch.cos(torch.arange(28) * 0.449)[None, None, :].expand(1, 1, 28, 28)
    model = sm.Model(
        "digits", sm.VE(), (1, 28, 28), lambda label: sm.EmpiricalDenoiser((1 - 2 * (label or 0)) * field), classes=2
    )
    made = plan(experiment(name), model=model, steps=4, **({"clones": 0, "quick": False} if name == "window" else {}))
    assert getattr(made, "probe", made).classify is None
