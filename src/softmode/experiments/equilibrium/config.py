"""What a user of the equilibrium experiment chooses."""

from dataclasses import dataclass
from typing import Annotated

from softmode.bounds import Bounds
from softmode.settings import Compute, Count, PatchModel, Positive

LatticeSide = Annotated[int, Bounds(2, 2**12)]


@dataclass(frozen=True, kw_only=True)
class Config(PatchModel, Compute):
    """Freeze a patch model's score, and ask by finite-size scaling at which noise level it orders, and how.

    Example: softmode equilibrium --receptive-field box:5 --sizes 16,32,64 --error 0.01 --out runs/fss

    The noise levels are chosen by the run itself: first a wide search on small lattices, then half the step on the
    three smallest, then all sides near the transition. An interrupted run is resumed by the same command.
    """

    dictionary: str = "two-state"
    """two-state (the minimal model), paper (ten patterns, E.1), random:8 (with their flips), or a file.npz with
    patterns and prior."""
    sizes: tuple[LatticeSide, ...] = (16, 24, 32, 48, 64)
    """Sides of the lattices, rising, three or more."""
    error: Annotated[float, Bounds(above=0, below=0.2)] = 0.01
    """Standard error wanted of Binder's cumulant of every side at the transition, where its points are taken
    together."""
    minutes: Positive = 60.0
    """Time that a stage of the run may take; where the error needs more, the command says what can be had."""
    step: Positive = 0.5
    """Step of the Langevin dynamics, in units of sigma^2; half of it is run besides, and both are extrapolated."""
    sigma_range: str = ""
    """Noise levels between which the transition is sought, for example 0.3:6; from a tenth of the tree-level one to a
    little above it when left out."""
    block: Count = 1
    """Rounds computed and stored together; an interrupted run resumes at its last finished block."""
