"""Experiments from Python, made from the list: `softmode.probe(model, trajectories=16, out="runs/mine")`, and back."""

import inspect
import shutil
import tempfile
import textwrap
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from softmode.experiments import EXPERIMENTS
from softmode.experiments.check.analyse import check as _check
from softmode.experiments.check.config import Config as CheckConfig
from softmode.experiments.theory.analyse import theory as _theory
from softmode.experiments.theory.config import Config as TheoryConfig
from softmode.message import quote, refusal
from softmode.model import Model, as_model
from softmode.networks.objects import check_no_network, from_object, package_of
from softmode.networks.pipeline import from_pipeline, size_of
from softmode.networks.pipeline_record import is_pipeline
from softmode.process import VE, Process
from softmode.runs.engine import execute
from softmode.runs.experiment import Experiment, Plan
from softmode.runs.opening import prompts_of
from softmode.runs.results import Results
from softmode.runs.run import Run
from softmode.runs.store import Store, is_run
from softmode.settings import described, make

# the process of a denoiser that comes without one
EDM = VE()
# fields whose value may be a live object in place of a name
LIVE = ("model", "guide", "classifier", "alignment")
# what a function takes besides the settings, and what comes of it
CALL = {
    "out": "Directory of the run; one that holds an unfinished run of the same settings is resumed. A temporary one, "
    "which lives as long as the run that is returned, when left out.",
    "progress": "Whether to show a progress bar.",
}
ENDING = """Returns:
    The finished run, with its results, arrays and figures.

Raises:
    ValueError: If a setting or an object is unusable; nothing is written then.
"""
LIVE_OBJECTS = """A model, a guide or a classifier may be a live object in place of a name: a Model, a classifier, a
DiffusionPipeline of diffusers, with prompts=[...] where it takes text, an object of k-diffusion,
denoising-diffusion-pytorch, azula or smalldiffusion, or a Denoiser D(x, sigma), with
shape=(channels, *sides), and process=sm.VP() unless it is sm.VE().
"""


def experiment(name: str) -> Experiment:
    """Return the experiment of a name.

    Raises:
        ValueError: If there is none.
    """
    if name not in EXPERIMENTS:
        raise refusal(f"experiment: got {quote(name)}; expected one of {', '.join(EXPERIMENTS)}")
    return Experiment(name, EXPERIMENTS[name])


def open(directory: str | Path, experiment: str = "") -> Run:
    """Open a stored run.

    Args:
        directory: The run's directory.
        experiment: As which experiment to look at it, such as `window` of a probe that softmode window has analysed;
            as the one that measured it when left out.

    Raises:
        ValueError: If it holds no softmode run, or the experiment has not looked at it.
    """
    found = {run.experiment.name: run for run in looks(directory)}
    if experiment and experiment not in found:
        raise refusal(f"experiment: got {quote(experiment)}; {quote(str(directory))} is of {', '.join(found)}")
    return found[experiment] if experiment else next(iter(found.values()))


def looks(directory: str | Path) -> list[Run]:
    """Return a stored run as each experiment looks at it that measured or analysed it, the former first.

    Raises:
        ValueError: If the directory holds no softmode run.
    """
    path = Path(directory)
    if not is_run(path):
        raise refusal(
            f"directory: {quote(str(directory))} holds no softmode run; make one, for example: softmode patch --out "
            "runs/patch"
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
        **settings: As for `plan`.

    Raises:
        ValueError: If a setting or an object is unusable; nothing is written then.
    """
    if out is not None and not isinstance(out, str | Path):
        raise refusal(f"out: got {quote(out)}; expected a directory, or None for a temporary one")
    ready = plan(chosen, **settings)
    if out is not None:
        return execute(chosen, ready, out, progress)
    scratch = _Scratch()
    return replace(execute(chosen, ready, scratch.path / chosen.name, progress), keep=scratch)


def plan(chosen: Experiment, **settings: Any) -> Plan:
    """Return the plan of an experiment: its settings, checked, and the models; nothing is written.

    Args:
        chosen: The experiment.
        **settings: Fields of its config. `model`, `guide` and `classifier` may be live objects: a `Model`, a Denoiser
            (with `shape`, and `process` unless it is sm.VE()), an object of another package (`from_object`), a
            classifier. So may the `schedule` of such an object be.

    Raises:
        ValueError: If a setting or an object is unusable.
    """
    config, given = _live(chosen.config, settings)
    return chosen.prepare(config, given)


def _live(config: type[Any], settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return a config of some settings, and the live objects among them."""
    process = settings.pop("process", None)
    if process is not None and not isinstance(process, Process):
        raise refusal(f"process: got {quote(process)}; expected a Process such as sm.VP(), or schedule='vp:1'")
    given: dict[str, Any] = {}
    texts = settings.get("prompts")
    if isinstance(texts, list | tuple) and texts and all(isinstance(text, str) for text in texts):
        settings["prompt"] = settings.pop("prompts")
    own = settings.get("schedule", "")
    if package_of(own) and package_of(settings.get("model")):
        # read with the model, of which it is a part
        del settings["schedule"]
    for name in LIVE:
        value = settings.get(name)
        if value is None or isinstance(value, str | Path):
            continue
        if name == "alignment":
            if callable(value):
                given[name], settings[name] = value, f"python:{_name(value)}"
            continue
        if is_pipeline(value):
            value = _of_pipeline(value, settings)
        elif name != "classifier":
            value = _as_model(name, value, settings.get("shape", ()), own, process)
        given[name] = value
        settings[name] = value.name if isinstance(value, Model) else _name(value)
    # what guides takes the shape of a denoiser that comes alone, and has no option for that of a model
    if given and "shape" not in {field.name for field in fields(config)}:
        settings.pop("shape", None)
    return make(config, settings), given


def check(model: Any, **settings: Any) -> Results:
    """Return what a model does of all that a posterior mean does, and what experiments on it would cost.

    Args:
        model: A name, a path, a Model, a pipeline of diffusers, an object of another package (`from_object`), or a
            Denoiser D(x, sigma) with `shape`, and `process` unless it is sm.VE().
        **settings: Options of softmode check, for example `labels=(0, 1)`.

    Raises:
        ValueError: If a setting or an object is unusable, or the model cannot be called.
    """
    return _check(*_live(CheckConfig, {"model": model, **settings}))


def theory(**settings: Any) -> Results:
    """Return every critical time and Ginzburg-Landau parameter of a patch model, without simulation.

    Args:
        **settings: Options of softmode theory, for example `receptive_field="box:5"`.

    Raises:
        ValueError: If a setting is unusable.
    """
    return _theory(make(TheoryConfig, settings))


class _Scratch:
    """A temporary directory that goes with the last run that holds it, or with the process."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="softmode-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _of_pipeline(pipe: Any, settings: Mapping[str, Any]) -> Model:
    """Return the model of a live pipeline of diffusers, with the prompts, shape and process of some settings."""
    texts = prompts_of(tuple(settings.get("prompt", ())), str(settings.get("prompts", "")))
    size, schedule = size_of(pipe, tuple(settings.get("shape", ()))), settings.get("schedule", "")
    return from_pipeline(pipe, texts, settings.get("negative"), size, schedule)


def _as_model(name: str, value: Any, shape: Sequence[int], schedule: Any, process: Process | None) -> Model:
    """Return a live model, that of an object of another package, or one of a denoiser in a process."""
    if package_of(value):
        value = from_object(value, shape, schedule)
    if isinstance(value, Model):
        return value if process is None else replace(value, process=process)
    if not callable(value):
        raise refusal(f"{name}: got {quote(value)}; expected a name, a Model or a callable D(x, sigma)")
    check_no_network(value, name)
    if not isinstance(shape, Sequence) or len(shape) < 2:
        raise refusal(f"shape: got {quote(shape)}; expected channels and sides of a state, for example (1, 28, 28)")
    return as_model(_name(value), value, process or EDM, tuple(map(int, shape)))


def _name(value: Any) -> str:
    """Return the name of a function or of an object's class; of what softmode makes of a network, the network's."""
    inside = getattr(value, "network", None) or getattr(value, "denoiser", None)
    if inside is not None and type(value).__module__.startswith("softmode."):
        return _name(inside)
    return str(getattr(value, "__name__", type(value).__name__))


@runtime_checkable
class Runner(Protocol):
    """An experiment as a Python function, `softmode.probe` and so on."""

    def __call__(self, *arguments: Any, out: str | Path | None = None, progress: bool = False, **settings: Any) -> Run:
        """Run the experiment and return its run."""
        ...


@cache
def _function(name: str) -> Runner:
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
    function.__signature__ = inspect.Signature(parameters, return_annotation=Run)  # type: ignore[attr-defined] # which not every such object declares
    function.__name__ = function.__qualname__ = name
    function.__module__ = "softmode"
    function.__doc__ = _documentation(chosen.config, name, first)
    return function


def _documentation(config: type[Any], name: str, first: Sequence[str]) -> str:
    """Return a docstring of Python: what the command's help says, for a function that returns a run."""
    what = described(config)
    own = {name: what[name] for name in first} | CALL | {n: text for n, text in what.items() if n not in first}
    about = (config.__doc__ or "").partition("\n")[0]
    settings = "\n".join(
        textwrap.fill(f"{name}: {text}", 100, initial_indent="    ", subsequent_indent=" " * 8)
        for name, text in own.items()
    )
    live = f"\n{LIVE_OBJECTS}" if "model" in own else ""
    return f"{about}\n\nAs softmode {name} does.\n\nArgs:\n{settings}\n\n{ENDING}{live}"


def __getattr__(name: str) -> Runner:
    """Return the function of an experiment."""
    if name in EXPERIMENTS:
        return _function(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
