"""The probe: sample a model, or noise its data, and measure its critical dynamics beside the null model."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from softmode.runs import provenance
from softmode.config import ProbeConfig
from softmode.denoiser import Denoiser
from softmode.dynamics import (
    Observable,
    Stepper,
    Trajectory,
    TrajectoryNoise,
    check_steps,
    euler_maruyama,
    heun,
    initial_state,
    simulate,
    trajectory_seed,
)
from softmode.estimate import Array
from softmode.experiments.curves import CRITICAL, SPACE, axes, constant, critical_curves, fingerprint, layout
from softmode.experiments.labels import Label, by_label
from softmode.experiments.probe_setup import Bound, Probe, data_of, prepare
from softmode.experiments.probe_summary import summarise
from softmode.experiments.response import response, response_layout, response_streams
from softmode.model import Model
from softmode.observe.correlation import (
    connected_correlation,
    first_moment_length,
    second_moment_length,
    sign_correlation,
)
from softmode.observe.gains import (
    difference_gains,
    exact_gains,
    jvp_gains,
    luminance_and_chroma,
    mode_signs,
    multiplexed_gains,
)
from softmode.observe.order import class_entropy
from softmode.process import Process
from softmode.runs.progress import progress_bar
from softmode.runs.store import ArraySpec, Run

# stream of the null model's data, beside those of the trajectories
DATA = 2


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
    config, device, dtype = probe.config, probe.device, probe.dtype
    if config.states == "reverse" and config.sampler == "euler-maruyama":
        check_steps(probe.process, probe.times)
    first = probe.bounds[probe.labels[0]].denoiser
    identity = {
        "experiment": "probe", "config": asdict(config), "versions": provenance.versions(),
        "model": {"name": probe.model.name, "shape": list(probe.model.shape), "xi": probe.xi,
                  "process": type(probe.process).__name__, "convention": probe.convention,
                  "fingerprint": fingerprint(lambda x: first(x, 1.0), probe.model.shape, device, dtype)},
    }  # fmt: skip
    stored = Run.create(out, identity, _constants(probe), _curves(probe), config.block)
    start = time.perf_counter()
    pending = list(stored.pending(config.block, config.trajectories))
    batches = sum(min(len(probe.labels), len(trajectories)) for _, trajectories in pending)
    with progress_bar(progress and bool(pending), batches * (len(probe.times) - 1)) as advance:
        for index, trajectories in pending:
            stored.write(index, trajectories, measure(probe, trajectories, advance))
    stored.finish()
    stored.write_summary(summarise(stored, probe.process, time.perf_counter() - start))
    return stored


def measure(probe: Probe, trajectories: range, on_step: Callable[[], None] = lambda: None) -> dict[str, Array]:
    """Follow some trajectories and return every stored array of theirs, [trajectory, ...]."""
    return by_label(probe.labels, trajectories, lambda label, group: _measure(probe, label, group, on_step))


def _measure(probe: Probe, label: Label, trajectories: list[int], on_step: Callable[[], None]) -> dict[str, Array]:
    """Follow trajectories of one class."""
    bound, config = probe.bounds[label], probe.config
    images = None if bound.images is None or config.states == "reverse" else bound.images
    data = None if images is None else data_of(images, probe.labels, trajectories)
    own = _observables(probe, bound, trajectories)
    trajectory = _follow(probe, trajectories, probe.sampling(label), data, own, on_step)
    values = {name: value.numpy() for name, value in trajectory.values.items()}
    k = probe.lattice.wavenumbers(config.shells)
    gain = _split_channels(trajectory.values["gain"])
    values |= {name: value.double().numpy() for name, value in gain.items()}
    values |= critical_curves(
        probe.process, trajectory.times, k, values[probe.xi], gain["gain"], probe.convention
    )  # fmt: skip
    if bound.null is not None:
        drawn = None
        if config.states == "forward":
            stream = torch.Generator().manual_seed(trajectory_seed(config.seed, 0, DATA))
            drawn = bound.null.sample(config.trajectories, stream, probe.model.shape[0])[trajectories]
        null = _follow(probe, trajectories, bound.null, drawn, {}, lambda: None)
        values["null_xi_x"] = null.values[probe.xi].double().numpy()
    return values | _at_snapshots(probe, bound, trajectories, trajectory.snapshots)


def _follow(
    probe: Probe,
    trajectories: list[int],
    denoiser: Denoiser,
    data: Tensor | None,
    observables: dict[str, Observable],
    on_step: Callable[[], None],
) -> Trajectory:
    """Sample a denoiser's trajectories, or noise its data, and measure correlation lengths and more along the way."""
    config = probe.config
    noise = TrajectoryNoise(config.seed, trajectories, probe.device)
    stepper: Stepper
    if data is not None:
        x_0 = data.to(probe.device, probe.dtype)
        stepper = partial(forward_states, x_0)
        x = next(forward_states(x_0, denoiser, probe.process, x_0, probe.times[:1].repeat(2), noise))
    else:
        stepper = heun if config.sampler == "heun" else euler_maruyama
        x = initial_state(probe.process, float(probe.times[0]), noise, probe.model.shape, probe.dtype)
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


def _observables(probe: Probe, bound: Bound, trajectories: list[int]) -> dict[str, Observable]:
    """Return the observables of a model's own trajectories, all of the denoiser in full precision."""
    config, classify = probe.config, probe.classify
    place = {float(probe.times[k]): index for index, k in enumerate(probe.measured)}
    modes = 2 * probe.lattice.dimensions * config.shells
    by_channel = probe.model.shape[0] > 1

    def gains(_denoiser: Denoiser, process: Process, x: Tensor, t: Tensor) -> Tensor:
        x, sigma = x / float(process.alpha(t)), process.noise_level(t)
        if config.method == "difference":
            return difference_gains(bound.denoiser, x, sigma, config.shells, by_channel=by_channel)
        if config.method == "jvp":
            return jvp_gains(bound.denoiser, x, sigma, config.shells, by_channel)
        signs = mode_signs(modes, trajectories, place[float(t)], config.seed)
        return multiplexed_gains(bound.denoiser, x, sigma, config.shells, signs, by_channel=by_channel)

    if classify is None:
        return {"gain": gains}

    def entropy(_denoiser: Denoiser, process: Process, x: Tensor, t: Tensor) -> Tensor:
        return class_entropy(classify(bound.denoiser(x / float(process.alpha(t)), process.noise_level(t))))

    return {"gain": gains, "class_entropy": entropy}


def _split_channels(gain: Tensor) -> dict[str, Tensor]:
    """Return the gains that are stored, from [trajectory, time, shell, axis] or the same by channel.

    Of RGB states `gain` is that of the luminance; of any others with several channels, latents, their mean.
    """
    if gain.ndim == 4:
        return {"gain": gain}
    each = gain.diagonal(dim1=-2, dim2=-1)
    if each.shape[-1] != 3:
        return {"gain": each.mean(-1), "channel_gain": each}
    luminance, chroma = luminance_and_chroma(gain)
    return {"gain": luminance, "chroma_gain": chroma, "channel_gain": each}


@torch.no_grad()
def _at_snapshots(probe: Probe, bound: Bound, trajectories: list[int], states: Tensor) -> dict[str, Array]:
    """Return x, D(x) and the structure of its response at every snapshot, [trajectory, snapshot, ...]."""
    columns: dict[str, list[Tensor]] = {"snapshots": list(states.unbind(1))}
    for place, k in enumerate(probe.snapshots):
        t = probe.times[k]
        x, sigma = states[:, place].to(probe.device) / float(probe.process.alpha(t)), probe.process.noise_level(t)
        streams = response_streams(probe.config.seed, trajectories, k, probe.device)
        found = response(bound.denoiser, x, sigma, streams) | {"denoised": bound.denoiser(x, sigma)}
        for name, value in found.items():
            columns.setdefault(name, []).append(value.cpu())
    return {name: torch.stack(values, 1).numpy() for name, values in columns.items()}


def _constants(probe: Probe) -> dict[str, tuple[ArraySpec, Array]]:
    config = probe.config
    measured, snapshots = probe.times[probe.measured], probe.times[probe.snapshots]
    arrays = axes(probe.process, probe.lattice, measured, snapshots, config.shells, config.trajectories)
    levels = probe.process.noise_level(snapshots)
    arrays["snapshot_level"] = constant(levels, ("snapshot",), "EDM noise level of the snapshot")
    if probe.has_null:
        x = torch.zeros(1, *probe.model.shape, dtype=torch.float64)
        at = probe.process.noise_level(measured)
        gains = {
            label: torch.cat([exact_gains(bound.null, x, s, config.shells) for s in at])
            for label, bound in probe.bounds.items()
            if bound.null is not None
        }
        gain = probe.mean_over_labels(gains)
        rate = probe.process.eigenvalue(gain, measured[:, None, None], probe.convention)
        dims, unit = ("time", "shell", "axis"), "1 / process time"
        arrays["null_gain"] = constant(gain, dims, "gain S/(S + sigma^2) of the null model, which bounds the model's")
        arrays["null_eigenvalue"] = constant(rate, dims, "drift eigenvalue of the null model", unit)
    return arrays


def _curves(probe: Probe) -> dict[str, ArraySpec]:
    """Describe every array that is filled by blocks."""
    config, channels = probe.config, probe.model.shape[0]
    space = SPACE[-probe.lattice.dimensions :]
    sizes = {
        "trajectory": config.trajectories,
        "time": len(probe.measured),
        "snapshot": len(probe.snapshots),
        "shell": config.shells + 1,
        "axis": probe.lattice.dimensions,
        "channel": channels,
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
    if channels > 1:
        own["channel_gain"] = ("time shell axis channel", "float64", "mode gain of each channel", "1", "v.(dD/dx)v")
    if channels == 3:
        own["chroma_gain"] = ("time shell axis", "float64", "mean gain of the two directions of colour", "1", "G.3")
    if probe.has_null:
        own["null_xi_x"] = ("time", "float64", "xi_x of the null model's trajectories", "site", "as xi_x")
    if probe.classify is not None:
        own["class_entropy"] = ("time", "float64", "entropy of the class of D(x)", "nat", "classifier")
    return layout(sizes, own | response_layout(state) | CRITICAL)
