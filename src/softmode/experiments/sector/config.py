"""What a user of the sector experiment chooses."""

from dataclasses import dataclass
from typing import Annotated, Literal

from softmode.bounds import Bounds
from softmode.settings import AnyModel, Compute, Count, Positive


@dataclass(frozen=True, kw_only=True)
class Config(AnyModel, Compute):
    """Measure how many modes are soft at a noise level, and the theory of their amplitudes: M, K and U of Supp. C.

    Example: softmode sector fashion-mnist --sigma 2.3 --out runs/sector

    An interrupted run is resumed by the same command.
    """

    sigma: Positive
    """Noise level sigma/alpha at which to measure."""
    states: Literal["forward", "reverse", "symmetric"] = "forward"
    """Where to measure: on noised held-out data, on states of the probability flow, or at x = 0 alone."""
    trajectories: Count = 16
    """Independent states; x = 0 is one."""
    modes: Annotated[int, Bounds(2, 8)] = 4
    """Softest modes of each state whose couplings are measured, 2 to 8: one alone could not tell whether it is."""
    data: str = ""
    """A file.npz with images [image, channel, *space] for --states forward, in the model's own units; the model's
    held-out data when left out."""
    block: Count = 8
    """States computed at once and stored together; an interrupted run resumes at its last finished block."""
