"""Every random stream of a run, by name, so that no two coincide and none depends on batches, devices or order of work.

A stream is seeded by the run's seed and a key. Keys of trajectories, copies and trials are made of small numbers of
different count; every other kind of stream begins or continues with a tag beyond any index.
"""

from collections.abc import Sequence
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

# no index of a trajectory, a step or a class reaches this
INDICES = 2**31


def stream_seed(seed: int, *key: int) -> int:
    """Return the 63-bit seed of one stream of a run, a hash of the run's seed and the stream's key.

    Args:
        seed: Seed of the run.
        key: A trajectory's index alone for the trajectory itself; see the other functions for the rest.
    """
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0] >> 1)


def tag(name: str) -> int:
    """Return the number, beyond any index, that stands for a kind of stream in its keys."""
    return INDICES | crc32(name.encode())


def copy_key(step: int, copy: int) -> tuple[int, ...]:
    """Return the key, beside the trajectory's, of a copy that is made at a step of the grid."""
    return step, copy


def trial_key(label: int) -> tuple[int, ...]:
    """Return the key, beside the trial's, of the trials of a class."""
    return (label,)


def place_seed(seed: int, trial: int, label: int, kind: int) -> int:
    """Return the seed of a random place along the noise levels, for one kind of pulse of a trial of a class."""
    return stream_seed(seed, trial, label, 3, kind)


def response_seed(seed: int, trajectory: int, step: int) -> int:
    """Return the seed of the random signs that probe a trajectory's response at a step of the grid."""
    return stream_seed(seed, trajectory, tag("response"), step)


def node_seed(seed: int, trial: int, label: int) -> int:
    """Return the seed of the random strength at which a trial of a class is differentiated."""
    return stream_seed(seed, trial, label, tag("node"))


def other_seed(seed: int, name: str) -> int:
    """Return the seed of a run that another needs, so that its trials are other ones, by what it is for."""
    return stream_seed(seed, tag(name))


def null_data_seed(seed: int) -> int:
    """Return the seed of the data that are drawn from the Gaussian null model."""
    return stream_seed(seed, tag("null data"))


class TrajectoryNoise:
    """Standard normal numbers, one stream per trajectory, so that results do not depend on how a run is batched.

    Args:
        seed: Seed of the run.
        trajectories: Global index of each trajectory of the batch.
        device: Device on which to draw.
        key: Key of a copy or of a class, beside the trajectory's index; empty for the trajectories themselves; a list
            has one for each.
    """

    def __init__(
        self,
        seed: int,
        trajectories: Sequence[int],
        device: torch.device | str = "cpu",
        key: tuple[int, ...] | list[tuple[int, ...]] = (),
    ) -> None:
        self.trajectories = list(trajectories)
        keys = key if isinstance(key, list) else [key] * len(self.trajectories)
        self.device = torch.device(device)
        self.seeds = [stream_seed(seed, i, *own) for i, own in zip(self.trajectories, keys, strict=True)]
        self._generators = [torch.Generator(device).manual_seed(each) for each in self.seeds]

    def fill_(self, out: Tensor) -> Tensor:
        """Overwrite `out` [batch, ...] with the next numbers of each stream and return it."""
        for row, generator in zip(out, self._generators, strict=True):
            row.normal_(generator=generator)
        return out
