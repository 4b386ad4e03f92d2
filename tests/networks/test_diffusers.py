"""diffusers' networks as denoisers: x_0 recovered exactly for every kind of prediction, and every kind of condition."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from helpers import resamples
from helpers.models import assert_takes_labels_together
from helpers.runs import run
from softmode.networks.diffusers import load_diffusers
from softmode.networks.diffusers_denoiser import Conditioned, DiffusersDenoiser
from softmode.networks.diffusers_scheduler import noise_table, step_levels
from softmode.networks.load import load_model
from softmode.observe.gains import difference_gains, jvp_gains

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddpm-epsilon": ("DDPMScheduler", {}),
    "ddpm-v": ("DDPMScheduler", {"prediction_type": "v_prediction"}),
    "ddim-sample": ("DDIMScheduler", {"prediction_type": "sample"}),
    "ddim-v": ("DDIMScheduler", {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear"}),
    "euler-epsilon": ("EulerDiscreteScheduler", {}),
    "euler-v": ("EulerDiscreteScheduler", {"prediction_type": "v_prediction"}),
    "heun-epsilon": ("HeunDiscreteScheduler", {}),
    "dpm-v": ("DPMSolverMultistepScheduler", {"prediction_type": "v_prediction"}),
    "unipc-sample": ("UniPCMultistepScheduler", {"prediction_type": "sample"}),
    "edm-epsilon": ("EDMEulerScheduler", {}),
    "edm-v": ("EDMEulerScheduler", {"prediction_type": "v_prediction"}),
    "edm-dpm": ("EDMDPMSolverMultistepScheduler", {"sigma_data": 1.0}),
    "flow": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
}


def make(kind: str) -> Any:
    name, config = KINDS[kind]
    return getattr(diffusers, name)(**config)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=["32", "64"])
@pytest.mark.parametrize("kind", KINDS)
def test_x0_is_recovered_exactly(kind: str, dtype: torch.dtype, error: float) -> None:
    """A network that returns the exact target of its training gives x_0 back, at each state's own noise level."""
    scheduler = make(kind)
    table = noise_table(scheduler)
    x_0, eps = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigma = torch.tensor([0.1, 1.0, 9.0], dtype=torch.float64)
    level = sigma[:, None, None, None]
    x = x_0 + level * eps
    abar = (1 / (1 + level.square())).sqrt()
    data = table.sigma_data
    skip, scale = data**2 / (level**2 + data**2), level * data / (level**2 + data**2).sqrt()
    targets = {
        "ddpm-v": abar * eps - level * abar * x_0, "ddim-sample": x_0, "unipc-sample": x_0, "flow": eps - x_0,
        "edm-epsilon": (x_0 - skip * x) / scale, "edm-dpm": (x_0 - skip * x) / scale, "edm-v": (skip * x - x_0) / scale,
    }  # fmt: skip
    targets |= dict.fromkeys(("ddim-v", "euler-v", "dpm-v"), targets["ddpm-v"])
    inputs = {"edm": x / (level**2 + data**2).sqrt(), "flow": x / (1 + level)}
    seen = []

    def network(x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        expected = inputs.get(kind.partition("-")[0], abar * x)
        torch.testing.assert_close(x_t, expected.to(dtype), rtol=1e-5, atol=1e-5)
        seen.append(timesteps.double())
        return targets.get(kind, eps).to(dtype)

    found = DiffusersDenoiser(network, table)(x.to(dtype), sigma)
    assert found.dtype == dtype
    # x_t - sigma eps loses digits where the noise is large, as for any such network
    assert float((found - x_0.to(dtype)).abs().max() / x.abs().max()) < error
    torch.testing.assert_close(seen[0], table.timestep(sigma), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "kind", [k for k in KINDS if k not in ("flow", "heun-epsilon", "dpm-v", "unipc-sample", "edm-dpm")]
)
def test_x0_agrees_with_the_scheduler_s_own(kind: str) -> None:
    """Fed the same output of a network at one of its steps, the scheduler's own pred_original_sample is ours."""
    scheduler = make(kind)
    scheduler.set_timesteps(10)
    level = float(step_levels(scheduler)[3])
    out, x = torch.randn(2, 1, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    x = level * x
    ours = DiffusersDenoiser(lambda *_: out, noise_table(scheduler))(x, level)
    t = scheduler.timesteps[3]
    edm_states = hasattr(scheduler, "sigmas")
    own = x if edm_states else x / math.hypot(1, level)
    if edm_states:
        scheduler.scale_model_input(own, t)
    if hasattr(scheduler.config, "clip_sample"):
        scheduler.register_to_config(clip_sample=False)
    theirs = scheduler.step(out, t, own).pred_original_sample
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-4)


def unet(**changes: Any) -> diffusers.UNet2DModel:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "block_out_channels": (8, 16),
        "norm_num_groups": 4, "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "attention_head_dim": 4,
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }  # fmt: skip
    return diffusers.UNet2DModel(**settings | changes)


def dit() -> diffusers.DiTTransformer2DModel:
    torch.manual_seed(0)
    network = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=2, out_channels=4, num_layers=1, sample_size=8,
        patch_size=2, num_embeds_ada_norm=5, norm_num_groups=4,
    )  # fmt: skip
    for parameter in network.parameters():  # the official initialisation is zero at the end
        torch.nn.init.normal_(parameter, std=0.2)
    return network


def text_unet() -> diffusers.UNet2DConditionModel:
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
        norm_num_groups=4, cross_attention_dim=6, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny pipelines: free, of classes, a transformer, of text, and a flow."""
    home = tmp_path_factory.mktemp("models")
    for name, network, scheduler, folder in (
        ("free", unet(), make("ddpm-epsilon"), "unet"),
        ("colour", unet(in_channels=3, out_channels=3), make("ddim-v"), "unet"),
        ("classes", unet(num_class_embeds=3), make("euler-epsilon"), "unet"),
        ("dit", dit(), make("dpm-v"), "transformer"),
        ("text", text_unet(), make("ddim-v"), "unet"),
        ("flow", unet(), make("flow"), "transformer"),
        ("alien", unet(), diffusers.IPNDMScheduler(), "unet"),
    ):
        network.save_pretrained(home / name / folder)
        scheduler.save_pretrained(home / name / "scheduler")
        kinds = {folder: ["diffusers", type(network).__name__], "scheduler": ["diffusers", type(scheduler).__name__]}
        (home / name / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline", **kinds}))
    bare = home / "bare"
    unet().save_pretrained(bare)
    make("ddpm-epsilon").save_pretrained(bare / "scheduler")
    save_file({"encoder_hidden_states": torch.randn(1, 3, 6)}, home / "prompt.safetensors")
    save_file({"encoder_hidden_states": torch.randn(1, 3, 6)}, home / "other.safetensors")
    save_file({"other": torch.randn(1, 3, 6)}, home / "wrong.safetensors")
    return home


def test_a_saved_pipeline_is_what_it_was(saved: Path) -> None:
    """The loaded denoiser is the network in memory; a network with its scheduler beside it works as well."""
    x = 3 * torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    expected = DiffusersDenoiser(Conditioned(unet().eval(), {}), noise_table(make("ddpm-epsilon")))(x, 2.0)
    for name in ("free", "bare"):
        model = load_model(f"diffusers:{saved / name}")
        assert (model.shape, model.classes) == ((1, 8, 8), 0)
        assert model.levels == pytest.approx((0.01, 157.4), rel=1e-3)
        torch.testing.assert_close(model.denoiser()(x, 2.0), expected)


def test_classes(saved: Path) -> None:
    """A class is handed to the network; a transformer has a class for none, a UNet has not."""
    x = torch.randn(2, 1, 8, 8)
    model = load_model(f"diffusers:{saved / 'classes'}")
    assert model.classes == 3
    outs = [model.denoiser(label)(x, 1.0) for label in range(3)]
    assert float((outs[0] - outs[1]).abs().max()) > 1e-4
    with pytest.raises(ValueError, match="labels: this model has no class for all of them; name some of 0 to 2"):
        model.denoiser()
    assert_takes_labels_together(model, [2, 0, 1])
    transformer = load_model(f"diffusers:{saved / 'dit'}")
    assert_takes_labels_together(transformer, [4, None, 0])
    assert (transformer.classes, transformer.shape) == (5, (2, 8, 8))
    x = torch.randn(2, 2, 8, 8)
    outs = [transformer.denoiser(label)(x, 1.0) for label in (None, 0)]
    assert outs[0].shape == x.shape
    assert float((outs[0] - outs[1]).abs().max()) > 1e-4


def test_text_is_given_once(saved: Path) -> None:
    model = load_model(f"diffusers:{saved / 'text'}", prompt=[str(saved / "prompt.safetensors")])
    x = torch.randn(2, 4, 8, 8)
    assert model.denoiser()(x, 1.0).shape == x.shape


def test_several_prompts_are_classes(saved: Path, tmp_path: Path) -> None:
    """Each is what it is alone; what is known of which one an image is of comes from them, on samples of theirs."""
    prompts = [str(saved / "prompt.safetensors"), str(saved / "other.safetensors")]
    model = load_model(f"diffusers:{saved / 'text'}", prompt=prompts)
    assert (model.classes, sorted(model.inputs)) == (2, ["network", "prompt", "prompt 1", "scheduler"])
    x = torch.randn(2, 4, 8, 8)
    for label, prompt in enumerate(prompts):
        alone = load_model(f"diffusers:{saved / 'text'}", prompt=[prompt]).denoiser()
        torch.testing.assert_close(model.denoiser(label)(x, 1.0), alone(x, 1.0))
    assert_takes_labels_together(model, [1, 0, 1])
    with pytest.raises(ValueError, match="2 prompts have no sample of all of them; name theirs: --labels 0,1"):
        model.denoiser()
    with pytest.raises(ValueError, match=r"prompt: got one of .* twice; name each once"):
        load_model(f"diffusers:{saved / 'text'}", prompt=prompts[:1] * 2)
    found = run(
        "information", tmp_path / "run", model=f"diffusers:{saved / 'text'}", prompt=prompts, labels=(0, 1),
        states="samples", trajectories=2, levels=8,
    )  # fmt: skip
    assert "of 0.69" in found.results.answer


@pytest.mark.parametrize("name", ["free", "classes", "dit", "text", "flow"])
def test_forward_derivatives_agree_with_differences(name: str, saved: Path) -> None:
    """Through attention and group norm, in float64."""
    prompt = [str(saved / "prompt.safetensors")] if name == "text" else []
    model = load_diffusers(str(saved / name), dtype=torch.float64, prompt=prompt)
    denoiser = model.denoiser(0 if model.classes else None)
    x = torch.randn(2, *model.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        jvp, difference = jvp_gains(denoiser, x, 1.3, 2), difference_gains(denoiser, x, 1.3, 2, 1e-4)
    assert float(jvp.abs().max()) > 1e-3
    torch.testing.assert_close(jvp, difference, rtol=1e-5, atol=1e-6)


def test_a_window_of_a_pipeline(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A colour model goes through probe, clones and analysis; its range cuts the grid; chroma gains come out."""
    resamples.few_resamples(monkeypatch)
    resamples.few_levels(monkeypatch)
    found = run(
        "window", tmp_path / "run", model=f"diffusers:{saved / 'colour'}", steps=8, trajectories=2, shells=3, clones=2,
        clone_steps=120, dtype="float64",
    )  # fmt: skip
    levels = found.dataset["noise_level"].to_numpy()
    low, high = noise_table(make("ddim-v")).range
    assert levels[0] == pytest.approx(min(80.0, high))
    assert levels[-1] == pytest.approx(low)
    assert np.isfinite(found.dataset["chroma_gain"].to_numpy()).all()
    assert found.results.values["verdict"] in ("found", "doubtful", "none")


@pytest.mark.parametrize(
    ("source", "prompt", "message"),
    [
        ("text", None, "prompt: .* is a model of text; give --prompt"),
        ("text", "a tench", "is no whole pipeline of diffusers with a text encoder; give a file.safetensors"),
        ("text", "{home}/wrong.safetensors", "lacks encoder_hidden_states"),
        ("text", "{home}/none.safetensors", "prompt: .* is no file"),
        ("free", "a tench", "is no model of text: leave it out"),
        ("alien", None, "scheduler: IPNDMScheduler has neither"),
        ("", None, "holds neither model_index.json nor config.json"),
    ],
)
def test_bad_input(source: str, prompt: str | None, message: str, saved: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_model(f"diffusers:{saved / source}", prompt=[prompt.format(home=saved)] if prompt else [])


def test_pickles_and_foreign_classes_are_refused(tmp_path: Path) -> None:
    home = tmp_path / "pickled"
    unet().save_pretrained(home, safe_serialization=False)
    make("ddpm-epsilon").save_pretrained(home / "scheduler")
    with pytest.raises(ValueError, match="only safetensors are read, not pickles"):
        load_model(f"diffusers:{home}")
    config = json.loads((home / "config.json").read_text())
    (home / "config.json").write_text(json.dumps(config | {"_class_name": "Evil"}))
    with pytest.raises(ValueError, match=r"is a Evil, which diffusers .* lacks"):
        load_model(f"diffusers:{home}")
    (home / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(ValueError, match="has no folder scheduler, in it or beside it"):
        load_model(f"diffusers:{home}")


def test_a_hub_id_while_offline_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"nor reach it on the hub .*; download it first and give its directory"):
        load_model("diffusers:nobody/no-such-model")


def test_without_diffusers_only_its_models_are_missing() -> None:
    """In a fresh interpreter that cannot import it: the package, a shipped model, and one line that says what to do."""
    code = """
import sys
for name in ("diffusers", "transformers"):
    sys.modules[name] = None
import softmode
softmode.load_model("fashion-mnist-binary")
try:
    softmode.load_model("diffusers:anything")
except ValueError as error:
    print(error)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "model: a diffusers model needs diffusers: pip install 'softmode[diffusers]'"
