"""What experiments along a time grid have in common: their axes, their checks, the critical curves."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softmode.critical import fit_dispersion, growth_rate
from softmode.estimate import Array
from softmode.lattice import Lattice
from softmode.process import Convention, Process
from softmode.rounding import within
from softmode.store import ArraySpec

SPACE = ("z", "y", "x")


def check_counts(config: object, names: Sequence[str]) -> None:
    """Raise a ValueError unless some fields of a config are at least 1 and its seed is at least 0."""
    for name, least in (*((name, 1) for name in names), ("seed", 0)):
        if getattr(config, name) < least:
            raise ValueError(f"{name}: got {getattr(config, name)}; expected at least {least}")


def constant(values: Any, dims: tuple[str, ...], long_name: str, units: str = "1") -> tuple[ArraySpec, Array]:
    """Return an array that is known from the start with its layout."""
    values = np.asarray(values)
    return ArraySpec(dims, values.shape, values.dtype.name, {"long_name": long_name, "units": units}), values


def axes(
    process: Process, lattice: Lattice, measured: Tensor, snapshots: Tensor, shells: int, trajectories: int
) -> dict[str, tuple[ArraySpec, Array]]:
    """Return the coordinates that every experiment stores: times, noise levels, shells, wavenumbers, trajectories."""
    return {
        "time": constant(measured.numpy(), ("time",), "time of measurement", "process time"),
        "snapshot": constant(snapshots.numpy(), ("snapshot",), "time of snapshot", "process time"),
        "trajectory": constant(np.arange(trajectories), ("trajectory",), "trajectory index"),
        "shell": constant(np.arange(shells + 1), ("shell",), "Fourier shell n"),
        "k": constant(
            lattice.wavenumbers(shells).numpy(), ("shell", "axis"), "wavenumber n k_min", "radian per site"
        ),
        "noise_level": constant(process.noise_level(measured).numpy(), ("time",), "EDM noise level sigma/alpha"),
    }  # fmt: skip


def layout(sizes: Mapping[str, int], curves: Mapping[str, tuple[str, str, str, str, str]]) -> dict[str, ArraySpec]:
    """Return the layouts of arrays filled by trajectories.

    Args:
        sizes: Length of every dimension, `trajectory` among them.
        curves: Name -> (dimensions after `trajectory`, dtype, long name, units, source).
    """
    return {
        name: ArraySpec(
            dims := ("trajectory", *rest.split()),
            tuple(sizes[dim] for dim in dims),
            dtype,
            {"long_name": long_name, "units": units, "source": source},
        )
        for name, (rest, dtype, long_name, units, source) in curves.items()
    }


CRITICAL = {
    "growth": ("time", "float64", "-d xi_x / d log t, smoothed", "site", "E.7"),
    "gain": ("time shell axis", "float64", "mode gain G_n", "1", "v.(dD/dx)v"),
    "eigenvalue": ("time shell axis", "float64", "drift eigenvalue lambda_n", "1 / process time", "Eq. 64"),
    "xi_eq_drift": ("time", "float64", "xi_eq from lambda_n of the drift", "site", "Eq. 69"),
    "xi_eq_gain": ("time", "float64", "xi_eq from 1 - G_n", "site", "Eq. 69 without a convention"),
    "xi_eq_free": ("time", "float64", "xi_eq from 1 - G_n, free intercept", "site", "shells n >= 1 only"),
    "growing_edge": ("time", "float64", "largest growing wavenumber k*", "radian per site", "lambda(k*) = 0"),
}


def critical_curves(
    process: Process, times: Tensor, k: Tensor, xi: Array, gain: Tensor, convention: Convention = "sde"
) -> dict[str, Array]:
    """Return the arrays of CRITICAL from a correlation length [..., time] and gains [..., time, shell, axis].

    Args:
        process: Whose drift the eigenvalues are of.
        times: Measured times [time].
        k: Wavenumbers [shell, axis].
        xi: Correlation lengths (sites).
        gain: Mode gains.
        convention: Which drift: of the reverse SDE or of the probability flow.
    """
    eigenvalue = process.eigenvalue(gain.double(), times[:, None, None], convention).numpy()
    drift, free = fit_dispersion(eigenvalue, k.numpy()), 1 - gain.double().numpy()
    return {
        "growth": growth_rate(xi, times.numpy()),
        "gain": gain.double().numpy(),
        "eigenvalue": eigenvalue,
        "xi_eq_drift": drift.length,
        "growing_edge": drift.growing_edge,
        "xi_eq_gain": fit_dispersion(free, k.numpy()).length,
        "xi_eq_free": fit_dispersion(free, k.numpy(), "free").length,
    }


def nearest_steps(name: str, wanted: Sequence[float], times: Tensor) -> list[int]:
    """Return the grid indices nearest to some times in log t, each once, rising.

    Raises:
        ValueError: If a time lies outside the grid.
    """
    first, last = float(times[0]), float(times[-1])
    if not all(within(t, last, first) for t in wanted):
        raise ValueError(f"{name}: got {[float(t) for t in wanted]}; expected times in [{last:g}, {first:g}]")
    return sorted({int((times.log() - math.log(t)).abs().argmin()) for t in wanted})


def fingerprint(
    function: Callable[[Tensor], Tensor], shape: Sequence[int], device: torch.device, dtype: torch.dtype
) -> float:
    """Return one number that another network would not give: a run must not be resumed with other weights."""
    # no regular pattern: a symmetric model may send one to zero
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    with torch.no_grad():
        return float(f"{float(function(x).double().square().mean()):.5g}")
