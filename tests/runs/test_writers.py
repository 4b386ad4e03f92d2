"""Processes that write one directory: two at once, and after one that was killed."""

import time
from pathlib import Path

import pytest
from helpers.processes import start
from helpers.runs import digest

TINY = "patch --size 12 --receptive-field box:3 --t-max 20 --t-min 0.1 --steps 300 --trajectories 4 --shells 3 --block 1".split()
LEFT = {"run.zarr", "blocks.jsonl", "summary.json", "report.html", "figures", ".lock"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("whole")
    process = start([*TINY, "--out", str(folder / "run")], folder / "said")
    process.join(300)
    assert process.exitcode == 0
    return digest(folder / "run")


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.15, 0.3])
@pytest.mark.parametrize("swapped", [False, True])
def test_of_two_writers_one_ends_as_if_alone_and_one_is_refused(
    delay: float, swapped: bool, whole: dict[str, str], tmp_path: Path
) -> None:
    """Whoever comes first; the other says so in one line, with exit code 2, and leaves nothing of its own."""
    moment, delays = time.time() + 1.0, (delay, 0.0) if swapped else (0.0, delay)
    said = [tmp_path / "one", tmp_path / "other"]
    pair = [start([*TINY, "--out", str(tmp_path / "run")], path, moment + late) for path, late in zip(said, delays, strict=True)]
    for process in pair:
        process.join(300)
    codes = {process.exitcode: path.read_text() for process, path in zip(pair, said, strict=True)}
    # one that comes after all blocks are there repeats a finished run
    assert set(codes) in ({0, 2}, {0}), codes
    if 2 in codes:
        assert codes[2].count("\n") == 1
        assert "is being written by another process" in codes[2]
    assert digest(tmp_path / "run") == whole
    assert {path.name for path in (tmp_path / "run").iterdir()} == LEFT


@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.9])
def test_a_killed_process_leaves_no_claim(part: float, whole: dict[str, str], tmp_path: Path) -> None:
    """Killed without warning at some part of its work, it blocks nobody, and the next ends bit-identical."""
    started = time.time()
    start([*TINY, "--out", str(tmp_path / "alone")], tmp_path / "said").join(300)
    killed = start([*TINY, "--out", str(tmp_path / "run")], tmp_path / "said")
    time.sleep(part * (time.time() - started))
    killed.kill()
    killed.join()
    again = start([*TINY, "--out", str(tmp_path / "run")], tmp_path / "said")
    again.join(300)
    assert again.exitcode == 0, (tmp_path / "said").read_text()
    assert digest(tmp_path / "run") == whole
