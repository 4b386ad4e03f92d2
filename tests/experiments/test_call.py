"""Experiments from Python: plain values, live objects, runs that clean up after themselves, and what help() says."""

import gc
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

import softmode as sm
from helpers.errors import refused
from helpers.experiments import contents, digests, tiny
from helpers.guidance import corners
from helpers.models import patch_denoiser
from softmode.experiments import EXPERIMENTS, call
from softmode.experiments.call import experiment, plan

SMALL = tiny("patch").settings()


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary runs go to a directory of the test's own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_plain_values_mean_what_the_command_line_means(scratch: Path) -> None:
    """Lists, numpy's and torch's numbers, integers for numbers, paths: the same config, so the same run is resumed."""
    np.savez(scratch / "d.npz", patterns=np.array([[1.0] * 9, [-1.0] * 9]), prior=[0.5, 0.5])
    exact = SMALL | {"dictionary": str(scratch / "d.npz"), "out": str(scratch / "run")}
    run = sm.patch(**exact)
    before = digests(run.directory)
    other = {
        "size": np.int64(12), "t_max": 20, "trajectories": torch.tensor(5), "snapshots": np.array([5.0, 1.0]),
        "dictionary": scratch / "d.npz", "out": scratch / "run", "steps": np.int32(300),
    }  # fmt: skip
    assert digests(sm.patch(**exact | other).directory) == before
    assert run.config["t_max"] == 20
    made = plan(experiment("probe"), model=corners(), labels=[0, 2], shells=3)
    assert made.config.labels == (0, 2)


def test_a_run_without_a_directory_lives_as_long_as_it_is_held(scratch: Path) -> None:
    """The folder goes with the run and what was made of it; arrays that were taken from it stay."""
    run = sm.patch(**SMALL)
    folder = run.directory
    assert scratch in folder.parents
    again = run.of(run.experiment)
    del run
    gc.collect()
    assert folder.exists(), "another view of the run still needs it"
    data = again.dataset
    del again
    gc.collect()
    assert not contents(scratch)
    assert np.isfinite(data["gain"].to_numpy()).all()
    assert np.isfinite(sm.patch(**SMALL).dataset["gain"].to_numpy()).all()


@pytest.mark.usefixtures("unchecked_shapes")
def test_a_refused_run_leaves_no_folder(scratch: Path) -> None:
    """Neither one that fails its checks nor one that fails while it is computed."""
    with refused("size: got 1; expected at least 2"):
        sm.patch(size=1)
    with refused("out: got 3; expected a directory"):
        sm.patch(**SMALL, out=3)
    with refused("out: got '.*'; "):
        sm.patch(**SMALL, out="")
    gc.collect()
    assert not contents(scratch)


@pytest.mark.usefixtures("unchecked_shapes")
def test_denoisers_and_models_stand_for_names() -> None:
    """A Denoiser needs a shape, and gets sm.VE() or the process that is given; a Model brings its own."""
    denoiser = patch_denoiser()
    made = plan(experiment("clones"), model=denoiser, shape=[1, 8, 8], classifier="none")
    assert (made.model.shape, made.process) == ((1, 8, 8), sm.VE())
    assert made.config.model == "PatchDenoiser"
    made = plan(experiment("clones"), model=denoiser, shape=(1, 8, 8), process=sm.VP(), classifier="none")
    assert made.process == sm.VP()
    assert plan(experiment("clones"), model=corners(), classifier="none").config.model == "corners"
    for given, message in (
        ({"model": denoiser}, r"shape: got \(\); expected channels and sides"),
        ({"model": denoiser, "shape": 8}, "shape: got 8; expected channels and sides"),
        ({"model": 3}, "model: got 3; expected a name, a Model or a callable"),
        ({"model": corners(), "process": "vp:1"}, "process: got 'vp:1'; expected a Process"),
        ({"model": corners(), "zzz": 3}, "zzz: is no setting; expected one of"),
    ):
        with refused(message):
            plan(experiment("clones"), **given)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_help_tells_every_setting(name: str) -> None:
    """Each once, with its default in the signature, in lines of at most 110 characters without a broken indentation."""
    function = getattr(sm, name)
    assert function is getattr(sm, name), "one function, not a new one at every look"
    text, config = inspect.getdoc(function) or "", experiment(name).config
    settings = [*inspect.signature(config).parameters, "out", "progress"]
    for setting in settings:
        assert text.count(f"\n    {setting}: ") == 1, setting
    assert all(len(line) <= 110 and line == line.rstrip() for line in text.splitlines())
    assert all(section in text for section in ("\nArgs:\n", "\nReturns:\n", "\nRaises:\n"))
    signature = inspect.signature(function)
    assert set(signature.parameters) == set(settings)
    assert all(signature.parameters[f].default == p.default for f, p in inspect.signature(config).parameters.items())


def test_names_that_are_none() -> None:
    """One line each, and Python's own errors where Python's rules are broken."""
    with refused("experiment: got 'prob'; expected one of window, probe"):
        experiment("prob")
    with refused("directory: 'nowhere' holds no softmode run"):
        sm.open("nowhere")
    with refused("receptive_fields: is no setting; did you mean receptive_field"):
        sm.theory(receptive_fields="box:5")
    with pytest.raises(TypeError, match="takes 1 positional arguments, 2 were given"):
        sm.probe("fashion-mnist", "another")
    with pytest.raises(AttributeError, match="no attribute 'prob'"):
        call.prob  # noqa: B018


def test_theory_gives_numbers() -> None:
    """The minimal model's critical time is log 26."""
    found = sm.theory(receptive_field="box:5")
    assert found.values["times"]["score: r = 0, |Omega|"] == pytest.approx(np.log(26), abs=1e-12)
    assert "3.258097" in found.answer
