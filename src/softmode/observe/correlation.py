"""Spatial correlations along a trajectory: correlation functions, their lengths, structure factors."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.lattice import Lattice
from softmode.observe.state import State, Variable

LUMINANCE = (0.2989, 0.5870, 0.1140)
Portion = Literal["cut", "clip"]
# number of sites up to which a float32 FFT gives sums of products of signs to much better than 1/2
ROUNDABLE_IN_FLOAT32 = 2**16


def scalar_fields(x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch field *space"]:
    """Return the luminance of RGB states, and the channels of any other state as they are.

    Source: paper G.3.
    """
    if x.shape[1] != 3:
        return x
    weights = torch.tensor(LUMINANCE, dtype=x.dtype, device=x.device)
    return torch.tensordot(x, weights, dims=([1], [0])).unsqueeze(1)


def autocorrelation(fields: Float[Tensor, "batch field *space"]) -> Float[Tensor, "batch *space"]:
    r"""Return $C(r) = \frac1N\sum_i f_i f_{i+r}$ for every lattice vector r, averaged over fields, by FFT.

    Source: paper Eq. 62.
    """
    axes = tuple(range(2, fields.ndim))
    power = _power(torch.fft.rfftn(fields, dim=axes))
    sites = fields[0, 0].numel()
    correlation: Tensor = torch.fft.irfftn(power, s=fields.shape[2:], dim=tuple(a - 1 for a in axes)) / sites
    return correlation


def _power(waves: Tensor) -> Tensor:
    """Return |waves|^2 averaged over fields, without the root that abs() takes."""
    power = waves.real.square() + waves.imag.square()
    return power[:, 0] if power.shape[1] == 1 else power.mean(1)


@lru_cache(maxsize=16)
def _shells_of_distance(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the sites sorted by integer distance up to half the shortest axis, and the number at each distance."""
    bins = Lattice(shape).radial_bins().flatten()
    farthest = min(shape) // 2
    order = torch.argsort(bins, stable=True)
    order = order[: int((bins <= farthest).sum())]
    return order.to(device), torch.bincount(bins[order], minlength=farthest + 1).to(device)


def radial_average(correlation: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch distance"]:
    """Return C averaged over sites at each integer distance r = 0, 1, ..., L/2 (rounded minimal-image distance).

    Source: paper E.6.
    """
    order, counts = _shells_of_distance(tuple(correlation.shape[1:]), correlation.device)
    # a segmented mean over sorted sites, unlike a scatter, adds up in the same order on every device
    values = correlation.flatten(1).index_select(1, order)
    return torch.segment_reduce(values, "mean", lengths=counts.expand(len(values), -1).contiguous(), axis=1)


def sign_correlation(x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch distance"]:
    """Return the radially averaged correlation function of sign(x), [batch, L/2 + 1] in float64.

    Source: paper Eqs. 61 and 62.
    """
    signs = scalar_fields(x).sign()
    sites = signs[0].numel()
    if sites > ROUNDABLE_IN_FLOAT32:
        signs = signs.double()
    # sums of products of signs are integers: rounding removes the FFT's error, so that a zero of C(r) is exactly zero
    return radial_average((autocorrelation(signs) * sites).round().double()) / sites


def connected_correlation(x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch distance"]:
    """Return the radially averaged correlation of the field minus its spatial mean, [batch, L/2 + 1].

    Source: paper G.3; RGB states enter through their luminance.
    """
    fields = scalar_fields(x)
    return radial_average(autocorrelation(fields - fields.mean(tuple(range(2, x.ndim)), keepdim=True)))


def positive_portion(correlation: Float[Tensor, "*batch distance"], portion: Portion = "cut") -> Tensor:
    """Return C(r) up to its first zero crossing (`cut`), or with negative values set to zero (`clip`), else zero.

    The paper's "positive portion" can mean either; clipping keeps the positive half of the noise at large r, which at
    L = 80 gives white noise a first-moment length of about 0.47 where cutting gives about 0.

    Source: paper E.6, the line above Eq. 63.
    """
    if portion == "clip":
        return correlation.clamp(min=0)
    return correlation * (correlation > 0).cummin(-1).values


def first_moment_length(
    correlation: Float[Tensor, "*batch distance"], portion: Portion = "cut"
) -> Float[Tensor, "*batch"]:
    r"""Return $\xi_x = \sum_r r\,C(r)/\sum_r C(r)$ over the positive portion (sites); NaN where empty.

    Source: paper Eq. 63.
    """
    positive = positive_portion(correlation, portion)
    r = torch.arange(positive.shape[-1], dtype=positive.dtype, device=positive.device)
    return positive @ r / positive.sum(-1)


def second_moment_length(
    correlation: Float[Tensor, "*batch distance"], portion: Portion = "cut"
) -> Float[Tensor, "*batch"]:
    r"""Return $\xi_x = \sqrt{\sum_r r^2 C(r)/\sum_r C(r)}$ over the positive portion (sites).

    The sum over *all* lattice vectors of a connected correlation is zero identically, hence the positive portion.

    Source: paper G.3.
    """
    positive = positive_portion(correlation, portion)
    r = torch.arange(positive.shape[-1], dtype=positive.dtype, device=positive.device)
    return (positive @ r.square() / positive.sum(-1)).sqrt()


def structure_factor(x: Float[Tensor, "batch channel *space"], shells: int) -> Float[Tensor, "batch shell axis"]:
    r"""Return $S(k) = |\hat x_k|^2/N$ of shells 0..shells along each axis, averaged over fields."""
    axes = tuple(range(2, x.ndim))
    power = _power(torch.fft.fftn(scalar_fields(x), dim=axes, norm="ortho"))
    lattice = Lattice.of(x)
    where: tuple[slice | Tensor, ...] = (slice(None), *lattice.index_of(lattice.shell_vectors(shells)))
    return power[where]


def structure_length(at_zero: Tensor, at_k_min: Tensor, k_min: float) -> Tensor:
    r"""Return the second-moment length $\xi = \frac{1}{2\sin(k_{\min}/2)}\sqrt{S(0)/S(k_{\min}) - 1}$ (sites).

    Args:
        at_zero: S(0), averaged over trajectories first: the ratio of single-trajectory values is biased.
        at_k_min: S(k_min), of the same shape.
        k_min: Smallest wavenumber (radians per site).

    Returns:
        Lengths of that shape; NaN where S(0) < S(k_min).

    Source: cooper1982, the standard second-moment estimator on a periodic lattice.
    """
    return (at_zero / at_k_min - 1).sqrt() / (2 * math.sin(0.5 * k_min))


@dataclass(frozen=True)
class SignCorrelation:
    """The correlation function of sign(x)."""

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Description of what it returns."""
        return {"sign_correlation": Variable(("distance",), "C(r) of sign(x)", "1", "Eq. 62")}

    def __call__(self, state: State) -> Mapping[str, Tensor]:
        """Return C(r) of every trajectory."""
        return {"sign_correlation": sign_correlation(state.x)}


@dataclass(frozen=True)
class SignLength:
    """The correlation length of sign(x).

    Args:
        portion: Positive portion of C(r) in Eq. 63.
    """

    portion: Portion = "cut"

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Description of what it returns."""
        return {"xi_sign": Variable((), "correlation length xi_x of sign(x)", "site", "Eq. 63")}

    def __call__(self, state: State) -> Mapping[str, Tensor]:
        """Return the length of every trajectory."""
        return {"xi_sign": first_moment_length(sign_correlation(state.x), self.portion)}


@dataclass(frozen=True)
class SecondMoment:
    """The second-moment correlation length of x.

    Args:
        portion: Positive portion of the connected C(r).
    """

    portion: Portion = "cut"

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Description of what it returns."""
        return {"xi_moment": Variable((), "second-moment correlation length of x", "site", "G.3", "state")}

    def __call__(self, state: State) -> Mapping[str, Tensor]:
        """Return the length of every trajectory."""
        return {"xi_moment": second_moment_length(connected_correlation(state.x), self.portion)}


@dataclass(frozen=True)
class StructureFactor:
    """The structure factor of shells 0..shells along each axis.

    Args:
        shells: Highest shell.
    """

    shells: int

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Description of what it returns."""
        what = "structure factor |x_k|^2 / N"
        return {"structure_factor": Variable(("shell", "axis"), what, "1", "|x_k|^2 / N", "state")}

    def __call__(self, state: State) -> Mapping[str, Tensor]:
        """Return S(k) of every trajectory."""
        return {"structure_factor": structure_factor(state.x, self.shells)}
