"""What a user of the theory chooses."""

from dataclasses import dataclass

from softmode.settings import PatchModel, Seed


@dataclass(frozen=True, kw_only=True)
class Config(PatchModel):
    """Print every critical time and Ginzburg-Landau parameter of a patch model, as tables, without simulation.

    Example: softmode theory --receptive-field box:5 --dimensions 2 --schedule vp:1
    """

    dictionary: str = "two-state"
    seed: Seed = 0
    """Seed of a random dictionary."""
