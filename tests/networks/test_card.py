"""Weights on disk: what comes back, and what a damaged, foreign or hostile file does."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from helpers.errors import refused
from softmode.networks import card as module
from softmode.networks.card import Card, check_state, load_weights, read_tensors, save_weights, write_tensors
from softmode.networks.classifier import Classifier
from softmode.networks.unet import UNet

UNET = Card("unet", 1, (8, 12), 3, "Fashion-MNIST", "grey", "vp:1", 1e-3, 50.0, 2.0, 7, "softmode train", {"mean": 0.1})
CLASSIFIER = Card("classifier", 1, (8, 8), 10, "Fashion-MNIST", "grey", held_out={"t": [1e-3, 0.1], "accuracy": 0.9})


def network(card: Card) -> nn.Module:
    """A network with weights and buffers all different from those it starts with."""
    torch.manual_seed(0)
    built = card.build()
    with torch.no_grad():
        for value in built.state_dict().values():
            value.add_(torch.randn(value.shape).abs() if value.is_floating_point() else 41)
    return built


def statistics() -> dict[str, Tensor]:
    return {
        "spectrum": torch.rand(4, 8, 12),
        "exact": torch.rand(3, dtype=torch.float64),
        "images": torch.randint(0, 256, (5, 1, 8, 12), dtype=torch.uint8),
        "labels": torch.arange(5),
    }


def header(card: Card = UNET, **changes: object) -> dict[str, str]:
    """The metadata of a file; a field that is changed to None is left out."""
    fields = vars(card) | changes
    return {"softmode": json.dumps({name: value for name, value in fields.items() if value is not None})}


def half(built: nn.Module) -> dict[str, Tensor]:
    return {n: v.half() if v.is_floating_point() else v for n, v in built.state_dict().items()}


def message(path: Path, *words: str) -> str:
    with pytest.raises(ValueError, match=r"^weights: ") as caught:
        load_weights(path)
    text = str(caught.value)
    assert "\n" not in text
    for word in (str(path), *words):
        assert word in text
    return text


@pytest.mark.parametrize("card", [UNET, CLASSIFIER], ids=["unet", "classifier"])
def test_what_was_saved_comes_back(tmp_path: Path, card: Card) -> None:
    """Weights and buffers as half() of the originals, card and statistics as they were, ready to use."""
    original, extra = network(card), statistics()
    save_weights(tmp_path / "w.safetensors", original, card, extra)
    loaded, found, statistics_found = load_weights(tmp_path / "w.safetensors")
    assert found == card
    assert isinstance(loaded, UNet if card is UNET else Classifier)
    state = loaded.state_dict()
    assert state.keys() == original.state_dict().keys()
    for name, value in original.state_dict().items():
        assert state[name].dtype == value.dtype
        expected = value.half().float() if value.is_floating_point() else value
        assert torch.equal(state[name], expected), name
    assert statistics_found.keys() == extra.keys()
    for name, value in extra.items():
        assert statistics_found[name].dtype == value.dtype
        assert torch.equal(statistics_found[name], value), name
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_the_file_holds_half_precision(tmp_path: Path) -> None:
    """Two bytes a weight; a writing leaves the network as it was, in float32 and in training."""
    original = network(UNET)
    save_weights(tmp_path / "w.safetensors", original, UNET, {})
    tensors, metadata = read_tensors(tmp_path / "w.safetensors")
    assert {value.dtype for value in tensors.values()} == {torch.float16}
    assert set(metadata) == {"softmode"}
    assert {value.dtype for value in original.state_dict().values()} == {torch.float32}
    assert original.training


def test_weights_that_changed_on_disk_are_refused(tmp_path: Path) -> None:
    """One byte of a tensor, still a number, is enough; a file of before, without a digest, loads as it is."""
    path = tmp_path / "w.safetensors"
    write_tensors(path, {"x": torch.linspace(1, 2, 64), "y": torch.zeros(())}, {})
    content = bytearray(path.read_bytes())
    place = content.index(torch.linspace(1, 2, 64).numpy().tobytes()[:16])
    content[place + 40] ^= 1
    path.write_bytes(content)
    with refused("weights: .* is damaged: its tensors are not those that were written"):
        read_tensors(path)
    save_file({"x": torch.ones(3)}, path)
    assert torch.equal(read_tensors(path)[0]["x"], torch.ones(3))


def test_any_layout_of_memory_is_stored_alike(tmp_path: Path) -> None:
    """Channels-last and sliced tensors are written as what they are."""
    whole = torch.arange(96.0).reshape(4, 3, 2, 4)
    x = whole[1:3]
    write_tensors(tmp_path / "a", {"x": x}, {})
    write_tensors(tmp_path / "b", {"x": x.contiguous(memory_format=torch.channels_last)}, {})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert torch.equal(read_tensors(tmp_path / "b")[0]["x"], x)


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()], ids=["full disk", "interrupt"])
def test_a_writing_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """The file is the old one, and there is no other beside it."""
    path = tmp_path / "w.safetensors"
    write_tensors(path, {"x": torch.ones(3)}, {})
    before = path.read_bytes()

    def fail(_: int) -> None:
        raise error

    monkeypatch.setattr(module.os, "fsync", fail)
    with pytest.raises(type(error)):
        write_tensors(path, {"x": torch.zeros(3)}, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_appears_only_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its bytes are written the name is not there; who has the old file open goes on reading the old one."""
    path = tmp_path / "w.safetensors"
    seen: list[bool] = []
    monkeypatch.setattr(module.os, "fsync", lambda _: seen.append(path.exists()))
    write_tensors(path, {"x": torch.full((3,), 1.0)}, {})
    before = path.read_bytes()
    with path.open("rb") as reader:
        write_tensors(path, {"x": torch.full((3,), 2.0)}, {})
        assert reader.read() == before
    assert seen == [False, True]
    assert read_tensors(path)[0]["x"].tolist() == [2.0] * 3
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kept", [0, 4, 200, -1], ids=["empty", "length only", "half a header", "last byte"])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    """Wherever it ends."""
    path = tmp_path / "w.safetensors"
    save_weights(path, network(UNET), UNET, {})
    path.write_bytes(path.read_bytes()[:kept])
    message(path, "truncated")


def test_what_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    """A text file, a file of random bytes, a directory and a name that is not there."""
    text, noise = tmp_path / "notes.safetensors", tmp_path / "noise.safetensors"
    text.write_text("These are my notes on networks.\n" * 20)
    noise.write_bytes(bytes(range(256)) * 8)
    message(text, "no safetensors file")
    message(noise, "no safetensors file")
    message(tmp_path / "missing.safetensors", "is no file")
    message(tmp_path, "is no file")


class Hostile:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["torch.save", "pickle"])
def test_a_pickle_is_refused_and_never_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Whatever it is named; nothing that could execute it is called."""
    path, trace = tmp_path / "w.safetensors", tmp_path / "executed"
    if kind == "torch.save":
        torch.save({"weights": Hostile(trace)}, path)
    else:
        path.write_bytes(pickle.dumps(Hostile(trace)))

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(owner, name, forbidden)
    message(path, "no safetensors file")
    assert not trace.exists()


def test_a_file_without_a_card_is_refused(tmp_path: Path) -> None:
    """Someone else's safetensors file, with and without metadata of its own."""
    path = tmp_path / "w.safetensors"
    save_file(half(network(UNET)), path)
    message(path, "no softmode model card")
    save_file(half(network(UNET)), path, {"format": "pt"})
    message(path, "no softmode model card", "softmode train")


@pytest.mark.parametrize(
    "metadata",
    [
        {"softmode": "{'not': json"},
        {"softmode": "[1, 2]"},
        {"softmode": "null"},
        {"softmode": "{}"},
        header(size=None),
        header(size=8),
        header(channels=None),
        header(channels="one"),
        header(classes=-1),
        header(CLASSIFIER, classes=-1),
        header(surprise=1),
    ],
    ids=lambda metadata: metadata["softmode"][:1] + metadata["softmode"][-24:],
)
def test_a_damaged_card_is_refused(tmp_path: Path, metadata: dict[str, str]) -> None:
    """Not JSON, another shape, a field missing, of another type, impossible, or unknown."""
    path = tmp_path / "w.safetensors"
    save_file(half(network(UNET)), path, metadata)
    message(path, "no softmode model card")


@pytest.mark.parametrize("name", ["resnet", "UNet", "", None, ["unet"]])
def test_a_card_of_an_unknown_architecture_is_refused(tmp_path: Path, name: object) -> None:
    """Its name is in the message; it is not taken for one of the two."""
    path = tmp_path / "w.safetensors"
    save_file(half(network(CLASSIFIER)), path, {"softmode": json.dumps(vars(CLASSIFIER) | {"architecture": name})})
    message(path, "architecture", repr(name))


def test_a_card_of_the_other_architecture_is_refused(tmp_path: Path) -> None:
    """Weights of the U-Net under a card of the classifier."""
    path = tmp_path / "w.safetensors"
    save_file(half(network(UNET)), path, header(CLASSIFIER))
    message(path, "another architecture than Classifier", "lacks layers.0.weight", "and ")


def test_a_missing_an_extra_and_a_misshapen_tensor_are_named(tmp_path: Path) -> None:
    """With the key, and both shapes where they differ."""
    path = tmp_path / "w.safetensors"
    weights = half(network(UNET))
    save_file({name: value for name, value in weights.items() if name != "down1.bias"}, path, header())
    message(path, "lacks down1.bias")
    save_file(weights | {"attention.weight": torch.zeros(2)}, path, header())
    message(path, "has attention.weight, which the architecture lacks")
    save_file(weights | {"down1.bias": torch.zeros(65)}, path, header())
    message(path, "down1.bias is (65,) instead of (64,)")
    save_file(weights, path, header(classes=5))
    message(path, "label.weight is (4, 128) instead of (6, 128)")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, bad: float) -> None:
    """The tensor is named; one number is enough."""
    path = tmp_path / "w.safetensors"
    weights = half(network(UNET))
    weights["middle2.conv1.weight"][3, 5, 1, 2] = bad
    save_file(weights, path, header())
    message(path, "NaN or infinite values in middle2.conv1.weight")


def test_weights_beyond_half_precision_are_refused_when_they_are_loaded(tmp_path: Path) -> None:
    """A weight of 1e5 is infinite in float16, and does not come back as such."""
    path = tmp_path / "w.safetensors"
    original = network(UNET)
    with torch.no_grad():
        original.norm.bias[0] = 1e5
    save_weights(path, original, UNET, {})
    message(path, "norm.bias")


def test_a_state_that_fits_is_accepted_whatever_its_order() -> None:
    """And a long list of differences is cut after three."""
    built = network(CLASSIFIER)
    check_state(built, dict(reversed(built.state_dict().items())), "here")
    with pytest.raises(ValueError, match=r"'here' .*lacks layers.0.weight; .*; .* and \d+ more$"):
        check_state(built, {}, "here")
