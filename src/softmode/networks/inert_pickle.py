"""An unpickler that runs nothing: no import, no foreign code, no torch loader.

It knows a handful of names, all of which build inert records; any other name is refused. What it builds are tensors,
numbers, texts and containers of these.
"""

import io
import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from softmode.message import LONGEST, first_line, quote, refusal

# first value of a storage in torch's legacy format
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
DTYPES = {
    f"{name}Storage": dtype
    for name, dtype in (("Half", torch.float16), ("BFloat16", torch.bfloat16), ("Float", torch.float32),
                        ("Double", torch.float64), ("Long", torch.int64), ("Int", torch.int32))
}  # fmt: skip
STORAGES = {("torch", name): name for name in DTYPES}
# opcodes that put what lies on the stack into the memo, with its place as an argument
MEMO = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
NUMERIC = frozenset("biuf")
# axes of a tensor
MOST_AXES = 8

Names = Mapping[tuple[str, str], Any]


class Source(NamedTuple):
    """What is read, for messages: the file, and what it should have been."""

    path: Path
    expected: str

    def refusal(self, reason: str) -> ValueError:
        """Return the error of a file that cannot be used for a reason."""
        return refusal(f"weights: {quote(str(self.path))} {reason}; expected {self.expected}")


class Inert:
    """A wrapper on which a pickle can set no state."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Refuse."""
        raise pickle.UnpicklingError("a state where none belongs")


class Maker(Inert):
    """A function that a pickle may call."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function makes."""
        return self.make(*arguments)


class Held(Inert):
    """A tensor that a pickle can pass on and do nothing else with.

    Args:
        tensor: The tensor; one without numbers, on the device meta, where these are read later.
        read: Returns the storage that such a tensor is a view of.
    """

    __slots__ = ("read", "tensor")

    def __init__(self, tensor: Tensor, read: Callable[[], Tensor] | None = None) -> None:
        self.tensor, self.read = tensor, read

    def loaded(self) -> Tensor:
        """Return the tensor with its numbers."""
        if self.read is None:
            return self.tensor
        return self.read().as_strided(self.tensor.size(), self.tensor.stride(), self.tensor.storage_offset())


class Entries(OrderedDict[Any, Any]):
    """A dictionary in the order of the file, on which no attributes can be set."""

    def __setstate__(self, state: Any) -> None:
        """Drop what torch notes of the versions of its modules."""


def load(file: Any, names: Names, source: Source, persistent: Callable[[Any], Any] | None = None) -> Any:
    """Return the next pickle of a file, read with some names and no others.

    Args:
        file: An open file, which can be sought.
        names: What stands for each (module, name).
        source: What messages say of the file.
        persistent: Maps a persistent identifier to what stands for it; to itself when left out.

    Raises:
        ValueError: If the pickle is truncated, damaged, or names anything else.
    """
    start = file.tell()
    try:
        _check_opcodes(file)
        file.seek(start)
        return _Unpickler(file, names, persistent).load()
    except _UnknownNameError as error:
        raise source.refusal(
            f"names {quote(str(error))[1:-1]}, which no such file needs, and was not read further"
        ) from None
    except RecursionError:
        raise source.refusal("is nested too deeply") from None
    # damage shows in the unpickler, in numpy and in torch, each with errors of its own
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith("weights:"):
            raise
        raise source.refusal(f"is truncated or damaged ({first_line(error)})") from None


def _check_opcodes(file: Any) -> None:
    """Refuse what makes the unpickler reserve memory that no file fills: places in the memo beyond their number."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name in MEMO and not 0 <= int(argument or 0) <= count:
            raise ValueError(f"a memo place {argument} after {count} steps")


class _UnknownNameError(Exception):
    """A pickle named something that is not on the list."""


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows some names."""

    def __init__(self, file: Any, names: Names, persistent: Callable[[Any], Any] | None) -> None:
        super().__init__(file)
        self._names, self._persistent = names, persistent

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._names:
            raise _UnknownNameError(f"{module}.{name}")
        return self._names[module, name]

    def persistent_load(self, pid: Any) -> Any:
        return pid if self._persistent is None else self._persistent(pid)


def common_names() -> dict[tuple[str, str], Any]:
    """Return the names of tensors, of numpy's numbers and of containers."""
    makers: dict[tuple[str, str], Callable[..., Any]] = {
        ("torch._utils", "_rebuild_tensor_v2"): view,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("numpy", "dtype"): _number_type,
        ("numpy.core.multiarray", "scalar"): _scalar,
        ("numpy._core.multiarray", "scalar"): _scalar,
        ("builtins", "set"): set,
        ("__builtin__", "set"): set,
    }
    return {name: Maker(make) for name, make in makers.items()} | {("collections", "OrderedDict"): Entries}


def legacy_storage(content: bytes, source: Source) -> Held:
    """Return a storage of torch's legacy format as a tensor [number], which owns its memory."""
    file = io.BytesIO(content)
    magic, protocol = (load(file, {}, source) for _ in range(2))
    if (magic, protocol) != (LEGACY_MAGIC, LEGACY_PROTOCOL):
        raise ValueError("a storage of an unknown format")
    load(file, {}, source)
    _, kind, key, _, count, _ = load(file, STORAGES, source)
    keys = load(file, {}, source)
    if not (isinstance(kind, str) and isinstance(key, str) and type(count) is int and count >= 0):
        raise ValueError("a storage whose type, name or length is none")
    dtype = DTYPES[kind]
    written = int.from_bytes(file.read(8), "little")
    rest = bytearray(file.read())
    if keys != [key] or written != count or len(rest) != count * dtype.itemsize:
        raise ValueError(f"a storage of {len(rest)} bytes in place of {count} numbers")
    return Held(torch.frombuffer(rest, dtype=dtype) if count else torch.empty(0, dtype=dtype))


def view(storage: Held, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Held:
    """Return a view of a storage, which it must not reach beyond; nothing is copied."""
    if not isinstance(storage, Held) or not (isinstance(size, tuple) and isinstance(stride, tuple)):
        raise ValueError("a tensor without a storage or sizes")
    if len(size) != len(stride) or len(size) > MOST_AXES:
        raise ValueError(f"a tensor of {len(size)} sizes and {len(stride)} strides")
    held = storage.tensor.numel()
    if not all(type(n) is int and 0 <= n <= held for n in (offset, *size, *stride)):
        raise ValueError(f"a tensor of sizes {quote(size)} in a storage of {held}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > held or last >= held:
        raise ValueError(f"a tensor of sizes {quote(size)} in a storage of {held}")
    return Held(storage.tensor.as_strided(size, stride, offset), storage.read)


def _parameter(data: Held, *_: Any) -> Held:
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


def entries(held: object) -> Mapping[str, Any]:
    """Return a mapping by name, none for None; names of another type may take for ever to be written out.

    Raises:
        ValueError: If it is something else.
    """
    if held is None:
        return {}
    if not isinstance(held, Mapping) or not all(isinstance(name, str) and len(name) <= LONGEST for name in held):
        raise ValueError(f"{type(held).__name__} where entries by name belong")
    return held
