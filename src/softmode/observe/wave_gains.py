r"""The gain of every Fourier mode of a field from one push, diagonal waves too: $G_k = v_k\cdot(dD/dx)\,v_k$."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import Denoiser


def wave_gains(
    denoiser: Denoiser,
    x: Float[Tensor, "batch channel *space"],
    sigma: Tensor | float,
    noise: Float[Tensor, "batch channel *space"],
) -> Float[Tensor, "batch *space"]:
    r"""Return an unbiased estimate of the gain at every wave vector, the cosine and the sine of each averaged.

    All modes are pushed at once, each with a random phase $\varphi_k$, and the response is projected back on each,
    $\hat G_k = \mathrm{Re}\,\varphi_k^* (J\varphi)_k$. What other modes add to it averages to zero over phases.
    It takes one product with the Jacobian, by forward differentiation.

    Args:
        denoiser: Any denoiser that forward-mode AD can go through.
        x: States in EDM coordinates. All channels are pushed alike.
        sigma: Noise level, scalar or [batch].
        noise: Normal numbers, whose phases are taken from the first channel.

    Returns:
        Gains in the order of `torch.fft.fftn`, the same at k and at -k.

    Source: paper Eq. 64 for every wave vector; hutchinson1990, in Fourier space.
    """
    axes, channels = tuple(range(1, x.ndim - 1)), math.sqrt(x.shape[1])
    waves = torch.fft.fftn(noise[:, 0].double(), dim=axes)
    phases = waves / waves.abs()
    push = torch.fft.ifftn(phases, dim=axes, norm="ortho").real / channels
    field = push[:, None].expand(x.shape).to(x.dtype)
    with torch.no_grad():
        answer: Tensor = torch.func.jvp(lambda z: denoiser(z, sigma), (x,), (field,))[1]
    response = torch.fft.fftn(answer.double().sum(1) / channels, dim=axes, norm="ortho")
    return (response * phases.conj()).real.to(x.dtype)
