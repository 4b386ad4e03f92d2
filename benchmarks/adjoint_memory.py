"""Measure the memory of a reverse sweep against the number of steps, beside one that keeps what the networks computed.

Each is a process of its own, whose peak the system tells: of all of it, and by how much the sweep raised it.

    python benchmarks/adjoint_memory.py             # 32 and 128 steps, minutes
    python benchmarks/adjoint_memory.py --small     # few steps, to see that it works
"""

import argparse
import multiprocessing
import resource
import sys

import torch
from torch import Tensor

from softmode.denoiser import Denoiser, per_sample
from softmode.guidance.adjoint import Adjoint
from softmode.networks.load import load_model
from softmode.process import VE, rho_grid
from softmode.samplers import Heun

MODEL, LABEL, TRIALS, WEIGHT = "fashion-mnist", 3, 2, 2.0
KINDS = {"recomputed": "softmode", "kept": "plain autograd"}


def peak() -> float:
    """Return the most memory that this process has held, in MB; Linux counts in KiB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def first(final: Tensor) -> Tensor:
    """Return the first value of each sample."""
    return final.flatten(1)[:, 0].double()


def plain(adjoint: Adjoint, weights: Tensor) -> Tensor:
    """Return the derivatives by an ordinary sweep, through everything that the networks computed on the way down."""
    weights = weights.requires_grad_()

    def guided(x: Tensor, sigma: Tensor | float) -> Tensor:
        denoised, place = adjoint.denoiser(x, sigma), int((adjoint.levels - float(sigma)).abs().argmin())
        return denoised + per_sample(weights[:, place], x).to(x.dtype) * (denoised - adjoint.guide(x, sigma))

    (gradient,) = torch.autograd.grad(first(adjoint.sample(guided)).sum(), weights)
    return gradient


def one(steps: int, kind: str) -> tuple[float, float, float]:
    """Sweep once, and return the peak, the rise, and the largest derivative."""
    model = load_model(MODEL)
    levels = rho_grid(levels=steps)
    times = torch.cat([levels, levels.new_zeros(1)])
    draw = torch.Generator().manual_seed(0)
    x = float(levels[0]) * torch.randn(TRIALS, *model.shape, generator=draw)

    def sample(denoiser: Denoiser) -> Tensor:
        *_, final = Heun().steps(denoiser, VE(), x.clone(), times)
        return final

    adjoint = Adjoint(sample, model.denoiser(LABEL), model.denoiser(None), levels)
    weights = torch.full((TRIALS, steps), WEIGHT, dtype=torch.float64)
    before = peak()
    gradient = adjoint.sweep(weights, first).gradient if kind == "recomputed" else plain(adjoint, weights)
    return peak(), peak() - before, float(gradient.abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="few steps, to see that it works")
    chosen = parser.parse_args()
    print(f"{MODEL}, {TRIALS} trials, w = {WEIGHT:g}")
    print("sweep | steps | peak, MB | of which by the sweep, MB | largest derivative")
    for kind, name in KINDS.items():
        for steps in (4,) if chosen.small and kind == "kept" else (4, 8) if chosen.small else (32, 128):
            # a fork of this process, which has imported everything and computed nothing
            with multiprocessing.get_context("fork").Pool(1) as pool:
                most, rise, gradient = pool.apply(one, (steps, kind))
            print(f"{name} | {steps} | {most:.0f} | {rise:.0f} | {gradient:.6g}", flush=True)


if __name__ == "__main__":
    main()
