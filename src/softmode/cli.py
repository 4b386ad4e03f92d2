"""The command line: commands made from the list of experiments, parsing, and what is printed. Heavy imports wait."""

import difflib
import io
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from tyro.conf import Positional

from softmode.arguments import Options, parse
from softmode.experiments import EXPERIMENTS
from softmode.message import quote, refusal, shorten

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
RESUMES = "the same command resumes"
# characters of a mistyped command that are compared with those that there are
LONG = 40
DESCRIPTION = (
    "Measure critical dynamics in diffusion models: which spatial modes soften, when, and how far correlations reach."
)


@dataclass(frozen=True)
class Models:
    """List the models that are at hand: name, data, size, quality and where the weights are.

    Example: softmode models
    """


@dataclass(frozen=True)
class ConvertEDM2:
    """Write the network of an official EDM2 pickle as safetensors, without running anything that the pickle holds.

    Example: softmode convert-edm2 edm2-img64-s.pkl edm2-img64-s.safetensors

    The result is a MODEL for every other command: softmode probe edm2:edm2-img64-s.safetensors --labels 207
    """

    source: Positional[str]
    """The pickle."""
    target: Positional[str]
    """The safetensors file to write."""


@dataclass(frozen=True)
class Figures:
    """Redraw the figures of a stored run, and its report.

    Example: softmode figures runs/patch
    """

    directory: Positional[str]
    """Directory of the run."""


class Command(NamedTuple):
    """A command: where the dataclass of its options is, the default of --out if it has one, and what runs it."""

    module: str
    options: str
    run: Callable[[Options], None]
    out: str = ""


def _experiment(name: str, options: Options) -> None:
    try:
        _run(name, options)
    except KeyboardInterrupt:
        # whenever it comes, while imports, stages or figures are made, it says the same
        engine = sys.modules.get("softmode.runs.engine")
        _fail(f"interrupted: {engine.outlook(Path(options.out)) if engine else RESUMES}", INTERRUPTED)


def _run(name: str, options: Options) -> None:
    from softmode.experiments.call import experiment
    from softmode.runs.engine import execute
    from softmode.runs.report import say
    from softmode.runs.store import check_directory, is_run

    chosen = experiment(name)
    output = None if options.output is None else import_module(f"{chosen.package}.output")
    if output is not None:
        output.verify(options.output, options.config)
    # before models are opened and tried, which takes a while; a finished run that is analysed has a place already
    if not is_run(getattr(options.config, "model", "")):
        check_directory(Path(options.out), {"experiment": name})
    run = execute(chosen, chosen.prepare(options.config), options.out, progress=True)
    written = None if output is None else output.text(options.output, run)
    if written is not None:
        print(written)
        return
    _show(run.directory, run.experiment.name)
    for label, line in [] if output is None else output.lines(options.output, run):
        say(label, line)


def _show(directory: Path, name: str = "") -> None:
    """Draw and print figures and report of the experiment of a name that has looked at a run, or of all that have."""
    from softmode.experiments.call import looks
    from softmode.runs.html import write_page
    from softmode.runs.report import print_run

    for run in looks(directory):
        if name in ("", run.experiment.name):
            figures = run.draw()
            print_run(run, write_page(run, figures), figures)


def _figures(options: Options) -> None:
    from softmode.experiments.call import looks

    looks(options.config.directory)[0].store.verify()
    _show(Path(options.config.directory))


def _theory(options: Options) -> None:
    from softmode.experiments.theory.analyse import theory
    from softmode.runs.report import print_results

    print_results(theory(options.config))


def _check(options: Options) -> None:
    from softmode.experiments.check.analyse import check
    from softmode.runs.report import print_results, say

    results = check(options.config)
    print_results(results)
    if options.config.figure:
        say("figure", options.config.figure)
    if not results.values["sound"]:
        raise SystemExit(FAILED)


def _models(_: Options) -> None:
    from softmode.runs.report import print_table, say
    from softmode.training.listing import models_table

    table, files = models_table()
    print_table(table, len(table.rows))
    for name, path in files:
        say("weights", f"{name}: {path}")


def _train(options: Options) -> None:
    from softmode.runs.report import say
    from softmode.training.directory import outlook
    from softmode.training.train import run

    try:
        path = run(options.config, options.out, progress=sys.stderr.isatty())
    except KeyboardInterrupt:
        _fail(f"interrupted: {outlook(Path(options.out))}", INTERRUPTED)
    say("weights", str(path))


def _quality(options: Options) -> None:
    from softmode.runs.report import print_results, say
    from softmode.training.quality.measure import quality

    print_results(quality(options.config, sys.stderr.isatty(), lambda line: say("quality", line, error=True)))


def _convert_edm2(options: Options) -> None:
    from softmode.networks.edm2_files import convert_edm2
    from softmode.runs.report import say

    convert_edm2(options.config.source, options.config.target)
    say("weights", options.config.target)


def commands() -> dict[str, Command]:
    """Return every command by name, the experiments first."""
    found = {
        name: Command(f"{package}.config", "Config", partial(_experiment, name), f"runs/{name}")
        for name, package in EXPERIMENTS.items()
    }
    return found | {
        "check": Command("softmode.experiments.check.config", "Config", _check),
        "theory": Command("softmode.experiments.theory.config", "Config", _theory),
        "models": Command("softmode.cli", "Models", _models),
        "train": Command("softmode.training.config", "TrainConfig", _train, "runs/train"),
        "quality": Command("softmode.training.quality.config", "QualityConfig", _quality),
        "convert-edm2": Command("softmode.cli", "ConvertEDM2", _convert_edm2),
        "figures": Command("softmode.cli", "Figures", _figures),
    }


def main(arguments: list[str] | None = None) -> None:
    """Run one command; exit code 2 for unusable input, 1 for a run that failed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path that the terminal cannot show stops no run
    warnings.showwarning = _show_warning  # type: ignore[assignment] # the rest of its arguments does not matter
    try:
        _dispatch(sys.argv[1:] if arguments is None else arguments)
    except ValueError as error:
        _fail(str(error), BAD_INPUT)
    except MemoryError:
        _fail("memory: there is not enough of it for this; use a smaller size, shape or block", BAD_INPUT)
    except BrokenPipeError:
        # whoever read the output has closed it; nothing more can be said there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAILED) from None
    except (ArithmeticError, OSError) as error:
        _fail(str(error), FAILED)
    except KeyboardInterrupt:
        _fail(f"interrupted: {RESUMES}", INTERRUPTED)


def _dispatch(arguments: list[str]) -> None:
    known = commands()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview(known))
        return
    name, *rest = arguments
    if name not in known:
        near = difflib.get_close_matches(name[:LONG], known, n=2, cutoff=0.5)
        hint = f"did you mean softmode {' or softmode '.join(near)}?" if near else "softmode --help lists them"
        raise refusal(f"command: there is no {quote(name)}; {hint}")
    known[name].run(parse(name, rest, *options_of(known[name])))


def _overview(known: dict[str, Command]) -> str:
    """Return every command with its first line, in place of a help page that would import all of them."""
    width = max(map(len, known)) + 2
    about = {name: (options_of(command)[0].__doc__ or "").partition("\n")[0] for name, command in known.items()}
    lines = [f"  {name:<{width}}{text}" for name, text in about.items()]
    return "\n".join(
        [
            "usage: softmode COMMAND ...",
            "",
            DESCRIPTION,
            "",
            *lines,
            "",
            "softmode COMMAND --help explains one of them.",
        ]
    )


def options_of(command: Command) -> tuple[type[Any], type[Any] | None, str]:
    """Return the dataclass of a command's options, that of what it prints where there is a choice, and its --out."""
    module = import_module(command.module)
    return getattr(module, command.options), getattr(module, "Output", None), getattr(module, "OUT", command.out)


def _fail(message: str, code: int) -> NoReturn:
    _say("error", message)
    raise SystemExit(code)


def _show_warning(message: Warning | str, *_rest: object) -> None:
    _say("warning", str(message))


def _say(label: str, message: str) -> None:
    """Print one line to standard error, whatever the message holds."""
    from rich.console import Console
    from rich.markup import escape

    color = {"error": "red", "warning": "yellow"}[label]
    Console(stderr=True).print(
        f"[bold {color}]{label}[/] {escape(shorten(message))}", soft_wrap=True, highlight=False, emoji=False
    )
