"""What a probe can be asked for: samplers, classes, colours, precision, classifiers; and its defaults."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from softmode.config import ProbeConfig
from softmode.data import Images
from softmode.exact.empirical import EmpiricalDenoiser
from softmode.exact.gaussian import GaussianDenoiser
from softmode.experiments import probe, probe_setup
from softmode.lattice import Lattice
from softmode.model import Model
from softmode.process import VE, VP, Process, rho_grid

SMALL = ProbeConfig("exact", steps=12, shells=3, trajectories=4, block=4, dtype="float64", sampler="heun")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classes(channels: int = 1, process: Process | None = None) -> Model:
    """Return an empirical model of two classes of three data each, on 8x8 sites, with held-out data."""
    data = normal(6, channels, 8, 8)
    pixels = (255 * torch.rand(8, channels, 8, 8, generator=torch.Generator().manual_seed(1))).to(torch.uint8)
    return Model(
        "two", process or VE(), (channels, 8, 8), classes=2, images=Images(pixels, torch.arange(8) % 2, "grey"),
        bind=lambda label: EmpiricalDenoiser(data if label is None else data[3 * label : 3 * label + 3]),
        spectrum=torch.stack([torch.full((8, 8), s) for s in (1.0, 2.0, 3.0)]), mean=torch.zeros(3, channels, 8, 8),
    )  # fmt: skip


def test_heun_runs_on_the_edm_levels_whatever_the_process(tmp_path: Path) -> None:
    """The same noise levels, the same x / alpha, gains and xi_eq for VP and VE: one probability flow in two clothes."""
    runs = []
    for process in (VE(), VP()):
        level = float(process.noise_level(probe_setup.settle(SMALL, classes(process=process)).t_max or 0.0))
        assert level == pytest.approx(80.0)
        # fine enough that both samplers have converged to the same flow
        config = replace(SMALL, steps=600, measure_every=40, method="difference", trajectories=2)
        runs.append(probe.run(config, tmp_path / type(process).__name__, classes(process=process)).arrays)
    ve, vp = runs
    np.testing.assert_allclose(ve["noise_level"], rho_grid(levels=601)[::40], rtol=1e-12)
    np.testing.assert_allclose(vp["noise_level"], ve["noise_level"], rtol=1e-9)
    # VP starts with unit variance, VE with sigma: equal to 1 / sigma^2
    np.testing.assert_allclose(vp["gain"], ve["gain"], atol=2e-3)


@pytest.mark.parametrize("method", ["difference", "multiplexed", "jvp"])
def test_vp_and_ve_give_the_same_gains_on_noised_data(method: str, tmp_path: Path) -> None:
    """The same denoiser, data and noise: gains agree to 1e-5 and xi_eq to rounding."""
    config = replace(SMALL, states="forward", method=method)
    vp, ve = (
        probe.run(config, tmp_path / name, classes(process=process)).arrays
        for name, process in (("vp", VP()), ("ve", VE()))
    )
    assert float(np.abs(vp["gain"].to_numpy() - ve["gain"].to_numpy()).max()) < 1e-5
    lengths = [run["xi_eq_gain"].to_numpy() for run in (vp, ve)]
    assert np.isfinite(lengths[0]).any()
    np.testing.assert_allclose(*lengths, rtol=1e-3)


def test_classes_are_dealt_out_in_turn(tmp_path: Path) -> None:
    """Trajectory i has class i modulo the classes, whatever the block; each is what a run of its class alone gives."""
    model, config = classes(), replace(SMALL, trajectories=6, method="difference")
    both = probe.run(replace(config, labels="1,0"), tmp_path / "both", model).arrays
    small = probe.run(replace(config, labels="1,0", block=1), tmp_path / "small", model).arrays
    alone = [probe.run(replace(config, labels=str(n)), tmp_path / str(n), model).arrays for n in range(2)]
    for name in ("gain", "xi_moment", "denoised", "kernel", "null_xi_x"):
        np.testing.assert_allclose(both[name].to_numpy(), small[name].to_numpy(), rtol=1e-8, atol=1e-10)
        for i in range(6):
            expected = alone[1 - i % 2][name].to_numpy()[i]
            np.testing.assert_allclose(both[name].to_numpy()[i], expected, rtol=1e-8, atol=1e-10)
    assert float(np.abs(alone[0]["gain"] - alone[1]["gain"]).max()) > 1e-3
    null = both["null_gain"].to_numpy()
    np.testing.assert_allclose(null, (alone[0]["null_gain"] + alone[1]["null_gain"]) / 2, rtol=1e-12)
    uneven = probe.run(replace(config, labels="1,0", trajectories=3), tmp_path / "uneven", model).arrays
    expected = (alone[0]["null_gain"] + 2 * alone[1]["null_gain"]) / 3
    np.testing.assert_allclose(uneven["null_gain"], expected, rtol=1e-12)


def test_noised_data_are_of_the_trajectorys_class(tmp_path: Path) -> None:
    """At the lowest noise level the states of trajectory i are the next image of its class."""
    model = classes()
    assert model.images is not None
    config = replace(SMALL, states="forward", labels="1,0", snapshots=(0.002,))
    states = probe.run(config, tmp_path / "run", model).arrays["snapshots"].to_numpy()[:, 0]
    # of images 0 .. 7 the odd ones are of class 1
    expected = model.images.tensor()[[1, 0, 3, 2]].numpy()
    assert float(np.abs(states - expected).max()) < 0.02


def test_colours_come_apart(tmp_path: Path) -> None:
    """RGB: luminance, chroma and channel gains are the dense Jacobian's; the null has the luminance's spectrum."""
    model = replace(classes(3), spectrum=None, mean=None, classes=0)
    np.savez(tmp_path / "own.npz", images=normal(5, 3, 8, 8, seed=3).numpy())
    config = replace(SMALL, states="forward", data=str(tmp_path / "own.npz"), snapshots=(0.5,), steps=4)
    config = replace(config, t_max=0.6, t_min=0.4, method="jvp")
    prepared = probe_setup.prepare(config, model)
    config = replace(config, snapshots=(float(prepared.times[2]),))
    run = probe.run(config, tmp_path / "run", model)
    data = run.arrays
    x, sigma = torch.tensor(data["snapshots"].to_numpy()[:, 0]), float(prepared.times[2])
    jacobian = EmpiricalDenoiser(normal(6, 3, 8, 8)).jacobian(x, sigma).unflatten(1, (3, 64)).unflatten(3, (3, 64))
    v = Lattice((8, 8)).modes(3).flatten(3)
    by_channel = (torch.einsum("napi,bcidj,napj->bnacd", v, jacobian, v) / 2).numpy()
    found = {name: data[name].to_numpy()[:, 2] for name in ("gain", "chroma_gain", "channel_gain")}
    np.testing.assert_allclose(found["gain"], by_channel.sum((-1, -2)) / 3, atol=1e-8)
    np.testing.assert_allclose(found["channel_gain"], np.diagonal(by_channel, axis1=-2, axis2=-1), atol=1e-8)
    trace = found["channel_gain"].sum(-1)
    np.testing.assert_allclose(found["gain"] + 2 * found["chroma_gain"], trace, atol=1e-10)
    images = normal(5, 3, 8, 8, seed=3)
    grey = torch.fft.fft2((images - images.mean(0)).sum(1) / math.sqrt(3), norm="ortho").abs().square().sum(0) / 4
    variance = float(prepared.times[2]) ** 2
    np.testing.assert_allclose(data["null_gain"][2, 0, 0], grey[0, 0] / (grey[0, 0] + variance), rtol=1e-6)
    assert run.summary["evaluations"]["gains"] == 4 * 5 * 3 * (1 + 2 * 2 * 3)


def test_latents_have_the_mean_gain_of_their_channels(tmp_path: Path) -> None:
    model = replace(classes(2), images=None, spectrum=None, mean=None)
    data = probe.run(SMALL, tmp_path / "run", model).arrays
    assert "chroma_gain" not in data
    np.testing.assert_allclose(data["gain"], data["channel_gain"].mean("channel"), rtol=1e-12)


def test_the_entropy_of_classes_is_that_of_the_denoised_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the classifier's own logits at D(x): undecided at high noise for two classes that it tells by the mean."""

    def by_mean(x: torch.Tensor) -> torch.Tensor:
        m = 3 * x.flatten(1).mean(1)
        return torch.stack([m, -m], 1)

    monkeypatch.setattr(probe_setup, "named_classifier", lambda *_: (by_mean, "", ""))
    field = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    model = replace(classes(), bind=lambda _label: EmpiricalDenoiser(torch.cat([field, -field])))
    run = probe.run(replace(SMALL, snapshots=(80.0, 0.002)), tmp_path / "run", model)
    entropy = run.arrays["class_entropy"].to_numpy()
    p = torch.softmax(by_mean(torch.tensor(run.arrays["denoised"].to_numpy()[:, 0])), 1).numpy()
    np.testing.assert_allclose(entropy[:, 0], -(p * np.log(p)).sum(1), rtol=1e-9)
    assert entropy[:, 0].min() > 0.5
    assert entropy[:, -1].max() < 0.05
    assert run.summary["evaluations"]["classes"] == 4 * 13


def test_precision_is_for_sampling_alone(tmp_path: Path) -> None:
    """A network that computes in bfloat16 moves the states a little, and its gains are still float32's: smooth."""
    torch.manual_seed(0)
    network = torch.nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")
    seen = []

    def denoiser(x: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
        out = network(x / (1 + torch.as_tensor(sigma, dtype=x.dtype)))
        seen.append(out.dtype)
        return out

    model = replace(classes(), bind=lambda _label: denoiser, images=None, spectrum=None, mean=None, classes=0)
    full, half = (
        probe.run(replace(SMALL, dtype="float32", precision=precision), tmp_path / precision, model).arrays
        for precision in ("full", "bfloat16")
    )
    assert {torch.float32, torch.bfloat16} == set(seen)
    assert 1e-6 < float(np.abs(full["snapshots"] - half["snapshots"]).max()) < 0.5
    # a linear network: its gains are the same at every state, unless a difference was taken in bfloat16
    np.testing.assert_allclose(half["gain"], full["gain"], atol=2e-3)


def test_defaults_stay_within_what_the_model_knows() -> None:
    """EDM's range, cut to the model's; the paper's times for the reverse SDE; 63 steps of Heun, 2000 of the other."""
    bare = ProbeConfig("exact")
    edm = probe_setup.settle(bare, classes())
    assert (edm.sampler, edm.t_max, edm.t_min, edm.steps, edm.measure_every) == ("heun", 80.0, 0.002, 63, 1)
    sde = probe_setup.settle(bare, classes(process=VP()))
    assert (sde.sampler, sde.t_max, sde.t_min, sde.steps, sde.measure_every) == ("euler-maruyama", 50.0, 1e-3, 2000, 20)
    narrow = probe_setup.settle(bare, replace(classes(), levels=(0.03, 14.6)))
    assert (narrow.t_max, narrow.t_min) == (14.6, 0.03)
    vp = probe_setup.settle(bare, replace(classes(process=VP()), levels=(0.03, 14.6)))
    assert (vp.t_max, vp.t_min) == (pytest.approx(math.log1p(14.6**2)), pytest.approx(1e-3))
    chosen = probe_setup.settle(replace(bare, t_max=7.0, steps=9, measure_every=3), classes())
    assert (chosen.t_max, chosen.steps, chosen.measure_every) == (7.0, 9, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t_max": 20.0}, r"t_max: got 20, noise level 20; 'two' knows those in \[0.03, 14.6\]: leave t_max out"),
        ({"t_min": 0.01}, r"t_min: got 0.01, noise level 0.01; 'two' knows"),
        ({"labels": "0,2"}, "labels: got 2; expected 0 to 1"),
        ({"labels": "0,0"}, "a class comes twice"),
        ({"labels": "tench"}, "labels: got 'tench'; expected classes"),
        ({"labels": "0,1", "trajectories": 1}, "trajectories: got 1; expected at least 2, one of each class"),
        ({"measure_every": 0}, "measure_every: got 0"),
        ({"classifier": "nobody"}, "classifier: cannot use 'nobody'"),
    ],
)
def test_bad_input_is_named(change: dict, message: str, tmp_path: Path) -> None:
    model = replace(classes(), levels=(0.03, 14.6))
    with pytest.raises(ValueError, match=message):
        probe.run(replace(SMALL, **change), tmp_path / "run", model)
    assert not (tmp_path / "run").exists()


def test_the_null_of_several_channels_draws_them_apart() -> None:
    null = GaussianDenoiser(torch.ones(4, 4, dtype=torch.float64))
    fields = null.sample(2000, torch.Generator().manual_seed(0), 3)
    assert fields.shape == (2000, 3, 4, 4)
    correlation = (fields[:, 0] * fields[:, 1]).mean()
    assert abs(float(correlation)) < 4 / math.sqrt(2000 * 16)
