"""Patch dictionaries: patterns on a receptive field with their probabilities."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from softmode.exact.empirical import check_prior
from softmode.files import read_arrays, sha256
from softmode.lattice import ReceptiveField
from softmode.message import refusal

# values of all patterns of a random dictionary, some 100 MB
MOST_VALUES = 10**7


@dataclass(frozen=True, eq=False)
class PatchDictionary:
    """Patterns p_k on a receptive field with prior probabilities pi_k.

    Args:
        receptive_field: Omega; patterns list its offsets in the order of `receptive_field.offsets`.
        patterns: Pattern values [pattern, |Omega|], float64.
        prior: Probabilities [pattern], float64, summing to 1.

    Raises:
        ValueError: If the patterns have another shape or are not finite, or the prior is not a probability vector.

    Source: paper E.1, Eq. 49.
    """

    receptive_field: ReceptiveField
    patterns: Float[Tensor, "pattern omega"]
    prior: Float[Tensor, " pattern"]

    def __post_init__(self) -> None:
        shape = tuple(self.patterns.shape)
        if len(shape) != 2 or shape[0] < 1 or shape[1] != self.receptive_field.size:
            raise ValueError(f"patterns: got shape {shape}; expected (patterns, {self.receptive_field.size})")
        if not bool(torch.isfinite(self.patterns).all()):
            raise ValueError("patterns: got a value that is not finite; expected finite patterns")
        check_prior(self.prior, shape[0])

    @property
    def centre(self) -> Float[Tensor, " pattern"]:
        """Centre values p_k(0), [pattern]."""
        return self.patterns[:, self.receptive_field.centre]

    @property
    def omega_eff(self) -> float:
        r"""$\Omega_{\mathrm{eff}} = \sum_k \pi_k\,p_k(0)\sum_u p_k(u)$, which replaces |Omega| at the symmetric point.

        For patterns of equal norm, whose posterior at x = 0 is the prior.
        It equals |Omega| for the two-state dictionary. Source: paper App. A for a dictionary with a prior.
        """
        return float(self.coupling().sum())

    def coupling(self) -> Float[Tensor, " omega"]:
        r"""Return $C_{0u} = \sum_k \pi_k\,p_k(0)\,p_k(u)$, the covariance of the centre with each offset, [|Omega|].

        Source: paper Eq. 30, centre row, with a prior.
        """
        return (self.prior * self.centre) @ self.patterns

    def at_zero(self, level: Float[Tensor, "*level"]) -> Float[Tensor, "*level pattern"]:
        r"""Return the posterior of the patterns at x = 0, $\propto \pi_k e^{-|p_k|^2/2\sigma^2}$.

        It is the prior at all levels if the patterns have equal norms.

        Args:
            level: Noise levels sigma/alpha.
        """
        norms = self.patterns.square().sum(1)
        penalty = (norms - norms.min()) / (2 * level.double()[..., None].square())
        return (self.prior.log() - penalty).softmax(-1)

    def is_symmetric(self) -> bool:
        """Tell whether p and -p are equally likely, so that x = 0 is a fixed point (exact Z2)."""
        rows = {tuple(p): 0.0 for p in self.patterns.tolist()}
        for pattern, probability in zip(self.patterns.tolist(), self.prior.tolist(), strict=True):
            rows[tuple(pattern)] += probability
        return all(abs(p - rows.get(tuple(-v for v in row), 0.0)) < 1e-9 for row, p in rows.items())


def _random_signs(patterns: int, seed: int, field: ReceptiveField) -> Tensor:
    signs = np.random.default_rng(seed).integers(0, 2, size=(patterns, field.size))
    return torch.as_tensor(2.0 * signs - 1.0, dtype=torch.float64)


def two_state_dictionary(receptive_field: ReceptiveField) -> PatchDictionary:
    """Return the dictionary of the two uniform patterns, +1 and -1, each with probability 1/2.

    Source: paper Sec. 6, the minimal model of Eq. 9.
    """
    ones = torch.ones(1, receptive_field.size, dtype=torch.float64)
    return PatchDictionary(receptive_field, torch.cat([ones, -ones]), torch.full((2,), 0.5, dtype=torch.float64))


def random_dictionary(patterns: int, seed: int, receptive_field: ReceptiveField) -> PatchDictionary:
    """Return M random sign patterns and their M flips, all equally likely.

    Args:
        patterns: M, at least 1.
        seed: Seed of the patterns.
        receptive_field: Omega.

    Raises:
        ValueError: If M < 1.

    Source: paper Eqs. 23 and 24.
    """
    if not 1 <= patterns <= MOST_VALUES // receptive_field.size:
        raise ValueError(
            f"dictionary: got random:{patterns}; expected 1 to {MOST_VALUES // receptive_field.size} patterns of "
            f"{receptive_field.size} sites, for example random:8"
        )
    signs = _random_signs(patterns, seed, receptive_field)
    prior = torch.full((2 * patterns,), 0.5 / patterns, dtype=torch.float64)
    return PatchDictionary(receptive_field, torch.cat([signs, -signs]), prior)


def paper_dictionary(seed: int, receptive_field: ReceptiveField | None = None) -> PatchDictionary:
    """Return the paper's ten patterns: 4 random ones and their 4 flips (0.1 together), and 2 uniform ones (0.9).

    The paper lists eight random patterns, their flips and two uniform ones, and calls them ten; four independent
    patterns with their flips are the only reading that gives ten, the prior of Eq. 49 and exact Z2 symmetry.

    Args:
        seed: Seed of the random patterns.
        receptive_field: Omega; the 5x5 box when omitted.

    Source: paper E.1, Eq. 49.
    """
    field = receptive_field or ReceptiveField.box(5, 2)
    signs = _random_signs(4, seed, field)
    ones = torch.ones(1, field.size, dtype=torch.float64)
    prior = torch.tensor([0.1 / 8] * 8 + [0.9 / 2] * 2, dtype=torch.float64)
    return PatchDictionary(field, torch.cat([signs, -signs, ones, -ones]), prior)


def with_uniform(dictionary: PatchDictionary, mass: float) -> PatchDictionary:
    """Return a dictionary with the two uniform patterns besides, +1 and -1, which share a prior mass.

    With mass 0.9 and four random patterns it is the paper's.

    Args:
        dictionary: The other patterns; they share the rest of the mass in the proportions of their own prior.
        mass: Prior probability of the two uniform patterns together, at least 0 and below 1; 0 adds none.

    Raises:
        ValueError: If the mass is out of range.

    Source: paper Eq. 49, for any mass.
    """
    if not 0 <= mass < 1:
        raise refusal(f"uniform: got {mass:g}; expected a prior mass of at least 0 and below 1")
    if mass == 0:
        return dictionary
    ones = dictionary.patterns.new_ones(1, dictionary.receptive_field.size)
    prior = torch.cat([(1 - mass) * dictionary.prior, dictionary.prior.new_full((2,), mass / 2)])
    return PatchDictionary(dictionary.receptive_field, torch.cat([dictionary.patterns, ones, -ones]), prior)


def parse_dictionary(text: str, seed: int, receptive_field: ReceptiveField) -> PatchDictionary:
    """Build a dictionary from its command-line form.

    Args:
        text: `paper`, `two-state`, `random:M`, or the path of an .npz file with arrays `patterns` and `prior`.
        seed: Seed of random patterns.
        receptive_field: Omega.

    Raises:
        ValueError: If the text is none of these forms, or the file's arrays do not fit the receptive field.
    """
    if text == "paper":
        return paper_dictionary(seed, receptive_field)
    if text == "two-state":
        return two_state_dictionary(receptive_field)
    kind, _, count = text.partition(":")
    if kind == "random" and count.removeprefix("-").isdecimal():
        return random_dictionary(int(count), seed, receptive_field)
    if text.endswith(".npz"):
        return _load_dictionary(text, receptive_field)
    raise ValueError(f"dictionary: got {text!r}; expected paper, two-state, random:8 or a file.npz")


def dictionary_inputs(text: str) -> dict[str, str]:
    """Return the digest of the file that a dictionary is read from; nothing where it is made by its name."""
    return {"dictionary": sha256(text)} if text.endswith(".npz") else {}


def _load_dictionary(path: str, receptive_field: ReceptiveField) -> PatchDictionary:
    found = read_arrays("dictionary", path, ("patterns", "prior"), np.float64)
    patterns, prior = (torch.from_numpy(array) for array in found)
    return PatchDictionary(receptive_field, patterns.flatten(1) if patterns.ndim > 1 else patterns, prior)
