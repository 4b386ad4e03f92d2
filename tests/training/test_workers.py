"""Trainings shared by two processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_training import (
    BINARY,
    FILES,
    LABELLED,
    contents,
    data,
    relative,
)

from softmode.networks.card import load_weights, read_tensors
from softmode.training.directory import CHECKPOINT, WEIGHTS
from softmode.training.train import run


def test_a_batch_that_the_processes_cannot_share_evenly_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is written or another process is waited for."""
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="batch: got 8; expected a multiple of 3"):
        run(BINARY, tmp_path / "out", data(BINARY))
    assert not (tmp_path / "out").exists()


def test_several_processes_without_accelerate_say_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ValueError, match=r"softmode\[train\]"):
        run(BINARY, tmp_path / "out", data(BINARY))


SHARED = """
import sys
sys.path.insert(0, {folder!r})
import os, pytest, torch
from filelock import FileLock
from dataclasses import replace
from small_training import BINARY, LABELLED, CLASSIFIER, data, shrink
from softmode.networks import card
from softmode.training import checkpoint, state
from softmode.training.train import run
torch.set_num_threads(1)
world = os.environ["WORLD_SIZE"]
shrink(pytest.MonkeyPatch())
os.environ["WORLD_SIZE"] = world
state.CPU_IMAGES_AT_ONCE = 3
out, write = sys.argv[1], card.write_tensors
def told(*arguments):
    print("wrote")
    write(*arguments)
card.write_tensors = checkpoint.write_tensors = told
for name, config in (("labelled", LABELLED), ("classifier", CLASSIFIER)):
    run(config, out + "/" + name, data(config, 27))
    run(replace(config, epochs=1.0), out + "/resumed-" + name, data(config, 27))
    run(config, out + "/resumed-" + name, data(config, 27))
def refused(config, name):
    try:
        run(config, out + "/" + name, data(config, 27))
    except (ValueError, state.NonFiniteLossError) as error:
        print("refused", error)
refused(replace(BINARY, learning_rate=1e30), "diverged")
refused(replace(CLASSIFIER, seed=5), "classifier")
if os.environ["RANK"] == "0":
    held = FileLock(out + "/classifier/.lock").acquire()
refused(CLASSIFIER, "classifier")
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, str]]]:
    """Trainings of two processes on this machine, and what each printed."""
    pytest.importorskip("accelerate")
    folder = tmp_path_factory.mktemp("shared")
    (folder / "script.py").write_text(SHARED.format(folder=str(Path(__file__).parent)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
        "ACCELERATE_MIXED_PRECISION": "bf16",  # as in a user's settings of accelerate: not obeyed
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, str(folder / "script.py"), str(folder / "out")],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        printed = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, (_, error) in zip(processes, printed, strict=True):
        assert process.returncode == 0, error
    return folder / "out", printed


def test_two_processes_train_the_same_weights_as_one(
    shared: tuple[Path, list[tuple[str, str]]], tmp_path: Path
) -> None:
    """Weights, average and the optimiser's means to 1e-5, the losses to 1e-6, by the same names in the same files."""
    together = shared[0] / "labelled"
    run(LABELLED, tmp_path / "alone", data(LABELLED, 27))
    assert contents(together).keys() == FILES
    (one, metadata_one), (two, metadata_two) = (
        read_tensors(out / CHECKPOINT) for out in (tmp_path / "alone", together)
    )
    assert one.keys() == two.keys()
    for part in ("network/", "average/", "exp_avg/", "exp_avg_sq/"):
        first, second = (
            torch.cat([value.flatten() for name, value in tensors.items() if name.startswith(part)])
            for tensors in (one, two)
        )
        assert relative(second, first) < 1e-5, part
    stored = [json.loads(metadata["softmode"]) for metadata in (metadata_one, metadata_two)]
    assert stored[0]["identity"] == stored[1]["identity"]
    lines = [line for each in stored for line in each["history"]]
    assert [line["loss"] for line in lines[:2]] == pytest.approx([line["loss"] for line in lines[2:]], rel=1e-6)
    cards = [load_weights(out / WEIGHTS)[1] for out in (tmp_path / "alone", together)]
    assert cards[0].made == cards[1].made
    assert cards[0].held_out["loss"] == pytest.approx(cards[1].held_out["loss"], rel=1e-5)


@pytest.mark.parametrize("name", ["labelled", "classifier"])
def test_two_processes_resume_bit_identically(shared: tuple[Path, list[tuple[str, str]]], name: str) -> None:
    """One epoch and then another are the same bytes as both at once."""
    assert contents(shared[0] / f"resumed-{name}") == contents(shared[0] / name)


def test_only_the_first_of_two_processes_speaks_and_writes(shared: tuple[Path, list[tuple[str, str]]]) -> None:
    """Lines and files are the first's; both notice a diverging loss and a training of another config."""
    (out, error), (other_out, other_error) = shared[1]
    assert error.count("epoch 2/2") == 4
    assert "epoch" not in other_error
    assert "wrote" in out
    assert "wrote" not in other_out
    for printed in (out, other_out):
        assert "refused loss: became NaN" in printed
        assert "seed 0 instead of 5" in printed
        assert "refused out: another training is at work" in printed
