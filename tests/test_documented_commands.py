"""Every command that README, docs and the help show: it parses, and runs where its model is at hand."""

import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

import softmode.cli
from helpers import resamples
from helpers.documented import PAGES, ROOT, block_commands, blocks, help_commands, inline_commands
from helpers.drawing import COARSE, quick
from softmode.cli import main
from softmode.data import fashion_mnist
from softmode.experiments.attention import measure, null
from softmode.networks.shipped import ALIASES, SHIPPED
from softmode.observe import derivatives, nonlocality
from softmode.runs import draw, run
from softmode.training import held_out
from softmode.training.quality import information, samples

# what makes a documented command tiny: the last of an option's values counts. {out} is the command's directory
TINY = {
    "window": "--quick --shells 3",
    "information": "--trajectories 2 --levels 8",
    "attention": "--trajectories 2",
    "instability": "--trajectories 2 --levels 3 --no-growth",
    "sector": "--trajectories 2 --modes 2",
    "probe": "--trajectories 2 --steps 60 --t-max 2 --measure-every 30 --shells 3 --snapshots 1",
    "clones": "--trajectories 2 --steps 30 --t-max 1 --times 0.5",
    "pulse": "--classes 2 --trials 2 --steps 8 --sigma-c 3 --half-width 2",
    "susceptibility": "--classes 2 --trials 2 --steps 6 --nodes 3 --tolerance 10 --sigma-c 3",
    "susceptibility --method": "--classes 2 --trials 2 --steps 8 --centres 3 --lowest 0.3 --width 3 --sigma-c 3 "
    "--window {out}/window",
    "schedule": "--classes 2 --trials 2 --steps 6 --guided-steps 2 --search-trials 1",
    "anneal": "--trajectories 10 --steps 5 --window 0.5:10 --correctors 0 1",
    "validate": "--nulls 1 --transitions 1 --quick",
    "patch": "--size 16 --steps 100 --t-max 5 --t-min 0.1 --trajectories 2 --shells 3",
    "dictionary": "--disorder 2 --replicas 4 --sizes 8 12 --steps 170 --t-max 8 --waits 0.4 2",
    "equilibrium": "--sizes 8,10,12 --error 0.19 --receptive-field box:3",
    "equilibrium --model": "--levels 3 --duration 20 --trajectories 4",
    "quench": "--rates 0.5,1,2 --size 16 --trajectories 2 --step 1",
    "train": "--epochs 0.0002 --batch 8",
    "quality": "--images 4 --samples 20",
}  # fmt: skip
# what the command would have made first, at full size
BEFORE = {"susceptibility --method": "window {model} --out {out}/window --quick --shells 3"}
# what a command leaves that is no run of its own
LEFT = {"train": "weights.safetensors", "window": "window.json"}
TEXTS = {page.name: list(block_commands(page.read_text())) for page in PAGES} | {"help": list(help_commands())}


def option(words: list[str], name: str, default: str = "") -> str:
    return words[words.index(name) + 1] if name in words else default


def tiny(words: list[str]) -> list[str]:
    if words[0] == "window" and Path(words[1]).is_dir():
        return words  # a finished one takes no settings
    device = ["--device", "cpu"] if "--device" in words else []
    return [*words, *device, *TINY.get(kind(words), "").format(out=option(words, "--out")).split()]


def kind(words: list[str]) -> str:
    """Return the command, with the option that makes another experiment of it."""
    found = [f"{words[0]} {each}" for each in ("--model", "--method") if each in words]
    return next((each for each in found if each in TINY), words[0])


def missing(words: list[str]) -> str:
    """Return the name of what a command needs and this machine lacks; nothing if it can run."""
    data = option(words, "--data")
    if words[0] == "train":
        if data and not Path(data).exists():
            return data
        try:
            fashion_mnist("train", "binary")
        except ValueError:
            return "Fashion-MNIST"
        return ""
    if words[0] in ("patch", "theory", "models", "validate", "dictionary", "equilibrium", "quench"):
        return ""
    named = option(words, "--model", words[1])
    family, _, source = named.partition(":")
    if source:
        return source.partition(":")[0] if family == "python" else source
    shipped = {path.stem for path in SHIPPED.glob("*.safetensors")} | ALIASES.keys()
    if named not in shipped and not Path(named).exists():
        return named
    return "" if Path(data or ".").exists() else data


def parse(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what main reads in a command line, without running it."""
    known, found = softmode.cli.commands(), []
    with monkeypatch.context() as patch:
        patch.setattr(
            softmode.cli, "commands", lambda: {name: each._replace(run=found.append) for name, each in known.items()}
        )
        main(words)
    return found[0]


def few_rows(denoiser: Any, x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Return the Jacobian's first rows, and zeros, which take no time."""
    transposed = torch.func.vjp(lambda z: denoiser(z, sigma), x)[1]
    matrix = torch.zeros(x.numel(), x.numel(), dtype=x.dtype)
    for place in range(4):
        unit = torch.zeros_like(x).flatten()
        unit[place] = 1
        matrix[place] = transposed(unit.reshape(x.shape))[0].detach().flatten()
    return matrix


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unchecked_shapes: None) -> Iterator[None]:
    """A directory for the commands of one page, without network; figures and the quality of networks take no time."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("a tench\na castle\n")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(run, "save", quick)
    resamples.few_resamples(monkeypatch)
    monkeypatch.setitem(draw.STYLE, "figure.dpi", COARSE)
    monkeypatch.setattr(held_out, "IMAGES", 8)
    monkeypatch.setattr(held_out, "LEVELS", 2)
    monkeypatch.setattr(information, "PATH_LEVELS", 8)
    monkeypatch.setattr(samples, "SAMPLER_STEPS", 4)
    monkeypatch.setattr(measure, "dense_jacobian", few_rows)
    monkeypatch.setattr(nonlocality, "DRAWS", 1)
    monkeypatch.setattr(null, "GROUPS", 2)
    resamples.tiny_windows(monkeypatch)
    # each class of a network is tried at one noise level instead of five
    monkeypatch.setattr(derivatives, "TRIED", 1)
    # a third of its evaluations' time; other tests have the network itself
    monkeypatch.setitem(ALIASES, "fashion-mnist", "fashion-mnist-guide")
    if "huggingface_hub" in sys.modules:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        # a tiny grid is a coarse one
        warnings.simplefilter("default")
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished runs of the pages before, by what they are of: none is computed twice."""
    return tmp_path_factory.mktemp("made")


@pytest.mark.parametrize("name", [name for name, found in TEXTS.items() if found])
@pytest.mark.usefixtures("page")
def test_the_commands_of_a_page_run_in_their_order(
    name: str, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who types a page's commands one after another gets what it says, or one line that says what is missing."""
    for words in TEXTS[name]:
        parse(words, monkeypatch)
        lacking = missing(words)
        if lacking:
            refused(tiny(words), lacking, capsys)
            continue
        if kind(words) in BEFORE:
            first = BEFORE[kind(words)].format(model=words[1], out=option(words, "--out"))
            works(first.split(), made, monkeypatch, capsys)
        works(tiny(words), made, monkeypatch, capsys)


def refused(words: list[str], lacking: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(Path.cwd().rglob("*"))
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(words)
    error = capsys.readouterr().err
    assert stop.value.code == 2, words
    assert lacking in error, (words, error)
    assert error.startswith("error ")
    assert error.count("\n") == 1
    assert set(Path.cwd().rglob("*")) == before


def works(words: list[str], made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    options = parse(words, monkeypatch)
    # what is computed does not depend on where it is put
    same = words[0], options.config, options.output
    out, kept = option(words, "--out"), made / sha256(f"{same}".encode()).hexdigest()
    if out and kept.is_dir():
        shutil.copytree(kept, out, dirs_exist_ok=True)
        return
    capsys.readouterr()
    main(words)
    assert capsys.readouterr().out.strip(), words
    if out:
        assert (Path(out) / LEFT.get(words[0], "summary.json")).stat().st_size > 0
        shutil.copytree(out, kept)


def test_commands_in_prose_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that was renamed or removed is not left behind in a sentence."""
    found = [words for path in PAGES for words in inline_commands(path.read_text())]
    assert len(found) > 3
    for words in found:
        parse(words, monkeypatch)


def test_the_last_of_an_option_s_values_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes a command tiny stands behind the options that the page gives."""
    found = []
    known = softmode.cli.commands()
    patched = {"patch": known["patch"]._replace(run=found.append)}
    monkeypatch.setattr(softmode.cli, "commands", lambda: patched)
    main(["patch", "--size", "20", "--snapshots", "3", "2", "--size", "12", "--snapshots", "1"])
    assert (found[0].config.size, found[0].config.snapshots) == (12, (1.0,))


def test_every_page_has_its_commands_found() -> None:
    """The pages that tell how to use softmode have shell blocks; a new way to write them must not hide commands."""
    for path in PAGES:
        text = path.read_text()
        lines = re.findall(r"(?m)^(?:[ \t]+|\$ )softmode \S.*$", text)
        assert len(TEXTS[path.name]) >= len(lines), path
    assert all(TEXTS[name] for name in ("README.md", "window.md", "pulses.md", "networks.md", "help"))


def test_make_has_the_targets_that_pages_name() -> None:
    """`make demo` and the like are in the Makefile, and `make help` lists every target that has a description."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?m)^([a-z]+):", makefile))
    named = set()
    for path in PAGES:
        text = path.read_text()
        lines = [line for line in blocks(text)[0] if line.startswith("make ")]
        named |= {line.split()[1] for line in lines} | set(re.findall(r"`make ([a-z]+)`", text))
    assert {"demo", "test", "bench"} <= named
    assert named <= targets
