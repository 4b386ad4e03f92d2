"""The probe: exact models give their closed forms; reproducible, resumable, independent of batching, honest."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from softmode.config import ProbeConfig
from softmode.data import Images
from softmode.exact.empirical import EmpiricalDenoiser, TwoPrototypes
from softmode.exact.gaussian import GaussianDenoiser
from softmode.exact.patch import TwoStatePatch
from softmode.experiments import probe, probe_setup
from softmode.lattice import Lattice, ReceptiveField
from softmode.model import Model
from softmode.observe.gains import evaluations, exact_gains
from softmode.process import VE, VP, Process
from softmode.store import Run

TINY = ProbeConfig(
    "exact", t_max=6.0, t_min=0.02, steps=120, measure_every=10, shells=3, trajectories=5, block=2, dtype="float64",
    snapshots=(3.0, 0.3),
)  # fmt: skip


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spectrum(*sides: int) -> torch.Tensor:
    return 3 / (0.4 + Lattice(sides).wave_vectors().square().sum(-1))


def model(name: str, process: Process | None = None) -> Model:
    """Return an exact model on an 8x8 lattice."""
    made = {
        "gaussian": GaussianDenoiser(spectrum(8, 8), 0.2),
        "patch": TwoStatePatch(ReceptiveField.box(3)),
        "prototypes": TwoPrototypes(normal(1, 8, 8, seed=2).sign()),
        "empirical": EmpiricalDenoiser(normal(6, 1, 8, 8, seed=5)),
    }[name]
    values = (255 * torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(1))).to(torch.uint8)
    return Model(
        name, process or VP(), (1, 8, 8), lambda _label: made, binary=name != "gaussian",
        images=Images(values, torch.arange(9) % 3, "binary"),
        spectrum=spectrum(8, 8)[None].float(), mean=torch.full((1, 1, 8, 8), 0.2),
    )  # fmt: skip


def digest(directory: Path) -> dict[str, str]:
    """Hash every file of a store."""
    files = (path for path in sorted((directory / "run.zarr").rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("process", [VP(), VE()], ids=["vp", "ve"])
@pytest.mark.parametrize("method", ["difference", "jvp", "multiplexed"])
@pytest.mark.parametrize("name", ["gaussian", "patch", "prototypes"])
@pytest.mark.filterwarnings("ignore:steps")
def test_exact_models_give_their_closed_forms(name: str, method: str, process: Process, tmp_path: Path) -> None:
    """At every measured state of sampled trajectories the gains are those of the model's own formula."""
    exact = model(name, process)
    every = replace(TINY, method=method, trajectories=2, steps=24, measure_every=6, snapshots=())
    grid = probe_setup.prepare(every, exact)
    every = replace(every, snapshots=tuple(grid.times[grid.measured].tolist()))
    run = probe.run(every, tmp_path / "run", exact)
    data, t = run.arrays, torch.tensor(run.arrays["time"].to_numpy())
    states = torch.tensor(data["snapshots"].to_numpy())
    denoiser = exact.denoiser()
    expected = torch.stack(
        [exact_gains(denoiser, states[:, i] / process.alpha(u), process.noise_level(u), 3) for i, u in enumerate(t)], 1
    )
    found = torch.tensor(data["gain"].to_numpy())
    if method == "multiplexed" and name != "gaussian":
        # crosstalk between modes is noise; the constant mode has a probe of its own
        found, expected = found[:, :, :1], expected[:, :, :1]
    assert float((found - expected).abs().max()) <= 3e-4 * float(expected.abs().max())
    convention = "ode" if grid.config.sampler == "heun" else "sde"
    assert convention == ("ode" if isinstance(process, VE) else "sde")
    eigenvalue = process.eigenvalue(torch.tensor(data["gain"].to_numpy()), t[:, None, None], convention).numpy()
    np.testing.assert_allclose(data["eigenvalue"], eigenvalue, rtol=1e-12)


def test_multiplexed_agrees_with_single_modes(tmp_path: Path) -> None:
    """On a nonlinear model, over 64 noised data, both methods' mean gains agree within 4 standard errors."""
    big = model("patch")
    images = Images((255 * torch.rand(64, 1, 8, 8)).to(torch.uint8), torch.zeros(64).long(), "binary")
    big = replace(big, images=images)
    config = replace(TINY, states="forward", trajectories=64, block=64, measure_every=24)
    gains = [
        probe.run(replace(config, method=method), tmp_path / method, big).arrays["gain"].to_numpy()
        for method in ("difference", "multiplexed")
    ]
    difference = gains[1] - gains[0]
    stderr = difference.std(0, ddof=1) / 8
    assert 0 < np.median(stderr[:, 1:]) < 0.15
    assert stderr[:, 1:].max() < 0.5
    assert np.all(np.abs(difference.mean(0)) <= 4 * stderr + 1e-4)


def test_forward_states_are_noised_data(tmp_path: Path) -> None:
    """--states forward measures at alpha x_0 + sigma eps of the held-out images, each its own trajectory."""
    gaussian = model("gaussian")
    run = probe.run(replace(TINY, states="forward", trajectories=9), tmp_path / "run", gaussian)
    assert gaussian.images is not None
    x_0, t = gaussian.images.tensor().double().numpy(), run.arrays["snapshot"].to_numpy()
    alpha, sigma = np.exp(-t / 2), np.sqrt(-np.expm1(-t))
    states = run.arrays["snapshots"].to_numpy()
    noise = (states - alpha[:, None, None, None] * x_0[:, None]) / sigma[:, None, None, None]
    assert abs(noise.mean()) < 4 / math.sqrt(noise.size)
    assert abs(noise.std() - 1) < 4 / math.sqrt(2 * noise.size)
    assert run.summary["evaluations"]["sampling"] == 0


def test_the_null_is_measured_like_the_model(tmp_path: Path) -> None:
    """Where the model is the null itself, its curves are the null's: gains, eigenvalues, xi_x."""
    gaussian = model("gaussian")
    data = probe.run(replace(TINY, method="difference"), tmp_path / "run", gaussian).arrays
    for own, null in (("gain", "null_gain"), ("eigenvalue", "null_eigenvalue")):
        np.testing.assert_allclose(data[own], np.broadcast_to(data[null], data[own].shape), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(data["null_xi_x"], data["xi_moment"], rtol=1e-4, atol=1e-6)


def violations(tmp_path: Path, name: str, factor: float) -> dict:
    """Return the bound check of the Gaussian model with its gains multiplied by a factor above sigma = 1."""
    exact = GaussianDenoiser(spectrum(8, 8), 0.2)

    def denoiser(x: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
        return exact(x, sigma) * (factor if float(sigma) > 1 else 1.0)

    made = replace(model("gaussian"), bind=lambda _label: denoiser)
    config = replace(TINY, states="forward", trajectories=9, method="difference")
    return probe.run(config, tmp_path / name, made).summary["bound"]


def test_a_score_above_the_bound_is_reported_with_where(tmp_path: Path) -> None:
    """The Gaussian saturates the bound and passes; 5 % more gain above sigma = 1 is found there, in every shell."""
    honest, wrong = violations(tmp_path, "honest", 1.0), violations(tmp_path, "wrong", 1.05)
    assert honest["checked"]
    assert honest["violations"] == []
    assert {v["shell"] for v in wrong["violations"]} == {0, 1, 2, 3}
    assert min(v["sigma_to"] for v in wrong["violations"]) > 1
    reverse = probe.run(TINY, tmp_path / "reverse", model("gaussian")).summary["bound"]
    assert not reverse["checked"]


def test_locality_of_the_two_state_model_at_the_symmetric_point(tmp_path: Path) -> None:
    """At high noise each site answers to its nine neighbours: Omega 9, t_c = log 10, odd and equivariant."""
    config = replace(TINY, t_max=12.0, t_min=1.0, steps=150, snapshots=(11.0,), trajectories=24, block=24)
    row = probe.run(config, tmp_path / "run", model("patch")).summary["locality"][0]
    omega = row["omega"]
    assert omega["stderr"] < 2.0
    assert abs(omega["value"] - 9) < 4 * omega["stderr"]
    assert row["t_c"] == pytest.approx(math.log(1 + omega["value"]))
    assert abs(row["radius"]["value"] - math.sqrt(12 / 9)) < 4 * row["radius"]["stderr"]
    assert row["equivariance"]["value"] < 1e-9
    assert row["oddness"]["value"] < 1e-9


def test_repeated_and_resumed_runs_are_bit_identical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that fails in its second block keeps the first, and ends as one that did not fail."""
    exact, honest = model("prototypes"), probe.measure
    whole = probe.run(TINY, tmp_path / "whole", exact)

    def dies(plan: probe.Probe, trajectories: range, *rest: object) -> object:
        if trajectories.start == 2:
            raise KeyboardInterrupt
        return honest(plan, trajectories)

    monkeypatch.setattr(probe, "measure", dies)
    with pytest.raises(KeyboardInterrupt):
        probe.run(TINY, tmp_path / "resumed", exact)
    assert Run.open(tmp_path / "resumed").arrays.sizes["trajectory"] == 2
    monkeypatch.setattr(probe, "measure", honest)
    probe.run(TINY, tmp_path / "resumed", exact)
    assert digest(tmp_path / "resumed") == digest(whole.directory)


@pytest.mark.parametrize("states", ["reverse", "forward"])
def test_curves_do_not_depend_on_the_batch(states: str, tmp_path: Path) -> None:
    """The same noise and signs whatever the block: curves equal to rounding."""
    exact = model("empirical")
    runs = [
        probe.run(replace(TINY, states=states, block=block), tmp_path / str(block), exact).arrays for block in (1, 5)
    ]
    for name in runs[0]:
        np.testing.assert_allclose(runs[0][name], runs[1][name], rtol=1e-7, atol=1e-7, err_msg=name)


def test_the_summary_states_the_evaluations_that_were_spent(tmp_path: Path) -> None:
    """The count in the summary is the number of states that went through the denoiser."""
    exact, seen = model("prototypes"), []
    inner = exact.denoiser()

    def counting(x: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
        seen.append(len(x))
        return inner(x, sigma)

    spent = probe.run(TINY, tmp_path / "run", replace(exact, bind=lambda _label: counting)).summary["evaluations"]
    checks = 8 + 1  # of the denoiser's output, and of its identity
    assert spent["total"] == sum(seen) - checks
    assert spent["gains"] == 5 * 13 * evaluations("multiplexed", 3, 2)


def test_gains_come_with_standard_errors(tmp_path: Path) -> None:
    """Medians over trajectories, and errors that a constant gain does not have."""
    run = probe.run(replace(TINY, method="difference"), tmp_path / "run", model("prototypes"))
    gains, table = run.arrays["gain"].to_numpy(), run.summary["gain"]
    np.testing.assert_allclose(table["median"], np.median(gains, 0))
    spread = gains.std(0, ddof=1) / math.sqrt(len(gains))
    ratio = np.median(np.array(table["stderr"])[spread > 1e-3] / spread[spread > 1e-3])
    assert 0.5 < ratio < 2.5


def test_other_weights_do_not_resume_a_run(tmp_path: Path) -> None:
    """A model of the same name that answers otherwise is refused."""
    probe.run(TINY, tmp_path / "run", model("prototypes"))
    with pytest.raises(ValueError, match="choose another directory"):
        probe.run(TINY, tmp_path / "run", replace(model("empirical"), name="prototypes"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trajectories": 0}, "trajectories: got 0"),
        ({"measure_every": 0}, "measure_every: got 0"),
        ({"seed": -1}, "seed: got -1"),
        ({"shells": 2}, "shells: got 2; expected at least 3"),
        ({"shells": 4}, "shells: got 4"),
        ({"labels": "1"}, "labels: got 1; expected none: the model has no classes"),
        ({"snapshots": (100.0,)}, "snapshots: got"),
        ({"data": "no.npz"}, "data: cannot read 'images' from 'no.npz'"),
        ({"states": "forward", "trajectories": 10}, "trajectories: got 10; expected at most 9"),
        ({"device": "abacus"}, "device: got 'abacus'"),
        ({"t_max": 2000.0}, "t_max"),
    ],
    ids=str,
)
def test_bad_configs_are_refused_before_anything_is_written(change: dict, message: str, tmp_path: Path) -> None:
    """One line that names the field and its value."""
    with pytest.raises(ValueError, match=message):
        probe.run(replace(TINY, **change), tmp_path / "run", model("prototypes"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("denoiser", "message"),
    [
        (lambda x, sigma: x[:, :, :4], r"returned \(3, 1, 4, 8\)"),
        (lambda x, sigma: x.float(), "torch.float32 for states"),
        (lambda x, sigma: x / 0, "NaN or infinite values at sigma"),
        (lambda x, sigma: None, "returned NoneType"),
    ],
    ids=["shape", "dtype", "nan", "none"],
)
def test_denoisers_that_are_none_are_refused(denoiser: object, message: str, tmp_path: Path) -> None:
    """Another shape, type or NaN is found before anything is written."""
    with pytest.raises(ValueError, match=message):
        probe.run(TINY, tmp_path / "run", replace(model("prototypes"), bind=lambda _label: denoiser))
    assert not (tmp_path / "run").exists()


def test_data_of_ones_own_give_states_and_a_null(tmp_path: Path) -> None:
    """A file of images serves a model that came without data."""
    bare = replace(model("empirical"), images=None, spectrum=None, mean=None)
    with pytest.raises(ValueError, match="--states forward needs data"):
        probe_setup.prepare(replace(TINY, states="forward"), bare)
    assert not probe_setup.prepare(TINY, bare).has_null
    np.savez(tmp_path / "own.npz", images=normal(7, 1, 8, 8).numpy())
    config = replace(TINY, states="forward", data=str(tmp_path / "own.npz"))
    assert "null_gain" in probe.run(config, tmp_path / "run", bare).arrays
    np.savez(tmp_path / "other.npz", images=np.zeros((7, 1, 4, 4)))
    with pytest.raises(ValueError, match="expected finite images"):
        probe_setup.prepare(replace(config, data=str(tmp_path / "other.npz")), bare)
