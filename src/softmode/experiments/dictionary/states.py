"""The states of one realisation on one lattice: generated, copied at its critical time, and under the frozen score."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.estimate import Array
from softmode.experiments.dictionary.config import Config
from softmode.experiments.dictionary.realisation import Realisation
from softmode.langevin import frozen_langevin
from softmode.lattice import ReceptiveField
from softmode.observe.bragg import bragg_peak, long_wave_power
from softmode.observe.overlap import (
    distinct_states,
    largest_overlap,
    overlap,
    pair_overlaps,
    same_spectrum,
    spin_glass_susceptibility,
)
from softmode.process import Process
from softmode.samplers import initial_state
from softmode.simulation import clone
from softmode.streams import TrajectoryNoise, stream_seed, tag

# states that are looked at, and pairs of states: of two noises, copies, two of each, and two controls
STATES = ("samples", "frozen")
PAIRS = ("samples", "copies", "frozen", "random signs", "same spectrum")
BINS = 25
# step of the frozen dynamics, in units of sigma^2
STEP = 0.2
LAGS = 12


class Measured(NamedTuple):
    """What is measured of a realisation on a lattice, by the names of arrays.

    Attributes:
        arrays: What is kept of every lattice.
        further: What is kept of the largest one alone.
    """

    arrays: dict[str, Array]
    further: dict[str, Array]


@dataclass(frozen=True, eq=False)
class Setting:
    """What all realisations share.

    Args:
        config: The config.
        process: The process.
        times: Grid of the reverse SDE.
        device: Device of the states.
        dtype: Their floating type.
    """

    config: Config
    process: Process
    times: Tensor
    device: torch.device
    dtype: torch.dtype

    @property
    def waits(self) -> list[int]:
        """Waiting times of the frozen dynamics, in steps."""
        return [max(1, round(wait / STEP)) for wait in self.config.waits]

    @property
    def lags(self) -> list[int]:
        """Times after them, in steps, about evenly spaced in their logarithm."""
        longest = self.waits[-1]
        return sorted({round(longest ** (i / (LAGS - 1))) for i in range(LAGS)})

    def step_of(self, t: float) -> int:
        """Return the index of the grid's time nearest to a time, before the last."""
        return min(int((self.times.log() - math.log(t)).abs().argmin()), len(self.times) - 2)


def longest_wave(field: ReceptiveField) -> float:
    """Return the wavenumber of a wave of twice a patch: waves up to it are uniform as far as patches can tell."""
    return math.pi / field.size ** (1 / field.dimensions)


def measure(
    setting: Setting, realisation: Realisation, mass: float, side: int, t_c: float, strength: float
) -> Measured:
    """Return every array of a realisation on a lattice, by name.

    Args:
        setting: What all realisations share.
        realisation: The realisation.
        mass: Prior mass of the uniform patterns.
        side: Side of the lattice.
        t_c: Time at which its first wave goes soft, where copies are made.
        strength: Square of the noise level there.
    """
    config, shape = setting.config, (side,) * setting.config.dimensions
    denoiser = realisation.denoiser(mass, side, setting.dtype, setting.device)
    translations = not realisation.of_sites
    # the same for every mass, so that masses differ in their dictionaries alone
    own = stream_seed(config.seed, realisation.index, tag("dictionary states"))

    def noise(name: str) -> TrajectoryNoise:
        return TrajectoryNoise(own, range(config.replicas), setting.device, (tag(name), side))

    def fields(name: str) -> Tensor:
        return noise(name).fill_(torch.empty(config.replicas, *shape, device=setting.device)).cpu()

    samples, copies = _generated(setting, denoiser, noise, shape, t_c)
    seen = _frozen(setting, denoiser, config.level * math.sqrt(strength), noise("frozen"), shape)
    frozen = seen[max(seen)].float()
    groups = {
        "samples": samples, "frozen": frozen, "random signs": fields("signs").sign(),
        "same spectrum": same_spectrum(samples, fields("phases")),
    }  # fmt: skip
    overlaps = {name: pair_overlaps(states, translations) for name, states in groups.items()}
    overlaps["copies"] = (largest_overlap if translations else overlap)(samples, copies).abs()
    rows = [_order(groups[name], overlaps[name], longest_wave(realisation.field)) for name in STATES]
    found = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    found["overlap"] = np.array([float(overlaps[name].mean()) for name in PAIRS])
    found["histogram"] = np.stack([_histogram(overlaps[name]) for name in PAIRS])
    found["edwards_anderson"] = np.asarray(float(overlap(samples, copies).mean()))
    first = torch.stack([samples[0], frozen[0]]).to(torch.int8).numpy()
    return Measured(found, _aged(setting, seen, translations) | {"states": first})


def _generated(
    setting: Setting, denoiser: Denoiser, noise: Callable[[str], TrajectoryNoise], shape: Sequence[int], t_c: float
) -> tuple[Tensor, Tensor]:
    """Return the signs of generated states, and of copies of them that had other noise since t_c."""
    own = noise("samples")
    x = initial_state(setting.process, float(setting.times[0]), own, (1, *shape), setting.dtype)
    at = setting.step_of(t_c)
    made = clone(denoiser, setting.process, x, setting.times, own, [at], 1, lambda *_: noise("copies"))
    return made.parent[:, 0].sign(), made.copies[:, 0, 0, 0].sign()


def _frozen(
    setting: Setting, denoiser: Denoiser, sigma: float, noise: TrajectoryNoise, shape: Sequence[int]
) -> Mapping[int, Tensor]:
    """Return the signs of what the denoiser makes of states under the frozen score, at the steps that are compared."""
    steps = {wait + lag for wait in setting.waits for lag in (0, *setting.lags)}
    x = torch.empty(setting.config.replicas, 1, *shape, dtype=setting.dtype, device=setting.device)
    x = noise.fill_(x).mul_(sigma)
    along = islice(frozen_langevin(denoiser, x, sigma, STEP, noise), max(steps) + 1)
    # a byte each: these are many
    signs = ((step, denoised[:, 0].sign()) for step, (_, denoised) in enumerate(along) if step in steps)
    return {step: each.to("cpu", torch.int8) for step, each in signs}


def _order(states: Tensor, overlaps: Tensor, longest: float) -> dict[str, Array]:
    """Return by what one tells whether states are ordered, and how."""
    peak, area = bragg_peak(states), spin_glass_susceptibility(states)
    found = {
        "bragg": peak.height, "bragg_error": peak.stderr, "peak": peak.k, "susceptibility": area.value,
        "susceptibility_error": area.stderr, "long_waves": long_wave_power(states, longest),
        "distinct": distinct_states(overlaps, len(states)),
    }  # fmt: skip
    return {name: np.asarray(value) for name, value in found.items()}


def _histogram(overlaps: Tensor) -> Array:
    """Return the share of overlaps |q| in each bin from 0 to 1."""
    # an overlap of 1/N more or less decides no bin by its rounding
    counts, _ = np.histogram(overlaps.numpy() + 1e-12, bins=BINS, range=(0.0, 1.0 + 1e-9))
    return np.asarray(counts / len(overlaps))


def _aged(setting: Setting, seen: Mapping[int, Tensor], translations: bool) -> dict[str, Array]:
    """Return how a state under the frozen score is correlated with itself later, and how far its order has spread."""

    def kept(compare: Callable[[Tensor, Tensor], Tensor]) -> Array:
        places = [[(wait, wait + lag) for lag in setting.lags] for wait in setting.waits]
        return np.array([[float(compare(seen[i].float(), seen[j].float()).mean()) for i, j in row] for row in places])

    return {
        "ageing": kept(overlap),
        "ageing_moved": kept(largest_overlap if translations else lambda a, b: overlap(a, b).abs()),
        "spread": np.array([spin_glass_susceptibility(seen[wait].float()).value for wait in setting.waits]),
    }
