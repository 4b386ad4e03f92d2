"""Files that a user names: only regular ones are opened, their digest, and arrays and JSON of bounded size."""

import hashlib
import json
import math
import os
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softmode.message import first_line, quote, refusal

FILE, DIRECTORY = "a file", "a directory"
KINDS = (
    (stat.S_ISREG, FILE), (stat.S_ISDIR, DIRECTORY), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip
# bytes of one array of an npz file, which is read in one piece; beyond the second, bytes for each byte of the file
LARGEST_ARRAY, SMALL_ARRAY, COMPRESSION = 4 * 2**30, 2**26, 200
# bytes of a description of a network
LARGEST_JSON = 2**24
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def kind_of(path: str | Path) -> str:
    """Return what lies at a path, or in lower case why nothing can be found there."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return (error.strerror or type(error).__name__).lower()
    except ValueError:  # a null byte, or a name that no file system can hold
        return "no name of a file"
    return next((kind for is_kind, kind in KINDS if is_kind(mode)), "of an unknown kind")


def regular_file(name: str, path: str | Path) -> Path:
    """Return the path of a regular file: to open a pipe may wait for ever, and a device may never end.

    Args:
        name: What the message calls it.
        path: Where it should be.

    Raises:
        ValueError: If something else is there, or nothing.
    """
    if (kind := kind_of(path)) != FILE:
        raise refusal(f"{name}: cannot read {quote(str(path))}, which is no file ({kind}); give the path of one")
    return Path(path)


def sha256(path: str | Path) -> str:
    """Return the SHA-256 digest of a file's bytes in hexadecimal, read in pieces.

    Raises:
        ValueError: If it is no regular file, or cannot be read.
    """
    try:
        with regular_file("file", path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise refusal(f"file: cannot read {quote(str(path))} ({first_line(error)})") from None


def json_object(text: str) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        ValueError: If the text is something else, or nested too deeply.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"JSON of {type(found).__name__}; expected an object")
    return found


def read_json(name: str, path: str | Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Args:
        name: What messages call the file.
        path: The file.

    Raises:
        ValueError: If it is no regular file of moderate size, or holds something else.
    """
    path = regular_file(name, path)
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_JSON + 1)
        if len(content) > LARGEST_JSON:
            raise ValueError(f"more than {LARGEST_JSON} bytes")
        return json_object(content.decode())
    except (OSError, ValueError) as error:
        raise refusal(f"{name}: cannot read {quote(str(path))} ({first_line(error)}); expected a JSON object") from None


def read_arrays(name: str, path: str | Path, wanted: Sequence[str], dtype: type[Any] | None) -> list[NDArray[Any]]:
    """Return arrays of numbers of an npz file, each checked against the size of its entry before it is read.

    Args:
        name: What messages call the file.
        path: The file.
        wanted: Names of the arrays.
        dtype: Floating type in which they are returned; a number beyond it becomes infinite. None for that of the file.

    Raises:
        ValueError: If it is no such file, or one of the arrays is missing, damaged, too large or not of numbers.
    """
    try:
        if (kind := kind_of(path)) != FILE:
            raise ValueError(f"it is no file: {kind}")
        with zipfile.ZipFile(path) as archive:
            most = min(LARGEST_ARRAY, max(SMALL_ARRAY, COMPRESSION * os.stat(path).st_size))
            found = [_read_array(archive, f"{each}.npy", most) for each in wanted]
        with np.errstate(over="ignore", invalid="ignore"):
            return [array.astype(dtype or array.dtype) for array in found]
    # damage shows in zipfile, in its decompressors and in numpy, each with errors of its own
    except Exception as error:
        arrays = " and ".join(map(repr, wanted))
        raise refusal(
            f"{name}: cannot read {arrays} from {quote(str(path))} ({first_line(error)}); "
            "expected an .npz file of numbers"
        ) from None


def _read_array(archive: zipfile.ZipFile, entry: str, most: int) -> NDArray[Any]:
    if archive.getinfo(entry).file_size > most:
        raise ValueError(f"{entry} has more than {most} bytes")
    with archive.open(entry) as stream:
        shape, fortran, dtype = HEADERS[np.lib.format.read_magic(stream)](stream)
        if dtype.kind not in "biuf":
            raise ValueError(f"{entry} is of {dtype}")
        content = stream.read()
    if min(shape, default=0) < 0 or len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{entry} has {len(content)} bytes for the shape {shape}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
