"""Options that experiments share, each defined once, with its bounds and the source of its default.

An experiment's config is a dataclass that inherits the groups it needs and adds its own fields. This module imports
nothing heavy, so that the command line can print its help at once.
"""

import ast
import difflib
import inspect
import itertools
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal, TypeVar

from tyro.conf import Positional
from tyro.constructors import PrimitiveConstructorSpec

from softmode.bounds import Bounds, build, check
from softmode.message import refusal


def _labels(words: list[str]) -> tuple[int | str, ...]:
    parts = [part.strip() for word in words for part in word.split(",") if part.strip()]
    attributes = all("=" in part or part.isidentifier() for part in parts)
    return tuple(part if attributes or "=" in part else int(part) for part in parts)


LABELS = PrimitiveConstructorSpec(
    nargs=1,
    metavar="LABEL[,LABEL ...]",
    instance_from_str=_labels,
    is_instance=lambda value: isinstance(value, tuple),
    str_from_instance=lambda labels: [",".join(map(str, labels))],
)

Seed = Annotated[int, Bounds(0, 2**63 - 1)]
Count = Annotated[int, Bounds(1, 10**9)]
Steps = Annotated[int, Bounds(1, 10**7)]
Time = Annotated[float, Bounds(above=0)]
Positive = Annotated[float, Bounds(above=0)]
Label = Annotated[int, Bounds(0, 10**6)]
Labels = Annotated[tuple[Label | str, ...], LABELS]
Side = Annotated[int, Bounds(1, 2**20)]
Precision = Literal["full", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How a run is computed."""

    seed: Seed = 0
    """Seed of every random number."""
    dtype: Literal["float32", "float64"] = "float32"
    """Floating type of the states and the network."""
    device: str = "cpu"
    """Device of the states and the network: cpu, cuda, cuda:1."""
    block: Count = 8
    """Trajectories computed at once and stored together; an interrupted run resumes at its last finished block."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a model is asked for beside its labels, and what stands for none of them."""

    prompt: tuple[str, ...] = ()
    """Prompt of every trajectory, for a model of text; several are its classes 0, 1, ..., which --labels takes; all are
    dealt out in turn when that is left out."""
    prompts: str = ""
    """File with a prompt on each line, in place of --prompt."""
    negative: str | None = None
    """Negative prompt, which guidance pushes away from (--guide dropped); the pipeline's own when left out, mostly the
    empty one."""
    null_label: Label | None = None
    """Class that stands for all samples together, of a network that was trained with one as such: 10, for example, of
    eleven. Guidance pushes away from it (--guide dropped); the model's own, if it has one, when left out."""


@dataclass(frozen=True, kw_only=True)
class AnyModel(Asked):
    """Which model, and as what."""

    model: Positional[str]
    """A name of softmode models, a path made by softmode train, edm:file and edm2:file (official pickles, or what
    softmode convert-edm2 made of one), score_sde:file (with its config beside it), diffusers:path-or-hub-id, or
    python:module:function (returns a Denoiser or a Model)."""
    labels: Labels = ()
    """Classes, for example 207,388, dealt out to the trajectories in turn; or attributes, hat=1,hat=0, of which several
    are asked for at once by hat=1+glasses=0. All samples together when left out."""
    schedule: str = ""
    """Process in which to sample: vp:1, vp-linear:0.1:20, vp-cosine:0.008 or ve; the model's own when left out."""
    shape: tuple[Side, ...] = ()
    """Channels and sides of a state, for example 1 28 28; the model's own when left out."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The time grid of a sampler."""

    t_max: Time | None = None
    """First time T of the reverse grid, in the process's own time. When left out: 50 (F.5); for VE or Heun, noise level
    80 (G.2); the highest that the model knows, where that is lower."""
    t_min: Time | None = None
    """Last time of the reverse grid. When left out: 0.001 (F.5); for VE or Heun, noise level 0.002 (G.2)."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What is measured along a generation, and where."""

    shells: Annotated[int, Bounds(3, 10**6)] = 6
    """Highest Fourier shell (E.9)."""
    snapshots: tuple[Time, ...] = ()
    """Times at which to keep states; some, evenly spaced in log, when left out."""
    portion: Literal["cut", "clip"] = "cut"
    """Positive portion of C(r) in Eq. 63: cut at its first zero, or clip negative values (the literal reading)."""


@dataclass(frozen=True, kw_only=True)
class PatchModel:
    """A local patch model, which is known exactly."""

    receptive_field: str = "box:5"
    """box:5 (odd side), ball:2.5 (radius), cross:2 (arm) or offsets:0,0;0,1;1,0."""
    dimensions: Annotated[int, Bounds(1, 3)] = 2
    """Number of axes, 1 to 3."""
    dictionary: str = "paper"
    """paper (ten patterns, E.1), two-state (the minimal model), random:8 (with their flips), or a file.npz with
    patterns and prior."""
    schedule: str = "vp:1"
    """vp:1 (constant beta, E.3), vp-linear:0.1:20, vp-cosine:0.008 or ve."""


Config = TypeVar("Config")


def make(config: type[Config], values: dict[str, Any]) -> Config:
    """Return a config of some values; lists become tuples and a path its name, as Python's users write them.

    Raises:
        ValueError: If a name is no field, naming the nearest ones, or a value is out of range.
    """
    known = [field.name for field in fields(config)]  # type: ignore[arg-type] # a dataclass, which no type can say
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name[:40], known, n=3)
            remedy = f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(known)}"
            raise refusal(f"{name[:40]}: is no setting; {remedy}")
    settings = build(config, {name: _plain(value) for name, value in values.items()})
    check(settings)
    return settings


def _plain(value: Any) -> Any:
    """Return a value of Python's own types: a path's name, and numbers of numpy and torch as numbers."""
    if hasattr(value, "__fspath__"):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_plain(each) for each in value] if isinstance(value, list | tuple | range) else value


def described(config: type[Any]) -> dict[str, str]:
    """Return what every field of a config is, in the words that stand below it in its source."""
    words: dict[str, str] = {}
    for kind in reversed(config.__mro__[:-1]):
        (body,) = (node.body for node in ast.parse(inspect.getsource(kind)).body if isinstance(node, ast.ClassDef))
        for field, text in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                words[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return {field.name: words.get(field.name, "") for field in fields(config)}


def as_config(settings: Any) -> dict[str, Any]:
    """Return a config as plain data, as a run keeps it."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}
