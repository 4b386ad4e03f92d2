"""Images to train on: Fashion-MNIST, found here or downloaded and checked byte by byte, and files of labelled faces."""

import gzip
import hashlib
import json
import os
import textwrap
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pooch
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from softmode.files import FILE, kind_of, read_arrays
from softmode.message import quote, refusal

Split = Literal["train", "test"]
Values = Literal["binary", "grey"]

ENVIRONMENT = "SOFTMODE_DATA"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
TORCHVISION = Path("data")
ORIGIN = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
# SHA-256 of the decompressed bytes: Debian compresses the same files anew
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


@dataclass(frozen=True, eq=False)
class Images:
    """Images with class labels, as stored bytes, and how a pixel becomes a value.

    Args:
        pixels: Bytes 0..255, [image, channel, *space].
        labels: Class of each image, [image], or value of each of its attributes, [image, attribute].
        values: `binary` (±1, threshold at half of white) or `grey` (linear from -1, black, to 1, white, each
            channel by itself).
        attributes: Names of the values of each attribute, by the attribute's name; empty where there are classes.
    """

    pixels: UInt8[Tensor, "image channel *space"]
    labels: Int[Tensor, "image *attribute"]
    values: Values
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image, (channel, *space)."""
        return tuple(self.pixels.shape[1:])

    def tensor(self, index: Tensor | slice = slice(None)) -> Float[Tensor, "image channel *space"]:
        """Return some images as float32 values in [-1, 1].

        Source: paper F.1 for binary values (+1 where the normalised pixel exceeds 0.5).
        """
        grey = self.pixels[index].float() / 127.5 - 1
        return torch.where(grey > 0, 1.0, -1.0) if self.values == "binary" else grey

    def to(self, device: torch.device) -> "Images":
        """Return the images on a device."""
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device))

    def first(self, count: int) -> "Images":
        """Return the first images."""
        return replace(self, pixels=self.pixels[:count], labels=self.labels[:count])


def read_images(path: str, shape: tuple[int, ...]) -> Float[Tensor, "image channel *space"]:
    """Return the images of a user's npz file, float32.

    Args:
        path: The file, with an array `images`.
        shape: Shape of one image, (channel, *space).

    Raises:
        ValueError: If it is no such file, or its images are of another shape or not finite.
    """
    (found,) = read_arrays("data", path, ["images"], np.float32)
    images = torch.from_numpy(found)
    if tuple(images.shape[1:]) != shape or not bool(torch.isfinite(images).all()):
        expected = ", ".join(map(str, ("image", *shape)))
        raise refusal(f"data: {quote(path)} holds {tuple(images.shape)}; expected finite images [{expected}]")
    return images


def avatars(split: Split, path: str) -> Images:
    """Return the training or test images of a file that tools/avatars has made, with their attributes.

    Args:
        split: Which images.
        path: The npz file.

    Raises:
        ValueError: If it is missing, or no such file.
    """
    if not path:
        raise refusal("data: avatars.npz is not here; make it with tools/avatars and name it with --data")
    pixels, labels, text = read_arrays("data", path, [f"{split}_images", f"{split}_labels", "attributes"], None)
    try:
        attributes = {str(name): tuple(map(str, values)) for name, values in json.loads(text.tobytes()).items()}
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise refusal(f"data: {quote(path)} has no attributes; make it with tools/avatars") from None
    counts = np.array([len(values) for values in attributes.values()])
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or labels.shape != (len(pixels), len(counts)):
        raise refusal(
            f"data: {quote(path)} holds {pixels.dtype} {pixels.shape} and labels {labels.shape}; expected bytes "
            f"[image, channel, row, column] and labels [image, {len(counts)}]"
        )
    if labels.dtype.kind != "i" or (labels < 0).any() or (labels >= counts).any():
        raise refusal(f"data: {quote(path)} has labels beyond the values of its attributes; make it with tools/avatars")
    return Images(torch.from_numpy(pixels), torch.from_numpy(labels).long(), "grey", attributes)


def fashion_mnist(split: Split, values: Values, directory: str | Path | None = None, download: bool = False) -> Images:
    """Return the 60000 training or 10000 test images of Fashion-MNIST, 28x28, ten classes.

    Looked for in `directory`, the directory named by the environment variable SOFTMODE_DATA, Debian's package,
    torchvision's `data/FashionMNIST/raw` and the user's cache of downloads; the first that holds the files is used.

    Args:
        split: Which images.
        values: What a pixel becomes.
        directory: Directory with the four idx files, plain or gzipped, or torchvision's root above them.
        download: Whether to fetch the files (30 MB) if they are nowhere; kept in the user's cache.

    Raises:
        ValueError: If the files are missing, naming every way to get them, or a file is damaged.

    Source: xiao2017.
    """
    prefix = "t10k" if split == "test" else "train"
    names = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
    home = _find(directory, download)
    pixels, labels = (_read_idx(home, name) for name in names)
    return Images(torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(labels).long(), values)


def _find(directory: str | Path | None, download: bool) -> Path:
    """Return the directory that holds the files, downloading them if asked to."""
    named = directory or os.environ.get(ENVIRONMENT)
    # torchvision keeps the files in a folder of its own below the root that a user names
    roots = (Path(named),) if named else (DEBIAN, TORCHVISION, _cache())
    homes = [home for root in roots for home in (root, root / "FashionMNIST" / "raw")]
    lacking = {home: [name for name in SHA256 if not _stored(home, name)] for home in homes}
    best = min(homes, key=lambda home: len(lacking[home]))
    if not lacking[best]:
        return best
    if named:
        raise refusal(
            f"data: {quote(str(best))} lacks {', '.join(lacking[best])} (or .gz), of Fashion-MNIST's four files"
        )
    if download:
        return _download()
    raise ValueError(
        "data: Fashion-MNIST is not on this machine; name its directory with --data or in SOFTMODE_DATA, "
        "install Debian's package dataset-fashion-mnist, or add --download (30 MB)"
    )


def _stored(home: Path, name: str) -> Path | None:
    """Return the path of a file, plain or gzipped, or None."""
    return next((path for path in (home / name, home / f"{name}.gz") if kind_of(path) == FILE), None)


def _cache() -> Path:
    """Return where downloaded files are kept."""
    return Path(pooch.os_cache("softmode")) / "fashion-mnist"


def _download() -> Path:
    home = _cache()
    for name in SHA256:
        try:
            pooch.retrieve(f"{ORIGIN}{name}.gz", known_hash=None, fname=f"{name}.gz", path=home, progressbar=False)
        except OSError as error:
            reason = textwrap.shorten(str(error), 120, placeholder=" ...")
            raise ValueError(
                f"data: cannot download {ORIGIN}{name}.gz ({reason}); name a directory with --data"
            ) from None
        try:
            _read_idx(home, name)
        except ValueError:
            # what is kept would be taken for the file the next time
            (home / f"{name}.gz").unlink(missing_ok=True)
            raise
    return home


def _read_idx(home: Path, name: str) -> NDArray[np.uint8]:
    """Return the array of one idx file of bytes, its decompressed bytes checked."""
    path = _stored(home, name) or home / name
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"data: {str(path)!r} is damaged ({error}); fetch it again") from None
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise ValueError(f"data: {str(path)!r} is damaged or no file of Fashion-MNIST; fetch it again")
    # two zero bytes, the type (8: bytes), the number of axes, then each length as a big-endian integer
    axes = content[3]
    shape = np.frombuffer(content, ">u4", count=axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape).copy()
