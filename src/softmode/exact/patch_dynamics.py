r"""Stochastic dynamics of patch models, from frozen scores to generation, at the speed of memory where it is compiled.

Every step is $y = x + b\,\xi$, then $x' = k\,y + p\,D(y, \sigma) + a\,\xi$ in EDM coordinates, with one random number
per site. Both ways of computing it, torch on any device and a compiled loop on the processor, take the same numbers.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from softmode.counter_noise import WORD, Noise, numbers
from softmode.estimate import Array
from softmode.exact.patch import PatchDenoiser, TwoStatePatch
from softmode.langevin import leimkuhler_matthews
from softmode.lattice import Lattice
from softmode.observe.order import lowest_structure_factor, magnetisation

PatchModel = TwoStatePatch | PatchDenoiser
Row = Float[np.ndarray, " step"]
# below so many sites a step is too short to be shared by threads
SHARED_SITES = 2**18
# sites of a row, over all replicas that go together, that keep the ring of rows in a processor's cache
ROW = 1024


@dataclass(frozen=True)
class Steps:
    r"""What some steps do, all [step] in float64.

    Args:
        sigma: EDM noise level at which the score is taken.
        before: b, noise that the score sees.
        keep: k.
        pull: p.
        after: a, noise that it does not see.
    """

    sigma: Row
    before: Row
    keep: Row
    pull: Row
    after: Row

    def __len__(self) -> int:
        return len(self.sigma)


def frozen_steps(sigma: float, step: float, count: int) -> Steps:
    r"""Return steps of $dx = (D - x)\,d\tau + \sqrt 2\,\sigma\,dW$ at one noise level, by Leimkuhler and Matthews.

    They are those of `langevin.leimkuhler_matthews`; y is the state to measure.

    Args:
        sigma: EDM noise level.
        step: h, in units of sigma^2.
        count: How many.

    Raises:
        ValueError: If the step is unstable.

    Source: leimkuhler2013; paper Sec. 5.
    """
    one = leimkuhler_matthews(step)
    values = (sigma, sigma * one.before, one.keep, one.pull, sigma * one.after)
    return Steps(*(np.full(count, value) for value in values))


def advance(
    model: PatchModel,
    x: Float[Tensor, "replica 1 *space"],
    steps: Steps,
    keys: Int[Tensor, " replica"],
    first: int = 0,
    noise: Noise = "gaussian",
) -> Float[Tensor, "replica 1 *space"]:
    """Return the states after some steps.

    The result does not depend on how many replicas go together, nor on the number of threads.

    Args:
        model: A patch model.
        x: States in EDM coordinates; left as they are.
        steps: What the steps do.
        keys: Seed of each replica's stream, 63 bits, for example of `streams.stream_seed`.
        first: Index of the first step: each has numbers of its own.
        noise: Standard normal numbers, for trajectories; or three points, which give the same averages faster.

    Raises:
        ValueError: If the receptive field does not fit the lattice.
    """
    model.receptive_field.check_fits(x.shape[2:])
    if _fast(x):
        return _compiled(model, x, steps, keys, first, noise)[0]
    return reference(model, x, steps, keys, first, noise)


def reference(
    model: PatchModel,
    x: Float[Tensor, "replica 1 *space"],
    steps: Steps,
    keys: Int[Tensor, " replica"],
    first: int = 0,
    noise: Noise = "gaussian",
) -> Float[Tensor, "replica 1 *space"]:
    """Return what `advance` does, by torch alone, on any device and in any floating type."""
    columns = zip(steps.sigma, steps.before, steps.keep, steps.pull, steps.after, strict=True)
    for k, (sigma, before, keep, pull, after) in enumerate(columns):
        xi = numbers(keys, x.shape[2:], first + k, noise, x.device).to(x.dtype)[:, None]
        y = x + before * xi
        x = keep * y + pull * model(y, float(sigma)) + after * xi
    return x


def follow(
    model: PatchModel,
    x: Float[Tensor, "replica 1 *space"],
    steps: Steps,
    times: int,
    keys: Int[Tensor, " replica"],
    first: int = 0,
    noise: Noise = "gaussian",
) -> tuple[Float[Tensor, "replica 1 *space"], Float[np.ndarray, "replica time 2"]]:
    r"""Take the same steps again and again, and measure the order parameter after each time.

    Args:
        model: A patch model.
        x: States in EDM coordinates, on a lattice of equal sides; left as they are.
        steps: What one round of steps does.
        times: How many rounds.
        keys: Seed of each replica's stream.
        first: Index of the first step.
        noise: Standard normal numbers, or three points.

    Returns:
        The last states; and m, the mean of x, with $S(k_{\min}) = |\sum_i x_i e^{ik\cdot i}|^2/N$, its mean over the
        axes, in float64.

    Raises:
        ValueError: If the receptive field does not fit the lattice.
    """
    model.receptive_field.check_fits(x.shape[2:])
    if _fast(x):
        return _compiled(model, x, steps, keys, first, noise, times)
    series = []
    for k in range(times):
        x = reference(model, x, steps, keys, first + k * len(steps), noise)
        series.append(torch.stack([magnetisation(x.double()), lowest_structure_factor(x)], 1))
    return x, torch.stack(series, 1).cpu().numpy()


def _fast(x: Tensor) -> bool:
    return compiled() and x.device.type == "cpu" and x.dtype == torch.float32


@lru_cache(maxsize=1)
def compiled() -> bool:
    """Tell whether the compiled loop is to be had: numba is installed, which softmode's extra `fast` brings."""
    try:
        import softmode.exact.patch_kernel  # noqa: F401 # only to see whether it can be
    except ImportError:
        return False
    return True


@lru_cache(maxsize=16)
def _constants(model: PatchModel) -> tuple[Any, ...]:
    """Return what the compiled loop has to know of a model, in the order of its arguments."""
    field = model.receptive_field
    reach = np.array([(0, 0)] * 3, dtype=np.int64)
    at = _axes(field.dimensions)
    reach[at] = field.reach
    offsets = np.zeros((field.size, 3), dtype=np.int64)
    offsets[:, at] = np.array(field.offsets)
    if isinstance(model, TwoStatePatch):
        nothing, weights = np.empty(0, np.float32), np.ones(field.size, np.float32)
        return reach, field.size == math.prod(field.extent), offsets, weights, *[nothing] * 4
    dictionary = model.dictionary
    patterns, log_prior = dictionary.patterns.numpy(), dictionary.prior.log().numpy()
    norms = (patterns**2).sum(1) / 2
    place: dict[tuple[float, ...], int] = {}
    plus: list[float] = []
    minus: list[float] = []
    for pattern, log_p in zip(patterns, log_prior, strict=True):
        if (flip := place.get(tuple(-pattern))) is not None and minus[flip] == _NEVER:
            minus[flip] = log_p
        elif (same := place.get(tuple(pattern))) is not None:
            plus[same] = np.logaddexp(plus[same], log_p)
        else:
            place[tuple(pattern)] = len(plus)
            plus.append(log_p)
            minus.append(_NEVER)
    kernels = np.array(list(place))
    return (
        reach, False, offsets, kernels.astype(np.float32).ravel(), np.array(plus, np.float32),
        np.array(minus, np.float32), kernels[:, field.centre].astype(np.float32),
        ((kernels**2).sum(1) / 2 - norms.min()).astype(np.float32),
    )  # fmt: skip


# logarithm of the prior of a flip that a dictionary does not have
_NEVER = -1e30


def _axes(dimensions: int) -> list[int]:
    """Return which of three axes a lattice has: the last always, and the first before the middle one."""
    return {1: [2], 2: [0, 2], 3: [0, 1, 2]}[dimensions]


def _sides(shape: Sequence[int]) -> tuple[int, int, int]:
    sides = [1, 1, 1]
    for axis, side in zip(_axes(len(shape)), shape, strict=True):
        sides[axis] = side
    return sides[0], sides[1], sides[2]


class _Chunk(NamedTuple):
    """Replicas that go together, and all that the compiled loop is told of them beside their state."""

    shape: tuple[int, int, int]
    constants: tuple[Any, ...]
    streams: Array
    gaussian: bool
    waves: Array
    series: Array

    @classmethod
    def of(
        cls, model: PatchModel, sides: tuple[int, int, int], keys: Tensor, gaussian: bool, times: int
    ) -> "_Chunk":  # fmt: skip
        """Return that of replicas of some seeds."""
        count = len(keys)
        shape = (sides[0], sides[1], sides[2] * count)
        series = np.empty((times, count, 2))
        return cls(shape, _strided(model, count), _streams(keys, sides[2]), gaussian, _waves(sides), series)

    def run(self, old: Array, new: Array, low: int, high: int, rows: Array, start: int) -> None:
        """Take all steps on a whole lattice, or one on a band of it, between two buffers."""
        from softmode.exact import patch_kernel

        reach, box, kernels = self.constants[0], self.constants[2], self.constants[4].size // len(self.constants[3])
        work = patch_kernel.workspace(self.shape, reach, box, kernels, self.gaussian)
        columns = np.empty((5, self.shape[2]), np.float32)
        patch_kernel.run(old, new, self.shape, low, high, work, *self.constants, rows, self.streams, start,
                         self.gaussian, self.waves, columns, self.series)  # fmt: skip

    def taken(
        self, x: Tensor, pieces: Sequence[tuple[int, int]], rows: Array, first: int, threads: int
    ) -> Float[np.ndarray, "replica site"]:
        """Return the states after all steps; threads share the bands of a lattice that is cut into pieces."""
        count = len(x)
        # replicas are interleaved; a copy, where a single one needs no transposition
        state = x.numpy().reshape(count, -1).T.copy().ravel()
        other = np.empty_like(state)
        if len(pieces) == 1:
            self.run(state, other, *pieces[0], rows, first)
        else:
            for k in range(len(rows)):
                _each(self.run, [(state, other, *piece, rows[k : k + 1], first + k) for piece in pieces], threads)
                state, other = other, state
        return np.asarray(state.reshape(-1, count).T)


def _compiled(
    model: PatchModel, x: Tensor, steps: Steps, keys: Tensor, first: int, noise: Noise, times: int = 0
) -> tuple[Float[Tensor, "replica 1 *space"], Float[np.ndarray, "replica time 2"]]:
    sides, threads = _sides(x.shape[2:]), torch.get_num_threads()
    # replicas that go together: as many as make long rows, and leave work for every thread
    together = max(1, min(-(-len(x) // threads), ROW // sides[2]))
    parts = [slice(at, min(at + together, len(x))) for at in range(0, len(x), together)]
    pieces = _pieces(sides, 1 if times else max(1, threads // len(parts)))
    rows = np.stack([steps.sigma**-2.0, steps.before, steps.keep, steps.pull, steps.after], 1).astype(np.float32)
    chunks = [_Chunk.of(model, sides, keys[part], noise == "gaussian", times) for part in parts]
    # threads either share the chunks, or each chunk's bands
    work = [(chunk, x[part]) for chunk, part in zip(chunks, parts, strict=True)]
    states = _each(
        lambda chunk, own: chunk.taken(own, pieces, rows, first, threads), work, threads if len(pieces) == 1 else 1
    )
    series = np.concatenate([chunk.series for chunk in chunks], 1).swapaxes(0, 1)
    return torch.from_numpy(np.concatenate(states).reshape(x.shape)), series


def _strided(model: PatchModel, stride: int) -> tuple[Any, ...]:
    """Return a model's constants for so many replicas that are interleaved."""
    reach, box, offsets, *rest = _constants(model)
    scale = np.array([1, 1, stride])
    return reach * scale[:, None], stride, box, offsets * scale, *rest


def _streams(keys: Tensor, side: int) -> Array:
    """Return column and key of every place in a row of interleaved replicas, [3, side * replica]."""
    words = np.array([(key & WORD, key >> 32) for key in keys.tolist()], dtype=np.uint32)
    return np.stack([np.repeat(np.arange(side, dtype=np.uint32), len(words)), *np.tile(words.T, side)])


def _waves(sides: tuple[int, int, int]) -> Array:
    """Return cosine and sine of the longest wave along each axis, [3, 2, longest side]; 0 for an axis of side 1."""
    waves = np.zeros((3, 2, max(sides)), np.float32)
    for axis, side in enumerate(sides):
        if side > 1:
            phase = Lattice((side,)).phase((1,)).numpy()
            waves[axis, :, :side] = np.cos(phase), np.sin(phase)
    return waves


def _pieces(sides: tuple[int, int, int], threads: int) -> list[tuple[int, int]]:
    """Return the bands into which a lattice is cut, as many as threads where it is large."""
    count = threads if math.prod(sides) >= SHARED_SITES else 1
    ends = np.linspace(0, sides[0], min(count, sides[0]) + 1).astype(int).tolist()
    return list(pairwise(ends))


def _each(work: Callable[..., Any], items: Sequence[tuple[Any, ...]], threads: int) -> list[Any]:
    """Do some work for every item, in threads: the compiled loop holds no lock."""
    if threads == 1 or len(items) == 1:
        return [work(*item) for item in items]
    return list(_pool(threads).map(lambda item: work(*item), items))


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="patch-dynamics")
