"""Official EDM2 pickles are read without running them, directly and by way of safetensors."""

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.models import assert_takes_labels_together
from helpers.pickles import official
from softmode.cli import main
from softmode.networks.edm2 import EDM2, EDM2Config
from softmode.networks.edm2_files import convert_edm2, load_edm2, read_edm2_pickle
from softmode.networks.load import load_model
from softmode.process import VE

CONFIG = EDM2Config(16, 3, 5, model_channels=16, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(8,),
                    channels_per_head=8)  # fmt: skip
ARGUMENTS: dict[str, Any] = {
    "img_resolution": 16, "img_channels": 3, "label_dim": 5, "use_fp16": True, "model_channels": 16,
    "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [8], "channels_per_head": 8, "dropout": 0.1,
    "channel_mult_noise": None,
}  # fmt: skip


@pytest.fixture
def network() -> EDM2:
    torch.manual_seed(0)
    return EDM2(CONFIG).eval().requires_grad_(False)


def test_a_pickle_gives_its_weights_and_shape(network: EDM2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directly and by way of safetensors, and as a model in the VE process; the source inside is never run."""
    path, converted = tmp_path / "net.pkl", tmp_path / "net.safetensors"
    path.write_bytes(official(network, "Precond", ARGUMENTS, monkeypatch))
    state, config = read_edm2_pickle(path)
    assert config == CONFIG
    expected = network.state_dict()
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(state[name], value), name
    main(["convert-edm2", str(path), str(converted)])
    x = torch.randn(2, 3, 16, 16)
    with pytest.raises(ValueError, match="is there already"):
        convert_edm2(path, converted)
    for source in (path, converted):
        assert torch.equal(load_edm2(source)(x, 0.7, 2), network.float()(x, 0.7, 2))
    model = load_model(f"edm2:{converted}")
    assert model.shape == (3, 16, 16)
    assert model.classes == 5
    assert model.process == VE()
    assert torch.equal(model.denoiser(2)(x, 0.7), network(x, 0.7, 2))
    assert torch.equal(model.denoiser()(x, 0.7), network(x, 0.7))
    with pytest.raises(ValueError, match="label: got 5; expected 0 to 4"):
        model.denoiser(5)


def test_classes_go_through_the_network_together(
    network: EDM2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none beside them, which is told by zeros."""
    for parameter in network.parameters():  # what starts at zero must show
        torch.nn.init.normal_(parameter)
    (tmp_path / "net.pkl").write_bytes(official(network, "Precond", ARGUMENTS, monkeypatch))
    assert_takes_labels_together(load_model(f"edm2:{tmp_path / 'net.pkl'}"), [2, None, 4, 2])


def test_weights_of_another_shape_are_not_converted(
    network: EDM2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.pkl"
    path.write_bytes(official(network, "Precond", ARGUMENTS | {"model_channels": 32}, monkeypatch))
    with pytest.raises(ValueError, match=r"is of another architecture than EDM2: .* instead of"):
        convert_edm2(path, tmp_path / "net.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["net.pkl"]
