"""Time the sampling of the paper's patch model against the straightforward ways, all in one run on the same work.

Rows: softmode; softmode with everything measured every 10 steps; eager PyTorch by unfold + einsum over all ten
patterns; the same by conv2d. The ways take turns, so that a drifting machine slows all of them, and ratios are taken
turn by turn.
Also: peak memory at 1024 x 1024, the time of `softmode --help`, and what `import softmode` adds to torch's own import.

    python benchmarks/patch_sampling.py --steps 2000 --turns 5
    python benchmarks/patch_sampling.py --small      # a few seconds, to see that it works
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
from torch.nn import functional

from softmode.exact.patch_sampler import PatchEulerMaruyama
from softmode.experiments.patch.config import Config
from softmode.experiments.patch.measure import PatchPlan, prepare
from softmode.runs.store import Block
from softmode.samplers import initial_state
from softmode.simulation import simulate
from softmode.streams import TrajectoryNoise

THREADS = 2
SMALL = {"size": 16, "steps": 60, "t_max": 5.0, "t_min": 0.1}


def straightforward(plan: PatchPlan, unfolded: bool) -> None:
    """Eqs. 54-60 as one would first write them, in VP coordinates with beta = 1."""
    config = plan.config
    patterns, prior = plan.dictionary.patterns.float(), plan.dictionary.prior.float()
    centre, log_prior = plan.dictionary.centre.float(), prior.log()
    kernels = patterns.reshape(-1, 1, 5, 5)
    x = torch.randn(config.trajectories, 1, config.size, config.size)
    times = plan.times.float()
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


def sampled(plan: PatchPlan) -> None:
    """Softmode's sampling alone."""
    noise = TrajectoryNoise(plan.config.seed, range(plan.config.trajectories))
    x = initial_state(plan.process, plan.config.t_max, noise, (1, *plan.lattice.shape), plan.dtype)
    simulate(plan.model, plan.process, x, plan.times[plan.grid], noise, sampler=PatchEulerMaruyama(fine=plan.times))


def measured(plan: PatchPlan) -> None:
    """Softmode's sampling with every observable of the experiment."""
    plan.measure(Block(0, 0, range(plan.config.trajectories)))


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def command_seconds(code: list[str], turns: int) -> float:
    runs = (seconds(lambda: subprocess.run(code, check=True, capture_output=True)) for _ in range(turns))
    return statistics.median(runs)


def peak_memory_mib(size: int) -> float:
    """Peak resident memory of the command, every observable measured (MiB)."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"size": size, "steps": 20, "t-max": 5, "t-min": 0.1, "measure-every": 5, "out": folder + "/run"}
        command = [sys.executable, "-m", "softmode", "patch", *(f"--{name}={value}" for name, value in options.items())]
        subprocess.run(command, check=True, capture_output=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="one turn on a small lattice, to see that it works")
    chosen = parser.parse_args()
    torch.set_num_threads(THREADS)
    large, turns, imports = (64, 1, 1) if chosen.small else (1024, chosen.turns, 3)
    print(f"peak memory at {large} x {large}, 4 trajectories: {peak_memory_mib(large):.0f} MiB")
    plan = prepare(Config(**SMALL) if chosen.small else Config(steps=chosen.steps))
    ways: dict[str, Callable[[], object]] = {
        "softmode": lambda: sampled(plan),
        "softmode, measuring": lambda: measured(plan),
        "unfold + einsum": lambda: straightforward(plan, unfolded=True),
        "conv2d": lambda: straightforward(plan, unfolded=False),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, work in ways.items():
            elapsed = seconds(work)
            if turn > 0:  # the first turn warms up
                times[name].append(elapsed)
    size, trajectories, steps = plan.config.size, plan.config.trajectories, plan.config.steps
    print(f"{size} x {size}, {trajectories} trajectories, {steps} steps, float32, {THREADS} threads, {turns} turn(s)")
    for name, values in times.items():
        ratios = [value / base for value, base in zip(values, times["softmode"], strict=True)]
        print(
            f"{name:20s} median {statistics.median(values):6.2f} s   min {min(values):6.2f} s   "
            f"ratio to softmode {statistics.median(ratios):5.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        )
    python = sys.executable
    bare = command_seconds([python, "-c", "import torch"], imports)
    print(f"softmode --help {command_seconds([python, '-m', 'softmode', '--help'], imports):.2f} s")
    both = command_seconds([python, "-c", "import torch, softmode"], imports)
    print(f"import softmode adds {both - bare:.2f} s to torch's {bare:.2f} s")


if __name__ == "__main__":
    main()
