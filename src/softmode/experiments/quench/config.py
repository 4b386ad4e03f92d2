"""What a user of the quench experiment chooses."""

from dataclasses import dataclass
from typing import Annotated

from softmode.bounds import Bounds
from softmode.settings import Compute, Count, Positive

Rate = Annotated[float, Bounds(above=0, high=10**4)]


@dataclass(frozen=True, kw_only=True)
class Config(Compute):
    """Take a patch model from noise to data at several rates, and ask whether its domains are Kibble and Zurek's.

    Example: softmode quench --rates 1,2,4,8,16,32 --size 256 --out runs/kz

    An interrupted run is resumed by the same command.
    """

    rates: tuple[Rate, ...] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    """Relaxation times sigma^2 spent per unit of log sigma, R, rising: (1 + R)/step evaluations. 1 is the reverse SDE,
    the paper's own rate (E.5)."""
    size: Annotated[int, Bounds(2, 2**14)] = 256
    """Sites along each axis."""
    trajectories: Annotated[int, Bounds(2, 10**6)] = 16
    """Independent trajectories of each rate."""
    critical: Positive | None = None
    """Noise level at which the frozen score turns critical, as softmode equilibrium finds it; states are measured
    there too, and freeze-out is compared with theory, if it is given."""
    receptive_field: str = "box:5"
    """box:5 (odd side), ball:2.5 (radius), cross:2 (arm) or offsets:0,0;0,1;1,0."""
    dimensions: Annotated[int, Bounds(1, 3)] = 2
    """Number of axes, 1 to 3."""
    dictionary: str = "two-state"
    """two-state (the minimal model), paper (ten patterns, E.1), random:8 (with their flips), or a file.npz with
    patterns and prior."""
    step: Annotated[float, Bounds(0.01, 1.0)] = 0.2
    """Length of a step, (1 + R) d log sigma, at most; halve it to see that it does not matter."""
    block: Count = 4
    """Trajectories computed at once and stored together; an interrupted run resumes at its last finished block."""
