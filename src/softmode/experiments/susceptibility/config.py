"""What a user of the susceptibility experiment chooses."""

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from softmode.bounds import Bounds
from softmode.experiments.pulse.config import GuidedSampling
from softmode.message import refusal
from softmode.settings import Count, Positive

# where runs go when a user does not say
OUT = "runs/chi"
# what guidance can gain; any other is a function of the user's own
ALIGNMENTS = ("probability", "log-probability", "logit", "change")
# settings that one method has and the other has not
OWN = {
    "adjoint": ("sampler", "alignment", "nodes", "tolerance", "information"),
    "pulses": ("centres", "highest", "lowest", "width"),
}


@dataclass(frozen=True, kw_only=True)
class Config(GuidedSampling):
    """Measure what guidance gains at each noise level, by the sampler's derivatives or by pulses: chi(sigma).

    Example: softmode susceptibility fashion-mnist --out runs/chi

    Example: softmode susceptibility fashion-mnist --method pulses --steps 64 --weight 10 --out runs/pulses

    An interrupted run is resumed by the same command, at the class, strength or centre, and block of trials where it
    was.
    """

    method: Literal["adjoint", "pulses"] = "adjoint"
    """adjoint: every level at once, by differentiating the sampler from no guidance to the weight in use. pulses: the
    same pulse of guidance at many noise levels, each sampled anew; it needs no derivative."""
    sampler: Literal["heun", "euler", "scheduler"] = "heun"
    """Adjoint: heun or euler (DDIM) on EDM's levels; scheduler: the steps and levels of the own scheduler of a pipeline
    of diffusers, as many as --steps says, one that draws no noise."""
    alignment: str = "probability"
    """Adjoint: what guidance is to gain, of a sample: the probability of its class, log-probability, logit (log-odds
    clipped at those of 99 percent), change (the rms change, which needs no classifier), or python:module:function, of
    (samples [trial, channel, *space], class), returns [trial]; in Python, such a function."""
    nodes: Annotated[int, Bounds(3, 65)] = 5
    """Adjoint: strengths from 0 to the weight in use at which all trials are differentiated, dense near 0; odd."""
    tolerance: Positive = 0.01
    """Adjoint: how far the levels' shares between two strengths of a trial may miss what it gains there, in the units
    of the alignment; where they miss it by more, it is differentiated in between too."""
    information: str = ""
    """Adjoint: directory of a finished softmode information of the same model, to set beside what is gained; that in
    --window when left out."""
    # fewer than three places cannot have a maximum among them
    centres: Annotated[int, Bounds(3, 10**4)] = 16
    """Pulses: centres of the pulse, evenly spaced in log sigma."""
    highest: Positive = 40.0
    """Pulses: highest centre; no higher than the first noise level."""
    lowest: Positive = 0.04
    """Pulses: lowest centre; the grid of the sampler is coarse below."""
    width: Annotated[float, Bounds(above=0, high=100)] = 1.0
    """Pulses: width of the pulse in log sigma."""
    weight: float = 2.0
    """Weight w of the guidance, D + w (D - D_guide): a guidance scale of 3, as pipelines have it."""
    steps: Annotated[int, Bounds(2, 10**7)] = 16
    """Noise levels of EDM's sampler, rho 7 (H.1); half of EDM2's number, so that a first answer takes minutes."""
    trials: Count = 3
    """Trials per class, and centre of pulses; all start from the same noise."""


def check_method(config: Config) -> None:
    """Raise a ValueError if a setting of the other method is given, or the strengths make no panels."""
    if config.nodes % 2 == 0:
        raise refusal(f"nodes: got {config.nodes}; expected an odd number: use {config.nodes + 1}")
    (other,) = OWN.keys() - {config.method}
    default = {field.name: field.default for field in fields(config)}
    for name in OWN[other]:
        if getattr(config, name) != default[name]:
            raise refusal(
                f"{name}: got {getattr(config, name)}; expected none beside --method {config.method}: leave it out, or "
                f"use --method {other}"
            )
