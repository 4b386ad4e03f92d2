"""The patch-model experiment: sample, measure along the way, store, read off every critical quantity (Sec. 6.2, E)."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor

from softmode import provenance
from softmode.config import PatchConfig
from softmode.critical import fit_dispersion, growth_rate
from softmode.dynamics import TrajectoryNoise, check_start, check_steps, initial_state, simulate
from softmode.estimate import Array
from softmode.exact.dictionary import PatchDictionary, parse_dictionary
from softmode.exact.patch import PatchDenoiser
from softmode.experiments.patch_summary import summarise
from softmode.lattice import Lattice, ReceptiveField
from softmode.observe.correlation import (
    connected_correlation,
    first_moment_length,
    second_moment_length,
    sign_correlation,
    structure_factor,
)
from softmode.observe.order import magnetisation
from softmode.process import Process, log_grid, parse_process
from softmode.store import ArraySpec, Run

DEFAULT_SNAPSHOTS = 5
# sites simulated at once, over all trajectories
SITES_AT_ONCE = 2**20


@dataclass(frozen=True, eq=False)
class PatchModel:
    """Everything that a checked config determines."""

    lattice: Lattice
    process: Process
    dictionary: PatchDictionary
    times: Tensor
    measured: list[int]
    snapshots: list[int]
    dtype: torch.dtype
    device: torch.device

    @property
    def denoiser(self) -> PatchDenoiser:
        """The dictionary's patch score as a denoiser."""
        return PatchDenoiser(self.dictionary)


def prepare(config: PatchConfig) -> PatchModel:
    """Check a config and build what it describes; nothing is computed or written.

    Raises:
        ValueError: If any field is out of range, naming it, its value and the remedy.
    """
    for name in ("trajectories", "measure_every", "block"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name}: got {getattr(config, name)}; expected at least 1")
    if config.seed < 0:
        raise ValueError(f"seed: got {config.seed}; expected at least 0")
    if config.size < 2:
        raise ValueError(f"size: got {config.size}; expected at least 2 sites")
    field = ReceptiveField.parse(config.receptive_field, config.dimensions)
    lattice = Lattice((config.size,) * config.dimensions)
    lattice.wavenumbers(config.shells)
    if config.shells < 3:
        raise ValueError(f"shells: got {config.shells}; expected at least 3, which the fit of xi_eq uses")
    field.check_fits(lattice.shape)
    process = parse_process(config.schedule)
    times = log_grid(config.t_max, config.t_min, config.steps)
    model = PatchModel(
        lattice=lattice,
        process=process,
        dictionary=parse_dictionary(config.dictionary, config.seed, field),
        times=times,
        measured=sorted({*range(0, config.steps, config.measure_every), config.steps}),
        snapshots=_snapshot_indices(config, times),
        dtype=getattr(torch, config.dtype),
        device=_device(config.device),
    )
    check_start(process, config.t_max, model.dtype)
    return model


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device: got {name!r}, which is not available here ({str(error).splitlines()[0]}); use cpu"
        ) from None
    return device


def _snapshot_indices(config: PatchConfig, times: Tensor) -> list[int]:
    wanted = np.asarray(config.snapshots or np.geomspace(config.t_max, config.t_min, DEFAULT_SNAPSHOTS))
    if not bool(((wanted >= config.t_min * (1 - 1e-9)) & (wanted <= config.t_max * (1 + 1e-9))).all()):
        raise ValueError(
            f"snapshots: got {list(config.snapshots)}; expected times in [{config.t_min:g}, {config.t_max:g}]"
        )
    return sorted({int((times.log() - math.log(t)).abs().argmin()) for t in wanted})


def run(config: PatchConfig, out: str | Path, progress: bool = False) -> Run:
    """Run the experiment, or resume it, and return the stored run.

    Args:
        config: What to simulate.
        out: Directory of the run; one that holds an unfinished run of the same config is resumed.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If the config or the directory is unusable; nothing is written then.
        NonFiniteStateError: If a state becomes NaN or infinite; finished blocks stay readable.
    """
    model = prepare(config)
    check_steps(model.process, model.times)
    identity = {"experiment": "patch", "config": asdict(config), "versions": provenance.versions()}
    stored = Run.create(out, identity, _constants(model, config), _curves(model, config), config.block)
    start = time.perf_counter()
    pending = list(stored.pending(config.block, config.trajectories))
    parts = sum(len(_parts(model, trajectories)) for _, trajectories in pending)
    with _bar(progress and bool(pending), parts * config.steps) as advance:
        for index, trajectories in pending:
            stored.write(index, trajectories, measure(model, config, trajectories, advance))
    stored.finish()
    stored.write_summary(summarise(stored, model.process, model.dictionary, time.perf_counter() - start))
    return stored


def measure(
    model: PatchModel, config: PatchConfig, trajectories: range, on_step: Callable[[], None] = lambda: None
) -> dict[str, Array]:
    """Simulate some trajectories and return every stored curve of theirs, [trajectory, ...].

    Large lattices go a few trajectories at a time, which bounds memory.
    """
    parts = [_measure(model, config, part, on_step) for part in _parts(model, trajectories)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _parts(model: PatchModel, trajectories: range) -> list[range]:
    size = max(1, SITES_AT_ONCE // model.lattice.sites)
    return [trajectories[start : start + size] for start in range(0, len(trajectories), size)]


def _measure(
    model: PatchModel, config: PatchConfig, trajectories: range, on_step: Callable[[], None]
) -> dict[str, Array]:
    process, denoiser = model.process, model.denoiser
    noise = TrajectoryNoise(config.seed, trajectories, model.device)
    x = initial_state(process, config.t_max, noise, (1, *model.lattice.shape), model.dtype)
    observables = {
        "sign_correlation": lambda _d, _p, x, _t: sign_correlation(x),
        "xi_moment": lambda _d, _p, x, _t: second_moment_length(connected_correlation(x)),
        "structure_factor": lambda _d, _p, x, _t: structure_factor(x, config.shells),
        "magnetisation": lambda _d, _p, x, _t: magnetisation(x),
        "kernel": lambda d, p, x, t: d.kernel(x / float(p.alpha(t)), p.noise_level(t)),
    }
    trajectory = simulate(
        denoiser,
        process,
        x,
        model.times,
        noise,
        observables=observables,
        measure_at=model.measured,
        snapshots_at=model.snapshots,
        on_step=on_step,
    )
    values = {name: value.numpy() for name, value in trajectory.values.items()}
    gain = model.dictionary.receptive_field.transform(
        model.lattice.shell_vectors(config.shells), trajectory.values["kernel"]
    ).real
    eigenvalue = process.eigenvalue(gain, trajectory.times[:, None, None], "sde").numpy()
    k = model.lattice.wavenumbers(config.shells).numpy()
    times = trajectory.times.numpy()
    xi_sign = first_moment_length(trajectory.values["sign_correlation"], config.portion).numpy()
    drift = fit_dispersion(eigenvalue, k)
    return values | {
        "snapshots": trajectory.snapshots[:, :, 0].numpy(),
        "xi_sign": xi_sign,
        "growth": growth_rate(xi_sign, times),
        "gain": gain.numpy(),
        "eigenvalue": eigenvalue,
        "xi_eq_drift": drift.length,
        "growing_edge": drift.growing_edge,
        "xi_eq_gain": fit_dispersion(1 - gain.numpy(), k).length,
        "xi_eq_free": fit_dispersion(1 - gain.numpy(), k, "free").length,
    }


@contextmanager
def _bar(show: bool, total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar and yield the function that advances it by one step."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not show) as bar:
        task = bar.add_task("sampling", total=total)
        yield lambda: bar.advance(task)


def _constants(model: PatchModel, config: PatchConfig) -> dict[str, tuple[ArraySpec, Array]]:
    field, dictionary = model.dictionary.receptive_field, model.dictionary
    times = model.times.numpy()

    def spec(values: Any, dims: tuple[str, ...], long_name: str, units: str = "1") -> tuple[ArraySpec, Array]:
        values = np.asarray(values)
        return ArraySpec(dims, values.shape, values.dtype.name, {"long_name": long_name, "units": units}), values

    return {
        "time": spec(times[model.measured], ("time",), "time of measurement", "process time"),
        "snapshot": spec(times[model.snapshots], ("snapshot",), "time of snapshot", "process time"),
        "trajectory": spec(np.arange(config.trajectories), ("trajectory",), "trajectory index"),
        "shell": spec(np.arange(config.shells + 1), ("shell",), "Fourier shell n"),
        "k": spec(
            model.lattice.wavenumbers(config.shells).numpy(), ("shell", "axis"), "wavenumber n k_min", "radian per site"
        ),
        "noise_level": spec(
            model.process.noise_level(model.times[model.measured]).numpy(), ("time",), "EDM noise level sigma/alpha"
        ),
        "offsets": spec(field.tensor().long().numpy(), ("omega", "axis"), "offset u of the receptive field", "site"),
        "patterns": spec(dictionary.patterns.numpy(), ("pattern", "omega"), "pattern p_k(u)"),
        "prior": spec(dictionary.prior.numpy(), ("pattern",), "probability pi_k"),
    }


def _curves(model: PatchModel, config: PatchConfig) -> dict[str, ArraySpec]:
    """Describe every array that is filled by blocks: name -> dims, shape, dtype, long name, unit, source."""
    space = ("z", "y", "x")[-config.dimensions :]
    sizes = {
        "trajectory": config.trajectories,
        "time": len(model.measured),
        "snapshot": len(model.snapshots),
        "shell": config.shells + 1,
        "axis": config.dimensions,
        "omega": model.dictionary.receptive_field.size,
        "distance": config.size // 2 + 1,
        **dict.fromkeys(space, config.size),
    }

    def spec(dims: str, dtype: str, long_name: str, units: str, source: str) -> ArraySpec:
        names = ("trajectory", *dims.split())
        attrs = {"long_name": long_name, "units": units, "source": source}
        return ArraySpec(names, tuple(sizes[name] for name in names), dtype, attrs)

    state = config.dtype
    rate = "1 / process time"
    return {
        "snapshots": spec(f"snapshot {' '.join(space)}", state, "state x_t", "1", "Fig. 2"),
        "sign_correlation": spec("time distance", "float64", "C(r) of sign(x)", "1", "Eq. 62"),
        "xi_sign": spec("time", "float64", "correlation length xi_x of sign(x)", "site", "Eq. 63"),
        "xi_moment": spec("time", state, "second-moment correlation length of x", "site", "G.3"),
        "growth": spec("time", "float64", "-d xi_x / d log t, smoothed", "site", "E.7"),
        "structure_factor": spec("time shell axis", state, "structure factor |x_k|^2 / N", "1", "|x_k|^2 / N"),
        "magnetisation": spec("time", state, "mean of x", "1", "sum x / N"),
        "kernel": spec("time omega", "float64", "site-averaged Jacobian row of D", "1", "Eq. 7"),
        "gain": spec("time shell axis", "float64", "mode gain G_n", "1", "v.(dD/dx)v"),
        "eigenvalue": spec("time shell axis", "float64", "drift eigenvalue lambda_n", rate, "Eq. 64"),
        "xi_eq_drift": spec("time", "float64", "xi_eq from lambda_n of the drift", "site", "Eq. 69"),
        "xi_eq_gain": spec("time", "float64", "xi_eq from 1 - G_n", "site", "Eq. 69 without a convention"),
        "xi_eq_free": spec("time", "float64", "xi_eq from 1 - G_n, free intercept", "site", "shells n >= 1 only"),
        "growing_edge": spec("time", "float64", "largest growing wavenumber k*", "radian per site", "lambda(k*) = 0"),
    }
