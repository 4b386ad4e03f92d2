"""What a user of the window chooses: what to probe and copy, and what to print."""

from dataclasses import dataclass
from typing import Annotated, Literal

from softmode.bounds import Bounds
from softmode.experiments.probe.config import Config as ProbeConfig
from softmode.settings import Count, Steps


@dataclass(frozen=True, kw_only=True)
class Config(ProbeConfig):
    """Find the noise window in which to guide a model, and export it for the model's pipeline (G.7, H.3).

    Example: softmode window fashion-mnist-binary --out runs/window

    Example: softmode window fashion-mnist --quick --out runs/quick

    Example: softmode window runs/window --format json

    MODEL may be the directory of a finished run of softmode window: then that one is analysed, and nothing is computed
    again. An interrupted run is resumed by the same command.
    """

    trajectories: Count = 16
    """Independent trajectories, or data of --states forward. What the answer is of takes four times as many: images
    that are noised for what is known of the labels, or states whose softest modes are found where there are none."""
    quick: bool = False
    """Give a first answer, of fewer states and noise levels, without clones."""
    share: Annotated[float, Bounds(above=0, below=1)] = 0.8
    """Share of the information about the labels that the window gains."""
    sampler: Literal["auto", "euler-maruyama", "heun"] = "heun"
    """Euler-Maruyama on the reverse SDE, evenly spaced in log t (F.5), or Heun on the probability flow, on EDM's noise
    levels with rho 7 (G.2), which needs far fewer steps; auto is the former for a VP process and the latter for VE."""
    classifier: str = "auto"
    """Tells the class of D(x) and of clones: a name or a path of softmode models, dinov2 or dinov2:PATH for RGB images,
    or python:module:function (of images, returns logits); none leaves classes out; auto is that of the data
    which the model's card names, none where it names none."""
    clones: Annotated[int, Bounds(0, 10**9)] = 16
    """Trajectories that are copied to see from when on the copies agree; 0 leaves that out."""
    clone_steps: Steps = 300
    """Euler-Maruyama steps of a clone."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """What to print of a window."""

    format: Literal["table", "json", "sigmas", "flow", "comfyui", "diffusers"] = "table"
    """What to print: a table, or the window alone in a form that a pipeline takes."""
    weight: float = 1.0
    """Weight w of the guidance in an export, D + w (D - D_guide); a guidance scale of pipelines is 1 + w."""
    check: str = ""
    """Directory of a finished softmode susceptibility: says whether the window contains the measured maximum of chi."""
    sampler_steps: Annotated[int, Bounds(1, 100_000)] | None = None
    """Steps of the pipeline's sampler, to list those that are guided; the table takes 32, EDM2's, when left out."""
    mu: float | None = None
    """Shift of a scheduler of diffusers that depends on the size of an image (use_dynamic_shifting); what the pipeline
    computes of its own size when left out."""
