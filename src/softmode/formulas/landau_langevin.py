r"""The reduced theory of a soft sector of one mode, as a denoiser that can be sampled (C.5 with Eq. 10).

Slow fields $\phi$, the part of a state at wave numbers below a limit, are pulled by
$s = -M\phi + K\nabla^2\phi - \frac U6\phi^3$; the rest is noise alone. M, K and U are those of a noise level: of x = 0,
or better measured over states, where the noise of the single sites weakens them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import per_sample
from softmode.lattice import Lattice

Levels = Float[np.ndarray, " level"]


@dataclass(frozen=True, eq=False)
class LandauLangevin:
    r"""D = x + sigma^2 s of the reduced theory, whose reverse diffusion is a Landau-Langevin equation.

    Args:
        levels: Rising noise levels.
        mass: M at them.
        stiffness: K, the mean of its axes.
        quartic: U; all three are interpolated in $\log\sigma$, in units of the score's own, $\sigma^{-2}$.
        highest: Highest wave number of a slow field (radians per site).

    Source: paper Eqs. 10 and 15 to 17, with the coefficients of C.5.
    """

    levels: Levels
    mass: Levels
    stiffness: Levels
    quartic: Levels
    highest: float

    def __call__(self, x: Float[Tensor, "batch 1 *space"], sigma: Tensor | float) -> Float[Tensor, "batch 1 *space"]:
        """Return E[x_0 | x] as the reduced theory has it, of the shape of x; 0 for what is no slow field."""
        level = per_sample(sigma, x)
        mass, stiffness, quartic = (self._at(each, level).to(x) for each in (self.mass, self.stiffness, self.quartic))
        k = Lattice.of(x).wave_vectors().square().sum(-1).to(x)
        axes, slow = tuple(range(2, x.ndim)), k <= self.highest**2
        waves = torch.fft.fftn(x, dim=axes) * slow
        fields = torch.fft.ifftn(waves, dim=axes).real
        gain = 1 - (mass + stiffness * k)
        answer = gain * waves - quartic / 6 * torch.fft.fftn(fields**3, dim=axes) * slow
        return torch.fft.ifftn(answer, dim=axes).real

    def _at(self, values: Levels, level: Tensor) -> Tensor:
        """Return values at noise levels, in units of the score's own."""
        found = np.interp(level.log().cpu().numpy(), np.log(self.levels), self.levels**2 * values)
        return torch.from_numpy(np.asarray(found))
