"""The probe: sample a model, or noise its data, and measure its critical dynamics beside the null model."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softmode.bounds import check
from softmode.contract import Classify
from softmode.denoiser import Autocast, Denoiser
from softmode.estimate import Array
from softmode.experiments.probe.config import Config
from softmode.experiments.probe.cost import evaluations_each
from softmode.experiments.probe.prepare import (
    OfClass,
    bind_classes,
    denoisers_of,
    file_inputs,
    find_classify,
    grid,
    settle,
    snapshot_steps,
)
from softmode.labels import Label
from softmode.lattice import Lattice
from softmode.model import Model
from softmode.observe.correlation import SecondMoment, SignLength
from softmode.observe.critical_curves import CRITICAL_CURVES, MODES, critical_curves
from softmode.observe.gains import GAIN_CHANGE, ModeGains, exact_gains, luminance_and_chroma
from softmode.observe.order import ClassEntropy
from softmode.observe.response import Denoised, Response
from softmode.observe.state import Observable, State, Variable, along
from softmode.process import Process, process_name
from softmode.runs.classes import batches, by_label, check_dealt, dealt_labels, in_batches, label_of, own_images
from softmode.runs.experiment import Constants, Plan
from softmode.runs.identity import fingerprint, fingerprints, state_bytes
from softmode.runs.layout import SPACE, constant, layout, space_sizes, time_axes
from softmode.runs.opening import open_model
from softmode.runs.store import ArraySpec, Block
from softmode.samplers import Noising, Sampler, initial_state, sampler_for
from softmode.simulation import Trajectory, simulate
from softmode.soundness import warn_if_unsound
from softmode.streams import TrajectoryNoise, null_data_seed


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> "ProbePlan":
    """Check a config and build what it describes.

    Args:
        config: What to probe and how.
        given: Live objects in place of what the config names: `model`, `classifier`.

    Raises:
        ValueError: If any field is out of range or the model cannot be used, naming the remedy.
    """
    check(config)
    given = given or {}
    model, device, dtype = open_model(config, given)
    config = settle(config, model)
    lattice = Lattice(model.shape[1:])
    lattice.wavenumbers(config.shells)
    times, measured = grid(config, model, dtype)
    snapshots = snapshot_steps(config, model.process, times)
    classes = bind_classes(config, model, dealt_labels(config.labels, model, config.trajectories))
    classify, classifier_digests = find_classify(config, model, given, device, dtype)
    middle = float(model.process.noise_level(times[len(times) // 2]))
    speed = check_dealt(denoisers_of(classes), model, dtype, device, middle)
    warn_if_unsound(next(iter(classes.values())).denoiser, model, dtype, device)
    sampler = sampler_for(config.sampler, model.process)
    if config.states == "reverse":
        sampler.check(model.process, times)
    return ProbePlan(
        config=config, model=model, inputs=file_inputs(config, model) | classifier_digests,
        classes=classes, classify=classify, lattice=lattice, sampler=sampler, times=times, measured=measured,
        snapshots=snapshots, dtype=dtype, device=device, speed=speed,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class ProbePlan(Plan):
    """Everything that a checked config determines; `config` has no field left open, `speed` is seconds per state."""

    config: Config
    model: Model
    inputs: Mapping[str, str]
    classes: Mapping[Label, OfClass]
    classify: Classify | None
    lattice: Lattice
    sampler: Sampler
    times: Tensor
    measured: list[int]
    snapshots: list[int]
    dtype: torch.dtype
    device: torch.device
    speed: float

    @property
    def process(self) -> Process:
        """Process in which to sample."""
        return self.model.process

    @property
    def labels(self) -> tuple[Label, ...]:
        """Classes, dealt out to the trajectories in turn."""
        return tuple(self.classes)

    @property
    def denoisers(self) -> Mapping[Label, Denoiser]:
        """The denoiser of each class."""
        return denoisers_of(self.classes)

    @property
    def has_null(self) -> bool:
        """Whether the null model is known."""
        return all(of_class.null is not None for of_class in self.classes.values())

    @property
    def xi(self) -> str:
        """Which correlation length is the model's xi_x: of sign(x) for binary data, else the second moment."""
        return "xi_sign" if self.model.binary else "xi_moment"

    @property
    def memory(self) -> float:  # type: ignore[override] # a property in place of Plan's default
        """Bytes of a state inside the network."""
        return state_bytes(self.model, self.dtype)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The model with fingerprints of all that it is called for, and digests of every file."""
        made = self.model.shape, self.device, self.dtype
        nulls = [of_class.null for of_class in self.classes.values()]
        return {
            "inputs": dict(self.inputs),
            "model": {
                "name": self.model.name, "shape": list(self.model.shape), "xi": self.xi,
                "process": type(self.process).__name__, "schedule": process_name(self.process),
                "convention": self.sampler.convention,
                "fingerprints": fingerprints(self.denoisers, self.model, self.device, self.dtype),
                "null": [null and fingerprint(partial(null, sigma=1.0), *made) for null in nulls],
                "classifier": self.classify and fingerprint(self.classify, *made),
            },
        }  # fmt: skip

    @property
    def constants(self) -> Constants:
        """Coordinates, and what the null model has in closed form."""
        config, at = self.config, (self.times[self.measured], self.times[self.snapshots])
        arrays = time_axes(self.process, self.lattice, *at, config.shells, config.trajectories)
        levels = self.process.noise_level(at[1])
        arrays["snapshot_level"] = constant(levels, ("snapshot",), "EDM noise level of the snapshot")
        if self.has_null:
            gain = self._null_gain(self.process.noise_level(at[0]))
            rate = self.process.eigenvalue(gain, at[0][:, None, None], self.sampler.convention)
            what = "gain S/(S + sigma^2) of the null model, which bounds the model's"
            arrays["null_gain"] = constant(gain, MODES, what)
            arrays["null_spectrum"] = constant(
                torch.stack([each.null.spectrum for each in self.classes.values() if each.null is not None]).mean(0),
                self._space, "variance S of the data along each Fourier mode, mean over classes",
            )  # fmt: skip
            arrays["null_eigenvalue"] = constant(rate, MODES, "drift eigenvalue of the null model", "1 / process time")
        return arrays

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """Snapshots, observables along the trajectory and at snapshots, and the curves that follow from them."""
        channels, *sides = self.model.shape
        sizes = {
            "trajectory": self.config.trajectories,
            "time": len(self.measured),
            "snapshot": len(self.snapshots),
            "shell": self.config.shells + 1,
            "axis": self.lattice.dimensions,
            "channel": channels,
            "distance": min(sides) // 2 + 1,
            **space_sizes(self.lattice.shape),
        }
        own = {
            "snapshots": Variable(("snapshot", "channel", *self._space), "state x_t", "1", "Fig. 2", "state"),
            "gain_change": Variable(MODES, GAIN_CHANGE, "1", "v.(dD/dx)v"),
        }
        if channels > 1:
            own["channel_gain"] = Variable((*MODES, "channel"), "mode gain of each channel", "1", "v.(dD/dx)v")
        if channels == 3:
            own["chroma_gain"] = Variable(MODES, "mean gain of the two directions of colour", "1", "G.3")
        if self.has_null:
            own["null_xi_x"] = Variable(("time",), "xi_x of the null model's trajectories", "site", "as xi_x")
        measured = along("time", *self._lengths, *self._entropy)
        return layout(
            sizes, own | measured | along("snapshot", *self._at_snapshots) | CRITICAL_CURVES, self.config.dtype
        )

    def steps(self, pending: list[Block]) -> int:
        """Return the sampler's steps, of every batch of a block."""
        count = sum(len(batches(self.model, self.labels, block.trajectories)) for block in pending)
        return count * (len(self.times) - 1)

    def seconds(self, pending: list[Block]) -> float:
        """Return how long the network's evaluations will take."""
        each = evaluations_each(
            asdict(self.config), self.model.shape[0], self.lattice.dimensions, len(self.measured), len(self.snapshots),
            self.classify is not None,
        )  # fmt: skip
        return sum(len(block.trajectories) for block in pending) * sum(each.values()) * self.speed

    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> Mapping[str, Array]:
        """Return every array of a block."""
        return in_batches(
            self.model,
            self.denoisers,
            block.trajectories,
            lambda denoiser, group: self._measure(denoiser, group, advance),
        )

    @property
    def _space(self) -> tuple[str, ...]:
        return SPACE[-self.lattice.dimensions :]

    @property
    def _lengths(self) -> list[Observable]:
        return [SignLength(self.config.portion), SecondMoment(self.config.portion)]

    @property
    def _gains(self) -> ModeGains:
        places = {step: place for place, step in enumerate(self.measured)}
        return ModeGains(self.config.shells, self.config.method, self.model.shape[0] > 1, self.config.seed, places)

    @property
    def _entropy(self) -> list[Observable]:
        return [] if self.classify is None else [ClassEntropy(self.classify)]

    @property
    def _at_snapshots(self) -> list[Observable]:
        return [Denoised(self._space), Response(self.config.seed)]

    def _null_gain(self, levels: Tensor) -> Tensor:
        """Return the null model's gain, its mean over trajectories, [time, shell, axis]."""
        x = torch.zeros(1, *self.model.shape, dtype=torch.float64)
        gains = {
            label: torch.cat([exact_gains(of_class.null, x, level, self.config.shells) for level in levels])
            for label, of_class in self.classes.items()
            if of_class.null is not None
        }
        return torch.stack([gains[label_of(self.labels, i)] for i in range(self.config.trajectories)]).mean(0)

    def _measure(self, denoiser: Denoiser, trajectories: list[int], advance: Callable[[], None]) -> dict[str, Array]:
        """Follow trajectories."""
        config = self.config
        images = {label: of_class.images for label, of_class in self.classes.items()}
        data = own_images(images, trajectories) if config.states == "forward" else None
        moved_by = denoiser if config.precision == "full" else Autocast(denoiser, getattr(torch, config.precision))
        observables = [*self._lengths, self._gains, *self._entropy]
        trajectory = self._follow(trajectories, moved_by, denoiser, data, observables, advance)
        gain = _split_channels(trajectory.values.pop("gain"))
        gain |= {"gain_change": _split_channels(trajectory.values.pop("gain_change"))["gain"]}
        values = {name: value.numpy() for name, value in trajectory.values.items()}
        values |= {name: value.double().numpy() for name, value in gain.items()}
        k = self.lattice.wavenumbers(config.shells)
        values |= critical_curves(
            self.process, trajectory.times, k, values[self.xi], gain["gain"], self.sampler.convention
        )
        if self.has_null:
            values["null_xi_x"] = self._of_null(trajectories)
        return values | self._look(denoiser, trajectories, trajectory.snapshots)

    def _of_null(self, trajectories: list[int]) -> Array:
        """Return the correlation lengths of the null models' trajectories, [trajectory, time]."""
        found = np.empty((len(trajectories), len(self.measured)))
        for label, group in by_label(self.labels, trajectories):
            null, drawn = self.classes[label].null, None
            assert null is not None
            if self.config.states == "forward":
                stream = torch.Generator().manual_seed(null_data_seed(self.config.seed))
                drawn = null.sample(self.config.trajectories, stream, self.model.shape[0])[group]
            follower = self._follow(group, null, null, drawn, self._lengths, lambda: None)
            found[[trajectories.index(i) for i in group]] = follower.values[self.xi].double().numpy()
        return found

    def _follow(
        self,
        trajectories: list[int],
        moved_by: Denoiser,
        seen: Denoiser,
        data: Tensor | None,
        observables: list[Observable],
        advance: Callable[[], None],
    ) -> Trajectory:
        """Sample a denoiser's trajectories, or noise its data, and measure along the way."""
        noise = TrajectoryNoise(self.config.seed, trajectories, self.device)
        sampler = self.sampler
        if data is None:
            x = initial_state(self.process, float(self.times[0]), noise, self.model.shape, self.dtype)
        else:
            sampler = noising = Noising(data.to(self.device, self.dtype), self.sampler)
            x = noising.start(self.process, self.times[0], noise)
        return simulate(
            moved_by, self.process, x, self.times, noise, sampler=sampler, observables=observables,
            measure_at=self.measured, snapshots_at=self.snapshots, seen=seen, on_step=advance,
        )  # fmt: skip

    def _look(self, denoiser: Denoiser, trajectories: list[int], states: Tensor) -> dict[str, Array]:
        """Return x, D(x) and the structure of its response at every snapshot, [trajectory, snapshot, ...]."""
        columns: dict[str, list[Tensor]] = {"snapshots": list(states.unbind(1))}
        for place, step in enumerate(self.snapshots):
            x = states[:, place].to(self.device)
            at = State(denoiser, self.process, x, self.times[step], step, trajectories)
            for observable in self._at_snapshots:
                for name, value in observable(at).items():
                    columns.setdefault(name, []).append(value.cpu())
        return {name: np.stack([value.numpy() for value in values], 1) for name, values in columns.items()}


def _split_channels(gain: Tensor) -> dict[str, Tensor]:
    """Return the gains that are stored, from [trajectory, time, shell, axis] or the same by channel.

    Of RGB states `gain` is that of the luminance; of any others with several channels, latents, their mean.
    """
    if gain.ndim == 4:
        return {"gain": gain}
    each = gain.diagonal(dim1=-2, dim2=-1)
    if each.shape[-1] != 3:
        return {"gain": each.mean(-1), "channel_gain": each}
    luminance, chroma = luminance_and_chroma(gain)
    return {"gain": luminance, "chroma_gain": chroma, "channel_gain": each}
