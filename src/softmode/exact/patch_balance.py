r"""How far the frozen dynamics of a patch model is from detailed balance: the entropy that it produces, and why.

The score of a patch model takes the centre pixel of every patch alone, $f_i = D_i - x_i$, whose Jacobian is not
symmetric: $\partial D_i/\partial x_j$ is the response of the patch of i, $\partial D_j/\partial x_i$ that of j. So the
steady state of $dx = f\,d\tau + \sqrt2\,\sigma\,dW$ has no Boltzmann weight, and its probability flows in circles. The
medium's entropy rises by $f\circ dx/\sigma^2$ (Boltzmann's constant is 1, and so is the temperature). By Itô's rule
$f\circ dx = f\cdot dx + \sigma^2\,\nabla\cdot f\,d\tau$, so that on average, per site and unit of $\tau$,

$$ e = \frac1N\Big\langle\frac{|f|^2}{\sigma^2} + \nabla\cdot f\Big\rangle
     = \frac1N\int\frac{|J|^2}{\sigma^2 p}\,dx \ge 0, \qquad J = f p - \sigma^2\nabla p, $$

the latter by parts: $\langle f\cdot J/p\rangle$ alone is left, as $\nabla\cdot J = 0$. It is 0 exactly where f is
$\sigma^2\nabla\log p$ (Fisher's identity). A gradient does no work on average: $\langle\nabla g\cdot f/\sigma^2 +
\nabla^2 g\rangle = 0$ for every g, the mean change of g. With $g = |x|^2/2$, f becomes D; and with $g =
\frac{\sigma^2}{|\Omega|}\sum_j\log Z_j$, Z_j the probability of the patch of j, the mean $\bar D_i$ of what all patches
that see site i say of it is taken off, which is a gradient:

$$ e = \frac1N\sum_i\Big\langle\frac{(D_i - \bar D_i)(D_i - x_i)}{\sigma^2} + \partial_i(D_i - \bar D_i)\Big\rangle,
\qquad \bar D_i = \frac1{|\Omega|}\sum_{u\in\Omega}\mathrm E[p(u)\,|\,x_{\Omega_{i-u}}]. $$

Of these forms it scatters least, by a factor of three near a transition.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.exact.patch import PatchDenoiser, TwoStatePatch, dense_kernels, periodic_correlation
from softmode.lattice import ReceptiveField


class _Patches(NamedTuple):
    r"""What the patch of every site says of its pixels, $\mathrm E[p(u)] = \sum_k m_k\,p_k(u)$.

    Attributes:
        patterns: p_k, [pattern, omega].
        mean: m_k, [batch, pattern, *space].
        response: $c_k$ of $\mathrm{Cov}[p(0), p(u)] = \sum_k c_k\,p_k(u)$, as `mean`.
        variance: Var[p(0)] less the mean over u of Var[p(u)], [batch, *space].
    """

    patterns: Tensor
    mean: Tensor
    response: Tensor
    variance: Tensor


def _patches(model: TwoStatePatch | PatchDenoiser, x: Tensor, sigma: float) -> _Patches:
    if isinstance(model, TwoStatePatch):
        # one pattern of random sign, all of whose pixels are one
        mean = model(x, sigma)
        ones = x.new_ones(1, model.receptive_field.size)
        return _Patches(ones, mean, 1 - mean.square(), torch.zeros_like(mean[:, 0]))
    patterns, posterior = model.dictionary.patterns.to(x), model.posterior(x, sigma)
    centre = patterns[:, model.receptive_field.centre]
    shape = (-1, *[1] * (x.ndim - 2))
    own = (posterior * centre.reshape(shape)).sum(1, keepdim=True)
    response = posterior * (centre.reshape(shape) - own)
    overlaps = patterns @ patterns.T
    square = torch.einsum("bk...,kl,bl...->b...", posterior, overlaps, posterior)
    every = torch.einsum("bk...,k->b...", posterior, overlaps.diagonal()) - square
    variance = torch.einsum("bk...,k->b...", response, centre) - every / len(patterns.T)
    return _Patches(patterns, posterior, response, variance)


def _excess(patches: _Patches, field: ReceptiveField) -> Float[Tensor, "batch *space"]:
    own = torch.einsum("bk...,k->b...", patches.mean, patches.patterns[:, field.centre])
    seen = ReceptiveField(tuple(tuple(-along for along in u) for u in field.offsets))
    # sorted offsets of the mirror image are those of the field from the last to the first
    dense = dense_kernels(patches.patterns.flip(1), seen).transpose(0, 1)
    return own - periodic_correlation(patches.mean, dense, seen)[:, 0] / field.size


def excess(
    model: TwoStatePatch | PatchDenoiser, x: Float[Tensor, "batch 1 *space"], sigma: float
) -> Float[Tensor, "batch 1 *space"]:
    r"""Return $D_i - \bar D_i$: what the patch of a site says of it, less the mean of what all that see it say.

    Without it the score would be the gradient of a density.

    Args:
        model: A patch model.
        x: States in EDM coordinates.
        sigma: EDM noise level.

    Source: paper Eq. 35, which sums all patches, against Eq. 56, which takes the centre pixel of one.
    """
    return _excess(_patches(model, x, sigma), model.receptive_field)[:, None]


def entropy_production(
    model: TwoStatePatch | PatchDenoiser, x: Float[Tensor, "batch 1 *space"], sigma: float
) -> Float[Tensor, " batch"]:
    r"""Return what averages to the entropy production e of the frozen score: the formula above, of single states.

    Args:
        model: A patch model.
        x: States in EDM coordinates, drawn from the steady state.
        sigma: EDM noise level.

    Returns:
        Mean over sites, in k_B per site and unit of tau, which is a time of sigma^2; float64 [batch]. That of a single
        state has no sign of its own.

    Raises:
        ValueError: If the receptive field does not fit the lattice.

    Source: seifert2012, tome2010; paper Sec. 5 and 6.
    """
    field, x = model.receptive_field, x.double()
    patches = _patches(model, x, sigma)
    own = torch.einsum("bk...,k->b...", patches.mean, patches.patterns[:, field.centre])
    work = _excess(patches, field) * (own - x[:, 0])
    return (work + patches.variance).flatten(1).mean(1) / sigma**2


def irreciprocity(
    model: TwoStatePatch | PatchDenoiser, x: Float[Tensor, "batch 1 *space"], sigma: float
) -> Float[Tensor, " batch"]:
    r"""Return the share of the denoiser's Jacobian, $|J - J^\top|^2/4|J|^2$, that no gradient has.

    It is 0 for a gradient, 1/2 where sites act on others that do not answer, and 1 where what they do to each other is
    opposite. In a two-state model whose patch is its own mirror image $|J - J^\top|^2 =
    \sum_{i,\,u\in\Omega}(v_i - v_{i+u})^2/\sigma^4$, with the responses $v_i = 1 - D_i^2$.

    Args:
        model: A patch model.
        x: States in EDM coordinates.
        sigma: EDM noise level.

    Returns:
        Squared Frobenius norms' ratio of every state, float64 [batch].

    Raises:
        ValueError: If the receptive field does not fit the lattice.

    Source: paper Eq. 9, whose score is no gradient.
    """
    offsets, sides = model.receptive_field.offsets, x.shape[2:]
    patches = _patches(model, x.double(), sigma)
    rows = torch.einsum("bk...,ku->bu...", patches.response, patches.patterns)

    def place(offset: tuple[int, ...], sign: int) -> tuple[int, ...]:
        return tuple(sign * along % side for along, side in zip(offset, sides, strict=True))

    opposite = {place(u, -1): k for k, u in enumerate(offsets)}
    both = torch.zeros_like(rows[:, 0])
    for k, u in enumerate(offsets):
        if (back := opposite.get(place(u, 1))) is not None:
            both += rows[:, k] * rows[:, back].roll([-along for along in u], tuple(range(1, rows.ndim - 1)))
    return (1 - both.flatten(1).sum(1) / rows.square().flatten(1).sum(1)) / 2
