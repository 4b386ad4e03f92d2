"""Official EDM2 pickles are read without running them, and everything else that a pickle can be is refused."""

import io
import os
import pickle
import struct
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import Module, ModuleDict

from helpers.models import assert_takes_labels_together
from softmode.cli import main
from softmode.networks.edm2 import EDM2, EDM2Config
from softmode.networks.edm2_files import convert_edm2, load_edm2
from softmode.networks.edm2_pickle import read_edm2_pickle
from softmode.networks.load import load_model
from softmode.process import VE

CONFIG = EDM2Config(16, 3, 5, model_channels=16, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(8,),
                    channels_per_head=8)  # fmt: skip
ARGUMENTS = {"img_resolution": 16, "img_channels": 3, "label_dim": 5, "use_fp16": True, "model_channels": 16,
             "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [8], "channels_per_head": 8,
             "dropout": 0.1, "channel_mult_noise": None}  # fmt: skip


def stand_in(module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that a pickle will name as module.name."""
    made = types.ModuleType(module)

    def function(*_: Any) -> None:
        raise AssertionError(f"{module}.{name} was called")

    function.__module__, function.__qualname__, function.__name__ = module, name, name
    setattr(made, name, function)
    parent = module.partition(".")[0]
    monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    monkeypatch.setitem(sys.modules, module, made)
    return function


class Persistent:
    """A module as the official code pickles it: a function's call on a record with source code and state."""

    def __init__(self, function: Callable[..., Any], name: str, state: dict[str, Any]) -> None:
        self.function, self.name, self.state = function, name, state

    def __reduce__(self) -> tuple[Any, ...]:
        source = "import os\nos.abort()\n"
        meta = {"type": "class", "version": 6, "module_src": source, "class_name": self.name, "state": self.state}
        return self.function, (meta,), None


def official(network: EDM2, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any] = ARGUMENTS) -> bytes:
    """Return a network as an official pickle, in half precision."""
    function = stand_in("torch_utils.persistence", "_reconstruct_persistent_obj", monkeypatch)

    def persistent(module: Module) -> Any:
        state = {k: v for k, v in vars(module).items() if k in ("training", "_parameters", "_buffers")}
        children = {name: persistent(child) for name, child in module.named_children()}
        if isinstance(module, ModuleDict):
            copied = ModuleDict()
            vars(copied)["_modules"] = OrderedDict(children)
            return copied
        state["_modules"] = OrderedDict(children)
        state["_non_persistent_buffers_set"] = set()
        name = type(module).__name__
        if isinstance(module, EDM2):
            state |= {"_init_args": (), "_init_kwargs": arguments}
            name = "Precond"
        return Persistent(function, name, state)

    return pickle.dumps({"ema": persistent(network.half()), "dataset_kwargs": {"path": "x"}, "loss_fn": None})


@pytest.fixture
def network() -> EDM2:
    torch.manual_seed(0)
    return EDM2(CONFIG).eval().requires_grad_(False)


def test_a_pickle_gives_its_weights_and_shape(network: EDM2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directly and by way of safetensors, and as a model in the VE process; the source inside is never run."""
    path, converted = tmp_path / "net.pkl", tmp_path / "net.safetensors"
    path.write_bytes(official(network, monkeypatch))
    state, config = read_edm2_pickle(path)
    assert config == CONFIG
    expected = network.state_dict()
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(state[name], value), name
    main(["convert-edm2", str(path), str(converted)])
    x = torch.randn(2, 3, 16, 16)
    with pytest.raises(ValueError, match="is there already"):
        convert_edm2(path, converted)
    for source in (path, converted):
        assert torch.equal(load_edm2(source)(x, 0.7, 2), network.float()(x, 0.7, 2))
    model = load_model(f"edm2:{converted}")
    assert model.shape == (3, 16, 16)
    assert model.classes == 5
    assert model.process == VE()
    assert torch.equal(model.denoiser(2)(x, 0.7), network(x, 0.7, 2))
    assert torch.equal(model.denoiser()(x, 0.7), network(x, 0.7))
    with pytest.raises(ValueError, match="label: got 5; expected 0 to 4"):
        model.denoiser(5)


def test_classes_go_through_the_network_together(
    network: EDM2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none beside them, which is told by zeros."""
    for parameter in network.parameters():  # what starts at zero must show
        torch.nn.init.normal_(parameter)
    (tmp_path / "net.pkl").write_bytes(official(network, monkeypatch))
    assert_takes_labels_together(load_model(f"edm2:{tmp_path / 'net.pkl'}"), [2, None, 4, 2])


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def nested_storage(function: Callable[..., Any], *arguments: Any) -> bytes:
    """Return a pickle whose tensor's storage is itself a hostile pickle."""
    inner = (
        pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps(Call(function, *arguments), 2)
    )
    return pickle.dumps(Call(torch.storage._load_from_bytes, inner))


def deep(levels: int) -> bytes:
    return pickle.PROTO + b"\x04" + b"(" * levels + b"t" * levels + b"."


HOSTILE = {
    "os.system": (pickle.dumps(Call(os.system, "touch ran")), "names posix.system"),
    "builtins.eval": (pickle.dumps(Call(eval, "open('ran', 'w')")), "names builtins.eval"),
    "getattr": (pickle.dumps(Call(getattr, 1, "real")), "names builtins.getattr"),
    "a hostile storage": (nested_storage(os.system, "touch ran"), "names posix.system"),
    "torch.load inside": (pickle.dumps(Call(torch.load, "x")), "names torch.serialization.load"),
    "deep recursion": (deep(200_000), "holds no EDM2 network"),
    "a memo beyond the file": (b"\x80\x04Nr" + struct.pack("<I", 2**32 - 1) + b".", "a memo place"),
    "bytes beyond the file": (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".", "truncated or damaged"),
    "a state set on a function": (b"\x80\x02ctorch._utils\n_rebuild_parameter\n}b.", "a state where none belongs"),
    "numbers of numpy, which are let through": (pickle.dumps(np.float32(1.5)), "holds no EDM2 network"),
    "numbers of the other byte order": (pickle.dumps(np.dtype(">f4").type(1)).replace(b"<", b">"), "other byte order"),
    "a persistent id": (b"\x80\x02K\x01Q.", "holds no EDM2 network"),
    "nothing": (b"", "cannot be read"),
    "no pickle": (b"PK\x03\x04 a zip archive", "truncated or damaged"),
    "another object": (pickle.dumps({"ema": 3}), "holds no EDM2 network"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_in_one_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing runs, nothing is written, and the message names what was found."""
    content, words = HOSTILE[kind]
    monkeypatch.chdir(tmp_path)
    Path("net.pkl").write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        main(["convert-edm2", "net.pkl", "net.safetensors"])
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert len(printed.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pkl"]


def storage_bytes(numbers: int, claimed: int) -> bytes:
    """Return a legacy storage of float32 that claims another length than it has."""
    file = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(value, file, 2)
    kind = b"\x80\x02(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuJ" + struct.pack("<i", claimed) + b"Nt"
    file.write(kind + b"Q.")
    pickle.dump(["0"], file, 2)
    file.write(struct.pack("<q", claimed) + bytes(4 * numbers))
    return file.getvalue()


def test_sizes_must_be_true(tmp_path: Path) -> None:
    """A storage shorter than it says, and a tensor larger than its storage, are refused before memory is taken."""
    path = tmp_path / "net.pkl"
    path.write_bytes(pickle.dumps(Call(torch.storage._load_from_bytes, storage_bytes(3, 2**30))))
    with pytest.raises(ValueError, match="a storage of 12 bytes in place of 1073741824 numbers"):
        read_edm2_pickle(path)
    held = Call(torch.storage._load_from_bytes, storage_bytes(3, 3))
    bomb = Call(torch._utils._rebuild_tensor_v2, held, 0, (2**20, 2**20), (0, 0), False, OrderedDict())
    path.write_bytes(pickle.dumps(bomb))
    with pytest.raises(ValueError, match="in a storage of 3"):
        read_edm2_pickle(path)


def test_other_shapes_and_truncated_files_are_refused(
    network: EDM2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.pkl"
    content = official(network, monkeypatch)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="truncated or damaged"):
        read_edm2_pickle(path)
    path.write_bytes(official(network, monkeypatch, ARGUMENTS | {"model_channels": 32}))
    with pytest.raises(ValueError, match=r"is of another architecture than EDM2: .* instead of"):
        convert_edm2(path, tmp_path / "net.safetensors")
    path.write_bytes(official(network, monkeypatch, ARGUMENTS | {"resample_filter": [1, 3, 3, 1]}))
    with pytest.raises(ValueError, match=r"arguments of the network that are not known: .'resample_filter'"):
        read_edm2_pickle(path)
    assert [file.name for file in tmp_path.iterdir()] == ["net.pkl"]
    with pytest.raises(ValueError, match="is no file"):
        read_edm2_pickle(tmp_path / "none.pkl")
