"""Frozen configurations of the experiments: what a user chooses, with the source of every default.

This module imports nothing heavy, so that the command line can print its help at once.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PatchConfig:
    """Sample a patch model and measure its critical dynamics. The defaults are the paper's parameters (E.13)."""

    size: int = 80
    """Sites along each axis (paper E.2)."""
    dimensions: int = 2
    """Number of axes, 1 to 3."""
    receptive_field: str = "box:5"
    """box:5 (odd side), ball:2.5 (radius), cross:2 (arm) or offsets:0,0;0,1;1,0."""
    dictionary: str = "paper"
    """paper (ten patterns, E.1), two-state, random:8 (with their flips), or a file.npz with patterns and prior."""
    schedule: str = "vp:1"
    """vp:1 (constant beta, E.3), vp-linear:0.1:20, vp-cosine:0.008 or ve."""
    t_max: float = 50.0
    """First time T of the reverse grid, in the process's own time (E.5)."""
    t_min: float = 1e-3
    """Last time of the reverse grid (E.5)."""
    steps: int = 2000
    """Euler-Maruyama steps, evenly spaced in log t (Eq. 59)."""
    trajectories: int = 4
    """Independent trajectories (E.13)."""
    shells: int = 6
    """Highest Fourier shell (E.9)."""
    measure_every: int = 10
    """Steps between two measurements; the paper does not say."""
    snapshots: tuple[float, ...] = ()
    """Times at which to keep the state; five, evenly spaced in log t, when left out (Fig. 2)."""
    portion: Literal["cut", "clip"] = "cut"
    """Positive portion of C(r) in Eq. 63: cut at its first zero, or clip negative values (the literal reading)."""
    seed: int = 0
    """Seed of the dictionary and of every trajectory."""
    dtype: Literal["float32", "float64"] = "float32"
    """Floating type of the states."""
    device: str = "cpu"
    """Device of the states: cpu, cuda, cuda:1."""
    block: int = 4
    """Trajectories simulated at once and stored together; an interrupted run resumes at its last finished block."""


@dataclass(frozen=True)
class TheoryConfig:
    """Print every critical time and Ginzburg-Landau parameter of a patch model, without simulation."""

    receptive_field: str = "box:5"
    """box:5 (odd side), ball:2.5 (radius), cross:2 (arm) or offsets:0,0;0,1;1,0."""
    dimensions: int = 2
    """Number of axes, 1 to 3."""
    schedule: str = "vp:1"
    """vp:1 (constant beta), vp-linear:0.1:20, vp-cosine:0.008 or ve."""
    dictionary: str = "two-state"
    """two-state (the minimal model), paper, random:8, or a file.npz with patterns and prior."""
    seed: int = 0
    """Seed of a random dictionary."""
