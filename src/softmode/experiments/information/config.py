"""What a user of the information experiment chooses."""

from dataclasses import dataclass
from typing import Annotated, Literal

from softmode.bounds import Bounds
from softmode.settings import AnyModel, Compute, Count, Positive


@dataclass(frozen=True, kw_only=True)
class Config(AnyModel, Compute):
    """Measure where along the noise levels, and in which modes, a label and a sample are decided, in nats.

    Example: softmode information fashion-mnist --out runs/info

    Example: softmode information fashion-mnist --labels 1,3 --out runs/pair

    With --labels it is the information about which of these a sample is; about which class, or about each attribute,
    when left out. An interrupted run is resumed by the same command.
    """

    states: Literal["auto", "data", "samples"] = "auto"
    """What is noised: held-out data, or the model's own samples; auto takes data where there are some."""
    trajectories: Count = 128
    """Independent images, each noised along a path."""
    data: str = ""
    """Data of --states data: a file.npz with images [image, channel, sides] in the model's units, whose labels are not
    known; the model's own held-out images when left out."""
    levels: Annotated[int, Bounds(8, 10**4)] = 48
    """Noise levels of a path, evenly spaced in their logarithm."""
    highest: Positive | None = None
    """Highest noise level, where next to nothing is known; 80, or the highest that the model knows, when left out."""
    lowest: Positive | None = None
    """Lowest noise level; 0.05, or the lowest that the model knows, when left out."""
    share: Annotated[float, Bounds(above=0, below=1)] = 0.8
    """Share of the label's information that the window gains."""
    block: Count = 16
