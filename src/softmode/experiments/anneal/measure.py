"""Sample a network with corrector steps in several places, every condition of a sample from the same noise."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softmode.bounds import check
from softmode.data import read_images
from softmode.denoiser import Denoiser
from softmode.device import parse_device
from softmode.estimate import Array
from softmode.experiments.anneal.conditions import Condition, conditions
from softmode.experiments.anneal.config import Config
from softmode.experiments.anneal.window import find_window
from softmode.experiments.pulse.trials import features_of
from softmode.labels import Label
from softmode.langevin import Corrected
from softmode.levels import flow_levels
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.networks.classifier import ImageClassifier
from softmode.networks.load import load_model
from softmode.observe.correlation import first_moment_length, sign_correlation
from softmode.observe.state import Variable
from softmode.process import VE, rho_grid
from softmode.runs.classes import batches, check_dealt, dealt_labels, in_batches, label_of
from softmode.runs.classifier import judge
from softmode.runs.experiment import Constants, Plan
from softmode.runs.identity import check_state_fits, fingerprint, identity_of, inputs_of, state_bytes
from softmode.runs.layout import SPACE, constant, layout, space_sizes
from softmode.runs.store import ArraySpec, Block
from softmode.samplers import initial_state
from softmode.simulation import simulate
from softmode.streams import TrajectoryNoise, tag

EDM = VE()
# fewest samples that have a spread
LEAST = 4


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> "AnnealPlan":
    """Check a config and build what it describes.

    Args:
        config: The model, and where its sampler is corrected.
        given: The `model` and the `classifier` that are at hand.

    Raises:
        ValueError: If any field is out of range or something cannot be used, naming the remedy.
    """
    check(config)
    given = given or {}
    if config.trajectories < LEAST:
        raise refusal(f"trajectories: got {config.trajectories}; expected at least {LEAST}: fewer have no spread")
    if not any(config.correctors) or len(set(config.correctors)) < len(config.correctors):
        raise refusal(f"correctors: got {list(config.correctors)}; expected different numbers, one of them above 0")
    device, dtype = parse_device(config.device), getattr(torch, config.dtype)
    model: Model = given.get("model") or load_model(config.model, device=device, dtype=dtype)
    check_state_fits(model, dtype)
    levels = rho_grid(*flow_levels(model), config.steps)
    window = find_window(config.window, model)
    made = conditions(config.correctors, levels.numpy(), window)
    labels = dealt_labels(config.labels or model.labels, model, config.trajectories)
    classifier, files = judge(config.classifier, given.get("classifier"), model, model.labels, device)
    model = model.computing_in(config.precision)
    denoisers = {label: model.denoiser(label) for label in labels}
    seconds = check_dealt(denoisers, model, dtype, device, 1.0, rounded=True)
    real = _real(config, model)
    return AnnealPlan(
        config, model, denoisers, classifier, window, made, real, inputs_of(classifier=files), dtype, device, seconds
    )


@dataclass(frozen=True, eq=False)
class AnnealPlan(Plan):
    """A model, a classifier and real images, and the ways to sample that are compared.

    Args:
        config: The config.
        model: The model.
        denoisers: Its denoiser of each class, in the precision asked for.
        classifier: What recognises samples.
        window: Lowest and highest noise level of the window.
        conditions: The ways to sample.
        real: Real images, [image, channel, *space].
        inputs: Digests of the classifier's files.
        dtype: Floating type of the states.
        device: Device of the states.
        call_seconds: Time of one network evaluation of one state (s).
    """

    config: Config
    model: Model
    denoisers: dict[Label, Denoiser]
    classifier: ImageClassifier
    window: tuple[float, float]
    conditions: list[Condition]
    real: Tensor
    inputs: Mapping[str, str]
    dtype: torch.dtype
    device: torch.device
    call_seconds: float

    @property
    def parts(self) -> int:  # type: ignore[override] # a property in place of Plan's default
        """One for each condition."""
        return len(self.conditions)

    @property
    def memory(self) -> float:  # type: ignore[override] # a property in place of Plan's default
        """Bytes of a state inside the network."""
        return state_bytes(self.model, self.dtype)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The model and the classifier by fingerprints, digests of every file, the window and the conditions."""
        found = identity_of(self.model, self.denoisers, self.device, self.dtype, self.config.data)
        found["model"]["classifier"] = fingerprint(
            lambda x: self.classifier(x.float()), self.model.shape, self.device, self.dtype
        )
        found["inputs"] |= self.inputs
        return found | {"window": list(self.window), "conditions": [each.plain for each in self.conditions]}

    @property
    def constants(self) -> Constants:
        """The class of each sample, and what the classifier sees of real images."""
        labels = [label_of(tuple(self.denoisers), i) for i in range(self.config.trajectories)]
        known = np.array([label if isinstance(label, int) else -1 for label in labels])
        lengths = first_moment_length(sign_correlation(self.real)).numpy()
        return {
            "trajectory": constant(np.arange(len(labels)), ("trajectory",), "sample's index"),
            "label": constant(known, ("trajectory",), "class of the sample, -1 without one"),
            "real_features": constant(
                features_of(self.real, self.classifier, self.device), ("real", "feature"), "features of real images"
            ),
            "real_xi_x": constant(lengths, ("real",), "correlation length xi_x of real images", "site"),
        }

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """Samples, what the classifier sees of them and says, and their correlation length."""
        channels, *sides = self.model.shape
        seen = features_of(torch.zeros(1, *self.model.shape), self.classifier, self.device)
        sizes = {
            "trajectory": self.config.trajectories, "condition": self.parts, "feature": seen.shape[1],
            "channel": channels, **space_sizes(tuple(sides)),
        }  # fmt: skip
        described = {
            "image": Variable(("channel", *SPACE[-len(sides) :]), "sample", "data unit", "song2021", "state"),
            "features": Variable(("feature",), "what the classifier's last layer sees", "1", "classifier", "float32"),
            "predicted": Variable((), "most probable class", "1", "classifier", "int64"),
            "xi_x": Variable((), "correlation length xi_x of the sign", "site", "Eq. 63"),
        }
        return layout(sizes, {name: each.along("condition") for name, each in described.items()}, self.config.dtype)

    def steps(self, pending: list[Block]) -> int:
        """Return the sampler's steps of every batch of a block."""
        labels = tuple(self.denoisers)
        counts = (len(batches(self.model, labels, block.trajectories)) for block in pending)
        return sum(self.conditions[block.part].levels * count for block, count in zip(pending, counts, strict=True))

    def seconds(self, pending: list[Block]) -> float:
        """Return about how long the network takes."""
        calls = sum(self.conditions[block.part].calls * len(block.trajectories) for block in pending)
        return self.call_seconds * calls

    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> Mapping[str, Array]:
        """Return every array of the samples of a block under one condition."""
        condition = self.conditions[block.part]
        return in_batches(
            self.model,
            self.denoisers,
            block.trajectories,
            lambda denoiser, group: self._measure(condition, denoiser, group, advance),
        )

    def _measure(
        self, condition: Condition, denoiser: Denoiser, trajectories: list[int], advance: Callable[[], None]
    ) -> dict[str, Array]:
        levels = rho_grid(*flow_levels(self.model), condition.levels)
        times = torch.cat([levels, levels.new_zeros(1)])
        noise = TrajectoryNoise(self.config.seed, trajectories, self.device, (tag("anneal"),))
        x = initial_state(EDM, float(levels[0]), noise, self.model.shape, self.dtype)
        sampler = Corrected(correctors=condition.correctors, length=self.config.length)
        final = simulate(denoiser, EDM, x, times, noise, sampler=sampler, on_step=advance).state
        features = features_of(final, self.classifier, self.device)
        with torch.no_grad():
            predicted = self.classifier.head(torch.from_numpy(features).to(self.device)).argmax(1).cpu()
        return {
            "image": final.numpy(),
            "features": features,
            "predicted": predicted.numpy(),
            "xi_x": first_moment_length(sign_correlation(final)).numpy(),
        }


def _real(config: Config, model: Model) -> Tensor:
    """Return real images."""
    images = read_images(config.data, model.shape) if config.data else model.held_out()
    if images is None or len(images) < LEAST:
        raise refusal(
            f"data: {quote(model.name)} comes without real images, with which samples are compared; name a file with "
            "--data"
        )
    return images
