"""Noise images along paths, and follow what each value of a label, and no label, makes of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softmode.bounds import check
from softmode.data import CLASSES, read_images
from softmode.denoiser import Denoiser
from softmode.estimate import Array
from softmode.exact.gaussian import GaussianDenoiser, null_model
from softmode.experiments.information.config import Config
from softmode.experiments.information.images import Noised, noised_images
from softmode.labels import Label
from softmode.levels import check_reaches, settled_levels
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.observe.state import Variable
from softmode.posterior import error_power, first_log_likelihood, noising_path, path_log_likelihood, wave_bands
from softmode.runs.classes import check_dealt, dealt_labels
from softmode.runs.experiment import Constants, Plan
from softmode.runs.identity import identity_of, state_bytes
from softmode.runs.layout import constant, layout
from softmode.runs.opening import open_model
from softmode.runs.store import ArraySpec, Block
from softmode.streams import TrajectoryNoise, tag
from softmode.targets import Target, targets

# highest and lowest noise level
LEVELS = (80.0, 0.05)
# fewest images that have an interval
LEAST = 2


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> "InformationPlan":
    """Check a config and build what it describes.

    Args:
        config: The model, and what is asked of it.
        given: The `model` that is at hand.

    Raises:
        ValueError: If any field is out of range or the model cannot be used, naming the remedy.
    """
    check(config)
    if config.trajectories < LEAST:
        raise refusal(f"trajectories: got {config.trajectories}; expected at least {LEAST}: fewer have no interval")
    given = given or {}
    model, device, dtype = open_model(config, given)
    highest, lowest = settled_levels(model, config.highest, config.lowest, LEVELS)
    config = replace(config, highest=highest, lowest=lowest)
    if config.labels:
        dealt_labels(config.labels, model, config.trajectories)
    if len(config.labels) == 1:
        raise refusal(
            f"labels: got {config.labels[0]} alone; which of one label a sample is needs no information: name at least "
            "two, or leave it out"
        )
    asked = targets(model, config.labels)
    if asked and sum(len(target.labels) for target in asked) == len(asked):
        raise refusal(f"model: {quote(model.name)} knows one class, about which there is nothing to know: 0 nats")
    images = noised_images(config, model, asked, device, dtype)
    check_reaches(lowest, images.images)
    levels = torch.from_numpy(np.geomspace(highest, lowest, config.levels))
    labels = dict.fromkeys(label for target in asked for label in target.labels)
    denoisers = _without(model, asked) | {label: model.denoiser(label) for label in labels}
    middle = float(levels[len(levels) // 2])
    seconds = check_dealt(denoisers, model, dtype, device, middle, rounded=True)
    return InformationPlan(
        config, model, asked, denoisers, images, _null(config, model), levels, dtype, device, seconds
    )


def _without(model: Model, asked: Sequence[Target]) -> dict[Label, Denoiser]:
    """Return the denoiser without a label; none where the model lacks it, and the values of one target make it up."""
    try:
        return {None: model.denoiser()}
    except ValueError:
        if len(asked) == 1:
            return {}
        raise


def _null(config: Config, model: Model) -> GaussianDenoiser | None:
    """Return the Gaussian model of the data's spectrum; None where it is not known."""
    return null_model(read_images(config.data, model.shape)) if config.data else model.null()


def _names(target: Target, model: Model) -> list[str]:
    """Return what the values of a target are called."""
    if model.attributes and target.name in model.attributes:
        return list(model.attributes[target.name])
    fashion = getattr(model.card, "data", "") == "Fashion-MNIST"
    return [CLASSES[label] if fashion and isinstance(label, int) else str(label) for label in target.labels]


@dataclass(frozen=True, eq=False)
class InformationPlan(Plan):
    """A model, the images that are noised, and the labels that are told apart.

    Args:
        config: The config.
        model: The model.
        targets: What its labels are about.
        denoisers: Its denoiser of every label, and of none where it has one.
        images: What is noised.
        null: The Gaussian model of the data; None where that is not known.
        levels: Falling noise levels.
        dtype: Floating type of the states.
        device: Device of the states.
        call_seconds: Time of one network evaluation of one state (s).
    """

    config: Config
    model: Model
    targets: tuple[Target, ...]
    denoisers: dict[Label, Denoiser]
    images: Noised
    null: GaussianDenoiser | None
    levels: Tensor
    dtype: torch.dtype
    device: torch.device
    call_seconds: float

    @property
    def memory(self) -> float:  # type: ignore[override] # a property in place of Plan's default
        """Bytes of a state inside the network, and of its path."""
        path = len(self.levels) * 8 * float(np.prod([float(side) for side in self.model.shape]))
        return state_bytes(self.model, self.dtype) + path

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The model by fingerprints, what is told apart, and digests of every file."""
        return identity_of(self.model, self.denoisers, self.device, self.dtype, self.config.data) | {
            "noised": self.images.what,
            "targets": {target.name: _names(target, self.model) for target in self.targets},
        }  # fmt: skip

    @property
    def constants(self) -> Constants:
        """The noise levels, and the bands of Fourier modes."""
        bands = wave_bands(self.model.shape[1:])
        sizes = torch.bincount(bands.flatten())
        return {
            "level": constant(self.levels, ("level",), "EDM noise level sigma/alpha"),
            "band": constant(np.arange(len(sizes)), ("band",), "wavenumber of a band of modes, in units of the lowest"),
            "band_size": constant(sizes, ("band",), "modes of the band"),
            "trajectory": constant(np.arange(self.config.trajectories), ("trajectory",), "image's index"),
        }

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """What every label makes of every path, and the errors of the denoiser without a label."""
        sizes = {
            "trajectory": self.config.trajectories, "level": len(self.levels),
            "band": int(wave_bands(self.model.shape[1:]).max()) + 1,
            "label": sum(len(target.labels) for target in self.targets), "target": len(self.targets),
        }  # fmt: skip
        rates = ("level", "band")
        found = {"error": Variable(rates, "|x_0 - D(x)|^2/sigma^2 in the band's modes", "nat", "guo2005")}
        if self.null is not None:
            found["null_error"] = Variable(rates, "the same of the Gaussian null model", "nat", "guo2005")
        if self.targets:
            found["likelihood"] = Variable(
                ("level", "label"), "log-likelihood of the path down to the level, up to a constant", "nat", "ho2020"
            )
            found["truth"] = Variable(("target",), "value of the label, -1 where not known", "1", "data", "int64")
        return layout(sizes, found, self.config.dtype)

    def steps(self, pending: list[Block]) -> int:
        """Return the levels of some blocks."""
        return len(pending) * len(self.levels)

    def seconds(self, pending: list[Block]) -> float:
        """Return about how long the network takes."""
        each = len(self.levels) * len(self.denoisers) * self.call_seconds
        return each * sum(len(block.trajectories) for block in pending)

    @torch.no_grad()
    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> Mapping[str, Array]:
        """Return every array of a block; each denoiser sees each state once."""
        trajectories = list(block.trajectories)
        x, truth = self.images.of(trajectories)
        noise = TrajectoryNoise(self.config.seed, trajectories, self.device, (tag("noising path"),))
        path = noising_path(x, self.levels, noise.fill_)
        bands = wave_bands(self.model.shape[1:])
        likelihood = torch.empty(0)
        columns: dict[str, list[Tensor]] = {"error": [], "null_error": [], "likelihood": []}
        for place, sigma in enumerate(self.levels.tolist()):
            state = path[place].to(self.dtype)
            answers = {label: denoiser(state, sigma) for label, denoiser in self.denoisers.items()}
            without = answers.pop(None, None)
            if answers:
                denoised = torch.stack(list(answers.values()), 1)
                if place == 0:
                    likelihood = first_log_likelihood(path[0], denoised, sigma)
                columns["likelihood"].append(likelihood)
                if without is None:  # E[x_0 | x] is the mean of E[x_0 | x, z] over the posterior of z
                    without = torch.einsum("il,il...->i...", likelihood.softmax(1).to(denoised), denoised)
            assert without is not None
            columns["error"].append(error_power(x, without, sigma, bands))
            if self.null is not None:
                columns["null_error"].append(error_power(x, self.null(state, sigma), sigma, bands))
            if answers and place + 1 < len(self.levels):
                below = float(self.levels[place + 1])
                likelihood = likelihood + path_log_likelihood(path[place], path[place + 1], denoised, sigma, below)
            advance()
        found = {name: torch.stack(values, 1).cpu().numpy() for name, values in columns.items() if values}
        return found | {"truth": truth.numpy()} if self.targets else found
