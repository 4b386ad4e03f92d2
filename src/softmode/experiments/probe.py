"""The probe: sample a model, or noise its data, and measure its critical dynamics beside the null model."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from softmode import provenance
from softmode.config import ProbeConfig
from softmode.denoiser import Denoiser
from softmode.device import parse_device
from softmode.dynamics import (
    Observable,
    Stepper,
    Trajectory,
    TrajectoryNoise,
    check_start,
    check_steps,
    euler_maruyama,
    initial_state,
    simulate,
    trajectory_seed,
)
from softmode.estimate import Array
from softmode.exact.gaussian import GaussianDenoiser, power_spectrum
from softmode.experiments.curves import (
    CRITICAL,
    SPACE,
    axes,
    check_counts,
    constant,
    critical_curves,
    fingerprint,
    layout,
    nearest_steps,
)
from softmode.experiments.probe_summary import summarise
from softmode.experiments.response import response, response_layout, response_streams
from softmode.lattice import Lattice
from softmode.networks.registry import Model, load_model
from softmode.observe.correlation import (
    connected_correlation,
    first_moment_length,
    second_moment_length,
    sign_correlation,
)
from softmode.observe.gains import difference_gains, exact_gains, jvp_gains, mode_signs, multiplexed_gains
from softmode.process import Process, log_grid
from softmode.progress import progress_bar
from softmode.store import ArraySpec, Run

DEFAULT_SNAPSHOTS = 8
# noise levels, in units of the data, between which the default snapshots lie
SNAPSHOT_LEVELS = (10.0, 0.1)
# stream of the null model's data, beside those of the trajectories
DATA = 2


@dataclass(frozen=True, eq=False)
class Probe:
    """Everything that a checked config determines."""

    model: Model
    denoiser: Denoiser
    null: GaussianDenoiser | None
    images: Tensor | None
    lattice: Lattice
    process: Process
    times: Tensor
    measured: list[int]
    snapshots: list[int]
    dtype: torch.dtype
    device: torch.device

    @property
    def xi(self) -> str:
        """Which correlation length is the model's xi_x: of sign(x) for binary data, else the second moment."""
        return "xi_sign" if self.model.binary else "xi_moment"


def prepare(config: ProbeConfig, model: Model | None = None) -> Probe:
    """Check a config and build what it describes; nothing is written.

    Args:
        config: What to probe and how.
        model: The model, where it is at hand; loaded by the config's name when left out.

    Raises:
        ValueError: If any field is out of range or the model cannot be used, naming the remedy.
    """
    check_counts(config, ("trajectories", "measure_every", "block"))
    device, dtype = parse_device(config.device), getattr(torch, config.dtype)
    model = model or load_model(config.model, config.schedule, config.shape, device, dtype)
    lattice = Lattice(model.shape[1:])
    lattice.wavenumbers(config.shells)
    if config.shells < 3:
        raise ValueError(f"shells: got {config.shells}; expected at least 3, which the fit of xi_eq uses")
    times = log_grid(config.t_max, config.t_min, config.steps)
    measured = sorted({*range(0, config.steps, config.measure_every), config.steps})
    if config.states == "forward":
        # noised data need no steps between measurements
        times, measured = times[measured], list(range(len(measured)))
    check_start(model.process, config.t_max, dtype)
    denoiser = model.denoiser(config.label)
    images, null = _data(config, model)
    wanted = config.snapshots or _default_snapshots(model.process, times)
    probe = Probe(
        model=model,
        denoiser=denoiser,
        null=null,
        images=images,
        lattice=lattice,
        process=model.process,
        times=times,
        measured=measured,
        snapshots=nearest_steps("snapshots", wanted, times),
        dtype=dtype,
        device=device,
    )
    check_denoiser(probe.denoiser, model, dtype, device, float(model.process.noise_level(times[len(times) // 2])))
    return probe


def check_denoiser(denoiser: Denoiser, model: Model, dtype: torch.dtype, device: torch.device, sigma: float) -> None:
    """Raise a ValueError unless a denoiser returns finite states of the shape and type that it is given."""
    x = torch.zeros(2, *model.shape, dtype=dtype, device=device)
    x += sigma * torch.linspace(-1, 1, x[0].numel(), dtype=dtype, device=device).reshape(model.shape)
    with torch.no_grad():
        out = denoiser(x, torch.tensor(sigma, dtype=torch.float64))
    if not isinstance(out, Tensor) or out.shape != x.shape or out.dtype != dtype:
        got = f"{tuple(out.shape)} {out.dtype}" if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(f"model: {model.name!r} returned {got} for states {tuple(x.shape)} {dtype}; expected the same")
    if not bool(torch.isfinite(out).all()):
        raise ValueError(
            f"model: {model.name!r} returned NaN or infinite values at sigma = {sigma:.4g}; check it there"
        )


def _default_snapshots(process: Process, times: Tensor) -> list[float]:
    levels = np.geomspace(*SNAPSHOT_LEVELS, DEFAULT_SNAPSHOTS)
    return process.time(torch.from_numpy(levels)).clamp(float(times[-1]), float(times[0])).tolist()


def _data(config: ProbeConfig, model: Model) -> tuple[Tensor | None, GaussianDenoiser | None]:
    """Return held-out data [image, channel, *space] and the null model, either None where it is not known."""
    images, null = None, model.null(config.label)
    if config.data:
        images = _read_images(config.data, model.shape)
        null = GaussianDenoiser(power_spectrum(images.double()), images.double().mean(0))
    elif model.images is not None and model.images.shape == model.shape:
        chosen = slice(None) if config.label is None else model.images.labels == config.label
        images = model.images.tensor(chosen)
    if config.states == "forward":
        if images is None:
            raise ValueError("data: --states forward needs data, which this model lacks; name a file with --data")
        if config.trajectories > len(images):
            raise ValueError(
                f"trajectories: got {config.trajectories}; expected at most {len(images)}, the held-out data"
            )
    return images, null


def _read_images(path: str, shape: tuple[int, ...]) -> Tensor:
    """Return the images of an npz file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            images = torch.from_numpy(np.asarray(file["images"], dtype=np.float32))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"data: cannot read 'images' from {path!r} ({error})") from None
    if tuple(images.shape[1:]) != shape or not bool(torch.isfinite(images).all()):
        raise ValueError(f"data: {path!r} holds {tuple(images.shape)}; expected finite images [image, *{shape}]")
    return images


def run(config: ProbeConfig, out: str | Path, model: Model | None = None, progress: bool = False) -> Run:
    """Run the experiment, or resume it, and return the stored run.

    Args:
        config: What to probe and how.
        out: Directory of the run; one that holds an unfinished run of the same config is resumed.
        model: The model, where it is at hand; loaded by the config's name when left out.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If the config, the model or the directory is unusable; nothing is written then.
        NonFiniteStateError: If a state becomes NaN or infinite; finished blocks stay readable.
    """
    probe = prepare(config, model)
    device, dtype = probe.device, probe.dtype
    if config.states == "reverse":
        check_steps(probe.process, probe.times)
    identity = {
        "experiment": "probe", "config": asdict(config), "versions": provenance.versions(),
        "model": {"name": probe.model.name, "shape": list(probe.model.shape), "xi": probe.xi,
                  "process": type(probe.process).__name__,
                  "fingerprint": fingerprint(lambda x: probe.denoiser(x, 1.0), probe.model.shape, device, dtype)},
    }  # fmt: skip
    stored = Run.create(out, identity, _constants(probe, config), _curves(probe, config), config.block)
    start = time.perf_counter()
    pending = list(stored.pending(config.block, config.trajectories))
    with progress_bar(progress and bool(pending), len(pending) * (len(probe.times) - 1)) as advance:
        for index, trajectories in pending:
            stored.write(index, trajectories, measure(probe, config, trajectories, advance))
    stored.finish()
    stored.write_summary(summarise(stored, probe.process, time.perf_counter() - start))
    return stored


def measure(
    probe: Probe, config: ProbeConfig, trajectories: range, on_step: Callable[[], None] = lambda: None
) -> dict[str, Array]:
    """Follow some trajectories and return every stored array of theirs, [trajectory, ...]."""
    gains = _gain_observable(probe, config, trajectories)
    trajectory = _follow(probe, config, trajectories, probe.denoiser, probe.images, {"gain": gains}, on_step)
    values = {name: value.numpy() for name, value in trajectory.values.items()}
    k = probe.lattice.wavenumbers(config.shells)
    curves = critical_curves(probe.process, trajectory.times, k, values[probe.xi], trajectory.values["gain"])
    if probe.null is not None:
        data = probe.null.sample(
            config.trajectories, torch.Generator().manual_seed(trajectory_seed(config.seed, 0, DATA))
        )
        null = _follow(probe, config, trajectories, probe.null, data, {}, lambda: None)
        values["null_xi_x"] = null.values[probe.xi].double().numpy()
    return values | curves | _at_snapshots(probe, config, trajectories, trajectory.snapshots)


def _follow(
    probe: Probe,
    config: ProbeConfig,
    trajectories: range,
    denoiser: Denoiser,
    data: Tensor | None,
    observables: dict[str, Observable],
    on_step: Callable[[], None],
) -> Trajectory:
    """Sample a denoiser's trajectories, or noise its data, and measure correlation lengths and more along the way."""
    noise = TrajectoryNoise(config.seed, trajectories, probe.device)
    if config.states == "forward" and data is not None:
        x_0 = data[list(trajectories)].to(probe.device, probe.dtype)
        stepper: Stepper = partial(forward_states, x_0)
        x = next(forward_states(x_0, denoiser, probe.process, x_0, probe.times[:1].repeat(2), noise))
    else:
        stepper = euler_maruyama
        x = initial_state(probe.process, config.t_max, noise, probe.model.shape, probe.dtype)
    common: dict[str, Observable] = {
        "xi_sign": lambda _d, _p, x, _t: first_moment_length(sign_correlation(x), config.portion),
        "xi_moment": lambda _d, _p, x, _t: second_moment_length(connected_correlation(x), config.portion),
    }
    return simulate(
        denoiser,
        probe.process,
        x,
        probe.times,
        noise,
        stepper=stepper,
        observables=common | observables,
        measure_at=probe.measured,
        snapshots_at=probe.snapshots,
        on_step=on_step,
    )


def forward_states(
    x_0: Tensor, _denoiser: Denoiser, process: Process, _x: Tensor, times: Tensor, noise: TrajectoryNoise
) -> Iterator[Tensor]:
    r"""Yield noised data $x_t = \alpha x_0 + \sigma\epsilon$ at every time after the first, in place of a stepper."""
    for t in times[1:]:
        yield float(process.alpha(t)) * x_0 + float(process.sigma(t)) * noise.fill_(torch.empty_like(x_0))


def _gain_observable(probe: Probe, config: ProbeConfig, trajectories: range) -> Observable:
    """Return the observable that measures gains in the way the config names."""
    place = {float(probe.times[k]): index for index, k in enumerate(probe.measured)}
    modes = 2 * probe.lattice.dimensions * config.shells

    def gains(denoiser: Denoiser, process: Process, x: Tensor, t: Tensor) -> Tensor:
        x, sigma = x / float(process.alpha(t)), process.noise_level(t)
        if config.method == "difference":
            return difference_gains(denoiser, x, sigma, config.shells)
        if config.method == "jvp":
            return jvp_gains(denoiser, x, sigma, config.shells)
        signs = mode_signs(modes, trajectories, place[float(t)], config.seed)
        return multiplexed_gains(denoiser, x, sigma, config.shells, signs)

    return gains


@torch.no_grad()
def _at_snapshots(probe: Probe, config: ProbeConfig, trajectories: range, states: Tensor) -> dict[str, Array]:
    """Return x, D(x) and the structure of its response at every snapshot, [trajectory, snapshot, ...]."""
    columns: dict[str, list[Tensor]] = {"snapshots": list(states.unbind(1))}
    for place, k in enumerate(probe.snapshots):
        t = probe.times[k]
        x, sigma = states[:, place].to(probe.device) / float(probe.process.alpha(t)), probe.process.noise_level(t)
        streams = response_streams(config.seed, trajectories, k, probe.device)
        found = response(probe.denoiser, x, sigma, streams) | {"denoised": probe.denoiser(x, sigma)}
        for name, value in found.items():
            columns.setdefault(name, []).append(value.cpu())
    return {name: torch.stack(values, 1).numpy() for name, values in columns.items()}


def _constants(probe: Probe, config: ProbeConfig) -> dict[str, tuple[ArraySpec, Array]]:
    measured, snapshots = probe.times[probe.measured], probe.times[probe.snapshots]
    arrays = axes(probe.process, probe.lattice, measured, snapshots, config.shells, config.trajectories)
    levels = probe.process.noise_level(snapshots)
    arrays["snapshot_level"] = constant(levels, ("snapshot",), "EDM noise level of the snapshot")
    if probe.null is not None:
        x = torch.zeros(1, *probe.model.shape, dtype=torch.float64)
        gain = torch.cat([exact_gains(probe.null, x, s, config.shells) for s in probe.process.noise_level(measured)])
        rate = probe.process.eigenvalue(gain, measured[:, None, None], "sde")
        dims, unit = ("time", "shell", "axis"), "1 / process time"
        arrays["null_gain"] = constant(gain, dims, "gain S/(S + sigma^2) of the null model, which bounds the model's")
        arrays["null_eigenvalue"] = constant(rate, dims, "drift eigenvalue of the null model", unit)
    return arrays


def _curves(probe: Probe, config: ProbeConfig) -> dict[str, ArraySpec]:
    """Describe every array that is filled by blocks."""
    space = SPACE[-probe.lattice.dimensions :]
    sizes = {
        "trajectory": config.trajectories,
        "time": len(probe.measured),
        "snapshot": len(probe.snapshots),
        "shell": config.shells + 1,
        "axis": probe.lattice.dimensions,
        "channel": probe.model.shape[0],
        "distance": min(probe.lattice.shape) // 2 + 1,
        **dict(zip(space, probe.lattice.shape, strict=True)),
    }
    state, field = config.dtype, f"snapshot channel {' '.join(space)}"
    own = {
        "snapshots": (field, state, "state x_t", "1", "Fig. 2"),
        "denoised": (field, state, "denoised state D(x)", "1", "E[x_0 | x]"),
        "xi_sign": ("time", "float64", "correlation length xi_x of sign(x)", "site", "Eq. 63"),
        "xi_moment": ("time", state, "second-moment correlation length of x", "site", "G.3"),
    }
    if probe.null is not None:
        own["null_xi_x"] = ("time", "float64", "xi_x of the null model's trajectories", "site", "as xi_x")
    return layout(sizes, own | response_layout(state) | CRITICAL)
