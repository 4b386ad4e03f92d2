"""Follow the softest mode of noised data, or of trajectories, down the noise levels."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softmode.bounds import check
from softmode.denoiser import Denoiser
from softmode.estimate import Array
from softmode.experiments.instability import growth as pushes
from softmode.experiments.instability.config import Config
from softmode.experiments.instability.growth import growth
from softmode.labels import Label
from softmode.levels import check_reaches, settled_levels
from softmode.message import refusal
from softmode.model import Model
from softmode.observe.derivatives import check_derivatives
from softmode.observe.softest import gain_along, overlap, participation, softest_modes, wavenumber
from softmode.observe.state import Variable
from softmode.observe.wave_gains import wave_gains
from softmode.runs.classes import batches, check_dealt, dealt_labels, in_batches, own_images
from softmode.runs.experiment import Constants, Plan
from softmode.runs.identity import identity_of, state_bytes
from softmode.runs.layout import SPACE, constant, layout, space_sizes
from softmode.runs.opening import open_model
from softmode.runs.states import FLOW_STEPS, images_of, noised_states, sampled_states
from softmode.runs.store import ArraySpec, Block
from softmode.streams import TrajectoryNoise, tag

# highest and lowest noise level
LEVELS = (80.0, 0.1)
# a product with the Jacobian and one with its transpose, in evaluations of the network
PRODUCTS = 4
# fewest states that have an interval
LEAST = 2
# products that a mode takes, about
TYPICAL = 8
# eigenvalues of each state
PAIRS = 4
# levels from one push that is followed to the end to the next
PUSHED = 3


SOURCE = "r = 0 of any mode: paper Eq. 4, Sec. 5"


def _along(what: str, units: str = "1", source: str = SOURCE) -> Variable:
    return Variable(("level",), what, units, source)


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> "InstabilityPlan":
    """Check a config and build what it describes.

    Args:
        config: The model, and where its softest modes are looked for.
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
    labels = dealt_labels(config.labels, model, config.trajectories)
    images = images_of(config.data, config.trajectories, model, labels) if config.states == "forward" else {}
    check_reaches(lowest, *images.values())
    denoisers = {label: model.denoiser(label) for label in labels}
    levels = torch.from_numpy(np.geomspace(highest, lowest, config.levels))
    middle = float(levels[len(levels) // 2])
    seconds = check_dealt(denoisers, model, dtype, device, middle)
    for each in denoisers.values():
        check_derivatives(each, model.name, model.shape, levels.to(device, dtype))
    return InstabilityPlan(config, model, denoisers, images, levels, dtype, device, seconds)


@dataclass(frozen=True, eq=False)
class InstabilityPlan(Plan):
    """A model, its data, and the noise levels at which its softest modes are looked for.

    Args:
        config: The config.
        model: The model.
        denoisers: Its denoiser by class, which are dealt out to the states in turn.
        images: Held-out data of each class; none where trajectories are followed.
        levels: Falling noise levels.
        dtype: Floating type of the states.
        device: Device of the states.
        call_seconds: Time of one network evaluation of one state (s).
    """

    config: Config
    model: Model
    denoisers: dict[Label, Denoiser]
    images: dict[Label, Tensor]
    levels: Tensor
    dtype: torch.dtype
    device: torch.device
    call_seconds: float

    @property
    def memory(self) -> float:  # type: ignore[override] # a property in place of Plan's default
        """Bytes of a state inside the network, whose activations are kept for the way back."""
        return 2 * state_bytes(self.model, self.dtype)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The model by fingerprints, and digests of every file."""
        return identity_of(self.model, self.denoisers, self.device, self.dtype, self.config.data)

    @property
    def constants(self) -> Constants:
        """The noise levels."""
        return {
            "level": constant(self.levels, ("level",), "EDM noise level sigma/alpha"),
            "trajectory": constant(np.arange(self.config.trajectories), ("trajectory",), "state's index"),
        }

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """What is found of every state at every level, and its softest mode."""
        channels, *sides = self.model.shape
        sizes = {
            "trajectory": self.config.trajectories, "level": len(self.levels), "pair": PAIRS, "channel": channels,
            **space_sizes(tuple(sides)),
        }  # fmt: skip
        return layout(
            sizes,
            {
                "eigenvalue": Variable(("level", "pair"), "largest eigenvalues of (J + J^T)/2", "1", SOURCE),
                "residual": _along("residual of the first eigenvalue"),
                "antisymmetric": _along("|(J - J^T) u|/2 of its mode u, 0 for an exact score"),
                "extent": _along("participation ratio of the mode", "site", "bell1970"),
                "wavenumber": _along("rms wavenumber of the mode", "radian per site"),
                "kept": _along("|overlap| with the mode at the level before"),
                "first_gain": _along(
                    "gain along the softest mode of the first state; NaN of that itself", source="MMSE <= linear MMSE"
                ),
                "first_part": _along("part of the state along that mode", "data unit"),
                "wave_gain": Variable(
                    ("level", *SPACE[-len(sides) :]),
                    "gain of every wave, in the order of an FFT",
                    "1",
                    "Eq. 64",
                    "state",
                ),
                "growth": _along("growth of a push along the mode until the end; NaN at two of three levels"),
                "growth_random": _along("growth of a push in a random direction"),
                "mode": Variable(("level", "channel", *SPACE[-len(sides) :]), "softest mode", "1", SOURCE, "state"),
            },
            self.config.dtype,
        )

    def steps(self, pending: list[Block]) -> int:
        """Return the levels of every batch of a block."""
        labels = tuple(self.denoisers)
        return len(self.levels) * sum(len(batches(self.model, labels, block.trajectories)) for block in pending)

    def seconds(self, pending: list[Block]) -> float:
        """Return about how long the network takes."""
        # and the gains of all waves, by one more product forward
        each = len(self.levels) * (PRODUCTS * TYPICAL + 2)
        each += -(-len(self.levels) // PUSHED) * 2 * pushes.EVALUATIONS if self.config.growth else 0
        each += 2 * FLOW_STEPS if self.config.states == "reverse" else 0
        return each * self.call_seconds * sum(len(block.trajectories) for block in pending)

    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> Mapping[str, Array]:
        """Return every array of a block."""
        return in_batches(
            self.model,
            self.denoisers,
            block.trajectories,
            lambda denoiser, group: self._measure(denoiser, group, advance),
        )

    def _measure(self, denoiser: Denoiser, trajectories: list[int], advance: Callable[[], None]) -> dict[str, Array]:
        """Follow states down the noise levels."""
        columns, states = dict[str, list[Tensor]](), self._states(denoiser, trajectories)
        random = self._noise(trajectories, "instability directions")
        direction = random / torch.linalg.vector_norm(random.flatten(1), dim=1).reshape(-1, *[1] * (random.ndim - 1))
        before = None
        others = torch.tensor([0.0 if i else math.nan for i in trajectories], dtype=self.dtype)
        for place, (sigma, x) in enumerate(zip(self.levels.tolist(), states, strict=True)):
            found = softest_modes(denoiser, x, sigma, direction if before is None else before, PAIRS)
            mode = found.modes[:, 0]
            if before is not None:  # whichever sign makes it go on
                turned = (mode * before).flatten(1).sum(1) < 0
                mode = torch.where(turned.reshape(-1, *[1] * (mode.ndim - 1)), -mode, mode)
            values = {
                "eigenvalue": found.values,
                "residual": found.residuals[:, 0],
                "antisymmetric": found.antisymmetric,
                "extent": participation(found.modes)[:, 0],
                "wavenumber": wavenumber(mode),
                "kept": torch.full_like(found.antisymmetric, math.nan) if before is None else overlap(mode, before),
                "first_gain": others + gain_along(denoiser, x, sigma, self._first_modes[place]).cpu(),
                "first_part": (x * self._first_modes[place]).flatten(1).sum(1),
                "wave_gain": wave_gains(denoiser, x, sigma, self._noise(trajectories, f"instability waves {place}")),
                "growth": self._growth(place, denoiser, x, mode),
                "growth_random": self._growth(place, denoiser, x, direction),
                "mode": mode,
            }
            for name, value in values.items():
                columns.setdefault(name, []).append(value.cpu())
            before = mode
            advance()
        return {name: torch.stack(each, 1).numpy() for name, each in columns.items()}

    @cached_property
    def _first_modes(self) -> list[Tensor]:
        """The softest mode of the first state at every level, found from there on whatever block is measured."""
        denoiser = next(iter(self.denoisers.values()))
        found, mode = list[Tensor](), self._noise([0], "instability directions")
        for sigma, x in zip(self.levels.tolist(), self._states(denoiser, [0]), strict=True):
            mode = softest_modes(denoiser, x, sigma, mode).modes[:, 0]
            found.append(mode[0])
        return found

    def _states(self, denoiser: Denoiser, trajectories: list[int]) -> list[Tensor]:
        """Return states at every level."""
        noise = self._noise(trajectories)
        if not self.images:
            return sampled_states(self.model, denoiser, self.levels, noise)
        return noised_states(own_images(self.images, trajectories), self.levels, noise)

    def _growth(self, place: int, denoiser: Denoiser, x: Tensor, modes: Tensor) -> Tensor:
        """Return how much pushes have grown in the end, at every third level, as it takes the flow to the end."""
        if place % PUSHED or not self.config.growth:
            return torch.full((len(x),), math.nan, dtype=x.dtype)
        return growth(denoiser, x, float(self.levels[place]), modes)

    def _noise(self, trajectories: list[int], name: str = "instability") -> Tensor:
        noise = TrajectoryNoise(self.config.seed, trajectories, self.device, (tag(name),))
        return noise.fill_(torch.empty(len(trajectories), *self.model.shape, dtype=self.dtype, device=self.device))
