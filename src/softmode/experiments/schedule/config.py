"""What a user of the schedule experiment chooses: a budget, how it is searched and tested, and what to print."""

from dataclasses import dataclass
from typing import Annotated, Literal

from softmode.bounds import Bounds
from softmode.experiments.pulse.config import GuidedTrials
from softmode.settings import Count, Positive


@dataclass(frozen=True, kw_only=True)
class Config(GuidedTrials):
    """Find the schedule of guidance that gains most within a budget, and test it on fresh samples.

    Example: softmode schedule fashion-mnist --guided-steps 8 --out runs/schedule

    Example: softmode schedule diffusers:path --prompts prompts.txt --classifier none --format diffusers

    The search keeps its runs in OUT/round-2. An interrupted run is resumed by the same command.
    """

    guided_steps: Count = 8
    """Budget: most levels that are guided; a quarter of the default's 32."""
    weight: Positive = 2.0
    """Budget: largest weight w at a level, D + w (D - D_guide); 2 is that of the published interval."""
    dose: Positive | None = None
    """Budget: largest sum of w^2 d log sigma; no bound when left out."""
    alignment: Literal["probability", "log-probability", "logit", "change"] = "probability"
    """What guidance is to gain, of a sample: the probability of its class, its logarithm, its log-odds clipped at those
    of 99 %, or the rms change, which needs no classifier."""
    search_trials: Count = 4
    """Trials per class of the search, each differentiated at a strength of its own in two rounds."""
    trials: Count = 16
    """Fresh trials per class on which the schedule is tested, and as many others for every pair of --grid."""
    grid: Annotated[int, Bounds(0, 10**4)] = 0
    """Compare with the best of about so many intervals within the budget, all of them sampled, in OUT/grid."""
    interval: tuple[float, float] = (0.19, 1.61)
    """A given interval of guidance to compare with, low and high; the default was published for EDM2-XXL on
    ImageNet-512 (Kynkäänniemi et al. 2024)."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """What to print of a schedule."""

    format: Literal["table", "json", "sigmas", "flow", "comfyui", "diffusers"] = "table"
    """What to print: tables, or the schedule alone in a form that a pipeline takes."""
    sampler_steps: Annotated[int, Bounds(1, 100_000)] | None = None
    """Steps of the pipeline's sampler, each of which takes the weight of the nearest level; the levels of the search
    when left out."""
    mu: float | None = None
    """Shift of a scheduler of diffusers that depends on the size of an image (use_dynamic_shifting); what the pipeline
    computes of its own size when left out."""
