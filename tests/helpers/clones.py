"""Clone runs of two uniform states."""

from pathlib import Path

import torch

from softmode.contract import Classify
from softmode.experiments.call import experiment
from softmode.experiments.clones.config import Config
from softmode.experiments.clones.measure import prepare
from softmode.model import Model
from softmode.networks.card import Card, save_weights
from softmode.process import Process
from softmode.runs.engine import execute
from softmode.runs.run import Run

from .models import two_states

SMALL = Config(
    model="two", classifier="none", trajectories=5, times=(2.5, 1.0, 0.3), t_max=3.0, t_min=0.05,
    steps=40, block=2, dtype="float64",
)  # fmt: skip


def uniform(*shape: int, process: Process | None = None, scale: float = 1.0, **known: object) -> Model:
    """Return a model of the two uniform states of a shape, [channel, *space]."""
    return two_states(scale * torch.ones(shape, dtype=torch.float64), process, **known)


def clones(config: Config, out: Path, model: Model | None = None, classifier: Classify | None = None) -> Run:
    """Run the experiment on a model, of 2x2 sites when left out."""
    given = {"model": model or uniform(1, 2, 2)} | ({} if classifier is None else {"classifier": classifier})
    return execute(experiment("clones"), prepare(config, given), out)


def classifier_file(path: Path, size: tuple[int, ...] = (8, 8), seed: int = 0) -> str:
    """Write an untrained classifier of grey images and return its path."""
    torch.manual_seed(seed)
    card = Card("classifier", 1, size, 10, "Fashion-MNIST", "grey")
    save_weights(path / "classifier.safetensors", card.build(), card, {})
    return str(path / "classifier.safetensors")
