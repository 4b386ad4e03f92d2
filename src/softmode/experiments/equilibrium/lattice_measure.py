"""Frozen Langevin dynamics of a patch model on lattices of rising side: moments of the order parameter."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from softmode.device import parse_device
from softmode.estimate import Array
from softmode.exact.dictionary import dictionary_inputs, parse_dictionary
from softmode.exact.patch import PatchDenoiser, TwoStatePatch
from softmode.exact.patch_dynamics import PatchModel, compiled, frozen_steps
from softmode.experiments.equilibrium.config import Config
from softmode.experiments.equilibrium.lattice_series import Followed, followed
from softmode.experiments.equilibrium.lattice_stages import (
    BLOCKS,
    FEW,
    POINTS,
    REPLICAS,
    ROUNDS,
    SQUARE,
    Seen,
    Stage,
    Work,
    coarse_work,
    near,
    planned,
    refined,
    transition,
)
from softmode.finite_size.moments import MOMENTS
from softmode.finite_size.series import correlated_steps
from softmode.lattice import ReceptiveField
from softmode.levels import parse_range
from softmode.message import refusal
from softmode.observe.state import Variable
from softmode.process import Process, parse_process
from softmode.runs.experiment import Constants, Experiment, Plan
from softmode.runs.layout import SPACE, constant, layout, space_sizes
from softmode.runs.run import Run
from softmode.runs.store import ArraySpec, Block
from softmode.streams import stream_seed, tag

# single values of m that are kept of each point, for their distribution
KEPT = 64
# seconds of a site and step: compiled, and by torch; and of each pattern of a dictionary
COMPILED, TORCH, PER_PATTERN = 2.5e-9, 6e-8, 2e-9
# noise levels of the search, as shares of the tree-level one
LOWEST, HIGHEST = 0.1, 1.1
EQUILIBRIUM = Experiment("equilibrium", "softmode.experiments.equilibrium")


def prepare(config: Config) -> "LatticePlan":
    """Build what a checked config describes.

    Raises:
        ValueError: If any field is out of range, naming it, its value and the remedy.
    """
    config = replace(config, block=config.block or 1)
    field = ReceptiveField.parse(config.receptive_field, config.dimensions)
    if len(config.sizes) < FEW or list(config.sizes) != sorted(set(config.sizes)):
        raise refusal(f"sizes: got {config.sizes}; expected at least {FEW} rising sides, for example 16,24,32")
    if max(field.extent) > config.sizes[0]:
        raise refusal(
            f"sizes: got {config.sizes[0]}; expected sides of at least {max(field.extent)}, the width of "
            f"{config.receptive_field}"
        )
    if field.size == 1:
        raise refusal("receptive_field: got one site alone, whose sites know nothing of each other; expected more")
    if config.step > 1:
        raise refusal(
            f"step: got {config.step:g}; expected at most 1: beyond it a step overshoots, and at 2 it diverges; use 0.5"
        )
    if config.dictionary == "two-state":
        model: PatchModel = TwoStatePatch(field)
        tree = math.sqrt(field.size)
    else:
        dictionary = parse_dictionary(config.dictionary, config.seed, field)
        if not dictionary.is_symmetric():
            raise refusal("dictionary: got one without Z2 symmetry; expected p and -p equally likely, for every p")
        model, tree = PatchDenoiser(dictionary), math.sqrt(max(dictionary.omega_eff, 1.0))
    process = parse_process(config.schedule)
    levels = (
        parse_range("sigma_range", config.sigma_range, "0.3:6")
        if config.sigma_range
        else (LOWEST * tree, HIGHEST * tree)
    )
    grid = np.geomspace(*levels, POINTS["coarse"])
    times = np.array([float(process.time(level)) for level in grid])
    if not np.isfinite(times).all():
        raise refusal(f"sigma_range: got {levels[0]:g}:{levels[1]:g}; expected levels that {config.schedule} reaches")
    return LatticePlan(config, model, process, times, parse_device(config.device), config.minutes)


@dataclass(frozen=True, eq=False)
class LatticePlan(Plan):
    """One stage of a finite-size run.

    Args:
        config: The config.
        model: The patch model.
        process: Process in whose time levels are given.
        search: Process times of the coarse stage, rising.
        device: Where.
        limit: Minutes that a stage may take.
        stage: Which stage.
        work: What it measures; None until the stage before it is done.
    """

    config: Config
    model: PatchModel
    process: Process
    search: Array
    device: torch.device
    limit: float
    stage: Stage = "main"
    work: Work | None = None
    shrink: str = "sizes"
    counted: str = "sizes"

    @property
    def sides(self) -> tuple[int, ...]:
        """L of this stage."""
        return self.config.sizes if self.stage == "main" else self.config.sizes[:FEW]

    @property
    def step(self) -> float:
        """Step of this stage."""
        return self.config.step / (2 if self.stage == "half" else 1)

    @property
    def trajectories(self) -> int:
        """How many rounds."""
        return ROUNDS[self.stage]

    @property
    def memory(self) -> float:  # type: ignore[override] # a property in place of Plan's default
        """Bytes of a round's states on the largest lattice, those at the ends of blocks among them."""
        return (40.0 + 16 * BLOCKS) * REPLICAS * float(self.sides[-1]) ** self.config.dimensions

    @property
    def identity(self) -> Mapping[str, Any]:
        """The stage, and the file of a dictionary."""
        return {"stage": self.stage, "inputs": dictionary_inputs(self.config.dictionary)}

    @property
    def constants(self) -> Constants:
        """Coordinates."""
        return {
            "trajectory": constant(np.arange(self.trajectories), ("trajectory",), "index of the round"),
            "size": constant(np.array(self.sides), ("size",), "side of the lattice", "site"),
            "moment": constant(np.arange(len(MOMENTS)), ("moment",), f"moments: {', '.join(MOMENTS)}"),
        }

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """What is measured in every round."""
        of, each = ("size", "point"), ("size", "point", "unit")
        space = SPACE[-self.config.dimensions :]
        sizes = {
            "trajectory": self.trajectories, "size": len(self.sides), "point": POINTS[self.stage],
            "unit": BLOCKS * REPLICAS, "moment": len(MOMENTS), "kept": KEPT,
            **space_sizes((self.sides[-1],) * self.config.dimensions),
        }  # fmt: skip
        return layout(
            sizes,
            {
                "time": Variable(of, "time at which the score is frozen", "process time", dtype="float64"),
                "level": Variable(of, "its noise level sigma/alpha", dtype="float64"),
                "means": Variable((*each, "moment"), "moments of m over parts of the series, of each start in turn",
                                  dtype="float64"),
                "tau": Variable(of, "autocorrelation time of m^2", "step", "sokal1997", dtype="float64"),
                "steps": Variable(("size",), "steps of a series, those that are cut in any case left out", "step",
                                  dtype="float64"),
                "magnetisation": Variable((*of, "kept"), "values of m along the series", dtype="float64"),
                "production": Variable(each, "entropy production of a state at the end of each block",
                                       "k_B per site and sigma^2", "seifert2012"),
                "irreciprocity": Variable(of, "share of the Jacobian that no gradient has, of the last states"),
                "field": Variable(("point", *space), "signs of the last state of the largest lattice", dtype="int8"),
            },
            self.config.dtype,
        )  # fmt: skip

    def needs(self) -> Mapping[str, tuple[Experiment, Plan]]:
        """Return the stage before this one."""
        before: dict[Stage, Stage] = {"main": "half", "half": "coarse"}
        if self.stage == "coarse":
            return {}
        # what the error and the time may be says nothing of the search, which is kept when they change
        config = replace(self.config, minutes=Config.minutes)
        if self.stage == "half":
            config = replace(config, error=Config.error, sizes=config.sizes[:FEW])
        return {before[self.stage]: (EQUILIBRIUM, replace(self, config=config, stage=before[self.stage], work=None))}

    def settled(self, runs: Mapping[str, Run]) -> "LatticePlan":
        """Return the plan with its points and lengths, by what the stage before it saw.

        Raises:
            ValueError: If no transition is seen between two levels that a user named, or the wanted error cannot be
                had in the time.
        """
        if self.stage == "coarse":
            return replace(self, work=coarse_work(self.search, self.sides))
        (run,) = runs.values()
        seen = Seen.of(run.dataset, self.config.sizes[:FEW], self.config.dimensions)
        if self.stage == "half":
            times = self._found(seen)
        else:
            times = near(*refined(seen, self.config.dimensions), self.sides, self.config.dimensions, POINTS["main"])
        # the difference of both steps is doubled when they are extrapolated
        finer, error = (2.0, self.config.error / 2) if self.stage == "half" else (0.5, self.config.error)
        work = planned(seen, times, self.sides, error, finer, self.trajectories)
        plan = replace(self, work=work)
        seconds, limit = plan.seconds(plan.blocks()), 60 * self.limit
        if seconds > limit:
            could = self.config.error * math.sqrt(seconds / limit)
            raise refusal(
                f"error: got {self.config.error:g}, which takes about {seconds / 60:.0f} minutes; in the "
                f"{self.limit:g} of --minutes {could:.2g} can be had: raise one of them, or use smaller sizes"
            )
        return plan

    def _found(self, seen: Seen) -> Array:
        """Return times near the transition that the coarse stage saw, or all that it searched, where there is none."""
        found = transition(seen)
        if found is not None:
            return near(*found, self.sides, self.config.dimensions, POINTS["half"])
        if self.config.sigma_range:
            levels = self.process.noise_level(torch.from_numpy(seen.times[0]))
            said = []
            for at in (0, -1):
                small, large = (seen.points[s][at].observables()["|m|"].value for s in (0, -1))
                said.append(f"|m| {small:.2g} and {large:.2g} at {float(levels[at]):.3g}")
            raise refusal(
                f"sigma_range: got {self.config.sigma_range}, in which no transition is seen: sides {self.sides[0]} "
                f"and {self.sides[-1]} have {', '.join(said)}; expected one |m| at the lower end, two at the upper: "
                "widen it"
            )
        chosen = self.search[np.linspace(0, len(self.search) - 1, POINTS["half"]).round().astype(int)]
        return np.tile(chosen, (len(self.sides), 1))

    def steps(self, pending: list[Block]) -> int:
        """Return the points of every round."""
        return sum(len(block.trajectories) for block in pending) * len(self.sides) * POINTS[self.stage]

    def seconds(self, pending: list[Block]) -> float:
        """Return about how long some rounds take; 0 before the points are known."""
        if self.work is None:
            return 0.0
        per_site = COMPILED if compiled() and self.device.type == "cpu" and self.config.dtype == "float32" else TORCH
        if isinstance(self.model, PatchDenoiser):
            per_site += PER_PATTERN * len(self.model.dictionary.prior)
        rounds = sum(len(block.trajectories) for block in pending)
        sites = sum(
            steps * side**self.config.dimensions for steps, side in zip(self.work.steps, self.sides, strict=True)
        )
        return rounds * POINTS[self.stage] * REPLICAS * sites * per_site / min(torch.get_num_threads(), REPLICAS)

    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> Mapping[str, Array]:
        """Return every array of a block, one round after another."""
        rows = [self._round(index, advance) for index in block.trajectories]
        return {name: np.stack([row[name] for row in rows]) for name in self.variables}

    def _round(self, index: int, advance: Callable[[], None]) -> dict[str, Array]:
        assert self.work is not None, "a plan is settled before it measures"
        work = self.work
        levels = self.process.noise_level(torch.from_numpy(work.times)).numpy()
        names = ("means", "tau", "magnetisation", "production", "irreciprocity")
        found: dict[str, list[list[Array]]] = {name: [] for name in names}
        fields: list[Array] = []
        for s, side in enumerate(self.sides):
            for values in found.values():
                values.append([])
            for p, level in enumerate(levels[s].tolist()):
                seen = self._followed(index, side, p, level, work.every[s], (work.cut[s], work.counts[s]))
                series = seen.series[:, work.cut[s] :]
                moments = _moments(series, level * math.sqrt(self.step / 2), side**self.config.dimensions)
                blocks = moments.reshape(REPLICAS, BLOCKS, -1, len(MOMENTS)).mean(2)
                tau = work.every[s] * correlated_steps(moments[:, :, SQUARE])
                kept = np.linspace(0, moments.shape[1] - 1, KEPT).astype(int)
                found["means"][s].append(blocks.reshape(-1, len(MOMENTS)))
                found["tau"][s].append(np.array(tau))
                found["magnetisation"][s].append(series[1, kept, 0])
                found["production"][s].append(seen.production.reshape(-1))
                found["irreciprocity"][s].append(seen.irreciprocity.mean())
                if s == len(self.sides) - 1:
                    fields.append(seen.last[1, 0].sign().to(torch.int8).numpy())
                advance()
        kept_steps = np.array([e * n for e, n in zip(work.every, work.counts, strict=True)], float)
        return {
            **{name: np.array(values) for name, values in found.items()},
            "time": work.times, "level": levels, "steps": kept_steps, "field": np.stack(fields),
        }  # fmt: skip

    def _followed(
        self, index: int, side: int, point: int, level: float, every: int, times: tuple[int, int]
    ) -> Followed:
        """Return what is seen of a replica from an ordered start and of one from a disordered one."""
        kinds = [stream_seed(self.config.seed, index, tag(self.stage), side, point, replica) for replica in range(2)]
        x = torch.zeros(REPLICAS, 1, *[side] * self.config.dimensions, dtype=getattr(torch, self.config.dtype))
        x[0] += 1 if index % 2 else -1
        for replica, seed in enumerate(kinds):
            x[replica] += level * torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
        (cut, count), steps = times, frozen_steps(level, self.step, every)
        kicks = torch.Generator().manual_seed(
            stream_seed(self.config.seed, index, tag(self.stage), side, point, tag("kick"))
        )
        blocks = (BLOCKS, count // BLOCKS)
        return followed(self.model, x.to(self.device), steps, cut, blocks, torch.tensor(kinds), kicks)


def _moments(series: Array, kick: float, sites: int) -> Array:
    """Return the moments of y, which has an independent kick at every site that x has not, [replica, time, moment]."""
    m, structure, noise = series[..., 0], series[..., 1], kick**2 / sites
    square = m**2
    fourth = square**2 + 6 * square * noise + 3 * noise**2
    return np.stack([np.abs(m), square + noise, fourth, structure + kick**2], -1)
