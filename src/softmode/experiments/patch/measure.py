"""Sampling a patch model, measured along the way (Sec. 6.2, App. E)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softmode.bounds import check
from softmode.device import parse_device
from softmode.estimate import Array
from softmode.exact.dictionary import PatchDictionary, dictionary_inputs, parse_dictionary
from softmode.exact.patch import PatchDenoiser, TwoStatePatch
from softmode.exact.patch_dynamics import PatchModel
from softmode.exact.patch_sampler import PatchEulerMaruyama
from softmode.experiments.patch.config import Config
from softmode.lattice import Lattice, ReceptiveField
from softmode.observe.correlation import (
    SecondMoment,
    SignCorrelation,
    SignLength,
    StructureFactor,
    first_moment_length,
)
from softmode.observe.critical_curves import CRITICAL_CURVES, critical_curves
from softmode.observe.gains import PatchKernel
from softmode.observe.order import Magnetisation
from softmode.observe.state import Observable, Variable, along
from softmode.process import Process, parse_process
from softmode.runs.experiment import Constants, Plan
from softmode.runs.layout import SPACE, constant, layout, space_sizes, time_axes
from softmode.runs.store import ArraySpec, Block
from softmode.samplers import EulerMaruyama, check_start, initial_state
from softmode.simulation import measured_steps, nearest_steps, simulate
from softmode.streams import TrajectoryNoise

DEFAULT_SNAPSHOTS = 5
# steps after which the run hears of it at the latest, be it to show progress or to stop
STEPS_AT_ONCE = 50
# sites simulated at once, over all trajectories
SITES_AT_ONCE = 2**20
# fields of a lattice's size that are alive at once, while a step is taken or measured
FIELDS_AT_ONCE = 12
SAMPLER = EulerMaruyama()


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> "PatchPlan":
    """Check a config and build what it describes.

    Raises:
        ValueError: If any field is out of range, naming it, its value and the remedy.
    """
    check(config)
    field = ReceptiveField.parse(config.receptive_field, config.dimensions)
    lattice = Lattice((config.size,) * config.dimensions)
    lattice.wavenumbers(config.shells)
    field.check_fits(lattice.shape)
    process = parse_process(config.schedule)
    times = SAMPLER.grid(process, config.t_max, config.t_min, config.steps)
    wanted = config.snapshots or np.geomspace(config.t_max, config.t_min, DEFAULT_SNAPSHOTS).tolist()
    snapshots = nearest_steps("snapshots", wanted, times)
    dtype = getattr(torch, config.dtype)
    check_start(process, config.t_max, dtype)
    SAMPLER.check(process, times)
    dictionary = parse_dictionary(config.dictionary, config.seed, field)
    return PatchPlan(config, lattice, process, dictionary, times, snapshots, dtype, parse_device(config.device))


@dataclass(frozen=True, eq=False)
class PatchPlan(Plan):
    """A patch model, its time grid and where on it to measure."""

    config: Config
    lattice: Lattice
    process: Process
    dictionary: PatchDictionary
    times: Tensor
    snapshots: list[int]
    dtype: torch.dtype
    device: torch.device
    shrink = "size"

    @property
    def power(self) -> int:  # type: ignore[override] # a property in place of Plan's default
        """Sites grow like this power of `size`."""
        return self.config.dimensions

    @property
    def memory(self) -> float:  # type: ignore[override] # a property in place of Plan's default
        """Bytes of a trajectory's fields while it is simulated."""
        return FIELDS_AT_ONCE * float(self.config.size) ** self.config.dimensions * self.dtype.itemsize

    @property
    def measured(self) -> list[int]:
        """Grid indices of measurements."""
        return measured_steps(self.config.steps, self.config.measure_every)

    @cached_property
    def grid(self) -> list[int]:
        """Grid indices at which sampling pauses: those of measurements and snapshots, and some between."""
        return sorted({*self.measured, *self.snapshots, *range(0, self.config.steps, STEPS_AT_ONCE)})

    @property
    def model(self) -> PatchModel:
        """The denoiser; of the two-state model that of Eq. 9, which is the same and quicker."""
        if self.config.dictionary == "two-state":
            return TwoStatePatch(self.dictionary.receptive_field)
        return PatchDenoiser(self.dictionary)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The digest of a dictionary's file."""
        return {"inputs": dictionary_inputs(self.config.dictionary)}

    @cached_property
    def observables(self) -> list[Observable]:
        """What is measured along the trajectories."""
        shells = self.config.shells
        return [SignCorrelation(), SecondMoment(), StructureFactor(shells), Magnetisation(), PatchKernel()]

    @property
    def constants(self) -> Constants:
        """Coordinates, the receptive field and the dictionary."""
        field, config = self.dictionary.receptive_field, self.config
        at = self.times[self.measured], self.times[self.snapshots]
        return time_axes(self.process, self.lattice, *at, config.shells, config.trajectories) | {
            "offsets": constant(field.tensor().long(), ("omega", "axis"), "offset u of the receptive field", "site"),
            "patterns": constant(self.dictionary.patterns, ("pattern", "omega"), "pattern p_k(u)"),
            "prior": constant(self.dictionary.prior, ("pattern",), "probability pi_k"),
        }

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """Snapshots, observables and the curves that follow from them."""
        sizes = {
            "trajectory": self.config.trajectories,
            "time": len(self.measured),
            "snapshot": len(self.snapshots),
            "shell": self.config.shells + 1,
            "axis": self.config.dimensions,
            "omega": self.dictionary.receptive_field.size,
            "distance": self.config.size // 2 + 1,
            **space_sizes(self.lattice.shape),
        }
        state = Variable(("snapshot", *SPACE[-self.config.dimensions :]), "state x_t", "1", "Fig. 2", "state")
        measured = along("time", *self.observables, SignLength(self.config.portion))
        return layout(sizes, {"snapshots": state} | measured | CRITICAL_CURVES, self.config.dtype)

    def steps(self, pending: list[Block]) -> int:
        """Return how often sampling pauses, in every part of a block that is simulated at once."""
        return sum(len(self._parts(block)) for block in pending) * (len(self.grid) - 1)

    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> Mapping[str, Array]:
        """Return every array of a block; large lattices go a few trajectories at a time, which bounds memory."""
        parts = [self._measure(part, advance) for part in self._parts(block)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _parts(self, block: Block) -> list[range]:
        size, all_of_it = max(1, SITES_AT_ONCE // self.lattice.sites), block.trajectories
        return [all_of_it[start : start + size] for start in range(0, len(all_of_it), size)]

    def _measure(self, trajectories: range, advance: Callable[[], None]) -> dict[str, Array]:
        config, process = self.config, self.process
        noise = TrajectoryNoise(config.seed, trajectories, self.device)
        trajectory = simulate(
            self.model,
            process,
            initial_state(process, config.t_max, noise, (1, *self.lattice.shape), self.dtype),
            self.times[self.grid],
            noise,
            sampler=PatchEulerMaruyama(fine=self.times),
            observables=self.observables,
            measure_at=[self.grid.index(k) for k in self.measured],
            snapshots_at=[self.grid.index(k) for k in self.snapshots],
            on_step=advance,
        )
        values = {name: value.numpy() for name, value in trajectory.values.items()}
        k = self.lattice.shell_vectors(config.shells)
        gain = self.dictionary.receptive_field.transform(k, trajectory.values["kernel"]).real
        wavenumbers = self.lattice.wavenumbers(config.shells)
        xi_sign = first_moment_length(trajectory.values["sign_correlation"], config.portion).numpy()
        curves = critical_curves(process, trajectory.times, wavenumbers, xi_sign, gain)
        return values | {"xi_sign": xi_sign, "snapshots": trajectory.snapshots[:, :, 0].numpy()} | curves
