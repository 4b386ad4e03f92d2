"""Official pickles of NVIDIA's repositories, and hostile ones, written without the code that they name."""

import io
import pickle
import struct
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import Module, ModuleDict

# what the official code writes in place of a class: a function that is given a record
FUNCTION = "torch_utils.persistence", "_reconstruct_persistent_obj"


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


def official(
    network: Module, name: str, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch, alone: bool = False
) -> bytes:
    """Return a network as an official pickle, in half precision.

    Args:
        network: The network.
        name: The official name of its class.
        arguments: What it was made with.
        monkeypatch: For the function that the pickle names.
        alone: Whether the network is pickled by itself, and not beside its training's settings.
    """
    function = stand_in(*FUNCTION, monkeypatch)

    def persistent(module: Module) -> Any:
        state = {k: v for k, v in vars(module).items() if k in ("training", "_parameters", "_buffers")}
        children = {name: persistent(child) for name, child in module.named_children()}
        if isinstance(module, ModuleDict):
            copied = ModuleDict()
            vars(copied)["_modules"] = OrderedDict(children)
            return copied
        state["_modules"] = OrderedDict(children)
        state["_non_persistent_buffers_set"] = set()
        if module is network:
            state |= {"_init_args": (), "_init_kwargs": arguments}
        return Persistent(function, name if module is network else type(module).__name__, state)

    made = persistent(network.half())
    return pickle.dumps(made if alone else {"ema": made, "dataset_kwargs": {"path": "x"}, "loss_fn": None})


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
    """Return a pickle of tuples inside tuples."""
    return pickle.PROTO + b"\x04" + b"(" * levels + b"t" * levels + b"."


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
