"""What a user of the clone experiment chooses."""

from dataclasses import dataclass

from softmode.settings import AnyModel, Compute, Count, Grid, Steps, Time


@dataclass(frozen=True, kw_only=True)
class Config(AnyModel, Grid, Compute):
    """Copy trajectories at a time t*, run the copies on with independent noise, and see whether they still agree.

    Example: softmode clones fashion-mnist --labels 3,5 --out runs/clones

    An interrupted run is resumed by the same command.
    """

    classifier: str = "auto"
    """Tells the class of a final state: a name or a path, dinov2 or dinov2:PATH for RGB images, or
    python:module:function (of images, returns logits); none leaves the agreement of classes out; auto
    is that of the data which the model's card names, none where it names none."""
    trajectories: Count = 32
    """Independent trajectories that are copied."""
    copies: Count = 1
    """Copies of each trajectory at each time, compared with it and with each other."""
    times: tuple[Time, ...] = ()
    """Times t* at which to copy; eight, evenly spaced in the log of the noise level from 20 to 0.2, when left out."""
    t_max: Time | None = None
    """First time of the reverse grid. When left out: 10, where sigma/alpha is 148 for vp:1, so that copies made earlier
    forget all; for VE, noise level 80 (G.2); the highest that the model knows, where that is lower."""
    t_min: Time | None = None
    """Last time of the reverse grid. When left out: 0.001 (F.5); for VE, noise level 0.002 (G.2)."""
    steps: Steps = 300
    """Euler-Maruyama steps, evenly spaced in log t: fewer than for a probe, as only final states are compared."""
    block: Count = 16
