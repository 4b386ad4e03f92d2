"""A probe of an exact model finds the closed form, however it measures and moves."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.models import null_model
from helpers.probes import FLOW, TINY, exact_model, plan, two_classes
from helpers.random import normal, pixels
from helpers.runs import run
from softmode.data import Images
from softmode.exact.empirical import EmpiricalDenoiser
from softmode.lattice import Lattice
from softmode.observe.gains import exact_gains
from softmode.process import VE, VP, Process, rho_grid


@pytest.mark.parametrize("process", [VP(), VE()], ids=["vp", "ve"])
@pytest.mark.parametrize("method", ["difference", "jvp", "multiplexed"])
@pytest.mark.parametrize("name", ["gaussian", "patch", "prototypes"])
@pytest.mark.filterwarnings("ignore:steps")
def test_exact_models_give_their_closed_forms(name: str, method: str, process: Process, tmp_path: Path) -> None:
    """At every measured state of sampled trajectories the gains are those of the model's own formula."""
    exact = exact_model(name, process)
    every = TINY | {"method": method, "trajectories": 2, "steps": 24, "measure_every": 6, "snapshots": ()}
    grid = plan(exact, **every)
    snapshots = tuple(grid.times[grid.measured].tolist())
    data = run("probe", tmp_path / "run", model=exact, **every | {"snapshots": snapshots}).dataset
    t, states = (torch.tensor(data[what].to_numpy()) for what in ("time", "snapshots"))
    denoiser = exact.denoiser()
    expected = torch.stack(
        [exact_gains(denoiser, states[:, i] / process.alpha(u), process.noise_level(u), 3) for i, u in enumerate(t)], 1
    )
    found = torch.tensor(data["gain"].to_numpy())
    if method == "multiplexed" and name != "gaussian":
        # crosstalk between modes is noise; the constant mode has a probe of its own
        found, expected = found[:, :, :1], expected[:, :, :1]
    assert float((found - expected).abs().max()) <= 3e-4 * float(expected.abs().max())
    convention = grid.identity["model"]["convention"]
    assert convention == ("ode" if isinstance(process, VE) else "sde")
    eigenvalue = process.eigenvalue(torch.tensor(data["gain"].to_numpy()), t[:, None, None], convention).numpy()
    np.testing.assert_allclose(data["eigenvalue"], eigenvalue, rtol=1e-12)


def test_multiplexed_agrees_with_single_modes(tmp_path: Path) -> None:
    """On a nonlinear model, over 64 noised data, both methods' mean gains agree within 4 standard errors."""
    big = replace(exact_model("patch"), images=Images(pixels(64, 1, 8, 8), torch.zeros(64).long(), "binary"))
    settings = TINY | {"states": "forward", "trajectories": 64, "block": 64, "measure_every": 24}
    gains = [
        run("probe", tmp_path / method, model=big, method=method, **settings).dataset["gain"].to_numpy()
        for method in ("difference", "multiplexed")
    ]
    difference = gains[1] - gains[0]
    stderr = difference.std(0, ddof=1) / 8
    assert 0 < np.median(stderr[:, 1:]) < 0.15
    assert stderr[:, 1:].max() < 0.5
    assert np.all(np.abs(difference.mean(0)) <= 4 * stderr + 1e-4)


def test_forward_states_are_noised_data(tmp_path: Path) -> None:
    """--states forward measures at alpha x_0 + sigma eps of the held-out images, each its own trajectory."""
    gaussian = exact_model("gaussian")
    found = run("probe", tmp_path / "run", model=gaussian, **TINY | {"states": "forward", "trajectories": 9})
    assert gaussian.images is not None
    x_0, t = gaussian.images.tensor().double().numpy(), found.dataset["snapshot"].to_numpy()
    alpha, sigma = np.exp(-t / 2), np.sqrt(-np.expm1(-t))
    states = found.dataset["snapshots"].to_numpy()
    noise = (states - alpha[:, None, None, None] * x_0[:, None]) / sigma[:, None, None, None]
    assert abs(noise.mean()) < 4 / math.sqrt(noise.size)
    assert abs(noise.std() - 1) < 4 / math.sqrt(2 * noise.size)
    assert found.results.values["evaluations"]["sampling"] == 0


@pytest.mark.parametrize("states", ["reverse", "forward"])
def test_the_null_is_measured_like_the_model(states: str, tmp_path: Path) -> None:
    """Where the model is the null itself, its curves are the null's: gains, eigenvalues, and sampled xi_x."""
    settings = TINY | {"method": "difference", "states": states}
    data = run("probe", tmp_path / "run", model=exact_model("gaussian"), **settings).dataset
    for own, null in (("gain", "null_gain"), ("eigenvalue", "null_eigenvalue")):
        np.testing.assert_allclose(data[own], np.broadcast_to(data[null], data[own].shape), rtol=1e-4, atol=1e-6)
    if states == "reverse":
        np.testing.assert_allclose(data["null_xi_x"], data["xi_moment"], rtol=1e-4, atol=1e-6)
    else:
        # of data of its own, with the same noise
        assert float(np.abs(data["null_xi_x"] - data["xi_moment"]).max()) > 0.01


def test_heun_runs_on_the_edm_levels_whatever_the_process(tmp_path: Path) -> None:
    """The same noise levels, the same x / alpha, gains and xi_eq for VP and VE: one probability flow in two clothes."""
    # fine enough that both samplers have converged to the same flow
    settings = FLOW | {"steps": 600, "measure_every": 40, "method": "difference", "trajectories": 2}
    ve, vp = (
        run("probe", tmp_path / type(process).__name__, model=two_classes(process=process), **settings).dataset
        for process in (VE(), VP())
    )
    assert float(ve["noise_level"][0]) == pytest.approx(80.0)
    np.testing.assert_allclose(ve["noise_level"], rho_grid(levels=601)[::40], rtol=1e-12)
    np.testing.assert_allclose(vp["noise_level"], ve["noise_level"], rtol=1e-9)
    # VP starts with unit variance, VE with sigma: equal to 1 / sigma^2
    np.testing.assert_allclose(vp["gain"], ve["gain"], atol=2e-3)


@pytest.mark.parametrize("method", ["difference", "multiplexed", "jvp"])
def test_vp_and_ve_give_the_same_gains_on_noised_data(method: str, tmp_path: Path) -> None:
    """The same denoiser, data and noise: gains agree to 1e-5 and xi_eq to rounding."""
    settings = FLOW | {"states": "forward", "method": method}
    vp, ve = (
        run("probe", tmp_path / type(process).__name__, model=two_classes(process=process), **settings).dataset
        for process in (VP(), VE())
    )
    assert float(np.abs(vp["gain"].to_numpy() - ve["gain"].to_numpy()).max()) < 1e-5
    lengths = [found["xi_eq_gain"].to_numpy() for found in (vp, ve)]
    assert np.isfinite(lengths[0]).any()
    np.testing.assert_allclose(*lengths, rtol=1e-3)


def test_colours_come_apart(tmp_path: Path) -> None:
    """RGB: luminance, chroma and channel gains are the dense Jacobian's; the null has the luminance's spectrum."""
    model = replace(two_classes(3), spectrum=None, mean=None, classes=0)
    images = normal(5, 3, 8, 8, seed=3)
    np.savez(tmp_path / "own.npz", images=images.numpy())
    settings = FLOW | {"states": "forward", "data": str(tmp_path / "own.npz"), "steps": 4, "t_max": 0.6, "t_min": 0.4,
                       "method": "jvp"}  # fmt: skip
    sigma = float(plan(model, **settings | {"snapshots": (0.5,)}).times[2])
    found = run("probe", tmp_path / "run", model=model, **settings | {"snapshots": (sigma,)})
    data = found.dataset
    x = torch.tensor(data["snapshots"].to_numpy()[:, 0])
    jacobian = EmpiricalDenoiser(normal(6, 3, 8, 8)).jacobian(x, sigma).unflatten(1, (3, 64)).unflatten(3, (3, 64))
    v = Lattice((8, 8)).modes(3).flatten(3)
    by_channel = (torch.einsum("napi,bcidj,napj->bnacd", v, jacobian, v) / 2).numpy()
    gains = {name: data[name].to_numpy()[:, 2] for name in ("gain", "chroma_gain", "channel_gain")}
    np.testing.assert_allclose(gains["gain"], by_channel.sum((-1, -2)) / 3, atol=1e-8)
    np.testing.assert_allclose(gains["channel_gain"], np.diagonal(by_channel, axis1=-2, axis2=-1), atol=1e-8)
    trace = gains["channel_gain"].sum(-1)
    np.testing.assert_allclose(gains["gain"] + 2 * gains["chroma_gain"], trace, atol=1e-10)
    grey = torch.fft.fft2((images - images.mean(0)).sum(1) / math.sqrt(3), norm="ortho").abs().square().sum(0) / 4
    np.testing.assert_allclose(data["null_gain"][2, 0, 0], grey[0, 0] / (grey[0, 0] + sigma**2), rtol=1e-6)
    assert found.results.values["evaluations"]["gains"] == 4 * 5 * 3 * (1 + 2 * 2 * 3)


def test_latents_have_the_mean_gain_of_their_channels(tmp_path: Path) -> None:
    model = replace(two_classes(2), images=None, spectrum=None, mean=None)
    data = run("probe", tmp_path / "run", model=model, **FLOW).dataset
    assert "chroma_gain" not in data
    np.testing.assert_allclose(data["gain"], data["channel_gain"].mean("channel"), rtol=1e-12)


def test_the_null_of_several_channels_draws_them_apart() -> None:
    null = replace(exact_model("gaussian"), **null_model(8, 8)).null()
    assert null is not None
    fields = replace(null, spectrum=torch.ones(4, 4, dtype=torch.float64), mean=0.0).sample(
        2000, torch.Generator().manual_seed(0), 3
    )
    assert fields.shape == (2000, 3, 4, 4)
    correlation = (fields[:, 0] * fields[:, 1]).mean()
    assert abs(float(correlation)) < 4 / math.sqrt(2000 * 16)
