"""Checkpoints that are damaged or were changed: each is refused in one line, and nothing is written."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import CLASSIFIER, contents, copy_of, data
from torch import Tensor

from softmode.networks.card import read_tensors, write_tensors
from softmode.training.checkpoint import Checkpoint, digest
from softmode.training.directory import CHECKPOINT
from softmode.training.train import run

Tensors = dict[str, Tensor]
WEIGHT, MEAN, SQUARE = "network/head.weight", "exp_avg/head.weight", "exp_avg_sq/head.weight"


def refused(out: Path, words: str) -> None:
    """Run the training again: one line names the file, what is wrong and the remedy; no file changes."""
    before = contents(out) if (out / CHECKPOINT).is_file() else None
    with pytest.raises(ValueError, match=r"^checkpoint: .* is damaged ") as caught:
        run(CLASSIFIER, out, data(CLASSIFIER))
    message = str(caught.value)
    assert CHECKPOINT in message
    assert words in message
    assert "choose another directory" in message
    assert "\n" not in message
    assert len(message) <= 300
    assert before is None or contents(out) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"step": 10**6}, "step 1000000, but losses of 8 + 0 steps"),
        ({"step": 7}, "step 7, but"),
        ({"step": -1}, "step -1"),
        ({"step": 8.0}, "step 8"),
        ({"step": True}, "step True"),
        ({"step": "8"}, "step '8'"),
        ({"step": None}, "step None"),
        ({"history": {}}, "history"),
        ({"history": [1, 2]}, "history"),
        ({"history": [{"epoch": 2.0, "step": 8, "loss": 0.1}]}, "history"),
        ({"history": [{"epoch": 1e308, "loss": 0.1, "held_out": {}}]}, "history"),
        ({"history": []}, "losses of 0 + 0 steps"),
        ({"losses": None}, "losses"),
        ({"losses": [math.nan]}, "losses"),
        ({"losses": ["0.1"]}, "losses"),
        ({"losses": [0.1]}, "losses of 8 + 1 steps"),
        ({"identity": []}, "what it is"),
        ({"inputs": []}, "inputs"),
        ({"inputs": {"data": 3}}, "inputs"),
        ({"tensors": "0" * 64}, "not those that were written"),
    ],
    ids=str,
)
def test_a_description_that_cannot_be_is_refused(
    finished: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    """A step far beyond the history ended at once with exit code 0; others were tracebacks."""
    out = copy_of(finished, tmp_path)
    tensors, metadata = read_tensors(out / CHECKPOINT)
    write_tensors(out / CHECKPOINT, tensors, {"softmode": json.dumps(json.loads(metadata["softmode"]) | change)})
    refused(out, words)


@pytest.mark.parametrize("text", ["[]", "{}", "null", "3", "", "{", "[" * 100000, '{"step": ' + "1" * 5000 + "}", None])
def test_metadata_of_any_kind_are_refused(finished: Path, tmp_path: Path, text: str | None) -> None:
    """Valid JSON of another kind, JSON too deep to be read, and none."""
    out = copy_of(finished, tmp_path)
    tensors, _ = read_tensors(out / CHECKPOINT)
    write_tensors(out / CHECKPOINT, tensors, {} if text is None else {"softmode": text})
    refused(out, "does not say what it is")


def set_to(name: str, value: float) -> Callable[[Tensors], object]:
    return lambda tensors: tensors[name].view(-1)[:1].fill_(value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_to(WEIGHT, math.nan), "network: head.weight has NaN"),
        (set_to("average/head.weight", math.inf), "average: head.weight has NaN or infinite"),
        (set_to(MEAN, math.nan), "exp_avg: head.weight has NaN"),
        (set_to(SQUARE, math.inf), "exp_avg_sq: head.weight has NaN or infinite"),
        (set_to(SQUARE, -1e-9), "negative squares"),
        (lambda tensors: tensors.update({MEAN: torch.zeros(3, 2)}), "(3, 2) instead of"),
        (lambda tensors: tensors.update({SQUARE: tensors[SQUARE].double()}), "torch.float64"),
        (lambda tensors: tensors.pop(MEAN), "'head.weight' is missing"),
        (lambda tensors: tensors.update({"network/" + "x" * 500: torch.zeros(1)}), "is unknown"),
        (lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("average/")], "average: "),
    ],
    ids=["nan weight", "inf average", "nan moment", "inf square", "negative", "shape", "dtype", "lost", "new", "part"],
)
@pytest.mark.parametrize("old", [False, True], ids=["", "old"])
def test_tensors_that_cannot_be_are_refused(
    finished: Path, tmp_path: Path, change: Callable[[Tensors], object], words: str, old: bool
) -> None:
    """By their digest, and in checkpoints of versions that wrote none by what they are."""
    out = copy_of(finished, tmp_path)
    tensors, metadata = read_tensors(out / CHECKPOINT)
    stored = json.loads(metadata["softmode"])
    change(tensors)
    if old:
        del stored["tensors"]
    write_tensors(out / CHECKPOINT, tensors, {"softmode": json.dumps(stored)})
    refused(out, words if old else "not those that were written")


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_a_file_that_is_cut_short_is_refused(finished: Path, tmp_path: Path, size: int) -> None:
    """To nothing, within its header, and by its last byte."""
    out = copy_of(finished, tmp_path)
    (out / CHECKPOINT).write_bytes((out / CHECKPOINT).read_bytes()[:size])
    refused(out, "truncated")


def test_one_changed_bit_is_noticed(finished: Path, tmp_path: Path) -> None:
    """The lowest bit of the last tensor's last number, which is as plausible as the true one."""
    out = copy_of(finished, tmp_path)
    content = bytearray((out / CHECKPOINT).read_bytes())
    content[-4] ^= 1
    (out / CHECKPOINT).write_bytes(content)
    refused(out, "not those that were written")


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    """As no file."""
    (tmp_path / CHECKPOINT).mkdir()
    refused(tmp_path, "truncated or no safetensors file")


def test_a_checkpoint_reads_back_what_was_written(finished: Path, tmp_path: Path) -> None:
    """Every field, to the bit."""
    one = Checkpoint.read(finished / CHECKPOINT)
    one.write(tmp_path / CHECKPOINT)
    assert (tmp_path / CHECKPOINT).read_bytes() == (finished / CHECKPOINT).read_bytes()


def test_the_digest_tells_values_shapes_and_types_apart() -> None:
    """Of tensors with the same bytes, and of a view as of its copy."""
    zeros = torch.zeros(2, 3)
    others = [zeros.reshape(3, 2), zeros.int(), zeros + 1e-45, torch.zeros(3, 2).T + 1]
    assert len({digest([tensor]) for tensor in [zeros, *others]}) == 5
    assert digest([torch.arange(6).reshape(2, 3).T]) == digest([torch.arange(6).reshape(2, 3).T.contiguous()])
    assert digest([b"ab"]) != digest([b"a"])
