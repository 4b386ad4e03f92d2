"""The command line: parsing and printing only. Heavy imports wait until a command runs, so that help is instant."""

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape

from softmode.config import PatchConfig, TheoryConfig

BAD_INPUT = 2
FAILED = 1


@dataclass(frozen=True)
class Patch:
    """Sample a patch model and measure its critical dynamics (Figs. 2, 3 and 5 of the paper).

    Example: softmode patch --out runs/patch

    An interrupted run is resumed by the same command. The defaults are the paper's parameters (E.13).
    """

    config: tyro.conf.OmitArgPrefixes[PatchConfig]
    out: str = "runs/patch"
    """Directory of the run: run.zarr, summary.json, figures/."""


@dataclass(frozen=True)
class Theory:
    """Print every critical time and Ginzburg-Landau parameter of a patch model, as tables.

    Example: softmode theory --receptive-field box:5 --dimensions 2 --schedule vp:1
    """

    config: tyro.conf.OmitArgPrefixes[TheoryConfig]


@dataclass(frozen=True)
class Figures:
    """Redraw the figures of a stored run.

    Example: softmode figures runs/patch
    """

    directory: tyro.conf.Positional[str]
    """Directory of the run."""


Command = (
    Annotated[Patch, tyro.conf.subcommand("patch")]
    | Annotated[Theory, tyro.conf.subcommand("theory")]
    | Annotated[Figures, tyro.conf.subcommand("figures")]
)


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
