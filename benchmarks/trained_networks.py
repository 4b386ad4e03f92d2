"""Time and count what probing and training a network cost against the straightforward ways, each pair in one run.

python benchmarks/trained_networks.py gains      # evaluations for one standard error: multiplexed or one by one
python benchmarks/trained_networks.py probe      # a whole probe against plain sampling of its trajectories
python benchmarks/trained_networks.py training   # a training step against the plain float32 loop
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from softmode.config import ProbeConfig
from softmode.dynamics import TrajectoryNoise, initial_state, simulate
from torch.nn import functional

from softmode.data import Images, fashion_mnist
from softmode.estimate import bootstrap
from softmode.experiments import probe
from softmode.networks.unet import UNet
from softmode.observe.gains import evaluations
from softmode.training.config import TrainConfig
from softmode.training.recipes import RECIPES
from softmode.training.state import Training
from softmode.training.workers import Workers


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def gains(model: str, states: str, trajectories: int) -> None:
    """Measure the same states with both methods; evaluations for equal errors go with the square of the errors."""
    spent, errors, means = {}, {}, {}
    for method in ("difference", "multiplexed"):
        config = ProbeConfig(model, states=states, method=method, trajectories=trajectories, measure_every=250)
        config = replace(config, block=trajectories, snapshots=(1.0,))
        with tempfile.TemporaryDirectory() as folder:
            run = probe.run(config, Path(folder) / "run")
            data = run.arrays["gain"].to_numpy().mean(-1)
            levels = run.arrays["noise_level"].to_numpy()
        found = bootstrap(data, np.ravel)
        shape = data.shape[1:]
        errors[method] = np.reshape([e.stderr for e in found], shape)
        means[method] = data
        spent[method] = evaluations(method, config.shells, 2)
    cost = spent["difference"] / spent["multiplexed"]
    ratio = cost * (errors["difference"] / errors["multiplexed"]) ** 2
    difference = means["multiplexed"] - means["difference"]
    z = difference.mean(0) / np.maximum(difference.std(0, ddof=1) / trajectories**0.5, 1e-4)
    print(f"{model}, {states} states, {trajectories} trajectories; evaluations per state {spent}")
    print(f"largest |mean difference| in standard errors, over {z.size} shells and noise levels: {np.abs(z).max():.2f}")
    print("evaluations saved at equal standard error of the shell medians (times fewer), by noise level and shell:")
    for level, row in zip(levels, ratio, strict=True):
        if 0.05 < level < 50:
            print(f"  sigma {level:7.3f}: " + " ".join(f"{value:5.1f}" for value in row))
    inside = ratio[(levels > 0.05) & (levels < 50)]
    print(f"median over shells and noise levels {np.median(inside):.1f}, shells n >= 1 {np.median(inside[:, 1:]):.1f}")


def whole_probe(model: str, trajectories: int, steps: int, turns: int) -> None:
    """Run a whole probe and plain sampling of the same trajectories in turns."""
    config = ProbeConfig(model, trajectories=trajectories, steps=steps, measure_every=max(1, steps // 100))
    plan = probe.prepare(config)
    (bound,) = plan.bounds.values()

    def sampling() -> None:
        for start in range(0, trajectories, config.block):
            noise = TrajectoryNoise(config.seed, range(start, min(start + config.block, trajectories)))
            x = initial_state(plan.process, float(plan.times[0]), noise, plan.model.shape, plan.dtype)
            simulate(bound.denoiser, plan.process, x, plan.times, noise)

    def probing() -> None:
        with tempfile.TemporaryDirectory() as folder:
            probe.run(config, Path(folder) / "run")

    ratios = []
    for _ in range(turns):
        plain, whole = seconds(sampling), seconds(probing)
        ratios.append(whole / plain)
        print(f"sampling {plain:.1f} s, whole probe {whole:.1f} s, ratio {ratios[-1]:.3f}", flush=True)
    print(f"ratio, median of {turns} turns: {statistics.median(ratios):.3f}")


def training_step(turns: int, batch: int) -> None:
    """Take optimiser steps in both ways in turns; time per image."""
    images, config = fashion_mnist("train", "binary"), TrainConfig("fashion-mnist-binary", batch=batch)
    with tempfile.TemporaryDirectory() as folder:
        ours = Training(
            config, RECIPES[config.recipe], Path(folder), images, images.first(1), torch.device("cpu"), Workers()
        )
    plain = Plain(images, config)
    times: dict[str, list[float]] = {"softmode": [], "plain float32 loop": []}
    for turn in range(turns + 1):
        for name, step in (("softmode", ours.train_step), ("plain float32 loop", plain.step)):
            taken = seconds(step) / config.batch
            if turn:
                times[name].append(taken)
    for name, taken_all in times.items():
        print(f"{name}: {1e3 * statistics.median(taken_all):.1f} ms per image")
    ratios = [b / a for a, b in zip(*times.values(), strict=True)]
    print(f"ratio {statistics.median(ratios):.2f} (bfloat16: {ours.bfloat16})")


class Plain:
    """Supp. F.4 as one would first write it: float32, contiguous, the whole batch at once."""

    def __init__(self, images: Images, config: TrainConfig) -> None:
        self.x, self.config, self.network = images.tensor(), config, UNet()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=config.learning_rate)

    def step(self) -> None:
        x = self.x[torch.randint(len(self.x), (self.config.batch,))]
        t = torch.exp(torch.empty(len(x)).uniform_(np.log(self.config.t_min), np.log(self.config.t_max)))
        eps, alpha = torch.randn_like(x), torch.exp(-t / 2).reshape(-1, 1, 1, 1)
        loss = functional.mse_loss(self.network(alpha * x + (1 - alpha**2).sqrt() * eps, t), eps)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.optimizer.step()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("gains", "probe", "training"))
    parser.add_argument("--model", default="fashion-mnist-binary")
    parser.add_argument("--states", default="forward", choices=("forward", "reverse"))
    parser.add_argument("--trajectories", type=int, default=0, help="default: 64 for gains, 16 for probe")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="training: one turn with 16 images, to see that it works")
    chosen = parser.parse_args()
    if chosen.what == "gains":
        gains(chosen.model, chosen.states, chosen.trajectories or 64)
    elif chosen.what == "probe":
        whole_probe(chosen.model, chosen.trajectories or 16, chosen.steps, chosen.turns)
    else:
        training_step(*((1, 16) if chosen.small else (chosen.turns, 256)))
