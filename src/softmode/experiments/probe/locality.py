"""The structure of a denoiser's response at the snapshots of a probe, summed up over trajectories (paper C.1)."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softmode.estimate import Array, Estimate, bootstrap_mean
from softmode.observe.jacobian import effective_omega, effective_radius
from softmode.runs.clock import Clock
from softmode.runs.results import Table
from softmode.runs.run import Run

COLUMNS = ("total", "square", "spread", "symmetric", "antisymmetric", "equivariance", "oddness")


def locality_rows(run: Run, clock: Clock) -> list[dict[str, Any]]:
    r"""Return the structure of the denoiser's response at every snapshot.

    `omega` is the effective number of sites that a site answers to, $(\sum_u K)^2/\sum_u K^2$, which is |Omega| for a
    patch model at x = 0; `t_c` the time at which r would vanish for it, sigma/alpha = sqrt(omega);
    `radius` the root mean square distance of $K^2$; `antisymmetric` the share of the Jacobian's norm in its
    antisymmetric part.

    Source: paper C.1 and Eqs. 18-22.
    """
    data = run.dataset
    rows = []
    for place, t in enumerate(data["snapshot"].to_numpy()):
        at = {name: data[name].to_numpy()[:, place].astype(float) for name in COLUMNS}
        omega = _of_means(at, ("total", "square"), effective_omega)
        rows.append({
            "t": float(t),
            "sigma": float(data["snapshot_level"].to_numpy()[place]),
            "omega": omega,
            "t_c": clock.time(math.sqrt(omega.value)) if omega.value > 0 else math.nan,
            "radius": _of_means(at, ("spread", "square"), effective_radius),
            "antisymmetric": _of_means(
                at, ("antisymmetric", "symmetric"), lambda anti, sym: (anti / (anti + sym)).sqrt()
            ),
            **{name: _of_means(at, (name,), lambda error: error) for name in ("equivariance", "oddness")},
        })  # fmt: skip
    return rows


def locality_table(rows: list[dict[str, Any]]) -> Table:
    """Return those rows as a table."""
    names = ("omega", "t_c", "radius", "antisymmetric", "equivariance", "oddness")
    heads = ("sigma/alpha", "Omega (sites)", "its t_c", "radius (sites)", "antisymmetric", "shift error", "odd error")
    cells = tuple((row["sigma"], *(row[name] for name in names)) for row in rows)
    return Table("Response of D to a push, by noise level (paper C.1)", heads, cells)


def _of_means(columns: Mapping[str, Array], names: tuple[str, ...], function: Callable[..., Tensor]) -> Estimate:
    """Estimate a function of the means of some columns over trajectories; NaN where it has no real value."""
    stacked = np.stack([columns[name] for name in names], 1)
    return bootstrap_mean(stacked, lambda means: function(*torch.from_numpy(means).T).numpy())
