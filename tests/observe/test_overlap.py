"""Overlaps of sign fields against loops over translations and pairs, and fields whose overlaps are known."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from helpers.errors import refused
from helpers.random import normal
from softmode.observe.overlap import (
    distinct_states,
    largest_overlap,
    overlap,
    pair_overlaps,
    same_spectrum,
    spin_glass_susceptibility,
)


def signs(*shape: int, seed: int = 0) -> Tensor:
    return normal(*shape, seed=seed).sign().float()


@pytest.mark.parametrize("space", [(5,), (4, 5), (3, 4, 2)], ids=["1d", "2d", "3d"])
def test_the_largest_overlap_is_that_of_all_translations_and_the_flip(space: tuple[int, ...]) -> None:
    """Site by site in Python, of fields without any symmetry."""
    a, b = signs(6, *space), signs(6, *space, seed=1)
    axes = tuple(range(len(space)))
    for one, other, found in zip(a, b, largest_overlap(a, b).tolist(), strict=True):
        moved = [other.roll(shift, axes) for shift in itertools.product(*map(range, space))]
        assert found == max(abs(float((one * each).mean(dtype=torch.float64))) for each in moved)


def test_a_moved_and_flipped_copy_is_the_same_state() -> None:
    """Only up to the symmetries: as they stand two such copies overlap like strangers."""
    a = signs(3, 16, 16)
    b = -a.roll((3, -5), (1, 2))
    assert largest_overlap(a, b).tolist() == [1, 1, 1]
    assert float(overlap(a, b).abs().max()) < 5 / 16
    assert overlap(a, -a).tolist() == [-1, -1, -1]


def test_pairs_come_in_their_order() -> None:
    """Row by row of the upper triangle, by loops."""
    states = signs(5, 6, 6)
    pairs = list(itertools.combinations(range(5), 2))
    plain = [abs(float((states[i] * states[j]).double().mean())) for i, j in pairs]
    torch.testing.assert_close(pair_overlaps(states, False), torch.tensor(plain, dtype=torch.float64))
    moved = [float(largest_overlap(states[i : i + 1], states[j : j + 1])) for i, j in pairs]
    torch.testing.assert_close(pair_overlaps(states, True), torch.tensor(moved, dtype=torch.float64))


def test_the_susceptibility_of_states_that_are_known() -> None:
    """N of one state and its flips; 1 of independent signs on average, within 4 standard errors."""
    one = signs(1, 8, 8)
    states = one * torch.tensor([1.0, -1, 1, -1, -1])[:, None, None]
    assert spin_glass_susceptibility(states) == (64, 0)
    found = [spin_glass_susceptibility(signs(6, 8, 8, seed=seed)) for seed in range(400)]
    values, errors = (torch.tensor(each, dtype=torch.float64) for each in zip(*found, strict=True))
    assert abs(float(values.mean()) - 1) < 4 * float(values.std()) / 20
    # pairs of independent signs are uncorrelated: the jackknife's variance is twice theirs
    assert float(errors.square().mean()) == pytest.approx(2 * 2 / 15, rel=0.3)
    assert float(values.var()) == pytest.approx(2 / 15, rel=0.3)
    with refused("states: got 2 replicas; expected at least 3"):
        spin_glass_susceptibility(states[:2])


def test_the_susceptibility_is_the_correlation_area() -> None:
    """Of independent signs in blocks of 2x2 sites at a random place: sum_r C(r)^2 = (1 + 2/4)^2 sites."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(300):
        blocks = torch.randint(0, 2, (6, 8, 8), generator=generator).float() * 2 - 1
        fields = blocks.repeat_interleave(2, 1).repeat_interleave(2, 2)
        shifts = torch.randint(0, 2, (6, 2), generator=generator).tolist()
        moved = torch.stack([each.roll(tuple(shift), (0, 1)) for each, shift in zip(fields, shifts, strict=True)])
        found.append(spin_glass_susceptibility(moved).value)
    values = torch.tensor(found, dtype=torch.float64)
    # along an axis C = 1, 1/2, 0 at distances 0, 1, 2
    assert abs(float(values.mean()) - 1.5**2) < 4 * float(values.std()) / math.sqrt(len(found))
    assert float(values.std()) / math.sqrt(len(found)) < 0.06


def test_distinct_states_are_linked_by_their_overlaps() -> None:
    """Two copies of one state, moved, a chain of three, and a stranger: the chain is one group."""
    overlaps = torch.zeros(6, 6, dtype=torch.float64)
    for i, j in ((0, 1), (2, 3), (3, 4)):
        overlaps[i, j] = 0.6
    one, other = torch.triu_indices(6, 6, 1)
    assert distinct_states(overlaps[one, other], 6) == 3
    assert distinct_states(overlaps[one, other], 6, same=0.7) == 6
    assert distinct_states(torch.ones(15, dtype=torch.float64), 6) == 1


def test_fields_of_the_same_spectrum_keep_the_waves_and_forget_the_state() -> None:
    """A striped state gives stripes of another phase; independent ones overlap as strangers do."""
    site = torch.arange(16)
    stripes = torch.where(site % 4 < 2, 1.0, -1.0).expand(4, 16, 16)
    made = same_spectrum(stripes, normal(4, 16, 16))
    assert bool((made.abs() == 1).all())
    assert bool((made == made[:, :1]).all())
    assert float(largest_overlap(made, stripes).min()) == 1
    a = signs(4, 16, 16)
    assert float(overlap(same_spectrum(a, normal(4, 16, 16, seed=3)), a).abs().max()) < 5 / 16
