"""Processes that write one directory: two at once, and after one that was killed."""

import time
from pathlib import Path

import pytest

from helpers.processes import start
from helpers.runs import digest

TINY = "patch --size 8 --receptive-field box:3 --t-max 20 --t-min 0.1 --steps 300 --trajectories 4 --shells 3 --block 1"
LEFT = {"run.zarr", "blocks.jsonl", "summary.json", "report.html", "figures", ".lock"}


def command(out: Path, seed: int = 0) -> list[str]:
    return [*TINY.split(), "--seed", str(seed), "--out", str(out)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, str]], float]:
    """Return the stores of both commands, each run alone, and how long the second one took."""
    found, folder = [], tmp_path_factory.mktemp("whole")
    for seed in (0, 1):
        started = time.time()
        process = start(command(folder / str(seed), seed), folder / "said")
        process.join(300)
        assert process.exitcode == 0, (folder / "said").read_text()
        found.append(digest(folder / str(seed)))
    return found, time.time() - started


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.1, 0.3])
@pytest.mark.parametrize("late", [0, 1])
def test_of_two_writers_one_ends_as_if_alone_and_one_is_refused(
    delay: float, late: int, whole: tuple[list[dict[str, str]], float], tmp_path: Path
) -> None:
    """Whoever comes first; the other says so in one line, with exit code 2, and leaves nothing of its own."""
    moment = time.time() + 1.0
    pair = [
        start(command(tmp_path / "run", seed), tmp_path / f"said{seed}", moment + delay * (seed == late))
        for seed in (0, 1)
    ]
    for process in pair:
        process.join(300)
    codes = [process.exitcode for process in pair]
    assert sorted(codes, key=str) == [0, 2], [(tmp_path / f"said{seed}").read_text() for seed in (0, 1)]
    winner, loser = codes.index(0), codes.index(2)
    said = (tmp_path / f"said{loser}").read_text()
    assert said.count("\n") == 1
    assert "is being written by another process" in said or f"seed {winner} instead of {loser}" in said
    assert digest(tmp_path / "run") == whole[0][winner]
    assert {path.name for path in (tmp_path / "run").iterdir()} == LEFT


@pytest.mark.parametrize("part", [0.2, 0.5])
def test_a_killed_process_leaves_no_claim(
    part: float, whole: tuple[list[dict[str, str]], float], tmp_path: Path
) -> None:
    """Killed without warning at some part of its work, it blocks nobody, and the next ends bit-identical."""
    killed = start(command(tmp_path / "run"), tmp_path / "said")
    time.sleep(part * whole[1])
    killed.kill()
    killed.join()
    again = start(command(tmp_path / "run"), tmp_path / "said")
    again.join(300)
    assert again.exitcode == 0, (tmp_path / "said").read_text()
    assert digest(tmp_path / "run") == whole[0][0]
