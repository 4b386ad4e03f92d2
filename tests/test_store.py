"""A run on disk: layout, resume, refusal of foreign directories."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from softmode.store import DONE, ArraySpec, Run, check_directory

IDENTITY = {"experiment": "test", "config": {"size": 3, "block": 2}, "versions": {"softmode": "0"}}
CURVES = {"xi": ArraySpec(("trajectory", "time"), (5, 4), "float64", {"units": "site"})}
CONSTANTS = {"time": (ArraySpec(("time",), (4,), "float64", {}), np.arange(4.0))}


def create(directory: Path, identity: dict = IDENTITY) -> Run:
    return Run.create(directory, identity, CONSTANTS, CURVES, block=2)


def block_values(trajectories: range) -> dict[str, np.ndarray]:
    return {"xi": np.array(trajectories, dtype=float)[:, None] * np.ones(4)}


def test_a_fresh_run_has_every_block_pending_and_nan_everywhere(tmp_path: Path) -> None:
    """Blocks of 2 over 5 trajectories are 0-1, 2-3, 4, and unwritten values are NaN."""
    run = create(tmp_path / "run")
    assert list(run.pending(2, 5)) == [(0, range(0, 2)), (1, range(2, 4)), (2, range(4, 5))]
    stored = zarr.open_group(tmp_path / "run" / "run.zarr", mode="r")
    assert np.isnan(np.asarray(stored["xi"][...])).all()


def test_finished_blocks_are_not_pending_and_are_what_is_read(tmp_path: Path) -> None:
    """After writing the middle block, only it is read back, and the others are still pending."""
    run = create(tmp_path / "run")
    run.write(1, range(2, 4), block_values(range(2, 4)))
    assert [index for index, _ in create(tmp_path / "run").pending(2, 5)] == [0, 2]
    arrays = Run.open(tmp_path / "run").arrays
    assert arrays["xi"].dims == ("trajectory", "time")
    np.testing.assert_array_equal(arrays["xi"][:, 0], [2.0, 3.0])
    assert DONE not in arrays


def test_a_block_without_its_flag_is_not_read(tmp_path: Path) -> None:
    """Data written before a crash, without the flag that follows them, do not count."""
    run = create(tmp_path / "run")
    group = zarr.open_group(tmp_path / "run" / "run.zarr", mode="r+")
    group["xi"][0:2] = 7.0
    assert 0 in [index for index, _ in run.pending(2, 5)]
    assert run.arrays.sizes["trajectory"] == 0


def test_partial_files_are_swept_on_resume(tmp_path: Path) -> None:
    """A chunk that was being written when the process died leaves no trace."""
    create(tmp_path / "run")
    litter = tmp_path / "run" / "run.zarr" / "xi" / "c.0123.partial"
    litter.write_bytes(b"half a chunk")
    create(tmp_path / "run")
    assert not litter.exists()


def test_a_creation_that_died_leaves_a_directory_that_can_be_used(tmp_path: Path) -> None:
    """A staged store without its final name is removed, and the run starts afresh."""
    (tmp_path / "run" / ".run-dead.zarr").mkdir(parents=True)
    run = create(tmp_path / "run")
    assert len(list(run.pending(2, 5))) == 3
    assert not (tmp_path / "run" / ".run-dead.zarr").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [({"config": {"size": 4, "block": 2}}, "size 3 instead of 4"), ({"versions": {"softmode": "1"}}, "softmode '0'")],
)
def test_another_identity_is_refused_by_name(tmp_path: Path, change: dict, named: str) -> None:
    """A run with another config or version is left as it is, and the message names the field."""
    create(tmp_path / "run")
    before = (tmp_path / "run" / "run.zarr" / "zarr.json").read_bytes()
    with pytest.raises(ValueError, match=named):
        create(tmp_path / "run", IDENTITY | change)
    assert (tmp_path / "run" / "run.zarr" / "zarr.json").read_bytes() == before


def test_foreign_directories_are_refused(tmp_path: Path) -> None:
    """A file, a folder with other things, a zarr of someone else's and an impossible place are all named."""
    (tmp_path / "notes.txt").write_text("mine")
    zarr.open_group(tmp_path / "other" / "run.zarr", mode="w", attributes={"someone": "else"})
    for place, words in (
        (tmp_path, "not empty"),
        (tmp_path / "notes.txt", "is a file"),
        (tmp_path / "notes.txt" / "run", "cannot write"),
        (tmp_path / "other", "not softmode's"),
    ):
        with pytest.raises(ValueError, match=words):
            check_directory(place, IDENTITY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "other"]


def test_conditions_of_a_block_are_written_and_resumed_one_by_one(tmp_path: Path) -> None:
    """Each has a chunk and a flag of its own; a trajectory is shown once all of its conditions are there."""
    curves = {"p": ArraySpec(("trajectory", "condition"), (5, 3), "float64", {})}
    run = Run.create(tmp_path / "run", IDENTITY, {}, curves, 2, parts=3)
    everything = [(b, c, t) for b, t in enumerate((range(2), range(2, 4), range(4, 5))) for c in range(3)]
    assert list(run.pending_parts(2, 5)) == everything
    stored = zarr.open_group(tmp_path / "run" / "run.zarr", mode="r")["p"]
    assert stored.chunks == (2, 1)
    for index, part, trajectories in everything[:4]:
        run.write(index, trajectories, {"p": np.full(len(trajectories), 10.0 * index + part)}, part)
    assert list(run.pending_parts(2, 5)) == everything[4:]
    np.testing.assert_array_equal(stored[...][:3], [[0, 1, 2], [0, 1, 2], [10, np.nan, np.nan]])
    config = IDENTITY["config"]["block"]
    assert Run.open(tmp_path / "run").arrays.sizes["trajectory"] == config == 2


def test_a_run_inside_a_directory_does_not_make_it_foreign(tmp_path: Path) -> None:
    """An experiment may measure a window in its own directory first."""
    create(tmp_path / "run" / "window")
    create(tmp_path / "run")
    assert (tmp_path / "run" / "run.zarr").is_dir()


def test_opening_what_is_no_run_says_how_to_make_one(tmp_path: Path) -> None:
    """The message names the command."""
    with pytest.raises(ValueError, match="softmode patch --out"):
        Run.open(tmp_path)


def test_summary_turns_nan_into_null_and_is_replaced_whole(tmp_path: Path) -> None:
    """The summary is plain JSON, and a second writing leaves no staged file."""
    run = create(tmp_path / "run")
    with pytest.raises(ValueError, match="no summary yet"):
        _ = run.summary
    run.write_summary({"value": float("nan"), "nested": [float("inf"), 1.5]})
    run.write_summary({"value": float("nan"), "nested": [float("inf"), 2.5]})
    text = (tmp_path / "run" / "summary.json").read_text()
    assert json.loads(text) == run.summary == {"value": None, "nested": [None, 2.5]}
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["run.zarr", "summary.json"]
