"""One realisation of the disorder: its patterns, its denoisers, and what is known of it in closed form."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from softmode.estimate import Array
from softmode.exact.dictionary import PatchDictionary, random_dictionary, with_uniform
from softmode.exact.patch import PatchDenoiser
from softmode.exact.site_patches import SitePatchDenoiser, random_site_patterns
from softmode.experiments.dictionary.config import Config
from softmode.formulas.bifurcation import critical_time
from softmode.formulas.softest_wave import SoftestWave, softest_wave
from softmode.lattice import ReceptiveField
from softmode.process import Process
from softmode.streams import stream_seed, tag


@dataclass(frozen=True, eq=False)
class Realisation:
    """A random dictionary, or one of every site, with some mass of uniform patterns.

    Args:
        config: The config.
        field: Its receptive field.
        index: Which realisation.
    """

    config: Config
    field: ReceptiveField
    index: int

    @property
    def seed(self) -> int:
        """Seed of the patterns: of one dictionary at all sites, that of `random_dictionary`."""
        return stream_seed(self.config.seed, self.index, tag("dictionary patterns"))

    @property
    def of_sites(self) -> bool:
        """Whether every site has a dictionary of its own."""
        return self.config.disorder_of == "site"

    @cached_property
    def _random(self) -> PatchDictionary:
        return random_dictionary(self.config.patterns, self.seed, self.field)

    def dictionary(self, mass: float) -> PatchDictionary:
        """Return the dictionary of all sites."""
        return with_uniform(self._random, mass)

    def wave(self, mass: float) -> SoftestWave:
        """Return the softest wave of the infinite lattice; there is none where sites differ."""
        if self.of_sites:
            return SoftestWave((math.nan,) * self.config.dimensions, math.nan, math.nan)
        return softest_wave(self.dictionary(mass))

    def denoiser(
        self, mass: float, side: int, dtype: torch.dtype, device: torch.device
    ) -> PatchDenoiser | SitePatchDenoiser:
        """Return the denoiser of a lattice."""
        if not self.of_sites:
            return PatchDenoiser(self.dictionary(mass))
        shape = (side,) * self.config.dimensions
        patterns = self._site_patterns(side)
        prior = with_uniform(self._random, mass).prior
        if mass > 0:
            ones = patterns.new_ones(1, 1, self.field.size).expand(len(patterns), -1, -1)
            patterns = torch.cat([patterns, ones, -ones], 1)
        return SitePatchDenoiser(self.field, patterns.to(device, dtype), prior, shape)

    def _site_patterns(self, side: int) -> torch.Tensor:
        shape = (side,) * self.config.dimensions
        return random_site_patterns(self.config.patterns, stream_seed(self.seed, side, tag("site")), self.field, shape)

    def strength(self, mass: float, side: int) -> float:
        """Return what takes the place of |Omega| in the critical time of the lattice."""
        if not self.of_sites:
            return self.wave(mass).strength
        # in double precision, on the CPU, whatever the states are computed in
        denoiser = self.denoiser(mass, side, torch.float64, torch.device("cpu"))
        assert isinstance(denoiser, SitePatchDenoiser)
        return denoiser.strength()

    def covariances(self) -> torch.Tensor:
        """Return C_uv of the random patterns alone, [site, omega, omega]; one site where all are alike."""
        patterns = self._site_patterns(min(self.config.sizes)) if self.of_sites else self._random.patterns[None]
        plus = patterns[:, : self.config.patterns].double()
        return plus.transpose(1, 2) @ plus / self.config.patterns

    def closed_form(self, process: Process) -> Mapping[str, Array]:
        """Return the numbers that need no simulation, by the names of the arrays that keep them."""
        config, sizes = self.config, self.config.sizes
        matrices = self.covariances()
        rows, columns = torch.triu_indices(self.field.size, self.field.size, 1)
        off = matrices[:, rows, columns]
        ones = torch.ones(self.field.size, self.field.size, dtype=torch.float64)
        tops = [
            float(torch.linalg.eigvalsh((1 - mass) * matrices + mass * ones)[:, -1].mean()) for mass in config.uniform
        ]
        waves = [self.wave(mass) for mass in config.uniform]
        strengths = [
            [wave.strength] * len(sizes) if not self.of_sites else [self.strength(mass, side) for side in sizes]
            for mass, wave in zip(config.uniform, waves, strict=True)
        ]
        found = {
            "seed": self.seed,
            "covariance_mean": float(off.mean()), "covariance_square": float(off.square().mean()),
            "lambda_max": tops, "t_c_patch": [critical_time(process, top) for top in tops],
            "k_star": [wave.k for wave in waves], "drift": [wave.drift for wave in waves],
            "strength": strengths, "t_c": [[critical_time(process, each) for each in row] for row in strengths],
        }  # fmt: skip
        return {name: np.asarray(value) for name, value in found.items()}
