"""The command line as a user meets it."""

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from softmode.cli import main

TINY = ["patch", "--size", "12", "--receptive-field", "box:3", "--t-max", "20", "--t-min", "0.1", "--steps", "300"]
TINY += ["--trajectories", "2", "--shells", "3", "--out"]


def test_patch_prints_every_quantity_and_where_everything_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One command leaves arrays, summary and figures, and says so; `figures` redraws them from the store."""
    monkeypatch.setenv("COLUMNS", "200")
    main([*TINY, str(tmp_path / "run")])
    printed = capsys.readouterr().out
    for words in ("t_c_score_omega", "growth_peak_1", "95 % interval", str(tmp_path / "run" / "summary.json")):
        assert words in printed
    figures = sorted((tmp_path / "run" / "figures").glob("*.png"))
    assert len(figures) >= 3
    assert all(str(path) in printed for path in figures)
    content = figures[0].read_bytes()
    figures[0].unlink()
    main(["figures", str(tmp_path / "run")])
    assert figures[0].read_bytes() == content


def test_theory_prints_the_papers_numbers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """log 26, the drift's zero, |Omega| and c_Omega of the 5x5 box."""
    monkeypatch.setenv("COLUMNS", "200")
    main(["theory", "--receptive-field", "box:5", "--dimensions", "2", "--schedule", "vp:1"])
    printed = capsys.readouterr().out
    for number in ("3.258097", "3.912423", "25", "0.196116"):
        assert number in printed
    main(["theory", "--dictionary", "paper", "--schedule", "ve"])
    assert "Omega_eff" in capsys.readouterr().out
    main(
        [
            "theory",
            "--dictionary",
            "random:2",
            "--receptive-field",
            "cross:1",
            "--dimensions",
            "3",
            "--schedule",
            "vp-linear:0.1:20",
        ]
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("patch --receptive-field box:4 --out {out}", "receptive_field: got box:4"),
        ("patch --steps 0 --out {out}", "steps: got 0"),
        ("patch --out {file}", "out: "),
        ("theory --schedule foo", "schedule: got 'foo'"),
        ("theory --schedule [red]", "schedule: got '[red]'"),
        ("theory --dimensions 5", "dimensions: got 5"),
        ("theory --dictionary what", "dictionary: got 'what'"),
        ("figures {out}", "softmode patch --out"),
        (
            "probe fashion-mnist-binery --out {out}",
            "there is no 'fashion-mnist-binery'; did you mean fashion-mnist-binary",
        ),
        ("probe {file}.safetensors --out {out}", "there is no file"),
        ("probe {file} --out {out}", "truncated or no safetensors file"),
        ("probe fashion-mnist --shape 3 28 28 --out {out}", "shape: got (3, 28, 28); expected 1 channel(s)"),
        ("probe fashion-mnist --shape 1 30 30 --out {out}", "sides divisible by 4"),
        ("probe fashion-mnist --labels 3 --out {out}", "labels: got 3; expected none"),
        ("probe fashion-mnist-classifier --out {out}", "no denoiser"),
        ("probe fashion-mnist --prompt tench --out {out}", "is no model of text: leave it out"),
        ("probe edm2:{file}.pkl --out {out}", "cannot be read"),
        ("window edm2:{file} --out {out}", "truncated or no safetensors file"),
        ("window diffusers:{file} --out {out}", "holds neither model_index.json nor config.json"),
        ("window fashion-mnist-labelled --labels 3,10 --out {out}", "labels: got 10; expected 0 to 9"),
        ("window fashion-mnist --clones -1 --out {out}", "clones: got -1"),
        ("window fashion-mnist --t-max 300 --sampler heun --out {out}", "t_max: got 300"),
        ("pulse fashion-mnist --out {out}", "model: 'fashion-mnist' has no classes"),
        ("pulse fashion-mnist-labelled --classes 11 --out {out}", "classes: got 11; expected at most 10"),
        ("pulse fashion-mnist-labelled --guide fashion --out {out}", "guide: cannot use 'fashion'"),
        ("pulse fashion-mnist-labelled --classifier none --out {out}", "classifier: got none; alignment needs one"),
        ("pulse fashion-mnist-labelled --classifier dinov2 --out {out}", "classifier: "),
        ("pulse fashion-mnist-labelled --window {out} --out {out}", "holds no softmode run"),
        ("susceptibility fashion-mnist-labelled --centres 2 --out {out}", "centres: got 2"),
        ("window fashion-mnist-labelled --sampler-steps 0 --out {out}", "sampler_steps: got 0"),
        (
            "window fashion-mnist --sampler-steps 10000000000 --out {out}",
            "sampler_steps: got 10000000000; expected 1 to",
        ),
        ("clones fashion-mnist --copies 0 --out {out}", "copies: got 0"),
        ("train fashion --out {out}", "recipe: got 'fashion'; expected one of fashion-mnist-binary"),
        ("train fashion-mnist --data {out} --out {out}", "lacks train-images-idx3-ubyte"),
    ],
)
def test_bad_input_is_one_line_with_exit_code_2(
    arguments: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback, nothing written, the argument named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        main(arguments.format(out=tmp_path / "run", file=tmp_path / "file").split())
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


MODEL = """
import softmode as sm

def model():
    patches = sm.TwoStatePatch(sm.ReceptiveField.box(3))
    return sm.Model("patches", sm.VP(), (1, 8, 8), lambda label: patches, binary=True)
"""
SHORT = ["python:zoo_of_the_cli:model", "--t-max", "6", "--t-min", "0.1", "--steps", "160", "--out"]


def test_probe_and_clones_of_ones_own_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function in the user's directory is probed and cloned; both print what they found and where it is."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo_of_the_cli.py").write_text(MODEL)
    main(["probe", *SHORT, str(tmp_path / "probe"), "--shells", "3", "--trajectories", "2", "--snapshots", "5", "1"])
    main(["clones", *SHORT, str(tmp_path / "clones"), "--trajectories", "3", "--times", "5", "1"])
    printed = capsys.readouterr().out
    for words in ("lambda_0_zero", "sigma/alpha", "its t_c", "null model: none", "network evaluations: sampling 320",
                  "agreement of copies", "0.775"):  # fmt: skip
        assert words in printed
    for figure in ("probe/figures/gains.png", "probe/figures/response_kernel.png", "clones/figures/clones.png"):
        assert (tmp_path / figure).stat().st_size > 0
        assert str(tmp_path / figure) in printed
    sys.modules.pop("zoo_of_the_cli")


def test_a_window_of_ones_own_model_and_its_exports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer, its notions and its figure; then each format from the stored run, with nothing else printed."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo_of_the_cli.py").write_text(WINDOW_MODEL)
    run = str(tmp_path / "run")
    main(
        ["window", "python:zoo_of_the_cli:model", "--shells", "3", "--trajectories", "4", "--clones", "0", "--out", run]
    )
    printed = capsys.readouterr().out
    for words in ("critical: peak of the", "growth_of_xi_x", "answer   guide where", "--format json", "window.png"):
        assert words in printed
    shown = re.search(r"in steps +(\d+) to (\d+) of 0 to 31, of EDM's sampler", printed)
    main(["window", run, "--format", "json", "--sampler-steps", "32"])
    guided = json.loads(capsys.readouterr().out)["steps"]
    assert shown
    assert [int(end) for end in shown.groups()] == [guided[0], guided[-1]]
    main(["window", run, "--format", "json", "--sampler-steps", "30", "--weight", "2"])
    plain = json.loads(capsys.readouterr().out)
    assert (len(plain["weights"]), plain["guidance_scale"]) == (30, 3.0)
    main(["window", run, "--format", "sigmas"])
    assert len(capsys.readouterr().out.split()) == 2
    main(["window", run, "--format", "comfyui"])
    assert json.loads(capsys.readouterr().out)["sigma_start"] == pytest.approx(plain["sigma_hi"]["value"], rel=1e-4)
    main(["window", run, "--format", "diffusers"])
    assert "sigma_window_guider(pipe.scheduler" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["window", run, "--format", "json", "--sampler-steps", "0"])
    assert stop.value.code == 2
    sys.modules.pop("zoo_of_the_cli")


WINDOW_MODEL = """
import torch
import softmode as sm

def model():
    field = torch.cos(torch.arange(12) * 0.5235988).expand(12, 12) + 1.2
    two = sm.EmpiricalDenoiser(torch.stack([field, -field]).unsqueeze(1))
    return sm.Model("two", sm.VE(), (1, 12, 12), lambda label: two, binary=True)
"""


def test_pulses_and_the_susceptibility_of_a_shipped_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With as little sampling as there can be: tables, figures, and a window that is checked against chi."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    few = ["fashion-mnist-labelled", "--labels", "1,8", "--trials", "2", "--steps", "10", "--block", "2"]
    main(["pulse", *few, "--sigma-c", "3", "--half-width", "2", "--out", "pulse"])
    printed = capsys.readouterr().out
    for words in ("sigma_c = 3", "random_log", "pooled over classes", "twins.png", "alignment.png", "paths.png"):
        assert words in printed
    probed = ["--labels", "1,8", "--steps", "16", "--trajectories", "4", "--clones", "0"]
    main(["window", "fashion-mnist-labelled", *probed, "--out", "window"])
    chi = ["--centres", "3", "--width", "3", "--sigma-c", "3", "--window", "window"]
    main(["susceptibility", *few, *chi, "--out", "chi"])
    assert "maximum  of chi of logit" in capsys.readouterr().out
    main(["window", "window", "--check", "chi"])
    printed = capsys.readouterr().out
    assert printed.startswith("window   ")
    assert printed.count("check    chi of") == 3
    main(["figures", "chi"])
    assert "susceptibility.png" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["window", "window", "--check", "pulse"])
    assert stop.value.code == 2


def test_models_lists_what_is_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every shipped network with its data, quality, size and file."""
    monkeypatch.setenv("COLUMNS", "80")
    main(["models"])
    printed = capsys.readouterr().out
    for name in ("fashion-mnist-binary", "fashion-mnist-labelled", "fashion-mnist-classifier"):
        assert f"{name}.safetensors" in printed
    for words in ("Fashion-MNIST,", "binary", "accuracy", "0.9276", "3.7", "python:module:function"):
        assert words in printed
    assert "…" not in printed


def test_a_coarse_grid_is_warned_of_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The warning names the number of steps that would do."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        main([*TINY[:-1], "--steps", "40", "--out", str(tmp_path / "run")])
    assert "use at least" in capsys.readouterr().err


def test_help_shows_an_example_and_does_not_import_torch() -> None:
    """Help is instant because nothing heavy is imported for it."""
    code = (
        "import sys\nfrom softmode.cli import main\n"
        "try: main(['patch', '--help'])\nexcept SystemExit as stop: assert stop.code == 0\n"
        "assert not {'torch', 'scipy', 'xarray', 'matplotlib'} & set(sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "softmode patch --out runs/patch" in printed
    assert "(E.13)" in printed


def test_importing_softmode_imports_nothing_heavy() -> None:
    """The public names are resolved on first use, and all of them can be."""
    code = (
        "import sys, softmode\nassert not {'torch', 'scipy', 'xarray', 'matplotlib'} & set(sys.modules)\n"
        "assert all(hasattr(softmode, name) for name in softmode.__all__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
