"""The patch-model experiment: sample, measure along the way, store, read off every critical quantity (Sec. 6.2, E)."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from softmode import provenance
from softmode.config import PatchConfig
from softmode.device import parse_device
from softmode.dynamics import TrajectoryNoise, check_start, check_steps, initial_state, simulate
from softmode.estimate import Array
from softmode.exact.dictionary import PatchDictionary, parse_dictionary
from softmode.exact.patch import PatchDenoiser
from softmode.experiments.curves import (
    CRITICAL,
    SPACE,
    axes,
    check_counts,
    constant,
    critical_curves,
    layout,
    nearest_steps,
)
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
from softmode.progress import progress_bar
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
    check_counts(config, ("trajectories", "measure_every", "block"))
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
        snapshots=nearest_steps(
            "snapshots", config.snapshots or np.geomspace(config.t_max, config.t_min, DEFAULT_SNAPSHOTS).tolist(), times
        ),
        dtype=getattr(torch, config.dtype),
        device=parse_device(config.device),
    )
    check_start(process, config.t_max, model.dtype)
    return model


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
    with progress_bar(progress and bool(pending), parts * config.steps) as advance:
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
    xi_sign = first_moment_length(trajectory.values["sign_correlation"], config.portion).numpy()
    return values | {
        "snapshots": trajectory.snapshots[:, :, 0].numpy(),
        "xi_sign": xi_sign,
        **critical_curves(process, trajectory.times, model.lattice.wavenumbers(config.shells), xi_sign, gain),
    }


def _constants(model: PatchModel, config: PatchConfig) -> dict[str, tuple[ArraySpec, Array]]:
    field, dictionary = model.dictionary.receptive_field, model.dictionary
    measured, snapshots = model.times[model.measured], model.times[model.snapshots]
    return axes(model.process, model.lattice, measured, snapshots, config.shells, config.trajectories) | {
        "offsets": constant(field.tensor().long(), ("omega", "axis"), "offset u of the receptive field", "site"),
        "patterns": constant(dictionary.patterns, ("pattern", "omega"), "pattern p_k(u)"),
        "prior": constant(dictionary.prior, ("pattern",), "probability pi_k"),
    }


def _curves(model: PatchModel, config: PatchConfig) -> dict[str, ArraySpec]:
    """Describe every array that is filled by blocks."""
    space = SPACE[-config.dimensions :]
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
    state = config.dtype
    own = {
        "snapshots": (f"snapshot {' '.join(space)}", state, "state x_t", "1", "Fig. 2"),
        "sign_correlation": ("time distance", "float64", "C(r) of sign(x)", "1", "Eq. 62"),
        "xi_sign": ("time", "float64", "correlation length xi_x of sign(x)", "site", "Eq. 63"),
        "xi_moment": ("time", state, "second-moment correlation length of x", "site", "G.3"),
        "structure_factor": ("time shell axis", state, "structure factor |x_k|^2 / N", "1", "|x_k|^2 / N"),
        "magnetisation": ("time", state, "mean of x", "1", "sum x / N"),
        "kernel": ("time omega", "float64", "site-averaged Jacobian row of D", "1", "Eq. 7"),
    }
    return layout(sizes, own | CRITICAL)
