r"""The patch model whose dictionary varies from site to site: the one with bond disorder in space (Supp. B.5).

At site i the posterior of its own pattern $p^{(i)}_k$ is $w_k(i) \propto \pi_k\exp(\langle p^{(i)}_k,
x_{\Omega_i}\rangle/\sigma^2 - |p^{(i)}_k|^2/2\sigma^2)$ and the denoiser $D_i = \sum_k w_k(i)\,p^{(i)}_k(0)$.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_array
from scipy.sparse.linalg import eigs
from torch import Tensor

from softmode.denoiser import per_sample
from softmode.estimate import Array
from softmode.exact.empirical import check_prior
from softmode.lattice import ReceptiveField

# up to so many sites the top eigenvalue is that of the dense matrix
DENSE = 64


@dataclass(frozen=True, eq=False)
class SitePatchDenoiser:
    """Patch model with a dictionary of its own at every site of a periodic lattice.

    Args:
        receptive_field: Omega; patterns list its offsets in the order of `receptive_field.offsets`.
        patterns: Pattern values [site, pattern, |Omega|], sites in the order of a flattened field.
        prior: Probabilities [pattern], the same at all sites.
        shape: Sides of the lattice.

    Raises:
        ValueError: If the shapes do not fit each other, or the prior is not a probability vector.

    Source: paper B.5 with Eqs. 54-57.
    """

    receptive_field: ReceptiveField
    patterns: Float[Tensor, "site pattern omega"]
    prior: Float[Tensor, " pattern"]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        self.receptive_field.check_fits(self.shape)
        wanted = (int(np.prod(self.shape)), len(self.prior), self.receptive_field.size)
        if tuple(self.patterns.shape) != wanted:
            raise ValueError(f"patterns: got shape {tuple(self.patterns.shape)}; expected {wanted}")
        check_prior(self.prior, len(self.prior))

    @cached_property
    def neighbours(self) -> Tensor:
        """Index of site i + u for every site i and offset u, [site, |Omega|], with periodic boundaries."""
        at = torch.cartesian_prod(*map(torch.arange, self.shape)).reshape(-1, len(self.shape))
        moved = (at[:, None] + self.receptive_field.tensor().long()) % torch.tensor(self.shape)
        strides = torch.tensor([int(np.prod(self.shape[axis + 1 :])) for axis in range(len(self.shape))])
        return (moved * strides).sum(-1)

    @cached_property
    def centre(self) -> Float[Tensor, "site pattern"]:
        """Centre values p_k(0) at every site."""
        return self.patterns[..., self.receptive_field.centre].contiguous()

    @cached_property
    def _norms(self) -> Tensor:
        return self.patterns.square().sum(-1)

    def _along(self, x: Tensor) -> Tensor:
        """Return <p_k, x_Omega> of every site, [site, batch, pattern]."""
        around = x.flatten(1)[:, self.neighbours]
        return around.transpose(0, 1) @ self.patterns.to(x).transpose(1, 2)

    def _posterior(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        variance = per_sample(sigma, x).flatten().square().to(x)[:, None]
        logits = (self._along(x) - self._norms.to(x)[:, None] / 2) / variance + self.prior.to(x).log()
        return logits.softmax(-1)

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x_0 | x_Omega] at every site, of the shape of x [batch, 1, *space]."""
        mean = (self._posterior(x, sigma) * self.centre.to(x)[:, None]).sum(-1)
        return mean.T.reshape(x.shape)

    def jvp(self, x: Tensor, sigma: Tensor | float, v: Tensor) -> Tensor:
        r"""Return $\frac{1}{\sigma^2}\sum_k w_k(i)\,(p_k(0) - D_i)\,\langle p_k, v_{\Omega_i}\rangle$, of x's shape."""
        posterior, centre = self._posterior(x, sigma), self.centre.to(x)[:, None]
        centred = centre - (posterior * centre).sum(-1, keepdim=True)
        response = (posterior * centred * self._along(v.expand_as(x))).sum(-1).T.reshape(x.shape)
        return response / per_sample(sigma, x).square().to(x)

    def coupling(self) -> Float[Tensor, "site omega"]:
        r"""Return the centre row $C^{(i)}_{0u} = \sum_k \pi_k\,p^{(i)}_k(0)\,p^{(i)}_k(u)$ of every site.

        Source: paper Eq. 30 at every site, B.5.
        """
        return torch.einsum("k,ik,iku->iu", self.prior.to(self.patterns), self.centre, self.patterns)

    def strength(self) -> float:
        r"""Return the largest real part of the eigenvalues of the couplings $A_{i,i+u} = C^{(i)}_{0u}$.

        The first mode goes soft at $\sigma^2 = \alpha^2$ times this: with one dictionary at all sites A is a
        convolution, and this $\max_k\mathrm{Re}\,\hat C_0(k)$. For patterns of equal norm.

        Source: paper Eq. 43 for the operator of the lattice.
        """
        sites, around = self.neighbours.shape
        rows = np.repeat(np.arange(sites), around)
        values = self.coupling().double().numpy().ravel()
        matrix = csr_array((values, (rows, self.neighbours.numpy().ravel())), shape=(sites, sites))
        if sites <= DENSE:
            found: Array = np.linalg.eigvals(matrix.toarray())
        else:
            # the start is fixed, so that the result is a function of the patterns alone
            start = np.random.default_rng(0).standard_normal(sites)
            found = eigs(matrix, k=4, which="LR", v0=start, tol=1e-8, ncv=60, return_eigenvectors=False)
        return float(found.real.max())


def random_site_patterns(
    patterns: int, seed: int, receptive_field: ReceptiveField, shape: Sequence[int]
) -> Float[Tensor, "site pattern omega"]:
    """Return M random sign patterns and their M flips for every site, [site, 2 M, |Omega|] of +-1 in float32.

    Args:
        patterns: M, at least 1.
        seed: Seed of the patterns.
        receptive_field: Omega.
        shape: Sides of the lattice.

    Source: paper Eq. 23 at every site, B.5.
    """
    size = (int(np.prod(shape)), patterns, receptive_field.size)
    signs = np.random.default_rng(seed).integers(0, 2, size=size, dtype=np.int8)
    plus = torch.as_tensor(2 * signs - 1, dtype=torch.float32)
    return torch.cat([plus, -plus], 1)
