"""Live and saved pipelines as models: prompts, their files, guidance, and what is refused in one line."""

import json
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import accelerate
import diffusers
import pytest
import torch
from safetensors.torch import save_file

import softmode as sm
from helpers.commands import Terminal
from helpers.errors import refused
from helpers.pipelines import (
    FAMILIES,
    ddpm,
    inpainting,
    latent_scheduler,
    lcm,
    picture,
    pix2pix,
    sd3,
    stable_diffusion,
    unet,
    with_controlnet,
    with_experts,
)
from softmode.experiments.call import experiment, plan
from softmode.experiments.information.measure import _without
from softmode.networks.load import load_model
from softmode.targets import targets


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directories of Stable Diffusion and of SD 3, and a file of prompts."""
    home = tmp_path_factory.mktemp("pipelines")
    stable_diffusion().save_pretrained(home / "sd")
    sd3().save_pretrained(home / "sd3")
    (home / "prompts.txt").write_text("a b\n\n  c\n")
    (home / "empty.txt").write_text("\n  \n")
    return home


@pytest.mark.filterwarnings("ignore:model. DDPMScheduler clips")
def test_a_network_without_numbers_is_refused_and_one_that_is_offloaded_is_not() -> None:
    """One that was built on the meta device; accelerate keeps weights there too, with hooks that fetch them."""
    pipe = ddpm()
    pipe.unet = pipe.unet.to("meta")
    with refused("model: DDPMPipeline: weights of its network are on the meta device, without numbers: load them"):
        plan(experiment("probe"), model=pipe, shells=3, steps=4)
    pipe = ddpm()
    x, expected = torch.randn(2, 3, 8, 8), plan(experiment("probe"), model=pipe, shells=3, steps=4).model.denoiser()
    found = expected(x, 1.0)
    accelerate.cpu_offload(pipe.unet, torch.device("cpu"))
    assert next(pipe.unet.parameters()).is_meta
    again = plan(experiment("probe"), model=pipe, shells=3, steps=4).model.denoiser()
    assert torch.equal(again(x, 1.0), found)


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


def test_a_live_pipeline_is_a_model_of_every_experiment() -> None:
    """Its prompts are classes, dealt out where none is named; what guidance pushes away from is the negative prompt."""
    pipe = stable_diffusion()
    made = plan(experiment("clones"), model=pipe, prompts=["a b", "c"], negative="d", trajectories=2)
    assert made.config.prompt == ("a b", "c")
    assert tuple(made.denoisers) == (0, 1)
    assert _without(made.model, targets(made.model)) == {}, "what is guided away from is no sample of all prompts"
    smaller = plan(experiment("probe"), model=pipe, prompts=["a b"], shells=3, steps=4, shape=(4, 8, 8))
    assert smaller.model.shape == (4, 8, 8)


def test_pulses_guide_against_the_negative_prompt() -> None:
    """The guide of each prompt is the branch that the pipeline makes of the negative prompt, another for another."""
    from softmode.experiments.pulse.trials import _guides

    pipe, x = stable_diffusion(), torch.randn(1, 4, 16, 16)
    guides = {}
    for negative in (None, "", "d"):
        model = sm.from_pipeline(pipe, ["a b", "c"], negative, (16, 16))
        found = _guides(model, model, [0, 1])
        torch.testing.assert_close(found[0](x, 1.0), found[1](x, 1.0))
        guides[negative] = found[0](x, 1.0)
    torch.testing.assert_close(guides[None], guides[""])
    assert float((guides["d"] - guides[""]).abs().max()) > 1e-4
    empty = sm.from_pipeline(pipe, [""], size=(16, 16)).denoiser(0)(x, 1.0)
    torch.testing.assert_close(guides[""], empty, rtol=1e-4, atol=1e-5)


def test_a_saved_pipeline_is_the_live_one(saved: Path) -> None:
    """By its directory, with prompts of a file and a negative one; every part's directory has a digest."""
    x = torch.randn(1, 4, 16, 16)
    model = load_model(f"diffusers:{saved / 'sd3'}", shape=(4, 16, 16), prompt=["a b", "c"], negative="d")
    live = sm.from_pipeline(sd3(), ["a b", "c"], "d", (16, 16))
    for label in (0, 1):
        torch.testing.assert_close(model.denoiser(label)(x, 1.0), live.denoiser(label)(x, 1.0), rtol=1e-4, atol=1e-5)
    assert {"transformer", "scheduler", "text_encoder_3", "tokenizer"} <= set(model.inputs)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"text_encoder": ["evil", "Model"]},
            "the text_encoder of .* is a Model of evil; only classes of diffusers and",
        ),
        ({"tokenizer": ["transformers", "Nothing"]}, "the tokenizer of .* is a Nothing of transformers"),
        ({"unet": ["diffusers", "Evil"]}, "the unet of .* is a Evil of diffusers"),
        (
            {"unet_2": ["diffusers", "UNet2DConditionModel"]},
            "two networks, unet and unet_2, each for its own noise levels",
        ),
        ({"_class_name": "EvilPipeline"}, "is a EvilPipeline, which diffusers .* does not have"),
        ({"_class_name": ["evil", "EvilPipeline"]}, "is no whole pipeline of diffusers"),
    ],
)
def test_what_a_directory_names_is_checked_before_it_is_built(
    entry: dict[str, Any], message: str, saved: Path, tmp_path: Path
) -> None:
    """Code that comes with a pipeline, its own class among it, is never run: there is a file that would tell."""
    home = tmp_path / "sd"
    shutil.copytree(saved / "sd", home)
    for name in ("evil.py", "pipeline.py", "unet/evil.py", "text_encoder/evil.py"):
        (home / name).write_text("raise SystemExit('run')")
    index = json.loads((home / "model_index.json").read_text())
    (home / "model_index.json").write_text(json.dumps(index | entry))
    with refused(message):
        load_model(f"diffusers:{home}", prompt=["a"])


def test_weights_that_are_pickles_are_not_read(saved: Path, tmp_path: Path) -> None:
    home = tmp_path / "sd"
    shutil.copytree(saved / "sd", home)
    (home / "text_encoder" / "model.safetensors").unlink()
    torch.save({}, home / "text_encoder" / "pytorch_model.bin")
    with refused("cannot load the pipeline"):
        load_model(f"diffusers:{home}", prompt=["a"])


def test_prompts_that_are_encoded_already(saved: Path, tmp_path: Path) -> None:
    """A file.safetensors of what the pipeline's call takes in place of a prompt is that prompt."""
    pipe, x = sd3(), torch.randn(1, 4, 16, 16)
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    encoded = dict(zip(names, pipe.encode_prompt("a b", "a b", "a b"), strict=True))
    save_file({name: value.contiguous() for name, value in encoded.items()}, tmp_path / "ab.safetensors")
    model = load_model(f"diffusers:{saved / 'sd3'}", shape=(4, 16, 16), prompt=[str(tmp_path / "ab.safetensors")])
    expected = sm.from_pipeline(pipe, ["a b"], size=(16, 16)).denoiser(0)(x, 1.0)
    torch.testing.assert_close(model.denoiser(0)(x, 1.0), expected, rtol=1e-4, atol=1e-5)
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with refused("holds other, which the call of StableDiffusion3Pipeline does not take"):
        load_model(f"diffusers:{saved / 'sd3'}", prompt=[str(tmp_path / "other.safetensors")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--prompts empty.txt", "prompts: 'empty.txt' holds none; expected a prompt on each line"),
        ("--prompts none.txt", "prompts: cannot read 'none.txt', which is no file"),
        ("--prompts prompts.txt --prompt a", "prompts: got 'prompts.txt' beside prompt 'a'; give one of them"),
        ("", "prompt: 'sd' is a model of text; give --prompt or --prompts"),
        ("--prompt a --prompt a", "twice"),
        ("--prompt a --shape 4 16", "shape: got (4, 16)"),
    ],
)
def test_bad_prompts_end_at_once(
    options: str, message: str, saved: Path, monkeypatch: pytest.MonkeyPatch, terminal: Terminal
) -> None:
    monkeypatch.chdir(saved)
    assert message in terminal.refuse("window", "diffusers:sd", *options.split(), "--out", "run")


def with_lora() -> Any:
    pipe = stable_diffusion()
    pipe.unet.peft_config = {"default": SimpleNamespace()}
    return pipe


def changing() -> Any:
    """A pipeline that gives its network something else at every step."""
    pipe, count = stable_diffusion(), iter(range(1, 100))
    network = type(pipe.unet)

    class Other(network):  # type: ignore[misc, valid-type]
        def __call__(self, *args: Any, encoder_hidden_states: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, encoder_hidden_states=encoder_hidden_states * next(count), **kwargs)

    pipe.unet.__class__ = Other
    return pipe


@pytest.mark.parametrize(
    ("build", "call", "message"),
    [
        (stable_diffusion, {}, "prompts: StableDiffusionPipeline is a pipeline of text; give at least one prompt"),
        (ddpm, {"prompts": ["a"]}, "prompts: got 'a'; DDPMPipeline is no pipeline of text"),
        (ddpm, {"negative": "d"}, "negative: got 'd'; DDPMPipeline takes no negative prompt"),
        (ddpm, {"size": (8, 8)}, r"size: got \(8, 8\); the call of DDPMPipeline does not take it"),
        (stable_diffusion, {"prompts": ["a"], "colour": 1}, "colour: StableDiffusionPipeline takes no such argument"),
        (stable_diffusion, {"prompts": ["a", "a"]}, "twice; name each once"),
        (with_lora, {"prompts": ["a"]}, "carries adapters of LoRA; merge them first"),
        (
            with_experts,
            {"prompts": ["a"]},
            "two networks, transformer and transformer_2, each for its own noise levels",
        ),
        (changing, {"prompts": ["a"], "size": (16, 16)}, "changes .*encoder_hidden_states.* from step to step"),
        (inpainting, {"prompts": ["a"]}, r"its call takes image, mask_image too: sm.from_pipeline\(pipe, prompts, im"),
        (with_controlnet, {"prompts": ["a"], "image": picture()}, "asks its controlnet at every step beside its unet"),
    ],
)
def test_what_is_not_known_is_refused_by_name(build: Any, call: dict[str, Any], message: str) -> None:
    with refused(message):
        sm.from_pipeline(build(), **call)


def test_a_negative_prompt_needs_guidance() -> None:
    """A pipeline without a branch to guide away from has no use for it, nor is a guide made of it."""

    class Plain(diffusers.LatentConsistencyModelPipeline):
        def __call__(self, negative_prompt: Any = None, **others: Any) -> Any:
            return super().__call__(**others)

    pipe = lcm()
    with refused("negative: got 'd'; LatentConsistencyModelPipeline takes no negative prompt: leave it out"):
        sm.from_pipeline(pipe, ["a"], "d", (16, 16))
    model = sm.from_pipeline(pipe, ["a"], size=(16, 16))
    assert model.dropped is not None
    with refused("guide: LatentConsistencyModelPipeline has no branch to guide away from; name another model"):
        model.dropped(0)


def test_guidance_of_three_branches_is_not_known() -> None:
    model = sm.from_pipeline(pix2pix(), ["a"], image=picture())
    assert model.dropped is not None
    with refused("the guidance of StableDiffusionInstructPix2PixPipeline is of 3 branches; expected 2"):
        model.dropped(0)


def test_audio_and_embeddings_have_no_space() -> None:
    """A pipeline of audio, and one whose states are embeddings, are refused by name, not as images."""

    class Sound(diffusers.DDPMPipeline):
        def __call__(self, audio_length_in_s: float = 1.0, **others: Any) -> Any:
            return super().__call__(**others)

    pipe = ddpm()
    with refused("model: Sound makes audio; which axes of its states are space is not known"):
        sm.from_pipeline(Sound(pipe.unet, pipe.scheduler))


def test_a_pipeline_is_left_as_it_is() -> None:
    """Its scheduler, its progress bar, its network's hooks and the global random numbers; nothing is decoded."""
    pipe = FAMILIES["SD 1, 2"].build()
    pipe.scheduler.set_timesteps(7)
    pipe.vae.decode = None
    before, state = pipe.scheduler.timesteps.clone(), torch.random.get_rng_state()
    sm.from_pipeline(pipe, ["a b"], size=(16, 16))
    assert torch.equal(pipe.scheduler.timesteps, before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not pipe.unet._forward_hooks
    assert "step" not in vars(pipe.scheduler)


@pytest.mark.parametrize(
    ("scheduler", "remark"),
    [
        (latent_scheduler("PNDMScheduler", skip_prk_steps=True), "checked against that of DDIM"),
        (latent_scheduler("DPMSolverMultistepScheduler", use_karras_sigmas=True), "makes its timesteps whole numbers"),
        (latent_scheduler("DEISMultistepScheduler"), "checked against that of DDIM"),
        (
            diffusers.UniPCMultistepScheduler(
                use_flow_sigmas=True, prediction_type="flow_prediction", final_sigmas_type="sigma_min", steps_offset=1
            ),
            "does not tell its estimate of x_0, so D is not checked",
        ),
        (
            latent_scheduler("DDIMScheduler", thresholding=True, clip_sample=False),
            "clips or thresholds its estimate of x_0",
        ),
    ],
)
def test_what_cannot_be_checked_is_said(scheduler: Any, remark: str) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        sm.from_pipeline(stable_diffusion(scheduler), ["a b"], size=(16, 16))
    assert any(remark in str(each.message) for each in said)


NAMES = (
    "EulerDiscreteScheduler", "HeunDiscreteScheduler", "UniPCMultistepScheduler", "LMSDiscreteScheduler",
    "EulerAncestralDiscreteScheduler", "KDPM2DiscreteScheduler",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_schedulers_of_other_kinds(name: str, prediction: str) -> None:
    """States in the scheduler's own coordinates, two calls of a step, estimates that are told or are the last state."""
    scheduler = latent_scheduler(name, prediction_type=prediction)
    model = sm.from_pipeline(stable_diffusion(scheduler), ["a b"], size=(16, 16))
    assert model.denoiser(0)(torch.randn(1, *model.shape), 1.0).shape == (1, *model.shape)


def test_conditions_of_images_are_bound() -> None:
    """Another image is another denoiser, and what the mask hides does not matter."""
    x = torch.randn(1, 4, 16, 16)
    pipe = inpainting()
    outs = []
    for colour in ((255, 255, 255), (0, 90, 0)):
        image = picture().copy()
        image.paste(colour, (0, 0, 16, 16))
        mask = picture().convert("L").point(lambda _: 0)
        model = sm.from_pipeline(pipe, ["a b"], size=(16, 16), image=image, mask_image=mask)
        outs.append(model.denoiser(0)(x, 1.0))
    assert float((outs[0] - outs[1]).abs().max()) > 1e-4


def test_a_half_precision_pipeline_is_asked_in_its_own_type() -> None:
    """States stay float32; the network computes in bfloat16, and D is near that of float32."""
    x = torch.randn(2, 4, 16, 16)
    pipe = sd3()
    full = sm.from_pipeline(pipe, ["a b"], size=(16, 16)).denoiser(0)(x, 1.0)
    half = sm.from_pipeline(pipe.to(torch.bfloat16), ["a b"], size=(16, 16)).denoiser(0)(x, 1.0)
    assert half.dtype == torch.float32
    assert 0 < float((half - full).abs().max()) < 0.05 * float(full.abs().max())


def test_unets_with_sizes_take_their_own_arguments(tmp_path: Path) -> None:
    """A bare UNet of SDXL's kind: text_embeds and time_ids beside encoder_hidden_states in a file."""
    network = unet(addition_embed_type="text_time", addition_time_embed_dim=2, projection_class_embeddings_input_dim=20)
    network.save_pretrained(tmp_path)
    scheduler = latent_scheduler("EulerDiscreteScheduler")
    scheduler.save_pretrained(tmp_path / "scheduler")
    hidden, pooled, ids = torch.randn(1, 3, 8), torch.randn(1, 8), torch.full((1, 6), 16.0)
    save_file({"encoder_hidden_states": hidden, "text_embeds": pooled, "time_ids": ids}, tmp_path / "p.safetensors")
    x, sigma = torch.randn(2, 4, 16, 16), 2.0
    found = load_model(f"diffusers:{tmp_path}", prompt=[str(tmp_path / "p.safetensors")]).denoiser()(x, sigma)
    t = sm.networks.diffusers_scheduler.noise_table(scheduler).timestep(sigma).float()
    added = {"text_embeds": pooled.repeat(2, 1), "time_ids": ids.repeat(2, 1)}
    scaled = x / (1 + sigma**2) ** 0.5
    out = network(scaled, t, hidden.repeat(2, 1, 1), added_cond_kwargs=added).sample
    torch.testing.assert_close(found, x - sigma * out, rtol=1e-4, atol=1e-4)
    save_file({"encoder_hidden_states": hidden}, tmp_path / "short.safetensors")
    with refused("lacks text_embeds, time_ids"):
        load_model(f"diffusers:{tmp_path}", prompt=[str(tmp_path / "short.safetensors")])


def bare(home: Path, network: Any, scheduler: Any = None) -> str:
    network.save_pretrained(home)
    (scheduler or diffusers.DDPMScheduler()).save_pretrained(home / "scheduler")
    return f"diffusers:{home}"


def test_networks_of_one_and_three_axes(tmp_path: Path) -> None:
    """A UNet1D has one side; a UNet3D must be told its frames."""
    line = diffusers.UNet1DModel(
        sample_size=32, in_channels=2, out_channels=2, block_out_channels=(32, 32), norm_num_groups=4,
        down_block_types=("DownBlock1D", "AttnDownBlock1D"), up_block_types=("AttnUpBlock1D", "UpBlock1D"),
        time_embedding_type="positional", use_timestep_embedding=True, extra_in_channels=0, act_fn="silu",
    ).eval()  # fmt: skip
    model = load_model(bare(tmp_path / "line", line))
    assert model.shape == (2, 32)
    assert model.denoiser()(torch.randn(3, 2, 32), 1.0).shape == (3, 2, 32)
    video = FAMILIES["text-to-video UNet"].build().unet
    save_file({"encoder_hidden_states": torch.randn(1, 3, 8)}, tmp_path / "p.safetensors")
    source, prompt = bare(tmp_path / "video", video), [str(tmp_path / "p.safetensors")]
    with refused("does not say its size; give --shape, for example 4 16 64 64"):
        load_model(source, prompt=prompt)
    model = load_model(source, prompt=prompt, shape=(4, 2, 16, 16))
    assert model.denoiser()(torch.randn(1, 4, 2, 16, 16), 1.0).shape == (1, 4, 2, 16, 16)


def test_bare_networks_that_only_their_pipeline_can_call(tmp_path: Path) -> None:
    """A PRX, whose time is s, not 1000 s; a prior of embeddings; a UNet with further channels: one line each."""
    with refused("a PRXTransformer2DModel is called by its pipeline in a way of its own"):
        load_model(bare(tmp_path / "prx", FAMILIES["PRX"].build().transformer))
    prior = diffusers.PriorTransformer(num_attention_heads=2, attention_head_dim=4, num_layers=1, embedding_dim=8)
    with refused("a PriorTransformer is called by its pipeline in a way of its own"):
        load_model(bare(tmp_path / "prior", prior))
    with refused("takes 9 channels and predicts 4: the others are conditions"):
        load_model(bare(tmp_path / "inpainting", inpainting().unet))
    (tmp_path / "lora").mkdir()
    save_file({"x": torch.zeros(1)}, tmp_path / "lora" / "pytorch_lora_weights.safetensors")
    with refused("holds an adapter of LoRA, which changes another model"):
        load_model(f"diffusers:{tmp_path / 'lora'}")
