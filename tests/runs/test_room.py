"""Sizes are checked before anything is allocated or written, and the message has the number that fits."""

import re
import resource
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import softmode as sm
from helpers.errors import refused
from helpers.runs import run
from helpers.toy import Toy, ToyConfig, ToyPlan, made
from softmode.cli import main
from softmode.experiments.call import experiment
from softmode.runs import provenance, room
from softmode.runs.engine import execute
from softmode.runs.room import LARGEST_CHUNK, check_room
from softmode.runs.store import ArraySpec
from softmode.settings import make

MEGABYTES = 1024  # of ru_maxrss


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("patch --size 100000", r"size: got 100000; expected at most \d{4,}"),
        ("patch --size 3000 --dimensions 3", r"size: got 3000; expected at most \d{3}\b"),
        (
            "patch --size 100000 --dimensions 1 --receptive-field box:3 --steps 1000000 --measure-every 1",
            r"size: got 100000; expected at most \d+",
        ),
        ("patch --trajectories 100000000000000", "trajectories: got 100000000000000; expected at least 1 and at most"),
        ("patch --trajectories 900000000", r"trajectories: got 900000000; expected at most \d+: the run takes up to"),
        ("patch --steps 1000000000", "steps: got 1000000000; expected at least 1 and at most"),
        ("patch --dictionary random:1000000000", r"dictionary: got random:1000000000; expected 1 to \d+ patterns"),
        ("patch --shells 1000000", "shells: got 1000000; expected"),
        ("patch --block 900000000 --trajectories 100000", r"block: got 900000000; expected at most \d+"),
        ("theory --receptive-field box:1000000001", "expected at most box:315"),
        ("theory --receptive-field box:9999 --dimensions 3", "expected at most box:45"),
        ("theory --receptive-field ball:1000000000", "expected at most ball:157"),
        ("theory --receptive-field ball:1e300 --dimensions 1", "expected at most ball:49999"),
        ("theory --receptive-field cross:1000000000 --dimensions 3", "expected at most cross:16666"),
        (f"theory --receptive-field box:{'9' * 5000}", "receptive_field: got 'box:999"),
        (f"theory --receptive-field cross:{'9' * 400}", "receptive_field: got cross:an integer of more than 1000 bits"),
        ("theory --receptive-field offsets:0,0;99999999999999999999,1", "offsets: got one that is too far"),
        (f"theory --receptive-field offsets:{','.join('0' * 5000)}", "offsets: got dimensions"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(
    arguments: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, exit code 2, next to no memory, nothing written."""
    monkeypatch.chdir(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SystemExit) as stop:
        main(arguments.split() + (["--out", "run"] if arguments.startswith("patch") else []))
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert re.search(named, said), said
    assert said.count("\n") == 1
    assert len(said) <= 320
    assert not list(tmp_path.iterdir())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * MEGABYTES


def test_too_many_snapshots_are_refused(tmp_path: Path) -> None:
    """More than any setting takes; and there are no more times than the grid has."""
    for count, most in ((10**5 + 1, "values; expected at most 100000"), (2002, "times; expected at most 2001")):
        with refused(f"snapshots: got {count} {most}"):
            sm.patch(snapshots=[1.0] * count, out=tmp_path / "run")


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_the_size_that_is_named_does_fit(dimensions: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever follows the advice is not refused again."""
    monkeypatch.setattr(provenance, "free_memory", lambda: 2e8)
    chosen = experiment("patch")

    def plan(size: int):
        settings = {"size": size, "dimensions": dimensions, "receptive_field": "box:3", "block": 1}
        return chosen.prepare(make(chosen.config, settings))

    with pytest.raises(ValueError, match="size: got") as caught:
        check_room(plan({1: 2**20, 2: 4000, 3: 400}[dimensions]), tmp_path)
    found = re.search(r"at most (\d+):", str(caught.value))
    assert found
    check_room(plan(int(found[1])), tmp_path)


def limits(monkeypatch: pytest.MonkeyPatch, memory: float = 1e12, disk: float = 1e12) -> None:
    monkeypatch.setattr(provenance, "free_memory", lambda: memory)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=disk))


def test_the_disk_and_the_memory_that_the_toy_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A trajectory of the toy takes 4 numbers of 8 bytes and 8 of 4 bytes: 64 in all."""
    plan = ToyPlan(ToyConfig(trajectories=100, block=10))
    limits(monkeypatch, disk=64 * 100)
    check_room(plan, tmp_path)
    limits(monkeypatch, disk=64 * 99.5)
    with refused(r"trajectories: got 100; expected at most 99: the run takes up to 6.25 KiB of disk"):
        check_room(plan, tmp_path)
    limits(monkeypatch, memory=64.0 * 3 * 10)
    check_room(plan, tmp_path)
    limits(monkeypatch, memory=64 * 3 * 7.5)
    with refused("block: got 10; expected at most 7"):
        check_room(plan, tmp_path)
    limits(monkeypatch, memory=64.0 * 2)
    with refused(
        "memory: .* takes about 192 B of memory, of which 128 B are free; its largest array is [a-z]+ .*: measure less"
    ):
        check_room(plan, tmp_path)
    monkeypatch.setattr(ToyPlan, "memory", 1000.0)
    limits(monkeypatch, memory=850.0)
    with refused("size: got 4; expected at most 2: one trajectory takes about 1.16 KiB of memory"):
        check_room(plan, tmp_path)


def test_what_is_written_already_needs_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run that has filled most of the disk can be resumed on what is left of it."""
    plan = ToyPlan(ToyConfig(trajectories=100, block=10))

    class Stops(ToyPlan):
        def measure(self, block, advance=lambda: None):
            if block.index == 9:
                raise KeyboardInterrupt
            return super().measure(block, advance)

    with pytest.raises(KeyboardInterrupt):
        execute(Toy(), Stops(plan.config), tmp_path / "run")
    limits(monkeypatch, disk=64 * 10)
    check_room(plan, tmp_path / "run")
    limits(monkeypatch, disk=64 * 5)
    with refused("trajectories: got 100; expected at most 95"):
        check_room(plan, tmp_path / "run")
    limits(monkeypatch, disk=64 * 10)
    made(tmp_path / "run", plan)


def test_a_chunk_that_no_compressor_takes_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two gigabytes at once are too much, however much memory there is."""
    limits(monkeypatch, memory=1e15, disk=1e15)
    size = 10**6
    plan = ToyPlan(ToyConfig(trajectories=1000, block=1000, size=size))
    with refused(f"block: got 1000; expected at most {int(LARGEST_CHUNK / (8 * size))}"):
        check_room(plan, tmp_path)


def test_a_shape_that_fits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sides shrink alike, channels stay."""

    class Shaped(ToyPlan):
        shrink, memory = "shape", 1e6

        @property
        def variables(self):
            return {"snapshots": ArraySpec(("trajectory", "snapshot", "y", "x"), (5, 1, 64, 128), "float32", {})}

    plan = Shaped()
    plan.config = SimpleNamespace(shape=(3, 64, 128), trajectories=5, block=1)
    limits(monkeypatch, memory=(1e6 + 3 * 4 * 64 * 128) / 4 / room.MARGIN * 1.001)
    with refused(r"shape: got \(3, 64, 128\); expected at most \(3, 32, 64\): one trajectory"):
        check_room(plan, tmp_path)


def test_a_container_has_less_memory_than_its_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The limit counts where there is one, minus what is used."""
    monkeypatch.setattr(provenance, "CGROUP", tmp_path)
    machine = provenance.free_memory()
    assert machine > 2**20
    (tmp_path / "memory.max").write_text("1048576\n")
    (tmp_path / "memory.current").write_text("48576\n")
    assert provenance.free_memory() == 10**6
    (tmp_path / "memory.max").write_text("max\n")
    assert provenance.free_memory() > 2**20


def test_a_tiny_run_still_fits(tmp_path: Path) -> None:
    """On any machine that can run the tests."""
    run(
        "patch",
        tmp_path / "run",
        size=8,
        receptive_field="box:3",
        t_max=20.0,
        steps=300,
        t_min=0.1,
        trajectories=1,
        shells=3,
    )
