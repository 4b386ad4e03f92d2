"""The digests of a model's files: they change with any byte that is read, and with nothing else."""

import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from softmode.files import sha256
from softmode.model import Model
from softmode.networks.card import Card, save_weights
from softmode.networks.classifier import Classifier
from softmode.networks.edm2 import EDM2, EDM2Config
from softmode.networks.folder import folder_digest
from softmode.networks.load import CLASSIFIERS, MODELS, classifier_inputs, load_model
from softmode.networks.shipped import SHIPPED, shipped_names
from softmode.networks.unet import UNet
from softmode.process import VE


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_family_is_there() -> None:
    """A line of the table names functions that exist."""
    for family in (*MODELS.values(), *CLASSIFIERS.values()):
        assert callable(family.function(family.load))
    for family in CLASSIFIERS.values():
        assert callable(family.function(family.inputs))


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_weights_are_those_of_their_file(name: str) -> None:
    path = SHIPPED / f"{name}.safetensors"
    inputs = classifier_inputs(name) if name.endswith("classifier") else load_model(name).inputs
    assert inputs == {"weights": digest(path)}


def test_other_weights_have_another_digest(tmp_path: Path) -> None:
    """Of softmode's own networks and classifiers, by path and by directory alike."""
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        path = tmp_path / "weights.safetensors"
        save_weights(path, UNet(1), Card("unet", 1, (8, 8), 0, "toys", "binary", "vp:1"), {})
        found.append(load_model(str(path)).inputs)
        assert found[-1] == load_model(str(tmp_path)).inputs == {"weights": digest(path)}
    assert found[0] != found[1]
    save_weights(tmp_path / "c.safetensors", Classifier(1, 3), Card("classifier", 1, (8, 8), 3, "toys", "grey"), {})
    assert classifier_inputs(str(tmp_path / "c.safetensors")) == {"weights": digest(tmp_path / "c.safetensors")}


def test_an_edm2_file_is_its_bytes(tmp_path: Path) -> None:
    config = EDM2Config(8, 1, 2, model_channels=8, channel_mult=(1,), num_blocks=1, attn_resolutions=())
    path = tmp_path / "e.safetensors"
    save_file(EDM2(config).state_dict(), path, {"edm2": json.dumps(asdict(config))})
    assert load_model(f"edm2:{path}").inputs == {"weights": digest(path)}


def test_a_function_is_its_module_s_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another number in the same function is another model; digests that the model itself tells are kept."""
    monkeypatch.chdir(tmp_path)
    source, found = tmp_path / "zoo_of_inputs.py", []
    for factor in (2, 3):
        source.write_text(f"def half():\n    return lambda x, sigma: x / {factor}\n# {'#' * factor}\n")
        sys.modules.pop("zoo_of_inputs", None)
        found.append(load_model("python:zoo_of_inputs:half", "ve", (1, 4, 4)).inputs)
        assert found[-1] == {"source": digest(source)}
    assert found[0] != found[1]
    source.write_text(
        "import softmode as sm\n\ndef told():\n"
        "    return sm.Model('told', sm.VE(), (1, 4, 4), lambda label: None, inputs={'table': 'ab'})\n"
    )
    sys.modules.pop("zoo_of_inputs")
    assert load_model("python:zoo_of_inputs:told").inputs == {"table": "ab", "source": digest(source)}
    sys.modules.pop("zoo_of_inputs")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("python:json:loads", r"failed when it was called without arguments \(TypeError: loads\(\) missing 1 required"),
        ("python:zoo_that_fails:fails", r"failed when it was called without arguments \(KeyError: 'here'\)"),
        ("python:zoo_that_fails:leaves", r"failed when it was called without arguments \(SystemExit: 3\)"),
        ("python:zoo_that_fails:number", "returned int; expected a Denoiser"),
        ("python:zoo_of_errors:any", r"cannot import 'python:zoo_of_errors:any' \(ZeroDivisionError"),
        ("python:zoo_of_syntax:any", r"cannot import 'python:zoo_of_syntax:any' \(SyntaxError"),
        ("python:.:f", "cannot import"),
        ("python:::", "expected python:module:function"),
    ],
)
def test_a_user_s_code_that_fails_is_told_in_one_line(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it raises, and whichever function is named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo_that_fails.py").write_text(
        "def fails():\n    return {}['here']\n\ndef leaves():\n    raise SystemExit(3)\n\ndef number():\n    return 3\n"
    )
    (tmp_path / "zoo_of_errors.py").write_text("1 / 0\n")
    (tmp_path / "zoo_of_syntax.py").write_text("def f(:\n")
    with pytest.raises(ValueError, match=f"^model: .*{message}") as error:
        load_model(source, "ve", (1, 4, 4))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) <= 300
    sys.modules.pop("zoo_that_fails", None)


def test_a_pipeline_is_its_parts(tmp_path: Path) -> None:
    """Another scheduler is another scheduler; a file that is not read changes nothing."""
    network = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8,), norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip
    network.save_pretrained(tmp_path / "unet")
    diffusers.DDPMScheduler().save_pretrained(tmp_path / "scheduler")
    index = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDPMScheduler"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    before = load_model(f"diffusers:{tmp_path}").inputs
    assert before.keys() == {"network", "scheduler"}
    (tmp_path / "unet" / "README.md").write_text("read me")
    assert load_model(f"diffusers:{tmp_path}").inputs == before
    diffusers.DDPMScheduler(beta_end=0.03).save_pretrained(tmp_path / "scheduler")
    after = load_model(f"diffusers:{tmp_path}").inputs
    assert after["network"] == before["network"]
    assert after["scheduler"] != before["scheduler"]


def test_a_directory_s_digest_is_of_names_and_bytes(tmp_path: Path) -> None:
    """A file of another name or of other bytes makes another directory; a pipe in it is refused."""
    import os

    (tmp_path / "a.json").write_text("1")
    (tmp_path / "b.json").write_text("2")
    before = folder_digest("model", tmp_path)
    assert before == folder_digest("model", tmp_path)
    (tmp_path / "b.json").rename(tmp_path / "c.json")
    renamed = folder_digest("model", tmp_path)
    (tmp_path / "c.json").write_text("3")
    assert len({before, renamed, folder_digest("model", tmp_path)}) == 3
    os.mkfifo(tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match="is no file"):
        folder_digest("model", tmp_path)


def test_a_model_of_one_s_own_has_none() -> None:
    assert Model("mine", VE(), (1, 4, 4), lambda _label: lambda x, sigma: x).inputs == {}
    assert sha256(Path(__file__)) == digest(Path(__file__))
