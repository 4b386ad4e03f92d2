"""Give every model of the suite a window of its own, and keep what each criterion said of it."""

import math
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from softmode.bounds import check
from softmode.device import parse_device
from softmode.estimate import Array, Estimate
from softmode.experiments.validate.config import Config
from softmode.experiments.validate.flaws import FLAWS
from softmode.experiments.validate.suite import NULLS, TRANSITIONS, Case, null_case, transition_case
from softmode.experiments.validate.truth import truth
from softmode.message import refusal
from softmode.observe.state import Variable
from softmode.rounding import within
from softmode.runs.engine import execute
from softmode.runs.experiment import Constants, Experiment, Plan
from softmode.runs.layout import constant, layout
from softmode.runs.results import Results
from softmode.runs.store import ArraySpec, Block
from softmode.streams import stream_seed, tag

WINDOW = Experiment("window", "softmode.experiments.window")
# the ends of the window, then the other criteria that can be had of such models, as softmode window names them
CRITERIA = (
    "sigma_c", "sigma_lo", "sigma_hi", "first_unstable_state", "half_of_states_unstable", "peak_of_xi_eq",
    "peak_without_constant_mode", "clone_sign_agreement", "departure_from_null", "growth_of_xi_x",
)  # fmt: skip
WINDOWED = CRITERIA[:3]
KINDS = (*NULLS, *dict.fromkeys(TRANSITIONS))
# a level of a tree is found by a window around this share of its norm
INSIDE = 0.7
# seconds of a window, about
TYPICAL = 10.0


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> "ValidatePlan":
    """Check a config; models are made when they are scored.

    Args:
        config: How many models of each kind.
        given: Nothing.

    Raises:
        ValueError: If any field is out of range.
    """
    check(config)
    if config.nulls + config.transitions == 0:
        raise refusal("nulls: got 0, and no transitions; expected at least one model of either")
    if config.trajectories < 2:
        raise refusal(f"trajectories: got {config.trajectories}; expected at least 2: fewer have no interval")
    if config.quick and config.trajectories != Config.trajectories:
        raise refusal(f"trajectories: got {config.trajectories}; --quick has its own: leave it out")
    parse_device(config.device)
    return ValidatePlan(config)


@dataclass(frozen=True, eq=False)
class ValidatePlan(Plan):
    """The models of the suite, without a transition first.

    Args:
        config: The config.
    """

    config: Config
    counted: str = "transitions"

    @property
    def identity(self) -> Mapping[str, Any]:
        """Nothing but the config: the suite is part of softmode."""
        return {"inputs": {}}

    @property
    def trajectories(self) -> int:
        """How many models."""
        return self.config.nulls + self.config.transitions

    @property
    def constants(self) -> Constants:
        """Which models have a transition."""
        index = np.arange(self.trajectories)
        return {
            "trajectory": constant(index, ("trajectory",), "index of the model"),
            "transition": constant((index >= self.config.nulls).astype(np.int64), ("trajectory",), "has a transition"),
        }

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """What each criterion said, and what is true."""
        sizes = {"trajectory": self.trajectories, "criterion": len(CRITERIA)}
        of_criterion = {
            "level": Variable(("criterion",), f"noise level that a criterion gives, NaN for none: {_listed(CRITERIA)}"),
            "low": Variable(("criterion",), "lower end of its 95 % interval"),
            "high": Variable(("criterion",), "upper end of its 95 % interval"),
            "doubt": Variable(("criterion",), "whether it is in doubt itself", dtype="int64"),
            "measured": Variable(("criterion",), "whether it was looked for at all", dtype="int64"),
            "truth": Variable(("criterion",), "noise level that it should give; NaN: it should give none"),
        }
        of_model = {
            "kind": Variable((), f"kind of the model: {_listed(KINDS)}", dtype="int64"),
            "flaw": Variable((), f"what is wrong with the model: {_listed(FLAWS)}", dtype="int64"),
            "labelled": Variable((), "whether the model has classes", dtype="int64"),
            "separate": Variable((), "separate transitions of the model", dtype="int64"),
            "separate_found": Variable((), "those in a window of their own", dtype="int64"),
            "windows": Variable((), "windows that were found", dtype="int64"),
        }
        return layout(sizes, of_criterion | of_model, "float64")

    def steps(self, pending: list[Block]) -> int:
        """Return the models that are left."""
        return sum(len(block.trajectories) for block in pending)

    def seconds(self, pending: list[Block]) -> float:
        """Return about how long they take."""
        return TYPICAL * (0.3 if self.config.quick else 1.0) * self.steps(pending)

    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> Mapping[str, Array]:
        """Return what is found of every model of a block."""
        rows = []
        for index in block.trajectories:
            rows.append(self.score(index))
            advance()
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def case(self, index: int) -> Case:
        """Return a model of the suite."""
        nulls, seed = self.config.nulls, self.config.seed
        return null_case(index, seed) if index < nulls else transition_case(index - nulls, seed)

    def _seed(self, index: int) -> int:
        """Return the seed of a model's window, which does not depend on how many models of the other sort there are."""
        nulls = self.config.nulls
        place, sort = (index, "null") if index < nulls else (index - nulls, "transition")
        return stream_seed(self.config.seed, place, tag(sort)) % 2**31

    def score(self, index: int) -> dict[str, Array]:
        """Return what the window of a model says, beside what is true."""
        case = self.case(index)
        size = {} if self.config.quick else {"trajectories": self.config.trajectories}
        config = WINDOW.config(
            model=case.kind, classifier="none", **size, quick=self.config.quick,
            seed=self._seed(index), dtype=self.config.dtype, device=self.config.device, block=64,
        )  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="softmode-") as folder:
            run = execute(WINDOW, WINDOW.prepare(config, {"model": case.model}), Path(folder) / "window")
            results = run.results
        known = {} if case.mixture is None else truth(case.mixture, case.labels, config.share)
        said = _said(results)
        estimates = [said.get(name, Estimate(math.nan)) for name in CRITERIA]
        transition = known.get("transition", math.nan)
        wanted = [
            known.get(name, transition if name not in ("first_unstable_state", *WINDOWED) else math.nan)
            for name in CRITERIA
        ]
        # what is exact has no interval
        ends = [(each.low, each.high) if each.samples else (math.nan, math.nan) for each in estimates]
        row: dict[str, Any] = {
            "level": [each.value for each in estimates], "doubt": [bool(each.reason) for each in estimates],
            "low": [low for low, _ in ends], "high": [high for _, high in ends],
            "truth": wanted, "kind": KINDS.index(case.kind), "flaw": list(FLAWS).index(case.flaw),
            "labelled": case.labels is not None, "separate": len(case.levels),
            "separate_found": _separate(results, case.levels), "windows": len(results.values["windows"]),
            "measured": [name in said for name in CRITERIA],
        }  # fmt: skip
        return {name: np.asarray(value) for name, value in row.items()}


def _said(results: Results) -> dict[str, Estimate]:
    """Return what each criterion says that was looked for; a first answer has no clones, for example."""
    said = {each["name"]: each["sigma"] for each in results.values["criteria"]}
    return said | {name: results[name].estimate for name in WINDOWED}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"{place} {name}" for place, name in enumerate(names))


def _separate(results: Results, levels: tuple[float, ...]) -> int:
    """Return how many levels of a tree have a window of their own."""
    ends = [(each["low"].value, each["high"].value) for each in results.values["windows"]]
    holding = [[place for place, end in enumerate(ends) if within(INSIDE * level, *end)] for level in levels]
    return len({places[0] for places in holding if places}) if results.values["verdict"] == "found" else 0
