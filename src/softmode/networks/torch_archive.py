"""Read what torch.save wrote without running it: an archive of one pickle and of a file of numbers for each storage."""

import io
import os
import pickle
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softmode.files import regular_file
from softmode.message import first_line, quote
from softmode.networks.inert_pickle import DTYPES, STORAGES, Held, Source, common_names, load


def read_archive(path: str | Path, expected: str) -> Any:
    """Return what the pickle of an archive holds, its tensors as `Held`, of which only what is asked for is read.

    Args:
        path: The file.
        expected: What it should be, for messages.

    Raises:
        ValueError: If the file is missing, truncated, no such archive, or its pickle names anything unknown.
    """
    path = regular_file("weights", path)
    source = Source(path, expected)
    try:
        with zipfile.ZipFile(path) as archive:
            (pickled,) = (name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
            folder = pickled.removesuffix("data.pkl")
            sizes = {each.filename: each.file_size for each in archive.infolist() if _plain(each)}
            if pickled not in sizes:
                raise ValueError("a compressed pickle")
            # entries may lie on one another, or claim what is not there
            if sum(sizes.values()) > os.stat(path).st_size:
                raise ValueError("entries of more bytes than the file")
            order = f"{folder}byteorder"
            if order in sizes and (sizes[order] > 10 or archive.read(order) != b"little"):
                raise ValueError("numbers of another byte order")
            names, storage = common_names() | STORAGES, partial(_storage, path, folder, sizes)
            return load(io.BytesIO(archive.read(pickled)), names, source, storage)
    # damage shows in zipfile and in its readers, each with errors of its own
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith("weights:"):
            raise
        with path.open("rb") as file:
            pickled_alone = file.read(1) == pickle.PROTO
        hint = "; name an official pickle of EDM edm:FILE" if pickled_alone else ""
        raise source.refusal(f"is truncated or no archive of torch.save ({first_line(error)}){hint}") from None


def _plain(entry: zipfile.ZipInfo) -> bool:
    """Tell whether an entry lies in the archive as it is, as torch.save leaves it, and claims no more than that."""
    return entry.compress_type == zipfile.ZIP_STORED and entry.file_size == entry.compress_size


def _storage(path: Path, folder: str, sizes: dict[str, int], pid: Any) -> Held:
    """Return a storage [number] of the archive, without its numbers."""
    tag, kind, key, _, count = pid
    if tag != "storage" or kind not in DTYPES or not isinstance(key, str) or type(count) is not int:
        raise ValueError(f"a persistent identifier {quote(pid)}")
    dtype, entry = DTYPES[kind], f"{folder}data/{key}"
    if entry not in sizes or count < 0 or sizes[entry] != count * dtype.itemsize:
        raise ValueError(f"a storage of {sizes.get(entry, 0)} bytes in place of {quote(count)} numbers")
    return Held(torch.empty(count, dtype=dtype, device="meta"), partial(_numbers, path, entry, dtype))


def _numbers(path: Path, entry: str, dtype: torch.dtype) -> Tensor:
    """Return the numbers of a storage, whose checksum is compared."""
    with zipfile.ZipFile(path) as archive:
        content = bytearray(archive.read(entry))
    return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
