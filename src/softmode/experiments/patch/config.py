"""What a user of the patch experiment chooses."""

from dataclasses import dataclass
from typing import Annotated

from softmode.bounds import Bounds
from softmode.settings import Compute, Count, Measurement, PatchModel, Steps, Time


@dataclass(frozen=True, kw_only=True)
class Config(PatchModel, Measurement, Compute):
    """Sample a patch model and measure its critical dynamics (Figs. 2, 3 and 5 of the paper).

    Example: softmode patch --out runs/patch

    An interrupted run is resumed by the same command. The defaults are the paper's parameters (E.13).
    """

    size: Annotated[int, Bounds(2, 2**20)] = 80
    """Sites along each axis (paper E.2)."""
    t_max: Time = 50.0
    """First time T of the reverse grid, in the process's own time (E.5)."""
    t_min: Time = 1e-3
    """Last time of the reverse grid (E.5)."""
    steps: Steps = 2000
    """Euler-Maruyama steps, evenly spaced in log t (Eq. 59)."""
    trajectories: Count = 4
    """Independent trajectories (E.13)."""
    measure_every: Count = 10
    """Steps between two measurements; the paper does not say."""
    snapshots: tuple[Time, ...] = ()
    """Times at which to keep the state; five, evenly spaced in log t, when left out (Fig. 2)."""
    block: Count = 4
