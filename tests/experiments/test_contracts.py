"""What every experiment of the list must do, whatever it measures; each needs an entry in helpers/experiments.py."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest

from helpers import resamples
from helpers.drawing import COARSE
from helpers.errors import refused
from helpers.experiments import NAMES, bad_settings, contents, digests, tiny
from helpers.shapes import shapes_checked
from softmode.experiments.call import call, experiment, looks, plan
from softmode.runs.experiment import Plan
from softmode.runs.results import Results
from softmode.runs.run import Run
from softmode.runs.store import Store
from softmode.settings import as_config

every_experiment = pytest.mark.parametrize("name", NAMES)
every_reader = pytest.mark.parametrize("name", [name for name in NAMES if tiny(name).option])


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """Spend little time on intervals, which have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        resamples.few_resamples(patch)
        resamples.tiny_windows(patch)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs' input files and the runs themselves are."""
    path = tmp_path_factory.mktemp("contracts")
    for name in NAMES:
        (path / f"{name}-inputs").mkdir()
    return path


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, Run]:
    """A finished run of every experiment, made when it is first asked for; here shapes and types are checked."""

    class Made(dict[str, Run]):
        def __missing__(self, name: str) -> Run:
            with shapes_checked(True):
                self[name] = call(experiment(name), folder / name, **tiny(name).made(folder / f"{name}-inputs"))
            return self[name]

    return Made()


def plans(name: str, folder: Path) -> Iterator[Plan]:
    """Yield the plan of an experiment, and those of the runs that it needs."""
    made = plan(experiment(name), **tiny(name).made(folder / f"{name}-inputs"))
    yield made
    yield from (needed for _, needed in made.needs().values())


@every_experiment
def test_preparing_writes_nothing(name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that is made and not executed leaves no trace, neither where the user is nor beside the inputs."""
    settings = tiny(name).made(folder / f"{name}-inputs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = contents(tmp_path, folder / f"{name}-inputs")
    plan(experiment(name), **settings)
    assert contents(tmp_path, folder / f"{name}-inputs") == before


@every_experiment
def test_the_same_settings_are_bit_identical(name: str, runs: dict[str, Run], folder: Path, tmp_path: Path) -> None:
    """Arrays and results, down to the last byte."""
    again = call(experiment(name), tmp_path / "again", **tiny(name).made(folder / f"{name}-inputs"))
    assert digests(again.directory) == digests(runs[name].directory)


@every_experiment
def test_a_run_that_is_interrupted_in_every_block_ends_bit_identical(
    name: str, runs: dict[str, Run], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sitting stores one block, computes the next one, and dies before it is written."""
    honest, stored = Store.write, 0
    monkeypatch.setenv("TMPDIR", str(tmp_path.parent))

    def dies(store: Store, *arguments: object) -> None:
        nonlocal stored
        if tmp_path not in store.directory.parents and store.directory != tmp_path:
            return honest(store, *arguments)  # type: ignore[arg-type]
        if stored == 1:
            raise KeyboardInterrupt
        stored += 1
        honest(store, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "write", dies)
    settings, interrupted = tiny(name).made(folder / f"{name}-inputs"), 0
    while interrupted < 100:
        stored = 0
        try:
            call(experiment(name), tmp_path / "run", **settings)
            break
        except KeyboardInterrupt:
            interrupted += 1
    assert 2 <= interrupted < 100, "the tiny run has too few blocks to be interrupted"
    assert digests(tmp_path / "run") == digests(runs[name].directory)


@every_experiment
def test_work_is_counted_as_it_is_done(name: str, folder: Path) -> None:
    """The progress bar ends at 100 %, from the start and from the middle; estimates are numbers."""
    for each in plans(name, folder):
        assert math.isfinite(each.memory)
        assert each.memory >= 0
        if not each.variables:
            continue
        pending = each.blocks()
        for left in (pending[:2], pending[-1:]):
            assert math.isfinite(each.seconds(left))
            advanced: list[int] = []
            for block in left:
                each.measure(block, lambda advanced=advanced: advanced.append(1))
            assert len(advanced) == each.steps(left)


@every_experiment
def test_measuring_is_a_function_of_plan_and_block(name: str, folder: Path) -> None:
    """The last block measured first, by another plan, is the same: nothing depends on the order of work."""
    for one, other in zip(plans(name, folder), plans(name, folder), strict=True):
        if not one.variables:
            continue
        first, *_, last = one.blocks()
        one.measure(first)
        found, expected = one.measure(last), other.measure(last)
        assert found.keys() == expected.keys() == one.variables.keys()
        for array, values in found.items():
            assert values.tobytes() == expected[array].tobytes(), array
            shape = one.variables[array].shape
            assert values.shape == (len(last.trajectories), *shape[1 + (one.parts > 1) :]), array


@every_experiment
def test_a_plan_leaves_no_setting_open(name: str, folder: Path) -> None:
    """What a run keeps of its config is JSON and makes the same plan again."""
    made = next(plans(name, folder))
    kept = json.loads(json.dumps(as_config(made.config)))
    assert kept.keys() == as_config(made.config).keys()


@every_experiment
def test_every_array_says_what_it_is(name: str, runs: dict[str, Run]) -> None:
    """Named dimensions, a unit and a long name; coordinates for every trajectory that there is."""
    data = runs[name].dataset
    for array in data.variables:
        attributes = data[array].attrs
        assert attributes.get("units"), array
        assert len(attributes.get("long_name", "")) > 4, array
        assert all(re.fullmatch(r"[a-z_0-9]+", str(dim)) for dim in data[array].dims), array
    assert {"experiment", "config", "inputs", "versions"} <= runs[name].identity.keys()


@every_reader
def test_another_input_file_is_refused_by_name(
    name: str, runs: dict[str, Run], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was replaced between two starts of one command: its name is told, and nothing changes."""
    run, case = runs[name], tiny(name)
    path = folder / f"{name}-inputs" / case.file
    settings, before = case.made(path.parent), digests(run.directory)
    kept = path.read_bytes()
    try:
        case.write(path, 1)
        with refused(rf"^out: .* holds a run with .*another .*{case.option}.*by its content"):
            call(experiment(name), run.directory, **settings)
    finally:
        path.write_bytes(kept)
    assert digests(run.directory) == before


@every_experiment
def test_results_survive_json(name: str, runs: dict[str, Run]) -> None:
    """What is read back is what was found, NaN included, and the results on disk are the same."""
    found = experiment(name).analyse(runs[name])
    plain = json.loads(json.dumps(found.plain(), allow_nan=False))
    assert Results.from_plain(plain).plain() == found.plain()
    assert runs[name].results.plain() == found.plain()


@every_experiment
def test_results_are_short_at_first(name: str, runs: dict[str, Run]) -> None:
    """An answer of one or two sentences, and evidence of at most eight rows whose cells fit their heads."""
    results = runs[name].results
    assert results.answer
    assert len(re.findall(r"[.!?]\s+[A-Z]", results.answer)) <= 1, results.answer
    first, *_ = results.tables.values()
    assert 1 <= len(first.rows) <= 8
    for table in results.tables.values():
        assert table.title
        assert all(len(row) == len(table.columns) for row in table.rows), table.title
    for quantity in results.quantities:
        assert quantity.what, quantity.name


REDRAW = """
import sys
from softmode.experiments.call import looks
from softmode.runs import draw
# to lay a figure out again and again until it settles takes most of the time, and has a test of its own
draw.LAYOUTS = 1
draw.STYLE["figure.dpi"] = float(sys.argv[1])
for name in sys.argv[2:]:
    looks(name)[-1].draw()
"""


@pytest.fixture(scope="module")
def redrawn(runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where another process has drawn copies of all runs, in another place, without models and input files."""
    place = tmp_path_factory.mktemp("elsewhere")
    for name in NAMES:
        shutil.copytree(runs[name].directory, place / name, ignore=shutil.ignore_patterns("*.png", "*.pdf"))
    subprocess.run(
        [sys.executable, "-c", REDRAW, str(COARSE), *NAMES], cwd=place, check=True,
        env={**os.environ, "MPLBACKEND": "agg"},
    )  # fmt: skip
    return place


@every_experiment
def test_figures_are_drawn_from_the_run_alone(name: str, redrawn: Path) -> None:
    """Each as a picture and for print, or neither where the run has nothing to draw; the main one is always there."""
    main, *others = experiment(name).figures
    written = {path.name for path in (redrawn / name / "figures").iterdir() if path.stat().st_size}
    drawn = {figure for figure in (main, *others) if f"{figure}.png" in written}
    assert main in drawn
    assert written == {f"{figure}.{kind}" for figure in drawn for kind in ("png", "pdf")}


@pytest.mark.usefixtures("unchecked_shapes")
@every_experiment
def test_every_bad_setting_is_refused_in_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting is named first, nothing is computed or written: every bound, and every other type."""
    (tmp_path / "inputs").mkdir()
    settings = tiny(name).made(tmp_path / "inputs")
    monkeypatch.chdir(tmp_path)
    before, tried = contents(tmp_path), set()
    for field, value in bad_settings(name):
        if (field in ("model", "guide", "classifier") and value is not None) or (field, value) == ("prompts", ("a",)):
            continue  # a live object may stand there, or texts in place of their file
        with refused(rf"^{field}: got .*expected"):
            call(experiment(name), tmp_path / "run", **settings | {field: value})
        tried.add(field)
    assert tried >= get_type_hints(experiment(name).config).keys() - {"model", "guide", "classifier"}
    assert contents(tmp_path) == before


@every_experiment
def test_a_run_is_opened_as_what_it_is(name: str, runs: dict[str, Run]) -> None:
    """By its directory alone, with an answer in its repr and a page for notebooks."""
    opened = looks(runs[name].directory)[-1]
    assert opened.experiment.name == name
    assert opened.results.answer in repr(opened)
    assert "<table" in opened._repr_html_()
