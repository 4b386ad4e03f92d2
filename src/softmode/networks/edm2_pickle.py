"""Read official EDM2 pickles without running them: no import, no foreign code, no torch loader.

Such a file is a pickle of persistent objects, each a record with the source code of its class, never looked at here,
and its state; every tensor's storage is a file of torch's legacy format inside, again made of pickles. Both levels go
through one unpickler that knows a handful of names, all of which build inert records; any other name is refused.
"""

import io
import json
import math
import mmap
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softmode.networks.card import check_state, read_tensors, write_tensors
from softmode.networks.edm2 import EDM2, EDM2Config

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
NUMBERS = frozenset("biuf")


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
    path = Path(path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = _load(content, len(content), _outer(), path)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and str(error).startswith("weights:"):
            raise
        raise _refusal(path, f"cannot be read ({error})") from None
    network = found.get("ema") if isinstance(found, dict) else found
    if not isinstance(network, Record) or network.name != "Precond":
        raise _refusal(path, "holds no EDM2 network (a Precond, alone or under 'ema')")
    return _state(network, path), _config(network, path)


def convert_edm2(source: str | Path, target: str | Path) -> None:
    """Write the network of an official EDM2 pickle as safetensors, atomically.

    Raises:
        ValueError: If the source is no EDM2 pickle, its weights do not fit, or the target is there already.
    """
    if Path(target).exists():
        raise ValueError(f"target: {str(target)!r} is there already; name another file")
    state, config = read_edm2_pickle(source)
    with torch.device("meta"):
        network = EDM2(config)
    check_state(network, state, str(source))
    write_tensors(target, state, {"edm2": json.dumps(asdict(config))})


def load_edm2(path: str | Path) -> EDM2:
    """Return the network of an official EDM2 pickle, or of what `convert_edm2` made of one, in float32 for evaluation.

    Raises:
        ValueError: If the file holds no EDM2 network, or weights of another shape than it says.
    """
    path = Path(path)
    if path.suffix == ".pkl":
        state, config = read_edm2_pickle(path)
    else:
        state, metadata = read_tensors(path)
        try:
            config = _as_config(json.loads(metadata["edm2"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"weights: {str(path)!r} was not made by softmode convert-edm2 ({error})") from None
    network = EDM2(config)
    check_state(network, state, str(path))
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def _refusal(path: Path, reason: str) -> ValueError:
    return ValueError(f"weights: {str(path)!r} {reason}; expected an official EDM2 pickle")


def _load(file: Any, size: int, names: Mapping[tuple[str, str], Any], path: Path) -> Any:
    """Return the next pickle of a file of `size` bytes, read with these names and no others."""
    start = file.tell()
    try:
        _check_opcodes(file, size)
        file.seek(start)
        return _Unpickler(file, names).load()
    except _UnknownNameError as error:
        raise _refusal(path, f"names {error}, which no such file needs, and was not read further") from None
    except RecursionError:
        raise _refusal(path, "is nested too deeply") from None
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
            MemoryError, OverflowError, UnicodeDecodeError) as error:  # fmt: skip
        if isinstance(error, ValueError) and str(error).startswith("weights:"):
            raise
        reason = (str(error).partition("\n")[0] or type(error).__name__)[:200]
        raise _refusal(path, f"is truncated or damaged ({reason})") from None


def _check_opcodes(file: Any, size: int) -> None:
    """Refuse what makes the unpickler reserve memory that no file fills: places in the memo beyond its size."""
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in MEMO and not 0 <= int(argument or 0) <= size:
            raise ValueError(f"a memo place {argument}, beyond its {size} bytes")


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
    record.name = str(meta["class_name"])
    return record


def _storage(content: bytes) -> _Held:
    """Return a storage of torch's legacy format as a tensor [number], which owns its memory."""
    file, path = io.BytesIO(content), Path("(storage)")
    kinds = {("torch", name): name for name in DTYPES}
    magic, protocol = (_load(file, len(content), {}, path) for _ in range(2))
    if (magic, protocol) != (LEGACY_MAGIC, LEGACY_PROTOCOL):
        raise ValueError("a storage of an unknown format")
    _load(file, len(content), {}, path)
    _, kind, key, _, count, _ = _load(file, len(content), kinds, path)
    keys = _load(file, len(content), {}, path)
    dtype = DTYPES[kind]
    written = int.from_bytes(file.read(8), "little")
    rest = bytearray(file.read())
    if keys != [key] or written != count or len(rest) != count * dtype.itemsize:
        raise ValueError(f"a storage of {len(rest)} bytes in place of {count} numbers")
    return _Held(torch.frombuffer(rest, dtype=dtype) if count else torch.empty(0, dtype=dtype))


def _tensor(storage: _Held, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> _Held:
    """Return a view of a storage; torch refuses one that reaches beyond it."""
    if not isinstance(storage, _Held) or min(offset, 0, *size, *stride) < 0:
        raise ValueError("a tensor without a storage or with negative sizes")
    if math.prod(size) > storage.tensor.numel():
        raise ValueError(f"a tensor of {size} in a storage of {storage.tensor.numel()}")
    return _Held(storage.tensor.as_strided(size, stride, offset).contiguous())


def _parameter(data: _Held, *_: Any) -> _Held:
    return data


def _number_type(name: str, *_: Any) -> Any:
    """Return a numeric dtype, wrapped so that the state that pickles set on one is dropped."""
    dtype = np.dtype(str(name))
    if dtype.kind not in NUMBERS:
        raise ValueError(f"an array type {name!r}")
    return _NumberType(dtype)


class _NumberType:
    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        if state[1] == ">":
            raise ValueError("numbers of the other byte order")


def _scalar(kind: _NumberType, content: bytes) -> float:
    return np.frombuffer(content, kind.dtype, 1)[0].item()


def _state(record: Record, path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Return the parameters and buffers below a module, by their full names."""
    state: dict[str, Tensor] = {}
    for kind in ("_parameters", "_buffers"):
        for name, value in dict(record.get(kind) or {}).items():
            if isinstance(value, _Held):
                state[f"{prefix}{name}"] = value.tensor
    for name, module in dict(record.get("_modules") or {}).items():
        if isinstance(module, Record):
            if prefix.count(".") > 8:
                raise _refusal(path, "is nested too deeply")
            state |= _state(module, path, f"{prefix}{name}.")
    return state


def _config(network: Record, path: Path) -> EDM2Config:
    """Return the shape that the network's own arguments give."""
    known = {field.name for field in fields(EDM2Config)}
    ignored = {"use_fp16", "dropout"}  # neither changes what an evaluated network computes beyond rounding
    given = {k: v for k, v in dict(network.get("_init_kwargs") or {}).items() if v is not None and k not in ignored}
    unknown = sorted(set(given) - known)
    if network.get("_init_args") or unknown:
        raise _refusal(path, f"has arguments of the network that are not known: {unknown or 'positional ones'}")
    try:
        return _as_config(given)
    except TypeError as error:
        raise _refusal(path, f"lacks arguments of the network ({error})") from None


def _as_config(given: Mapping[str, Any]) -> EDM2Config:
    """Return the shape of which JSON or a pickle gives the fields, lists for tuples."""
    arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return EDM2Config(**arguments)
