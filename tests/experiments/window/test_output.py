"""What the command prints of a window, and what it refuses before anything is computed."""

import json
from pathlib import Path

import pytest

from helpers.errors import refused
from helpers.models import cosine_field, two_states
from helpers.runs import run
from softmode.cli import main
from softmode.experiments.window.config import Config, Output
from softmode.experiments.window.output import lines, text, verify
from softmode.process import VE
from softmode.runs.run import Run


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings = {"steps": 48, "shells": 3, "trajectories": 4, "clones": 0}
    model = two_states(cosine_field(12), VE())
    return run("window", tmp_path_factory.mktemp("window") / "run", model=model, **settings)


def test_an_export_has_the_numbers_of_the_results(found: Run) -> None:
    plain = json.loads(str(text(Output(format="json", weight=2.0, sampler_steps=20), found)))
    for name in ("sigma_c", "sigma_lo", "sigma_hi"):
        estimate = found.results[name].estimate
        assert plain[name] == {key: getattr(estimate, key) for key in ("value", "stderr", "low", "high")}
    assert (plain["guidance_scale"], plain["model"], plain["verdict"]) == (3.0, "two", found.results.values["verdict"])
    assert plain["steps"] == [i for i, s in enumerate(plain["levels"]) if plain["weights"][i]]


def test_the_table_says_which_steps_are_guided_and_what_is_next(found: Run) -> None:
    assert text(Output(), found) is None
    told = [f"{label} {line}" for label, line in lines(Output(), found)]
    assert any("of EDM's sampler in 32 steps" in line for line in told)
    assert any(line.startswith("in time:") for line in told)
    assert told[-1].startswith(f"next softmode window {found.directory} --format json")
    assert any("in 7 steps" in line for _, line in lines(Output(sampler_steps=7), found))


def test_what_cannot_be_printed_is_refused_before_anything_is_computed(found: Run, tmp_path: Path) -> None:
    """A check against nothing, against a window, and steps beyond any sampler: no run is begun."""
    for output in (Output(check="nope"), Output(check=str(found.directory))):
        with refused("check: .* holds no run of softmode susceptibility"):
            verify(output, Config(model="fashion-mnist-binary"))
    for options in (["--check", "nope"], ["--sampler-steps", "10000000000"], ["--sampler-steps", "0"]):
        with pytest.raises(SystemExit) as stopped:
            main(["window", "fashion-mnist-binary", *options, "--out", str(tmp_path / "run")])
        assert stopped.value.code == 2
    assert not (tmp_path / "run").exists()


def test_the_command_prints_an_export_alone(found: Run, capsys: pytest.CaptureFixture[str]) -> None:
    main(["window", str(found.directory), "--format", "comfyui"])
    assert set(json.loads(capsys.readouterr().out)) == {"sigma_start", "sigma_end"}


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a pipeline of unknown kind, whose scheduler shifts its steps by the size of an image."""
    import diffusers

    home = tmp_path_factory.mktemp("shifted") / "model"
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    scheduler.save_pretrained(home / "scheduler")
    kinds = {"transformer": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", type(scheduler).__name__]}
    (home / "model_index.json").write_text(json.dumps({"_class_name": "Tiny", **kinds}))
    return home


def test_a_shift_by_size_is_asked_for_before_anything_is_computed(
    shifted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where steps or percents depend on it; nothing is written, nor is the network looked for, which is not there."""
    for options in (["--sampler-steps", "8"], ["--format", "comfyui"], ["--mu", "99"]):
        with pytest.raises(SystemExit) as stopped:
            main(["window", f"diffusers:{shifted}", *options, "--out", str(tmp_path / "run")])
        assert stopped.value.code == 2
        assert "error mu: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    verify(Output(sampler_steps=8, mu=0.9), Config(model=f"diffusers:{shifted}"))
    verify(Output(), Config(model=f"diffusers:{shifted}"))


def test_a_window_of_a_shift_by_size(found: Run, shifted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its steps are told with mu, and without it why they are not; its percents are null."""
    results = found.results
    monkeypatch.setattr(Run, "results", property(lambda _run: results))
    identity = found.identity | {"model": found.identity["model"] | {"name": f"diffusers:{shifted}"}}
    monkeypatch.setattr(Run, "identity", property(lambda _run: identity))
    told = [line for _, line in lines(Output(), found)]
    assert any(line.startswith("steps: not known; mu: FlowMatchEuler") and "give --mu" in line for line in told)
    assert any(line.startswith("flow time: 0.") and "< s <=" in line for line in told)
    assert any("in 8 steps, mu = 0.9" in line for _, line in lines(Output(sampler_steps=8, mu=0.9), found))
    plain = json.loads(str(text(Output(format="json"), found)))
    assert (plain["mu"], plain["percent"]) == (None, {"lo": None, "hi": None})
    plain = json.loads(str(text(Output(format="json", mu=0.9, sampler_steps=8), found)))
    assert plain["mu"] == 0.9
    assert 0 < plain["percent"]["hi"] < plain["percent"]["lo"] < 1
    assert "guidance_scale=2.0, mu=0.9)" in str(text(Output(format="diffusers", mu=0.9), found))
    rows = [line.split() for line in str(text(Output(format="flow", mu=0.9, sampler_steps=8), found)).splitlines()]
    assert [float(row[1]) for row in rows] == pytest.approx(plain["flow_times"], abs=1e-5)
    assert [int(row[0]) for row in rows if float(row[2])] == plain["steps"]
