r"""Structure of the denoiser's Jacobian $J = dD/dx$ at a state: range, symmetry, equivariance, oddness.

From a few probes by random signs, without automatic differentiation and so for any denoiser. Everything is per state.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import Denoiser, per_sample
from softmode.lattice import Lattice
from softmode.observe.correlation import radial_average
from softmode.observe.gains import paper_step


def random_signs(
    x: Float[Tensor, "batch channel *space"], count: int, generators: Sequence[torch.Generator]
) -> Float[Tensor, "probe batch channel *space"]:
    """Draw independent fields of ±1 in the dtype and on the device of x.

    Args:
        x: States; only their shape, dtype and device matter.
        count: Number of probes of each state.
        generators: One per state on x's device, so that a state's signs do not depend on how states are batched.

    Raises:
        ValueError: If there is not one generator per state.
    """
    if len(generators) != len(x):
        raise ValueError(f"generators: got {len(generators)}; expected one per state, {len(x)}")
    shape = (count, *x.shape[1:])
    rows = [torch.randint(2, shape, generator=g, dtype=x.dtype, device=x.device) for g in generators]
    return 2 * torch.stack(rows, 1) - 1


def responses(
    denoiser: Denoiser,
    x: Float[Tensor, "batch channel *space"],
    sigma: Tensor | float,
    signs: Float[Tensor, "probe batch channel *space"],
    step: Tensor | float | None = None,
) -> Float[Tensor, "probe batch channel *space"]:
    r"""Return $Jz$ of each probe z by central differences, $[D(x+\epsilon z) - D(x-\epsilon z)]/(2\epsilon)$.

    Costs two network evaluations per probe.

    Args:
        denoiser: Any denoiser.
        x: States in EDM coordinates [batch, channel, *space].
        sigma: Noise level, scalar or [batch].
        signs: Probes z of entries ±1.
        step: Displacement of every site in EDM coordinates, scalar or [batch]; `paper_step(sigma)` when omitted.
    """
    step = per_sample(paper_step(sigma) if step is None else step, x).to(x.dtype)
    return torch.stack([(denoiser(x + step * z, sigma) - denoiser(x - step * z, sigma)) / (2 * step) for z in signs])


def response_kernel(
    signs: Float[Tensor, "probe batch channel *space"], responses: Float[Tensor, "probe batch channel *space"]
) -> Float[Tensor, "probe batch *space"]:
    r"""Return $K(u) = \frac{1}{NC}\sum_{i,c} r_{i,c}\,z_{i+u,c}$ of each probe z and its response r, by FFT.

    Its expectation is the translation average of $\partial D_i/\partial x_{i+u}$, the response at i to a push at i+u,
    averaged over channels (each to itself). Costs no network evaluation.

    Args:
        signs: Probes of entries ±1.
        responses: Their responses.
    """
    axes = tuple(range(3, signs.ndim))
    waves = torch.fft.rfftn(responses, dim=axes).conj() * torch.fft.rfftn(signs, dim=axes)
    kernel: Tensor = torch.fft.irfftn(waves.mean(2), s=signs.shape[3:], dim=tuple(a - 1 for a in axes))
    return kernel / Lattice.of(signs[0]).sites


class Locality(NamedTuple):
    r"""Range and symmetry of the Jacobian at each state, each field an unbiased estimate.

    Ratios of them are not: average over states first.

    Attributes:
        kernel: K averaged over sites u at each integer distance 0, 1, ..., L/2, [batch, distance].
        total: $\sum_u K(u)$, [batch]. For a translation-invariant J its relative standard error from P probes is
            about $\sqrt{2/P}$ however large the lattice; on one channel it is the gain of shell 0, which
            `difference_gains` gives without this noise in two evaluations.
        square: $\sum_u K(u)^2$, [batch].
        spread: $\sum_u |u|^2 K(u)^2$ with the minimal-image distance |u|, [batch].
        symmetric: $\|(J+J^T)/2\|_F^2$ over all sites and channels, [batch].
        antisymmetric: $\|(J-J^T)/2\|_F^2$, [batch]; zero for a posterior mean given the whole state, whose J is a
            covariance over sigma^2, but not for a patch model's, whose sites see different parts of the state.
    """

    kernel: Tensor
    total: Tensor
    square: Tensor
    spread: Tensor
    symmetric: Tensor
    antisymmetric: Tensor


def locality(
    signs: Float[Tensor, "probe batch channel *space"], responses: Float[Tensor, "probe batch channel *space"]
) -> Locality:
    r"""Estimate the Jacobian's range and symmetry from probes and their responses.

    Quadratic quantities are means over pairs of different probes a, b, which removes the bias of the probes' noise:
    $K(u)^2$ by $K_a(u)K_b(u)$, and, since $E[(z_a\cdot Az_b)^2] = \|A\|_F^2$ for independent random signs and any
    matrix A, the norms by $[(z_a\cdot r_b \pm z_b\cdot r_a)/2]^2$. Costs no network evaluation.

    Args:
        signs: Independent probes of entries ±1, at least two.
        responses: Their responses.

    Raises:
        ValueError: If there are fewer than two probes.

    Source: paper C.1, locality.
    """
    if len(signs) < 2:
        raise ValueError(f"signs: got {len(signs)} probe; expected at least two, a square needs independent factors")
    kernels = response_kernel(signs, responses)
    flat = kernels.flatten(2)
    squared_distance = Lattice.of(signs[0]).distances().square().flatten().to(flat)
    forms = torch.einsum("pbi,qbi->bpq", signs.flatten(2), responses.flatten(2))
    return Locality(
        kernel=radial_average(kernels.mean(0)),
        total=flat.sum(-1).mean(0),
        square=_pair_mean(torch.einsum("pbu,qbu->bpq", flat, flat)),
        spread=_pair_mean(torch.einsum("pbu,qbu->bpq", flat * squared_distance, flat)),
        symmetric=_pair_mean(((forms + forms.mT) / 2).square()),
        antisymmetric=_pair_mean(((forms - forms.mT) / 2).square()),
    )


def _pair_mean(values: Float[Tensor, "batch probe probe"]) -> Float[Tensor, " batch"]:
    """Return the mean over pairs of different probes."""
    different = ~torch.eye(values.shape[-1], dtype=torch.bool, device=values.device)
    return values[:, different].mean(1)


def effective_omega(total: Float[Tensor, "*any"], square: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    r"""Return the participation number $(\sum_u K)^2/\sum_u K^2$ of the response kernel (sites); NaN if square <= 0.

    It is |Omega| for a flat kernel on Omega, such as the two-state patch model's; for other kernels it is not
    `PatchDictionary.omega_eff`.

    Args:
        total: `Locality.total`, averaged over states first.
        square: `Locality.square`, averaged over states first.
    """
    return torch.where(square > 0, total.square() / square, torch.nan)


def effective_radius(spread: Float[Tensor, "*any"], square: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    r"""Return $\sqrt{\sum_u |u|^2 K^2/\sum_u K^2}$ of the response kernel (sites); NaN if square <= 0 or spread < 0.

    Args:
        spread: `Locality.spread`, averaged over states first.
        square: `Locality.square`, averaged over states first.
    """
    return torch.where(square > 0, spread / square, torch.nan).sqrt()


def equivariance_error(
    denoiser: Denoiser,
    x: Float[Tensor, "batch channel *space"],
    sigma: Tensor | float,
    shifts: Sequence[tuple[int, ...]],
) -> Float[Tensor, " batch"]:
    r"""Return $\sqrt{\langle\|D(\tau_a x) - \tau_a D(x)\|^2\rangle_a}\,/\,\|D(x)\|$, 0 for an equivariant denoiser.

    Costs one network evaluation per shift and one more. Not finite where D(x) = 0.

    Args:
        denoiser: Any denoiser.
        x: States in EDM coordinates [batch, channel, *space].
        sigma: Noise level, scalar or [batch].
        shifts: Translations a to average over, in sites, one integer per axis: $(\tau_a x)_i = x_{i-a}$, periodic.

    Raises:
        ValueError: If there is no shift, or one has not one integer per axis.

    Source: paper C.1, translation equivariance.
    """
    axes = tuple(range(2, x.ndim))
    if not shifts or any(len(a) != len(axes) for a in shifts):
        raise ValueError(f"shifts: got {list(shifts)}; expected at least one, each of {len(axes)} integers")
    denoised = denoiser(x, sigma)
    errors = [_norm(denoiser(x.roll(a, axes), sigma) - denoised.roll(a, axes)) for a in shifts]
    return torch.stack(errors).square().mean(0).sqrt() / _norm(denoised)


def oddness_error(
    denoiser: Denoiser, x: Float[Tensor, "batch channel *space"], sigma: Tensor | float
) -> Float[Tensor, " batch"]:
    r"""Return $\|D(-x) + D(x)\|\,/\,2\|D(x)\|$: 0 for an odd denoiser, 1 for an even one.

    The score $s = (D - x)/\sigma^2$ is odd, $s(-x) = -s(x)$, exactly when the denoiser is. Costs two network
    evaluations. Not finite where D(x) = 0.

    Args:
        denoiser: Any denoiser.
        x: States in EDM coordinates [batch, channel, *space].
        sigma: Noise level, scalar or [batch].

    Source: paper C.1, Z2 symmetry.
    """
    denoised = denoiser(x, sigma)
    return _norm(denoiser(-x, sigma) + denoised) / (2 * _norm(denoised))


def _norm(fields: Tensor) -> Float[Tensor, " batch"]:
    """Return the Euclidean norm of each state."""
    return fields.flatten(1).norm(dim=1)
