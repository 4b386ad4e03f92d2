"""Fashion-MNIST: where it is looked for, what a byte becomes, and what damaged files say."""

import contextlib
import functools
import gc
import gzip
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.errors import refused
from softmode import data
from softmode.data import Images, fashion_mnist

TRAIN, TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"
LABELS = "train-labels-idx1-ubyte"
FILES = (TRAIN, LABELS, TEST, "t10k-labels-idx1-ubyte")


@functools.cache
def real(split: str = "train", values: str = "binary") -> Images:
    try:
        return fashion_mnist(split, values)
    except ValueError as error:
        pytest.skip(f"Fashion-MNIST is not on this machine: {error}")


def contents(shade: int) -> dict[str, bytes]:
    """Four tiny files in the idx format, written by hand: 3 training and 2 test images of 4x6 in one shade."""
    files = {}
    for prefix, count in (("train", 3), ("t10k", 2)):
        lengths = [number.to_bytes(4, "big") for number in (count, 4, 6)]
        images = bytes([0, 0, 8, 3]) + b"".join(lengths) + bytes([shade]) * (count * 24)
        labels = bytes([0, 0, 8, 1]) + lengths[0] + bytes(range(count))
        files |= {f"{prefix}-images-idx3-ubyte": images, f"{prefix}-labels-idx1-ubyte": labels}
    return files


def write(home: Path, shade: int, zipped: bool = False) -> None:
    home.mkdir(parents=True)
    for name, content in contents(shade).items():
        (home / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(content) if zipped else content)


def expect(monkeypatch: pytest.MonkeyPatch, shade: int) -> None:
    """Let the files of one shade be the published ones; those of another are then damaged."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents(shade).items()}
    monkeypatch.setattr(data, "SHA256", digests)


def message(*arguments: object, **options: object) -> str:
    with refused(r"^data: ") as caught:
        fashion_mnist("train", "grey", *arguments, **options)
    return str(caught.value)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in on a machine that has no Fashion-MNIST."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOFTMODE_DATA", raising=False)
    monkeypatch.setattr(data, "DEBIAN", tmp_path / "debian")
    return tmp_path


def test_the_published_files_have_ten_classes_of_equal_size() -> None:
    """60000 and 10000 images of 28x28, one channel; 6000 and 1000 of each class."""
    for split, count in (("train", 60000), ("test", 10000)):
        images = real(split)
        assert (len(images), images.shape) == (count, (1, 28, 28))
        assert torch.bincount(images.labels).tolist() == [count // 10] * 10
    assert len(data.CLASSES) == 10


def test_the_published_images_are_upright_and_labelled() -> None:
    """The first training image is an ankle boot: its sole is a bright row at the bottom, its top left is black."""
    images = real()
    assert data.CLASSES[int(images.labels[0])] == "Ankle boot"
    first = real().pixels[0, 0].float()
    assert first[24, 4:].mean() > 100
    assert first[:8, :8].max() == 0


def test_binary_images_have_the_mean_of_the_threshold_at_half() -> None:
    """Mean -0.3707: twice the share of published bytes above 127, minus one, and no value but -1 and +1."""
    pixels = real().pixels.numpy()
    white = np.count_nonzero(pixels > 127)
    assert round(2 * white / pixels.size - 1, 4) == -0.3707
    for some in torch.arange(pixels.shape[0]).split(4000):
        x = real().tensor(some)
        above = int(torch.count_nonzero(x == 1))
        assert above + int(torch.count_nonzero(x == -1)) == x.numel()
        white -= above
    assert white == 0


def test_every_byte_becomes_its_value() -> None:
    """Grey is linear with exact ends; binary is +1 from byte 128 = 0.502 of white, -1 up to 127 = 0.498."""
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    grey = Images(pixels, torch.zeros(1, dtype=torch.int64), "grey").tensor().flatten()
    assert grey.dtype == torch.float32
    assert (float(grey[0]), float(grey[255])) == (-1.0, 1.0)
    torch.testing.assert_close(grey.double(), 2 * torch.arange(256).double() / 255 - 1, rtol=0, atol=1e-7)
    binary = Images(pixels, torch.zeros(1, dtype=torch.int64), "binary").tensor().flatten()
    assert binary.dtype == torch.float32
    assert binary.tolist() == [-1.0] * 128 + [1.0] * 128


def test_some_images_are_chosen_by_index_or_from_the_start() -> None:
    """Indexing and `first` keep pixels, labels and values together."""
    pixels = torch.arange(5 * 2 * 3, dtype=torch.uint8).reshape(5, 1, 2, 3) * 8
    images = Images(pixels, torch.arange(5), "grey")
    torch.testing.assert_close(images.tensor(torch.tensor([4, 1])), images.tensor()[[4, 1]], rtol=0, atol=0)
    two = images.first(2).to(torch.device("cpu"))
    assert (len(two), two.shape, two.values) == (2, (1, 2, 3), "grey")
    assert two.labels.tolist() == [0, 1]
    assert torch.equal(two.pixels, pixels[:2])


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
def test_plain_and_gzipped_files_are_read_alike(nowhere: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    """The images have the lengths of the header, and each split its own files."""
    write(nowhere / "mine", shade=51, zipped=zipped)
    expect(monkeypatch, 51)
    for split, count in (("train", 3), ("test", 2)):
        images = fashion_mnist(split, "grey", nowhere / "mine")
        assert images.pixels.shape == (count, 1, 4, 6)
        assert images.pixels.unique().tolist() == [51]
        assert images.labels.tolist() == list(range(count))
        assert images.labels.dtype == torch.int64


def test_axes_are_in_the_order_of_the_file(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last axis of the file varies fastest, and is the last axis of an image."""
    write(nowhere / "mine", shade=0)
    content = contents(0)[TRAIN][:16] + bytes(range(72))
    (nowhere / "mine" / TRAIN).write_bytes(content)
    expect(monkeypatch, 0)
    monkeypatch.setitem(data.SHA256, TRAIN, hashlib.sha256(content).hexdigest())
    pixels = fashion_mnist("train", "grey", nowhere / "mine").pixels
    assert pixels[1, 0, 2].tolist() == list(range(36, 42))


def test_the_first_place_that_holds_the_files_is_used(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named directory, then SOFTMODE_DATA, Debian's package, torchvision's folder: each has other files."""
    places = {10: nowhere / "mine", 20: nowhere / "variable", 30: data.DEBIAN, 40: nowhere / "data/FashionMNIST/raw"}
    for shade, home in places.items():
        write(home, shade, zipped=shade == 30)
    monkeypatch.setenv("SOFTMODE_DATA", str(places[20]))

    def shade_found(shade: int, directory: str | None) -> bool:
        expect(monkeypatch, shade)
        return fashion_mnist("test", "grey", directory).pixels.unique().tolist() == [shade]

    assert shade_found(10, str(places[10]))
    assert shade_found(20, None)
    monkeypatch.delenv("SOFTMODE_DATA")
    assert shade_found(30, None)
    (data.DEBIAN / f"{LABELS}.gz").unlink()
    assert shade_found(40, None)


@pytest.mark.parametrize("variable", [False, True], ids=["directory", "SOFTMODE_DATA"])
def test_torchvisions_root_may_be_named(nowhere: Path, monkeypatch: pytest.MonkeyPatch, variable: bool) -> None:
    """The folder that torchvision is given has the files two folders below."""
    write(nowhere / "root/FashionMNIST/raw", 7)
    expect(monkeypatch, 7)
    if variable:
        monkeypatch.setenv("SOFTMODE_DATA", "root")
    assert len(fashion_mnist("train", "grey", None if variable else "root")) == 3


@pytest.mark.parametrize("variable", [False, True], ids=["directory", "SOFTMODE_DATA"])
def test_a_named_directory_that_lacks_a_file_is_refused(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, variable: bool
) -> None:
    """What was named is used or refused, with the missing file, though Debian's package is there."""
    write(nowhere / "mine", 1)
    write(data.DEBIAN, 1)
    expect(monkeypatch, 1)
    (nowhere / "mine" / LABELS).unlink()
    if variable:
        monkeypatch.setenv("SOFTMODE_DATA", "mine")
    words = message(None if variable else "mine", download=True)
    assert "'mine'" in words
    assert LABELS in words
    assert TEST not in words


def test_a_directory_that_does_not_exist_is_refused_by_name(nowhere: Path) -> None:
    """All four files are named."""
    words = message("no/such/folder")
    assert "'no/such/folder'" in words
    assert all(name in words for name in FILES)


def damage(path: Path, kind: str) -> None:
    content = bytearray(path.read_bytes())
    if kind == "truncated":
        del content[len(content) // 2 :]
    elif kind == "no trailer":
        del content[-8:]
    elif kind == "empty":
        content.clear()
    elif kind == "flipped byte":
        content[len(content) // 2] ^= 0xFF
    else:
        content[-1] ^= 0x01
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("kind", "zipped"),
    [
        ("truncated", True),
        ("no trailer", True),
        ("empty", True),
        ("flipped byte", True),
        ("last byte", True),
        ("truncated", False),
        ("empty", False),
        ("last byte", False),
    ],
)
def test_a_damaged_file_is_named(nowhere: Path, monkeypatch: pytest.MonkeyPatch, kind: str, zipped: bool) -> None:
    """One line that says which file, for gzip's errors and for bytes that are merely others."""
    write(nowhere / "mine", 1, zipped)
    expect(monkeypatch, 1)
    path = nowhere / "mine" / (f"{TRAIN}.gz" if zipped else TRAIN)
    damage(path, kind)
    words = message(nowhere / "mine")
    assert repr(str(path)) in words
    assert "damaged" in words
    assert len(fashion_mnist("test", "grey", nowhere / "mine")) == 2


def test_a_flipped_byte_anywhere_in_a_gzipped_file_is_an_error_or_harmless(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever byte is hit, no other exception gets out, and no other image comes in."""
    write(nowhere / "mine", 1, zipped=True)
    expect(monkeypatch, 1)
    path = nowhere / "mine" / f"{TRAIN}.gz"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        # a time or a name in gzip's header may change, an image may not
        harmless = None
        with contextlib.suppress(ValueError):
            harmless = fashion_mnist("train", "grey", nowhere / "mine").pixels.unique().tolist()
        assert harmless in (None, [1])


def test_without_any_files_the_message_names_every_way(nowhere: Path) -> None:
    """The option, the variable, the package and the download."""
    words = message()
    for way in ("--data", "SOFTMODE_DATA", "dataset-fashion-mnist", "--download"):
        assert way in words


class Server:
    """Files served on this machine, with what was asked for."""

    def __init__(self, home: Path) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_request(self, *_: object) -> None:
                asked.append(self.path.strip("/"))

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(home)))
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    pooch = pytest.importorskip("pooch")
    write(nowhere / "served", 5, zipped=True)
    expect(monkeypatch, 5)
    server = Server(nowhere / "served")
    monkeypatch.setattr(data, "ORIGIN", server.url)
    monkeypatch.setattr(pooch, "os_cache", lambda project: nowhere / "cache" / project)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.server.shutdown()
    server.server.server_close()


def test_nothing_is_fetched_unless_asked(nowhere: Path, server: Server) -> None:
    """Without download=True no request is made."""
    assert "--download" in message()
    assert server.asked == []


def test_a_download_is_kept(nowhere: Path, server: Server) -> None:
    """The four files are fetched once; the second call reads the cache."""
    for _ in range(2):
        assert fashion_mnist("train", "grey", download=True).pixels.unique().tolist() == [5]
        assert sorted(server.asked) == sorted(f"{name}.gz" for name in FILES)
    assert {path.name for path in (nowhere / "cache/softmode/fashion-mnist").iterdir()} == set(server.asked)


def test_files_on_the_machine_are_not_downloaded(nowhere: Path, server: Server) -> None:
    """download=True is for files that are nowhere."""
    write(nowhere / "data", 5)
    assert len(fashion_mnist("train", "grey", download=True)) == 3
    assert server.asked == []


def test_a_download_with_other_content_is_refused_and_not_kept(nowhere: Path, server: Server) -> None:
    """The message names the file; once the server has the right one, the same call works."""
    right = (nowhere / "served" / f"{LABELS}.gz").read_bytes()
    (nowhere / "served" / f"{LABELS}.gz").write_bytes(b"<html>Please log in to this network</html>")
    words = message(download=True)
    assert f"{LABELS}.gz" in words
    assert "damaged" in words
    (nowhere / "served" / f"{LABELS}.gz").write_bytes(right)
    assert len(fashion_mnist("train", "grey", download=True)) == 3


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_download_that_fails_says_which_and_what_else_to_do(
    nowhere: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that the server lacks, and a server that is not there."""
    (nowhere / "served" / f"{TEST}.gz").unlink()
    words = message(download=True)
    assert f"{server.url}{TEST}.gz" in words
    assert "--data" in words
    monkeypatch.setattr(data, "ORIGIN", "http://127.0.0.1:9/")
    assert f"http://127.0.0.1:9/{TEST}.gz" in message(download=True)
    gc.collect()  # pooch leaves the connection of a refused request to the garbage collector, which warns
