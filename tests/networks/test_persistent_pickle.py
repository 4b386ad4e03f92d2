"""Official pickles of EDM and EDM2 are read without running them; everything else that a pickle can be is refused."""

import os
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.nn import Module

from helpers.pickles import FUNCTION, Call, Persistent, deep, nested_storage, official, stand_in, storage_bytes
from softmode.cli import main
from softmode.networks.edm import EDM, as_config
from softmode.networks.edm2 import EDM2
from softmode.networks.edm2_files import as_config as as_edm2_config
from softmode.networks.load import load_model


class Kind(NamedTuple):
    """A family of such pickles."""

    made: Callable[[dict[str, Any]], Module]
    class_name: str
    command: list[str]


ARGUMENTS: dict[str, Any] = {
    "img_resolution": 8, "img_channels": 1, "label_dim": 2, "model_channels": 8, "channel_mult": [1, 2],
    "num_blocks": 1, "attn_resolutions": [4],
}  # fmt: skip
KINDS = {
    "edm2": Kind(lambda given: EDM2(as_edm2_config(given)), "Precond", ["convert-edm2", "net.pkl", "net.safetensors"]),
    "edm": Kind(lambda given: EDM(as_config("VPPrecond", given)), "VPPrecond", ["check", "edm:net.pkl"]),
}
families = pytest.mark.parametrize("family", KINDS)


def pickled(family: str, monkeypatch: pytest.MonkeyPatch, *, alone: bool = False, **changes: Any) -> bytes:
    """Return a tiny network of a family as an official pickle, some of its arguments replaced by others."""
    torch.manual_seed(0)
    network = KINDS[family].made(ARGUMENTS)
    return official(network, KINDS[family].class_name, ARGUMENTS | changes, monkeypatch, alone)


def refused(source: str, *words: str) -> None:
    with pytest.raises(ValueError, match=r"^\w+: ") as error:
        load_model(source)
    text = str(error.value)
    assert text.isprintable()
    assert len(text) <= 300
    for word in words:
        assert word in text


HOSTILE = {
    "os.system": (pickle.dumps(Call(os.system, "touch ran")), "names posix.system"),
    "builtins.eval": (pickle.dumps(Call(eval, "open('ran', 'w')")), "names builtins.eval"),
    "getattr": (pickle.dumps(Call(getattr, 1, "real")), "names builtins.getattr"),
    "a hostile storage": (nested_storage(os.system, "touch ran"), "names posix.system"),
    "torch.load inside": (pickle.dumps(Call(torch.load, "x")), "names torch.serialization.load"),
    "deep recursion": (deep(200_000), "holds no EDM"),
    "a memo beyond the file": (b"\x80\x04Nr" + struct.pack("<I", 2**32 - 1) + b".", "a memo place"),
    "bytes beyond the file": (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".", "truncated or damaged"),
    "a state set on a function": (b"\x80\x02ctorch._utils\n_rebuild_parameter\n}b.", "a state where none belongs"),
    "numbers of numpy, which are let through": (pickle.dumps(np.float32(1.5)), "holds no EDM"),
    "numbers of the other byte order": (pickle.dumps(np.dtype(">f4").type(1)).replace(b"<", b">"), "other byte order"),
    "a persistent id": (b"\x80\x02K\x01Q.", "holds no EDM"),
    "nothing": (b"", "cannot be read"),
    "no pickle": (b"a text", "truncated or damaged"),
    "an archive of torch.save": (b"PK\x03\x04 a zip archive", "the checkpoints of score_sde are score_sde:FILE"),
    "another object": (pickle.dumps({"ema": 3}), "holds no EDM"),
}


@families
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_in_one_line(
    kind: str, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing runs, nothing is written, and the message names what was found."""
    content, words = HOSTILE[kind]
    monkeypatch.chdir(tmp_path)
    Path("net.pkl").write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        main(KINDS[family].command)
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert len(printed.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pkl"]


@families
def test_sizes_must_be_true(family: str, tmp_path: Path) -> None:
    """A storage shorter than it says, and a tensor larger than its storage, are refused before memory is taken."""
    path = tmp_path / "net.pkl"
    path.write_bytes(pickle.dumps(Call(torch.storage._load_from_bytes, storage_bytes(3, 2**30))))
    refused(f"{family}:{path}", "a storage of 12 bytes in place of 1073741824 numbers")
    held = Call(torch.storage._load_from_bytes, storage_bytes(3, 3))
    bomb = Call(torch._utils._rebuild_tensor_v2, held, 0, (2**20, 2**20), (0, 0), False, OrderedDict())
    path.write_bytes(pickle.dumps(bomb))
    refused(f"{family}:{path}", "in a storage of 3")


@families
def test_many_views_of_one_storage_are_refused(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more bytes together than the file has."""
    storage = Call(torch.storage._load_from_bytes, storage_bytes(64, 64))
    views = {
        f"p{i}": Call(torch._utils._rebuild_tensor_v2, storage, 0, (64,), (1,), False, OrderedDict())
        for i in range(200)
    }
    state = {"_parameters": views, "_init_kwargs": ARGUMENTS}
    path = tmp_path / "net.pkl"
    path.write_bytes(pickle.dumps(Persistent(stand_in(*FUNCTION, monkeypatch), KINDS[family].class_name, state)))
    refused(f"{family}:{path}", "has tensors of more bytes than the file")


@families
def test_truncated_files_and_other_shapes_are_refused(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.pkl"
    content = pickled(family, monkeypatch)
    path.write_bytes(content[: len(content) // 2])
    refused(f"{family}:{path}", "truncated or damaged")
    path.write_bytes(pickled(family, monkeypatch, model_channels=16))
    refused(f"{family}:{path}", f"is of another architecture than {family.upper()}: ", " instead of ")
    path.write_bytes(pickled(family, monkeypatch, surprise=3))
    refused(f"{family}:{path}", "arguments of the network that are not known: ['surprise']")
    refused(f"{family}:{tmp_path / 'none.pkl'}", "is no file")


@families
def test_a_network_is_read_alone_too(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.pkl").write_bytes(pickled(family, monkeypatch, alone=True))
    assert load_model(f"{family}:{tmp_path / 'net.pkl'}").classes == 2


@families
def test_a_pickle_of_another_family_says_how_it_is_read(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EDM2's given as EDM's and the other way round, and a network of neither, by the name of its class."""
    path = tmp_path / "net.pkl"
    (other,) = set(KINDS) - {family}
    path.write_bytes(pickled(family, monkeypatch))
    refused(f"{other}:{path}", f"a network of {family.upper()}", f"name it {family}:FILE")
    network = KINDS[family].made(ARGUMENTS)
    path.write_bytes(official(network, "ImageClassifier", {}, monkeypatch))
    refused(f"{family}:{path}", f"holds 'ImageClassifier' and no {family.upper()} network")
