"""The engine: what is kept when a run stops, what is said, and what a run is refused for."""

import contextlib
import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.errors import refused
from helpers.runs import digest, run
from helpers.toy import Toy, ToyConfig, ToyPlan, made
from softmode.cli import main
from softmode.runs import engine, files, log
from softmode.runs.engine import execute
from softmode.runs.files import claimed
from softmode.runs.run import Run

TINY = {"size": 8, "receptive_field": "box:3", "t_max": 20.0, "t_min": 0.1, "steps": 300, "trajectories": 2,
        "shells": 3, "block": 1}  # fmt: skip


class Stops(ToyPlan):
    """A plan that raises an error in place of measuring one of its blocks."""

    def __init__(self, error: BaseException, at: int = 1) -> None:
        super().__init__()
        self.error, self.at = error, at

    def measure(self, block, advance=lambda: None):
        if block.index == self.at:
            raise self.error
        return super().measure(block, advance)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("x"), ArithmeticError("x"), MemoryError()])
def test_what_is_finished_stays_and_the_rest_is_bit_identical(error: BaseException, tmp_path: Path) -> None:
    """Interrupted in its second block, a run keeps the first, has no results, and ends as if nothing had happened."""
    made(tmp_path / "whole")
    with pytest.raises(type(error)):
        execute(Toy(), Stops(error), tmp_path / "run")
    begun = Run(tmp_path / "run", Toy())
    assert begun.dataset.sizes["trajectory"] == 2
    with refused(r"is not finished \(blocks left: 2\); run the same command"):
        _ = begun.results
    made(tmp_path / "run")
    assert digest(tmp_path / "run") == digest(tmp_path / "whole")


def test_repeating_a_finished_run_computes_nothing(tmp_path: Path) -> None:
    """The same command on a finished run analyses it again and gives the same results, seconds among them."""
    before, files_before = made(tmp_path / "run").summary, digest(tmp_path / "run")
    again = execute(Toy(), Stops(AssertionError("measured again"), 0), tmp_path / "run")
    assert again.summary == before
    assert digest(tmp_path / "run") == files_before


def test_the_log_keeps_every_sitting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts and seconds of all blocks, whoever computed them when; the summary has their sum, also when repeated."""
    clock = iter(range(100))
    monkeypatch.setattr(engine, "time", SimpleNamespace(perf_counter=lambda: float(next(clock)) ** 2))
    monkeypatch.setattr(log.socket, "gethostname", lambda: "first")
    with pytest.raises(KeyboardInterrupt):
        execute(Toy(), Stops(KeyboardInterrupt(), 2), tmp_path / "run")
    monkeypatch.setattr(log.socket, "gethostname", lambda: "second")
    summary = made(tmp_path / "run").summary
    entries = log.entries(tmp_path / "run")
    assert [(e.block, e.host) for e in entries] == [(0, "first"), (1, "first"), (2, "second")]
    assert summary["seconds"] == sum(e.seconds for e in entries) == (1 - 0) + (9 - 4) + (36 - 25)
    assert summary["hosts"] == ["first", "second"]
    assert made(tmp_path / "run").summary["seconds"] == summary["seconds"]


def test_a_line_of_the_log_that_was_cut_spoils_no_other(tmp_path: Path) -> None:
    """A killed process leaves half a line; the next one starts a line of its own, and nonsense is no entry."""
    log.append(tmp_path, 0, 0, 1.0)
    path = tmp_path / "blocks.jsonl"
    path.write_text(path.read_text() + '{"block": 1, "pa')
    log.append(tmp_path, 1, 0, 2.0)
    nonsense = ["[]", "null", '{"block": 2}', "[" * 100000, '{"block":3,"part":0,"host":"x","seconds":NaN}', "1e999"]
    path.write_text(path.read_text() + "\n".join(nonsense) + "\n")
    assert [(e.block, e.seconds) for e in log.entries(tmp_path)] == [(0, 1.0), (1, 2.0)]
    assert log.entries(tmp_path / "nowhere") == []


def keep_making(directory: Path) -> None:
    """Make a run again and again, so that a few writes more or less do not matter."""
    for _ in range(10):
        made(directory)


WRITES = ("mkdir", "write_bytes", "open", "replace", "rename")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("at", range(0, 40, 4))
def test_a_disk_that_takes_no_more_is_one_line_and_the_run_goes_on_later(
    code: int, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it happens, from the first file to the last: the path, the remedy, and nothing lost or wrong."""
    made(tmp_path / "whole")
    left = iter([False] * at)

    def failing(function, path, *arguments, **named):
        reads = function.__name__ == "open" and not set("wax+") & set(str((arguments or ["r"])[0]))
        if tmp_path / "run" in Path(path).parents and not reads and next(left, True):
            raise OSError(code, os.strerror(code), str(path))
        return function(path, *arguments, **named)

    with monkeypatch.context() as patched:
        for name in WRITES:
            honest = getattr(Path, name)
            patched.setattr(Path, name, lambda *a, f=honest, **n: failing(f, *a, **n))
        with pytest.raises((OSError, ValueError)) as caught:
            keep_making(tmp_path / "run")
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) <= 300
    assert os.strerror(code) in message
    assert str(tmp_path / "run") in message
    assert "the same command" in message or "choose another" in message
    made(tmp_path / "run")
    assert digest(tmp_path / "run") == digest(tmp_path / "whole")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"run.zarr", "blocks.jsonl", "summary.json", ".lock"}


def test_a_full_disk_ends_the_command_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that failed is no bad input."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(log, "append", full)
    options = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    with pytest.raises(SystemExit) as stop:
        main(["patch", *options, "--out", str(tmp_path / "run")])
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"cannot write '{tmp_path / 'run' / 'run.zarr'}' (No space left on device)" in said
    assert "run the same command" in said


def test_another_dictionary_file_is_refused_by_name(tmp_path: Path) -> None:
    """The same path with other content is another run; the same content under the same path is this one."""
    path = tmp_path / "mine.npz"
    patterns = np.array([[1.0] * 9, [-1.0] * 9])
    np.savez(path, patterns=patterns, prior=[0.5, 0.5])
    sound = path.read_bytes()
    settings = TINY | {"dictionary": str(path)}
    first = run("patch", tmp_path / "run", **settings)
    before = digest(first.directory)
    np.savez(path, patterns=patterns, prior=[0.25, 0.75])
    with refused("holds a run with another dictionary than this one, by its content"):
        run("patch", tmp_path / "run", **settings)
    assert digest(first.directory) == before
    path.write_bytes(sound)
    run("patch", tmp_path / "run", **settings)
    path.unlink()
    with refused("dictionary: "):
        run("patch", tmp_path / "run", **settings)


def test_a_directory_that_is_being_written_is_refused(tmp_path: Path) -> None:
    """Whoever holds it; afterwards it is free, also after an error."""
    with claimed(tmp_path / "run"), refused("is being written by another process"):
        made(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        execute(Toy(), Stops(KeyboardInterrupt(), 0), tmp_path / "run")
    made(tmp_path / "run")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """What was there stays until the new content is complete, and nothing else is left behind."""
    files.write_json(tmp_path / "x.json", {"a": 1.0})
    with contextlib.suppress(KeyboardInterrupt), files.staged(tmp_path / "x.json") as stage:
        stage.write_text("half")
        raise KeyboardInterrupt
    assert json.loads((tmp_path / "x.json").read_text())["a"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("text", [None, "", "[]", "null", "{", '"x"', "[" * 100000, '{"b": 1}', "\xff"])
def test_a_json_file_that_is_something_else_is_refused(text: str | None, tmp_path: Path) -> None:
    """The message names the file and says what to do."""
    if text is not None:
        (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with refused("x.json: .*; make it again"):
        files.read_json(tmp_path / "x.json", ("a",), "make it again")


class Slow(ToyPlan):
    def seconds(self, pending):
        return 3600.0 * len(pending)


def test_long_work_is_announced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How long it takes, where, and that it can be interrupted; and what is done already."""
    with pytest.raises(KeyboardInterrupt):
        execute(Toy(), Stops(KeyboardInterrupt()), tmp_path / "run")
    capsys.readouterr()
    execute(Toy(), Slow(), tmp_path / "run", progress=True)
    said = capsys.readouterr().err
    assert "toy: 1 of 3 blocks are done already; about 2 hours on cpu; interrupted, the same command resumes" in said
    execute(Toy(), Slow(), tmp_path / "run", progress=True)
    assert capsys.readouterr().err == ""


def test_a_run_that_needs_others_says_how_long_all_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Together, before the first of them begins; what is finished does not count."""

    class Whole(ToyPlan):
        def needs(self):
            return {"one": (Toy(), Slow()), "two": (Toy(), Slow())}

    execute(Toy(), Slow(), tmp_path / "all" / "one")
    execute(Toy(), Whole(), tmp_path / "all", progress=True)
    first, second, *more = capsys.readouterr().err.splitlines()
    assert first == "toy: about 3 hours in all; interrupted, the same command resumes"
    assert second == "toy: about 3 hours on cpu; interrupted, the same command resumes"
    assert not more


class Looks(ToyPlan):
    """A plan that measures nothing and analyses another run in its place."""

    @property
    def variables(self):
        return {}


def test_an_experiment_that_only_analyses_wants_a_finished_run(tmp_path: Path) -> None:
    """It writes its own file beside the summary; of an unfinished run it says so."""
    with pytest.raises(KeyboardInterrupt):
        execute(Toy(), Stops(KeyboardInterrupt()), tmp_path / "run")
    view = replace(Toy(), name="view")
    with refused("is not finished"):
        execute(view, Looks(), tmp_path / "run")
    mean = made(tmp_path / "run").results["length"]
    assert execute(view, Looks(ToyConfig(size=9)), tmp_path / "run").results["length"] == mean
    assert (tmp_path / "run" / "view.json").is_file()
