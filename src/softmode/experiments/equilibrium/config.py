"""What a user of the equilibrium experiment chooses."""

from dataclasses import dataclass
from typing import Annotated, Literal

from softmode.bounds import Bounds
from softmode.settings import Compute, Count, Positive, Precision


@dataclass(frozen=True, kw_only=True)
class Config(Compute):
    """Freeze the score of a network at several noise levels and run it: susceptibility, memory and hysteresis.

    Example: softmode equilibrium --model fashion-mnist-binary --sigma-range 0.3:20 --out runs/frozen

    An interrupted run is resumed by the same command.
    """

    model: str = ""
    """A name of softmode models, a path made by softmode train, or python:module:function (returns a Model)."""
    sigma_range: str = ""
    """Lowest and highest noise level, LOW:HIGH; 0.3:20 when left out."""
    levels: Annotated[int, Bounds(3, 10**4)] = 12
    """Noise levels, evenly spaced in their logarithm."""
    dynamics: Literal["langevin", "reverse-sde"] = "langevin"
    """Langevin's on the score, whose equilibrium Sec. 5 defines; or the model's reverse SDE with its time frozen, at
    half the temperature."""
    step: Positive = 0.5
    """Length of a step, in units of sigma^2; half of it controls its error."""
    duration: Positive = 60.0
    """Time of each chain at each level, in units of sigma^2."""
    trajectories: Count = 8
    """Chains of each start."""
    shells: Annotated[int, Bounds(1, 10**6)] = 3
    """Highest Fourier shell whose susceptibility is measured."""
    data: str = ""
    """The image from which the ordered chains start is the first of a file.npz with images [image, channel, sides]; of
    the model's held-out images when left out."""
    classifier: str = "auto"
    """What recognises denoised states: a name or a path of softmode models, or none; auto is that of the data which the
    model's card names."""
    precision: Precision = "full"
    """Floating type inside the network."""
    block: Count = 8
