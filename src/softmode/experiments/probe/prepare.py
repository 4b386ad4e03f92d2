"""What a probe's config determines: the model, its null, its data, the time grid and where on it to measure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from softmode.config import ProbeConfig
from softmode.contract import Classify, check_classifier, check_denoiser
from softmode.denoiser import Autocast, Denoiser
from softmode.device import parse_device
from softmode.dynamics import check_start
from softmode.exact.gaussian import GaussianDenoiser, power_spectrum
from softmode.experiments.checks import named_classifier
from softmode.experiments.curves import check_counts, nearest_steps
from softmode.experiments.labels import Label, label_of, parse_labels
from softmode.files import read_arrays
from softmode.lattice import Lattice
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.networks.load import load_model
from softmode.observe.gains import mode_field
from softmode.process import VE, Convention, Process, log_grid, rho_grid
from softmode.rounding import TABLE, within

DEFAULT_SNAPSHOTS = 8
# noise levels, in units of the data, between which the default snapshots lie
SNAPSHOT_LEVELS = (10.0, 0.1)
# first and last time of the paper's reverse SDE (F.5), and noise level of its probability flow (G.2)
SDE_TIMES = (50.0, 1e-3)
FLOW_LEVELS = (80.0, 0.002)
# steps, and steps between two measurements, by sampler
STEPS = {"euler-maruyama": (2000, 20), "heun": (63, 1)}


@dataclass(frozen=True, eq=False)
class Bound:
    """A model with its class bound.

    Args:
        denoiser: Its denoiser.
        null: The Gaussian model of the class's data; None where these are not known.
        images: Held-out data of the class [image, channel, *space]; None where there are none.
    """

    denoiser: Denoiser
    null: GaussianDenoiser | None
    images: Tensor | None


@dataclass(frozen=True, eq=False)
class Probe:
    """Everything that a checked config determines; `config` has no field left open."""

    config: ProbeConfig
    model: Model
    bounds: dict[Label, Bound]
    classify: Classify | None
    lattice: Lattice
    times: Tensor
    measured: list[int]
    snapshots: list[int]
    dtype: torch.dtype
    device: torch.device

    @property
    def process(self) -> Process:
        """Process in which to sample."""
        return self.model.process

    @property
    def labels(self) -> tuple[Label, ...]:
        """Classes, dealt out to the trajectories in turn."""
        return tuple(self.bounds)

    @property
    def has_null(self) -> bool:
        """Whether the null model is known."""
        return all(bound.null is not None for bound in self.bounds.values())

    @property
    def convention(self) -> Convention:
        """Which drift the eigenvalues are of: that of the dynamics by which states are sampled."""
        return "ode" if self.config.sampler == "heun" else "sde"

    @property
    def xi(self) -> str:
        """Which correlation length is the model's xi_x: of sign(x) for binary data, else the second moment."""
        return "xi_sign" if self.model.binary else "xi_moment"

    def sampling(self, label: Label) -> Denoiser:
        """Return the denoiser that moves the states, in the precision asked for."""
        denoiser, precision = self.bounds[label].denoiser, self.config.precision
        return denoiser if precision == "full" else Autocast(denoiser, getattr(torch, precision))

    def mean_over_labels(self, values: dict[Label, Tensor]) -> Tensor:
        """Return the mean over trajectories of something that each class has."""
        rows = [values[label_of(self.labels, i)] for i in range(self.config.trajectories)]
        return torch.stack(rows).mean(0)


def prepare(config: ProbeConfig, model: Model | None = None) -> Probe:
    """Check a config and build what it describes; nothing is written.

    Args:
        config: What to probe and how.
        model: The model, where it is at hand; loaded by the config's name when left out.

    Raises:
        ValueError: If any field is out of range or the model cannot be used, naming the remedy.
    """
    check_counts(config, ("trajectories", "block"))
    device, dtype = parse_device(config.device), getattr(torch, config.dtype)
    model = model or load_model(config.model, config.schedule, config.shape, device, dtype, prompt=config.prompt)
    config = settle(config, model)
    check_counts(config, ("measure_every",))
    lattice = Lattice(model.shape[1:])
    lattice.wavenumbers(config.shells)
    if config.shells < 3:
        raise ValueError(f"shells: got {config.shells}; expected at least 3, which the fit of xi_eq uses")
    times, measured = _grid(config, model, dtype)
    labels = parse_labels(config.labels, model, config.trajectories)
    given = _given_data(config, model)
    bounds = {label: Bound(model.denoiser(label), *_data(model, label, given)) for label in labels}
    if config.states == "forward":
        _check_data(bounds, config.trajectories)
    classify, _, _ = named_classifier(config.classifier, model, device)
    if classify is not None:
        check_classifier(classify, model, dtype, device)
    wanted = config.snapshots or _default_snapshots(model.process, times)
    middle = float(model.process.noise_level(times[len(times) // 2]))
    for bound in bounds.values():
        check_denoiser(bound.denoiser, model, dtype, device, middle)
    return Probe(
        config=config,
        model=model,
        bounds=bounds,
        classify=classify,
        lattice=lattice,
        times=times,
        measured=measured,
        snapshots=nearest_steps("snapshots", wanted, times),
        dtype=dtype,
        device=device,
    )


def settle(config: ProbeConfig, model: Model) -> ProbeConfig:
    """Return a config with every field filled in whose default depends on the model or the sampler."""
    sampler = config.sampler
    if sampler == "auto":
        sampler = "heun" if isinstance(model.process, VE) else "euler-maruyama"
    ends = SDE_TIMES if sampler == "euler-maruyama" else None
    t_max, t_min = default_times(model, ends)
    steps, measure_every = STEPS[sampler]
    return replace(
        config,
        sampler=sampler,
        t_max=t_max if config.t_max is None else config.t_max,
        t_min=t_min if config.t_min is None else config.t_min,
        steps=steps if config.steps is None else config.steps,
        measure_every=measure_every if config.measure_every is None else config.measure_every,
    )


def flow_levels(model: Model) -> tuple[float, float]:
    """Return the first and the last noise level of the paper's probability flow (G.2), within what a model knows."""
    lowest, highest = model.levels or (0.0, math.inf)
    return min(FLOW_LEVELS[0], highest), max(FLOW_LEVELS[1], lowest)


def default_times(model: Model, ends: tuple[float, float] | None) -> tuple[float, float]:
    """Return the first and the last time of the reverse grid, within what the model knows.

    Args:
        model: The model.
        ends: Times for a VP process; None for the times of FLOW_LEVELS, which a VE process always has.
    """
    process = model.process
    if ends is None or isinstance(process, VE):
        first, last = (float(process.time(level)) for level in flow_levels(model))
    else:
        first, last = ends
    if model.levels is not None:
        lowest, highest = (float(process.time(level)) for level in model.levels)
        first, last = min(first, highest), max(last, lowest)
    return first, last


def check_levels(model: Model, t_max: float, t_min: float) -> None:
    """Raise a ValueError if the times t_max or t_min are beyond the noise levels that a model knows."""
    if model.levels is None:
        return
    lowest, highest = model.levels
    for name, t in (("t_max", t_max), ("t_min", t_min)):
        level = float(model.process.noise_level(t))
        if not within(level, lowest, highest, TABLE):
            raise ValueError(
                f"{name}: got {t:g}, noise level {level:.4g}; {model.name!r} knows those in "
                f"[{lowest:.4g}, {highest:.4g}]: leave {name} out"
            )


def _grid(config: ProbeConfig, model: Model, dtype: torch.dtype) -> tuple[Tensor, list[int]]:
    """Return the time grid of a settled config and the indices on it at which to measure."""
    t_max, t_min = cast(float, config.t_max), cast(float, config.t_min)
    steps, every = cast(int, config.steps), cast(int, config.measure_every)
    # also for its checks, which name these fields
    times = log_grid(t_max, t_min, steps)
    check_start(model.process, t_max, dtype)
    check_levels(model, t_max, t_min)
    if config.sampler == "heun":
        first, last = (float(model.process.noise_level(t)) for t in (t_max, t_min))
        times = model.process.time(rho_grid(first, last, steps + 1))
        times[0], times[-1] = t_max, t_min
    measured = sorted({*range(0, steps, every), steps})
    if config.states == "forward":
        # noised data need no steps between measurements
        times, measured = times[measured], list(range(len(measured)))
    return times, measured


def _default_snapshots(process: Process, times: Tensor) -> list[float]:
    levels = np.geomspace(*SNAPSHOT_LEVELS, DEFAULT_SNAPSHOTS)
    return process.time(torch.from_numpy(levels)).clamp(float(times[-1]), float(times[0])).tolist()


def _given_data(config: ProbeConfig, model: Model) -> Tensor | None:
    return read_images(config.data, model.shape) if config.data else None


def _data(model: Model, label: Label, given: Tensor | None) -> tuple[GaussianDenoiser | None, Tensor | None]:
    """Return the null model and the held-out data [image, channel, *space] of a class, either None where unknown."""
    if given is not None:
        return null_model(given), given
    images = None
    if model.images is not None and model.images.shape == model.shape:
        images = model.images.tensor(slice(None) if label is None else model.images.labels == label)
    return model.null(label), images


def null_model(images: Tensor) -> GaussianDenoiser:
    """Return the Gaussian model of some data [image, channel, *space]; of colours, the luminance's spectrum."""
    images = images.double()
    return GaussianDenoiser(power_spectrum(mode_field(images)), images.mean(0))


def _check_data(bounds: dict[Label, Bound], trajectories: int) -> None:
    """Raise a ValueError unless there are data for every trajectory."""
    for place, (label, bound) in enumerate(bounds.items()):
        if bound.images is None:
            raise ValueError("data: --states forward needs data, which this model lacks; name a file with --data")
        wanted = len(range(place, trajectories, len(bounds)))
        if wanted > len(bound.images):
            of = "" if label is None else f" of class {label}"
            raise ValueError(
                f"trajectories: got {trajectories}; expected at most {len(bound.images)}{of}, the held-out data"
            )


def data_of(images: Tensor, labels: Sequence[Label], trajectories: Sequence[int]) -> Tensor:
    """Return each trajectory's datum among those of its class."""
    return images[[i // len(labels) for i in trajectories]]


def read_images(path: str, shape: tuple[int, ...]) -> Tensor:
    """Return the images of an npz file."""
    images = torch.from_numpy(read_arrays("data", path, ("images",), np.float32)[0])
    if images.shape[1:] != shape or not bool(torch.isfinite(images).all()):
        got = quote(tuple(images.shape))
        raise refusal(f"data: {quote(path)} holds {got}; expected finite images [image, *{shape}]")
    return images
