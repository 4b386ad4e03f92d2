"""What a user of the dictionary experiment chooses."""

from dataclasses import dataclass
from typing import Annotated, Literal

from softmode.bounds import Bounds
from softmode.settings import Compute, Count, Positive, Steps, Time

Side = Annotated[int, Bounds(2, 2**12)]
# prior mass of the uniform patterns; 0.9 is the paper's dictionary (Eq. 49)
Mass = Annotated[float, Bounds(0, 0.9)]


@dataclass(frozen=True, kw_only=True)
class Config(Compute):
    """Generate with many random patch dictionaries, and ask of each what order it has: uniform, modulated or none.

    Example: softmode dictionary --patterns 8 --receptive-field box:5 --disorder 32 --replicas 8 --out runs/dictionary

    Each dictionary is analysed by itself, and averages over them come last (B.8). An interrupted run is resumed by the
    same command.
    """

    patterns: Count = 8
    """Random sign patterns M of a dictionary, besides their flips (Eq. 23)."""
    receptive_field: str = "box:5"
    """box:5 (odd side), ball:2.5 (radius), cross:2 (arm) or offsets:0,0;0,1;1,0."""
    dimensions: Annotated[int, Bounds(1, 3)] = 2
    """Number of axes, 1 to 3."""
    uniform: tuple[Mass, ...] = (0.0,)
    """Prior mass of two uniform patterns besides, from 0 (random) to 0.9 (the paper's); several for a path between."""
    disorder_of: Literal["uniform", "site"] = "uniform"
    """One dictionary at all sites, or one of its own at every site (B.5)."""
    disorder: Annotated[int, Bounds(2, 10**6)] = 32
    """Realisations of the disorder."""
    replicas: Annotated[int, Bounds(4, 10**6)] = 8
    """States of each dictionary, which differ in their noise."""
    sizes: tuple[Side, ...] = (16, 32, 64)
    """Sides of the lattices, rising."""
    schedule: str = "vp:1"
    """vp:1 (constant beta, E.3), vp-linear:0.1:20, vp-cosine:0.008 or ve."""
    t_max: Time = 12.0
    """First time of the reverse grid, in the process's own time."""
    t_min: Time = 0.01
    """Last time of the reverse grid."""
    steps: Steps = 400
    """Euler-Maruyama steps, evenly spaced in log t (Eq. 59)."""
    level: Annotated[float, Bounds(above=0, below=1)] = 0.2
    """Noise level at which the score is frozen, relative to that at which the lattice's first wave goes soft."""
    waits: tuple[Positive, ...] = (4.0, 40.0, 200.0)
    """Waiting times of the frozen score, rising, in units of sigma^2; states are followed for twice the last."""
    block: Count = 4
    """Realisations computed one after another and stored together; an interrupted run resumes at its last finished
    block."""
