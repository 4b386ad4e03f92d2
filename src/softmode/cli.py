"""The command line: from a command to its experiment, and what is printed. Heavy imports wait until one runs."""

import sys
import warnings
from pathlib import Path

import tyro
from rich.console import Console
from rich.markup import escape

from softmode.commands import (
    Clones,
    Command,
    ConvertEDM2,
    Figures,
    Models,
    Patch,
    Probe,
    Pulse,
    Susceptibility,
    Theory,
    Train,
    Window,
)

BAD_INPUT = 2
FAILED = 1
# steps of EDM2's published sampler (karras2024)
EDM2_STEPS = 32


def main(arguments: list[str] | None = None) -> None:
    """Run one command; exit code 2 for unusable input, 1 for a run that failed."""
    command = tyro.cli(Command, args=arguments, prog="softmode", description=DESCRIPTION)
    warnings.showwarning = _show_warning  # type: ignore[assignment] # the rest of its arguments does not matter
    try:
        match command:
            case Patch():
                _patch(command)
            case Theory():
                _theory(command)
            case Probe():
                _probe(command)
            case Window():
                _window(command)
            case Clones():
                _clones(command)
            case Pulse():
                _pulse(command)
            case Susceptibility():
                _susceptibility(command)
            case Models():
                _models()
            case Train():
                _train(command)
            case ConvertEDM2():
                _convert_edm2(command)
            case Figures():
                _figures(command.directory)
    except ValueError as error:
        _fail(str(error), BAD_INPUT)
    except (ArithmeticError, OSError) as error:
        _fail(str(error), FAILED)
    except KeyboardInterrupt:
        _fail("interrupted: the same command resumes at the last finished block", 130)


DESCRIPTION = (
    "Measure critical dynamics in diffusion models: which spatial modes soften, when, and how far correlations reach."
)


def _patch(command: Patch) -> None:
    from softmode.experiments import patch
    from softmode.report import print_quantities

    stored = patch.run(command.config, command.out, progress=sys.stderr.isatty())
    print_quantities(stored)
    _figures(command.out)


def _theory(command: Theory) -> None:
    from softmode.report import print_theory

    print_theory(command.config)


def _probe(command: Probe) -> None:
    from softmode.experiments import probe
    from softmode.report import print_probe, print_quantities

    stored = probe.run(command.config, command.out, progress=sys.stderr.isatty())
    print_quantities(stored)
    print_probe(stored)
    _figures(command.out)


def _window(command: Window) -> None:
    from softmode.experiments import window
    from softmode.experiments.susceptibility_summary import contains
    from softmode.guidance import sampler_levels
    from softmode.guidance_report import print_check
    from softmode.report import print_window
    from softmode.store import Run, is_run

    steps = command.sampler_steps
    if steps is not None:
        sampler_levels(None, steps)  # raises before anything is computed
    if is_run(command.config.model):
        stored = Run.open(command.config.model)
        window.analyse(stored)
    else:
        stored = window.run(command.config, command.out, progress=sys.stderr.isatty())
    answer = window.read(stored)
    if command.check:
        print_check(answer, contains(answer, Run.open(command.check)))
        return
    if command.format == "table":
        print_window(stored, answer, window.pipeline_units(stored, EDM2_STEPS if steps is None else steps))
        _figures(str(stored.directory))
        return
    print(window.export(stored, command.format, command.weight, steps))


def _clones(command: Clones) -> None:
    from softmode.experiments import clones
    from softmode.report import print_clones

    stored = clones.run(command.config, command.out, progress=sys.stderr.isatty())
    print_clones(stored)
    _figures(command.out)


def _pulse(command: Pulse) -> None:
    from softmode.experiments import pulse
    from softmode.guidance_report import print_pulse

    stored = pulse.run(command.config, command.out, progress=sys.stderr.isatty())
    print_pulse(stored)
    _figures(command.out)


def _susceptibility(command: Susceptibility) -> None:
    from softmode.experiments import susceptibility
    from softmode.guidance_report import print_susceptibility

    stored = susceptibility.run(command.config, command.out, progress=sys.stderr.isatty())
    print_susceptibility(stored)
    _figures(command.out)


def _models() -> None:
    from softmode.report import print_models

    print_models()


def _train(command: Train) -> None:
    from softmode.training import train

    path = train(command.config, command.out, progress=sys.stderr.isatty())
    Console().print(f"weights  {path}", soft_wrap=True, highlight=False)


def _convert_edm2(command: ConvertEDM2) -> None:
    from softmode.networks.edm2_files import convert_edm2

    convert_edm2(command.source, command.target)
    Console().print(f"weights  {command.target}", soft_wrap=True, highlight=False)


def _figures(directory: str) -> None:
    from softmode.figures import draw
    from softmode.store import Run

    console = Console()
    paths = draw(Run.open(directory))
    console.print(f"summary  {Path(directory) / 'summary.json'}", soft_wrap=True, highlight=False)
    for path in paths:
        console.print(f"figure   {path}", soft_wrap=True, highlight=False)


def _fail(message: str, code: int) -> None:
    line = " ".join(message.split())
    Console(stderr=True).print(f"[bold red]error[/] {escape(line)}", soft_wrap=True, highlight=False)
    raise SystemExit(code)


def _show_warning(message: Warning | str, *_rest: object) -> None:
    Console(stderr=True).print(f"[bold yellow]warning[/] {escape(str(message))}", soft_wrap=True, highlight=False)
