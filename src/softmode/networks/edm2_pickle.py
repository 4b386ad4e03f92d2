"""Read official EDM2 pickles without running them: no import, no foreign code, no torch loader.

Such a file is a pickle of persistent objects, each a record with the source code of its class, never looked at here,
and its state; every tensor's storage is a file of torch's legacy format inside, again made of pickles. Both levels go
through one unpickler that knows a handful of names, all of which build inert records; any other name is refused.
"""

import io
import math
import mmap
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softmode.files import regular_file
from softmode.message import LONGEST, first_line, quote, refusal
from softmode.networks.edm2 import NUMBERS, EDM2Config, check_fields

# first value of a storage in torch's legacy format
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
DTYPES = {
    f"{name}Storage": dtype
    for name, dtype in (("Half", torch.float16), ("BFloat16", torch.bfloat16), ("Float", torch.float32),
                        ("Double", torch.float64), ("Long", torch.int64), ("Int", torch.int32))
}  # fmt: skip
# opcodes that put what lies on the stack into the memo, with its place as an argument
MEMO = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
NUMERIC = frozenset("biuf")
# axes of a tensor, and modules of a network
MOST_AXES, MOST_MODULES = 8, 10**4


class Record(dict[str, Any]):
    """The state of a module or of a dictionary, by name, and the name of its class; nothing of it is ever called."""

    name: str = ""

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Take over a module's attributes as entries."""
        self.update(state)


class _Inert:
    """A wrapper on which a pickle can set no state."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Refuse."""
        raise pickle.UnpicklingError("a state where none belongs")


class _Maker(_Inert):
    """A function that a pickle may call."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make

    def __call__(self, *arguments: Any) -> Any:
        return self.make(*arguments)


class _Held(_Inert):
    """A tensor that a pickle can pass on and do nothing else with."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def read_edm2_pickle(path: str | Path) -> tuple[dict[str, Tensor], EDM2Config]:
    """Return the weights and the shape of the network in an official EDM2 pickle, without running any of it.

    Raises:
        ValueError: If the file is missing or truncated, names anything unknown, or holds no EDM2 network.
    """
    path = regular_file("weights", path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            size = len(content)
            found = _load(content, _outer(), path)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and str(error).startswith("weights:"):
            raise
        raise _refusal(path, f"cannot be read ({first_line(error)})") from None
    network = found.get("ema") if isinstance(found, dict) else found
    if not isinstance(network, Record) or network.name != "Precond":
        raise _refusal(path, "holds no EDM2 network (a Precond, alone or under 'ema')")
    try:
        state, config = _state(network), _config(network)
        if sum(tensor.nbytes for tensor in state.values()) > size:
            raise ValueError("has tensors of more bytes than the file")
    except (TypeError, ValueError) as error:
        raise _refusal(path, f"cannot be used ({first_line(error)})") from None
    return state, config


def _refusal(path: Path, reason: str) -> ValueError:
    return refusal(f"weights: {quote(str(path))} {reason}; expected an official EDM2 pickle")


def _load(file: Any, names: Mapping[tuple[str, str], Any], path: Path) -> Any:
    """Return the next pickle of a file, read with these names and no others."""
    start = file.tell()
    try:
        _check_opcodes(file)
        file.seek(start)
        return _Unpickler(file, names).load()
    except _UnknownNameError as error:
        raise _refusal(
            path, f"names {quote(str(error))[1:-1]}, which no such file needs, and was not read further"
        ) from None
    except RecursionError:
        raise _refusal(path, "is nested too deeply") from None
    # damage shows in the unpickler, in numpy and in torch, each with errors of its own
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith("weights:"):
            raise
        raise _refusal(path, f"is truncated or damaged ({first_line(error)})") from None


def _check_opcodes(file: Any) -> None:
    """Refuse what makes the unpickler reserve memory that no file fills: places in the memo beyond their number."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name in MEMO and not 0 <= int(argument or 0) <= count:
            raise ValueError(f"a memo place {argument} after {count} steps")


class _UnknownNameError(Exception):
    """A pickle named something that is not on the list."""


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows some names; what it builds are records, tensors, numbers and containers."""

    def __init__(self, file: Any, names: Mapping[tuple[str, str], Any]) -> None:
        super().__init__(file)
        self._names = names

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._names:
            raise _UnknownNameError(f"{module}.{name}")
        return self._names[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Return the identifier itself: that of a storage, read by `_storage`."""
        return pid


def _outer() -> dict[tuple[str, str], Any]:
    """Return the names of the file itself."""
    makers: dict[tuple[str, str], Callable[..., Any]] = {
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): _record,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch.storage", "_load_from_bytes"): _storage,
        ("numpy", "dtype"): _number_type,
        ("numpy.core.multiarray", "scalar"): _scalar,
        ("numpy._core.multiarray", "scalar"): _scalar,
        ("builtins", "set"): set,
        ("__builtin__", "set"): set,
    }
    return {name: _Maker(make) for name, make in makers.items()} | {
        ("torch.nn.modules.container", "ModuleDict"): Record,
        ("dnnlib.util", "EasyDict"): Record,
        ("collections", "OrderedDict"): OrderedDict,
    }


def _record(meta: Mapping[str, Any]) -> Record:
    record = Record(meta["state"] or {})
    name = meta["class_name"]
    record.name = name if isinstance(name, str) else ""
    return record


def _storage(content: bytes) -> _Held:
    """Return a storage of torch's legacy format as a tensor [number], which owns its memory."""
    file, path = io.BytesIO(content), Path("(storage)")
    kinds = {("torch", name): name for name in DTYPES}
    magic, protocol = (_load(file, {}, path) for _ in range(2))
    if (magic, protocol) != (LEGACY_MAGIC, LEGACY_PROTOCOL):
        raise ValueError("a storage of an unknown format")
    _load(file, {}, path)
    _, kind, key, _, count, _ = _load(file, kinds, path)
    keys = _load(file, {}, path)
    if not (isinstance(kind, str) and isinstance(key, str) and type(count) is int and count >= 0):
        raise ValueError("a storage whose type, name or length is none")
    dtype = DTYPES[kind]
    written = int.from_bytes(file.read(8), "little")
    rest = bytearray(file.read())
    if keys != [key] or written != count or len(rest) != count * dtype.itemsize:
        raise ValueError(f"a storage of {len(rest)} bytes in place of {count} numbers")
    return _Held(torch.frombuffer(rest, dtype=dtype) if count else torch.empty(0, dtype=dtype))


def _tensor(storage: _Held, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> _Held:
    """Return a view of a storage, which it must not reach beyond; nothing is copied."""
    if not isinstance(storage, _Held) or not (isinstance(size, tuple) and isinstance(stride, tuple)):
        raise ValueError("a tensor without a storage or sizes")
    if len(size) != len(stride) or len(size) > MOST_AXES:
        raise ValueError(f"a tensor of {len(size)} sizes and {len(stride)} strides")
    held = storage.tensor.numel()
    if not all(type(n) is int and 0 <= n <= held for n in (offset, *size, *stride)):
        raise ValueError(f"a tensor of sizes {quote(size)} in a storage of {held}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > held or last >= held:
        raise ValueError(f"a tensor of sizes {quote(size)} in a storage of {held}")
    return _Held(storage.tensor.as_strided(size, stride, offset))


def _parameter(data: _Held, *_: Any) -> _Held:
    return data


def _number_type(name: str, *_: Any) -> Any:
    """Return a numeric dtype, wrapped so that the state that pickles set on one is dropped."""
    dtype = np.dtype(name if isinstance(name, str) else "O")
    if dtype.kind not in NUMERIC:
        raise ValueError(f"an array type {dtype}")
    return _NumberType(dtype)


class _NumberType:
    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        if state[1] == ">":
            raise ValueError("numbers of the other byte order")


def _scalar(kind: _NumberType, content: bytes) -> float:
    return np.frombuffer(content, kind.dtype, 1)[0].item()


def _state(network: Record) -> dict[str, Tensor]:
    """Return the parameters and buffers of a module and those below it, by their full names."""
    state: dict[str, Tensor] = {}
    modules = [("", network)]
    # the list grows: a module may be in several places, and in itself
    for prefix, record in modules:
        for kind in ("_parameters", "_buffers"):
            for name, value in _entries(record.get(kind)).items():
                if isinstance(value, _Held):
                    state[f"{prefix}{name}"] = value.tensor
        below = _entries(record.get("_modules"))
        if len(modules) + len(below) > MOST_MODULES or prefix.count(".") > 8:
            raise ValueError("modules that are nested too deeply")
        modules += [(f"{prefix}{name}.", each) for name, each in below.items() if isinstance(each, Record)]
    return state


def _entries(held: object) -> Mapping[str, Any]:
    """Return a mapping by name, none for None; names of another type may take for ever to be written out."""
    if held is None:
        return {}
    if not isinstance(held, Mapping) or not all(isinstance(name, str) and len(name) <= LONGEST for name in held):
        raise ValueError(f"{type(held).__name__} where entries by name belong")
    return held


def _config(network: Record) -> EDM2Config:
    """Return the shape that the network's own arguments give."""
    ignored = {"use_fp16", "dropout"}  # neither changes what an evaluated network computes beyond rounding
    given = {k: v for k, v in _entries(network.get("_init_kwargs")).items() if v is not None and k not in ignored}
    if network.get("_init_args"):
        raise ValueError("arguments of the network by position, which are not known")
    return as_config(given)


def as_config(given: Mapping[str, Any]) -> EDM2Config:
    """Return the shape of which JSON or a pickle gives the fields, lists for tuples.

    Raises:
        ValueError: If a field is not known, lacks, is of another type or beyond its bounds.
    """
    known = {field.name: field.default is MISSING for field in fields(EDM2Config)}
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(f"arguments of the network that are not known: {quote(unknown)}")
    if lacking := [name for name, needed in known.items() if needed and name not in given]:
        raise ValueError(f"lacks {', '.join(lacking)}")
    arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    check_fields(arguments)
    # 256 for 256.0
    arguments |= {k: float(v) for k, v in arguments.items() if k in NUMBERS}
    return EDM2Config(**arguments)
