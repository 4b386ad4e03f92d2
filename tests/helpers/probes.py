"""Exact models on 8x8 sites that probes can be checked against, and small settings."""

from typing import Any

import torch
from torch import Tensor

from softmode.data import Images
from softmode.denoiser import Denoiser
from softmode.exact.empirical import EmpiricalDenoiser, TwoPrototypes
from softmode.exact.gaussian import GaussianDenoiser
from softmode.exact.patch import TwoStatePatch
from softmode.experiments.probe.config import Config
from softmode.experiments.probe.measure import ProbePlan, prepare
from softmode.lattice import ReceptiveField
from softmode.model import Model
from softmode.process import VE, VP, Process

from .models import null_model, ornstein_zernike
from .random import normal, pixels

TINY: dict[str, Any] = {
    "t_max": 6.0, "t_min": 0.02, "steps": 120, "measure_every": 10, "shells": 3, "trajectories": 5, "block": 2,
    "dtype": "float64", "snapshots": (3.0, 0.3),
}  # fmt: skip
# of a few steps of Heun's method
FLOW: dict[str, Any] = {
    "steps": 12, "shells": 3, "trajectories": 4, "block": 4, "dtype": "float64", "sampler": "heun"
}  # fmt: skip


def exact_model(name: str, process: Process | None = None) -> Model:
    """Return an exact model with nine held-out images, three of each class, and a null model."""
    made: dict[str, Denoiser] = {
        "gaussian": GaussianDenoiser(ornstein_zernike(8, 8, mass=0.4), 0.2),
        "patch": TwoStatePatch(ReceptiveField.box(3)),
        "prototypes": TwoPrototypes(normal(1, 8, 8, seed=2).sign()),
        "empirical": EmpiricalDenoiser(normal(6, 1, 8, 8, seed=5)),
    }
    return Model(
        name, process or VP(), (1, 8, 8), lambda _label: made[name], binary=name != "gaussian",
        images=Images(pixels(9, 1, 8, 8), torch.arange(9) % 3, "binary"), **null_model(8, 8, mean=0.2),
    )  # fmt: skip


def two_classes(channels: int = 1, process: Process | None = None) -> Model:
    """Return an empirical model of two classes of three data each, with eight held-out images and null models."""
    data = normal(6, channels, 8, 8)

    def bind(label: int | None) -> Denoiser:
        return EmpiricalDenoiser(data if label is None else data[3 * label : 3 * label + 3])

    return Model(
        "two", process or VE(), (channels, 8, 8), bind, classes=2,
        images=Images(pixels(8, channels, 8, 8), torch.arange(8) % 2, "grey"),
        spectrum=torch.stack([torch.full((8, 8), s) for s in (1.0, 2.0, 3.0)]), mean=torch.zeros(3, channels, 8, 8),
    )  # fmt: skip


def plan(model: Model, **settings: Any) -> ProbePlan:
    """Return the plan of a probe of a model."""
    return prepare(Config(model=model.name, **settings), {"model": model})


def by_mean(x: Tensor) -> Tensor:
    """Return logits of two classes that differ in the sign of the mean, [batch, 2]."""
    m = 3 * x.flatten(1).mean(1)
    return torch.stack([m, -m], 1)
