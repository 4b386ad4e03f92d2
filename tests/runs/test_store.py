"""A run's arrays on disk: layout, resume, refusal of other runs and of foreign directories."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from helpers.errors import refused
from helpers.runs import digest
from helpers.toy import ToyConfig, ToyPlan, made
from softmode.runs.store import DIGEST, DONE, ArraySpec, Block, Store, blocks, check_directory, is_run

IDENTITY = {"experiment": "toy", "config": {"size": 3, "block": 2}, "versions": {"softmode": "0"}}
CURVES = {"xi": ArraySpec(("trajectory", "time"), (5, 4), "float64", {"units": "site"})}
CONSTANTS = {"time": (ArraySpec(("time",), (4,), "float64", {}), np.arange(4.0))}


def create(directory: Path, identity: dict = IDENTITY) -> Store:
    directory.mkdir(exist_ok=True, parents=True)
    return Store.create(directory, identity, CONSTANTS, CURVES, size=2)


def values(block: Block) -> dict[str, np.ndarray]:
    return {"xi": np.array(block.trajectories, dtype=float)[:, None] * np.ones(4)}


def raw(directory: Path) -> zarr.Group:
    return zarr.open_group(directory / "run.zarr", mode="r+", use_consolidated=False)


def test_a_fresh_run_has_every_block_pending_and_nan_everywhere(tmp_path: Path) -> None:
    """Blocks of 2 over 5 trajectories are 0-1, 2-3, 4, and unwritten values are NaN."""
    store = create(tmp_path / "run")
    assert store.blocks(done=False) == [Block(0, 0, range(2)), Block(1, 0, range(2, 4)), Block(2, 0, range(4, 5))]
    assert np.isnan(np.asarray(raw(tmp_path / "run")["xi"][...])).all()


def test_finished_blocks_are_not_pending_and_are_what_is_read(tmp_path: Path) -> None:
    """After writing the middle block, only it is read back, and the others are still pending."""
    store = create(tmp_path / "run")
    middle = store.blocks(done=False)[1]
    store.write(middle, values(middle), 0.1)
    assert [block.index for block in create(tmp_path / "run").blocks(done=False)] == [0, 2]
    assert Store(tmp_path / "run").blocks(done=True) == [middle]
    arrays = Store(tmp_path / "run").arrays
    assert arrays["xi"].dims == ("trajectory", "time")
    np.testing.assert_array_equal(arrays["xi"][:, 0], [2.0, 3.0])
    assert not {DONE, DIGEST} & set(arrays.variables)


def test_a_block_without_its_flag_is_not_read(tmp_path: Path) -> None:
    """Data written before a crash, without the flag that follows them, do not count."""
    store = create(tmp_path / "run")
    raw(tmp_path / "run")["xi"][0:2] = 7.0
    assert store.blocks(done=False)[0].index == 0
    assert store.arrays.sizes["trajectory"] == 0


def test_what_a_killed_process_left_behind_is_swept(tmp_path: Path) -> None:
    """Half a chunk inside a store, and a whole store without its final name, leave no trace."""
    create(tmp_path / "run")
    half = tmp_path / "run" / "run.zarr" / "xi" / "c.0123.partial"
    half.write_bytes(b"half a chunk")
    create(tmp_path / "run")
    assert not half.exists()
    (tmp_path / "begun" / ".run-dead.zarr").mkdir(parents=True)
    (tmp_path / "begun" / ".lock").touch()
    assert len(create(tmp_path / "begun").blocks(done=False)) == 3
    assert not (tmp_path / "begun" / ".run-dead.zarr").exists()


@pytest.mark.parametrize("left", [".run-dead.zarr/zarr.json", ".lock", "blocks.jsonl", "run.zarr/zarr.json"])
def test_a_run_that_was_only_begun_below_a_directory_does_not_block_it(left: str, tmp_path: Path) -> None:
    """A process may be killed while it begins the run that another needs."""
    place = tmp_path / "run" / "window" / left
    place.parent.mkdir(parents=True)
    place.touch()
    check_directory(tmp_path / "run", IDENTITY)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"config": {"size": 4, "block": 2}}, "size 3 instead of 4"),
        ({"versions": {"softmode": "1"}}, "softmode '0'"),
        ({"experiment": "clones"}, "experiment 'toy' instead of 'clones'"),
        ({"config": {"block": 2}}, "size 3 instead of None"),
        ({"inputs": {"data": "ab"}}, "inputs None instead of"),
        ({"model": {"name": "x" * 500}}, "model None instead of"),
    ],
)
def test_another_identity_is_refused_by_name(tmp_path: Path, change: dict, named: str) -> None:
    """A run with another config or version is left as it is, and the message names the field."""
    create(tmp_path / "run")
    before = digest(tmp_path / "run")
    with refused(named):
        create(tmp_path / "run", IDENTITY | change)
    assert digest(tmp_path / "run") == before


@pytest.mark.parametrize("key", ["data", "dictionary", "classifier", "model", "guide: 3"])
def test_another_input_is_refused_by_name(tmp_path: Path, key: str) -> None:
    """Whatever the name of an input whose digest has changed, appeared or gone, the message has it."""
    held = IDENTITY | {"inputs": {"same": "00", key: "ab"}}
    create(tmp_path / "run", held)
    for inputs in ({"same": "00", key: "cd"}, {"same": "00"}):
        with refused(f"holds a run with another {key} than this one, by its content; choose"):
            create(tmp_path / "run", IDENTITY | {"inputs": inputs})
    create(tmp_path / "run", held)


def test_foreign_directories_are_refused(tmp_path: Path) -> None:
    """A file, a folder with other things, a zarr of someone else's and an impossible place are all named."""
    (tmp_path / "notes.txt").write_text("mine")
    zarr.open_group(tmp_path / "other" / "run.zarr", mode="w", attributes={"someone": "else"})
    (tmp_path / "deep" / "er" / "still").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "still" / "notes.txt").touch()
    for place, words in (
        (tmp_path, "not empty"),
        (tmp_path / "deep", "not empty"),
        (tmp_path / "notes.txt", "is a file"),
        (tmp_path / "notes.txt" / "run", "cannot (write|use)"),
        (tmp_path / "other", "not softmode's"),
        (tmp_path / ("x" * 256), "a name of 256 bytes"),
        (Path(""), "name a directory"),
    ):
        with refused(words):
            check_directory(place, IDENTITY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "notes.txt", "other"]


def test_conditions_of_a_block_are_written_and_resumed_one_by_one(tmp_path: Path) -> None:
    """Each has a chunk and a flag of its own; a trajectory is shown once all of its conditions are there."""
    plan = ToyPlan(ToyConfig(size=1), parts=3)
    (tmp_path / "run").mkdir()
    store = Store.create(tmp_path / "run", IDENTITY, {}, plan.variables, 2, parts=3)
    everything = blocks(5, 2, 3)
    assert [(b.index, b.part) for b in everything] == [(i, part) for i in range(3) for part in range(3)]
    assert store.blocks(done=False) == everything
    assert raw(tmp_path / "run")["xi"].chunks == (2, 1, 1)
    for block in everything[:4]:
        store.write(block, {"xi": np.full((2, 1), 10.0 * block.index + block.part)}, 0.0)
    assert store.blocks(done=False) == everything[4:]
    stored = np.asarray(raw(tmp_path / "run")["xi"][:3, :, 0])
    np.testing.assert_array_equal(stored, [[0, 1, 2], [0, 1, 2], [10, np.nan, np.nan]])
    assert store.arrays.sizes["trajectory"] == 2


@pytest.mark.parametrize(
    "wrong",
    [{}, {"xi": np.ones((2, 4)), "more": np.ones(2)}, {"xi": np.ones((1, 4))}, {"xi": np.ones((2, 1))}],
)
def test_a_block_of_another_layout_is_an_error_of_the_experiment(wrong: dict, tmp_path: Path) -> None:
    """Nothing is broadcast into place, and the block stays unfinished."""
    store = create(tmp_path / "run")
    with pytest.raises(TypeError, match="but the plan describes"):
        store.write(store.blocks(done=False)[0], wrong, 0.0)
    assert len(store.blocks(done=False)) == 3


def test_a_run_inside_a_directory_does_not_make_it_foreign(tmp_path: Path) -> None:
    """An experiment may measure a window in its own directory first."""
    made(tmp_path / "run" / "window")
    made(tmp_path / "run")
    assert is_run(tmp_path / "run")


def test_the_store_can_be_read_by_others(tmp_path: Path) -> None:
    """A finished run has consolidated metadata, and plain zarr finds the numbers that the run shows."""
    run = made(tmp_path / "run")
    group = zarr.open_consolidated(tmp_path / "run" / "run.zarr")
    np.testing.assert_array_equal(group["xi"][...], run.dataset["xi"])
    assert dict(group["xi"].attrs) == {"units": "site", "long_name": "length"}
