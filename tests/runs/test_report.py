"""Results in a terminal, as a page and in a notebook: whatever they hold is shown as it is."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from helpers.toy import Toy, ToyPlan, made
from softmode.cli import main
from softmode.estimate import Estimate
from softmode.runs.html import write_page
from softmode.runs.page import page_body
from softmode.runs.report import print_results, print_run, print_table, say
from softmode.runs.results import Quantity, Results, Table
from softmode.runs.run import Run

HOSTILE = ["[/x]", "[red]q[/red]", ":smile:", "<script>alert(1)</script>", "a&b\"c'd", "\\[x]", "ü∞"]
TINY = ["patch", "--size=8", "--receptive-field=box:3", "--t-max=20", "--t-min=0.1", "--steps=300", "--trajectories=2",
        "--shells=3"]  # fmt: skip
VOID = {"meta", "img", "br", "hr", "link"}


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def results(word: str) -> Results:
    return Results(
        answer=word,
        quantities=(Quantity(word, 0, Estimate(1.0, 0.1, 5, reason=word), word, word, word),),
        tables={word: Table(word, (word, "b"), ((word, 1.5),) * 11, word), "rest": Table("rest", ("c",), ((word,),))},
        notes=(word,),
        values={word: word},
    )


@pytest.mark.parametrize("word", HOSTILE)
def test_the_terminal_shows_every_character(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither markup nor emoji are read into labels, cells, titles, notes and paths."""
    say("label", word)
    print_results(results(word))
    printed = capsys.readouterr().out
    assert printed.count(word) == 1 + 1 + 3 + 11 + 1 + 1


def test_what_would_steer_the_terminal_is_shown_as_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences, line breaks and bytes that are no text in a path stay in their line."""
    say("out", "a\x1b[2Jb\nc\udcff")
    assert capsys.readouterr().out == "out      a\\x1b[2Jb\\nc\\udcff\n"


def test_a_terminal_shows_the_answer_one_table_and_where_the_rest_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long table eight rows; of further tables nothing."""
    run = made(tmp_path / "run")
    monkeypatch.setitem(run.__dict__, "results", results("word"))
    print_run(run, tmp_path / "report.html", [tmp_path / "figures" / "one.png", tmp_path / "figures" / "one.pdf"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "answer   word"
    assert sum("1.5" in line for line in lines) == 8
    assert "and 3 more in the report; word" in " ".join(" ".join(lines).split())
    assert lines[-3:] == [f"report   {tmp_path}/report.html", f"figures  {tmp_path}/figures: one",
                          f"results  {tmp_path}/run/summary.json"]  # fmt: skip
    assert not any("rest" in line for line in lines)


def test_a_table_that_no_report_keeps_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """Theory and the list of models have no report in which the rest could be."""
    print_table(Table("t", ("n",), tuple((i,) for i in range(30))))
    printed = capsys.readouterr().out
    assert "29" in printed
    assert "more" not in printed


class Page(HTMLParser):
    """Collects what a page shows, and fails where tags are not closed in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.seen, self.text, self.sources = list[str](), set[str](), "", list[str]()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        assert len({name for name, _ in attrs}) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    assert not page.open
    return page


@pytest.mark.parametrize("word", HOSTILE)
def test_the_page_holds_everything_and_nothing_is_executed(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every table with all its rows, the notes, the config, and the figures in the file itself."""
    run = made(tmp_path / word.replace("/", "-") / "run", ToyPlan(inputs={}))
    monkeypatch.setitem(run.__dict__, "results", results(word))
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / f"{word.replace('/', '-')}.png").write_bytes(b"\x89PNG")
    page = read(write_page(run, list(folder.iterdir())).read_text(encoding="utf-8"))
    assert page.text.count(word) >= 1 + (1 + 1 + 11 + 1) + 1 + 5
    assert not page.seen & {"script", "iframe", "link"}
    assert page.sources == ["data:image/png;base64,iVBORw=="]
    for text in ("rest", "Config", "block", "torch", "Every quantity", "1.0(1)?"):
        assert text in page.text


def test_a_path_of_bytes_that_are_no_text_stops_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written with a reference in place of what UTF-8 cannot hold."""
    run = made(tmp_path / "run")
    monkeypatch.setitem(run.__dict__, "results", results("a\udcffb"))
    assert "a&#56575;b" in write_page(run, []).read_text(encoding="utf-8")


def test_a_notebook_shows_a_run(tmp_path: Path) -> None:
    """As text and as HTML: the experiment, the directory or the tables, and the answer."""
    run = made(tmp_path / "run")
    assert repr(run).splitlines() == [f"toy in {tmp_path}/run", run.results.answer]
    assert run.results.answer in read(run._repr_html_()).text
    assert "Every quantity" in page_body("x", run.results, {})


@pytest.mark.parametrize("what", ["nothing", "unfinished", "no json", "list", "other zarr"])
def test_a_run_that_cannot_be_read_still_has_a_repr(what: str, tmp_path: Path) -> None:
    """A notebook shows what is wrong in place of a traceback."""
    directory = tmp_path / "<run>"
    if what == "unfinished":
        made(directory)
        (directory / "summary.json").unlink()
    elif what != "nothing":
        (directory / "run.zarr").mkdir(parents=True)
        text = {"no json": "{", "list": "[]", "other zarr": '{"attributes": {}}'}[what]
        (directory / "run.zarr" / "zarr.json").write_text(text)
    run = Run(directory, Toy())
    assert str(directory) in repr(run)
    assert len(repr(run).splitlines()) == 2
    assert str(directory) in read(run._repr_html_()).text


@pytest.mark.parametrize("place", ["t/[/x]", "t/[red]q", "t/:smile:"])
def test_markup_in_a_path_is_a_path(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the directory that is written, and is printed as it is, in success and in refusal."""
    out = tmp_path / place
    main([*TINY, "--out", str(out)])
    assert (out / "summary.json").is_file()
    assert f"results  {out}/summary.json\n" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*TINY, "--seed", "1", "--out", str(out)])
    assert f"'{out}' holds a run with seed 0 instead of 1" in capsys.readouterr().err


def test_an_ascii_terminal_shows_a_path_of_other_letters(tmp_path: Path) -> None:
    """After all the work it would be a pity to fail over a name."""
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "COLUMNS": "200"}
    command = [sys.executable, "-W", "ignore", "-m", "softmode", *TINY, "--out", str(tmp_path / "Läufe∞")]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert rb"L\xe4ufe\u221e" in done.stdout
    assert done.stdout.isascii()
    assert (tmp_path / "Läufe∞" / "report.html").is_file()


def test_rich_would_read_markup_and_emoji() -> None:
    """Why plain strings are not given to it."""
    console = Console(width=80)
    with console.capture() as capture:
        console.print("[red]q[/red] :smile:")
    assert not re.search(r"\[red\]|:smile:", capture.get())
