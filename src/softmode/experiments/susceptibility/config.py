"""What a user of the susceptibility experiment chooses."""

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from softmode.bounds import Bounds
from softmode.experiments.pulse.config import GuidedSampling
from softmode.message import refusal
from softmode.settings import Positive

# where runs go when a user does not say
OUT = "runs/chi"
# settings that one method has and the other has not
# what guidance can gain; any other is a function of the user's own
ALIGNMENTS = ("probability", "log-probability", "logit", "change")
OWN = {"adjoint": ("sampler", "alignment", "nodes", "information"), "pulses": ("centres", "highest", "lowest", "width")}


@dataclass(frozen=True, kw_only=True)
class Config(GuidedSampling):
    """Measure what guidance gains at each noise level, by the sampler's derivatives or by pulses: chi(sigma).

    Example: softmode susceptibility fashion-mnist --trials 6 --steps 32 --out runs/chi

    Example: softmode susceptibility fashion-mnist --method pulses --centres 16 --out runs/pulses

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
    nodes: Annotated[int, Bounds(1, 64)] = 4
    """Adjoint: strengths from 0 up at which to differentiate, Gauss-Radau's; exact for a response of degree 2 n - 1."""
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
    steps: Annotated[int, Bounds(2, 10**7)] = 64
    """Noise levels of EDM's sampler, rho 7 (H.1); twice EDM2's number, so that every pulse holds some."""


def check_method(config: Config) -> None:
    """Raise a ValueError if a setting of the other method is given."""
    (other,) = OWN.keys() - {config.method}
    default = {field.name: field.default for field in fields(config)}
    for name in OWN[other]:
        if getattr(config, name) != default[name]:
            raise refusal(
                f"{name}: got {getattr(config, name)}; expected none beside --method {config.method}: leave it out, or "
                f"use --method {other}"
            )
