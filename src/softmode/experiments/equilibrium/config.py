"""What a user of the equilibrium experiment chooses."""

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from softmode.bounds import Bounds
from softmode.message import refusal
from softmode.settings import Compute, Count, Positive, Precision

LatticeSide = Annotated[int, Bounds(2, 2**12)]


@dataclass(frozen=True, kw_only=True)
class Config(Compute):
    """Freeze a score: where does a patch model order, and how, by finite-size scaling? What does a network remember?

    Example: softmode equilibrium --receptive-field box:5 --sizes 16,32,64 --error 0.01 --out runs/fss

    Without --model it is a patch model on lattices of rising side, whose noise levels are chosen by the run itself: a
    wide search on small lattices, half the step on the three smallest, then all sides near the transition. With --model
    it is a network: susceptibility, memory and hysteresis at several noise levels. An interrupted run is resumed by the
    same command.
    """

    model: str = ""
    """A network: a name of softmode models, a path made by softmode train, or python:module:function (returns a Model);
    a patch model when left out."""
    sigma_range: str = ""
    """Noise levels LOW:HIGH between which the transition is sought, or at which a network is frozen, for example 0.3:6;
    when left out, from a tenth of the tree-level one to a little above it, and 0.3:20 for a network."""
    step: Positive = 0.5
    """Step of the Langevin dynamics, in units of sigma^2; half of it is run besides."""
    receptive_field: str = "box:5"
    """Patch model: box:5 (odd side), ball:2.5 (radius), cross:2 (arm) or offsets:0,0;0,1;1,0."""
    dimensions: Annotated[int, Bounds(1, 3)] = 2
    """Patch model: number of axes, 1 to 3."""
    dictionary: str = "two-state"
    """Patch model: two-state (the minimal one), paper (ten patterns, E.1), random:8 (with their flips), or a file.npz
    with patterns and prior."""
    schedule: str = "vp:1"
    """Patch model: process in whose time the transition is told, vp:1 (constant beta, E.3), vp-linear:0.1:20,
    vp-cosine:0.008 or ve."""
    sizes: tuple[LatticeSide, ...] = (16, 24, 32, 48, 64)
    """Patch model: sides of the lattices, rising, three or more."""
    error: Annotated[float, Bounds(above=0, below=0.2)] = 0.01
    """Patch model: standard error wanted of Binder's cumulant of every side at the transition, where its points are
    taken together."""
    minutes: Positive = 60.0
    """Patch model: time that a stage of the run may take; where the error needs more, the command says what can be
    had."""
    levels: Annotated[int, Bounds(3, 10**4)] = 12
    """Network: noise levels, evenly spaced in their logarithm."""
    dynamics: Literal["langevin", "reverse-sde"] = "langevin"
    """Network: Langevin's on the score, whose equilibrium Sec. 5 defines; or its reverse SDE with the time frozen, at
    half the temperature."""
    duration: Positive = 60.0
    """Network: time of each chain at each level, in units of sigma^2."""
    trajectories: Count = 8
    """Network: chains from each start."""
    shells: Annotated[int, Bounds(1, 10**6)] = 3
    """Network: highest Fourier shell whose susceptibility is measured."""
    data: str = ""
    """Network: the image from which ordered chains start is the first of a file.npz with images [image, channel,
    sides]; of the model's held-out images when left out."""
    classifier: str = "auto"
    """Network: what recognises denoised states, a name or a path of softmode models, or none; auto is that of the data
    which the model's card names."""
    precision: Precision = "full"
    """Network: floating type inside it."""
    block: Count | None = None  # type: ignore[assignment] # open until the kind is known
    """Rounds of lattices, or chains of a network, computed and stored together; an interrupted run resumes at its last
    finished block. 1 and 8 when left out."""


# fields that say nothing of a network, and those that say nothing of a patch model
OF_LATTICES = ("receptive_field", "dimensions", "dictionary", "schedule", "sizes", "error", "minutes")
OF_NETWORKS = ("levels", "dynamics", "duration", "trajectories", "shells", "data", "classifier", "precision")


def check_kind(config: Config) -> None:
    """Raise a ValueError if a field is set that says nothing of what the run is about."""
    without = OF_LATTICES if config.model else OF_NETWORKS
    defaults = {field.name: field.default for field in fields(Config)}
    for name in without:
        if getattr(config, name) != defaults[name]:
            got = f"{name}: got {getattr(config, name)}, which"
            if config.model:
                raise refusal(f"{got} says nothing of a network; expected it without --model, or --model without it")
            raise refusal(f"{got} says nothing of a patch model; expected a network beside it, named by --model")
