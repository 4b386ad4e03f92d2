"""Train a denoiser of Fashion-MNIST with diffusers' own network, scheduler and recipe; softmode only reads the images.

    python examples/train_with_diffusers.py --out runs/diffusers --epochs 6
    softmode window diffusers:runs/diffusers --data runs/diffusers/held_out.npz --out runs/window

With --images 64 --epochs 1 it takes a few seconds, to see that it works.

The recipe is that of diffusers' tutorial "Train a diffusion model": UNet2DModel, DDPMScheduler of 1000 steps, AdamW, a
cosine schedule with warm-up, the mean squared error of the noise, gradients clipped at 1. It resumes at its last epoch.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch.nn import functional

from softmode.data import fashion_mnist

HELD_OUT = 256


def network() -> UNet2DModel:
    """Return the untrained network."""
    return UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )


def train(out: Path, epochs: int, batch: int, rate: float, count: int | None) -> None:
    """Train, or go on, and leave a DDPMPipeline and some held-out images in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    images = fashion_mnist("train", "binary").tensor(slice(count))
    held_out = fashion_mnist("test", "binary").tensor(slice(HELD_OUT))
    np.savez_compressed(out / "held_out.npz", images=held_out.numpy())
    model, scheduler = network(), DDPMScheduler(num_train_timesteps=1000)
    average = EMAModel(model.parameters(), decay=0.999)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate)
    steps = len(images) // batch
    learning_rate = get_cosine_schedule_with_warmup(optimiser, 500, steps * epochs)
    parts = {"model": model, "average": average, "optimiser": optimiser, "learning_rate": learning_rate}
    checkpoint, first = out / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        first = state.pop("epoch")
        for name, part in parts.items():
            part.load_state_dict(state[name])
    for epoch in range(first, epochs):
        generator, start, total = torch.Generator().manual_seed(epoch), time.perf_counter(), 0.0
        for index in torch.randperm(len(images), generator=generator)[: steps * batch].view(steps, batch):
            clean = images[index]
            noise = torch.randn(clean.shape, generator=generator)
            t = torch.randint(0, scheduler.config.num_train_timesteps, (batch,), generator=generator)
            loss = functional.mse_loss(model(scheduler.add_noise(clean, noise, t), t).sample, noise)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            learning_rate.step()
            optimiser.zero_grad()
            average.step(model.parameters())
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total / steps:.5f}, {time.perf_counter() - start:.0f} s", flush=True)
        staged = out / ".checkpoint.pt"
        torch.save({name: part.state_dict() for name, part in parts.items()} | {"epoch": epoch + 1}, staged)
        staged.replace(checkpoint)
        average.store(model.parameters())
        average.copy_to(model.parameters())
        DDPMPipeline(unet=model, scheduler=scheduler).save_pretrained(out)
        average.restore(model.parameters())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/diffusers"))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--images", type=int, help="train on the first images alone; on all when left out")
    chosen = parser.parse_args()
    train(chosen.out, chosen.epochs, chosen.batch, chosen.rate, chosen.images)
