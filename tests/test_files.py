"""Only regular files are opened, and what their headers claim is checked before memory is taken."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from softmode.data import read_images
from softmode.exact.dictionary import parse_dictionary
from softmode.files import kind_of, read_arrays, read_json, regular_file, sha256
from softmode.lattice import ReceptiveField
from softmode.networks.edm2_files import read_edm2_pickle
from softmode.networks.load import classifier_inputs, load_classifier, load_model


def loop(path: Path) -> None:
    path.symlink_to(path)


NO_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "a pipe"),
    "directory": (lambda path: path.mkdir(), "a directory"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a device"),
    "loop": (loop, "symbolic links"),
    "nothing": (lambda path: None, "no such file"),
}
READERS: dict[str, Callable[[str], object]] = {
    "dictionary.npz": lambda path: parse_dictionary(path, 0, ReceptiveField.box(3)),
    "data.npz": lambda path: read_images(path, (1, 8, 8)),
    "weights.safetensors": load_model,
    "classifier.safetensors": load_classifier,
    "inputs.safetensors": classifier_inputs,
    "edm2.safetensors": lambda path: load_model(f"edm2:{path}"),
    "edm2.pkl": read_edm2_pickle,
    "edm.pkl": lambda path: load_model(f"edm:{path}"),
    "score_sde.pth": lambda path: load_model(f"score_sde:{path}"),
    "digest": sha256,
    "config.json": lambda path: read_json("config", path),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_regular_file_is_never_opened(kind: str, reader: str, tmp_path: Path) -> None:
    """A pipe would wait for ever and a device would never end; the message says what is there."""
    path = tmp_path / reader
    make, words = NO_FILES[kind]
    make(path)
    with pytest.raises(ValueError, match=r"^\w+: ") as error:
        READERS[reader](str(path))
    # of a directory that may be one of softmode train, the file inside is missing
    assert words in str(error.value) or (kind == "directory" and "no such file" in str(error.value))
    assert len(str(error.value)) <= 300


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000 + "b", "nul\0byte", "x" * 300 + ".npz"], ids=len)
@pytest.mark.parametrize("reader", READERS)
def test_names_that_no_file_can_have(reader: str, name: str) -> None:
    """Beyond 255 characters, beyond a path's length, or with a null byte."""
    with pytest.raises(ValueError, match=r"^\w+: ") as error:
        READERS[reader](name + ".npz" if reader == "dictionary.npz" else name)
    assert len(str(error.value)) <= 300
    assert "\n" not in str(error.value)


def test_a_regular_file_is_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    (tmp_path / "b").symlink_to(path)
    assert regular_file("x", str(path)) == path
    assert kind_of(tmp_path / "b") == "a file"
    # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "b") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def archive(path: Path, header: str, data: bytes = b"") -> None:
    """Write an npz file of one array x whose header is free."""
    content = io.BytesIO()
    content.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.npy", content.getvalue())


def header(descr: object, shape: object) -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n"


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (header("<f8", (2**62,)), bytes(8)),
        (header("<f8", (2**40, 2**40)), bytes(8)),
        (header("<f8", (0, 2**62)), b""),
        (header("<f8", (-1,)), bytes(8)),
        (header("<f8", (2.5,)), bytes(20)),
        (header("<f8", (2,)), bytes(8)),
        (header("<f8", (1,)), bytes(16)),
        (header("|O", (1,)), b"cposix\nsystem\n"),
        (header("<U2", (1,)), bytes(8)),
        (header([("a", "<f8")], (1,)), bytes(8)),
        (header("<M8[s]", (1,)), bytes(8)),
        ("(" * 60000, b""),
        ("{" + "'a': 1, " * 5000 + "}", b""),
    ],
    ids=["2**62", "2**80", "0 x 2**62", "-1", "2.5", "short", "long", "objects", "text", "structure", "dates", "deep",
         "huge"],
)  # fmt: skip
def test_arrays_that_are_none_are_refused(text: str, data: bytes, tmp_path: Path) -> None:
    """Whatever a header claims; nothing is unpickled."""
    archive(tmp_path / "a.npz", text, data)
    with pytest.raises(ValueError, match=r"^data: cannot read 'x' from") as error:
        read_arrays("data", tmp_path / "a.npz", ("x",), np.float32)
    assert len(str(error.value)) <= 300


def test_what_decompresses_to_far_more_is_refused(tmp_path: Path) -> None:
    """128 MiB of zeros in a file of 130 kB; 4 MiB of them are read."""
    for megabytes, fits in ((128, False), (4, True)):
        archive(tmp_path / "a.npz", header("|u1", (megabytes * 2**20,)), bytes(megabytes * 2**20))
        if fits:
            assert read_arrays("data", tmp_path / "a.npz", ("x",), np.float32)[0].shape == (4 * 2**20,)
            continue
        with pytest.raises(ValueError, match="has more than 67108864 bytes"):
            read_arrays("data", tmp_path / "a.npz", ("x",), np.float32)


def test_arrays_come_back_in_any_type_of_number(tmp_path: Path) -> None:
    """Also of the other byte order, in Fortran's order and beyond float32."""
    x = np.arange(6.0).reshape(2, 3)
    for given in (x, x.astype(">f8"), np.asfortranarray(x), x.astype(np.uint8), x.astype(bool)):
        np.savez(tmp_path / "a.npz", x=given)
        (found,) = read_arrays("data", tmp_path / "a.npz", ("x",), np.float32)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, given.astype(np.float32))
    np.savez(tmp_path / "a.npz", x=np.full(2, 1e300))
    assert np.isinf(read_arrays("data", tmp_path / "a.npz", ("x",), np.float32)[0]).all()


@pytest.mark.parametrize("content", [b"[]", b"null", b"{", b"\xff\xfe", b"[" * 10**5, b'{"a":' * 10**5, b"9" * 10**5])
def test_json_that_is_no_object_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"^config: cannot read") as error:
        read_json("config", tmp_path / "a.json")
    assert len(str(error.value)) <= 300
