"""Bad command lines: exit code 2, one line that names what is wrong, nothing computed and nothing written."""

import importlib.util
import os
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

from helpers.commands import Terminal

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "bad_commands.py"
COUNT = 60
# what the line says, by the command; words are separated by single spaces
REFUSED = {
    "nope": "command: there is no 'nope'; softmode --help lists them",
    "patc --size 3": "command: there is no 'patc'; did you mean softmode patch?",
    "patch --siz 3": "arguments: softmode patch has no option '--siz'; did you mean --size?",
    "probe --foo m": "arguments: softmode probe has no option '--foo'",
    "train f --no-dwnload": "arguments: softmode train has no option '--no-dwnload'",
    "patch -x": "arguments: softmode patch has no option '-x'; see softmode patch --help",
    "patch --tyro-print-completion x": "arguments: softmode patch has no option '--tyro-print-completion'",
    "probe a b": "arguments: softmode probe has no place for 'b'; see softmode probe --help",
    "patch -- x": "arguments: softmode patch has no place for 'x'",
    "patch --=3": "arguments: softmode patch has no place for '--=3'",
    "probe": "model: missing; see softmode probe --help",
    "convert-edm2": "source and target: missing; see softmode convert-edm2 --help",
    "convert-edm2 a": "target: missing; see softmode convert-edm2 --help",
    "patch --size x": "size: got 'x'; expected an integer at least 2 and at most 1048576",
    "patch --size": "size: got nothing; expected an integer at least 2",
    "patch --size=": "size: got ''; expected an integer",
    "patch --size --steps 3": "size: got nothing; expected an integer",
    "patch --size 0x10": "size: got '0x10'; expected an integer",
    "patch --size 5 7": "arguments: softmode patch has no place for '7'",
    "patch --portion zig": "portion: got 'zig'; expected one of cut, clip",
    "patch --snapshots 1 x": "snapshots: got '1' 'x'; expected values, each a number above 0",
    "patch --t_max 1e400": "t_max: got inf; expected a finite number",
    "patch --t-max -inf": "t_max: got -inf; expected a finite number",
    "patch --t-max nan": "t_max: got nan; expected a finite number",
    "patch --seed 99999999999999999999": "seed: got 99999999999999999999; expected at least 0 and at most 9223372036",
    "patch --size 1 --size 12 --steps 0": "steps: got 0; expected at least 1",
    "probe m --prompt a --seed 1 --prompt c": "arguments: got --prompt twice; give it once, with all of its values",
    "probe m --labels 1 --labels=2": "arguments: got --labels twice; give it once, with all of its values behind it",
    "pulse m --interval 1": "interval: got '1'; expected 2 values, each a number",
    "probe m --labels 3,x": "labels: got '3,x'; expected classes, for example 3,7",
    "probe m --t-max x": "t_max: got 'x'; expected a number above 0",
    "train f --batch 1.5": "batch: got '1.5'; expected an integer at least 1",
    "susceptibility fashion-mnist --width 1e5": "width: got 100000; expected above 0 and at most 100",
    "susceptibility fashion-mnist --centres 2": "centres: got 2; expected at least 3",
    "window fashion-mnist --clones -1": "clones: got -1; expected at least 0",
    "window fashion-mnist --sampler-steps 0": "sampler_steps: got 0; expected at least 1",
    "window fashion-mnist --mu 1": "mu: got 1; only schedulers of diffusers take one: leave it out",
    "window fashion-mnist --mu nan": "mu: got nan; expected a finite number",
    "window fashion-mnist --format json --weight nan": "weight: got nan; expected a finite number",
    "window fashion-mnist --check nope": "check: 'nope' holds no run of softmode susceptibility; make one with it",
    "window fashion-mnist --t-max 300 --sampler heun": "t_max: got 300",
    "window fashion-mnist --labels 3,10": "labels: got 10; expected 0 to 9",
    "patch --receptive-field box:4": "receptive_field: got box:4",
    "theory --receptive-field box:1000000001": "receptive_field: got box:1000000001; expected at most",
    "theory --schedule foo": "schedule: got 'foo'",
    "theory --schedule [red]": "schedule: got '[red]'",
    "theory --dimensions 5": "dimensions: got 5",
    "theory --dictionary :smile:": "dictionary: got ':smile:'",
    "patch --dictionary random:1000000000": "dictionary: got random:1000000000; expected 1 to",
    "patch --size 100000": "size: got 100000; expected at most",
    "patch --size 3000 --dimensions 3": "size: got 3000; expected at most",
    "patch --trajectories 1000000000": "trajectories: got 1000000000; expected at most",
    "pulse fashion-mnist --trials 1000000000": "trials: got 1000000000; expected at most",
    "probe fashion-mnist-binary-f4 --shape 1 8192 8192": "shape: got (1, 8192, 8192)",
    "probe fashion-mnist-binary-f4 --shape 1 30 30": "sides divisible by 4",
    "probe fashion-mnist --shape 1 32 32": "shape: got sides (32, 32); expected (28, 28), whose spectrum",
    "probe fashion-mnist-binary --labels 3": "labels: got 3; expected none",
    "probe fashion-mnist --prompt tench": "is no model of text: leave it out",
    "probe fashion-mnist-binery": "there is no 'fashion-mnist-binery'; did you mean fashion-mnist-binary",
    "probe fashion-mnist-classifier": "no denoiser",
    "probe nowhere.safetensors": "there is no file",
    "probe file.txt": "truncated or no safetensors file",
    "probe python:json:loads": "model: 'python:json:loads' failed when it was called without arguments",
    "probe python:os:getcwd": "model: 'python:os:getcwd' returned str; expected a Denoiser",
    "probe python:missing:x": "model: cannot import 'python:missing:x'",
    "window diffusers:empty": "holds neither model_index.json nor config.json",
    "pulse fashion-mnist-binary": "model: 'fashion-mnist-binary' has no classes",
    "pulse fashion-mnist --classes 11": "classes: got 11; expected at most 10",
    "pulse fashion-mnist --guide fashion": "guide: cannot use 'fashion'",
    "pulse fashion-mnist --classifier python:nowhere:f": "classifier: cannot import 'python:nowhere:f'",
    "pulse fashion-mnist --window empty": "holds no softmode run",
    "clones fashion-mnist --copies 0": "copies: got 0; expected at least 1",
    "train fashion": "network: got 'fashion'; expected one of fashion-mnist",
    "train fashion-mnist --data empty": "lacks train-images-idx3-ubyte",
    "convert-edm2 empty.pkl nodir/x": "target: 'nodir' is no directory",
    "figures empty": "holds no softmode run; make one, for example: softmode patch --out runs/patch",
    "patch --out file.txt": "out: ",
    "patch --out file.txt/x": "out: cannot ",
    "patch --out full": "out: 'full' is not empty and holds no softmode run",
    # before a model is opened and tried, which takes a while
    "probe nowhere.safetensors --out full": "out: 'full' is not empty",
    "patch --out=": "out: got ''; expected a directory, for example runs/patch",
    f"patch --out {'n' * 300}": "out: got a name of 300 bytes; expected at most 255",
}
# what no shell line of words can say
ODD = {
    ("patch", ""): "arguments: softmode patch has no place for ''",
    ("",): "command: there is no ''",
    ("patch", "\x1b[31mred"): r"has no place for '\x1b[31mred'",
    ("patch", "--size", "\x1b[2J\n"): r"size: got '\x1b[2J\n'; expected an integer",
    ("theory", "--schedule", "\x1b]0;title\x07"): "schedule: got ",
    ("probe", "\udcff", "--out", "\udcfe"): r"there is no '\udcff'",
    ("probe", "a\x00b"): "model: there is no",
    ("patch", "--size", "9" * 10**6): "size: got '999",
    ("patch", f"--{'z' * 10**6}"): "has no option '--zzz",
    ("probe", "m" * 10**6): "model: there is no 'mmm",
    ("x" * 10**6,): "command: there is no 'xxx",
    ("patch", "--out", "a\x00b"): "out: ",
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script that does the same with thousands of commands."""
    spec = importlib.util.spec_from_file_location("bad_commands", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def terminal(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Terminal:
    """A terminal in a directory with files of the wrong kinds."""
    monkeypatch.chdir(tmp_path)
    script.furnish(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return Terminal(capsys)


@pytest.mark.parametrize("command", REFUSED, ids=lambda command: command[:60])
def test_a_bad_command_is_told_in_one_line(command: str, terminal: Terminal) -> None:
    """What is wrong comes first, with what came and what would be right."""
    assert REFUSED[command] in terminal.refuse(*command.split(" "))


@pytest.mark.parametrize("arguments", ODD, ids=lambda arguments: ascii(" ".join(arguments))[1:60])
def test_odd_characters_and_lengths(arguments: tuple[str, ...], terminal: Terminal) -> None:
    """No byte of them reaches the terminal raw, and a megabyte is told in a line."""
    assert ODD[arguments] in terminal.refuse(*arguments)


@pytest.mark.usefixtures("terminal", "unchecked_shapes")
def test_commands_that_are_spoilt_at_random(script: ModuleType) -> None:
    """Of every command and option, as the script spoils them; the good commands are not among them."""
    seen = set()
    for i in range(COUNT):
        kind, words = script.spoilt(random.Random(f"tests {i}"))
        assert script.outcome(words) == "refused", ascii(words)[:300]
        seen.add(kind)
    assert len(seen) > 5


def test_the_script_sees_what_is_wrong(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good command, a traceback, a file that is left and a line too many do not pass as a refusal."""
    monkeypatch.chdir(tmp_path)
    assert script.outcome(["theory"]).startswith("ended with exit code 0")
    for said, found in (
        ("raise KeyError(3)", "raised KeyError"),
        ("open('left', 'w').close(); raise ValueError('x')", "wrote something"),
        ("print('x'); raise ValueError('x')", "printed"),
        ("raise OSError('x')", "ended with exit code 1"),
    ):
        monkeypatch.setattr("softmode.cli._dispatch", lambda _, said=said: exec(said))
        assert script.outcome(["theory"]).startswith(found)
    assert os.listdir() == ["left"]
