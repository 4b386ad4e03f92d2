"""Time the sampling of the paper's patch model against the straightforward ways, all in one run on the same work.

Rows: softmode; softmode with everything measured every 10 steps; eager PyTorch by unfold + einsum over all ten
patterns; the same by conv2d. The ways take turns, so that a drifting machine slows all of them, and ratios are taken
turn by turn.
Also: peak memory at 1024 x 1024, the time of `softmode --help`, and what `import softmode` adds to torch's own import.

    python benchmarks/patch_sampling.py --steps 2000 --turns 5
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from softmode.config import PatchConfig
from torch.nn import functional

from softmode.experiments import patch
from softmode.samplers import initial_state
from softmode.simulate import simulate
from softmode.streams import TrajectoryNoise

THREADS = 2


def straightforward(config: PatchConfig, unfolded: bool) -> None:
    """Eqs. 54-60 as one would first write them, in VP coordinates with beta = 1."""
    model = patch.prepare(config)
    patterns, prior = model.dictionary.patterns.float(), model.dictionary.prior.float()
    centre, log_prior = model.dictionary.centre.float(), prior.log()
    kernels = patterns.reshape(-1, 1, 5, 5)
    x = torch.randn(config.trajectories, 1, config.size, config.size)
    times = model.times.float()
    for t, t_next in pairwise(times):
        alpha, variance = torch.exp(-t / 2), -torch.expm1(-t)
        padded = functional.pad(x, (2, 2, 2, 2), mode="circular")
        if unfolded:
            patches = functional.unfold(padded, 5).reshape(x.shape[0], 25, config.size, config.size)
            overlap = torch.einsum("bphw,kp->bkhw", patches, patterns)
        else:
            overlap = functional.conv2d(padded, kernels)
        weights = torch.softmax(log_prior[:, None, None] + alpha / variance * overlap, dim=1)
        mean = torch.einsum("bkhw,k->bhw", weights, centre)[:, None]
        score = (alpha * mean - x) / variance
        step = t_next - t
        x = x + (-0.5 * x - score) * step + step.abs().sqrt() * torch.randn_like(x)


def sampled(config: PatchConfig) -> None:
    """Softmode's sampling alone."""
    model = patch.prepare(config)
    noise = TrajectoryNoise(config.seed, range(config.trajectories))
    x = initial_state(model.process, config.t_max, noise, (1, *model.lattice.shape), model.dtype)
    simulate(model.denoiser, model.process, x, model.times, noise)


def measured(config: PatchConfig) -> None:
    """Softmode's sampling with every observable of the experiment."""
    patch.measure(patch.prepare(config), config, range(config.trajectories))


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def command_seconds(code: list[str], turns: int) -> float:
    runs = (seconds(lambda: subprocess.run(code, check=True, capture_output=True)) for _ in range(turns))
    return statistics.median(runs)


def peak_memory_mib() -> float:
    """Peak resident memory of the command at 1024 x 1024, every observable measured (MiB)."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"size": 1024, "steps": 20, "t-max": 5, "t-min": 0.1, "measure-every": 5, "out": folder + "/run"}
        command = [sys.executable, "-m", "softmode", "patch", *(f"--{name}={value}" for name, value in options.items())]
        subprocess.run(command, check=True, capture_output=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    print(f"peak memory at 1024 x 1024, 4 trajectories: {peak_memory_mib():.0f} MiB")
    config = PatchConfig(steps=arguments.steps, t_max=50.0)
    ways: dict[str, Callable[[], object]] = {
        "softmode": lambda: sampled(config),
        "softmode, measuring": lambda: measured(config),
        "unfold + einsum": lambda: straightforward(config, unfolded=True),
        "conv2d": lambda: straightforward(config, unfolded=False),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(arguments.turns + 1):
        for name, work in ways.items():
            elapsed = seconds(work)
            if turn > 0:  # the first turn warms up
                times[name].append(elapsed)
    print(f"80 x 80, {config.trajectories} trajectories, {config.steps} steps, float32, {THREADS} threads")
    for name, values in times.items():
        ratios = [value / base for value, base in zip(values, times["softmode"], strict=True)]
        print(
            f"{name:20s} median {statistics.median(values):6.2f} s   min {min(values):6.2f} s   "
            f"ratio to softmode {statistics.median(ratios):5.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        )
    python = sys.executable
    bare = command_seconds([python, "-c", "import torch"], 3)
    print(f"softmode --help {command_seconds([python, '-m', 'softmode', '--help'], 3):.2f} s")
    both = command_seconds([python, "-c", "import torch, softmode"], 3)
    print(f"import softmode adds {both - bare:.2f} s to torch's {bare:.2f} s")


if __name__ == "__main__":
    main()
