"""The patch experiment: reproducible, resumable, independent of batching, honest about failure."""

import math
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import softmode as sm
from helpers.errors import refused
from helpers.runs import digest, run
from softmode.experiments.patch import measure
from softmode.experiments.patch.measure import PatchPlan
from softmode.runs.run import Run
from softmode.runs.store import Store
from softmode.samplers import CoarseStepWarning
from softmode.settings import as_config
from softmode.simulation import NonFiniteStateError

SMALL = {
    "size": 16, "receptive_field": "box:3", "t_max": 20.0, "t_min": 0.01, "steps": 500, "trajectories": 6, "block": 2,
    "measure_every": 20,
}  # fmt: skip


def patch(out: Path, **changes) -> Run:
    """Run the small patch model with some settings changed."""
    return run("patch", out, **SMALL | changes)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return patch(tmp_path_factory.mktemp("small") / "run")


def test_the_same_config_twice_is_bit_identical(small: Run, tmp_path: Path) -> None:
    """Two runs of one config have the same files, byte for byte."""
    patch(tmp_path / "again")
    assert digest(tmp_path / "again") == digest(small.directory)


def test_interrupted_and_resumed_is_bit_identical(small: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that fails in its second block keeps the first, and ends as if nothing had happened."""
    honest = PatchPlan.measure

    def dies(plan, block, advance):
        if block.trajectories.start == 2:
            raise KeyboardInterrupt
        return honest(plan, block, advance)

    monkeypatch.setattr(PatchPlan, "measure", dies)
    with pytest.raises(KeyboardInterrupt):
        patch(tmp_path / "run")
    assert sm.open(tmp_path / "run").dataset.sizes["trajectory"] == 2
    monkeypatch.setattr(PatchPlan, "measure", honest)
    patch(tmp_path / "run")
    assert digest(tmp_path / "run") == digest(small.directory)


def test_killed_and_resumed_is_bit_identical(small: Run, tmp_path: Path) -> None:
    """A process killed without warning after its first block resumes there and ends bit-identical."""
    code = (
        "import sys, torch\nimport softmode as sm\n"
        "torch.set_num_threads(1)\n"  # rounding depends on the number of threads
        f"sm.patch(out=sys.argv[1], **{SMALL!r})"
    )
    command = [sys.executable, "-c", code]
    process = subprocess.Popen([*command, str(tmp_path / "killed")])
    flags = tmp_path / "killed" / "run.zarr" / "block_done" / "c"
    deadline = time.monotonic() + 120
    while not (flags.is_dir() and any(flags.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = Store(tmp_path / "killed").arrays.sizes["trajectory"]
    assert 0 < finished < SMALL["trajectories"], "the kill came too late or too early to test anything"
    assert not (tmp_path / "killed" / "summary.json").exists()
    subprocess.run([*command, str(tmp_path / "killed")], check=True)
    assert digest(tmp_path / "killed") == digest(small.directory)


def test_curves_depend_on_batching_only_by_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64 neither other blocks nor a block split for memory changes anything beyond rounding."""
    config = {"dtype": "float64", "trajectories": 3}
    together = patch(tmp_path / "together", **config, block=3).dataset
    alone = patch(tmp_path / "alone", **config, block=1).dataset
    monkeypatch.setattr(measure, "SITES_AT_ONCE", 2 * 16**2)
    split = patch(tmp_path / "split", **config, block=3).dataset
    for other in (alone, split):
        for name in together.data_vars:
            np.testing.assert_allclose(other[name], together[name], rtol=1e-8, atol=1e-10, err_msg=str(name))


def test_repeating_a_finished_run_computes_nothing(small: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command on a finished run does not simulate again."""
    monkeypatch.setattr(PatchPlan, "measure", lambda *_: pytest.fail("simulated again"))
    before = digest(small.directory)
    patch(small.directory)
    assert digest(small.directory) == before


def test_stored_arrays_have_named_dimensions_and_units(small: Run) -> None:
    """Every curve is per trajectory, with the names, coordinates and units that a reader needs."""
    arrays = small.dataset
    assert arrays["gain"].dims == ("trajectory", "time", "shell", "axis")
    assert arrays["snapshots"].dims == ("trajectory", "snapshot", "y", "x")
    assert arrays["kernel"].dims == ("trajectory", "time", "omega")
    assert arrays["patterns"].shape == (10, 9)
    np.testing.assert_allclose(arrays["prior"].sum(), 1)
    np.testing.assert_allclose(arrays["time"][[0, -1]], [20.0, 0.01])
    np.testing.assert_allclose(arrays["snapshot"], np.geomspace(20, 0.01, 5), rtol=0.02)
    assert all(arrays[name].attrs["units"] and arrays[name].attrs["long_name"] for name in arrays.variables)


def test_stored_curves_agree_with_each_other(small: Run) -> None:
    """Eigenvalues, lengths and growth follow from the stored gains and correlations by the literal formulas."""
    arrays = small.dataset
    t = arrays["time"].to_numpy()[:, None, None]
    variance = -np.expm1(-t)
    np.testing.assert_allclose(arrays["eigenvalue"], -0.5 + (1 - arrays["gain"]) / variance, rtol=1e-9, atol=1e-9)
    k, offsets = arrays["k"].to_numpy(), arrays["offsets"].to_numpy()
    cosines = np.cos(k[:, 0, None] * offsets[:, 0])
    gain = np.einsum("bto,so->bts", arrays["kernel"], cosines)
    np.testing.assert_allclose(arrays["gain"][..., 0], gain, rtol=1e-9, atol=1e-12)
    rate = arrays["eigenvalue"].mean("axis").to_numpy()
    square = k[1:4, 0] ** 2
    fitted = ((rate[..., 1:4] / rate[..., :1] - 1) * square).sum(-1) / (square**2).sum()
    length = arrays["xi_eq_drift"].to_numpy()
    defined = ~np.isnan(length)
    np.testing.assert_allclose(length[defined] ** 2, fitted[defined], rtol=1e-6, atol=1e-9)
    assert (np.isnan(length) == ((rate[..., 0] <= 0) | (fitted * rate[..., 0] < 0))).all()
    correlation = arrays["sign_correlation"].to_numpy()
    cut = np.where(np.cumprod(correlation > 0, axis=-1), correlation, 0)
    np.testing.assert_allclose(arrays["xi_sign"], cut @ np.arange(9) / cut.sum(-1), rtol=1e-12)


def test_the_results_name_theory_and_measurement(small: Run) -> None:
    """Theory values are exact, measured ones have errors, samples, intervals, definition and source."""
    results = small.results
    names = {q.name for q in results.quantities}
    assert {"t_c_score_omega", "t_c_score_softest", "t_c_drift_omega", "growth_onset_1", "growth_peak_1"} <= names
    assert results["t_c_score_omega"].estimate.value == pytest.approx(math.log(10), abs=1e-12)
    assert results["t_c_score_omega"].level == pytest.approx(3, abs=1e-12)
    assert results["t_c_drift_omega"].estimate.value == pytest.approx(math.asinh(9), abs=1e-12)
    measured = results["growth_peak_1"].estimate
    assert measured.low <= measured.value <= measured.high
    assert measured.samples == 6
    assert all(q.what and q.source for q in results.quantities)
    assert len(results.tables["times"].rows) <= 8
    assert str(results["growth_peak_1"].estimate) in results.answer
    plan = measure.prepare(measure.Config(**SMALL))
    assert small.config == as_config(plan.config)


def test_the_drift_softens_twice_with_the_papers_dictionary(tmp_path: Path) -> None:
    """On a smaller lattice lambda_0 changes sign near t = 3.2 and 1.1, and xi_eq is undefined in between (facts)."""
    found = run("patch", tmp_path / "run", size=40, t_min=0.1, trajectories=8, steps=1600, measure_every=10, block=8)
    first, second = (found.results[f"lambda_0_zero_{i}"].estimate.value for i in (1, 2))
    assert first == pytest.approx(3.17, abs=0.1)
    assert second == pytest.approx(1.1, abs=0.2)
    bands = found.results.values["undefined"]
    assert bands["xi_eq_drift"][0] == [pytest.approx(first, rel=0.06), pytest.approx(second, rel=0.06)]
    assert not bands["xi_eq_gain"]


@pytest.mark.parametrize(
    "change",
    [
        {"dimensions": 1, "size": 64},
        {"dimensions": 3, "size": 8, "shells": 3, "dictionary": "two-state"},
        {"receptive_field": "ball:1.5", "dictionary": "random:3"},
        {"receptive_field": "cross:1", "schedule": "vp-cosine:0.008", "t_max": 0.99},
        {"schedule": "ve", "t_max": 80.0, "dictionary": "two-state"},
        {"trajectories": 1, "portion": "clip", "snapshots": (5.0, 0.5)},
    ],
)
def test_every_kind_of_model_runs_to_a_summary(change: dict, tmp_path: Path) -> None:
    """Other dimensions, fields, dictionaries and processes give finite states and a summary."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoarseStepWarning)
        found = patch(tmp_path / "run", **{"trajectories": 2, "steps": 200} | change)
    assert np.isfinite(found.dataset["snapshots"]).all()
    assert len(found.results.quantities) >= 8


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"receptive_field": "box:4"}, "receptive_field: got box:4"),
        ({"receptive_field": "box:17"}, "receptive_field: spans"),
        ({"receptive_field": "ring:4"}, "receptive_field: got 'ring:4'"),
        ({"dictionary": "mine"}, "dictionary: got 'mine'"),
        ({"dictionary": "nowhere.npz"}, "is no file"),
        ({"schedule": "vp:-1"}, "schedule: got 'vp:-1'"),
        ({"schedule": "sub-vp"}, "schedule: got 'sub-vp'"),
        ({"schedule": "vp-linear:0.1:20"}, "t_max: got 20"),
        ({"t_max": 0.001}, "t_max: got 0.001"),
        ({"t_max": 150.0}, "t_max: got 150"),
        ({"steps": 0}, "steps: got 0"),
        ({"trajectories": 0}, "trajectories: got 0"),
        ({"measure_every": 0}, "measure_every: got 0"),
        ({"block": 0}, "block: got 0"),
        ({"shells": 2}, "shells: got 2"),
        ({"shells": 8}, "shells: got 8"),
        ({"dimensions": 4}, "dimensions: got 4"),
        ({"size": 1}, "size: got 1"),
        ({"seed": -1}, "seed: got -1"),
        ({"snapshots": (30.0,)}, "snapshots: got"),
        ({"device": "abacus"}, "device: got 'abacus'"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(change: dict, named: str, tmp_path: Path) -> None:
    """One line that starts with the argument and its value; the directory is not even made."""
    with refused(named):
        patch(tmp_path / "run", **change)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ({"patterns": np.ones((2, 9)), "prior": np.array([0.7, 0.7])}, "prior: sums to 1.4"),
        ({"patterns": np.ones((2, 9)), "prior": np.array([-0.5, 1.5])}, "prior: got a negative"),
        ({"patterns": np.ones((2, 8)), "prior": np.array([0.5, 0.5])}, "patterns: got shape"),
        ({"patterns": np.full((2, 9), np.inf), "prior": np.array([0.5, 0.5])}, "patterns: got a value"),
        ({"patterns": np.ones((2, 9))}, "dictionary: cannot read"),
    ],
)
def test_bad_dictionary_files_are_named(arrays: dict, named: str, tmp_path: Path) -> None:
    """Prior and patterns are checked before anything is written."""
    np.savez(tmp_path / "bad.npz", **arrays)
    with refused(named):
        patch(tmp_path / "run", dictionary=str(tmp_path / "bad.npz"))
    assert not (tmp_path / "run").exists()


def test_a_state_that_overflows_stops_the_run_and_keeps_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names time and trajectory; finished blocks stay readable and the flag of the bad one is not set."""
    honest = measure.initial_state

    def overflowing(process, t, noise, shape, dtype):
        x = honest(process, t, noise, shape, dtype)
        if 3 in noise.trajectories:
            x[noise.trajectories.index(3), 0, 0, 0] = float("inf")
        return x

    monkeypatch.setattr(measure, "initial_state", overflowing)
    with pytest.raises(NonFiniteStateError, match=r"trajectory 3 .* t = 20;"):
        patch(tmp_path / "run")
    assert list(Store(tmp_path / "run").arrays["trajectory"]) == [0, 1]


def test_a_dictionary_without_sign_symmetry_has_no_critical_time_at_the_origin(tmp_path: Path) -> None:
    """Where x = 0 is no fixed point the theory's times are undefined, with the reason, and the rest is measured."""
    patterns = np.ones((2, 9)) * [[1.0], [-1.0]]
    np.savez(tmp_path / "biased.npz", patterns=patterns, prior=[0.7, 0.3])
    found = patch(tmp_path / "run", dictionary=str(tmp_path / "biased.npz"), trajectories=2)
    theory = found.results["t_c_score_omega"].estimate
    assert math.isnan(theory.value)
    assert "sign symmetry" in theory.reason
