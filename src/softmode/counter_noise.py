r"""Random numbers by counting: the number of any (stream, step, site) is a function of these alone (Philox 4x32).

So it depends neither on the order of work, nor on threads, nor on how a lattice is cut into pieces. Rows
of a lattice, their sites along the last axis, go in groups of four, or of eight for three points: the counter (column,
group, step, kind) gives four words of 32 bits for a column of the group.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

# standard normal numbers; or 0 with 2/3 and +-sqrt(3) with 1/6 each, which have the same moments up to the fifth
Noise = Literal["gaussian", "three-point"]
KINDS: dict[Noise, int] = {"gaussian": 0, "three-point": 1}

# multipliers and Weyl constants of Philox 4x32, and rounds: the least that its authors found to pass all tests
MULTIPLIERS, WEYL, ROUNDS = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85), 7
WORD = 2**32 - 1
# of 2^16 values of half a word so many are +, and as many -; the size makes the variance 1
SIXTH = round(2**16 / 6)
SIZE = math.sqrt(2**16 / (2 * SIXTH))


def philox(
    counter: Sequence[Int[Tensor, "*n"]], key: tuple[int, int], rounds: int = ROUNDS
) -> tuple[Int[Tensor, "*n"], ...]:
    """Return four words for each counter.

    Args:
        counter: Four words, int64 in [0, 2^32).
        key: Two words.
        rounds: How often to mix.

    Source: salmon2011, Philox 4x32.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2  # wraps, as unsigned products do
        c0, c1, c2, c3 = (p1 >> 32 & WORD) ^ c1 ^ k0, p1 & WORD, (p0 >> 32 & WORD) ^ c3 ^ k1, p0 & WORD
        k0, k1 = (k0 + WEYL[0]) & WORD, (k1 + WEYL[1]) & WORD
    return c0, c1, c2, c3


def numbers(
    keys: Int[Tensor, " replica"], shape: Sequence[int], step: int, noise: Noise, device: torch.device | str = "cpu"
) -> Float[Tensor, "replica *space"]:
    """Return the random numbers of every replica and site at one step, float32.

    Args:
        keys: Seed of each replica's stream, 63 bits.
        shape: Sides of the lattice.
        step: Index of the step.
        noise: Which numbers.
        device: Where.
    """
    rows, along = math.prod(shape[:-1]), shape[-1]
    together = 8 if noise == "three-point" else 4
    column, group = torch.arange(along, device=device), torch.arange(-(-rows // together), device=device)[:, None]
    counter = [
        word.expand(len(group), along)
        for word in (column, group, torch.tensor(step & WORD, device=device), torch.tensor(KINDS[noise], device=device))
    ]
    make = _three_point if noise == "three-point" else _gaussian
    drawn = (make(philox(counter, (key & WORD, key >> 32))) for key in keys.tolist())
    # [row of a group, group, column]
    return torch.stack([each.transpose(0, 1).reshape(-1, along)[:rows].reshape(*shape) for each in drawn])


def _three_point(words: tuple[Tensor, ...]) -> Tensor:
    halves = torch.stack([word & 0xFFFF for word in words] + [word >> 16 for word in words])
    return SIZE * ((halves < SIXTH).float() - (halves >= 2**16 - SIXTH).float())


def _gaussian(words: tuple[Tensor, ...]) -> Tensor:
    r"""Return $\sqrt{-2\log u}\,(\cos 2\pi v, \sin 2\pi v)$ of two pairs of words, their upper 24 bits.

    Source: box1958.
    """
    rows = []
    for first, second in (words[:2], words[2:]):
        u, v = ((first >> 8) + 0.5) * 2.0**-24, (second >> 8).double() * 2.0**-24
        radius, angle = (-2 * u.double().log()).sqrt(), 2 * math.pi * v
        rows += [radius * angle.cos(), radius * angle.sin()]
    return torch.stack(rows).float()
