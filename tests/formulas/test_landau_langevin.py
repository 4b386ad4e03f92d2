"""The reduced theory by itself, and beside the patch model that its coefficients were measured on."""

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.random import normal
from softmode.denoiser import Denoiser, score
from softmode.exact.patch import TwoStatePatch
from softmode.formulas.landau import ginzburg_landau
from softmode.formulas.landau_langevin import LandauLangevin
from softmode.lattice import Lattice, ReceptiveField
from softmode.observe.sector import sector
from softmode.process import VE
from softmode.samplers import EulerMaruyama, initial_state
from softmode.simulation import simulate
from softmode.streams import TrajectoryNoise

LEVELS = np.array([1.0, 4.0])
THEORY = LandauLangevin(LEVELS, np.array([0.5, 0.1]), np.array([0.3, 0.2]), np.array([6.0, 1.2]), 2.0)


def test_slow_fields_have_the_score_of_the_theory() -> None:
    """-M phi + K laplace phi - U/6 phi^3 of one wave, whose cube has a wave of three times its length."""
    lattice, amplitude = Lattice((12, 12)), 0.7
    wave = lattice.phase((1, 0)).cos()
    found = score(THEORY, (amplitude * wave)[None, None], 1.0)[0, 0]
    k = lattice.k_min[0]
    # cos^3 = (3 cos + cos 3) / 4, and both are slow
    cube = amplitude**3 * (3 * wave + lattice.phase((3, 0)).cos()) / 4
    torch.testing.assert_close(found, -(0.5 + 0.3 * k**2) * amplitude * wave - cube)


def test_fast_fields_are_noise_alone() -> None:
    """Their D is 0; the constant mode is slow."""
    lattice = Lattice((12, 12))
    fast = lattice.phase((5, 0)).cos()[None, None]
    assert float(THEORY(fast, 1.0).abs().max()) < 1e-12
    assert float(THEORY(fast + 1, 1.0).mean()) == pytest.approx(1 - 0.5 - 1)


def test_each_state_has_the_coefficients_of_its_noise_level() -> None:
    """Half way in the logarithm, in units of the score's own."""
    x = torch.full((2, 1, 8, 8), 1e-4, dtype=torch.float64)
    gain = THEORY(x, torch.tensor([1.0, 2.0], dtype=torch.float64)).mean((1, 2, 3)) / 1e-4
    assert gain.tolist() == pytest.approx([1 - 0.5, 1 - (0.5 + 16 * 0.1) / 2])


def test_the_measured_theory_grows_as_the_patch_model_does() -> None:
    """From its noise to six times that, on the same random numbers; tree-level coefficients do not."""
    field, side, states, process = ReceptiveField.box(5), 32, 8, VE()
    patch, levels = TwoStatePatch(field), np.geomspace(2.0, 40.0, 12)
    modes = torch.full((states, 1, 1, side, side), 1 / side, dtype=torch.float64)
    rows = []
    for place, sigma in enumerate(levels):
        found = sector(patch, sigma * normal(states, 1, side, side, seed=place), float(sigma), modes)
        stiffness = found.stiffness.value.diagonal(dim1=-2, dim2=-1)
        rows.append([float(each.mean()) for each in (found.mass, stiffness, found.quartic)])
    tree = ginzburg_landau(process, torch.from_numpy(levels), field)
    slow = 2.1 * Lattice((side, side)).k_min[0]
    measured = LandauLangevin(levels, *np.array(rows).T, highest=slow)
    bare = LandauLangevin(levels, tree.r.numpy(), tree.kappa.numpy(), 6 * tree.u.numpy(), slow)

    def power(denoiser: Denoiser) -> Tensor:
        noise = TrajectoryNoise(0, range(24), torch.device("cpu"))
        times, places = EulerMaruyama().grid(process, 40.0, 2.1, 300), [0, 100, 200, 250, 300]
        start = initial_state(process, 40.0, noise, (1, side, side), torch.float64)
        run = simulate(denoiser, process, start, times, noise, sampler=EulerMaruyama(), snapshots_at=places)
        waves = torch.fft.fft2(run.snapshots[:, :, 0]).abs().square()[..., :2, 0].sum(-1)
        return waves.mean(0) / side**2 / times[places].square()

    exact, reduced, from_tree = power(patch), power(measured), power(bare)
    assert float(exact[-1] / exact[0]) > 5
    torch.testing.assert_close(reduced, exact, rtol=0.25, atol=0.0)
    assert float((from_tree / exact - 1).abs().max()) > 0.4
