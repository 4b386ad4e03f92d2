"""The command line as a user meets it."""

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
