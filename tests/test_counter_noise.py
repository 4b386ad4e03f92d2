"""Counted random numbers: the published answers, the moments they promise, and no memory of order or place."""

import math

import pytest
import torch

from softmode.counter_noise import Noise, numbers, philox

KINDS: tuple[Noise, ...] = ("gaussian", "three-point")


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_words(
    counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    found = philox([torch.tensor([word]) for word in counter], key, rounds=10)
    assert tuple(int(word) for word in found) == words


@pytest.mark.parametrize("noise", KINDS)
def test_moments_are_those_of_a_normal_number_up_to_the_fifth(noise: Noise) -> None:
    drawn = numbers(torch.tensor([3, 2**61 + 5]), (300, 1000), 7, noise).double().flatten()
    count = drawn.numel()
    # variances of x, x^2, ... under the law itself: a normal one, or three points
    for power, mean, eighth in ((1, 0, 1), (2, 1, 3), (3, 0, 15), (4, 3, 105), (5, 0, 945)):
        spread = (eighth if noise == "gaussian" else 3 ** (power - 1)) - mean**2
        assert abs(float(drawn.pow(power).mean()) - mean) < 4 * math.sqrt(spread / count) + 1e-4 * (power == 4)


def test_three_points_are_three() -> None:
    drawn = numbers(torch.tensor([3]), (64, 64), 0, "three-point")
    assert torch.allclose(drawn.abs().unique(), torch.tensor([0.0, math.sqrt(3)]), atol=1e-3)


@pytest.mark.parametrize("noise", KINDS)
def test_steps_streams_and_sites_do_not_know_each_other(noise: Noise) -> None:
    shape = (64, 500)
    one = numbers(torch.tensor([3, 4]), shape, 7, noise).double()
    other = numbers(torch.tensor([3]), shape, 8, noise).double()[0]
    count = other.numel()
    pairs = {"streams": (one[0], one[1]), "steps": (one[0], other), "rows": (one[0], one[0].roll(1, 0)),
             "columns": (one[0], one[0].roll(1, 1)), "groups": (one[0], one[0].roll(8, 0)),
             "squares": (one[0] ** 2 - 1, one[0].roll(4, 0) ** 2 - 1)}  # fmt: skip
    for name, (a, b) in pairs.items():
        assert abs(float((a * b).mean())) < 4 * float((a * b).std()) / math.sqrt(count), name


@pytest.mark.parametrize("noise", KINDS)
@pytest.mark.parametrize("shape", [(13,), (9, 13), (3, 5, 13)])
def test_a_number_depends_on_its_stream_step_and_site_alone(noise: Noise, shape: tuple[int, ...]) -> None:
    keys = torch.tensor([11, 12, 13])
    together = numbers(keys, shape, 2**33 + 5, noise)
    assert together.shape == (3, *shape)
    for key, own in zip(keys, together, strict=True):
        assert torch.equal(numbers(key[None], shape, 2**33 + 5, noise)[0], own)
    # more rows leave those before them as they are
    longer = numbers(keys, (shape[0] + 8, *shape[1:]), 2**33 + 5, noise) if len(shape) > 1 else together
    assert torch.equal(longer[:, : shape[0]], together)
