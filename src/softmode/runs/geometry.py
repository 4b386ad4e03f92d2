"""What the box does to what was measured: whether it is short of the correlation length, and whether it is periodic."""

import math

import numpy as np
import torch

from softmode.formulas.finite_box import length_in_box, length_of_field
from softmode.observe.homogeneity import SURE, seam
from softmode.runs.run import Run

# a box of fewer correlation lengths shows less than 0.6 of them (`softmode.formulas.finite_box`)
FEW = 12
# fewest trajectories with a standard error that says something
KNOWN = 4
AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def geometry_notes(run: Run) -> list[str]:
    """Return what a reader must know of the box of a probe: that it is short, not periodic, or not alike everywhere.

    Args:
        run: A finished run with the second-moment length along time, and D(x) at its snapshots.
    """
    at_edges = _edges(run)
    cropped = any("not periodic" in each for each in at_edges)
    return [*_oblong(run), *_short(run, not cropped), *at_edges]


def _oblong(run: Run) -> list[str]:
    """Say what shells are of a box whose sides differ."""
    sides = tuple(run.identity["model"]["shape"][1:])
    if len(set(sides)) == 1:
        return []
    return [
        f"the sides of the box differ, {' x '.join(map(str, sides))}: a shell has the same number of periods along "
        "each axis, not the same wavelength; lengths are means over the axes"
    ]


def _short(run: Run, periodic: bool) -> list[str]:
    """Say from which noise level on the box is short of xi_x, if it is so in the end."""
    data, shape = run.dataset, tuple(run.identity["model"]["shape"][1:])
    lengths, levels = data["xi_moment"].to_numpy(), data["noise_level"].to_numpy()
    known = ~(lengths != lengths).any(1)
    if not known.any():
        return []
    lengths = lengths[known]
    count, side = len(lengths), min(shape)
    mean = lengths.mean(0)
    error = lengths.std(0, ddof=1) / math.sqrt(count) if count >= KNOWN else 0 * mean
    limit = length_in_box(shape, side / FEW, periodic)
    beyond = mean - error > limit
    if not beyond[-1]:
        return []
    first = len(beyond) - 1
    while first and beyond[first - 1]:
        first -= 1
    low, high = (length_of_field(float(mean[-1] + sign * 2 * error[-1]), shape, periodic) for sign in (-1, 1))
    field = f"{low:.2g} to {high:.2g}" if high < math.inf else f"{low:.2g} or more" if low < math.inf else "any length"
    return [
        f"the box is short of the correlation length from sigma/alpha = {levels[first]:.3g} down: second moments give "
        f"{mean[-1]:.2g} sites in the end, on a shortest side of {side}, as of a field of {field} "
        f"(1/S ~ k^2 + xi^-2); fewer than {FEW} xi show less than 0.6 xi: "
        "take larger states, if the network takes them, or compare lengths of one box alone"
    ]


def _edges(run: Run) -> list[str]:
    """Say along which axes the samples are not periodic, or not alike at all sites."""
    found, denoised = list[str](), torch.from_numpy(run.dataset["denoised"].to_numpy())
    if not bool(torch.isfinite(denoised).all()) or float(scale := denoised[:, -1].double().std()) == 0:
        return found
    # at a noise level of the samples' own size D is smooth, and a border stands out most
    away = (run.dataset["snapshot_level"].to_numpy() / float(scale)).clip(1e-9)
    states = denoised[:, int(abs(np.log(away)).argmin())]
    for axis, name in enumerate(AXES[states.ndim - 2]):
        told = seam(states, axis)
        if told.border < SURE and told.across > told.highest:
            found.append(
                f"samples are not periodic along their {name} (p = {told.border:.1g}): neighbours across the border "
                f"differ {told.across:.2g} times as much as inside; Fourier modes and xi_x take them as periodic"
            )
        elif min(told.border, told.places) < SURE:
            found.append(
                f"samples are not alike at all places along their {name} (p = {min(told.border, told.places):.1g}): "
                f"neighbours differ up to {told.highest:.2g} times as much as on average, across the border "
                f"{told.across:.2g} times; Fourier modes and xi_x average over them"
            )
    return found
