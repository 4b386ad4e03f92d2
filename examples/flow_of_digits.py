"""Train a labelled flow network of one's own in plain torch, and ask softmode where to guide it and what that does.

    python examples/flow_of_digits.py --data mnist.npz --out runs/digits    # arrays images (0 to 255) and labels
    python examples/flow_of_digits.py --out runs/clothes                    # Fashion-MNIST in its place

From the file of weights to a window and a pulse it takes the three lines of `measure`. With --images 64 --steps 8
--tiny all of it takes some fifteen seconds, to see that it works.

The network is trained by flow matching (Lipman et al. 2023): x_t = (1 - t) x_0 + t eps, the velocity eps - x_0, and a
label that is dropped one time in ten, for guidance.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import softmode as sm

CLASSES = 10


class Block(nn.Module):
    """Two convolutions beside a shortcut, told of time and label by a shift."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width_in, width, 3, padding=1)
        self.shift = nn.Linear(64, width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(width_in, width, 1)
        self.norm = nn.GroupNorm(8, width)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """Return [batch, width, *space]."""
        hidden = self.norm(self.first(functional.silu(x))) + self.shift(told)[:, :, None, None]
        return self.shortcut(x) + self.second(functional.silu(hidden))


class Flow(nn.Module):
    """A small U-Net of 28x28 pixels that predicts a velocity; label 10 is none."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.labels = nn.Embedding(CLASSES + 1, 64)
        self.told = nn.Sequential(nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64))
        self.top = Block(1, width)
        self.middle = Block(width, 2 * width)
        self.deep = Block(2 * width, 2 * width)
        self.up = Block(4 * width, width)
        self.last = Block(2 * width, width)
        self.out = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """Return the velocity at states [batch, 1, 28, 28], times [batch] and labels [batch]."""
        waves = t[:, None] * torch.exp(torch.linspace(0, math.log(1000), 32, dtype=t.dtype, device=t.device))
        told = self.told(torch.cat([waves.cos(), waves.sin()], 1) + self.labels(label))
        top = self.top(x, told)
        middle = self.middle(functional.avg_pool2d(top, 2), told)
        deep = self.deep(functional.avg_pool2d(middle, 2), told)
        middle = self.up(torch.cat([middle, functional.interpolate(deep, scale_factor=2.0)], 1), told)
        return self.out(self.last(torch.cat([top, functional.interpolate(middle, scale_factor=2.0)], 1), told))


def images(data: str, count: int | None) -> tuple[Tensor, Tensor]:
    """Return images [image, 1, 28, 28] in [-1, 1] and labels [image], of a file or of Fashion-MNIST."""
    if not data:
        own = sm.fashion_mnist("train", "grey").first(count or 60_000)
        return own.tensor(), own.labels
    with np.load(data) as found:
        pixels, labels = (torch.from_numpy(found[name][:count]) for name in ("images", "labels"))
    return pixels.reshape(-1, 1, 28, 28).float() / 127.5 - 1, labels.long()


def train(weights: Path, data: str, count: int | None, steps: int, width: int) -> None:
    """Train the network and leave its averaged weights in a file."""
    torch.manual_seed(0)
    clean, labels = images(data, count)
    network = Flow(width)
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn())
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, steps)
    start = time.perf_counter()
    for step in range(steps):
        index = torch.randint(len(clean), (64,))
        x_0, eps = clean[index], torch.randn(64, 1, 28, 28)
        t = torch.randn(64).sigmoid()[:, None, None, None]
        told = torch.where(torch.rand(64) < 0.1, CLASSES, labels[index])
        loss = functional.mse_loss(network((1 - t) * x_0 + t * eps, t.flatten(), told), eps - x_0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
        average.update_parameters(network)
        if step == steps - 1 or step % 1000 == 999:
            left = (time.perf_counter() - start) / (step + 1) * (steps - step - 1)
            print(f"step {step + 1}: loss {loss.item():.4f}, {left:.0f} s left", flush=True)
    torch.save(average.module.state_dict(), weights)


def load(weights: Path) -> Flow:
    """Return the trained network."""
    state = torch.load(weights, weights_only=True)
    network = Flow(width=state["out.weight"].shape[1])
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def measure(weights: Path, out: Path, window: dict[str, object], pulse: dict[str, object]) -> None:
    """Print in which noise window to guide the network, and what a pulse of guidance does there."""
    flow = sm.from_flow(load(weights), classes=CLASSES + 1, null_label=CLASSES)
    print(sm.window(flow, shape=(1, 28, 28), labels=(3, 7), out=out / "window", **window))
    print(sm.pulse(flow, shape=(1, 28, 28), labels=(3, 7), classifier="none", out=out / "pulse", **pulse))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/digits"))
    parser.add_argument("--data", default="", help="a file.npz with images and labels; Fashion-MNIST when left out")
    parser.add_argument("--images", type=int, help="train on the first images alone; on all when left out")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--tiny", action="store_true", help="a narrow network, and a few states")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    kept = chosen.out / "weights.pt"
    if not kept.exists():
        train(kept, chosen.data, chosen.images, chosen.steps, width=8 if chosen.tiny else 32)
    small: dict[str, object] = {"quick": True, "shells": 3} if chosen.tiny else {}
    few: dict[str, object] = {"trials": 2, "steps": 8, "sigma_c": 3.0, "half_width": 2.0}
    found: dict[str, object] = {"window": str(chosen.out / "window")}
    measure(kept, chosen.out, small, few if chosen.tiny else found)
