"""The commands of the command line, their options and their help. Nothing heavy is imported: help is instant."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from softmode.config import (
    ClonesConfig,
    PatchConfig,
    ProbeConfig,
    PulseConfig,
    SusceptibilityConfig,
    TheoryConfig,
    WindowConfig,
)
from softmode.training.config import TrainConfig


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
