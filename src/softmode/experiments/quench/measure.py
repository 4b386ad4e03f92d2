"""Quench a patch model at every rate, and measure its domains on the way and at the end."""

import math
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
from softmode.exact.dictionary import dictionary_inputs, parse_dictionary
from softmode.exact.patch import PatchDenoiser, TwoStatePatch
from softmode.exact.patch_dynamics import advance, compiled
from softmode.exact.quench import denoising, noise_share, quench_levels, quench_steps, seen
from softmode.experiments.quench.config import Config
from softmode.experiments.quench.frozen import FROZEN, frozen_variables, relax
from softmode.lattice import Lattice, ReceptiveField
from softmode.message import refusal
from softmode.observe.correlation import autocorrelation, first_moment_length, radial_average, sign_correlation
from softmode.observe.domains import unlike_neighbours
from softmode.observe.state import Variable
from softmode.runs.experiment import Constants, Plan
from softmode.runs.layout import SPACE, constant, layout, space_sizes
from softmode.runs.store import ArraySpec, Block
from softmode.streams import TrajectoryNoise, stream_seed, tag

# first noise level, and that from which on states are measured, in units of sqrt |Omega|, that of the instability
FIRST, MEASURED = 8.0, 2.0
# last noise level: that of the paper's t = 0.001 (E.5)
LAST = 0.03
# distance of two levels in log sigma
SPACING = 0.2
# fewest rates whose lengths have an exponent and a misfit
RATES = 3
# fields of a trajectory that are alive at once, with those of Fourier transforms
FIELDS_AT_ONCE = 24
# seconds of a site for one step of the compiled loop and of torch, and for a measurement
PER_STEP, PER_STEP_TORCH, PER_MEASUREMENT = 4e-9, 6e-8, 3e-7
# which states are kept as images
ENDS = ("fastest", "slowest")


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> "QuenchPlan":
    """Check a config and build what it describes.

    Raises:
        ValueError: If any field is out of range, naming it, its value and the remedy.
    """
    check(config)
    if len(config.rates) < RATES or list(config.rates) != sorted(set(config.rates)):
        raise refusal(f"rates: got {config.rates}; expected at least {RATES} rising numbers, for example 1,2,4,8,16,32")
    field = ReceptiveField.parse(config.receptive_field, config.dimensions)
    lattice = Lattice((config.size,) * config.dimensions)
    field.check_fits(lattice.shape)
    tree_level = math.sqrt(field.size)
    if config.critical is not None and not LAST < config.critical < MEASURED * tree_level:
        raise refusal(
            f"critical: got {config.critical:g}; expected a noise level between {LAST:g} and "
            f"{MEASURED * tree_level:.3g}, twice the root of |Omega|"
        )
    two_state = config.dictionary == "two-state"
    dictionary = parse_dictionary(config.dictionary, config.seed, field)
    model = TwoStatePatch(field) if two_state else PatchDenoiser(dictionary)
    levels = quench_levels(FIRST * tree_level, LAST, SPACING, config.critical or tree_level)
    return QuenchPlan(config, lattice, model, levels, parse_device(config.device), getattr(torch, config.dtype))


@dataclass(frozen=True, eq=False)
class QuenchPlan(Plan):
    """A patch model, its rates and the noise levels at which it is measured.

    Args:
        config: The config.
        lattice: The lattice.
        model: The model.
        levels: Falling noise levels, evenly spaced in their logarithm.
        device: Device of the states.
        dtype: Floating type of the states.
    """

    config: Config
    lattice: Lattice
    model: TwoStatePatch | PatchDenoiser
    levels: Array
    device: torch.device
    dtype: torch.dtype
    shrink = "size"

    @property
    def power(self) -> int:  # type: ignore[override] # a property in place of Plan's default
        """Sites grow like this power of `size`."""
        return self.config.dimensions

    @property
    def memory(self) -> float:  # type: ignore[override] # a property in place of Plan's default
        """Bytes of a trajectory's fields."""
        return FIELDS_AT_ONCE * float(self.lattice.sites) * self.dtype.itemsize

    @property
    def identity(self) -> Mapping[str, Any]:
        """The digest of a dictionary's file."""
        return {"inputs": dictionary_inputs(self.config.dictionary)}

    @cached_property
    def measured(self) -> range:
        """Which of the levels are measured."""
        first = int(np.argmax(self.levels < MEASURED * math.sqrt(self.model.receptive_field.size)))
        return range(first, len(self.levels))

    @property
    def frozen(self) -> Array:
        """Noise levels above the critical one at which the score is frozen, falling; none where that is not known."""
        if self.config.critical is None:
            return np.empty(0)
        return self.config.critical * np.exp(SPACING * np.array(FROZEN))

    @property
    def constants(self) -> Constants:
        """Coordinates."""
        config = self.config
        known = {
            "trajectory": constant(np.arange(config.trajectories), ("trajectory",), "trajectory index"),
            "rate": constant(np.array(config.rates), ("rate",), "relaxation times per unit of log sigma", "sigma^2"),
            "level": constant(self.levels[self.measured.start :], ("level",), "EDM noise level sigma/alpha"),
            "end": constant(np.arange(len(ENDS)), ("end",), "quench: 0 fastest, 1 slowest"),
        }
        if config.critical is None:
            return known
        return known | {"frozen": constant(self.frozen, ("frozen",), "EDM noise level at which the score is frozen")}

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """Correlation functions and defects of every rate and level, and the last states of two rates."""
        config, each = self.config, ("rate", "level")
        sizes = {
            "trajectory": config.trajectories, "rate": len(config.rates), "level": len(self.measured),
            "distance": config.size // 2 + 1, "end": len(ENDS), **space_sizes(self.lattice.shape),
            **frozen_variables(self.frozen, config.size).sizes,
        }  # fmt: skip
        sign = "sign of D(x)"
        return layout(
            sizes,
            {
                "correlation": Variable((*each, "distance"), "C(r) of x", "1", "Eq. 62", "float32"),
                "domain_correlation": Variable((*each, "distance"), f"C(r) of the {sign}", "1", "Eq. 62", "float32"),
                "defects": Variable(each, f"share of neighbours with unlike {sign}", "1", "kibble1976"),
                "xi_sign": Variable(each, "correlation length xi_x of sign(x)", "site", "Eq. 63"),
                "states": Variable(("end", *SPACE[-config.dimensions :]), "sign of x at the end", dtype="int8"),
                **frozen_variables(self.frozen, config.size).variables,
            },
            config.dtype,
        )

    def _count(self, rate: float) -> int:
        """Return the steps from one level to the next."""
        return math.ceil((1 + rate) * SPACING / self.config.step)

    def steps(self, pending: list[Block]) -> int:
        """Return the levels of every rate, and those at which the score is frozen."""
        return len(pending) * (len(self.config.rates) * len(self.levels) + len(self.frozen))

    def seconds(self, pending: list[Block]) -> float:
        """Return about how long some blocks take."""
        rates = self.config.rates
        per_step = PER_STEP if compiled() and self.device.type == "cpu" else PER_STEP_TORCH
        each = per_step * len(self.levels) * sum(map(self._count, rates))
        each += PER_MEASUREMENT * len(self.measured) * len(rates)
        return each * self.lattice.sites * sum(len(block.trajectories) for block in pending)

    @torch.no_grad()
    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> Mapping[str, Array]:
        """Return every array of a block, one rate after another."""
        of_rates, states = [], []
        for rate in self.config.rates:
            values, x = self._quench(rate, block.trajectories, advance)
            of_rates.append(values)
            states.append(x.sign().to(torch.int8)[:, 0].cpu().numpy())
        found = {name: np.stack([values[name] for values in of_rates], 1) for name in of_rates[0]}
        found["states"] = np.stack([states[0], states[-1]], 1)
        return found | relax(self.model, self.frozen, self.config, block.trajectories, self.device, advance)

    def _quench(self, rate: float, trajectories: range, tick: Callable[[], None]) -> tuple[dict[str, Array], Tensor]:
        """Return what is measured of one rate, and the last states."""
        count, levels, name = self._count(rate), self.levels.tolist(), f"quench {rate!r}"
        each = SPACING / count
        keys = torch.tensor([stream_seed(self.config.seed, i, tag(name)) for i in trajectories])
        start = TrajectoryNoise(self.config.seed, trajectories, self.device, (tag(f"{name} start"),))
        x = start.fill_(torch.empty(len(trajectories), 1, *self.lattice.shape, dtype=self.dtype, device=self.device))
        x *= levels[0] * math.sqrt(1 - noise_share(each, rate) ** 2)
        columns: dict[str, list[Tensor]] = {}
        for place, level in enumerate(levels):
            steps = quench_steps(level, SPACING, rate, count)
            if place in self.measured:
                y = advance(self.model, x, seen(steps), keys, place * count)
                for variable, value in self._measured(y, level).items():
                    columns.setdefault(variable, []).append(value.cpu())
            if place < len(levels) - 1:
                x = advance(self.model, x, steps, keys, place * count)
            tick()
        return {variable: torch.stack(values, 1).numpy() for variable, values in columns.items()}, y

    def _measured(self, x: Tensor, level: float) -> dict[str, Tensor]:
        # a step that does nothing else, as the compiled loop is faster than a call of the model
        denoised = advance(self.model, x, denoising(level), torch.zeros(len(x), dtype=torch.int64))
        return {
            "correlation": radial_average(autocorrelation(x)).float(),
            "domain_correlation": radial_average(autocorrelation(denoised.sign())).float(),
            "defects": unlike_neighbours(denoised),
            "xi_sign": first_moment_length(sign_correlation(x)),
        }
