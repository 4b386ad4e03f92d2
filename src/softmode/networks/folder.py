"""Directories in which diffusers and transformers save networks: their digest, and whether weights fit the config."""

import hashlib
import math
from pathlib import Path

from safetensors import safe_open
from torch import nn

from softmode.files import DIRECTORY, kind_of, sha256
from softmode.message import first_line, quote, refusal

# what is read of such a directory: configs, weights, vocabularies
READ = (".json", ".safetensors", ".txt", ".model")
WEIGHTS = ".safetensors"
# numbers that a network may have beyond those stored: buffers are computed, and small heads are new
SHARE, MORE = 1.05, 10**5


def folder_digest(name: str, folder: Path) -> str:
    """Return one SHA-256 digest of the names and the bytes of the files in a directory that are read of it.

    Args:
        name: What messages call the directory.
        folder: The directory.

    Raises:
        ValueError: If there is none, or one of the files is none that can be read.
    """
    digest = hashlib.sha256()
    for path in _files(name, folder):
        digest.update(f"{path.name} {sha256(path)}\n".encode())
    return digest.hexdigest()


def misfit(network: nn.Module, name: str, folder: Path) -> str:
    """Return in what the weights stored in a directory cannot be those of a network; nothing if they can be.

    Args:
        network: The network, of its config, on the meta device.
        name: What messages call the directory.
        folder: The directory.

    Raises:
        ValueError: If one of the files cannot be read.
    """
    stored: dict[str, tuple[int, ...]] = {}
    for path in _files(name, folder):
        if path.suffix == WEIGHTS:
            try:
                with safe_open(path, framework="pt") as file:
                    stored |= {each: tuple(file.get_slice(each).get_shape()) for each in file.keys()}  # noqa: SIM118  # a safe_open has keys() and no iteration
            # beside its own error, safetensors lets through those of the types of numbers that torch lacks
            except Exception as error:
                raise refusal(f"{name}: {quote(str(path))} is no safetensors file ({first_line(error)})") from None
    own = {each: tuple(value.shape) for each, value in network.state_dict().items()}
    for each, shape in own.items():
        if stored.get(each, shape) != shape:
            return f"{each} is {stored[each]} where the config says {shape}"
    count = sum(value.numel() for value in network.state_dict().values())
    found = sum(math.prod(shape) for shape in stored.values())
    return f"{found} numbers where the config says {count}" if count > SHARE * found + MORE else ""


def _files(name: str, folder: Path) -> list[Path]:
    """Return the files of a directory that are read of it, sorted by name."""
    if (kind := kind_of(folder)) != DIRECTORY:
        raise refusal(f"{name}: {quote(str(folder))} is no directory ({kind})")
    return sorted(path for path in folder.iterdir() if path.suffix in READ)
