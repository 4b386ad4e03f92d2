"""How arrays are laid out on disk: coordinates that are known from the start, and the space for what is measured."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from softmode.estimate import Array
from softmode.lattice import Lattice
from softmode.observe.state import Variable
from softmode.process import Process
from softmode.runs.store import ArraySpec

# names of a lattice's axes; fewer than three are the last of these
SPACE = ("z", "y", "x")


def constant(values: Any, dims: tuple[str, ...], long_name: str, units: str = "1") -> tuple[ArraySpec, Array]:
    """Return an array that is known from the start with its layout."""
    values = np.asarray(values)
    return ArraySpec(dims, values.shape, values.dtype.name, {"long_name": long_name, "units": units}), values


def time_axes(
    process: Process, lattice: Lattice, measured: Tensor, snapshots: Tensor, shells: int, trajectories: int
) -> dict[str, tuple[ArraySpec, Array]]:
    """Return the coordinates of an experiment along a time grid.

    Args:
        process: Gives noise levels.
        lattice: Gives wavenumbers.
        measured: Times of measurement [time].
        snapshots: Times of snapshots [snapshot].
        shells: Highest shell.
        trajectories: How many.
    """
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


def space_sizes(shape: tuple[int, ...]) -> dict[str, int]:
    """Return the sizes of a lattice's axes by their names."""
    return dict(zip(SPACE[-len(shape) :], shape, strict=True))


def layout(sizes: Mapping[str, int], variables: Mapping[str, Variable], dtype: str) -> dict[str, ArraySpec]:
    """Return the layouts of arrays that are filled by blocks of trajectories.

    Args:
        sizes: Length of every dimension, `trajectory` among them.
        variables: What is measured of every trajectory.
        dtype: Floating type of the states.
    """
    return {
        name: ArraySpec(
            dims := ("trajectory", *variable.dims),
            tuple(sizes[dim] for dim in dims),
            dtype if variable.dtype == "state" else variable.dtype,
            {"long_name": variable.long_name, "units": variable.units, "source": variable.source},
        )
        for name, variable in variables.items()
    }
