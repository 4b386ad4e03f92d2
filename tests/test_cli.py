"""The command line as a user meets it: every command does its work, and keeps its options."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import warnings
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

import softmode as sm
from helpers import resamples
from helpers.commands import ZOO, Terminal
from helpers.drawing import COARSE
from helpers.options import OPTIONS, REQUIRED
from softmode.arguments import parse
from softmode.cli import commands, main, options_of
from softmode.runs import draw
from softmode.training import train
from softmode.training.config import TrainConfig

TINY = ["--size", "12", "--receptive-field", "box:3", "--t-max", "20", "--t-min", "0.1", "--steps", "300",
        "--trajectories", "2", "--shells", "3"]  # fmt: skip
HEAVY = {"torch", "numpy", "scipy", "xarray", "zarr", "matplotlib", "diffusers", "transformers"}


@pytest.fixture
def terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 80 columns in an empty directory, with a model of one's own."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo.py").write_text(ZOO)
    monkeypatch.delitem(sys.modules, "zoo", raising=False)
    return Terminal(capsys)


def shown(printed: str) -> str:
    """Return what was printed as one line, after checking that it is 80 columns wide where it is not one long path."""
    for line in printed.splitlines():
        assert len(line) <= 80 or re.match(r"\w+ {2,}", line), line
    return " ".join(printed.split())


@pytest.mark.parametrize("name", OPTIONS)
def test_a_command_keeps_its_options_and_their_defaults(name: str) -> None:
    """A script that names an option, or relies on one that it does not name, goes on working."""
    config, output, out = options_of(commands()[name])
    kinds = [kind for kind in (config, output) if kind is not None]
    found = {field.name: field.default for kind in kinds for field in fields(kind)} | ({"out": out} if out else {})
    for option, default in OPTIONS[name].items():
        now = found[option]
        assert (now is MISSING) if default is REQUIRED else (type(now), now) == (type(default), default), option


@pytest.mark.parametrize(
    ("line", "field", "values"),
    [
        ("attention m --sigma 1,3,10", "sigma", (1.0, 3.0, 10.0)),
        ("attention m --sigma=1,3", "sigma", (1.0, 3.0)),
        ("attention m --sigma 1 3, 10", "sigma", (1.0, 3.0, 10.0)),
        ("probe m --shape 1,28,28", "shape", (1, 28, 28)),
        ("pulse m --interval 0.2,1.6", "interval", (0.2, 1.6)),
        ("probe m,n --labels 3,7 --prompt a,b c", "prompt", ("a,b", "c")),
    ],
)
def test_several_numbers_may_be_joined_by_commas(line: str, field: str, values: tuple[object, ...]) -> None:
    """Texts and paths keep theirs."""
    name, *words = line.split()
    config = parse(name, words, *options_of(commands()[name])).config
    assert getattr(config, field) == values
    assert config.model == words[0]


def test_there_is_no_command_less() -> None:
    """Every command that there was, and the overview has a line for each that there is."""
    assert OPTIONS.keys() <= commands().keys()


def test_help_imports_nothing_heavy_and_shows_an_example() -> None:
    """Help of every command, in one process: nothing that takes long to import, and an example for each."""
    code = (
        "import sys\nfrom softmode.cli import commands, main\n"
        "main([])\n"
        "for name in commands():\n"
        "    try: main([name, '--help'])\n"
        "    except SystemExit as stop: assert stop.code == 0, name\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    overview, *pages = printed.split("usage: softmode ")[1:]
    assert len(pages) == len(commands())
    for name, page in zip(commands(), pages, strict=True):
        assert page.startswith(name)
        assert re.search(rf"Example: softmode {name}", page), name
        assert f"  {name} " in overview


def test_importing_softmode_imports_nothing_heavy() -> None:
    """The public names are resolved on first use, and all of them can be."""
    code = (
        f"import sys, softmode\nassert not {HEAVY!r} & set(sys.modules)\n"
        "assert all(hasattr(softmode, name) for name in softmode.__all__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_patch_says_what_it_found_and_where_everything_is(terminal: Terminal, tmp_path: Path) -> None:
    """The answer, one table, then where the rest is; `figures` draws the same files again from what is stored."""
    printed = terminal.run("patch", *TINY, "--out", "run")
    run = sm.open("run")
    assert shown(printed).startswith(f"answer {run.results.answer}")
    assert printed.count("┃") == printed.count("│") == 0
    for words in ("report   run/report.html", "figures  run/figures: critical_dynamics", "results  run/summary.json"):
        assert words in printed
    figure = tmp_path / "run" / "figures" / "critical_dynamics.png"
    content = figure.read_bytes()
    figure.unlink()
    assert terminal.run("figures", "run") == printed
    assert figure.read_bytes() == content
    assert "t_c_score_omega" in (tmp_path / "run" / "report.html").read_text()


def test_theory_prints_the_papers_numbers(terminal: Terminal) -> None:
    """The answer, then log 26, the drift's zero, |Omega| and c_Omega of the 5x5 box; other processes and fields."""
    printed = terminal.run("theory", "--receptive-field", "box:5", "--dimensions", "2", "--schedule", "vp:1")
    assert shown(printed).startswith("answer The constant mode of the score goes soft first at x = 0, at t = 3.258097")
    for number in ("3.258097", "3.912423", "25", "0.196116", "diverges"):
        assert number in printed
    assert "Omega_eff" in terminal.run("theory", "--dictionary", "paper", "--schedule", "ve")
    random = shown(terminal.run("theory", "--dictionary", "random:8", "--receptive-field", "box:5", "--seed", "0"))
    assert "wave k = (3.142, 3.142) of the score goes soft first at x = 0, at t = 1.558" in random
    field = ["--receptive-field", "cross:1", "--dimensions", "3"]
    shown(terminal.run("theory", "--dictionary", "random:2", *field, "--schedule", "vp-linear:0.1:20"))


def test_models_lists_what_is_there(terminal: Terminal) -> None:
    """Every shipped network with its data, quality, size and file, within 80 columns."""
    printed = terminal.run("models")
    for name in (
        "fashion-mnist",
        "fashion-mnist-binary",
        "fashion-mnist-binary-f4",
        "fashion-mnist-classifier",
        "avatars",
    ):
        assert f"{name}.safetensors" in printed
    text = shown(printed)
    for words in ("Fashion-MNIST", "binary", "accuracy", "0.9365", "MiB", "python:module:function"):
        assert words in text
    assert "…" not in printed


def test_probe_and_clones_of_ones_own_model(terminal: Terminal) -> None:
    """A function in the user's directory is probed and cloned."""
    short = ["python:zoo:patches", "--t-max", "6", "--t-min", "0.1", "--steps", "160"]
    probed = terminal.run("probe", *short, "--shells", "3", "--trajectories", "2", "--snapshots", "5", "1")
    copied = terminal.run("clones", *short, "--trajectories", "3", "--times", "5", "1", "--classifier", "none")
    for printed, name in ((probed, "probe"), (copied, "clones")):
        assert shown(printed).startswith(f"answer {sm.open(f'runs/{name}', name).results.answer}")
        assert f"report   runs/{name}/report.html" in printed


def test_a_window_and_its_exports(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer and its figure; then each format from the stored run, with nothing else printed."""
    resamples.few_resamples(monkeypatch)
    tiny = ["--shells", "3", "--trajectories", "4", "--clones", "0"]
    printed = terminal.run("window", "python:zoo:model", *tiny, "--out", "run")
    for words in ("guide where", "--format json", "window"):
        assert words in shown(printed)
    steps = re.search(r"steps: +(\d+) to (\d+) of 0 to 31", shown(printed))
    assert steps
    guided = json.loads(terminal.run("window", "run", "--format", "json", "--sampler-steps", "32"))["steps"]
    assert [int(end) for end in steps.groups()] == [guided[0], guided[-1]]
    plain = json.loads(terminal.run("window", "run", "--format", "json", "--sampler-steps", "30", "--weight", "2"))
    assert (len(plain["weights"]), plain["guidance_scale"]) == (30, 3.0)
    assert len(terminal.run("window", "run", "--format", "sigmas").split()) == 2
    start = json.loads(terminal.run("window", "run", "--format", "comfyui"))["sigma_start"]
    assert start == pytest.approx(plain["sigma_hi"]["value"], rel=1e-3)
    assert "sigma_window_guider(pipe.scheduler" in terminal.run("window", "run", "--format", "diffusers")


def test_pulses_and_the_susceptibility_of_a_shipped_network(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With as little sampling as there can be; a window is checked against chi, and chi is drawn again."""
    resamples.few_resamples(monkeypatch)
    resamples.tiny_windows(monkeypatch)
    monkeypatch.setattr(draw, "LAYOUTS", 1)
    monkeypatch.setitem(draw.STYLE, "figure.dpi", COARSE)
    few = ["fashion-mnist-guide", "--labels", "1,8", "--trials", "2", "--steps", "10", "--block", "2", "--sigma-c", "3"]
    printed = terminal.run("pulse", *few, "--half-width", "2")
    assert shown(printed).startswith("answer ")
    assert "figures  runs/pulse/figures: " in printed
    probed = ["--labels", "1,8", "--quick", "--shells", "3"]
    terminal.run("window", "fashion-mnist-guide", *probed, "--out", "window")
    pulses = ["--method", "pulses", "--centres", "3", "--width", "3"]
    terminal.run("susceptibility", *few, *pulses, "--window", "window")
    printed = terminal.run("window", "window", "--check", "runs/chi")
    assert printed.startswith("window   ")
    assert printed.count("check    ") == 3
    assert "figures  runs/chi/figures: susceptibility" in terminal.run("figures", "runs/chi")
    assert "check: 'runs/pulse' holds no run" in terminal.refuse("window", "window", "--check", "runs/pulse")


def test_train_says_where_the_weights_are(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option reaches the training, and the path of its weights is printed."""
    asked = []

    def run(config, out, progress):
        asked.append((config, out))
        return Path(out) / "weights.safetensors"

    monkeypatch.setattr(train, "run", run)
    printed = terminal.run("train", "fashion-mnist", "--epochs", "0.5", "--label-dropout", "0", "--download")
    assert printed == "weights  runs/train/weights.safetensors\n"
    ((config, out),) = asked
    assert config == TrainConfig("fashion-mnist", epochs=0.5, label_dropout=0.0, download=True)
    assert out == "runs/train"


def test_a_pickle_is_converted_to_a_model(terminal: Terminal, tmp_path: Path) -> None:
    """What convert-edm2 writes is a model for every other command."""
    script = Path(__file__).parents[1] / "benchmarks" / "hostile_models.py"
    spec = importlib.util.spec_from_file_location("hostile_models", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "edm2.pkl").write_bytes(module.official(module.ARGUMENTS, {}))
    assert terminal.run("convert-edm2", "edm2.pkl", "edm2.safetensors") == "weights  edm2.safetensors\n"
    assert sm.load_model("edm2:edm2.safetensors").classes == 5


def test_a_coarse_grid_is_warned_of_in_one_line(terminal: Terminal, tmp_path: Path) -> None:
    """The warning names the number of steps that would do; an option that comes twice counts the last time."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        main(["patch", *TINY, "--steps", "40", "--out", "run"])
    said = terminal.capsys.readouterr().err
    assert said.startswith("warning steps: 40 are too coarse")
    assert "use at least" in said
    assert said.count("\n") == 1


def test_names_that_a_terminal_would_read_otherwise(terminal: Terminal) -> None:
    """Markup, emoji codes and colours in a path are the path's own: the run is there, and is printed as it is."""
    printed = terminal.run("patch", *TINY, "--out", "t[/x]:smile:[red]\x1b[31m")
    assert "report   t[/x]:smile:[red]\\x1b[31m/report.html" in printed
    assert Path("t[/x]:smile:[red]\x1b[31m", "summary.json").is_file()


def test_a_path_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    """Under an ASCII terminal, a name of other letters and of a byte that is no letter at all stops no run."""
    name = "größe".encode() + b"\xff"
    done = subprocess.run(
        [sys.executable, "-m", "softmode", "patch", *TINY, "--out", name], check=True, cwd=tmp_path,
        capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert b"report   " in done.stdout
    assert os.path.isfile(os.path.join(os.fsencode(tmp_path), name, b"report.html"))


@pytest.mark.parametrize(
    "moment", ["runs.engine.execute", "experiments.patch.measure.prepare", "runs.report.print_run"]
)
def test_an_interruption_says_the_same_whenever_it_comes(
    moment: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a run is prepared, measured or shown: what the same command does, and what is kept."""

    def stops(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"softmode.{moment}", stops)
    with pytest.raises(SystemExit) as stop:
        main(["patch", *TINY, "--out", "run"])
    assert stop.value.code == 130
    kept = 1 if "report" in moment else 0
    blocks = "1 finished block" if kept else "0 finished blocks"
    said = [line for line in terminal.capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert said == [f"error interrupted: the same command resumes, with {blocks} kept"]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "error interrupted: the same command resumes, with 0 finished blocks kept"),
        (OSError(28, "No space left on device"), 1, "error [Errno 28] No space left on device"),
        (MemoryError(), 2, "error memory: there is not enough"),
        (ArithmeticError("state: trajectory 3 became NaN"), 1, "error state: trajectory 3"),
    ],
)
def test_what_stops_a_run_is_one_line(
    error: BaseException, code: int, said: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption, a full disk, too little memory and a run that diverges have exit codes of their own."""

    def stops(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("softmode.runs.engine.execute", stops)
    with pytest.raises(SystemExit) as stop:
        main(["patch", *TINY])
    assert stop.value.code == code
    printed = terminal.capsys.readouterr().err
    assert printed.startswith(said)
    assert printed.count("\n") == 1
