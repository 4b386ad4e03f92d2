"""Random streams: one for each trajectory and copy, whatever the batch."""

import itertools
import math

import pytest
import torch

from softmode.streams import TrajectoryNoise, stream_seed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 5), (1, 17), (3, 4, 5), (1, 8, 8)], ids=str)
def test_noise_of_a_trajectory_is_its_own(shape, dtype):
    """A trajectory's numbers are bit-identical in every batch, grouping and order, through several steps."""

    def draw(*trajectories):
        noise, eta = TrajectoryNoise(11, trajectories), torch.empty(len(trajectories), *shape, dtype=dtype)
        steps = torch.stack([noise.fill_(eta).clone() for _ in range(3)], 1)
        return dict(zip(trajectories, steps, strict=True))

    together = draw(0, 1, 2, 3)
    for group in ((0,), (3,), (1, 2), (3, 0, 2), (5, 1)):
        for index, stream in draw(*group).items():
            if index in together:
                assert torch.equal(stream, together[index])
    steps = [eta for stream in together.values() for eta in stream]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(steps, 2))


def test_noise_is_standard_normal_and_independent():
    """First four moments, and correlations across trajectories, steps and seeds, are those of independent normals."""
    sites = 100_000
    streams = []
    for seed in (0, 1):
        noise, eta = TrajectoryNoise(seed, [0, 1]), torch.empty(2, sites, dtype=torch.float64)
        streams += [row for _ in range(2) for row in noise.fill_(eta).clone()]
    eta = torch.stack(streams)
    count = eta.numel()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        stderr = math.sqrt(variance / count)
        assert stderr < 0.011
        assert float((eta**power).mean()) == pytest.approx(moment, abs=4 * stderr)
    correlation = (eta @ eta.T / sites).triu(1)
    assert correlation.abs().max() < 4 / math.sqrt(sites)


def test_seeds_of_trajectories_differ():
    """Every (seed, trajectory) has a seed of its own in [0, 2^63), and the two do not commute."""
    seeds = {stream_seed(seed, trajectory) for seed in range(40) for trajectory in range(40)}
    assert len(seeds) == 1600
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert stream_seed(0, 1) != stream_seed(1, 0)
    assert stream_seed(5, 3) == stream_seed(5, 3)


def test_every_stream_is_another() -> None:
    """Parents and copies of two seeds, trajectories, times and copies all draw other numbers."""
    keys = [(i, *copy) for i in range(3) for copy in [(), *((k, c) for k in range(4) for c in range(3))]]
    assert len({stream_seed(seed, *key) for seed in (0, 1) for key in keys}) == 2 * len(keys)
    drawn = [
        TrajectoryNoise(seed, [key[0]], key=key[1:]).fill_(torch.empty(1, 2000, dtype=torch.float64))
        for seed in (0, 1) for key in keys
    ]  # fmt: skip
    correlation = torch.corrcoef(torch.cat(drawn)) - torch.eye(2 * len(keys))
    assert correlation.abs().max() < 5 / math.sqrt(2000)
    own = torch.empty(1, 4), torch.empty(1, 4)
    assert torch.equal(TrajectoryNoise(2, [7], key=()).fill_(own[0]), TrajectoryNoise(2, [7]).fill_(own[1]))
