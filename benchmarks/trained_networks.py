"""Time and count what probing and training a network cost against the straightforward ways, each pair in one run.

python benchmarks/trained_networks.py gains      # evaluations for one standard error: multiplexed or one by one
python benchmarks/trained_networks.py probe      # a whole probe against plain sampling of its trajectories
python benchmarks/trained_networks.py labels     # trajectories of ten labels in one call against label by label
python benchmarks/trained_networks.py training   # a training step against the plain float32 loop

With --small each takes a few seconds, to see that it works.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from softmode.data import Images, fashion_mnist
from softmode.estimate import bootstrap
from softmode.experiments.call import experiment
from softmode.experiments.probe.config import Config
from softmode.experiments.probe.measure import ProbePlan, prepare
from softmode.networks.ablation import networks_in
from softmode.networks.load import load_model
from softmode.networks.unet import UNet
from softmode.observe.gains import evaluations
from softmode.runs.engine import execute
from softmode.runs.run import Run
from softmode.samplers import initial_state
from softmode.simulation import simulate
from softmode.streams import TrajectoryNoise
from softmode.training.config import TrainConfig
from softmode.training.recipes import check
from softmode.training.state import Training
from softmode.training.workers import Workers

RECIPES: tuple[Literal["edm", "paper"], ...] = ("edm", "paper")
# fewer steps and shells than a probe's own, where it only has to work
SMALL = {"t_max": 2.0, "shells": 3, "snapshots": (1.0,)}
# noise levels between which the errors of gains are compared: beyond, they hardly fluctuate or vanish
LEVELS = (0.5, 50.0)
TEN = tuple(range(10))


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def whole(plan: ProbePlan, folder: str) -> Run:
    """Run a whole probe, its analysis included."""
    return execute(experiment("probe"), plan, Path(folder) / "run")


def gains(model: str, states: str, trajectories: int, small: bool) -> None:
    """Measure the same states with both methods; evaluations for equal errors go with the square of the errors."""
    options = SMALL | {"steps": 20, "measure_every": 5} if small else {"measure_every": 250, "snapshots": (1.0,)}
    spent, errors, means = {}, {}, {}
    for method in ("difference", "multiplexed"):
        config = Config(
            model=model, states=states, method=method, trajectories=trajectories, block=trajectories, **options
        )
        with tempfile.TemporaryDirectory() as folder:
            data = whole(prepare(config), folder).dataset[["gain", "noise_level"]].load()
        measured, levels = data["gain"].to_numpy().mean(-1), data["noise_level"].to_numpy()
        shape = measured.shape[1:]
        errors[method] = np.reshape([each.stderr for each in bootstrap(measured, np.ravel)], shape)
        means[method] = measured
        spent[method] = evaluations(method, config.shells, 2)
    cost = spent["difference"] / spent["multiplexed"]
    ratio = cost * (errors["difference"] / errors["multiplexed"]) ** 2
    difference = means["multiplexed"] - means["difference"]
    z = difference.mean(0) / np.maximum(difference.std(0, ddof=1) / trajectories**0.5, 1e-4)
    inside = (levels > LEVELS[0]) & (levels < LEVELS[1])
    print(f"{model}, {states} states, {trajectories} trajectories; evaluations per state {spent}")
    print(f"largest |mean difference| in standard errors, over {z.size} shells and noise levels: {np.abs(z).max():.2f}")
    print("evaluations saved at equal standard error of the shell medians (times fewer), by noise level and shell:")
    for level, row in zip(levels[inside], ratio[inside], strict=True):
        print(f"  sigma {level:7.3f}: " + " ".join(f"{value:5.1f}" for value in row))
    overall = np.median(ratio[inside]), np.median(ratio[inside][:, 1:])
    print(f"median over shells and noise levels {overall[0]:.1f}, shells n >= 1 {overall[1]:.1f}")


def whole_probe(model: str, trajectories: int, steps: int, turns: int, small: bool) -> None:
    """Run a whole probe and plain sampling of the same trajectories in turns."""
    options = (
        SMALL | {"steps": 60, "measure_every": 20} if small else {"steps": steps, "measure_every": max(1, steps // 100)}
    )
    config = Config(model=model, trajectories=trajectories, **options)
    plan = prepare(config)
    (of_class,) = plan.classes.values()

    def sampling() -> None:
        for block in plan.blocks():
            noise = TrajectoryNoise(config.seed, block.trajectories)
            x = initial_state(plan.process, float(plan.times[0]), noise, plan.model.shape, plan.dtype)
            simulate(of_class.denoiser, plan.process, x, plan.times, noise, sampler=plan.sampler)

    def probing() -> None:
        with tempfile.TemporaryDirectory() as folder:
            whole(prepare(config), folder)

    ratios = []
    for _ in range(turns):
        plain, probed = seconds(sampling), seconds(probing)
        ratios.append(probed / plain)
        print(f"sampling {plain:.1f} s, whole probe {probed:.1f} s, ratio {ratios[-1]:.3f}", flush=True)
    print(f"ratio, median of {turns} turn(s): {statistics.median(ratios):.3f}")


def labels_together(model: str, trajectories: int, steps: int, turns: int, small: bool, device: str) -> None:
    """Probe the same number of trajectories of one label, of ten in one call, and of ten label by label, in turns."""
    options = SMALL | {"steps": 6, "measure_every": 6} if small else {"steps": steps, "measure_every": 20}
    many, clock = TEN[: 3 if small else 10], time.process_time if device == "cpu" else time.perf_counter
    known = load_model(model, device=device)
    apart, (network,) = replace(known, batched=None), networks_in(known.denoiser(0))
    ways = {"one label": (known, (3,)), "ten, one call": (known, many), "ten, label by label": (apart, many)}
    plans = {
        name: prepare(
            Config(model=model, labels=labels, trajectories=trajectories, device=device, **options), {"model": of}
        )
        for name, (of, labels) in ways.items()
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    found = dict[str, list[np.ndarray]]()
    for turn in range(turns):
        for name, plan in plans.items():
            sizes = list[int]()
            handle = network.register_forward_pre_hook(lambda _module, args, sizes=sizes: sizes.append(len(args[0])))
            start = clock()
            found[name] = [plan.measure(block)["gain"] for block in plan.blocks()]
            times[name].append(clock() - start)
            handle.remove()
            if not turn:
                print(f"{name}: {len(sizes)} calls of the network, {sum(sizes)} states in all", flush=True)
    kind = "of the processor" if device == "cpu" else "by the clock"
    one, together, by_label = times.values()
    for name, taken in times.items():
        ratio = statistics.median(b / a for a, b in zip(one, taken, strict=True))
        print(f"{name}: {statistics.median(taken):.2f} s {kind}, {ratio:.3f} times that of one label")
    faster = statistics.median(b / a for a, b in zip(together, by_label, strict=True))
    print(f"label by label takes {faster:.2f} times as long as one call, median of {turns} turn(s)")
    off = max(np.abs(a - b).max() for a, b in zip(*(found[name] for name in list(ways)[1:]), strict=True))
    print(f"largest difference of a gain: {off:.1e}")


def training_step(turns: int, batch: int) -> None:
    """Take optimiser steps by both recipes and in the plain way in turns; time per image."""
    images = fashion_mnist("train", "binary")
    steps, bfloat16 = dict[str, Callable[[], float | None]](), False
    for recipe in RECIPES:
        config, network = check(TrainConfig("fashion-mnist-binary", recipe, batch=batch))
        with tempfile.TemporaryDirectory() as folder:
            ours = Training(config, network, Path(folder), images, images.first(1), torch.device("cpu"), Workers())
        steps[recipe], bfloat16 = ours.train_step, ours.bfloat16
    steps["plain float32 loop"] = Plain(images, config).step
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(turns + 1):
        for name, step in steps.items():
            taken = seconds(step) / batch
            if turn:
                times[name].append(taken)
    *ours_taken, plain = times.values()
    print(f"plain float32 loop of F.4: {1e3 * statistics.median(plain):.1f} ms per image")
    for recipe, each in zip(RECIPES, ours_taken, strict=True):
        ratio = statistics.median(b / a for a, b in zip(each, plain, strict=True))
        print(f"recipe {recipe}: {1e3 * statistics.median(each):.1f} ms per image, ratio {ratio:.2f}")
    print(f"bfloat16: {bfloat16}, {torch.get_num_threads()} threads, batches of {batch}")


class Plain:
    """Supp. F.4 as one would first write it: float32, contiguous, the whole batch at once."""

    def __init__(self, images: Images, config: TrainConfig) -> None:
        self.x, self.config, self.network = images.tensor(), config, UNet()
        assert config.batch is not None
        self.batch = config.batch
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=config.learning_rate or 0.0)

    def step(self) -> None:
        x = self.x[torch.randint(len(self.x), (self.batch,))]
        t = torch.exp(torch.empty(len(x)).uniform_(np.log(self.config.t_min), np.log(self.config.t_max)))
        eps, alpha = torch.randn_like(x), torch.exp(-t / 2).reshape(-1, 1, 1, 1)
        loss = functional.mse_loss(self.network(alpha * x + (1 - alpha**2).sqrt() * eps, t), eps)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.optimizer.step()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("gains", "probe", "labels", "training"))
    parser.add_argument("--model", default="fashion-mnist-binary")
    parser.add_argument("--labelled", default="fashion-mnist", help="of labels: a model of ten classes")
    parser.add_argument("--device", default="cpu", help="of labels")
    parser.add_argument("--states", default="forward", choices=("forward", "reverse"), help="of gains")
    parser.add_argument(
        "--trajectories", type=int, default=0, help="default: 64 for gains, 16 for probe, 32 for labels"
    )
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="few steps and one turn, to see that it works")
    chosen = parser.parse_args()
    turns = 1 if chosen.small else chosen.turns
    if chosen.what == "gains":
        # the quickest of the shipped networks
        model = "fashion-mnist-guide" if chosen.small else chosen.model
        gains(model, chosen.states, chosen.trajectories or (4 if chosen.small else 64), chosen.small)
    elif chosen.what == "probe":
        whole_probe(chosen.model, chosen.trajectories or (2 if chosen.small else 16), chosen.steps, turns, chosen.small)
    elif chosen.what == "labels":
        many = chosen.trajectories or (3 if chosen.small else 32)
        labels_together(chosen.labelled, many, min(chosen.steps, 100), turns, chosen.small, chosen.device)
    else:
        training_step(turns, 16 if chosen.small else 256)
