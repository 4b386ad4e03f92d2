"""The command line: parsing and printing only. Heavy imports wait until a command runs, so that help is instant."""

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.markup import escape

from softmode.config import (
    ClonesConfig,
    PatchConfig,
    ProbeConfig,
    PulseConfig,
    SusceptibilityConfig,
    TheoryConfig,
    TrainConfig,
    WindowConfig,
)

BAD_INPUT = 2
FAILED = 1
# steps of EDM2's published sampler (karras2024)
EDM2_STEPS = 32


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
class Probe:
    """Measure the critical dynamics of any model beside the Gaussian null model (Figs. 3, 6 and 7 of the paper).

    Example: softmode probe fashion-mnist-binary --out runs/binary

    An interrupted run is resumed by the same command.
    """

    config: tyro.conf.OmitArgPrefixes[ProbeConfig]
    out: str = "runs/probe"
    """Directory of the run: run.zarr, summary.json, figures/."""


@dataclass(frozen=True)
class Window:
    """Find the noise window in which to guide a model, and export it for the model's pipeline (G.7, H.3).

    Example: softmode window fashion-mnist-binary --out runs/window

    Example: softmode window runs/window --format json

    MODEL may be the directory of a finished run of softmode probe or softmode window: then that one is analysed, and
    nothing is computed again. An interrupted run is resumed by the same command.
    """

    config: tyro.conf.OmitArgPrefixes[WindowConfig]
    out: str = "runs/window"
    """Directory of the run: run.zarr, clones/, window.json, figures/."""
    format: Literal["table", "json", "sigmas", "comfyui", "diffusers"] = "table"
    """What to print: a table, or the window alone in a form that a pipeline takes."""
    weight: float = 1.0
    """Weight w of the guidance in an export, D + w (D - D_guide); a guidance scale of pipelines is 1 + w."""
    check: str = ""
    """Directory of a finished softmode susceptibility: says whether the window contains the measured maximum of chi."""
    sampler_steps: int | None = None
    """Steps of the pipeline's sampler, to list those that are guided; the table takes 32, EDM2's, when left out."""


@dataclass(frozen=True)
class Clones:
    """Copy trajectories at a time, run the copies on with independent noise, and see from when on they agree.

    Example: softmode clones fashion-mnist-labelled --out runs/clones

    An interrupted run is resumed by the same command.
    """

    config: tyro.conf.OmitArgPrefixes[ClonesConfig]
    out: str = "runs/clones"
    """Directory of the run: run.zarr, summary.json, figures/."""


@dataclass(frozen=True)
class Pulse:
    """Guide in a short pulse at sigma_c, at random places and in other ways, and compare the samples (H.4 to H.7).

    Example: softmode pulse fashion-mnist-labelled --out runs/pulse

    Example: softmode pulse edm2:s.safetensors --guide edm2:xs.safetensors --classifier dinov2 --out runs/fig4

    An interrupted run is resumed by the same command, at the class, condition and block of trials where it was.
    """

    config: tyro.conf.OmitArgPrefixes[PulseConfig]
    out: str = "runs/pulse"
    """Directory of the run: run.zarr, summary.json, figures/, and window/ where sigma_c is measured."""


@dataclass(frozen=True)
class Susceptibility:
    """Guide in the same pulse at many noise levels, and measure where it aligns the samples most: chi(sigma).

    Example: softmode susceptibility fashion-mnist-labelled --centres 16 --out runs/chi

    Example: softmode window runs/chi/window --check runs/chi

    An interrupted run is resumed by the same command, at the class, centre and block of trials where it was.
    """

    config: tyro.conf.OmitArgPrefixes[SusceptibilityConfig]
    out: str = "runs/chi"
    """Directory of the run: run.zarr, summary.json, figures/, and window/ where sigma_c is measured."""


@dataclass(frozen=True)
class Models:
    """List the models that are at hand: name, data, size, quality and where the weights are.

    Example: softmode models
    """


@dataclass(frozen=True)
class Train:
    """Train a network on Fashion-MNIST (F.3, F.4); an interrupted training is resumed by the same command.

    Example: softmode train fashion-mnist-binary --epochs 30 --out runs/train

    The result is a MODEL for every other command: softmode probe runs/train
    """

    config: tyro.conf.OmitArgPrefixes[TrainConfig]
    out: str = "runs/train"
    """Directory of the training: weights.safetensors, checkpoint.safetensors, history.json."""


@dataclass(frozen=True)
class ConvertEDM2:
    """Write the network of an official EDM2 pickle as safetensors, without running anything that the pickle holds.

    Example: softmode convert-edm2 edm2-img64-s.pkl edm2-img64-s.safetensors

    The result is a MODEL for every other command: softmode probe edm2:edm2-img64-s.safetensors --labels 207
    """

    source: tyro.conf.Positional[str]
    """The pickle."""
    target: tyro.conf.Positional[str]
    """The safetensors file to write."""


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
    | Annotated[Probe, tyro.conf.subcommand("probe")]
    | Annotated[Window, tyro.conf.subcommand("window")]
    | Annotated[Clones, tyro.conf.subcommand("clones")]
    | Annotated[Pulse, tyro.conf.subcommand("pulse")]
    | Annotated[Susceptibility, tyro.conf.subcommand("susceptibility")]
    | Annotated[Models, tyro.conf.subcommand("models")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[ConvertEDM2, tyro.conf.subcommand("convert-edm2")]
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
    from softmode.networks.edm2_pickle import convert_edm2

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
