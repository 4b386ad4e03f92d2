"""What a user of the susceptibility experiment chooses."""

from dataclasses import dataclass
from typing import Annotated

from softmode.bounds import Bounds
from softmode.experiments.pulse.config import GuidedSampling
from softmode.settings import Positive

# where runs go when a user does not say
OUT = "runs/chi"


@dataclass(frozen=True, kw_only=True)
class Config(GuidedSampling):
    """Guide in the same pulse at many noise levels, and measure where it aligns the samples most: chi(sigma).

    Example: softmode susceptibility fashion-mnist --centres 16 --out runs/chi

    Example: softmode window runs/chi/window --check runs/chi

    An interrupted run is resumed by the same command, at the class, centre and block of trials where it was.
    """

    # fewer than three places cannot have a maximum among them
    centres: Annotated[int, Bounds(3, 10**4)] = 16
    """Centres of the pulse, evenly spaced in log sigma."""
    highest: Positive = 40.0
    """Highest centre; no higher than the first noise level."""
    lowest: Positive = 0.04
    """Lowest centre; the grid of the sampler is coarse below."""
    width: Annotated[float, Bounds(above=0, high=100)] = 1.0
    """Width of the pulse in log sigma."""
    steps: Annotated[int, Bounds(2, 10**7)] = 64
    """Noise levels of EDM's sampler, rho 7 (H.1); twice EDM2's number, so that every pulse holds some."""
