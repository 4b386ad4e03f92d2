"""Curves in log t that several tests look at."""

import math

import numpy as np
from numpy.typing import NDArray

from softmode.process import log_grid


def grid(points: int = 401, t_max: float = 50.0, t_min: float = 1e-3) -> NDArray[np.float64]:
    """Return falling times evenly spaced in log t, [points]."""
    return log_grid(t_max, t_min, points - 1).numpy()


def uneven(points: int) -> NDArray[np.float64]:
    """Return a grid from 5 to 0.05 with one stretch sampled more densely, every spacing shrinking as 1 / points."""
    s = np.linspace(0, 1, points)
    u = np.interp(s, [0, 0.3, 0.7, 1], [math.log(5), 0.7, 0.2, math.log(0.05)])
    return np.exp(u)


def bump(u: NDArray[np.float64], centre: float, height: float = 1.0, width: float = 0.3) -> NDArray[np.float64]:
    """Return a Gaussian bump on u, usually the log of a time or a noise level."""
    return height * np.exp(-0.5 * ((u - centre) / width) ** 2)
