"""Gains with their error, and the low noise at which 1 - G is lost in it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.models import two_gaussians
from helpers.runs import run
from softmode.critical import fit_dispersion
from softmode.experiments.validate.flaws import Noisy
from softmode.lattice import Lattice
from softmode.model import Model
from softmode.observe.gains import STEPPED, jvp_gains, mode_signs, multiplexed_gains, paper_step, probe_step
from softmode.process import VE
from softmode.runs.resolved import resolved, resolved_times, systematic
from softmode.runs.run import Run

SIDE = 16
SETTINGS: dict[str, Any] = {"trajectories": 16, "shells": 3, "sampler": "heun", "steps": 63, "block": 16}


def linear(x: Tensor, sigma: Tensor | float) -> Tensor:
    """Return D = x/(1 + sigma^2), of white data of variance 1."""
    return x * (1 / (1 + torch.as_tensor(sigma, dtype=torch.float64) ** 2)).to(x.dtype)


def probed(denoiser: Any, folder: Path, lowest: float = 0.01) -> Run:
    model = Model("model", VE(), (1, SIDE, SIDE), lambda _label: denoiser, levels=(lowest, 80.0))
    return run("probe", folder / "run", model=model, **SETTINGS)


def test_one_minus_g_of_a_linear_model_is_right_in_single_precision(tmp_path: Path) -> None:
    """Within its stated error from sigma = 0.01 to 80, though 1 - G is 1e-4 there, and within 1 % from 0.03 on."""
    run_of = probed(linear, tmp_path)
    data = run_of.dataset
    sigma, gain = data["noise_level"].to_numpy(), data["gain"].to_numpy().mean(3)
    true = (sigma**2 / (1 + sigma**2))[:, None]
    found, sampled = 1 - gain.mean(0), gain.std(0, ddof=1) / math.sqrt(len(gain))
    error = np.hypot(sampled, systematic(data["gain_change"].to_numpy()).mean(2))
    # 16 trajectories: Student's quantile of 4 standard errors, over 64 levels and 4 shells
    assert np.abs(found - true).max() / np.abs(true).max() < 1e-3
    assert (np.abs(found - true) < 6 * error + 1e-9).all()
    relative = np.abs(found / true - 1)
    assert (error / true).max() < 0.1
    assert relative[sigma > 0.03].max() < 0.01
    assert resolved_times(run_of) == len(sigma)


def test_a_denoiser_with_errors_has_no_low_noise(tmp_path: Path) -> None:
    """An error of 1e-3 drowns 1 - G of 1e-4: the levels where it does are undefined, and no peak is found there."""
    found = probed(Noisy(linear, 1e-3), tmp_path)
    levels = found.dataset["noise_level"].to_numpy()
    seen = resolved_times(found)
    assert 0.02 < levels[seen - 1] < 1
    time = found.dataset["time"].to_numpy()
    for name in ("xi_eq_gain", "xi_eq_free"):
        assert found.results.values["undefined"][name][-1][1] == pytest.approx(time[-1])
    assert all(q.level > levels[seen] for q in found.results.of("xi_eq_gain_peak"))
    assert "lost in its own error" in found.results.tables["undefined"].note


def test_gains_in_single_precision_agree_with_double_within_their_error() -> None:
    """Of two classes, off their symmetric point, by the same signs: the error is below three times the change."""
    mixture = two_gaussians(4 * torch.ones(1, SIDE, SIDE, dtype=torch.float64) / SIDE, 0.5).denoiser()
    stream = torch.Generator().manual_seed(0)
    noise = torch.randn(16, 1, SIDE, SIDE, generator=stream, dtype=torch.float64)
    signs = mode_signs(12, range(16), 0, 0)
    for sigma in (0.05, 0.5, 3.0, 20.0):
        x = (4 / SIDE + sigma * noise).float()
        exact = jvp_gains(mixture, x.double(), sigma, 3)
        crosstalk = multiplexed_gains(mixture, x.double(), sigma, 3, signs, 1e-4 * sigma)
        one, two = (multiplexed_gains(mixture, x, sigma, 3, signs, n * probe_step(x, sigma)) for n in (1, 2))
        error = float((one - crosstalk).square().mean().sqrt())
        assert error < 3 * float((two - one).square().mean().sqrt()) + 1e-7
        assert error < 2e-3 * float(exact.abs().max()) + 1e-5


def test_the_step_is_the_paper_s_unless_single_precision_asks_for_more() -> None:
    """In double precision always the paper's; in single one third of the cube root at low noise."""
    x = torch.full((2, 1, 4, 4), 2.0, dtype=torch.float64)
    for sigma in (0.002, 0.1, 1.0, 80.0):
        torch.testing.assert_close(probe_step(x, sigma), paper_step(sigma).expand(2))
    expected = (2.0**-24 * 2.0 * 0.1**2) ** (1 / 3) / 3
    assert float(paper_step(0.1)) < expected
    torch.testing.assert_close(probe_step(x.float(), 0.1), torch.full((2,), expected, dtype=torch.float64))


def test_changes_are_measured_at_every_fourth_time(tmp_path: Path) -> None:
    """And interpolated between; derivatives have none, and nothing is then known to be wrong."""
    change = probed(linear, tmp_path).dataset["gain_change"].to_numpy()
    known = np.isfinite(change).all((0, 2, 3))
    assert known.tolist() == [place % STEPPED == 0 for place in range(len(known))]
    line = np.array([[0.0, np.nan, np.nan, -3.0]] * 2)
    np.testing.assert_allclose(systematic(line), [0, 1, 2, 3])
    assert (systematic(np.full((2, 5), np.nan)) == 0).all()


def test_what_is_resolved_ends_where_the_error_takes_over() -> None:
    """A rate of 1, 0.1, 0.01 with an error of 0.02 in all is seen at two times; one trajectory has no error."""
    rate = np.array([1.0, 0.1, 0.01]) + 0.02 * np.array([[1.0], [-1.0], [1.0], [-1.0]])
    assert resolved(rate) == 2
    assert resolved(rate, 0.1) == 1
    assert resolved(rate[:1]) == 3
    k = Lattice((SIDE, SIDE)).wavenumbers(3).numpy()
    assert fit_dispersion(np.ones((2, 4, 2)), k).rate.shape == (2,)
