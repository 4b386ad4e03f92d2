"""The structure of a denoiser's response at the snapshots of a probe (paper C.1): measured, stored, summarised."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.dynamics import trajectory_seed
from softmode.estimate import Array, Estimate, bootstrap
from softmode.formulas.landau import critical_time
from softmode.observe.gains import difference_gains, evaluations
from softmode.observe.jacobian import (
    effective_omega,
    effective_radius,
    equivariance_error,
    locality,
    oddness_error,
    random_signs,
    responses,
)
from softmode.process import Process
from softmode.runs.run import Run

# random-sign fields per state
PROBES = 4
# shifts of the equivariance error, in sites along every axis: no multiples of a network's stride
SHIFTS = (1, 3)
# stream of random numbers, beside the trajectory's own
STREAM = 1


def response_streams(seed: int, trajectories: Sequence[int], step: int, device: torch.device) -> list[torch.Generator]:
    """Return each trajectory's generator of random signs at a step of the grid."""
    return [torch.Generator(device).manual_seed(trajectory_seed(seed, i, STREAM, step)) for i in trajectories]


def response(denoiser: Denoiser, x: Tensor, sigma: Tensor, streams: Sequence[torch.Generator]) -> dict[str, Tensor]:
    """Return the arrays of `response_layout` for states in EDM coordinates, each [batch, ...]."""
    signs = random_signs(x, PROBES, streams)
    found = locality(signs, responses(denoiser, x, sigma, signs))._asdict()
    if x.shape[1] == 1:
        # the sum of the kernel is the constant mode's gain, which one difference gives without the probes' noise
        found["total"] = difference_gains(denoiser, x, sigma, 0)[:, 0, 0]
    shifts = [(distance,) * (x.ndim - 2) for distance in SHIFTS]
    found["equivariance"] = equivariance_error(denoiser, x, sigma, shifts)
    found["oddness"] = oddness_error(denoiser, x, sigma)
    return found


def response_evaluations(channels: int) -> int:
    """Return the network evaluations per state and snapshot, that of D(x) itself among them."""
    constant_mode = evaluations("difference", 0, 1) if channels == 1 else 0
    return 2 * PROBES + constant_mode + (1 + len(SHIFTS)) + 2 + 1


def response_layout(dtype: str) -> dict[str, tuple[str, str, str, str, str]]:
    """Return the layouts of the stored arrays, for `curves.layout`."""
    return {
        "kernel": ("snapshot distance", dtype, "response of D to a push at a distance", "1", "C.1"),
        "total": ("snapshot", dtype, "sum of the response kernel", "1", "C.1"),
        "square": ("snapshot", dtype, "sum of its squares", "1", "C.1"),
        "spread": ("snapshot", dtype, "sum of its squares times distance^2", "site^2", "C.1"),
        "symmetric": ("snapshot", dtype, "squared norm of the Jacobian's symmetric part", "1", "C.1"),
        "antisymmetric": ("snapshot", dtype, "squared norm of its antisymmetric part", "1", "C.1"),
        "equivariance": ("snapshot", dtype, "relative error under shifts", "1", "C.1"),
        "oddness": ("snapshot", dtype, "|D(-x) + D(x)| / 2 |D(x)|", "1", "C.1"),
    }


def response_table(run: Run, process: Process) -> list[dict[str, Any]]:
    r"""Return the structure of the denoiser's response at every snapshot.

    `omega` is the effective number of sites that a site answers to, $(\sum_u K)^2/\sum_u K^2$, which is |Omega| for a
    patch model at x = 0; `t_c` the time at which r would vanish for it, sigma/alpha = sqrt(omega); `radius` the root
    mean square distance of $K^2$; `antisymmetric` the share of the Jacobian's norm in its antisymmetric part.

    Source: paper C.1 and Eqs. 18-22.
    """
    data = run.dataset
    rows = []
    for place, t in enumerate(data["snapshot"].to_numpy()):
        at = {name: data[name].to_numpy()[:, place].astype(float) for name in response_layout("") if name != "kernel"}
        omega = _of_means(at, ("total", "square"), effective_omega)
        rows.append({
            "t": float(t),
            "sigma": float(data["snapshot_level"].to_numpy()[place]),
            "omega": asdict(omega),
            "t_c": math.nan if math.isnan(omega.value) else critical_time(process, omega.value),
            "radius": asdict(_of_means(at, ("spread", "square"), effective_radius)),
            "antisymmetric": asdict(
                _of_means(at, ("antisymmetric", "symmetric"), lambda anti, sym: (anti / (anti + sym)).sqrt())
            ),
            **{name: asdict(_of_means(at, (name,), lambda error: error)) for name in ("equivariance", "oddness")},
        })  # fmt: skip
    return rows


def _of_means(columns: Mapping[str, Array], names: tuple[str, ...], function: Callable[..., Tensor]) -> Estimate:
    """Estimate a function of the means of some columns over trajectories; NaN where it has no real value."""

    def statistic(means: Array) -> Array:
        return function(*torch.tensor(means)).reshape(1).numpy()

    columns_of = np.stack([columns[name] for name in names], 1)
    (estimate,) = bootstrap(columns_of, statistic, centre=lambda rows: np.asarray(rows.mean(0)))
    return estimate
