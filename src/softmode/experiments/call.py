"""Experiments from Python, made from the list: `softmode.probe(model, trajectories=16, out="runs/mine")`, and back."""

import inspect
import tempfile
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

from softmode.experiments import EXPERIMENTS
from softmode.experiments.theory.analyse import theory as _theory
from softmode.experiments.theory.config import Config as TheoryConfig
from softmode.model import Model
from softmode.process import VE, Process
from softmode.runs.engine import execute
from softmode.runs.experiment import Experiment
from softmode.runs.results import Results
from softmode.runs.run import Run
from softmode.runs.store import Store, is_run
from softmode.settings import make

# the process of a denoiser that comes without one
EDM = VE()
# fields whose value may be a live object in place of a name
LIVE = ("model", "guide", "classifier")


def experiment(name: str) -> Experiment:
    """Return the experiment of a name.

    Raises:
        ValueError: If there is none.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"experiment: got {name!r}; expected one of {', '.join(EXPERIMENTS)}")
    return Experiment(name, EXPERIMENTS[name])


def open(directory: str | Path) -> Run:
    """Open a stored run.

    A run that another experiment has analysed since, as softmode window does with a probe, is opened as that one;
    `looks` has all of them.

    Args:
        directory: The run's directory.

    Raises:
        ValueError: If it holds no softmode run.
    """
    return looks(directory)[-1]


def looks(directory: str | Path) -> list[Run]:
    """Return a stored run as each experiment looks at it that measured or analysed it, the former first.

    Raises:
        ValueError: If the directory holds no softmode run.
    """
    path = Path(directory)
    if not is_run(path):
        raise ValueError(
            f"directory: {str(directory)!r} holds no softmode run; make one, for example: softmode patch --out runs/patch"
        )
    own = str(Store(path).identity.get("experiment"))
    others = [name for name in EXPERIMENTS if name != own and (path / f"{name}.json").is_file()]
    return [Run(path, experiment(name)) for name in (own, *others)]


def call(chosen: Experiment, out: str | Path | None = None, progress: bool = False, **settings: Any) -> Run:
    """Run an experiment and return its run.

    Args:
        chosen: The experiment.
        out: Directory of the run; one that holds an unfinished run of the same settings is resumed. A temporary one,
            which lives as long as the run that is returned, when left out.
        progress: Whether to show a progress bar.
        **settings: Fields of the experiment's config. `model`, `guide` and `classifier` may be live objects: a `Model`,
            a Denoiser (with `shape`, and `process` unless it is sm.VE()), a classifier.

    Raises:
        ValueError: If a setting or an object is unusable; nothing is written then.
    """
    process = settings.pop("process", None)
    if process is not None and not isinstance(process, Process):
        raise ValueError(f"process: got {process!r}; expected a Process such as sm.VP(), or schedule='vp:1'")
    given: dict[str, Any] = {}
    for name in LIVE:
        value = settings.get(name)
        if value is None or isinstance(value, str | Path):
            continue
        if name != "classifier":
            value = _as_model(name, value, tuple(settings.get("shape", ())), process)
        given[name] = value
        settings[name] = value.name if isinstance(value, Model) else getattr(value, "__name__", type(value).__name__)
    plan = chosen.prepare(make(chosen.config, settings), given)
    if out is not None:
        return execute(chosen, plan, out, progress)
    folder = tempfile.TemporaryDirectory(prefix="softmode-")
    return replace(execute(chosen, plan, Path(folder.name) / chosen.name, progress), keep=folder)


def theory(**settings: Any) -> Results:
    """Return every critical time and Ginzburg-Landau parameter of a patch model, without simulation.

    Args:
        **settings: Options of softmode theory, for example `receptive_field="box:5"`.

    Raises:
        ValueError: If a setting is unusable.
    """
    return _theory(make(TheoryConfig, settings))


def _as_model(name: str, value: Any, shape: tuple[int, ...], process: Process | None) -> Model:
    """Return a live model, or one of a denoiser in a process."""
    if isinstance(value, Model):
        return value if process is None else replace(value, process=process)
    if not callable(value):
        raise ValueError(f"{name}: got {type(value).__name__}; expected a name, a Model or a callable D(x, sigma)")
    if len(shape) < 2:
        raise ValueError(f"shape: got {shape}; expected channels and sides of a state, for example (1, 28, 28)")
    return Model(getattr(value, "__name__", type(value).__name__), process or EDM, shape, lambda _label: value)


def _function(name: str) -> Callable[..., Run]:
    """Return the function of an experiment, with the signature and the documentation of its config."""
    chosen = experiment(name)
    own = fields(chosen.config)
    first = [field.name for field in own if field.default is MISSING]

    def function(*arguments: Any, out: str | Path | None = None, progress: bool = False, **settings: Any) -> Run:
        if len(arguments) > len(first):
            raise TypeError(f"{name}() takes {len(first)} positional arguments, {len(arguments)} were given")
        return call(chosen, out, progress, **dict(zip(first, arguments, strict=False)), **settings)

    parameters = [inspect.Parameter(field, inspect.Parameter.POSITIONAL_OR_KEYWORD) for field in first]
    keywords = {"out": None, "progress": False} | {f.name: f.default for f in own if f.default is not MISSING}
    parameters += [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=d) for n, d in keywords.items()]
    function.__signature__ = inspect.Signature(parameters, return_annotation=Run)  # type: ignore[attr-defined]
    function.__name__ = function.__qualname__ = name
    summary = (chosen.config.__doc__ or "").partition("\n")[0]
    function.__doc__ = f"{summary}\n\nSettings are those of softmode {name} --help.\n\n{call.__doc__}"
    return function


def __getattr__(name: str) -> Callable[..., Run]:
    """Return the function of an experiment."""
    if name in EXPERIMENTS:
        return _function(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
