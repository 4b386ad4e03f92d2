r"""Information about a label in a noised sample, from the denoisers of its values.

$I(Z; X_\sigma)$ of K equally likely values, by the likelihood of noising paths, which is bounded by log K, and by the
two square-error forms of I-MMSE, which subtract large numbers and check the denoiser without a label.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from softmode.denoiser import Denoiser
from softmode.lattice import Lattice

Data = Float[Tensor, "image channel *space"]
Fill = Callable[[Tensor], Tensor]


def noising_path(x: Data, levels: Float[Tensor, " level"], fill: Fill) -> Tensor:
    """Return samples noised along Brownian paths, [level, image, channel, *space], in double precision.

    Args:
        x: Clean samples.
        levels: Falling noise levels.
        fill: Overwrites a tensor with standard normal numbers, such as `TrajectoryNoise.fill_`.
    """
    states, below = [], 0.0
    state = x.double()
    for level in reversed(levels.tolist()):
        state = state + math.sqrt(level**2 - below**2) * fill(torch.empty_like(state))
        below = level
        states.append(state)
    return torch.stack(states[::-1])


def first_log_likelihood(
    x: Float[Tensor, "image channel *space"], denoised: Float[Tensor, "image label channel *space"], sigma: float
) -> Float[Tensor, "image label"]:
    """Return the log-likelihood of a path's first state under each value of a label, at a noise level beyond the data.

    D_z stands for the mean of the data of z there; what is left out is of the order of their variance over sigma^2.

    Args:
        x: States at the highest noise level, in double precision.
        denoised: D_z of these.
        sigma: The level.
    """
    return -(x[:, None] - denoised.double()).flatten(2).square().sum(2) / (2 * sigma**2)


def path_log_likelihood(
    above: Float[Tensor, "image channel *space"],
    below: Float[Tensor, "image channel *space"],
    denoised: Float[Tensor, "image label channel *space"],
    high: float,
    low: float,
) -> Float[Tensor, "image label"]:
    r"""Return the log-likelihood of a step of a noising path, seen backwards, under each value of a label.

    Under a value z the lower state is normal, up to the step's width, with mean $r x + (1-r) D_z(x)$ and variance
    $\sigma_\mathrm{lo}^2(1-r)$ per site, $r = (\sigma_\mathrm{lo}/\sigma_\mathrm{hi})^2$. What all values have in
    common is left out.

    Args:
        above: States at the higher level, in double precision.
        below: States of the same paths at the lower level.
        denoised: D_z of the higher states.
        high: The higher noise level.
        low: The lower one.

    Source: the reverse chain of ho2020 (Eq. 7) for x = x_0 + sigma eps, with the posterior mean of each class.
    """
    r = (low / high) ** 2
    means = r * above[:, None] + (1 - r) * denoised.double()
    return -(below[:, None] - means).flatten(2).square().sum(2) / (2 * low**2 * (1 - r))


def path_log_posterior(
    denoisers: Sequence[Denoiser],
    path: Float[Tensor, "level image channel *space"],
    levels: Float[Tensor, " level"],
    on_level: Callable[[], None] = lambda: None,
) -> Float[Tensor, "level image label"]:
    r"""Return the log-posterior of each value of a label, given a noising path down to each level.

    The values are equally likely at the first level. It can be differentiated by a path that carries a gradient, at the
    cost of each denoiser's call once more; memory stays that of one call and of the states.

    Args:
        denoisers: Of each value of the label.
        path: States of `noising_path`, in double precision.
        levels: Their falling noise levels.
        on_level: Called after each level.
    """
    asked = torch.is_grad_enabled() and path.requires_grad
    logits = [torch.zeros(path.shape[1], len(denoisers), dtype=torch.float64, device=path.device)]
    with torch.set_grad_enabled(asked):
        for i, (high, low) in enumerate(itertools.pairwise(levels.tolist())):
            state = path[i].float()
            denoised = [
                checkpoint(denoiser, state, high, use_reentrant=False) if asked else denoiser(state, high)
                for denoiser in denoisers
            ]
            logits.append(logits[-1] + path_log_likelihood(path[i], path[i + 1], torch.stack(denoised, 1), high, low))
            on_level()
        return torch.stack(logits).log_softmax(-1)


def label_information(log_posterior: Float[Tensor, "*any label"]) -> Float[Tensor, "*any"]:
    """Return log K minus the entropy of each posterior, in nats: its mean is the information, at most log K."""
    plogp = torch.special.xlogy(log_posterior.exp(), log_posterior.exp())
    return math.log(log_posterior.shape[-1]) + plogp.sum(-1)


def label_score(log_posterior: Float[Tensor, "level image label"], labels: Tensor) -> Float[Tensor, "level image"]:
    """Return log K + log q(true label): its mean equals the information where the posterior is calibrated."""
    index = labels.expand(len(log_posterior), -1)[..., None]
    return math.log(log_posterior.shape[-1]) + log_posterior.gather(-1, index)[..., 0]


def square_error_rates(
    x: Data, given: Data, without: Data, sigma: float
) -> tuple[Float[Tensor, " image"], Float[Tensor, " image"]]:
    r"""Return $|D(x, z) - D(x)|^2/\sigma^2$ and $(|x_0 - D(x)|^2 - |x_0 - D(x, z)|^2)/\sigma^2$ of each image.

    Both have the mean $dI(Z; X_\sigma)/d(-\log\sigma)$ for an exact pair of denoisers.

    Args:
        x: Clean samples x_0.
        given: D(x, z) at their noised states.
        without: D(x) there.
        sigma: Noise level.

    Source: guo2005.
    """
    difference = (given - without).flatten(1).double().square().sum(1)
    gained = (x - without).flatten(1).double().square().sum(1) - (x - given).flatten(1).double().square().sum(1)
    return difference / sigma**2, gained / sigma**2


def error_power(x: Data, denoised: Data, sigma: float, bands: Int[Tensor, "*space"]) -> Float[Tensor, "image band"]:
    r"""Return $\sum_k |\hat x_{0,k} - \hat D_k|^2/\sigma^2$ over the Fourier modes of each band, for each image.

    Its mean over images is the information about the sample that those modes gain per unit of $-\log\sigma$, in nats.
    The bands add up to $|x_0 - D(x)|^2/\sigma^2$ (Parseval).

    Args:
        x: Clean samples x_0.
        denoised: D of their noised states.
        sigma: Noise level.
        bands: Band of each mode, in the order of `torch.fft.fftn`; see `wave_bands`.

    Source: guo2005.
    """
    axes = tuple(range(2, x.ndim))
    power = torch.fft.fftn((x - denoised).double(), dim=axes, norm="ortho").abs().square().sum(1).flatten(1)
    found = power.new_zeros(len(x), int(bands.max()) + 1)
    return found.index_add_(1, bands.flatten().to(power.device), power) / sigma**2


def wave_bands(shape: Sequence[int]) -> Int[Tensor, "*space"]:
    """Return the band of each Fourier mode of a lattice: its wavenumber in units of the lowest, rounded."""
    lattice = Lattice(tuple(shape))
    return (lattice.wave_vectors().norm(dim=-1) / min(lattice.k_min)).round().long()
