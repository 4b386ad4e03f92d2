r"""Information about a label in a noised sample, from the denoisers of its values.

$I(Z; X_\sigma)$ of K equally likely values, by the likelihood of noising paths, which is bounded by log K, and by the
two square-error forms of I-MMSE, which subtract large numbers and check the denoiser without a label.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import Denoiser

Data = Float[Tensor, "image channel *space"]


def noising_path(x: Data, levels: Float[Tensor, " level"], generator: torch.Generator) -> Tensor:
    """Return samples noised along Brownian paths, [level, image, channel, *space].

    Args:
        x: Clean samples.
        levels: Falling noise levels.
        generator: Of the noise, on the CPU.
    """
    states, below = [], 0.0
    state = x.double()
    for level in reversed(levels.tolist()):
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.device)
        state = state + math.sqrt(level**2 - below**2) * noise
        below = level
        states.append(state)
    return torch.stack(states[::-1])


@torch.no_grad()
def path_log_posterior(
    denoisers: Sequence[Denoiser],
    path: Float[Tensor, "level image channel *space"],
    levels: Float[Tensor, " level"],
    on_level: Callable[[], None] = lambda: None,
) -> Float[Tensor, "level image label"]:
    r"""Return the log-posterior of each value of a label, given a noising path down to each level.

    Under a value z the path's next state is normal, up to the step's width, with mean $r x + (1-r) D_z(x)$ and variance
    $\sigma_\mathrm{lo}^2(1-r)$ per site, $r = (\sigma_\mathrm{lo}/\sigma_\mathrm{hi})^2$. The values are equally
    likely at the first level.

    Args:
        denoisers: Of each value of the label.
        path: States of `noising_path`, in double precision.
        levels: Their falling noise levels.
        on_level: Called after each level.

    Source: the reverse chain of ho2020 (Eq. 7) for x = x_0 + sigma eps, with the posterior mean of each class.
    """
    logits = torch.zeros(path.shape[1], len(denoisers), dtype=torch.float64, device=path.device)
    found = [logits]
    for i, (high, low) in enumerate(zip(levels.tolist(), levels.tolist()[1:], strict=False)):
        r = (low / high) ** 2
        x = path[i]
        means = torch.stack([r * x + (1 - r) * denoiser(x.float(), high).double() for denoiser in denoisers], 1)
        misfit = (path[i + 1][:, None] - means).flatten(2).square().sum(2)
        logits = logits - misfit / (2 * low**2 * (1 - r))
        found.append(logits)
        on_level()
    return torch.stack(found).log_softmax(-1)


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
