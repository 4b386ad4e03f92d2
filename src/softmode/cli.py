"""The command line: commands made from the list of experiments, parsing, and what is printed. Heavy imports wait."""

import contextlib
import difflib
import inspect
import io
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, make_dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import tyro
from tyro.conf import Positional, arg

from softmode.experiments import EXPERIMENTS

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
DESCRIPTION = (
    "Measure critical dynamics in diffusion models: which spatial modes soften, when, and how far correlations reach."
)
# longest message that is printed
LONGEST = 600


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


class Options(NamedTuple):
    """What a command line said: the config, what to print of it where there is a choice, and the directory."""

    config: Any
    output: Any
    out: str


class Command(NamedTuple):
    """A command: where the dataclass of its options is, the default of --out if it has one, and what runs it."""

    module: str
    options: str
    run: Callable[[Options], None]
    out: str = ""


def _experiment(name: str, options: Options) -> None:
    from softmode.experiments.call import experiment
    from softmode.runs.engine import execute
    from softmode.runs.report import say

    chosen = experiment(name)
    output = None if options.output is None else import_module(f"{chosen.package}.output")
    if output is not None:
        output.verify(options.output, options.config)
    run = execute(chosen, chosen.prepare(options.config), options.out, progress=sys.stderr.isatty())
    written = None if output is None else output.text(options.output, run)
    if written is not None:
        print(written)
        return
    _show(run)
    for label, line in [] if output is None else output.lines(options.output, run):
        say(label, line)


def _show(run: Any) -> None:
    from softmode.runs.html import write_page
    from softmode.runs.report import print_run

    figures = run.draw()
    print_run(run, write_page(run, figures), figures)


def _figures(options: Options) -> None:
    from softmode.experiments.call import looks

    for run in looks(options.config.directory):
        run.store.verify()
        _show(run)


def _theory(options: Options) -> None:
    from softmode.experiments.theory.analyse import theory
    from softmode.runs.report import print_results

    print_results(theory(options.config))


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


def _convert_edm2(options: Options) -> None:
    from softmode.networks.edm2_files import convert_edm2
    from softmode.runs.report import say

    convert_edm2(options.config.source, options.config.target)
    say("weights", options.config.target)


def commands() -> dict[str, Command]:
    """Return every command by name, the experiments first."""
    found = {
        name: Command(
            f"{package}.config", "Config", lambda options, name=name: _experiment(name, options), f"runs/{name}"
        )
        for name, package in EXPERIMENTS.items()
    }
    return found | {
        "theory": Command("softmode.experiments.theory.config", "Config", _theory),
        "models": Command("softmode.cli", "Models", _models),
        "train": Command("softmode.training.config", "TrainConfig", _train, "runs/train"),
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
        _fail("interrupted: the same command goes on from the last finished block or checkpoint", INTERRUPTED)


def _dispatch(arguments: list[str]) -> None:
    known = commands()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview(known))
        return
    name, *rest = arguments
    if name not in known:
        near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
        hint = f"did you mean softmode {' or softmode '.join(near)}?" if near else "softmode --help lists them"
        raise ValueError(f"command: there is no {name!r}; {hint}")
    known[name].run(_parse(name, known[name], rest))


def _overview(known: dict[str, Command]) -> str:
    """Return every command with its first line, in place of a help page that would import all of them."""
    width = max(map(len, known)) + 2
    lines = [f"  {name:<{width}}{_options(known[name])[0].__doc__.partition(chr(10))[0]}" for name in known]
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


def _options(command: Command) -> tuple[type[Any], type[Any] | None]:
    """Return the dataclass of a command's options, and that of what it prints, if it can print several things."""
    module = import_module(command.module)
    return getattr(module, command.options), getattr(module, "Output", None)


def _parse(name: str, command: Command, arguments: list[str]) -> Options:
    """Return the options of a command line, checked.

    Raises:
        ValueError: In one line, for whatever is wrong with them.
    """
    config, output = _options(command)
    out: list[Any] = []
    if command.out:
        what = f"Directory of the {'training' if name == 'train' else 'run'}."
        out.append(("out", Annotated[str, arg(help=what)], command.out))
    bases = (config,) if output is None else (output, config)
    whole = make_dataclass(config.__name__, out, bases=bases, frozen=True, kw_only=True)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found = tyro.cli(
                whole, args=arguments, prog=f"softmode {name}", description=inspect.cleandoc(config.__doc__ or "")
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ValueError(f"{_first_words(said.getvalue())}; see softmode {name} --help") from None
    parts = [None if part is None else _part(part, found) for part in (config, output)]
    return Options(parts[0], parts[1], getattr(found, "out", ""))


def _part(kind: type[Any], whole: Any) -> Any:
    """Return the fields of a dataclass that a larger one has inherited, checked."""
    from softmode.bounds import check

    part = kind(**{field.name: getattr(whole, field.name) for field in fields(kind)})
    check(part)
    return part


def _first_words(box: str) -> str:
    """Return what tyro says in a box, up to its first rule, as one line."""
    lines = [line.strip(" │") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    told = [line.strip() for line in lines]
    end = next((i for i, line in enumerate(told) if line.startswith("──")), len(told))
    return " ".join(line for line in told[:end] if line)


def _fail(message: str, code: int) -> NoReturn:
    _say("error", message)
    raise SystemExit(code)


def _show_warning(message: Warning | str, *_rest: object) -> None:
    _say("warning", str(message))


def _say(label: str, message: str) -> None:
    """Print one line to standard error, whatever the message holds."""
    from rich.console import Console
    from rich.markup import escape

    line = " ".join("".join(c if c.isprintable() else " " for c in message).split())
    line = line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."
    color = {"error": "red", "warning": "yellow"}[label]
    Console(stderr=True).print(f"[bold {color}]{label}[/] {escape(line)}", soft_wrap=True, highlight=False)
