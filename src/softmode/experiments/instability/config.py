"""What a user of the instability experiment chooses."""

from dataclasses import dataclass
from typing import Annotated, Literal

from softmode.bounds import Bounds
from softmode.settings import AnyModel, Compute, Count, Positive


@dataclass(frozen=True, kw_only=True)
class Config(AnyModel, Compute):
    """Find the softest mode of every state, the noise level at which it goes unstable, and how far it extends.

    Example: softmode instability fashion-mnist-binary --out runs/soft

    An interrupted run is resumed by the same command.
    """

    states: Literal["forward", "reverse"] = "forward"
    """Where to measure: on noised held-out data, or along the probability flow's trajectories."""
    trajectories: Count = 64
    """Independent states, each followed along the noise levels."""
    data: str = ""
    """Data of --states forward: a file.npz with images [image, channel, sides] in the model's units; the model's own
    held-out images when left out."""
    levels: Annotated[int, Bounds(3, 10**4)] = 20
    """Noise levels, evenly spaced in their logarithm."""
    highest: Positive | None = None
    """Highest noise level; 80, or the highest that the model knows, when left out."""
    lowest: Positive | None = None
    """Lowest noise level; 0.1, or the lowest that the model knows, when left out."""
    growth: bool = True
    """Whether to follow pushes along the softest mode to the end of generation, which takes half of the time."""
    block: Count = 16
