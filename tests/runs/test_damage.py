"""Damaged runs: whatever happens to a file, one line names it and the remedy, and no number is silently wrong."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import softmode as sm
from helpers.errors import refused
from helpers.runs import digest, run
from helpers.toy import Toy, ToyPlan, made
from softmode.cli import main
from softmode.runs.engine import execute
from softmode.runs.run import Run
from softmode.runs.store import DONE

TINY = {"size": 12, "receptive_field": "box:3", "t_max": 20.0, "t_min": 0.1, "steps": 300, "trajectories": 3,
        "shells": 3, "block": 2}  # fmt: skip
COMMAND = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def mutations(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """Yield what may become of a file, None where it is lost."""
    content, rng = path.read_bytes(), random.Random(path.name)
    place, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
    yield "lost", None
    yield "empty", b""
    yield "half", content[: len(content) // 2]
    yield "one byte less", content[:-1]
    yield "a bit", content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]
    yield "noise", rng.randbytes(60)
    yield "a list", b"[]"
    yield "an object", b"{}"
    yield "deep", b"[" * 100000
    yield "numbers", bytes(c + 1 if chr(c) in "12345678" else c for c in content)


def stored_files(directory: Path) -> list[Path]:
    files = [path.relative_to(directory) for path in sorted(directory.rglob("*")) if path.is_file()]
    return [path for path in files if path.name != ".lock" and path.parts[0] != "figures" and path.suffix != ".html"]


def same(found: xr.Dataset, wanted: xr.Dataset) -> bool:
    return found.identical(wanted) and all(found[name].dtype == wanted[name].dtype for name in wanted.variables)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("toy") / "run").directory


TOY_FILES = [
    "blocks.jsonl", "summary.json", "run.zarr/zarr.json", "run.zarr/block_digest/c/0/0/0",
    "run.zarr/block_digest/zarr.json", "run.zarr/block_done/c/1/0", "run.zarr/block_done/zarr.json",
    "run.zarr/snapshots/c/0/1/0", "run.zarr/snapshots/zarr.json", "run.zarr/time/c/0", "run.zarr/time/zarr.json",
    "run.zarr/trajectory/c/0", "run.zarr/xi/c/2/0", "run.zarr/xi/zarr.json",
]  # fmt: skip


def test_the_list_has_every_kind_of_file(toy: Path) -> None:
    """A file that a run learns to keep must be damaged here too."""

    def kind(path: Path) -> str:
        return "".join(c for c in str(path) if not c.isdigit())

    assert {kind(path) for path in stored_files(toy)} == {
        kind(Path(path)) for path in [*TOY_FILES, "run.zarr/trajectory/zarr.json"]
    }


@pytest.mark.filterwarnings("ignore:blocks.jsonl")
@pytest.mark.parametrize("file", TOY_FILES)
def test_no_damage_shows_a_wrong_number(file: str, toy: Path, tmp_path: Path) -> None:
    """Results and arrays are either what was written or refused in one line; so does the command, or it mends them."""
    sound, whole = Run(toy, Toy()), digest(toy)
    for what, content in mutations(toy / file):
        broken = shutil.copytree(toy, tmp_path / what.replace(" ", "_"))
        (broken / file).unlink() if content is None else (broken / file).write_bytes(content)
        repr(Run(broken, Toy()))
        for show in (
            lambda found: found.results.plain() == sound.results.plain(),
            lambda found: same(found.dataset.load(), sound.dataset.load()),
            lambda found: digest(execute(Toy(), ToyPlan(), found.directory).directory) == whole,
        ):
            try:
                assert show(Run(broken, Toy())), f"{file}, {what}: passes silently"
            except ValueError as error:
                message = str(error)
                assert "\n" not in message
                assert len(message) <= 300
                assert str(broken) in message or broken.name in message
                assert any(remedy in message for remedy in ("again", "choose another")), message


@pytest.mark.parametrize(
    "pair",
    [
        ("xi/c/0/0", "xi/c/1/0"), ("snapshots/c/0/0/0", "snapshots/c/0/1/0"), ("xi", "snapshots"),
        ("time/c/0", "xi/c/2/0"),
        ("xi/zarr.json", "time/zarr.json"),
    ],
)  # fmt: skip
def test_swapped_files_are_noticed(pair: tuple[str, str], toy: Path, tmp_path: Path) -> None:
    """Each is sound by itself, and in the wrong place."""
    store = shutil.copytree(toy, tmp_path / "run") / "run.zarr"
    one, other = (store / path for path in pair)
    one.rename(tmp_path / "aside")
    other.rename(one)
    (tmp_path / "aside").rename(other)
    with refused("is damaged .*remove .* and run the same command again"):
        _ = Run(tmp_path / "run", Toy()).dataset
    with refused("is damaged"):
        execute(Toy(), ToyPlan(), tmp_path / "run")


@pytest.mark.parametrize("name", ["xi", "time", "snapshots", "block_done", "block_digest"])
def test_a_missing_array_is_named(name: str, toy: Path, tmp_path: Path) -> None:
    """Its whole directory is gone."""
    broken = shutil.copytree(toy, tmp_path / "run")
    shutil.rmtree(broken / "run.zarr" / name)
    with refused(f"run.zarr/{name}"):
        _ = Run(broken, Toy()).dataset


def test_another_runs_results_are_noticed(toy: Path, tmp_path: Path) -> None:
    """A summary that was copied from a run of another input has a sound checksum of its own."""
    other = made(tmp_path / "other", ToyPlan(inputs={"data": "00"}))
    broken = shutil.copytree(toy, tmp_path / "run")
    shutil.copy(other.results_file, broken)
    with refused("summary.json: .* is damaged .results of another run"):
        _ = Run(broken, Toy()).results


def test_the_same_command_writes_damaged_results_anew(toy: Path, tmp_path: Path) -> None:
    """Results follow from the arrays alone, so nothing is lost with them."""
    broken = shutil.copytree(toy, tmp_path / "run")
    before = (toy / "summary.json").read_bytes()
    (broken / "summary.json").write_bytes(before[:100])
    with refused("summary.json: .* is damaged .*run the same command again"):
        _ = Run(broken, Toy()).results
    execute(Toy(), ToyPlan(), broken)
    assert (broken / "summary.json").read_bytes() == before


def test_a_lost_mark_costs_a_block_and_nothing_else(toy: Path, tmp_path: Path) -> None:
    """A finished run that lacks a mark shows no fewer trajectories in silence; its command computes the block again."""
    broken = shutil.copytree(toy, tmp_path / "run")
    shutil.rmtree(broken / "run.zarr" / DONE / "c" / "1")
    for show in ("results", "dataset"):
        with refused("(blocks left|without their mark): 1.*run the same command again"):
            getattr(Run(broken, Toy()), show)
    execute(Toy(), ToyPlan(), broken)
    assert digest(broken) == digest(toy)


def test_a_log_that_lost_entries_makes_the_seconds_unknown(toy: Path, tmp_path: Path) -> None:
    """The time that a run took is not a sum over those of its blocks that are left; its numbers are as they were."""
    broken = shutil.copytree(toy, tmp_path / "run")
    lines = (broken / "blocks.jsonl").read_text().splitlines(keepends=True)
    (broken / "blocks.jsonl").write_text("".join(lines[:2]) + lines[2][:20])
    with pytest.warns(UserWarning, match=r"blocks.jsonl: .* has lost entries"):
        again = execute(Toy(), ToyPlan(), broken)
    assert again.summary["seconds"] is None
    assert again.results == Run(toy, Toy()).results


def test_a_store_of_an_earlier_version_is_named(toy: Path, tmp_path: Path) -> None:
    """It kept no checksums: nothing can be said of its numbers, neither shown nor resumed."""
    old = shutil.copytree(toy, tmp_path / "run")
    metadata = json.loads((old / "run.zarr" / "zarr.json").read_text())
    metadata["attributes"] = {"softmode": metadata["attributes"]["softmode"]}
    (old / "run.zarr" / "zarr.json").write_text(json.dumps(metadata))
    for show in (lambda: Run(old, Toy()).results, lambda: Run(old, Toy()).dataset, lambda: made(old)):
        with refused("was written by an earlier softmode .'0.*'., which kept no checksums; .* in another directory"):
            show()


@pytest.fixture(scope="module")
def patch(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run("patch", tmp_path_factory.mktemp("patch") / "run", **TINY)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("summary.json", b"{}"), ("summary.json", b"[]"), ("summary.json", None), ("run.zarr/zarr.json", b"[]"),
        ("run.zarr/zarr.json", b"{" * 100000), ("run.zarr/zarr.json", None), ("run.zarr/xi_sign/c/0/0", None),
        ("run.zarr/xi_sign/c/1/0", b"noise"), ("run.zarr/gain/zarr.json", b""), ("run.zarr/patterns/c/0/0", b"x" * 50),
    ],
)  # fmt: skip
def test_figures_and_the_same_command_say_it_in_one_line(
    file: str, content: bytes | None, patch: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and no traceback; results alone are written anew by the same command."""
    broken = shutil.copytree(patch.directory, tmp_path / "run")
    (broken / file).unlink() if content is None else (broken / file).write_bytes(content)
    commands = [["figures", str(broken)]]
    if file != "summary.json":
        commands.append(["patch", *COMMAND, "--out", str(broken)])
    for command in commands:
        with pytest.raises(SystemExit) as stop:
            main(command)
        assert stop.value.code == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert str(broken) in said
        assert "again" in said
    assert not (broken / "figures").exists()


def test_arrays_with_fill_values_only_are_no_damage(tmp_path: Path) -> None:
    """Zarr writes no chunk that holds nothing but zeros or NaN: what is not there then is right."""

    class Undefined(ToyPlan):
        def measure(self, block, advance=lambda: None):
            return {name: np.full_like(value, np.nan) for name, value in super().measure(block, advance).items()}

    store = execute(Toy(), Undefined(), tmp_path / "run").store
    assert not (tmp_path / "run" / "run.zarr" / "xi" / "c").exists()
    assert np.isnan(store.arrays["xi"]).all()
    assert zarr.open_group(tmp_path / "run" / "run.zarr", mode="r")["xi"].shape == (5, 4)


def test_opening_what_is_no_run_says_how_to_make_one(tmp_path: Path) -> None:
    """The message names the command."""
    with refused("softmode patch --out"):
        sm.open(tmp_path)
