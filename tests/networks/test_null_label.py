"""A class that stands for all samples together: guidance away from it is the sum that is computed by hand."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

import softmode as sm
from helpers.commands import Terminal
from helpers.errors import refused
from helpers.guidance import corners
from helpers.pipelines import dit, pixels
from softmode.denoiser import Guided
from softmode.experiments.call import experiment, plan
from softmode.model import Model
from softmode.networks.load import load_model
from softmode.networks.pipeline import from_pipeline
from softmode.targets import targets

ELEVEN, NULL, SIGMA = 11, 10, 2.0
X = 2 * torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> Any:
    """A UNet that was trained with ten classes and an eleventh for none of them."""
    return pixels(num_class_embeds=ELEVEN).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def saved(network: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its directory."""
    home = tmp_path_factory.mktemp("classes")
    network.save_pretrained(home / "unet")
    diffusers.DDPMScheduler().save_pretrained(home / "scheduler")
    kinds = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDPMScheduler"]}
    (home / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline", **kinds}))
    return f"diffusers:{home}"


def by_hand(network: Any, label: int, weight: float) -> Tensor:
    """Return the guided estimate of x_0 at the level of a whole timestep, from the network alone."""
    squares = diffusers.DDPMScheduler().alphas_cumprod.double()
    levels = ((1 - squares) / squares).sqrt()
    t = int((levels - SIGMA).abs().argmin())
    alpha, sigma = squares[t].sqrt(), levels[t]
    each = []
    for told in (label, NULL):
        eps = network((alpha * X).float(), torch.full((2,), t), torch.full((2,), told)).sample
        each.append(X - sigma.float() * eps)
    return each[0] + weight * (each[0] - each[1])


def level_of_a_timestep() -> float:
    squares = diffusers.DDPMScheduler().alphas_cumprod.double()
    levels = ((1 - squares) / squares).sqrt()
    return float(levels[(levels - SIGMA).abs().argmin()])


def test_pulses_push_away_from_the_null_class(network: Any, saved: str) -> None:
    """As by the network alone; it is among neither the classes nor those that are told apart."""
    settings = {"model": saved, "labels": (0, 1), "guide": "dropped", "classifier": "none", "sigma_c": 2.0, "steps": 8}
    guidance = plan(experiment("pulse"), **settings, null_label=NULL).guidance
    for label, (denoiser, guide) in guidance.denoisers.items():
        found = Guided(denoiser, guide, lambda sigma: torch.full_like(sigma, 1.5))(X, level_of_a_timestep())
        torch.testing.assert_close(found, by_hand(network, label, 1.5), rtol=1e-4, atol=1e-4)
    every = plan(experiment("pulse"), **settings | {"labels": (), "classes": NULL}, null_label=NULL).guidance
    assert every.labels == list(range(NULL))
    with refused("classes: got 11; expected at most 10"):
        plan(experiment("pulse"), **settings | {"labels": (), "classes": ELEVEN}, null_label=NULL)
    with refused("guide: .* cannot drop its label .*--null-label"):
        plan(experiment("pulse"), **settings)


def test_all_samples_together_are_those_of_the_null_class(saved: str) -> None:
    """Where no label is named a probe is of it, and what is told apart are the others."""
    model = load_model(saved).with_null(NULL)
    assert torch.equal(model.denoiser()(X, SIGMA), load_model(saved).denoiser(NULL)(X, SIGMA))
    assert targets(model)[0].labels == tuple(range(NULL))
    assert targets(load_model(saved).with_null(0))[0].labels == tuple(range(1, ELEVEN))


def shells(command: str) -> list[str]:
    """Return the options of a command for eight sites a side."""
    return [] if command == "pulse" else ["--shells", "3"]


@pytest.mark.usefixtures("unchecked_shapes")
def test_null_labels_that_are_none_are_refused(
    saved: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command line, in one line and with exit code 2: no such class, no classes, one that is asked for."""
    monkeypatch.chdir(tmp_path)
    for arguments, told in (
        (
            ("window", saved, "--labels", "0,1", "--null-label", "11"),
            "null_label: got 11; expected one of the classes",
        ),
        (
            ("window", saved, "--labels", "0,10", "--null-label", "10"),
            "labels: got 10, the null label, which",
        ),
        (
            ("pulse", saved, "--labels", "0,10", "--null-label", "10"),
            "labels: got 10, the null label, which",
        ),
        (
            ("probe", "fashion-mnist-binary", "--null-label", "0"),
            "null_label: got 0; 'fashion-mnist-binary' has",
        ),
        (("probe", "avatars", "--null-label", "0"), "null_label: got 0; the labels of 'avatars' are attributes: leave"),
        (("probe", saved, "--null-label", "-1"), "null_label: got -1; expected at least 0"),
    ):
        assert told in Terminal(capsys).refuse(*arguments, *shells(arguments[0]))
    prompts = Model("texts", sm.VE(), (1, 8, 8), corners().bind, 3, dropped=corners().bind)
    with refused("null_label: got 0; the labels of 'texts' are prompts, of which a negative one"):
        plan(experiment("probe"), model=prompts, null_label=0)


def test_live_pipelines_have_one_too() -> None:
    """DiT's own null class is beside its classes; another is taken where it is named."""
    pipe = dit()
    model, x = from_pipeline(pipe), torch.randn(1, 4, 8, 8)
    named = plan(experiment("probe"), model=pipe, null_label=7, shells=3, steps=4).model
    assert torch.equal(named.denoiser()(x, 1.0), model.denoiser(7)(x, 1.0))
    assert float((named.denoiser()(x, 1.0) - model.denoiser()(x, 1.0)).abs().max()) > 1e-4
    assert len(named.labels) == model.classes - 1


BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
HELPERS: dict[str, Callable[..., Any]] = {
    "discrete": partial(sm.from_discrete, alphas_cumprod=(1 - BETAS).cumprod(0)),
    "flow": partial(sm.from_flow, check=False),
}


@pytest.mark.parametrize("kind", HELPERS)
def test_helpers_take_a_network_of_classes(kind: str, network: Any) -> None:
    """The network is told the class of each state after its time; the answer is that of the class bound by hand."""
    made = HELPERS[kind](network, classes=ELEVEN, null_label=NULL)
    guidance = plan(
        experiment("pulse"), model=made, shape=(3, 8, 8), labels=(0, 1), classifier="none", sigma_c=2.0, steps=8
    ).guidance
    for told, (denoiser, _) in guidance.denoisers.items():
        alone = HELPERS[kind](lambda x, t, told=told: network(x, t, torch.full((len(x),), told)))
        assert torch.equal(denoiser(X, SIGMA), alone(X, SIGMA))
    assert torch.equal(made(X, SIGMA), guidance.denoisers[0][1](X, SIGMA))
    assert made.levels == getattr(HELPERS[kind](network), "levels", None)
    with refused("labels: got 10, the null label"):
        plan(experiment("probe"), model=made, shape=(3, 8, 8), labels=(10,), shells=3)
    for bad, told in (
        ({"null_label": 0}, "null_label: got 0; the network has no classes"),
        ({"classes": 3, "null_label": 3}, "null_label: got 3; expected one of the classes 0 to 2"),
    ):
        with refused(told):
            HELPERS[kind](network, **bad)
    with refused("labels: this model has no class for all of them; .* null_label"):
        HELPERS[kind](network, classes=ELEVEN)(X, SIGMA)
