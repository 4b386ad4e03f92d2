"""Every realisation of the disorder by itself: closed form, generated states, and states under the frozen score."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from softmode.bounds import check
from softmode.device import parse_device
from softmode.estimate import Array
from softmode.exact.dictionary import MOST_VALUES
from softmode.experiments.dictionary.config import Config
from softmode.experiments.dictionary.realisation import Realisation
from softmode.experiments.dictionary.states import BINS, PAIRS, STATES, STEP, Setting, measure
from softmode.lattice import ReceptiveField
from softmode.message import refusal
from softmode.observe.state import Variable
from softmode.process import parse_process
from softmode.runs.experiment import Constants, Plan
from softmode.runs.layout import SPACE, constant, layout, space_sizes
from softmode.runs.store import ArraySpec, Block
from softmode.samplers import EulerMaruyama, check_start

SAMPLER = EulerMaruyama()
# most sites of a receptive field, whose C has an eigenvalue to be found, and most masses, a row each
MOST_SITES, MOST_MASSES = 400, 8
# fields of a replica that are alive at once, with those of Fourier transforms
FIELDS_AT_ONCE = 28
# seconds of a site for one step, and of each of its patterns
PER_SITE, PER_PATTERN = 4e-8, 5e-9


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> "DictionaryPlan":
    """Check a config and build what it describes.

    Raises:
        ValueError: If any field is out of range, naming it, its value and the remedy.
    """
    check(config)
    field = ReceptiveField.parse(config.receptive_field, config.dimensions)
    if not 2 <= field.size <= MOST_SITES:
        raise refusal(f"receptive_field: got {field.size} sites; expected 2 to {MOST_SITES}, for example box:5")
    for name in ("sizes", "waits", "uniform"):
        values = getattr(config, name)
        if not values or list(values) != sorted(set(values)):
            raise refusal(f"{name}: got {values}; expected rising numbers, at least one")
    if len(config.uniform) > MOST_MASSES:
        raise refusal(f"uniform: got {len(config.uniform)} masses; expected at most {MOST_MASSES}")
    if config.waits[0] < STEP:
        raise refusal(f"waits: got {config.waits[0]:g}; expected at least {STEP:g}, a step")
    field.check_fits((config.sizes[0],) * config.dimensions)
    sites = config.sizes[-1] ** config.dimensions if config.disorder_of == "site" else 1
    if (most := 10 * MOST_VALUES // (2 * field.size * sites)) < config.patterns:
        raise refusal(f"patterns: got {config.patterns}; expected at most {most}: they take {field.size} sites each")
    process, dtype = parse_process(config.schedule), getattr(torch, config.dtype)
    times = SAMPLER.grid(process, config.t_max, config.t_min, config.steps)
    check_start(process, config.t_max, dtype)
    first, last = (float(process.noise_level(t)) for t in (config.t_max, config.t_min))
    # a dictionary goes soft between the noise levels 1 and sqrt |Omega|
    if first < 2 * math.sqrt(field.size):
        raise refusal(
            f"t_max: got {config.t_max:g}, noise level {first:.3g}; expected a level of at least "
            f"{2 * math.sqrt(field.size):.3g}, twice that at which {field.size} sites may go soft"
        )
    if last > 0.5:
        raise refusal(f"t_min: got {config.t_min:g}, noise level {last:.3g}; expected a level of at most 0.5")
    SAMPLER.check(process, times)
    device = parse_device(config.device)
    return DictionaryPlan(config, field, Setting(config, process, times, device, dtype))


@dataclass(frozen=True, eq=False)
class DictionaryPlan(Plan):
    """Realisations of the disorder, lattices and masses of the uniform patterns.

    Args:
        config: The config.
        field: Receptive field of the dictionaries.
        setting: What all realisations share.
    """

    config: Config
    field: ReceptiveField
    setting: Setting
    shrink: str = "replicas"
    counted: str = "disorder"

    @property
    def trajectories(self) -> int:
        """How many realisations."""
        return self.config.disorder

    @property
    def memory(self) -> float:  # type: ignore[override] # a property in place of Plan's default
        """Bytes of all replicas of a realisation on the largest lattice."""
        config = self.config
        sites = float(config.sizes[-1]) ** config.dimensions
        own = FIELDS_AT_ONCE * 8.0
        if config.disorder_of == "uniform":
            return config.replicas * sites * own
        # their patches and the posteriors of their patterns, and the patterns, also in double precision
        own += (4 * self.field.size + 12 * config.patterns) * self.setting.dtype.itemsize
        patterns = 2 * config.patterns * self.field.size * (self.setting.dtype.itemsize + 8)
        return sites * (config.replicas * own + patterns)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Nothing but the config: no file is read."""
        return {"inputs": {}}

    @property
    def constants(self) -> Constants:
        """Coordinates."""
        config, setting = self.config, self.setting
        time = "time under the frozen score"
        return {
            "trajectory": constant(np.arange(config.disorder), ("trajectory",), "index of the realisation"),
            "mass": constant(np.array(config.uniform), ("mass",), "prior mass of the uniform patterns"),
            "size": constant(np.array(config.sizes), ("size",), "side of the lattice", "site"),
            "wait": constant(STEP * np.array(setting.waits), ("wait",), f"{time}, waiting", "sigma^2"),
            "lag": constant(STEP * np.array(setting.lags), ("lag",), f"{time}, after", "sigma^2"),
            "bin": constant((np.arange(BINS) + 0.5) / BINS, ("bin",), "centre of a bin of |q|"),
            "pairs": constant(np.arange(len(PAIRS)), ("pairs",), f"pairs of states: {_listed(PAIRS)}"),
            "order": constant(np.arange(len(STATES)), ("order",), f"states whose order it is: {_listed(STATES)}"),
        }

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """What is known and what is measured of every realisation."""
        config = self.config
        sizes = {
            "trajectory": config.disorder, "mass": len(config.uniform), "size": len(config.sizes),
            "axis": config.dimensions, "order": len(STATES), "pairs": len(PAIRS), "bin": BINS,
            "wait": len(self.setting.waits), "lag": len(self.setting.lags),
            **space_sizes((config.sizes[-1],) * config.dimensions),
        }  # fmt: skip
        of, on, each = ("mass",), ("mass", "size"), ("mass", "size", "order")
        aged = ("mass", "wait", "lag")
        return layout(
            sizes,
            {
                "seed": Variable((), "seed of the patterns", dtype="int64"),
                "covariance_mean": Variable((), "mean of C_uv, u < v, of the random patterns", source="Eq. 38"),
                "covariance_square": Variable((), "mean of C_uv^2, u < v, of the random patterns", source="Eq. 39"),
                "lambda_max": Variable(of, "largest eigenvalue of C; mean over sites", source="Eq. 41"),
                "t_c_patch": Variable(of, "time at which a patch goes soft", "process time", "Eqs. 42, 43"),
                "k_star": Variable((*of, "axis"), "first wave to go soft", "radian per site", "Eq. 7"),
                "drift": Variable(of, "Im/Re of C_0(k*)", source="Eq. 7"),
                "strength": Variable(on, "largest real part of the couplings' eigenvalues", source="Eqs. 7, 30"),
                "t_c": Variable(on, "time at which the lattice goes soft", "process time", "Eqs. 7, 30"),
                "bragg": Variable(each, "highest peak of S(k)/N"),
                "bragg_error": Variable(each, "its standard error over replicas"),
                "peak": Variable((*each, "axis"), "wave vector of the peak", "radian per site"),
                "long_waves": Variable(each, "share of the power in waves longer than two patches"),
                "susceptibility": Variable(each, "N <q^2> over pairs of replicas", "site", "binder1986"),
                "susceptibility_error": Variable(each, "its standard error over replicas", "site"),
                "distinct": Variable(each, "states that differ, of all replicas", dtype="int64"),
                "edwards_anderson": Variable(on, "q of samples and copies that had other noise since t_c", "1",
                                             "edwards1975"),
                "overlap": Variable((*on, "pairs"), "mean |q|, largest over translations where sites are alike"),
                "histogram": Variable((*on, "pairs", "bin"), "share of |q| by bin"),
                "ageing": Variable(aged, "C(t_w, t_w + t) of signs under the frozen score"),
                "ageing_moved": Variable(aged, "the same, largest over translations where sites are alike"),
                "spread": Variable(("mass", "wait"), "N <q^2> at the waiting times", "site", "binder1986"),
                "states": Variable((*of, "order", *SPACE[-config.dimensions :]), "signs of the first replica",
                                   dtype="int8"),
            },
            config.dtype,
        )  # fmt: skip

    def steps(self, pending: list[Block]) -> int:
        """Return the lattices of every realisation and mass."""
        each = len(self.config.sizes) * len(self.config.uniform)
        return each * sum(len(block.trajectories) for block in pending)

    def seconds(self, pending: list[Block]) -> float:
        """Return about how long they take."""
        config, setting = self.config, self.setting
        # copies take the lower half of the grid, or less
        steps = 1.5 * config.steps + setting.waits[-1] + setting.lags[-1]
        sites = sum(float(side) ** config.dimensions for side in config.sizes)
        each = PER_SITE + PER_PATTERN * 2 * config.patterns * (2 if config.disorder_of == "site" else 1)
        work = sum(len(block.trajectories) for block in pending) * len(config.uniform)
        return work * steps * config.replicas * sites * each

    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> Mapping[str, Array]:
        """Return every array of a block, one realisation after another."""
        rows = [self._measure(index, advance) for index in block.trajectories]
        return {name: np.stack([row[name] for row in rows]) for name in self.variables}

    def _measure(self, index: int, advance: Callable[[], None]) -> dict[str, Array]:
        config = self.config
        realisation = Realisation(config, self.field, index)
        found = dict(realisation.closed_form(self.setting.process))
        by_mass = []
        for place, mass in enumerate(config.uniform):
            by_size = []
            for size, side in enumerate(config.sizes):
                t_c, strength = float(found["t_c"][place, size]), float(found["strength"][place, size])
                by_size.append(measure(self.setting, realisation, mass, side, t_c, strength))
                advance()
            of_all = {name: np.stack([each.arrays[name] for each in by_size]) for name in by_size[0].arrays}
            by_mass.append(of_all | by_size[-1].further)
        return found | {name: np.stack([row[name] for row in by_mass]) for name in by_mass[0]}


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"{place} {name}" for place, name in enumerate(names))
