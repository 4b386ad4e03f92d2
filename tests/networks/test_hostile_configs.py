"""Descriptions of networks that are absurd or of wrong types are refused before anything is built of them."""

import json
import math
import pickle
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from softmode.networks import card as cards
from softmode.networks.card import Card, load_weights
from softmode.networks.edm2 import EDM2, EDM2Config
from softmode.networks.edm2_files import as_config, load_edm2
from softmode.networks.inert_pickle import Held, view
from softmode.networks.load import load_model

CONFIG = EDM2Config(16, 3, 5, model_channels=16, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(8,),
                    channels_per_head=8)  # fmt: skip
EDM2_FIELDS: list[tuple[str, Any]] = [
    *(("channel_mult", value) for value in ([-1, 2], "12", [], [1, 200], [1, 2.0], [True, 2], [[1], 2], 3, None)),
    ("channel_mult", [1] * 9),
    *(("model_channels", value) for value in (6000, 16.5, 0, -16, "16", True, 2**62, 10**400)),
    *((name, 10**9) for name in ("label_dim", "logvar_channels", "img_channels", "img_resolution")),
    ("channels_per_head", 10**9),
    *(("num_blocks", value) for value in (10**5, math.inf, 0, math.nan)),
    *(("channels_per_head", value) for value in (0, 6, -8)),
    *(("sigma_data", value) for value in (math.nan, 0, -1, math.inf, "0.5", 1e300)),
    *(("clip_act", value) for value in (math.nan, 0, 10**400)),
    *((name, 1.5) for name in ("label_balance", "concat_balance", "res_balance", "attn_balance")),
    ("attn_resolutions", [8] * 10**5), ("attn_resolutions", {"8": 1}), ("channel_mult_noise", 10**6),
    ("channel_mult_emb", -1), ("surprise", 1), ("\n\x1b[31m" + "x" * 10**5, 1),
]  # fmt: skip


def refused(path: str | Path, *words: str, load: Any = load_weights) -> str:
    """Return the message that a file is refused with, a short line."""
    with pytest.raises(ValueError, match=r"^\w+: ") as error:
        load(path)
    text = str(error.value)
    assert text.isprintable()
    assert len(text) <= 300
    for word in words:
        assert word in text
    return text


@pytest.fixture
def never_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test fail if a network is built, on whatever device."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("built")

    monkeypatch.setattr(cards, "build", fail)
    monkeypatch.setattr("softmode.networks.edm2_files.build", fail)


@pytest.mark.usefixtures("never_built")
@pytest.mark.parametrize(("name", "value"), EDM2_FIELDS, ids=lambda value: str(value)[:20] if value != 10**400 else "")
def test_an_absurd_edm2_config_is_refused(name: str, value: object, tmp_path: Path) -> None:
    """In a pickle's arguments and in the metadata of a safetensors file alike; the field is named."""
    given = {**asdict(CONFIG), name: value}
    with pytest.raises(ValueError, match=r"\w") as error:
        as_config(given)
    assert len(str(error.value)) <= 300
    if value == 10**400:
        return
    save_file({"a": torch.zeros(1)}, tmp_path / "e.safetensors", {"edm2": json.dumps(given)})
    refused(tmp_path / "e.safetensors", *([name] if name.isprintable() else []), load=load_edm2)


@pytest.mark.usefixtures("never_built")
@pytest.mark.parametrize("name", ["img_resolution", "img_channels", "label_dim"])
def test_a_needed_field_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"lacks {name}"):
        as_config({key: value for key, value in asdict(CONFIG).items() if key != name})


@pytest.mark.usefixtures("never_built")
@pytest.mark.parametrize(
    "text",
    ["[" * 10**5, '{"a":' * 10**5, "9" * 10**5, "null", "[]", "3", "{", '"x"', "1e999"],
    ids=lambda text: text[:8],
)  # fmt: skip
@pytest.mark.parametrize("key", ["softmode", "edm2"])
def test_metadata_that_are_no_object_are_refused(key: str, text: str, tmp_path: Path) -> None:
    """Nested too deeply for the parser, a number of too many digits, or something else than an object."""
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", {key: text})
    refused(tmp_path / "w.safetensors", load=load_weights if key == "softmode" else load_edm2)


CARD = Card("unet", 1, (8, 8), 3, "toys", "binary", "vp:1", 1e-3, 50.0, 2.0)


@pytest.mark.usefixtures("never_built")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("classes", value) for value in (10**7, -1, 3.0, True, "3", None, [3], 2**62)),
        *(("channels", value) for value in (0, -1, 10**9, 1.5, True, "1", None)),
        *(("size", value) for value in ([8], [8, 8, 8], [8, 10**6], [0, 8], [8.0, 8], "88", {"8": 8}, 8, [True, 8])),
        *(("values", value) for value in ("Binary", "", None, 3, ["binary"], "x" * 10**5)),
        *(("schedule", value) for value in (3, None, ["vp:1"], "v" * 10**5)),
        *(("t_max", value) for value in (math.nan, math.inf, -1, "50", None, True)),
        *(("epochs", value) for value in (math.nan, "2", None, -1)),
        *(("held_out", value) for value in ([], "x", None, 3)), ("made", [1]), ("seed", 1.5), ("seed", 2**70),
        ("data", 3), ("command", ["softmode"]), ("surprise", 1), ("architecture", {"a": 1}),
        ("architecture", "x" * 10**5),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_an_absurd_card_is_refused(name: str, value: object, tmp_path: Path) -> None:
    save_file(
        {"a": torch.zeros(1)}, tmp_path / "w.safetensors", {"softmode": json.dumps({**asdict(CARD), name: value})}
    )
    refused(tmp_path / "w.safetensors", "no softmode model card", name)


@pytest.mark.parametrize("schedule", ["", "vp:0", "vp:nan", "cosine", "vp:1:2:3", "\x1b[31m"])
def test_a_schedule_that_is_none_is_refused(schedule: str, tmp_path: Path) -> None:
    network = CARD.build()
    fields = {**asdict(CARD), "schedule": schedule}
    save_file(network.state_dict(), tmp_path / "w.safetensors", {"softmode": json.dumps(fields)})
    refused(str(tmp_path / "w.safetensors"), "has a card that cannot be used", "schedule", load=load_model)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.labels": None}, "data.images or data.labels alone"),
        ({"data.mean": None}, "alone; expected both"),
        ({"data.spectrum": torch.ones(2, 8, 8)}, "expected (4, 8, 8) torch.float32"),
        ({"data.mean": torch.full((4, 1, 8, 8), torch.nan)}, "NaN or infinite values in data.mean"),
        ({"data.images": torch.zeros(5, 1, 8, 8)}, "expected (5, 1, 8, 8) torch.uint8"),
        ({"data.images": torch.zeros(5, 2, 8, 8, dtype=torch.uint8)}, "expected (5, 1, 8, 8) torch.uint8"),
        ({"data.labels": torch.zeros(4, dtype=torch.int64)}, "expected (5,) torch.int64"),
        ({"data.other": torch.zeros(1)}, "expected one of spectrum"),
    ],
)
def test_statistics_that_are_not_the_card_s_are_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    """A missing, misshapen or mistyped tensor beside the weights is found when they are loaded, not when it is used."""
    data = {
        "data.spectrum": torch.ones(4, 8, 8), "data.mean": torch.zeros(4, 1, 8, 8),
        "data.images": torch.zeros(5, 1, 8, 8, dtype=torch.uint8), "data.labels": torch.arange(5) % 3,
    }  # fmt: skip
    tensors = {**CARD.build().state_dict(), **data}
    save_file(tensors, tmp_path / "w.safetensors", {"softmode": json.dumps(asdict(CARD))})
    assert load_model(str(tmp_path / "w.safetensors")).images is not None
    changed = {name: value for name, value in {**tensors, **changes}.items() if value is not None}
    save_file(changed, tmp_path / "w.safetensors", {"softmode": json.dumps(asdict(CARD))})
    refused(str(tmp_path / "w.safetensors"), words, load=load_model)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_weights_of_another_type_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = CARD.build().state_dict()
    tensors["norm.bias"] = torch.zeros(64).to(dtype)
    save_file(tensors, tmp_path / "w.safetensors", {"softmode": json.dumps(asdict(CARD))})
    refused(tmp_path / "w.safetensors", "norm.bias is of")


def test_memory_is_taken_only_for_weights_that_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A config of the largest network beside weights of a small one: built on the meta device, which has no memory."""
    large = EDM2Config(64, 3, 1000, model_channels=2048)
    taken: list[object] = []
    monkeypatch.setattr(torch.nn.Module, "to_empty", lambda *_, **__: taken.append(1))
    save_file(EDM2(CONFIG).state_dict(), tmp_path / "e.safetensors", {"edm2": json.dumps(asdict(large))})
    refused(tmp_path / "e.safetensors", "of another architecture than EDM2", load=load_edm2)
    assert not taken


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (2**62,), (1,)), (0, (2**31, 2**31), (0, 0)), (0, (2**62, 4), (0, 1)), (0, (0, 2**62), (1, 1)),
        (0, (2, 2), (2,)), (0, (4,), ()), (0, (4,), (2**62,)), (1, (4,), (1,)), (2**62, (1,), (1,)), (-1, (1,), (1,)),
        (0, (-1,), (1,)), (0, (2,), (-1,)), (0, (2.0,), (1,)), (0, (True,), (1,)), (0, "4", "1"),
        (0, (1,) * 9, (1,) * 9),
        (None, (1,), (1,)),
    ],
)  # fmt: skip
def test_a_tensor_lies_within_its_storage(offset: Any, size: Any, stride: Any) -> None:
    """A view that is absurd is refused by its numbers; torch is never asked for it."""
    make: Any = getattr(view, "__wrapped__", view)
    with pytest.raises((ValueError, TypeError)):
        make(Held(torch.zeros(4)), offset, size, stride)
    assert torch.equal(make(Held(torch.arange(4.0)), 1, (1, 2), (9 - 9, 2)).tensor, torch.tensor([[1.0, 3.0]]))


class Made:
    """Pickles as a record of the official code, which is not here."""

    def __init__(self, state: dict[str, Any], name: str) -> None:
        self.state, self.name = state, name

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, ({"class_name": self.name, "state": self.state},)


def pickled(state: dict[str, Any], name: str, path: Path) -> None:
    """Write a pickle of a network's record; the container's name is replaced by that of the official function."""
    content = pickle.dumps(Made(state, name), 2)
    found, official = b"ccollections\nOrderedDict\n", b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n"
    assert content.count(found) == 1
    path.write_bytes(content.replace(found, official))


@pytest.mark.parametrize(("family", "name"), [("edm2", "Precond"), ("edm", "EDMPrecond")])
@pytest.mark.parametrize(
    "state",
    [
        {"_init_kwargs": 5}, {"_init_kwargs": [1, 2]}, {"_init_kwargs": {1: 2, "a": 3}}, {"_init_args": (1,)},
        {"_init_kwargs": {**asdict(CONFIG), "channel_mult": [[[[[1]]]]]}}, {"_parameters": 5}, {"_modules": [1]},
        {"_buffers": {("a",) * 3: 1}}, {"_init_kwargs": {"x" * 10**5: 1}}, {},
    ],
    ids=lambda state: str(state)[:24],
)  # fmt: skip
def test_a_record_of_anything_else_is_refused(state: dict[str, Any], family: str, name: str, tmp_path: Path) -> None:
    """State that is no mapping by name, and arguments that are none."""
    pickled(state, name, tmp_path / "net.pkl")
    refused(f"{family}:{tmp_path / 'net.pkl'}", "weights: ", load=load_model)


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"block_out_channels": [2**62, 16]}), ("config.json", {"layers_per_block": 10**5}),
        ("config.json", {"sample_size": 10**6}), ("config.json", {"in_channels": None}),
        ("config.json", {"in_channels": "1"}), ("config.json", {"norm_eps": math.nan}),
        ("config.json", {"block_out_channels": [10**6, 10**6]}), ("config.json", {"num_class_embeds": 10**6}),
        ("config.json", {"_class_name": "DiffusionPipeline"}), ("config.json", {"_class_name": ["UNet2DModel"]}),
        ("config.json", {"_class_name": "logging"}), ("config.json", {"down_block_types": "x" * 10**5}),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**12}),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": -1}),
        ("scheduler/scheduler_config.json", {"beta_schedule": "nothing"}),
        ("scheduler/scheduler_config.json", {"beta_end": math.inf}),
        ("scheduler/scheduler_config.json", {"_class_name": "UNet2DModel"}),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_an_absurd_directory_of_diffusers_is_refused(file: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """One line, before a network of such sizes takes memory."""
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    network.save_pretrained(tmp_path)
    diffusers.DDPMScheduler().save_pretrained(tmp_path / "scheduler")
    path = tmp_path / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    refused(f"diffusers:{tmp_path}", load=load_model)
