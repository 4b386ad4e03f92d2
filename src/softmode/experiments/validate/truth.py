"""What the answer is, from many exact states of a mixture: where it is unstable, and where its class is known."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from softmode.cumulative import shortest
from softmode.estimate import Array
from softmode.exact.mixture import GaussianMixture
from softmode.experiments.information.config import Config as Information
from softmode.experiments.information.measure import LEVELS as KNOWN_LEVELS
from softmode.experiments.instability.measure import LEVELS as SOFT_LEVELS
from softmode.experiments.window.decided import FIRST, intervals

# states behind each number, and noise levels of the instability
STATES, FINE = 4000, 60
# directions of the span of the means from which on a quarter of the states must do
MANY = 16
# seed of the states
SEED = 20260320


def truth(mixture: GaussianMixture, labels: Tensor | None, share: float) -> dict[str, float]:
    """Return the noise levels that the criteria of a window should find, by their names.

    `transition` is where a share FIRST of the states becomes unstable, as noise falls; that of the first unstable state
    is the level below which any state can be.

    Args:
        mixture: The law.
        labels: Class of each component, where the window is that of the class.
        share: Share of the label's information that the window gains.
    """
    soft = np.geomspace(SOFT_LEVELS[0], SOFT_LEVELS[1], FINE)
    tops = np.stack([top_eigenvalues(mixture, sigma) for sigma in soft])
    unstable = intervals(np.log(np.quantile(tops, 1 - FIRST, axis=1)), soft)
    half = intervals(np.log(np.quantile(tops, 0.5, axis=1)), soft)
    high, low = unstable[0] if unstable else (math.nan, math.nan)
    found = {"transition": high, "half_of_states_unstable": half[0][0] if half else math.nan}
    if len(mixture.means) == 2:
        norm = float((mixture.means[0] - mixture.means[1]).norm()) / 2
        found["first_unstable_state"] = math.sqrt(norm**2 - mixture.spread**2)
    if labels is None:
        inside = [level for level, _ in half if low < level <= high]
        return found | {"sigma_lo": low, "sigma_hi": high, "sigma_c": inside[0] if inside else math.sqrt(low * high)}
    levels = np.geomspace(KNOWN_LEVELS[0], KNOWN_LEVELS[1], Information.levels)
    known = np.array([information(mixture, sigma, labels) for sigma in levels])
    low, high, middle = shortest(known, levels, share)
    return found | {"sigma_lo": low, "sigma_hi": high, "sigma_c": middle}


def top_eigenvalues(mixture: GaussianMixture, sigma: float) -> Float[Array, " state"]:
    r"""Return the largest eigenvalue of dD/dx at states of noise level sigma.

    $dD/dx = g + (1 - g)\,\mathrm{Cov}(\mu_c \mid x)/(s^2+\sigma^2)$, $g = s^2/(s^2+\sigma^2)$; the covariance acts in
    the span of the means.
    """
    means, posterior = _posterior(mixture, sigma)
    variance = mixture.spread**2 + sigma**2
    gain = mixture.spread**2 / variance
    mean = posterior @ means
    covariance = torch.einsum("sc,ci,cj->sij", posterior, means, means) - mean[:, :, None] * mean[:, None]
    return np.asarray(gain + (1 - gain) * torch.linalg.eigvalsh(covariance)[:, -1] / variance)


def information(mixture: GaussianMixture, sigma: float, labels: Tensor) -> float:
    """Return what a state tells of its class (nats); classes are equally likely.

    Args:
        mixture: The law.
        sigma: Noise level.
        labels: Class of each component.
    """
    of_components = _posterior(mixture, sigma)[1]
    classes = int(labels.max()) + 1
    posterior = of_components.new_zeros(len(of_components), classes).index_add_(1, labels, of_components)
    return math.log(classes) - float(torch.special.entr(posterior).sum(1).mean())


def _posterior(mixture: GaussianMixture, sigma: float) -> tuple[Tensor, Tensor]:
    """Return the means in coordinates of their span [class, direction], and p(c | x) of states [state, class]."""
    means = mixture.means.flatten(1)
    means = means - means.mean(0)
    _, sizes, axes = torch.linalg.svd(means, full_matrices=False)
    means = means @ axes[sizes > 1e-9 * sizes[0]].T
    stream = torch.Generator().manual_seed(SEED)
    states = STATES if means.shape[1] < MANY else STATES // 4
    noise = torch.randn(states, means.shape[1], generator=stream, dtype=means.dtype)
    width = math.hypot(mixture.spread, sigma)
    # dealt out to the components in turn
    x = means[torch.arange(states) % len(means)] + width * noise
    return means, (-torch.cdist(x, means).square() / (2 * width**2)).softmax(1)
