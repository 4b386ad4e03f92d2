"""Does the reduced theory of the soft modes grow as the patch model does that it was measured on?

    python benchmarks/landau_langevin.py               # a minute on one core
    python benchmarks/landau_langevin.py --small

M, K and U of the constant mode of the two-state model are measured over states of pure noise, and the Landau-Langevin
equation of all slow waves is integrated with them, and with the tree-level coefficients of Eqs. 15 to 17, on the same
random numbers. Printed is the power of the constant mode, in units of the noise's own.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from softmode.exact.patch import TwoStatePatch
from softmode.formulas.landau import ginzburg_landau
from softmode.formulas.landau_langevin import LandauLangevin
from softmode.lattice import ReceptiveField
from softmode.observe.sector import sector
from softmode.process import VE
from softmode.samplers import EulerMaruyama, initial_state
from softmode.simulation import simulate
from softmode.streams import TrajectoryNoise

FIELD, FIRST, LAST = ReceptiveField.box(5), 40.0, 1.5
# one, two and three waves along an axis of 40 sites are slow
SLOW = (0.17, 0.33, 0.5)
Denoiser = Callable[[Tensor, Tensor | float], Tensor]


def measured(side: int, levels: np.ndarray, states: int) -> np.ndarray:
    """Return M, K and U of the constant mode over states of noise, [coefficient, level]."""
    patch, generator = TwoStatePatch(FIELD), torch.Generator().manual_seed(0)
    mode = torch.full((1, 1, 1, side, side), 1 / side, dtype=torch.float64)
    rows = []
    for sigma in levels:
        x = float(sigma) * torch.randn(states, 1, side, side, generator=generator, dtype=torch.float64)
        found = sector(patch, x, float(sigma), mode.expand(states, *mode.shape[1:]))
        stiffness = found.stiffness.value.diagonal(dim1=-2, dim2=-1)
        rows.append([float(each.mean()) for each in (found.mass, stiffness, found.quartic)])
    return np.array(rows).T


def tree_level(levels: np.ndarray) -> np.ndarray:
    """Return the coefficients of Eqs. 15 to 17, [coefficient, level]."""
    theory = ginzburg_landau(VE(), torch.from_numpy(levels), FIELD)
    return torch.stack([theory.r, theory.kappa, 6 * theory.u]).numpy()


def power(denoiser: Denoiser, side: int, trajectories: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return noise levels and the mean power of the constant mode there, in units of the noise's."""
    process, noise = VE(), TrajectoryNoise(0, list(range(trajectories)), torch.device("cpu"))
    times, places = EulerMaruyama().grid(process, FIRST, LAST, steps), list(range(0, steps + 1, steps // 10))
    start = initial_state(process, FIRST, noise, (1, side, side), torch.float64)
    run = simulate(denoiser, process, start, times, noise, sampler=EulerMaruyama(), snapshots_at=places)
    total = run.snapshots.flatten(2).sum(2).square().mean(0) / side**2
    return times[places], total / times[places].square()


def main() -> None:
    """Measure, integrate, and print the growth of all three."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--small", action="store_true", help="a small lattice and few steps, to see that it works")
    small = parser.parse_args().small
    side, trajectories, steps, states = (16, 2, 50, 2) if small else (40, 64, 600, 16)
    levels = np.geomspace(LAST, FIRST, 6 if small else 16)
    coefficients, bare = measured(side, levels, states), tree_level(levels)
    print("sigma | sigma^2 M, measured | tree level")
    for i in range(0, len(levels), 3):
        print(f"{levels[i]:.2f} | {levels[i] ** 2 * coefficients[0, i]:.2f} | {levels[i] ** 2 * bare[0, i]:.2f}")
    theories: dict[str, Denoiser] = {"patch model": TwoStatePatch(FIELD)}
    theories |= {f"|k| <= {slow}": LandauLangevin(levels, *coefficients, highest=slow) for slow in SLOW}
    theories |= {"tree level": LandauLangevin(levels, *bare, highest=SLOW[1])}
    found = {name: power(each, side, trajectories, steps) for name, each in theories.items()}
    print(f"power of the constant mode / sigma^2, {trajectories} trajectories of {side} x {side} sites")
    print(" | ".join(["sigma", *found]))
    for i, sigma in enumerate(found["patch model"][0].tolist()):
        print(" | ".join([f"{sigma:.2f}", *(f"{float(each[i]):.2f}" for _, each in found.values())]))


if __name__ == "__main__":
    main()
