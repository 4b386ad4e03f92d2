r"""What a diffusers scheduler says of noise: the level of every timestep, of every step of its sampler, and back.

A network of diffusers sees $x_t = \alpha x_0 + \sigma\epsilon$ and a timestep. Three families of schedulers differ in
what these are; `noise_table` tells which one a scheduler is of, and everything else follows from its table.

| kind | alpha, sigma | timestep | schedulers |
|---|---|---|---|
| vp | $\alpha^2 + \sigma^2 = 1$, `alphas_cumprod` | 0 .. N-1 | DDPM, DDIM, PNDM, Euler, Heun, DPM-Solver, UniPC, ... |
| flow | $\alpha = 1 - s$, $\sigma = s$ | $1000\,s$ | FlowMatchEuler, and UniPC, DPM, DEIS with use_flow_sigmas |
| edm | $\alpha = (\sigma^2+\sigma_d^2)^{-1/2}$, on EDM states | $\log(\sigma)/4$ | EDMEuler, EDMDPMSolverMultistep |
"""

import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from softmode.message import refusal
from softmode.rounding import TABLE, above, rounding_at, within

Kind = Literal["vp", "flow", "edm"]

# shares of a flow's range that are left out at its ends, where the level or its log is infinite
FLOW_ENDS = (1e-3, 1 - 1e-3)
# points of the table of a scheduler that is continuous
POINTS = 2001
# highest level of a vp table at which a network is asked: hardly any signal is left
HIGHEST = 10**3.5
# alpha^2 that Euler gives to a schedule without signal at its end, whose level is infinite: level 4096
NO_SIGNAL = 2.0**-24
# schedulers of flow matching by the beginning of their names, and those that are if use_flow_sigmas is set
FLOWS, FLOWS_IF_ASKED = ("FlowMatch",), ("UniPC", "DPMSolver", "DEIS", "SASolver")
# of these set_timesteps takes mu or does without, and keeps flow_shift then
MU_OPTIONAL = ("DPMSolver", "DEIS")


@dataclass(frozen=True, eq=False)
class NoiseTable:
    """Noise levels by timestep, for one scheduler.

    Args:
        kind: Family of the scheduler.
        timesteps: Rising values of what the network is given, float64 [entry].
        levels: EDM noise level sigma/alpha at each, rising, float64 [entry].
        prediction: What the network predicts: epsilon, v_prediction, sample or flow.
        sigma_data: Standard deviation of the data that an edm preconditioning assumes.
        shift: Shift of a flow's schedule; NaN where it depends on a mu that is not known.
        ahead: Odds s / (1 - s) of a flow's time over those of what its network is given as t / N; 1 unless its loop
            names its steps by the time before the shift.
    """

    kind: Kind
    timesteps: Tensor
    levels: Tensor
    prediction: str
    sigma_data: float = 0.5
    shift: float = 1.0
    ahead: float = 1.0

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest noise level at which a network can be asked; a sampler may begin above."""
        return float(self.levels[0]), float(self.levels[self.levels < HIGHEST][-1])

    def level(self, timestep: Tensor | float) -> Tensor:
        """Return the noise level at timesteps of any shape; its log is linear between the entries."""
        if self.kind == "flow":
            u = torch.as_tensor(timestep, dtype=torch.float64) / self._count
            return (self.ahead * u / (1 - u).clamp(min=0)).clamp(self.levels[0], self.levels[-1])
        return _interpolate(timestep, self.timesteps, self.levels.log()).exp()

    @property
    def _count(self) -> float:
        """The timestep of a flow's pure noise."""
        last = float(self.levels[-1])
        return float(self.timesteps[-1]) * (last + self.ahead) / last

    def timestep(self, level: Tensor | float) -> Tensor:
        """Return the timestep at noise levels of any shape: the inverse of `level`.

        Raises:
            ValueError: If a level is beyond the table by more than rounding.
        """
        level = torch.as_tensor(level, dtype=torch.float64)
        low, high = float(self.levels[0]), float(self.levels[-1])
        if not bool(within(level, low, high, rounding_at(level)).all()):
            raise ValueError(
                f"sigma: got {float(level.min()):.4g} to {float(level.max()):.4g}; expected noise levels in "
                f"[{low:.4g}, {high:.4g}], which this scheduler knows"
            )
        if self.kind == "flow":
            level = level.clamp(low, high)
            return self._count * level / (level + self.ahead)
        return _interpolate(level.log(), self.levels.log(), self.timesteps)

    def amplitudes(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma of the network's own states at EDM noise levels; for edm its input scale and level."""
        if self.kind == "flow":
            return 1 / (1 + level), level / (1 + level)
        if self.kind == "edm":
            return (level.square() + self.sigma_data**2).rsqrt(), level
        return (1 + level.square()).rsqrt(), level * (1 + level.square()).rsqrt()

    def percent(self, level: float) -> float:
        """Return which share of the schedule lies before a noise level: 0 is pure noise, 1 is none.

        As ComfyUI counts: evenly in the timestep, of a flow before its shift, of edm in log sigma.
        """
        if self.kind == "flow":
            s = level / (1 + level)
            return 1 - s / (self.shift - (self.shift - 1) * s)
        first, last = float(self.timesteps[0]), float(self.timesteps[-1])
        return 1 - (float(self.timestep(level)) - first) / (last - first)

    def level_at_percent(self, percent: float) -> float:
        """Return the noise level after a share of the schedule, the inverse of `percent`."""
        if self.kind == "flow":
            t = 1 - percent
            s = self.shift * t / (1 + (self.shift - 1) * t)
            return s / (1 - s)
        first, last = float(self.timesteps[0]), float(self.timesteps[-1])
        return float(self.level(first + (1 - percent) * (last - first)))


def noise_table(scheduler: Any, mu: float | None = None) -> NoiseTable:
    """Return what a diffusers scheduler says of the noise, and warn where it asks a network for what says nothing.

    Args:
        scheduler: The scheduler.
        mu: Of a shift that depends on the size of an image, what its pipeline computes of that; None if not known.

    Raises:
        ValueError: If the scheduler is of no known kind, saying what it lacks.
    """
    if remark := blind_start(scheduler):
        # at one place, so that it is said once
        warnings.warn(remark, stacklevel=1)
    return _table(scheduler, mu)


def blind_start(scheduler: Any) -> str:
    """Return what is to be said of a schedule that ends without signal, of which the noise says nothing; or nothing."""
    config = scheduler.config
    squares = getattr(scheduler, "alphas_cumprod", None)
    if squares is None or is_flow(scheduler) or config.get("prediction_type", "epsilon") != "epsilon":
        return ""
    if float(squares[-1]) > 0 and not config.get("rescale_betas_zero_snr"):
        return ""
    return (
        f"scheduler: the schedule of {type(scheduler).__name__} ends without any signal, where a network that predicts "
        "the noise says nothing of x_0: a sampler that begins there takes a first step without meaning; networks of "
        "such schedules predict v_prediction or sample"
    )


def _table(scheduler: Any, mu: float | None = None) -> NoiseTable:
    name, config = type(scheduler).__name__, scheduler.config
    prediction = config.get("prediction_type", "epsilon")
    if is_flow(scheduler):
        s = torch.linspace(*FLOW_ENDS, POINTS, dtype=torch.float64)
        timesteps = s * config.get("num_train_timesteps", 1000)
        return NoiseTable("flow", timesteps, s / (1 - s), "flow", shift=_shift(scheduler, mu))
    if name.startswith("EDM"):
        ends = config["sigma_min"], config["sigma_max"]
        levels = torch.from_numpy(np.geomspace(*ends, POINTS))
        return NoiseTable("edm", levels.log() / 4, levels, _known(name, prediction), config["sigma_data"])
    if not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(
            f"scheduler: {name} has neither alphas_cumprod nor the sigmas of an EDM or flow-matching scheduler, "
            "so its noise levels are not known; use DDPM, DDIM, Euler, Heun, DPM-Solver, EDM or FlowMatch"
        )
    squares = scheduler.alphas_cumprod.double()
    squares = squares.where(squares > 0, NO_SIGNAL)
    levels = ((1 - squares) / squares).sqrt()
    # Euler's last level may lie below those just before it
    kept = levels < levels[-1]
    kept[-1] = True
    timesteps, levels = torch.arange(len(levels), dtype=torch.float64)[kept], levels[kept]
    if config.get("timestep_type") == "continuous":
        timesteps = levels.log() / 4
    return NoiseTable("vp", timesteps, levels, _known(name, prediction))


def is_flow(scheduler: Any) -> bool:
    """Return whether a scheduler is one of flow matching.

    Raises:
        ValueError: If it says so, but is of no kind whose steps are known.
    """
    name = type(scheduler).__name__
    asked = bool(scheduler.config.get("use_flow_sigmas"))
    if asked and not name.startswith((*FLOWS, *FLOWS_IF_ASKED)):
        raise refusal(f"scheduler: the flow of {name} is not known; use FlowMatchEuler, UniPC, DPMSolver or DEIS")
    if scheduler.config.get("invert_sigmas"):
        raise refusal(f"scheduler: {name} counts its time from noise to data (invert_sigmas), which is not known")
    return asked or name.startswith(FLOWS)


def is_dynamic(scheduler: Any) -> bool:
    """Return whether the shift of a flow's schedule depends on mu, which pipelines compute of the size of an image."""
    return is_flow(scheduler) and bool(scheduler.config.get("use_dynamic_shifting"))


def needs_mu(scheduler: Any) -> bool:
    """Return whether a scheduler makes no steps without mu."""
    return is_dynamic(scheduler) and not type(scheduler).__name__.startswith(MU_OPTIONAL)


def _shift(scheduler: Any, mu: float | None) -> float:
    """Return by how much the odds s / (1 - s) of a flow's times are raised."""
    config = scheduler.config
    if is_dynamic(scheduler) and mu is not None:
        return math.exp(mu) if config.get("time_shift_type", "exponential") == "exponential" else mu
    if needs_mu(scheduler):
        return math.nan
    # set_shift does not change the config; schedulers with use_flow_sigmas name it flow_shift
    settable = hasattr(type(scheduler), "shift")
    return float((scheduler.shift if settable else config.get("shift") or config.get("flow_shift")) or 1.0)


def step_levels(scheduler: Any) -> Tensor:
    """Return the EDM noise level of each call of the network in a sampler's loop, float64 [call].

    These are the levels of the states that the loop feeds to the network, which for Karras, exponential or shifted
    schedules are not those of its rounded timesteps.

    Args:
        scheduler: A scheduler after its `set_timesteps`.
    """
    calls = len(scheduler.timesteps)
    # KDPM2 calls the network between its sigmas too, at timesteps that are not rounded
    if not hasattr(scheduler, "sigmas") or type(scheduler).__name__.startswith("KDPM2"):
        return _table(scheduler).level(scheduler.timesteps.double())
    sigmas = scheduler.sigmas[:calls].double().cpu()
    if not is_flow(scheduler):
        return sigmas
    if not bool(within(sigmas, 0.0, 1.0, TABLE).all()):
        raise refusal(
            f"scheduler: {type(scheduler).__name__} has a flow's times from {float(sigmas.min()):.4g} to "
            f"{float(sigmas.max()):.4g}; expected 0 to 1: its options do not go together"
        )
    return sigmas / (1 - sigmas)


def step_at(levels: Tensor, level: float) -> int:
    """Return the first step whose noise level is at most the given one, up to rounding; their number if none is."""
    return int(above(levels, level, rounding_at(level)).sum())


def _known(name: str, prediction: str) -> str:
    if prediction not in ("epsilon", "v_prediction", "sample"):
        raise ValueError(
            f"scheduler: {name} predicts {prediction!r}; expected epsilon, v_prediction, sample or a flow-matching one"
        )
    return prediction


def _interpolate(x: Tensor | float, at: Tensor, values: Tensor) -> Tensor:
    """Return values at x by linear interpolation between the rising points `at`, constant beyond their ends.

    In torch, as numpy cannot see a tensor while a derivative is taken.
    """
    x = torch.as_tensor(x, dtype=torch.float64)
    right = torch.searchsorted(at, x).clamp(1, len(at) - 1)
    share = ((x - at[right - 1]) / (at[right] - at[right - 1])).clamp(0, 1)
    return torch.lerp(values[right - 1], values[right], share)
