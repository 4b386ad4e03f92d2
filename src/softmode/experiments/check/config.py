"""What a user chooses of a check."""

from dataclasses import dataclass
from typing import Literal

from softmode.settings import AnyModel


@dataclass(frozen=True, kw_only=True)
class Config(AnyModel):
    """Check that a model is what softmode takes it for, and what measuring it will cost, before hours are spent.

    Example: softmode check fashion-mnist

    Example: softmode check python:my_models:digits --figure digits.png

    It calls the model some hundred times, on four samples of its own, and exits with code 1 if anything is amiss.
    """

    classifier: str = "auto"
    """What would judge samples in softmode pulse: as there."""
    figure: str = ""
    """PNG file for a picture of four samples by few steps, and of D of them with noise."""
    dtype: Literal["float32", "float64"] = "float32"
    """Floating type of the states and the network."""
    device: str = "cpu"
    """Device of the states and the network: cpu, cuda, cuda:1."""
