r"""A denoiser around the Gaussian model of its data: the network adds what is not Gaussian."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import per_sample
from softmode.exact.gaussian import GaussianDenoiser

# largest |D_G| of which log-odds are taken
SURE = 0.98

Network = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Preconditioned:
    r"""The denoiser $D = D_G(x) + c_\mathrm{out} F(c_\mathrm{in} x, c_\mathrm{noise})$ around a Gaussian one, $D_G$.

    karras2022 has $D_G = c_\mathrm{skip} x$, which is the Wiener filter of white data. With the spectrum of the data
    instead, $c_\mathrm{out}$ is still the least that can be, and D is right from the start where noise hides all but
    the Gaussian part of the data.

    Args:
        network: F, called with scaled states and what stands for their noise levels, [batch].
        null: The Gaussian model.
        sigma_data: Standard deviation of the data.
        binary: Whether the data are +-1. Then $D = \tanh(h)$, and the network adds to the log-odds h instead: those of
            $D_G$, and a site's own evidence $x/\sigma^2$ where noise is too low for the Gaussian model to hold it.

    Source: karras2022 (Eq. 7, Table 1), whose data are white.
    """

    network: Network
    null: GaussianDenoiser
    sigma_data: float
    binary: bool = False

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x_0 | x], of the shape of x."""
        level = per_sample(sigma, x).flatten().expand(len(x))
        out, into, embedded = (value.to(x.dtype) for value in scales(level, self.null, self.sigma_data))
        wide = -1, *[1] * (x.ndim - 1)
        gaussian, added = self.null(x, sigma), self.network(into.reshape(wide) * x, embedded)
        if not self.binary:
            return gaussian + out.reshape(wide) * added
        own = (1 / (level.square() * (1 + level**4))).to(x.dtype).reshape(wide)
        return torch.tanh(own * x + gaussian.clamp(-SURE, SURE).atanh() + added)


def scales(
    sigma: Float[Tensor, " batch"], null: GaussianDenoiser, sigma_data: float
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    r"""Return $c_\mathrm{out}, c_\mathrm{in}, c_\mathrm{noise}$.

    $c_\mathrm{out}^2$ is the mean over modes of the square error of the Gaussian model, $S_k\sigma^2/(S_k+\sigma^2)$.
    $c_\mathrm{noise} = 4\log\sigma$ instead of karras2022's quarter of the logarithm, since the highest frequency of
    the embedding of F.3 is 1: with a quarter it is a straight line from the least noise to the most.

    Source: karras2022 (Table 1).
    """
    error = null.gain(sigma).flatten(1).mean(1) * sigma.square()
    return error.sqrt(), (sigma.square() + sigma_data**2).rsqrt(), 4 * sigma.log()


def white(shape: tuple[int, ...], sigma_data: float) -> GaussianDenoiser:
    """Return the Gaussian model of white data without a mean, whose denoiser is karras2022's c_skip x."""
    return GaussianDenoiser(torch.full(shape, sigma_data**2, dtype=torch.float64))
