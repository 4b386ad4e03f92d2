"""Objects of other packages as models, each against its own sampler: what its network is given, what is made of it."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import softmode as sm
from helpers.other_packages import (
    OBJECTS,
    SHAPE,
    SIDE,
    STEPS,
    A,
    K,
    Network,
    S,
    X,
    alphas_cumprod,
    azula,
    ddp,
    ddp_unet,
    small_schedule,
    small_unet,
)  # fmt: skip
from helpers.packages import Object, differences, package
from softmode.experiments.call import experiment, plan
from softmode.networks.objects import PACKAGES, package_of

pytest.importorskip("einops")
for each in PACKAGES:
    try:
        package(each)
    except ModuleNotFoundError:
        pytest.skip(f"{each} is not there: pip install --no-deps -r tests/packages.txt", allow_module_level=True)

CLOSE = 1e-5
# objects that do not know a sample of all classes
NO_NULL = (K + "OpenAIDenoiser", A + "AblatedDenoiser")
LABELLED = [(name, label) for name, each in OBJECTS.items()
            for label in ((1,) if name in NO_NULL else (1, None) if each.classes else (None,))]  # fmt: skip
# one of each package, with classes
CLASSES = (K + "Denoiser", X + "classifier_free_guidance", A + "KarrasDenoiser", S + "Unet")


def model_of(name: str) -> sm.Model:
    chosen = OBJECTS[name]
    return sm.from_object(chosen.build(), **chosen.taken())


@pytest.mark.parametrize(("name", "label"), LABELLED)
def test_it_does_as_its_own_sampler(name: str, label: int | None) -> None:
    """At every step: each argument of its network by name, and the estimate of x_0 that the sampler forms."""
    found = differences(OBJECTS[name], label)
    assert found.steps > 2
    assert found.given < CLOSE
    assert found.denoised < CLOSE


@pytest.mark.parametrize("name", OBJECTS)
def test_states_of_three_levels_are_each_what_they_are_alone(name: str) -> None:
    """Between the steps of its own schedule too, and the derivative is that of the answer."""
    model = model_of(name)
    denoiser = model.denoiser(0 if model.classes else None)
    assert model.classes == OBJECTS[name].classes
    stream = torch.Generator().manual_seed(0)
    x, v = (torch.randn(3, *model.shape, generator=stream) for _ in range(2))
    low, high = model.levels or (0.1, 10.0)
    # in no order that is its own inverse
    sigma = torch.tensor([1.3, min(3.0, 0.9 * high), max(0.4, 1.1 * low)])
    with torch.no_grad():
        both = denoiser(x, sigma)
        alone = torch.cat([denoiser(x[i : i + 1], float(sigma[i])) for i in range(3)])
        step = (denoiser(x + 1e-2 * v, 1.0) - denoiser(x - 1e-2 * v, 1.0)) / 2e-2
        _, slope = torch.func.jvp(lambda state: denoiser(state, 1.0), (x,), (v,))
    torch.testing.assert_close(both, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(slope, step, rtol=0.05, atol=0.02 * float(step.abs().max()) + 1e-6)


LABELS = {"labels": (0, 2)}
PROBE: dict[str, Any] = {
    "trajectories": 2, "block": 2, "steps": 8, "shells": 3, "measure_every": 8, "snapshots": (1.0,),
} | LABELS  # fmt: skip


def live(name: str) -> tuple[Any, dict[str, Any]]:
    """Return an object as it is, and what is told beside it."""
    chosen = OBJECTS[name]
    # what a class is told by is no setting of an experiment
    return (chosen.build(), dict(chosen.taken())) if name != CLASSES[2] else (model_of(name), {})


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", CLASSES)
def test_it_is_checked_and_probed_in_place_of_a_name(name: str) -> None:
    """With its classes as of any other model."""
    value, taken = live(name)
    assert any(
        "label" in str(row) for table in sm.check(value, **LABELS, **taken).tables.values() for row in table.rows
    )
    assert "Denoiser" in (answer := sm.probe(value, **taken, **PROBE).results.answer) or type(value).__name__ in answer


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_it_has_a_window_and_is_guided_in_place_of_a_name() -> None:
    """Away from its own null class, or from another object of which nothing else is known."""
    value, taken = live(K + "Denoiser")
    assert sm.window(value, clones=0, classifier="none", **taken, **PROBE).results.answer
    settings = {"trials": 2, "block": 2, "steps": 12, "classifier": "none", "sigma_c": 1.0} | LABELS | taken
    assert sm.pulse(value, **settings).results.answer
    other = OBJECTS[K + "VDenoiser"].build()
    guided: Any = plan(experiment("pulse"), model=value, guide=other, **settings)
    x = torch.randn(1, 1, SIDE, SIDE)
    torch.testing.assert_close(guided.guidance.denoisers[0][1](x, 1.0), other(x, torch.ones(1)))


def test_levels_are_those_of_its_own_schedule() -> None:
    """A table's, a continuous schedule's ends, those of a Schedule beside the network; else all."""
    levels = {name: model_of(name).levels for name in OBJECTS}
    assert levels[K + "Denoiser"] is levels[S + "IdealDenoiser"] is None
    squares = alphas_cumprod().double()
    ends = [float(((1 - each) / each).sqrt()) for each in (squares[0], squares[-1])]
    assert levels[K + "DiscreteVDDPMDenoiser"] == pytest.approx(ends, rel=1e-5)
    assert levels[S + "Unet"] == pytest.approx((0.02, 10))
    assert levels[S + "PredFlow(Unet)"] == pytest.approx((0.001 / 0.999, 0.9796 / 0.0204), rel=1e-2)
    assert levels[X + "ElucidatedDiffusion"] == (0.002, 80)
    assert levels[A + "SimpleDenoiser"] == pytest.approx((1e-3, 1e3))
    # a linear schedule's own numbers, exp(-(0.1 t + 9.95 t^2)) at t = 1 in the limit of many steps
    low, high = levels[X + "GaussianDiffusion, v"] or (0, 0)
    assert low == pytest.approx((1e-3 / (1 - 1e-3)) ** 0.5, rel=1e-4)
    assert 150 < high < 300
    assert sm.from_object(OBJECTS[K + "VDenoiser"].build(), (1, 8, 8), levels=(0.01, 50.0)).levels == (0.01, 50)


def test_shapes_are_its_own_where_it_knows_them() -> None:
    assert model_of(X + "GaussianDiffusion1D").shape == (1, SIDE)
    assert model_of(X + "GaussianDiffusion, v").shape == (1, SIDE, SIDE)
    wide = ddp("denoising_diffusion_pytorch", "GaussianDiffusion", ddp_unet, **STEPS)
    wide.image_size = (SIDE, 2 * SIDE)
    assert sm.from_object(wide).shape == (1, SIDE, 2 * SIDE)
    assert sm.from_object(wide, schedule="vp:1").process == sm.VP()
    assert sm.from_object(wide).process == sm.VE()
    # as of torch.compile, whose wrapper would call its loss
    compiled = nn.Module()
    compiled._orig_mod = wide
    assert sm.from_object(compiled).shape == (1, SIDE, 2 * SIDE)


def test_a_class_of_ones_own_that_extends_one_is_read() -> None:
    base: Any = package("azula.denoise").Denoiser

    class Halved(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.schedule = package("azula.noise").VESchedule()

        def forward(self, x_t: Tensor, t: Tensor) -> Any:
            """Return half of the state."""
            return package("azula.denoise").DiracPosterior(x_t / 2)

    assert package_of(Halved()) == "azula"
    x = torch.randn(2, 1, 4, 4)
    torch.testing.assert_close(sm.from_object(Halved(), (1, 4, 4)).denoiser()(x, 3.0), x / 2)


def test_a_function_of_ones_own_may_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """python:module:function, as of a denoiser."""
    module = type(sys)("objects_of_mine")
    module.mine = OBJECTS[X + "GaussianDiffusion, v"].build
    monkeypatch.setitem(sys.modules, "objects_of_mine", module)
    model = sm.load_model("python:objects_of_mine:mine")
    assert (model.shape, model.name) == ((1, SIDE, SIDE), "python:objects_of_mine:mine")


def karras(**settings: Any) -> Any:
    return azula("KarrasDenoiser", lambda noise: noise.VPSchedule(**settings))


def extending_forward() -> Any:
    value = karras()
    own: Callable[..., Any] = type(value).forward

    class Text(type(value)):  # type: ignore[misc]
        def forward(self, x_t: Tensor, t: Tensor, prompt_embeds: Tensor) -> Any:
            """Return what its base does."""
            return own(self, x_t, t)

    value.__class__ = Text
    return value


def diffusion(**settings: Any) -> Any:
    return ddp("denoising_diffusion_pytorch", "GaussianDiffusion", ddp_unet, **STEPS | settings)


REFUSED: dict[str, tuple[Callable[[], Any], Callable[[], Mapping[str, Any]], str]] = {
    "no shape": (karras, dict, "shape: KarrasDenoiser does not say it; give channels and sides"),
    "another shape": (
        diffusion, lambda: {"shape": (3, 8, 8)},
        "shape: got (3, 8, 8); the states of this GaussianDiffusion are (1, 8, 8): leave it out",
    ),
    "a network of a package alone": (
        ddp_unet, SHAPE, "model: got Unet of denoising-diffusion-pytorch; expected LearnedGaussianDiffusion, Gaussian"
    ),
    "a schedule for a model": (
        lambda: small_schedule()["schedule"], SHAPE,
        "model: got ScheduleLogLinear of smalldiffusion; expected ModelMixin: give its network, and this as schedule=",
    ),
    "no schedule": (small_unet, dict, "schedule: Unet does not know its noise levels; give its Schedule"),
    "a schedule that is not asked for": (
        karras, lambda: {**SHAPE(), **small_schedule()}, "schedule: a denoiser of azula has a schedule of its own"
    ),
    "self-conditioning": (
        lambda: ddp("denoising_diffusion_pytorch", "GaussianDiffusion",
                    lambda: ddp_unet(self_condition=True), **STEPS),
        dict, "model: this GaussianDiffusion is conditioned on its own estimate of the step before",
    ),
    "a sum of two predictions": (
        lambda: ddp("weighted_objective_gaussian_diffusion", "WeightedObjectiveGaussianDiffusion",
                    lambda: ddp_unet(out_dim=4), **STEPS),
        dict, "model: got WeightedObjectiveGaussianDiffusion of denoising-diffusion-pytorch; expected",
    ),
    "channels last": (
        lambda: ddp("denoising_diffusion_pytorch_1d", "GaussianDiffusion1D",
                    lambda: ddp_unet("denoising_diffusion_pytorch_1d", "Unet1D"), channel_first=False, **STEPS),
        dict, "model: this GaussianDiffusion1D has channel_first=False",
    ),
    "guided already": (
        lambda: package("azula.guidance.cfg").CFGDenoiser(karras()), SHAPE,
        "model: CFGDenoiser is guided already; give the denoiser inside",
    ),
    "an argument that it wants": (
        extending_forward, SHAPE, "conditions: Text wants prompt_embeds with each state; give sm.from_object(model"
    ),
    "states without channels": (
        lambda: package("smalldiffusion").TimeInputMLP(), small_schedule,
        "model: the states of this TimeInputMLP are (2,); expected channels and sides",
    ),
    "noise levels that fall": (
        lambda: karras(alpha_min=1.0, sigma_min=1e-3), SHAPE, "model: noise levels of its schedule go from"
    ),
    "an object of none": (lambda: nn.Linear(2, 2), SHAPE, "model: got Linear"),
    "no class for all": (
        OBJECTS[K + "OpenAIDenoiser"].build, SHAPE, "labels: OpenAIDenoiser knows no sample of all 3 classes; name some"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_in_one_line(name: str) -> None:
    build, taken, expected = REFUSED[name]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 # the whole message is compared
        sm.from_object(build(), **taken()).denoiser()
    assert str(caught.value).startswith(expected), caught.value
    assert "\n" not in str(caught.value)


def test_offset_noise_is_told_of() -> None:
    with pytest.warns(UserWarning, match="offset_noise_strength = 0.1"):
        sm.from_object(diffusion(offset_noise_strength=0.1))


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (
            Network(),
            r"model: Network takes \(x, t\): a network, no denoiser D\(x, sigma\); sm.from_discrete.*sm.from_flow",
        ),
        (nn.Conv2d(1, 1, 3), r"model: Conv2d takes \(input\) alone: no denoiser .* classifier=sm.Preprocessed"),
    ],
    ids=["of a time", "of states alone"],
)
@pytest.mark.parametrize("command", ["check", "probe"])
def test_a_network_is_no_denoiser(command: str, network: nn.Module, expected: str) -> None:
    """Given where a denoiser is wanted, one of a time would be asked at a noise level without a word."""
    with pytest.raises(ValueError, match=expected):
        getattr(sm, command)(network, shape=(1, 8, 8))


def test_a_training_that_drops_no_label_has_no_null() -> None:
    value = OBJECTS[X + "classifier_free_guidance"].build()
    value.model.cond_drop_prob = 0.0
    with pytest.raises(ValueError, match="knows no sample of all 3 classes"):
        sm.from_object(value).denoiser()
    chosen: Object = OBJECTS[S + "Unet"]
    network = chosen.build()
    network.cond_embed.dropout_prob = 0.0
    with pytest.raises(ValueError, match="knows no sample of all 3 classes"):
        sm.from_object(network, **chosen.taken()).denoiser()
