"""The exact denoisers of a mixture of Gaussian classes: a labelled model whose guidance can be solved."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import Denoiser, per_sample
from softmode.exact.empirical import check_prior


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    r"""Classes of white Gaussian data, $x_0 \sim \sum_c \pi_c\,\mathcal{N}(\mu_c, s^2 I)$.

    Args:
        means: Class means mu_c [class, channel, *space].
        spread: Standard deviation s > 0 of every coordinate within a class.
        prior: Class probabilities [class]; equal when omitted.

    Raises:
        ValueError: If the means are not finite, the spread is not positive and finite, or the prior is not a
            probability vector of that length.

    Source: paper Sec. 3, the two-component mixture below Eq. 2, with any number of classes of finite width.
    """

    means: Float[Tensor, "label channel *space"]
    spread: float
    prior: Float[Tensor, " label"] | None = None

    def __post_init__(self) -> None:
        if self.means.shape[0] < 1 or not bool(torch.isfinite(self.means).all()):
            raise ValueError(f"means: got shape {tuple(self.means.shape)}; expected at least one class, all finite")
        if not 0 < self.spread < math.inf:
            raise ValueError(f"spread: got {self.spread:g}; expected a positive finite standard deviation")
        if self.prior is not None:
            check_prior(self.prior, self.means.shape[0])

    def denoiser(self, label: int | None = None) -> Denoiser:
        r"""Return the posterior mean of one class, or of all of them.

        $D_c = \frac{\sigma^2\mu_c + s^2 x}{s^2 + \sigma^2}$, and $D = \sum_c p(c \mid x)\,D_c$ without a label.

        Args:
            label: Index of the class; None for the whole mixture.

        Raises:
            ValueError: If there is no such class.
        """
        if label is not None and not 0 <= label < self.means.shape[0]:
            raise ValueError(f"label: got {label}; expected a class from 0 to {self.means.shape[0] - 1}, or None")
        return _MixtureDenoiser(self, label)

    def log_posterior(self, x: Tensor, sigma: Tensor | float) -> Float[Tensor, "batch label"]:
        r"""Return the log-probability of each class, $\log p(c \mid x)$, [batch, class].

        $p(c \mid x) \propto \pi_c\,e^{-|x - \mu_c|^2/2(s^2 + \sigma^2)}$.

        Args:
            x: States in EDM coordinates [batch, channel, *space].
            sigma: Noise level, scalar or [batch]; 0 classifies final samples.
        """
        # about the mean of means: what classes have in common would cost digits in float32
        centre = self.means.mean(0)
        means, flat = (self.means - centre).to(x).flatten(1), (x - centre.to(x)).flatten(1)
        variance = (self.spread**2 + per_sample(sigma, flat).square()).to(x.dtype)
        logits = (flat @ means.T - 0.5 * means.square().sum(1)) / variance
        if self.prior is not None:
            logits = logits + self.prior.to(x).log()
        return logits.log_softmax(1)


@dataclass(frozen=True, eq=False)
class _MixtureDenoiser:
    """The posterior mean of one class of a mixture, or of all of them."""

    mixture: GaussianMixture
    label: int | None

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x_0 | x], of the shape of x."""
        means = self.mixture.means.to(x)
        if self.label is None:
            mean = (self.mixture.log_posterior(x, sigma).exp() @ means.flatten(1)).reshape(x.shape)
        else:
            mean = means[self.label]
        variance = self.mixture.spread**2
        gain = (variance / (variance + per_sample(sigma, x).square())).to(x.dtype)
        return mean + gain * (x - mean)

    def log_density(self, x: Tensor, sigma: Tensor | float) -> Float[Tensor, " batch"]:
        r"""Return the log-density of noisy states up to a constant, [batch].

        $\log\sum_c \pi_c\,e^{-|x - \mu_c|^2/2(s^2 + \sigma^2)}$, or that of the one class.
        """
        means, flat = self.mixture.means.to(x).flatten(1), x.flatten(1)
        variance = (self.mixture.spread**2 + per_sample(sigma, flat).square()).to(x.dtype)
        logits = -0.5 * (flat[:, None] - means).square().sum(2) / variance
        if self.label is not None:
            return logits[:, self.label]
        if self.mixture.prior is not None:
            logits = logits + self.mixture.prior.to(x).log()
        return logits.logsumexp(1)
