"""How well samples fit their class, how much they differ from each other, and how far they are from real data."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.linalg import qr, svdvals
from torch import Tensor

from softmode.estimate import Array


class Alignment(NamedTuple):
    """What a classifier says of samples, [batch] each.

    Attributes:
        logit: Logit of the target class.
        probability: Its probability.
        predicted: The most probable class.
    """

    logit: Float[Tensor, " batch"]
    probability: Float[Tensor, " batch"]
    predicted: Int[Tensor, " batch"]


def alignment(logits: Float[Tensor, "batch class"], target: int | Int[Tensor, " batch"]) -> Alignment:
    """Return how a classifier's logits speak for a class, one for all samples or one for each, in float64.

    Source: paper H.6.
    """
    logits = logits.double()
    own = torch.as_tensor(target, device=logits.device).expand(len(logits))[:, None]
    probability = logits.softmax(1)
    return Alignment(logits.gather(1, own)[:, 0], probability.gather(1, own)[:, 0], logits.argmax(1))


def change(x: Float[Tensor, "batch channel *space"], twin: Float[Tensor, "batch channel *space"]) -> Tensor:
    """Return the root mean square difference of samples and their twins, [batch] in float64: no classifier needed."""
    return (x.double() - twin.double()).flatten(1).square().mean(1).sqrt()


def diversity(features: Float[Array, "sample feature"]) -> float:
    """Return the mean distance of two different samples in feature space; NaN for fewer than two."""
    count = len(features)
    if count < 2:
        return float("nan")
    x = np.asarray(features, float)
    square = (x**2).sum(1)
    squares = square[:, None] + square[None] - 2 * x @ x.T
    np.fill_diagonal(squares, 0.0)
    return float(np.sqrt(np.maximum(squares, 0)).sum() / (count * (count - 1)))


def frechet_distance(a: Float[Array, "sample feature"], b: Float[Array, "other feature"]) -> float:
    r"""Return the Fréchet distance of two sets of features, seen as Gaussian.

    $|m_a - m_b|^2 + \mathrm{tr}(C_a + C_b - 2(C_a C_b)^{1/2})$. With $C = X^T X$ of centred, scaled features the last
    trace is the sum of the singular values of $X_a X_b^T$, which is found without forming a covariance. Its expectation
    falls with the number of samples: compare sets of equal size only.

    Source: heusel2017.
    """
    means, centred = zip(*(_centred(np.asarray(x, float)) for x in (a, b)), strict=True)
    # the singular values of a product need no more than the triangular factors
    left, right = (x if len(x) <= x.shape[1] else qr(x, mode="r")[0][: x.shape[1]] for x in centred)
    overlap = svdvals(left @ right.T).sum()
    return float(((means[0] - means[1]) ** 2).sum() + sum((x**2).sum() for x in centred) - 2 * overlap)


def _centred(x: Array) -> tuple[Array, Array]:
    """Return the mean of features and their deviations, scaled so that $X^T X$ is the covariance."""
    if len(x) < 2:
        raise ValueError(f"features: got {len(x)}; expected at least two, a covariance needs them")
    mean = x.mean(0)
    return mean, (x - mean) / np.sqrt(len(x) - 1)
