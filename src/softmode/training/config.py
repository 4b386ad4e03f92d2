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
    """Train a network on Fashion-MNIST (F.3, F.4); an interrupted training is resumed by the same command.

    Example: softmode train fashion-mnist-binary --epochs 30 --out runs/train

    The result is a MODEL for every other command: softmode probe runs/train. The defaults are the paper's (F.4).
    """

    recipe: Positional[str]
    """fashion-mnist-binary, fashion-mnist, fashion-mnist-labelled or fashion-mnist-classifier."""
    epochs: Annotated[float, Bounds(above=0.0, high=MOST_EPOCHS)] = 30.0
    """Passes over the training images (F.4), not always whole ones; may be raised later to train on."""
    batch: Annotated[int, Bounds(low=1)] = 256
    """Images per optimiser step (F.4)."""
    learning_rate: Annotated[float, POSITIVE] = 2e-4
    """AdamW's learning rate (F.4)."""
    clip: Annotated[float, POSITIVE] = 1.0
    """Largest norm of the gradient (F.4)."""
    ema: Annotated[float, SHARE] = 0.999
    """Decay per step of the averaged weights, which are the ones that are kept; shorter at first."""
    label_dropout: Annotated[float, SHARE] = 0.1
    """Share of images shown without their class to a network with classes."""
    t_max: Annotated[float, POSITIVE] = 50.0
    """Longest diffusion time of training, T of F.5; times are log-uniform (F.4)."""
    t_min: Annotated[float, POSITIVE] = 1e-3
    """Shortest diffusion time of training (F.5)."""
    start: str = ""
    """Weights to start from: a name of softmode models or a path; fresh ones when left out."""
    seed: Annotated[int, Bounds(0, 2**63 - 1)] = 0
    """Seed of the first weights, the order of the images and the noise."""
    device: str = "cpu"
    """cpu, cuda or cuda:1; several at once with: accelerate launch -m softmode train ..."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the network's layers; auto takes bfloat16 where the device computes in it."""
    data: str = ""
    """Directory of Fashion-MNIST, where it is not found by itself."""
    download: bool = False
    """Whether to fetch Fashion-MNIST (30 MB) if it is not on this machine."""
