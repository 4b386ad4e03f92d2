"""The states of a run at its snapshots: as they are shown, what they are called, and their titles."""

import numpy as np

from softmode.estimate import Array
from softmode.plots.noise_axis import variance_exploding
from softmode.runs.run import Run


def shown_states(run: Run) -> Array:
    """Return the first trajectory's snapshots [snapshot, ...], scaled to unit variance at high noise."""
    data = run.dataset
    states = data["snapshots"].isel(trajectory=0).to_numpy()
    scale = np.hypot(1, data["snapshot"].to_numpy()) if variance_exploding(run) else np.ones(len(states))
    return np.asarray(states / scale.reshape(-1, *[1] * (states.ndim - 1)))


def state_symbol(run: Run) -> str:
    """Return the symbol of the states as they are shown."""
    return r"$x_t/\sqrt{1+\sigma^2}$" if variance_exploding(run) else "$x_t$"


def snapshot_title(t: float, level: float) -> str:
    """Return the title of a snapshot: its time and noise level."""
    return f"$t={number(t)}$\n$\\sigma/\\alpha={number(level)}$"


def number(value: float) -> str:
    """Return a number to three digits as mathtext, with a power of ten where it is very large or small."""
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    if -4 <= int(exponent) < 4:
        return f"{float(f'{value:.3g}'):g}"
    return rf"{float(mantissa):g}\times 10^{{{int(exponent)}}}"
