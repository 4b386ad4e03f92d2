"""Find the softest modes of states at one noise level, and how their amplitudes are pulled, stiffened and coupled."""

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
from softmode.experiments.sector.config import Config
from softmode.labels import Label
from softmode.levels import check_level
from softmode.message import refusal
from softmode.model import Model
from softmode.observe.derivatives import check_derivatives
from softmode.observe.sector import evaluations, sector
from softmode.observe.softest import participation, softest_modes, star
from softmode.observe.spectrum import spectrum
from softmode.observe.state import Variable
from softmode.runs.classes import batches, check_dealt, dealt_labels, in_batches, own_images
from softmode.runs.experiment import Constants, Plan
from softmode.runs.identity import identity_of, state_bytes
from softmode.runs.layout import SPACE, constant, layout, space_sizes
from softmode.runs.opening import open_model
from softmode.runs.states import FLOW_STEPS, images_of, noised_states, sampled_states
from softmode.runs.store import ArraySpec, Block
from softmode.streams import TrajectoryNoise, tag

# random fields that see the whole spectrum, and what each takes of it
FIELDS, NODES = 2, 16
# most products with the Jacobian and its transpose, how many are usual, and what one of either costs, in evaluations
MOST, TYPICAL, PRODUCTS = 200, 25, 4
# residual of a mode that is good enough: its eigenvalue is wrong by the square of that
TOLERANCE = 1e-3


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> "SectorPlan":
    """Check a config and build what it describes.

    Args:
        config: The model, the noise level and the states.
        given: The `model` that is at hand.

    Raises:
        ValueError: If any field is out of range or the model cannot be used, naming the remedy.
    """
    check(config)
    model, device, dtype = open_model(config, given or {})
    check_level("sigma", config.sigma, model)
    channels, *sides = model.shape
    if min(sides) < 4:
        raise refusal(f"shape: got sides {tuple(sides)}; expected at least 4, for waves of two lengths")
    if config.modes >= (size := channels * int(np.prod(sides))):
        raise refusal(
            f"modes: got {config.modes}; expected less than the {size} values of a state: all of it is no sector"
        )
    if config.states == "symmetric":
        config = replace(config, trajectories=1)
    labels = dealt_labels(config.labels, model, config.trajectories)
    images = images_of(config.data, config.trajectories, model, labels) if config.states == "forward" else {}
    denoisers = {label: model.denoiser(label) for label in labels}
    level = torch.tensor([config.sigma], dtype=torch.float64)
    seconds = check_dealt(denoisers, model, dtype, device, config.sigma)
    for each in denoisers.values():
        check_derivatives(each, model.name, model.shape, level.to(device, dtype))
    return SectorPlan(config, model, denoisers, images, dtype, device, seconds)


@dataclass(frozen=True, eq=False)
class SectorPlan(Plan):
    """A model, its data, and the noise level at which its soft sector is measured.

    Args:
        config: The config.
        model: The model.
        denoisers: Its denoiser by class, which are dealt out to the states in turn.
        images: Held-out data of each class; none where the states are no data.
        dtype: Floating type of the states.
        device: Device of the states.
        call_seconds: Time of one network evaluation of one state (s).
    """

    config: Config
    model: Model
    denoisers: dict[Label, Denoiser]
    images: dict[Label, Tensor]
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
        """The states' places."""
        return {"trajectory": constant(np.arange(self.config.trajectories), ("trajectory",), "state's index")}

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """What is found of every state."""
        channels, *sides = self.model.shape
        axes, space = len(sides), SPACE[-len(sides) :]
        sizes = {
            "trajectory": self.config.trajectories, "a": self.config.modes, "b": self.config.modes,
            "c": self.config.modes, "d": self.config.modes, "mu": axes, "nu": axes, "field": FIELDS, "node": NODES,
            "channel": channels, **space_sizes(tuple(sides)),
        }  # fmt: skip
        bend, four = ("a", "b", "mu", "nu"), ("a", "b", "c", "d")
        found = {
            "eigenvalue": Variable(("a",), "largest eigenvalues of (J + J^T)/2", "1", "r = 0 of any mode: paper Eq. 4"),
            "residual": Variable(("a",), "residuals of the eigenvalues", "1"),
            "antisymmetric": Variable((), "|(J - J^T) u|/2 of the softest mode u, 0 for an exact score", "1"),
            "extent": Variable(("a",), "participation ratio of the modes", "site", "bell1970"),
            "wave": Variable(("a", "mu"), "strongest wave of a mode", "lowest wave"),
            "star": Variable(("a",), "share of a mode in the waves that are equivalent to its strongest", "1"),
            "mass": Variable(("a", "b"), "mass M_ab", "1 / data unit^2", "paper C.5"),
            "skew": Variable(("a", "b"), "antisymmetric part of M_ab, 0 for an exact score", "1 / data unit^2"),
            "stiffness": Variable(bend, "stiffness K_ab^mu nu", "site^2 / data unit^2", "paper C.5"),
            "stiffness_error": Variable(bend, "what of K is extrapolation", "site^2 / data unit^2"),
            "quartic": Variable(four, "quartic tensor U_abcd", "1 / data unit^4", "paper C.5"),
            "quartic_error": Variable(four, "what U may be wrong by", "1 / data unit^4"),
            "uneven": Variable((), "share of the cubic response that is no gradient's, 0 for an exact score", "1"),
            "node_value": Variable(("field", "node"), "nodes of the spectrum by random fields", "1", "ubaru2017"),
            "node_weight": Variable(("field", "node"), "their weights", "1", "ubaru2017"),
            "answer": Variable((), "rms of D(x)", "data unit"),
            "mode": Variable(("a", "channel", *space), "softest modes", "1", "r = 0 of any mode: paper Eq. 4", "state"),
        }  # fmt: skip
        return layout(sizes, found, self.config.dtype)

    def steps(self, pending: list[Block]) -> int:
        """Return the batches of all blocks."""
        return sum(len(batches(self.model, tuple(self.denoisers), block.trajectories)) for block in pending)

    def seconds(self, pending: list[Block]) -> float:
        """Return about how long the network takes."""
        each = PRODUCTS * (TYPICAL + FIELDS * NODES) + evaluations(self.config.modes, len(self.model.shape) - 1)
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
        """Measure states.

        Raises:
            ArithmeticError: If the softest modes of a state do not converge.
        """
        sigma, count = self.config.sigma, self.config.modes
        x = self._states(denoiser, trajectories)
        start = self._noise(trajectories, "sector directions")
        found = softest_modes(denoiser, x, sigma, start, count, MOST, TOLERANCE, multiple=True)
        wrong = found.residuals / found.values.abs().clamp(min=1)
        if bool((wrong > TOLERANCE).any()):
            state, mode = np.unravel_index(int(wrong.argmax()), wrong.shape)
            raise ArithmeticError(
                f"modes: after {int(found.steps[state])} products mode {mode + 1} of state {trajectories[state]} is "
                f"known to {float(wrong[state, mode]):.1g}, where {TOLERANCE:g} is good enough; ask for fewer --modes, "
                "or --dtype float64"
            )
        coefficients = sector(denoiser, x, sigma, found.modes)
        random = torch.stack([self._noise(trajectories, f"sector spectrum {i}") for i in range(FIELDS)])
        seen = spectrum(denoiser, x, sigma, random, NODES)
        waves, share = star(found.modes)
        values = {
            "eigenvalue": found.values,
            "residual": found.residuals,
            "antisymmetric": found.antisymmetric,
            "extent": participation(found.modes),
            "wave": waves,
            "star": share,
            "mass": coefficients.mass,
            "skew": coefficients.skew,
            "stiffness": coefficients.stiffness.value,
            "stiffness_error": coefficients.stiffness.error,
            "quartic": coefficients.quartic,
            "quartic_error": coefficients.quartic_error,
            "uneven": coefficients.uneven,
            "node_value": seen.nodes.transpose(0, 1),
            "node_weight": seen.weights.transpose(0, 1),
            "answer": denoiser(x, sigma).detach().flatten(1).square().mean(1).sqrt(),
            "mode": found.modes,
        }
        advance()
        return {name: value.cpu().numpy() for name, value in values.items()}

    def _states(self, denoiser: Denoiser, trajectories: list[int]) -> Tensor:
        """Return states at the noise level."""
        noise, level = self._noise(trajectories), torch.tensor([self.config.sigma], dtype=torch.float64)
        if self.config.states == "symmetric":
            return torch.zeros_like(noise)
        if self.config.states == "reverse":
            return sampled_states(self.model, denoiser, level, noise)[0]
        return noised_states(own_images(self.images, trajectories), level, noise)[0]

    def _noise(self, trajectories: list[int], name: str = "sector") -> Tensor:
        noise = TrajectoryNoise(self.config.seed, trajectories, self.device, (tag(name),))
        return noise.fill_(torch.empty(len(trajectories), *self.model.shape, dtype=self.dtype, device=self.device))
