r"""The density of noisy patches around 0, for any dictionary and process (Supp. B): score, cumulants, Hamiltonians.

The noisy patch $z$ has the density $\sum_k \pi_k\,\mathcal N(z; \alpha p_k, \sigma^2)$. Around $z = 0$ its score is

$$ s_u = -\frac{z_u}{\sigma^2} + \frac{\alpha^2}{\sigma^4}\sum_v C_{uv} z_v
+ \frac{\alpha^4}{6\sigma^8}\sum_{vwq} K_{uvwq} z_v z_w z_q + O(z^5). $$
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.beta import Time
from softmode.exact.dictionary import PatchDictionary
from softmode.exact.patch import dense_kernels, periodic_correlation
from softmode.formulas.landau import strength
from softmode.message import refusal
from softmode.process import Process

# entries of the tensor of fourth cumulants, 200 MB
MOST_ENTRIES = 25_000_000


def log_density(
    z: Float[Tensor, "*batch omega"], process: Process, t: float, dictionary: PatchDictionary
) -> Float[Tensor, "*batch"]:
    r"""Return the log-density of noisy patches, $\log\sum_k\pi_k\,\mathcal N(z;\alpha p_k,\sigma^2)$.

    Of a random dictionary it is $-\frac{|z|^2}{2\sigma^2} + \log\frac1M\sum_a\cosh(h\cdot\xi^a)$ and a constant.

    Args:
        z: Patches in the process's coordinates, sites in the order of the field's offsets.
        process: Any process.
        t: Time, in the process's own unit.
        dictionary: Patterns with their probabilities.

    Source: paper Eqs. 24, 27 and 28, with the constant and with any prior.
    """
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    distances = (z[..., None, :] - alpha * dictionary.patterns).square().sum(-1)
    exponents = dictionary.prior.log() - distances / (2 * sigma**2)
    return exponents.logsumexp(-1) - z.shape[-1] * math.log(sigma * math.sqrt(2 * math.pi))


def local_score(
    z: Float[Tensor, "*batch omega"], process: Process, t: float, dictionary: PatchDictionary
) -> Float[Tensor, "*batch omega"]:
    r"""Return every component of a patch's score, $-\frac{z}{\sigma^2} + \frac{\alpha}{\sigma^2}\,\mathrm E[p \mid z]$.

    Args:
        z: Patches in the process's coordinates.
        process: Any process.
        t: Time, in the process's own unit.
        dictionary: Patterns with their probabilities.

    Source: paper Eqs. 25, 26 and 29, with any prior.
    """
    alpha, variance = float(process.alpha(t)), float(process.sigma(t)) ** 2
    field = alpha * z / variance
    penalty = alpha**2 * dictionary.patterns.square().sum(-1) / (2 * variance)
    posterior = (field @ dictionary.patterns.T + dictionary.prior.log() - penalty).softmax(-1)
    return (alpha * posterior @ dictionary.patterns - z) / variance


def covariance(process: Process, t: Time, dictionary: PatchDictionary) -> Float[Tensor, "*t omega omega"]:
    r"""Return $C_{uv} = \mathrm E[p_u p_v]$ over the posterior at z = 0, the Hebbian kernel of the dictionary.

    The posterior is the prior where all patterns have the same norm; then C does not depend on time.

    Args:
        process: Any process.
        t: Times, in the process's own unit.
        dictionary: Patterns with exact Z2 symmetry.

    Raises:
        ValueError: If the dictionary is not Z2 symmetric.

    Source: paper Eqs. 30 and 41, with any prior.
    """
    return covariance_at(process.noise_level(t), symmetric(dictionary))


def couplings(
    process: Process, t: Time, dictionary: PatchDictionary
) -> tuple[Float[Tensor, "*t"], Float[Tensor, "*t omega omega"]]:
    r"""Return the mass $\tilde r$ of the lattice Hamiltonian and its couplings J.

    $\tilde r = \frac{1}{\sigma^2} - \frac{\alpha^2}{\sigma^4}\sum_u C_{uu}$, $J_{uv} = \frac{\alpha^2}{\sigma^4}C_{uv}$
    for u other than v, 0 for u = v. Each site is in |Omega| patches, so all of C's diagonal goes to the mass, where
    Eq. 37 prints one entry.

    Args:
        process: Any process.
        t: Times, in the process's own unit.
        dictionary: Patterns with exact Z2 symmetry.

    Raises:
        ValueError: If the dictionary is not Z2 symmetric.

    Source: paper Eqs. 36, 37 and 48, corrected.
    """
    scaled = strength(process, t)[..., None, None] * covariance(process, t, dictionary)
    diagonal = scaled.diagonal(dim1=-2, dim2=-1)
    return 1 / process.sigma(t).square() - diagonal.sum(-1), scaled - torch.diag_embed(diagonal)


def fourth_cumulant(
    process: Process, t: float, dictionary: PatchDictionary
) -> Float[Tensor, "omega omega omega omega"]:
    r"""Return the tensor of fourth cumulants at z = 0.

    $K_{uvwq} = \mathrm E[p_u p_v p_w p_q] - C_{uv}C_{wq} - C_{uw}C_{vq} - C_{uq}C_{vw}$; the quartic tensor of
    Eq. 44 is $U_{uvwq} = -K_{uvwq}/4!$.

    Args:
        process: Any process.
        t: Time, in the process's own unit.
        dictionary: Patterns with exact Z2 symmetry, of at most 70 sites.

    Raises:
        ValueError: If the dictionary is not Z2 symmetric, or the tensor would be too large.

    Source: paper Eqs. 31 to 33, with any prior.
    """
    size = dictionary.receptive_field.size
    if size**4 > MOST_ENTRIES:
        most = math.floor(MOST_ENTRIES**0.25)
        raise refusal(
            f"receptive_field: got {size} sites; expected at most {most} for a tensor of fourth cumulants: "
            "use fourth_cumulant_along"
        )
    matrix, p = covariance(process, t, dictionary), dictionary.patterns
    pairs = torch.einsum("ku,kv->kuv", p, p).flatten(1)
    moments = (pairs.T * dictionary.at_zero(process.noise_level(t))) @ pairs
    products = torch.einsum("uv,wq->uvwq", matrix, matrix)
    gaussian = products + products.transpose(1, 2) + products.transpose(1, 3)
    return moments.reshape(size, size, size, size) - gaussian


def fourth_cumulant_along(
    h: Float[Tensor, "*batch omega"], process: Process, t: float, dictionary: PatchDictionary
) -> Float[Tensor, "*batch"]:
    r"""Return $\kappa_4(h) = \mathrm E[(h\cdot p)^4] - 3\,\mathrm E[(h\cdot p)^2]^2$ at z = 0, without the tensor.

    Args:
        h: Directions.
        process: Any process.
        t: Time, in the process's own unit.
        dictionary: Patterns with exact Z2 symmetry.

    Raises:
        ValueError: If the dictionary is not Z2 symmetric.

    Source: paper Eqs. 31 and 32, with any prior.
    """
    weights = symmetric(dictionary).at_zero(process.noise_level(t))
    squares = (h @ dictionary.patterns.T).square()
    return squares.square() @ weights - 3 * (squares @ weights).square()


def patch_hamiltonian(
    z: Float[Tensor, "*batch omega"], process: Process, t: float, dictionary: PatchDictionary
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    r"""Return the quadratic and the quartic Hamiltonian of patches, whose sum is $-\log p(z)$ to fourth order.

    $H_2 = \frac{|z|^2}{2\sigma^2} - \frac{\alpha^2}{2\sigma^4}z^\top C z$ and
    $H_4 = -\frac{\alpha^4}{4!\,\sigma^8}\kappa_4(z)$.

    Args:
        z: Patches in the process's coordinates.
        process: Any process.
        t: Time, in the process's own unit.
        dictionary: Patterns with exact Z2 symmetry.

    Raises:
        ValueError: If the dictionary is not Z2 symmetric.

    Source: paper Eqs. 32, 34, 44 and 46.
    """
    factor, matrix = float(strength(process, t)), covariance(process, t, dictionary)
    quadratic = z.square().sum(-1) / float(process.sigma(t)) ** 2 - factor * (z @ matrix * z).sum(-1)
    return quadratic / 2, -(factor**2) / 24 * fourth_cumulant_along(z, process, t, dictionary)


def lattice_hamiltonian(
    x: Float[Tensor, "batch 1 *space"], process: Process, t: float, dictionary: PatchDictionary
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    r"""Return the quadratic and the quartic Hamiltonian of fields, the sums over the patches of all sites.

    The restoring force $|x|^2/2\sigma^2$ is counted once per site, as in Eq. 35. The score that is simulated reads only
    the centre of each patch: `landau.quadratic_hamiltonian` is its own.

    Args:
        x: Fields in the process's coordinates, on a periodic lattice.
        process: Any process.
        t: Time, in the process's own unit.
        dictionary: Patterns with exact Z2 symmetry.

    Raises:
        ValueError: If the dictionary is not Z2 symmetric, or the receptive field does not fit the lattice.

    Source: paper Eqs. 35, 36, 44, 46 and 48.
    """
    field = symmetric(dictionary).receptive_field
    factor = float(strength(process, t))
    weights = dictionary.at_zero(process.noise_level(t))
    # (h . p) of every patch, from which moments over the patterns follow at each site
    squares = periodic_correlation(x, dense_kernels(dictionary.patterns, field).to(x), field).flatten(2).square()
    second = torch.einsum("k,bks->bs", weights.to(x), squares)
    fourth = torch.einsum("k,bks->bs", weights.to(x), squares.square()) - 3 * second.square()
    quadratic = x.flatten(1).square().sum(1) / float(process.sigma(t)) ** 2 - factor * second.sum(1)
    return quadratic / 2, -(factor**2) / 24 * fourth.sum(1)


def covariance_at(level: Tensor, dictionary: PatchDictionary) -> Float[Tensor, "*t omega omega"]:
    """Return C of a dictionary at noise levels sigma/alpha, which matter only where patterns have unequal norms."""
    return torch.einsum("...k,ku,kv->...uv", dictionary.at_zero(level), dictionary.patterns, dictionary.patterns)


def symmetric(dictionary: PatchDictionary) -> PatchDictionary:
    """Return a dictionary, or raise a ValueError if it is not Z2 symmetric."""
    if not dictionary.is_symmetric():
        raise refusal("dictionary: got one without Z2 symmetry; expected p and -p equally likely, for every p")
    return dictionary
