"""What a user chooses of a training, with the source of every default. Nothing heavy is imported."""

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional

from softmode.bounds import Bounds

POSITIVE = Bounds(above=0.0)
SHARE = Bounds(low=0.0, below=1.0)
# more would take decades, and the history one line for each
MOST_EPOCHS = 1_000_000


@dataclass(frozen=True)
class TrainConfig:
    """Train a network that softmode can probe; an interrupted training is resumed by the same command.

    Example: softmode train fashion-mnist --out runs/train

    The result is a MODEL for every other command: softmode probe runs/train. It prints first how long it will take.
    """

    network: Positional[str]
    """One of softmode models: fashion-mnist, fashion-mnist-binary, avatars, fashion-mnist-classifier, ..."""
    recipe: Literal["edm", "paper"] = "edm"
    """edm covers every level of noise (karras2022) and obeys labels; paper is F.4 to the letter."""
    epochs: Annotated[float | None, Bounds(above=0.0, high=MOST_EPOCHS)] = None
    """Passes over the training images, not always whole ones; by recipe and network, 30 in F.4."""
    batch: Annotated[int | None, Bounds(low=1)] = None
    """Images per optimiser step; 64, in F.4 256."""
    learning_rate: Annotated[float | None, POSITIVE] = None
    """AdamW's highest learning rate; 5e-4, in F.4 always 2e-4."""
    clip: Annotated[float, POSITIVE] = 1.0
    """Largest norm of the gradient (F.4)."""
    ema: Annotated[float, SHARE] = 0.999
    """Decay per step of the averaged weights, which are the ones that are kept; shorter at first."""
    label_dropout: Annotated[float, SHARE] = 0.1
    """Share of images shown without their class; of several attributes any number is left out equally often."""
    t_max: Annotated[float, POSITIVE] = 50.0
    """Longest diffusion time of F.4's recipe, T of F.5; times are log-uniform."""
    t_min: Annotated[float, POSITIVE] = 1e-3
    """Shortest diffusion time of F.4's recipe (F.5)."""
    start: str = ""
    """Weights to start from: a name of softmode models or a path; fresh ones when left out."""
    seed: Annotated[int, Bounds(0, 2**63 - 1)] = 0
    """Seed of the first weights, the order of the images and the noise."""
    device: str = "cpu"
    """cpu, cuda or cuda:1; several at once with: accelerate launch -m softmode train ..."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the network's layers; auto takes bfloat16 where the device computes in it."""
    data: str = ""
    """Directory of Fashion-MNIST, where it is not found by itself; or the npz file of the avatars."""
    download: bool = False
    """Whether to fetch Fashion-MNIST (30 MB) if it is not on this machine."""
