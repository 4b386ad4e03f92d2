"""Run the frozen score of a network at several noise levels, from one image and from noise, and its Gaussian null."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softmode.bounds import check
from softmode.contract import Classify, check_denoiser
from softmode.data import read_images
from softmode.denoiser import Autocast, Denoiser
from softmode.device import parse_device
from softmode.estimate import Array
from softmode.experiments.equilibrium.config import Config
from softmode.langevin import LANGEVIN, Frozen, frozen, frozen_reverse_sde, leimkuhler_matthews
from softmode.lattice import Lattice
from softmode.levels import check_level, parse_range
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.networks.load import load_model
from softmode.observe.correlation import scalar_fields
from softmode.observe.order import magnetisation
from softmode.observe.state import Variable
from softmode.runs.classifier import named_classifier
from softmode.runs.experiment import Constants, Plan
from softmode.runs.identity import check_state_fits, identity_of, state_bytes
from softmode.runs.layout import SPACE, constant, layout, space_sizes
from softmode.runs.store import ArraySpec, Block
from softmode.simulation import NonFiniteStateError
from softmode.streams import TrajectoryNoise, tag

# from the image; from noise; from noise with half the step; the Gaussian null model from noise
STARTS = ("ordered", "disordered", "half step", "null")
# fewest chains, and least time in units of sigma^2: the restoring force alone forgets in 1
LEAST_CHAINS, LEAST_TIME = 4, 20.0
# noise levels when none are named
RANGE = "0.3:20"
# times at which denoised states are kept, evenly spaced in their logarithm
KEPT = 12
# chains of a block when a user says nothing
CHAINS = 8
SOURCE = "paper Sec. 5"


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> "NetworkPlan":
    """Check a config and build what it describes.

    Args:
        config: The model, its noise levels, and how long its score is frozen.
        given: The `model` and the `classifier` that are at hand.

    Raises:
        ValueError: If any field is out of range or something cannot be used, naming the remedy.
    """
    check(config)
    given = given or {}
    if config.trajectories < LEAST_CHAINS:
        raise refusal(
            f"trajectories: got {config.trajectories}; expected at least {LEAST_CHAINS}, or no error is known"
        )
    device, dtype = parse_device(config.device), getattr(torch, config.dtype)
    model: Model = given.get("model") or load_model(config.model, device=device, dtype=dtype)
    check_state_fits(model, dtype)
    config = replace(config, sigma_range=config.sigma_range or RANGE, block=config.block or CHAINS)
    levels = read_range(config.sigma_range, config.levels, model)
    kinds = {sigma: dynamics_of(config.dynamics, model, sigma) for sigma in levels.tolist()}
    for kind in kinds.values():
        leimkuhler_matthews(config.step, kind)
    if not config.duration >= max(LEAST_TIME, 4 * config.step):
        raise refusal(
            f"duration: got {config.duration:g}; expected at least {max(LEAST_TIME, 4 * config.step):g} in units of "
            "sigma^2: the restoring force alone forgets in 1, soft modes in many times that"
        )
    most = (min(model.shape[1:]) - 1) // 2
    if config.shells > most:
        raise refusal(f"shells: got {config.shells}; expected at most {most}, those of the lattice")
    images = read_images(config.data, model.shape) if config.data else model.held_out()
    if images is None or not len(images):
        raise refusal(f"data: {quote(model.name)} comes without an image to start from; name a file with --data")
    classify = given.get("classifier") or named_classifier(config.classifier, model, device)[0]
    denoiser = model.denoiser()
    if config.precision != "full":
        denoiser = Autocast(denoiser, getattr(torch, config.precision))
    seconds = check_denoiser(denoiser, model, dtype, device, float(levels[len(levels) // 2]))
    null: Denoiser | None = model.null()
    return NetworkPlan(config, model, denoiser, null, images[0], levels, classify, dtype, device, seconds)


def read_range(text: str, count: int, model: Model) -> Tensor:
    """Return rising noise levels, evenly spaced in their logarithm, between the two of LOW:HIGH.

    Raises:
        ValueError: If they are no two rising levels that the model knows.
    """
    low, high = parse_range("sigma_range", text)
    for level in (low, high):
        check_level("sigma_range", level, model)
    return torch.from_numpy(np.geomspace(low, high, count))


def dynamics_of(name: str, model: Model, sigma: float) -> Frozen:
    """Return the frozen dynamics of a name at a noise level."""
    return LANGEVIN if name == "langevin" else frozen_reverse_sde(model.process, sigma)


@dataclass(frozen=True, eq=False)
class NetworkPlan(Plan):
    """A network and the noise levels at which its score is frozen.

    Args:
        config: The config.
        model: The model.
        denoiser: Its denoiser of all samples together, in the precision asked for.
        null: The Gaussian model with the data's spectrum; None where that is not known.
        image: The image from which ordered chains start, [channel, *space].
        levels: Rising noise levels.
        classify: What recognises denoised states; None for nothing.
        dtype: Floating type of the states.
        device: Device of the states.
        call_seconds: Time of one network evaluation of one state (s).
    """

    config: Config
    model: Model
    denoiser: Denoiser
    null: Denoiser | None
    image: Tensor
    levels: Tensor
    classify: Classify | None
    dtype: torch.dtype
    device: torch.device
    call_seconds: float

    @property
    def parts(self) -> int:  # type: ignore[override] # a property in place of Plan's default
        """One for each start."""
        return len(STARTS) - (self.null is None)

    @property
    def memory(self) -> float:  # type: ignore[override] # a property in place of Plan's default
        """Bytes of a state inside the network."""
        return state_bytes(self.model, self.dtype)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The model by fingerprints, and digests of every file."""
        return identity_of(self.model, {None: self.denoiser}, self.device, self.dtype, self.config.data)

    @property
    def count(self) -> int:
        """Steps that are seen of each chain."""
        return round(self.config.duration / self.config.step) + 1

    @cached_property
    def kept(self) -> list[int]:
        """Steps of which denoised states are kept."""
        return sorted({0, *np.geomspace(1, self.count - 1, KEPT - 1).round().astype(int).tolist()})

    @property
    def constants(self) -> Constants:
        """Noise levels, times, and the variance of the data along each mode."""
        step = self.config.step
        found = {
            "level": constant(self.levels, ("level",), "EDM noise level sigma/alpha"),
            "trajectory": constant(np.arange(self.config.trajectories), ("trajectory",), "chain's index"),
            "time": constant(step * np.arange(self.count), ("time",), "time of a chain", "sigma^2"),
            "kept_time": constant(step * np.array(self.kept), ("kept",), "time of a kept state", "sigma^2"),
        }
        if self.model.spectrum is not None and self.null is not None:
            lattice = Lattice(self.model.shape[1:])
            spectrum = self.model.spectrum[-1].double()[lattice.index_of(lattice.shell_vectors(self.config.shells))]
            found["data_variance"] = constant(spectrum, ("shell", "axis"), "variance of the data along each mode")
        return found

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """Order and amplitudes at every step, and denoised states at some."""
        channels, *sides = self.model.shape
        sizes = {
            "trajectory": self.config.trajectories, "condition": self.parts, "level": len(self.levels),
            "time": self.count, "kept": len(self.kept), "shell": self.config.shells + 1, "axis": len(sides),
            "phase": 2, "channel": channels, **space_sizes(tuple(sides)),
        }  # fmt: skip
        state = ("level", "kept", "channel", *SPACE[-len(sides) :])
        described = {
            "order": Variable(("level", "time"), "mean of D over sites", "data unit", SOURCE, "float32"),
            "amplitude": Variable(
                ("level", "time", "shell", "axis", "phase"), "part of x along unit Fourier modes, cos and sin",
                "data unit", "Eq. 64", "float32",
            ),
            "denoised": Variable(state, "D(x) of some times", "data unit", SOURCE, "float32"),
            "predicted": Variable(("level", "kept"), "most probable class of D(x), or -1", "1", "classifier", "int64"),
        }  # fmt: skip
        return layout(sizes, {name: each.along("condition") for name, each in described.items()}, self.config.dtype)

    def steps(self, pending: list[Block]) -> int:
        """Return the levels of every block."""
        return len(self.levels) * len(pending)

    def seconds(self, pending: list[Block]) -> float:
        """Return about how long the network takes; the null model costs nothing beside it."""
        cost = {"ordered": 1, "disordered": 1, "half step": 2, "null": 0}
        chains = sum(cost[STARTS[block.part]] * len(block.trajectories) for block in pending)
        return self.call_seconds * len(self.levels) * self.count * chains

    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> Mapping[str, Array]:
        """Return every array of the chains of a block from one start."""
        found: dict[str, list[Tensor]] = {}
        for place, sigma in enumerate(self.levels.tolist()):
            for name, value in self._chain(STARTS[block.part], place, sigma, list(block.trajectories)).items():
                found.setdefault(name, []).append(value.cpu())
            advance()
        return {name: torch.stack(each, 1).numpy() for name, each in found.items()}

    @torch.no_grad()
    def _chain(self, start: str, place: int, sigma: float, trajectories: list[int]) -> dict[str, Tensor]:
        """Run the chains of one start at one level."""
        noise = TrajectoryNoise(self.config.seed, trajectories, self.device, (tag(f"equilibrium {start}"), place))
        x = torch.empty(len(trajectories), *self.model.shape, dtype=self.dtype, device=self.device)
        x = noise.fill_(x).mul_(sigma)
        if start == "ordered":
            x = x + self.image.to(x)
        denoiser = self.null if start == "null" and self.null is not None else self.denoiser
        parts = 2 if start == "half step" else 1
        scheme = leimkuhler_matthews(self.config.step / parts, dynamics_of(self.config.dynamics, self.model, sigma))
        modes = Lattice(self.model.shape[1:]).modes(self.config.shells, self.dtype, self.device)
        order, amplitude, denoised = list[Tensor](), list[Tensor](), list[Tensor]()
        for step, (state, made) in enumerate(frozen(denoiser, x, sigma, scheme, noise)):
            if step % parts == 0:
                order.append(magnetisation(made))
                amplitude.append(torch.einsum("bf...,sap...->bfsap", scalar_fields(state), modes).mean(1))
                if step // parts in self.kept:
                    denoised.append(made)
            if step == parts * (self.count - 1):
                break
        if not bool(torch.isfinite(bad := torch.stack(order, 1)).all()):
            raise NonFiniteStateError(trajectories[int((~torch.isfinite(bad)).any(1).nonzero()[0])], sigma)
        states = torch.stack(denoised, 1)
        return {
            "order": bad.float(), "amplitude": torch.stack(amplitude, 1).float(), "denoised": states.float(),
            "predicted": self._predicted(states),
        }  # fmt: skip

    def _predicted(self, states: Tensor) -> Tensor:
        """Return the most probable class of states [chain, kept, ...]."""
        if self.classify is None:
            return torch.full(states.shape[:2], -1)
        return self.classify(states.flatten(0, 1)).argmax(1).reshape(states.shape[:2])
