"""What a user of the probe chooses."""

from dataclasses import dataclass
from typing import Literal

from softmode.settings import AnyModel, Compute, Count, Grid, Measurement, Precision, Steps, Time


@dataclass(frozen=True, kw_only=True)
class Config(AnyModel, Grid, Measurement, Compute):
    """Measure the critical dynamics of any model beside the Gaussian null model (Figs. 3, 6 and 7 of the paper).

    Example: softmode probe fashion-mnist-binary --out runs/binary

    An interrupted run is resumed by the same command.
    """

    states: Literal["reverse", "forward"] = "reverse"
    """Where to measure: along sampled trajectories (F.5), or on noised held-out data, which needs no sampling."""
    method: Literal["multiplexed", "difference", "jvp"] = "multiplexed"
    """How mode gains are found: all modes at once with signs (4 evaluations per state), one by one (the paper's), or by
    forward-mode automatic differentiation."""
    trajectories: Count = 4
    """Independent trajectories, or data of --states forward."""
    data: str = ""
    """Data of --states forward and of the null model: a file.npz with images [image, channel, sides] in the model's
    units; the model's own held-out images and power spectrum when left out."""
    sampler: Literal["auto", "euler-maruyama", "heun"] = "auto"
    """Euler-Maruyama on the reverse SDE, evenly spaced in log t (F.5), or Heun on the probability flow, on EDM's noise
    levels with rho 7 (G.2); auto is the former for a VP process and the latter for a VE process."""
    steps: Steps | None = None
    """Steps of the sampler; 2000 of Euler-Maruyama (F.5), 63 of Heun, when left out: the paper gives no number in G.2,
    EDM2's 31 leave the peak of xi_eq to a few levels."""
    measure_every: Count | None = None
    """Steps between two measurements; 20 of Euler-Maruyama and 1 of Heun when left out; the paper does not say."""
    snapshots: tuple[Time, ...] = ()
    """Times at which to keep x and D(x) and to measure the response kernel; eight, evenly spaced in the log of the
    noise level from 10 to 0.1, when left out."""
    classifier: str = "none"
    """Tells the class of D(x), whose entropy is followed: a name or a path of softmode models, dinov2 or dinov2:PATH
    for RGB images, or python:module:function (of images, returns logits); none leaves it out."""
    precision: Precision = "full"
    """Floating type inside the network while sampling; what is measured is always computed in the states' own."""
