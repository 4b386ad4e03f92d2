"""The Gaussian model with any power spectrum: the null model, which softens without any transition."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import per_sample
from softmode.lattice import Lattice
from softmode.observe.gains import mode_field


@dataclass(frozen=True, eq=False)
class GaussianDenoiser:
    r"""Exact denoiser of a stationary Gaussian field: the Wiener filter.

    $\hat D_k = \hat m_k + \frac{S_k}{S_k+\sigma^2}(\hat x_k - \hat m_k)$.

    Args:
        spectrum: Variance S_k >= 0 of the data along each unit Fourier mode, [*space] in the order of `torch.fft.fftn`,
            with S_k = S_{-k}. White data of variance s^2 have S_k = s^2.
        mean: Mean field, broadcast against states [batch, channel, *space].

    Raises:
        ValueError: If the spectrum is negative, not finite or not even in k.

    The gain is S_k / (S_k + sigma^2) at every state: it bounds the mean gain of any model with this spectrum.
    Source: Wiener filter; the bound is MMSE <= linear MMSE.
    """

    spectrum: Float[Tensor, "*space"]
    mean: Tensor | float = 0.0

    def __post_init__(self) -> None:
        spectrum = self.spectrum
        if not bool(torch.isfinite(spectrum).all()) or bool((spectrum < 0).any()):
            raise ValueError("spectrum: got a negative or non-finite value; expected variances S_k >= 0")
        axes = tuple(range(spectrum.ndim))
        mirrored = spectrum.flip(axes).roll((1,) * spectrum.ndim, axes)
        if not torch.allclose(spectrum, mirrored, rtol=1e-5, atol=1e-6 * float(spectrum.max())):
            raise ValueError("spectrum: got S_k != S_{-k}; a real field needs a spectrum even in k")

    def gain(self, sigma: Tensor | float) -> Tensor:
        """Return S_k / (S_k + sigma^2) at every wave vector, [*space], or [batch, *space] for sigma [batch]."""
        sigma = torch.as_tensor(sigma, dtype=torch.float64, device=self.spectrum.device)
        variance = sigma.square().reshape(*sigma.shape, *[1] * self.spectrum.ndim)
        return self.spectrum / (self.spectrum + variance)

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x_0 | x], of the shape of x."""
        mean = torch.as_tensor(self.mean).to(x)
        return mean + self.jvp(x, sigma, x - mean)

    def log_density(self, x: Tensor, sigma: Tensor | float) -> Float[Tensor, " batch"]:
        r"""Return $-\frac12\sum_k |\hat x_k - \hat m_k|^2/(S_k + \sigma^2)$, the log-density up to a constant."""
        axes = tuple(range(-self.spectrum.ndim, 0))
        waves = torch.fft.fftn(x - torch.as_tensor(self.mean).to(x), dim=axes, norm="ortho").abs().square()
        variance = self.spectrum + per_sample(sigma, x).square()
        return -0.5 * (waves / variance.to(x)).flatten(1).sum(1)

    def jvp(self, x: Tensor, sigma: Tensor | float, v: Tensor) -> Tensor:
        """Return (dD/dx) v, the Wiener filter applied to v; the state x does not matter."""
        gain = self.gain(per_sample(sigma, x).flatten()).unsqueeze(1).to(x)
        axes = tuple(range(-self.spectrum.ndim, 0))
        filtered: Tensor = torch.fft.ifftn(gain * torch.fft.fftn(v, dim=axes), dim=axes).real
        return filtered.expand_as(x)

    def dispersion(self, x: Tensor, sigma: Tensor | float, k: Tensor) -> Tensor:
        """Return the gain at lattice wave vectors k [..., d], [batch, ...]."""
        index = Lattice(tuple(self.spectrum.shape)).index_of(k)
        where: tuple[slice | Tensor, ...] = (slice(None), *index)
        gain = self.gain(per_sample(sigma, x).flatten())[where]
        return gain.expand(x.shape[0], *gain.shape[1:])

    def sample(self, trajectories: int, generator: torch.Generator | None = None, channels: int = 1) -> Tensor:
        """Draw independent fields from the model, [trajectories, channels, *space] in the spectrum's dtype."""
        shape = (trajectories, channels, *self.spectrum.shape)
        noise = torch.randn(shape, generator=generator, dtype=self.spectrum.dtype, device=self.spectrum.device)
        axes = tuple(range(-self.spectrum.ndim, 0))
        coloured: Tensor = torch.fft.ifftn(self.spectrum.sqrt() * torch.fft.fftn(noise, dim=axes), dim=axes).real
        return self.mean + coloured


def power_spectrum(fields: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "*space"]:
    """Return the variance S_k of fields along each unit Fourier mode, their mean field removed, [*space].

    Args:
        fields: Data [batch, channel, *space], at least two; channels are averaged.

    Raises:
        ValueError: If there are fewer than two fields.
    """
    if fields.shape[0] < 2:
        raise ValueError(f"fields: got {fields.shape[0]}; expected at least two, a variance needs them")
    axes = tuple(range(2, fields.ndim))
    waves = torch.fft.fftn(fields - fields.mean(0), dim=axes, norm="ortho")
    unbiased = fields.shape[0] / (fields.shape[0] - 1)
    return waves.abs().square().mean((0, 1)) * unbiased


def null_model(images: Float[Tensor, "image channel *space"]) -> GaussianDenoiser:
    """Return the Gaussian model of some data, at least two; of colours, with the luminance's spectrum."""
    images = images.double()
    return GaussianDenoiser(power_spectrum(mode_field(images)), images.mean(0))
