r"""Mode gains $G_k = v\cdot(dD/dx)\,v$ along unit Fourier modes, by closed form, central difference or forward-mode AD.

All three return [batch, shell, axis]; the cosine and the sine of a shell are averaged. On a multi-channel state a mode
moves all channels together.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import Denoiser, ExactDenoiser, per_sample
from softmode.lattice import Lattice
from softmode.process import VP


def exact_gains(
    denoiser: ExactDenoiser, x: Tensor, sigma: Tensor | float, shells: int
) -> Float[Tensor, "batch shell axis"]:
    """Return the gains of shells 0..shells from the denoiser's closed form.

    Args:
        denoiser: A denoiser with a `dispersion` method.
        x: States in EDM coordinates [batch, channel, *space].
        sigma: Noise level, scalar or [batch].
        shells: Highest shell.

    Source: paper Eq. 7 and the line below it.
    """
    return denoiser.dispersion(x, sigma, Lattice.of(x).shell_vectors(shells))


def paper_step(sigma: Tensor | float) -> Tensor:
    r"""Return the paper's adaptive difference step in EDM coordinates, $\max(5\cdot10^{-5}, 10^{-3}s^2)/\alpha$.

    The VP state's $s^2 = \sigma^2/(1+\sigma^2)$ and $\alpha^2 = 1/(1+\sigma^2)$; the step is the largest displacement
    of a site.

    Source: paper E.8.
    """
    vp = VP()
    t = vp.time(sigma)
    return (1e-3 * vp.sigma(t).square()).clamp(min=5e-5) / vp.alpha(t)


def difference_gains(
    denoiser: Denoiser,
    x: Tensor,
    sigma: Tensor | float,
    shells: int,
    step: Tensor | float | None = None,
) -> Float[Tensor, "batch shell axis"]:
    r"""Return the gains of shells 0..shells by central differences.

    $G = v\cdot[D(x+\epsilon v) - D(x-\epsilon v)]/(2\epsilon\,v\cdot v)$.

    Args:
        denoiser: Any denoiser.
        x: States in EDM coordinates [batch, channel, *space].
        sigma: Noise level, scalar or [batch].
        shells: Highest shell.
        step: Largest displacement of a site in EDM coordinates, scalar or [batch]; `paper_step(sigma)` when omitted.
            The error is of second order in it: about 1e-4 relative on a 5x5 patch model at the paper's step.

    Source: paper Eq. 64, divided by v.v (as printed it is unnormalised).
    """
    step = per_sample(paper_step(sigma) if step is None else step, x).to(x.dtype)

    def response(mode: Tensor) -> Tensor:
        peak = math.sqrt((1 if bool((mode == mode.flatten()[0]).all()) else 2) / mode.numel())
        shift = step * mode / peak
        return (denoiser(x + shift, sigma) - denoiser(x - shift, sigma)) * (peak / (2 * step))

    return _project(response, x, shells)


def jvp_gains(denoiser: Denoiser, x: Tensor, sigma: Tensor | float, shells: int) -> Float[Tensor, "batch shell axis"]:
    """Return the gains of shells 0..shells by forward-mode automatic differentiation of the denoiser.

    Args:
        denoiser: Any denoiser that forward-mode AD can go through.
        x: States in EDM coordinates [batch, channel, *space].
        sigma: Noise level, scalar or [batch].
        shells: Highest shell.
    """

    def response(mode: Tensor) -> Tensor:
        tangent: Tensor = torch.func.jvp(lambda z: denoiser(z, sigma), (x,), (mode.expand_as(x),))[1]
        return tangent

    return _project(response, x, shells)


def _project(response: Callable[[Tensor], Tensor], x: Tensor, shells: int) -> Tensor:
    """Return v.response(v) for every unit mode, the two phases averaged."""
    modes = Lattice.of(x).modes(shells, x.dtype, x.device)
    gains = x.new_empty(x.shape[0], *modes.shape[:3])
    for n in range(modes.shape[0]):
        for axis in range(modes.shape[1]):
            for phase in range(2):
                if n == 0 and (axis, phase) != (0, 0):
                    gains[:, 0, axis, phase] = gains[:, 0, 0, 0]
                    continue
                mode = modes[n, axis, phase]
                # the mode spread over channels has norm sqrt(channel): divide once by its square
                gains[:, n, axis, phase] = (mode * response(mode)).flatten(1).sum(1) / x.shape[1]
    return gains.mean(-1)
