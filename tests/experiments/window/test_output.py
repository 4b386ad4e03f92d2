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
