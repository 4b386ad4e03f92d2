"""What a user of the attention experiment chooses."""

from dataclasses import dataclass

from softmode.settings import AnyModel, Compute, Count, Positive


@dataclass(frozen=True, kw_only=True)
class Config(AnyModel, Compute):
    """Take a network's Jacobian apart by distance, and by what attention and the norms' statistics add to it.

    Example: softmode attention fashion-mnist-attention --sigma 1 3 10 --out runs/attention

    The Jacobian is dense: a state of 28 x 28 takes some ten seconds for each network without a part of it. An
    interrupted run is resumed by the same command.
    """

    sigma: tuple[Positive, ...] = (1.0, 3.0, 10.0)
    """Noise levels at which to measure."""
    trajectories: Count = 4
    """Independent states: held-out data, each with the same noise at every level."""
    radius: Positive | None = None
    """Distance up to which sites are near (sites); a quarter of the shortest side when left out."""
    data: str = ""
    """Data of the states and of the Wiener null: a file.npz with images [image, channel, sides] in the model's units;
    the model's own held-out images when left out, tiled where --shape is a multiple of theirs."""
    block: Count = 1
