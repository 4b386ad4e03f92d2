"""Clone curves: trajectories are copied, the copies run on with noise of their own, and their final states compared."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softmode.bounds import check
from softmode.contract import Classify, check_classifier
from softmode.denoiser import Denoiser
from softmode.estimate import Array
from softmode.experiments.clones.config import Config
from softmode.labels import Label
from softmode.lattice import Lattice
from softmode.levels import check_levels, default_times
from softmode.model import Model
from softmode.observe.clones import class_agreement, over_pairs, sign_agreement
from softmode.observe.state import Variable
from softmode.process import Process, process_name
from softmode.runs.classes import batches, check_dealt, dealt_labels, in_batches
from softmode.runs.classifier import named_classifier, named_inputs
from softmode.runs.experiment import Constants, Plan
from softmode.runs.identity import fingerprint, fingerprints, inputs_of, state_bytes
from softmode.runs.layout import SPACE, constant, layout, space_sizes
from softmode.runs.opening import open_model
from softmode.runs.store import ArraySpec, Block
from softmode.samplers import EulerMaruyama, check_start, initial_state
from softmode.simulation import clone, nearest_steps
from softmode.streams import TrajectoryNoise, copy_key

DEFAULT_TIMES = 8
# noise levels, in units of the data, between which the default times lie
LEVELS = (20.0, 0.2)
# first and last time of a VP process: sigma/alpha is 148 at the first for vp:1
TIMES = (10.0, 1e-3)
SAMPLER = EulerMaruyama()


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> "ClonesPlan":
    """Check a config and build what it describes.

    Args:
        config: What to copy and when.
        given: The `model`, or a `classifier` that maps states to logits [batch, class], where they are at hand.

    Raises:
        ValueError: If any field is out of range or a model cannot be used, naming the remedy.
    """
    check(config)
    given = given or {}
    model, device, dtype = open_model(config, given)
    Lattice(model.shape[1:])
    first, last = default_times(model, TIMES)
    config = replace(
        config,
        t_max=(t_max := first if config.t_max is None else config.t_max),
        t_min=(t_min := last if config.t_min is None else config.t_min),
    )
    times = SAMPLER.grid(model.process, t_max, t_min, config.steps)
    check_start(model.process, t_max, dtype)
    check_levels(model, t_max, t_min)
    SAMPLER.check(model.process, times)
    labels = dealt_labels(config.labels, model, config.trajectories)
    starts = nearest_steps("times", config.times or _default_times(model.process, times), times)
    denoisers = {label: model.denoiser(label) for label in labels}
    middle = float(model.process.noise_level(times[len(times) // 2]))
    seconds = check_dealt(denoisers, model, dtype, device, middle, rounded=True)
    told = _told(config, model, given.get("classifier"), device)
    if told.classify is not None:
        check_classifier(told.classify, model, dtype, device)
    return ClonesPlan(config, model, denoisers, told, times, starts, dtype, device, seconds)


def _default_times(process: Process, times: Tensor) -> list[float]:
    levels = np.geomspace(*LEVELS, DEFAULT_TIMES)
    return process.time(torch.from_numpy(levels)).clamp(float(times[-1]), float(times[0])).tolist()


def evaluations(times: Tensor, copies: int, starts: Sequence[int]) -> tuple[int, int]:
    """Return the network evaluations of one trajectory, and of all its copies from these grid indices on.

    Args:
        times: The grid [step].
        copies: Copies of a trajectory at each time.
        starts: Grid indices at which it is copied.
    """
    of_copies = sum(int(SAMPLER.calls(times[k:]).sum()) for k in starts)
    return int(SAMPLER.calls(times).sum()), copies * of_copies


@dataclass(frozen=True, eq=False)
class Told:
    """What tells the classes of final states.

    Args:
        classify: Maps final states to logits; None where classes are left out.
        data: Data set whose classes these are; empty where that is not known.
        note: Why classes are left out, or what to know about them; empty otherwise.
        inputs: Digests of its files.
    """

    classify: Classify | None
    data: str = ""
    note: str = ""
    inputs: Mapping[str, str] | None = None


def _told(config: Config, model: Model, classify: Classify | None, device: torch.device) -> Told:
    if classify is not None:
        return Told(classify)
    told = Told(*named_classifier(config.classifier, model, device))
    return told if told.classify is None else replace(told, inputs=named_inputs(config.classifier))


@dataclass(frozen=True, eq=False)
class ClonesPlan(Plan):
    """A model, the grid of its trajectories, and where on it they are copied.

    Args:
        config: The config, with no field left open.
        model: The model.
        denoisers: Its denoiser by class, which are dealt out to the trajectories in turn.
        told: What tells the classes.
        times: The reverse grid [step].
        starts: Grid indices of the times at which trajectories are copied, rising.
        dtype: Floating type of the states.
        device: Device of the states.
        call_seconds: Time of one network evaluation of one state (s).
    """

    config: Config
    model: Model
    denoisers: dict[Label, Denoiser]
    told: Told
    times: Tensor
    starts: list[int]
    dtype: torch.dtype
    device: torch.device
    call_seconds: float

    @property
    def process(self) -> Process:
        """Process in which to sample."""
        return self.model.process

    @property
    def memory(self) -> float:  # type: ignore[override] # a property in place of Plan's default
        """Bytes of a trajectory's network and of its states that wait to be copied or compared."""
        waiting = len(self.starts) * (1 + self.config.copies) * math.prod(self.model.shape) * self.dtype.itemsize
        return state_bytes(self.model, self.dtype) + waiting

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The model and the classifier by fingerprints and by digests of their files."""
        classify, model = self.told.classify, self.model
        made = model.shape, self.device, self.dtype
        return {
            "model": {
                "name": model.name, "shape": list(model.shape), "process": type(model.process).__name__,
                "schedule": process_name(model.process),
                "fingerprint": fingerprints(self.denoisers, model, self.device, self.dtype),
            },
            "classifier": {
                "used": classify is not None, "data": self.told.data, "note": self.told.note,
                "fingerprint": None if classify is None else fingerprint(classify, *made),
            },
            "inputs": inputs_of(model=model.inputs, classifier=self.told.inputs or {}),
        }  # fmt: skip

    @property
    def constants(self) -> Constants:
        """The grid, and where on it trajectories are copied."""
        copied = self.times[self.starts]
        level, noise = self.process.noise_level, "EDM noise level sigma/alpha"
        return {
            "copy_time": constant(copied, ("copy_time",), "time t* at which trajectories are copied", "process time"),
            "copy_level": constant(level(copied), ("copy_time",), f"{noise} at t*"),
            "copy_step": constant(self.starts, ("copy_time",), "step of the grid at t*"),
            "step_time": constant(self.times, ("step",), "time of the grid", "process time"),
            "step_level": constant(level(self.times), ("step",), f"{noise} of the grid"),
            "trajectory": constant(np.arange(self.config.trajectories), ("trajectory",), "trajectory index"),
        }

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """Final states, their classes, and how far they agree."""
        channels, *sides = self.model.shape
        field, pairs = ("channel", *SPACE[-len(sides) :]), "mean over pairs of a trajectory and its copies"
        sizes = {
            "trajectory": self.config.trajectories, "copy_time": len(self.starts), "copy": self.config.copies,
            "channel": channels, **space_sizes(tuple(sides)),
        }  # fmt: skip
        agreement = ("copy_time",)
        variables = {
            "parent": Variable(field, "final state of the trajectory", "1", "biroli2024", "state"),
            "first_copy": Variable((*agreement, *field), "final state of its first copy", "1", "biroli2024", "state"),
            "sign_agreement": Variable(agreement, "share of sites of equal sign", "1", pairs, "float64"),
        }
        if self.told.classify is not None:
            variables |= {
                "parent_class": Variable((), "class of the trajectory's final state", "1", "classifier", "int64"),
                "copy_class": Variable(
                    (*agreement, "copy"), "class of the copy's final state", "1", "classifier", "int64"
                ),
                "class_agreement": Variable(agreement, "whether classes are equal", "1", pairs, "float64"),
            }
        return layout(sizes, variables, self.config.dtype)

    def steps(self, pending: list[Block]) -> int:
        """Return the sampler's steps: trajectories of a batch move together, and so do their copies."""
        labels, last = tuple(self.denoisers), len(self.times) - 1
        count = sum(len(batches(self.model, labels, block.trajectories)) for block in pending)
        return count * (last + self.config.copies * sum(last - k for k in self.starts))

    def seconds(self, pending: list[Block]) -> float:
        """Return about how long the network takes."""
        calls = sum(evaluations(self.times, self.config.copies, self.starts))
        return calls * self.call_seconds * sum(len(block.trajectories) for block in pending)

    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> dict[str, Array]:
        """Return every array of a block's trajectories and their copies."""
        return in_batches(
            self.model,
            self.denoisers,
            block.trajectories,
            lambda denoiser, group: self._measure(denoiser, group, advance),
        )

    def _measure(self, denoiser: Denoiser, trajectories: list[int], advance: Callable[[], None]) -> dict[str, Array]:
        """Run trajectories and their copies."""
        seed, process = self.config.seed, self.process
        noise = TrajectoryNoise(seed, trajectories, self.device)
        parent, copies = clone(
            denoiser,
            process,
            initial_state(process, float(self.times[0]), noise, self.model.shape, self.dtype),
            self.times,
            noise,
            self.starts,
            self.config.copies,
            lambda k, copy: TrajectoryNoise(seed, trajectories, self.device, copy_key(k, copy)),
            advance,
        )
        values = {
            "parent": parent,
            "first_copy": copies[:, :, 0],
            "sign_agreement": over_pairs(sign_agreement, parent, copies),
        }
        if self.told.classify is not None:
            parent_class = self._classes(self.told.classify, parent)
            each = [self._classes(self.told.classify, states) for states in copies.flatten(1, 2).unbind(1)]
            copy_class = torch.stack(each, 1).reshape(copies.shape[:3])
            values |= {
                "parent_class": parent_class,
                "copy_class": copy_class,
                "class_agreement": over_pairs(class_agreement, parent_class, copy_class),
            }
        return {name: value.numpy() for name, value in values.items()}

    @torch.no_grad()
    def _classes(self, classify: Classify, states: Tensor) -> Tensor:
        """Return the classes of final states, which are x_0 up to the last time's noise once divided by alpha."""
        alpha = float(self.process.alpha(self.times[-1]))
        return classify(states.to(self.device) / alpha).argmax(1).cpu()
