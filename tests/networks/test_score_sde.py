"""Checkpoints of score_sde give the official network's numbers; any other network is refused by name."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import score_sde
from helpers.formula import waves
from helpers.pickles import Call, deep
from helpers.score_sde import PYRAMID, VE, VP, changed, weights, write
from softmode.networks.load import load_model
from softmode.process import process_name

CONFIGS = {"VP": VP, "VE": VE, "PYRAMID": PYRAMID}


def refused(path: Path, *words: str) -> None:
    with pytest.raises(ValueError, match=r"^(weights|config): ") as error:
        load_model(f"score_sde:{path}")
    text = str(error.value)
    assert text.isprintable()
    assert len(text) <= 300
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("VP", [-0.1352230388, 3.669453053, 0.5601080407, 0.1857865495, -2.318088957, 3.448453522]),
        ("VE", [0.2086320786, 3.70167297, 1.656797966, -1.726704352, 2.285398201, 10.44085746]),
        ("PYRAMID", [-0.6251879179, 3.120107118, 1.166612166, -0.8612244735, -2.251769438, 6.311865065]),
    ],
)
def test_the_official_score_gives_these_numbers(name: str, expected: list[float], tmp_path: Path) -> None:
    """Mean, deviation and four entries of x + sigma^2 score by models/ of score_sde_pytorch, in float64.

    Its states are those of its own process, exp(-B/2) x of VP and (x + 1)/2 of VE. The averaged weights are used, and
    not those beside them.
    """
    write(tmp_path / "net.pth", CONFIGS[name])
    model = load_model(f"score_sde:{tmp_path / 'net.pth'}", dtype=torch.float64)
    d = model.denoiser()(2 * waves((2, 2, 8, 8), 0.5), torch.tensor([0.3, 2.0], dtype=torch.float64))
    found = [d.mean(), d.std(), d[0, 0, 0, 0], d[0, -1, 3, 5], d[1, 0, 7, 2], d[1, -1, 4, 4]]
    assert [float(value) for value in found] == pytest.approx(expected, abs=5e-6)
    assert (model.shape, model.classes, process_name(model.process)) == ((2, 8, 8), 0, "ve")
    assert model.levels == pytest.approx((0.0010005, 152.167) if name == "VP" else (0.02, 100.0), rel=1e-4)
    assert set(model.inputs) == {"weights", "config"}


def test_it_is_sampled_in_the_process_that_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "net.pth", VP)
    model = load_model(f"score_sde:{tmp_path / 'net.pth'}", "vp-linear:0.1:20")
    assert process_name(model.process) == "vp-linear:0.1:20.0"


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        (VP, "sde", "subvpsde"), (VP, "sde", ["vpsde"]), (VP, "continuous", False), (VP, "centered", False),
        (VE, "centered", True), (VP, "name", "ddpm"), (VP, "conditional", False), (VP, "nonlinearity", "elu"),
        (VP, "resblock_type", "ddpm"), (VP, "skip_rescale", False), (VP, "skip_rescale", 1),
        (VP, "progressive", "residual"), (PYRAMID, "progressive_combine", "cat"), (VP, "embedding_type", "fourier"),
        (VE, "embedding_type", "positional"), (VE, "scale_by_sigma", False), (VP, "scale_by_sigma", True),
        (VE, "fir", False),
    ],
)  # fmt: skip
def test_networks_of_another_kind_are_refused_by_name(
    config: dict[str, dict[str, Any]], name: str, value: object, tmp_path: Path
) -> None:
    """By the entry of the config that tells; what it would take to read them is not guessed."""
    write(tmp_path / "net.pth", config)
    (tmp_path / "net.json").write_text(json.dumps(changed(config, **{name: value})))
    refused(tmp_path / "net.pth", "config: ", f".{name} is ", "expected")


@pytest.mark.parametrize("section", VP)
def test_every_entry_that_is_needed_is_asked_for(section: str, tmp_path: Path) -> None:
    """Without one, the config is refused by its name, or the entry is one that changes nothing."""
    write(tmp_path / "net.pth", VP)
    for name in VP[section]:
        if name in ("sigma_min", "sigma_max", "num_scales"):
            continue
        rest = {k: v for k, v in VP[section].items() if k != name}
        (tmp_path / "net.json").write_text(json.dumps(VP | {section: rest}))
        refused(tmp_path / "net.pth", f"lacks {section}.{name}; write all of it")
    (tmp_path / "net.json").write_text(json.dumps(VP | {section: [1]}))
    refused(tmp_path / "net.pth", f"lacks {section}.")


def test_a_checkpoint_without_its_config_says_how_to_write_it(tmp_path: Path) -> None:
    write(tmp_path / "net.pth", VP)
    (tmp_path / "net.json").unlink()
    refused(tmp_path / "net.pth", "does not say what its network is", "get_config().to_json_best_effort()")
    (tmp_path / "net.json").write_text("[" * 10**5)
    refused(tmp_path / "net.pth", "config: ", "nested too deeply")
    refused(tmp_path / "none.pth", "weights: ", "is no file")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("nf", 16, "is of another architecture than EDM"), ("num_res_blocks", 2, "is of another architecture than EDM"),
        ("attn_resolutions", [8], "is of another architecture than EDM"),
        ("progressive_input", "none", "is of another architecture than EDM"),
        ("sigma_max", 90, "model.sigma_max is 90 in the config and 50 in the checkpoint"),
        ("sigma_min", "x", "cannot use"), ("nf", 10**9, "model_channels: got 1000000000"), ("nf", None, "cannot use"),
        ("image_size", 9, "img_resolution: got 9; expected a multiple of 2"),
        ("ch_mult", [0, 2], "channel_mult: got 0"),
    ],
)  # fmt: skip
def test_a_config_of_another_network_does_not_fit(name: str, value: object, words: str, tmp_path: Path) -> None:
    write(tmp_path / "net.pth", VE)
    (tmp_path / "net.json").write_text(json.dumps(changed(VE, **{name: value})))
    refused(tmp_path / "net.pth", words)


# a tensor that is in many places
MANY = torch.zeros(10**4)


def averages(change: Callable[[list[Tensor]], list[Any]]) -> dict[str, Any]:
    values = [value.float() for value in weights(VP).values()]
    return {"ema": {"decay": 0.999, "shadow_params": change(values)}}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"ema": {}}, "lacks a model or averaged weights"), ({"ema": None}, "lacks a model or averaged weights"),
        ({"model": {}}, "lacks a model or averaged weights"), (averages(lambda v: v[1:]), "in their order"),
        (averages(lambda v: [v[1], v[0], *v[2:]]), "in their order"), (averages(lambda v: [3, *v]), "lacks a model or"),
        ({"model": dict.fromkeys(map(str, range(99)), MANY), "ema": {"shadow_params": [MANY] * 99}}, "more bytes than"),
        (averages(lambda v: [v[0] * torch.nan, *v[1:]]), "has NaN or infinite values in model.map_layer0.weight"),
    ],
)  # fmt: skip
def test_checkpoints_that_lack_their_averages_are_refused(entries: dict[str, Any], words: str, tmp_path: Path) -> None:
    write(tmp_path / "net.pth", VP, **entries)
    refused(tmp_path / "net.pth", words)


def rewritten(content: bytes, change: Callable[[str, bytes], bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive whose entries are changed."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)), kind)
    return file.getvalue()


def pickled(content: bytes) -> Callable[[bytes], bytes]:
    """Return what puts another pickle into an archive."""
    return lambda archive: rewritten(archive, lambda name, old: content if name.endswith("data.pkl") else old)


def flipped(archive: bytes) -> bytes:
    """Return an archive in which the last byte of the numbers of an average is another."""
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        # of the first average, which the optimiser and the averages hold
        entry = file.getinfo(next(name for name in file.namelist() if name.endswith("data/0")))
        numbers = file.read(entry)
    start = archive.index(numbers)
    return archive[:start] + bytes([archive[start] ^ 1]) + archive[start + 1 :]


HOSTILE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "os.system": (pickled(pickle.dumps(Call(os.system, "touch ran"))), "names posix.system"),
    "builtins.eval": (pickled(pickle.dumps(Call(eval, "open('ran', 'w')"))), "names builtins.eval"),
    "torch.load inside": (pickled(pickle.dumps(Call(torch.load, "x"))), "names torch.serialization.load"),
    "deep recursion": (pickled(deep(200_000)), "cannot use"),
    "a memo beyond the file": (pickled(b"\x80\x04Nr\xff\xff\xff\xff."), "a memo place"),
    "another identifier": (pickled(b"\x80\x02K\x01Q."), "truncated or damaged"),
    "another object": (pickled(pickle.dumps([1])), "list where entries by name belong"),
    "a compressed one": (lambda a: rewritten(a, lambda _, old: old, zipfile.ZIP_DEFLATED), "a compressed pickle"),
    "shorter storages": (lambda a: rewritten(a, lambda name, old: old[:-4] if "/data/" in name else old), " numbers)"),
    "the other byte order": (
        lambda a: rewritten(a, lambda name, old: b"big" if name.endswith("byteorder") else old),
        "another byte order",
    ),
    "no pickle": (lambda a: rewritten(a, lambda name, old: old).replace(b"data.pkl", b"data.txt"), "no archive"),
    "damaged numbers": (flipped, "Bad CRC-32"),
    "a truncated one": (lambda a: a[: len(a) // 2], "truncated or no archive of torch.save"),
    "nothing": (lambda _: b"", "truncated or no archive of torch.save"),
    "a pickle alone": (
        lambda _: pickle.dumps({"model": 1}),
        "name an official pickle of EDM edm:FILE",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_in_one_line(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of them runs, and the message names what was found."""
    monkeypatch.chdir(tmp_path)
    write(Path("net.pth"), VP)
    change, words = HOSTILE[kind]
    Path("net.pth").write_bytes(change(Path("net.pth").read_bytes()))
    refused(Path("net.pth"), "weights: ", words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.json", "net.pth"]


def test_only_the_averages_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the weights beside them and of the optimiser's state, three quarters of a file, no number."""
    from softmode.networks import torch_archive

    read, numbers = list[str](), torch_archive._numbers

    def counted(path: Path, entry: str, dtype: torch.dtype) -> Tensor:
        read.append(entry)
        return numbers(path, entry, dtype)

    monkeypatch.setattr(torch_archive, "_numbers", counted)
    score_sde.write(tmp_path / "net.pth", VP)
    load_model(f"score_sde:{tmp_path / 'net.pth'}")
    assert len(read) == len(set(read)) == len(weights(VP))
