"""Experiments on guidance of models with known answers, and a window that costs nothing."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from softmode.estimate import Estimate
from softmode.exact.mixture import GaussianMixture
from softmode.experiments.call import experiment
from softmode.experiments.pulse import critical
from softmode.experiments.pulse.config import Config as PulseConfig
from softmode.experiments.susceptibility.config import Config as SusceptibilityConfig
from softmode.model import Model
from softmode.runs.engine import execute
from softmode.runs.experiment import Experiment, Plan
from softmode.runs.identity import inputs_of
from softmode.runs.results import Quantity, Results
from softmode.runs.run import Run
from softmode.runs.store import ArraySpec, Block

from .models import Classifier, mixture_model

CONDITIONS = ["unguided", "critical", "random", "random_log", "random_step", "spread", "constant", "window", "interval"]
PULSE = PulseConfig(model="corners", classes=3, trials=6, sigma_c=3.0, block=4, weight=1.5)
SUSCEPTIBILITY = SusceptibilityConfig(
    model="corners",
    method="pulses",
    classes=3,
    trials=4,
    steps=64,
    sigma_c=2.0,
    centres=4,
    highest=20.0,
    lowest=0.1,
    weight=1.0,
)


def corners(name: str = "corners", inputs: Mapping[str, str] | None = None) -> Model:
    """Return three Gaussian classes: bright, bright on the left, dark."""
    left = torch.cat([torch.ones(8, 4), -torch.ones(8, 4)], 1)
    means = torch.stack([torch.ones(8, 8), left, -torch.ones(8, 8)]).unsqueeze(1) * 0.7
    mixture = GaussianMixture(means, 0.3)
    return Model(name, mixture_model(mixture).process, (1, 8, 8), mixture.denoiser, classes=3, inputs=inputs or {})


def _halves(x: Tensor) -> Tensor:
    return torch.stack([x[..., :4].mean((1, 2, 3)), x[..., 4:].mean((1, 2, 3)), x.std((1, 2, 3))], 1)


def _corner(features: Tensor) -> Tensor:
    a, b, _ = features.T
    return torch.stack([a + b, a - b, -a - b], 1)


def nearest() -> Classifier:
    """Return a classifier of these classes, by the means of the two halves."""
    return Classifier(_halves, _corner, 3)


def guide(name: str, config: Any, out: Path, model: Model | None = None, classifier: Any = None) -> Run:
    """Run an experiment on guidance, of the three corners when left out."""
    chosen = experiment(name)
    given = {"model": model or corners(), "classifier": classifier or nearest()}
    return execute(chosen, chosen.prepare(config, given), out)


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """The options of a window that experiments on guidance set."""

    model: str
    labels: tuple[int, ...] = ()
    trajectories: int = 16
    clones: int = 16
    shells: int = 6
    seed: int = 0
    dtype: str = "float32"
    precision: str = "full"
    device: str = "cpu"
    block: int = 8
    classifier: str = "none"


@dataclass(frozen=True, eq=False)
class WindowPlan(Plan):
    """Gains of four shells at ten noise levels, which rise to a peak and fall."""

    config: WindowConfig
    model: Model

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"model": {"name": self.model.name}, "inputs": inputs_of(model=self.model.inputs)}

    @property
    def constants(self) -> Mapping[str, Any]:
        k = np.arange(4.0)[:, None] * [[0.8, 0.8]]
        return {
            "noise_level": (ArraySpec(("time",), (10,), "float64", {}), np.geomspace(80, 0.002, 10)),
            "k": (ArraySpec(("shell", "axis"), k.shape, "float64", {}), k),
        }

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        shape = (self.config.trajectories, 10, 4, 2)
        return {"gain": ArraySpec(("trajectory", "time", "shell", "axis"), shape, "float64", {})}

    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> Mapping[str, np.ndarray]:
        height = np.sin(np.linspace(0.1, 3.0, 10))[:, None, None] * np.array([0.9, 0.7, 0.4, 0.2])[:, None]
        return {"gain": np.broadcast_to(height, (len(block.trajectories), 10, 4, 2))}


def window_results(sigma_c: float = 2.5, verdict: str = "found") -> Results:
    """Return what softmode window says of a window from 1 to 6, or of none."""
    value = {"sigma_c": sigma_c, "sigma_lo": 1.0, "sigma_hi": 6.0}
    quantities = () if verdict == "none" else tuple(
        Quantity(kind, 0, Estimate(each, 0.1 * each, 8, 0.8 * each, 1.2 * each), kind) for kind, each in value.items()
    )  # fmt: skip
    return Results("no critical window found", quantities, values={"verdict": verdict, "intercept": "constant mode"})


@contextmanager
def cheap_window(results: Results) -> Iterator[Experiment]:
    """Let experiments on guidance find these results in place of softmode window's."""
    folder = {
        "config": SimpleNamespace(Config=WindowConfig),
        "measure": SimpleNamespace(prepare=lambda config, given: WindowPlan(config, given["model"])),
        "analyse": SimpleNamespace(analyse=lambda _run: results),
        "figures": SimpleNamespace(FIGURES={}),
    }
    cheap = Experiment("window", "cheap_window")
    with pytest.MonkeyPatch.context() as patch:
        for name, module in {"": None, **folder}.items():
            patch.setitem(sys.modules, f"cheap_window.{name}".rstrip("."), module or SimpleNamespace(__path__=[]))
        patch.setattr(critical, "WINDOW", cheap)
        patch.setattr("softmode.experiments.pulse.measure.WINDOW", cheap)
        patch.setattr("softmode.experiments.susceptibility.pulses_figures.WINDOW", cheap)
        yield cheap


def stored_window(out: Path, model: Model | None = None) -> Run:
    """Write the run of a cheap window, inside `cheap_window`."""
    model = model or corners()
    return execute(critical.WINDOW, WindowPlan(WindowConfig(model=model.name, trajectories=4), model), out)
