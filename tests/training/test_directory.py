"""Directories of trainings: foreign, shared, full or left by a killed process."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_training import (
    BINARY,
    CLASSIFIER,
    contents,
    copy_of,
    data,
)

from softmode.networks.card import read_tensors, write_tensors
from softmode.training.directory import CHECKPOINT, HISTORY, LOCK, WEIGHTS
from softmode.training.train import run


def test_directories_with_other_things_are_left_as_they_are(tmp_path: Path) -> None:
    """A file, a folder of notes, a file above the folder, someone else's and a broken checkpoint."""
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    for name in ("broken", "foreign"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / CHECKPOINT).write_bytes(b"half a checkpoint")
    write_tensors(tmp_path / "foreign" / CHECKPOINT, {"x": torch.ones(2)}, {"format": "pt"})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for place, words in (
        (notes, "holds no training"),
        (tmp_path, "holds no training"),
        (notes / "out", "cannot make"),
        (tmp_path / "broken", "truncated"),
        (tmp_path / "foreign", "does not say what it is"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            run(CLASSIFIER, place, data(CLASSIFIER))
        assert place.name in str(caught.value)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != LOCK]
    assert before == {path: path.read_bytes() for path in files}
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize("name", ["", "x" * 300, "a\0b"], ids=["empty", "long", "null"])
def test_names_that_are_no_directory_s_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As bad input; an empty name is not the present directory."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^out: ") as caught:
        run(CLASSIFIER, name, data(CLASSIFIER))
    assert len(str(caught.value)) <= 300
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [CHECKPOINT, WEIGHTS, HISTORY])
def test_a_full_disk_is_named_and_the_training_goes_on_once_there_is_room(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Full when a file of the first epoch is written: the file is named, and no half of it is left."""
    out, sync = tmp_path / "out", os.fsync

    def full(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve().name.startswith(f".{name}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=rf"cannot write .*{name}.* \(No space left on device\); ") as caught:
            run(CLASSIFIER, out, data(CLASSIFIER))
    ends = "begins anew" if name == CHECKPOINT else "resumes at the last checkpoint"
    assert str(caught.value).endswith(f"the same command {ends}")
    assert not [path for path in out.iterdir() if path.name.startswith(f".{name}")]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* written again from the checkpoint")
        run(CLASSIFIER, out, data(CLASSIFIER))
    assert contents(out) == contents(finished)


def test_what_a_killed_writing_has_left_is_swept(finished: Path, tmp_path: Path) -> None:
    """Half a file with a hidden name, before the first checkpoint and beside a later one; so is a lock of the dead."""
    for out in (tmp_path / "fresh", copy_of(finished, tmp_path)):
        out.mkdir(exist_ok=True)
        for name in (CHECKPOINT, WEIGHTS, HISTORY):
            (out / f".{name}-0123456789abcdef").write_bytes(b"half of it")
        (out / LOCK).touch()
        run(CLASSIFIER, out, data(CLASSIFIER))
        assert contents(out) == contents(finished)


KILLED = """
import sys
sys.path.insert(0, {folder!r})
import pytest, torch
from dataclasses import replace
from small_training import BINARY, data, shrink
from softmode.training import train
torch.set_num_threads(1)
shrink(pytest.MonkeyPatch())
train.SECONDS_BETWEEN_CHECKPOINTS = -1
train.run(replace(BINARY, epochs=100.0), sys.argv[1], data(BINARY))
"""


@pytest.mark.filterwarnings("ignore:.* written again from the checkpoint:UserWarning")
def test_a_training_has_its_directory_alone_and_is_resumed_after_kill_9(tmp_path: Path) -> None:
    """A second one is refused; killed wherever it is, most likely while it writes, it goes on to the same weights."""
    out = tmp_path / "out"
    script = tmp_path / "killed.py"
    script.write_text(KILLED.format(folder=str(Path(__file__).parent)))
    process = subprocess.Popen([sys.executable, str(script), str(out)], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while not (out / WEIGHTS).exists():
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(ValueError, match=r"^out: another training is at work in .*; wait for it or choose"):
            run(BINARY, out, data(BINARY))
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = json.loads(read_tensors(out / CHECKPOINT)[1]["softmode"])["step"]
    assert 4 <= done < 400
    config = replace(BINARY, epochs=float(done // 4 + 1))
    run(config, out, data(config))
    run(config, tmp_path / "one", data(config))
    assert contents(out) == contents(tmp_path / "one")
