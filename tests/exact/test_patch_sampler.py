"""The reverse SDE of a patch model, many steps at once, against the same equation written step by step."""

from itertools import pairwise

import pytest
import torch

from softmode.counter_noise import numbers
from softmode.exact.dictionary import paper_dictionary
from softmode.exact.patch import PatchDenoiser, TwoStatePatch
from softmode.exact.patch_sampler import PatchEulerMaruyama
from softmode.experiments.patch.config import Config
from softmode.experiments.patch.measure import STEPS_AT_ONCE, prepare
from softmode.lattice import ReceptiveField
from softmode.process import VE, VP, Process, log_grid
from softmode.simulation import simulate
from softmode.streams import TrajectoryNoise

PROCESSES = {"vp": VP(), "ve": VE()}
BOX = ReceptiveField.box(3)


def euler_maruyama(
    model: PatchDenoiser | TwoStatePatch, process: Process, x: torch.Tensor, times: torch.Tensor, seeds: list[int]
) -> torch.Tensor:
    """x + (f x - g^2 score) dt + g sqrt|dt| eta in the process's own coordinates (Eqs. 58-60), float64."""
    for k, (t, t_next) in enumerate(pairwise(times)):
        eta = numbers(torch.tensor(seeds), x.shape[2:], k, "gaussian").double()[:, None]
        step = t_next - t
        x = x + process.evaluate(model, x, t, "sde") * step + process.diffusion(t) * step.abs().sqrt() * eta
    return x


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_it_is_the_equation_of_the_paper(name: str, dtype: torch.dtype) -> None:
    """In both processes and both floating types; in float32 as far as its rounding lets one see."""
    process, model = PROCESSES[name], PatchDenoiser(paper_dictionary(0))
    times = log_grid(6.0, 0.2, 40)
    noise = TrajectoryNoise(3, [0, 5])
    x = noise.fill_(torch.empty(2, 1, 12, 12, dtype=torch.float64)) * process.sigma(times[0])
    expected = euler_maruyama(model, process, x, times, noise.seeds)
    run = simulate(model, process, x.to(dtype), times, noise, sampler=PatchEulerMaruyama(fine=times))
    tolerance = 1e-12 if dtype == torch.float64 else 2e-4
    torch.testing.assert_close(run.state.double(), expected, rtol=tolerance, atol=tolerance)


def test_states_do_not_depend_on_where_one_looks() -> None:
    """All times or a few of them, trajectories together or apart: the same states to the bit."""
    model, process, times = TwoStatePatch(BOX), VP(), log_grid(5.0, 0.1, 30)

    def sampled(grid: list[int], trajectories: list[int]) -> torch.Tensor:
        noise = TrajectoryNoise(1, trajectories)
        x = noise.fill_(torch.empty(len(trajectories), 1, 8, 8))
        sampler = PatchEulerMaruyama(fine=times)
        places = [grid.index(k) for k in (0, 10, 30)]
        return simulate(model, process, x, times[grid], noise, sampler=sampler, snapshots_at=places).snapshots

    every = sampled(list(range(31)), [0, 1, 2])
    assert torch.equal(every, sampled([0, 10, 30], [0, 1, 2]))
    assert torch.equal(every[2:], sampled([0, 7, 10, 29, 30], [2]))


def test_its_random_numbers_are_not_those_of_the_start() -> None:
    """The first step's numbers are uncorrelated with the state from which it starts."""
    noise = TrajectoryNoise(0, range(4))
    x = noise.fill_(torch.empty(4, 1, 64, 64))
    eta = numbers(torch.tensor(noise.seeds), (64, 64), 0, "gaussian")[:, None]
    assert abs(float((x * eta).mean())) < 4 / x.numel() ** 0.5


def test_what_it_cannot_sample_is_refused() -> None:
    model, times, x = TwoStatePatch(BOX), log_grid(5.0, 0.1, 30), torch.zeros(1, 1, 8, 8)
    sampler, noise = PatchEulerMaruyama(fine=times), TrajectoryNoise(0, [0])
    with pytest.raises(ValueError, match="noise: got None"):
        next(sampler.steps(model, VP(), x, times, None))
    with pytest.raises(ValueError, match=r"denoiser: got .*; expected a patch model"):
        next(sampler.steps(lambda x, sigma: x, VP(), x, times, noise))
    with pytest.raises(ValueError, match=r"times: got .*; expected some of the times of the steps"):
        next(sampler.steps(model, VP(), x, times * 1.01, noise))


def test_the_run_hears_of_its_steps() -> None:
    """However rarely it measures: for progress, and so that it can be stopped."""
    plan = prepare(Config(size=16, steps=600, t_max=5.0, measure_every=600, snapshots=(1.0,)))
    assert {0, *plan.snapshots, 600} <= set(plan.grid)
    assert max(b - a for a, b in pairwise(plan.grid)) <= STEPS_AT_ONCE


def test_two_states_are_the_dictionary_of_two_patterns() -> None:
    """The command samples Eq. 9 with the sum over a box; the dictionary gives the same denoiser."""
    plan = prepare(Config(size=16, dictionary="two-state", receptive_field="box:3", steps=60, t_max=5.0, t_min=0.1))
    x = torch.randn(2, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert isinstance(plan.model, TwoStatePatch)
    torch.testing.assert_close(plan.model(x, 1.7), PatchDenoiser(plan.dictionary)(x, 1.7))
