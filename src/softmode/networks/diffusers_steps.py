"""The sampler of a diffusers pipeline: its scheduler's own steps, in its own coordinates and at its own levels.

The network is called and its scheduler makes a step of what it predicts, as in the pipeline's own loop. What a network
predicts is an affine function of D at a given state, of the same slope for both branches of guidance; so guidance of
the prediction is guidance of D.
"""

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softmode.denoiser import Autocast, Denoiser
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.networks.diffusers_denoiser import DiffusersDenoiser
from softmode.networks.diffusers_scheduler import step_levels
from softmode.streams import TrajectoryNoise

# schedulers whose steps draw no noise, one call of the network each
DETERMINISTIC = ("DDIM", "EulerDiscrete", "DPMSolverMultistep", "UniPCMultistep", "DEISMultistep",
                 "FlowMatchEulerDiscrete", "EDMEuler", "EDMDPMSolverMultistep")  # fmt: skip
INSTEAD = "use a pipeline with DDIM, DPMSolverMultistep or FlowMatchEulerDiscrete, or --sampler heun"


@dataclass(frozen=True, eq=False)
class SchedulerSteps:
    """The steps of a diffusers scheduler.

    Args:
        scheduler: After its set_timesteps; left as it is.
        levels: Noise level of each step, float64 [step].
    """

    scheduler: Any
    levels: Float[Tensor, " step"]

    @property
    def calls(self) -> Int[Tensor, " step"]:
        """One call of the network each."""
        return torch.ones(len(self.levels), dtype=torch.int64)

    @property
    def identity(self) -> dict[str, Any]:
        """The scheduler's class and config."""
        # in a text, as it may hold what is no number of JSON's
        config = json.dumps(dict(self.scheduler.config), default=str, sort_keys=True)
        return {"scheduler": {"class": type(self.scheduler).__name__, "config": config}}

    def asked(self, denoiser: Denoiser) -> Denoiser:
        """Return the network of a denoiser, called with states of the scheduler and their levels.

        Raises:
            ValueError: If it is of no network of diffusers.
        """
        if isinstance(denoiser, Autocast):
            return replace(denoiser, denoiser=self.asked(denoiser.denoiser))
        if not isinstance(denoiser, DiffusersDenoiser):
            raise refusal(
                "sampler: got 'scheduler' with a network, or a guide, that is none of diffusers; use --sampler heun"
            )
        return _Prediction(denoiser, self)

    def start(self, noise: TrajectoryNoise, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return noise of the scale with which the scheduler begins."""
        x = torch.empty(len(noise.trajectories), *shape, dtype=dtype, device=noise.device)
        return noise.fill_(x).mul_(float(getattr(self.scheduler, "init_noise_sigma", 1.0)))

    def states(self, function: Denoiser, x: Tensor) -> Iterator[Tensor]:
        """Yield the state after each step."""
        # it counts its steps, and one of several steps keeps what was predicted before
        scheduler = copy.deepcopy(self.scheduler)
        for t, level in zip(scheduler.timesteps, self.levels.tolist(), strict=True):
            fed = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            x = scheduler.step(function(fed.to(x.dtype), level), t, x, return_dict=False)[0].to(x.dtype)
            yield x


@dataclass(frozen=True, eq=False)
class _Prediction:
    """What a network predicts of the states of a scheduler at its levels."""

    denoiser: DiffusersDenoiser
    of: SchedulerSteps

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return the prediction, of the shape of x."""
        place = int((self.of.levels - float(torch.as_tensor(sigma).flatten()[0])).abs().argmin())
        return self.denoiser.network(x, self.of.scheduler.timesteps[place].to(x.device, x.dtype).expand(len(x)))


def scheduler_steps(model: Model, guide: Model, labels: Sequence[int], steps: int) -> SchedulerSteps:
    """Return the steps of a model's own scheduler.

    Args:
        model: A model of diffusers.
        guide: What guidance pushes away from; the model itself or another of diffusers that predicts the same.
        labels: Classes that are sampled.
        steps: Number of steps.

    Raises:
        ValueError: If the model has no scheduler, or one whose steps draw noise or are not known, naming the remedy.
    """
    if model.scheduler is None:
        raise refusal(
            f"sampler: got 'scheduler'; {quote(model.name)} is no pipeline of diffusers with one: use --sampler heun"
        )
    own = model.denoiser(labels[0])
    other = None if guide is model else guide.denoiser(labels[0] if guide.classes else None)
    assert isinstance(own, DiffusersDenoiser)
    if other is not None:
        if not isinstance(other, DiffusersDenoiser):
            raise refusal(
                f"guide: {quote(guide.name)} is no pipeline of diffusers, whose networks alone go with --sampler "
                "scheduler; use --sampler heun"
            )
        if (own.table.kind, own.table.prediction) != (other.table.kind, other.table.prediction):
            raise refusal(
                f"guide: {quote(guide.name)} predicts {other.table.prediction} ({other.table.kind}), the model "
                f"{own.table.prediction} ({own.table.kind}), of which a scheduler makes no step; use --sampler heun"
            )
    scheduler = model.scheduler(steps)
    check_deterministic(scheduler)
    # of pure noise the level is infinite; the network is asked for its own time there
    levels = step_levels(scheduler).double().clamp(max=float(own.table.levels[-1]))
    if not bool((levels.diff() < 0).all()) or len(levels) != len(scheduler.timesteps):
        raise refusal(
            f"sampler: the {len(levels)} steps of {type(scheduler).__name__} do not fall in noise; use other --steps, "
            "or --sampler heun"
        )
    return SchedulerSteps(scheduler, levels)


def check_deterministic(scheduler: Any) -> None:
    """Raise a ValueError unless a scheduler's steps are known to draw no noise."""
    name, config = type(scheduler).__name__, scheduler.config
    if name.removesuffix("Scheduler") not in DETERMINISTIC:
        raise refusal(f"sampler: {name} draws noise at its steps, or calls its network twice in one; {INSTEAD}")
    if str(config.get("algorithm_type", "")).startswith("sde-") or config.get("stochastic_sampling"):
        what = "algorithm_type" if "algorithm_type" in config else "stochastic_sampling"
        raise refusal(f"sampler: {name} with {what}={config[what]} draws noise at its steps; {INSTEAD}")
