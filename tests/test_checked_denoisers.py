"""A denoiser that is none is refused by what is wrong with it, before anything is computed."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from softmode.contract import check_classifier, check_denoiser
from softmode.denoiser import Denoiser
from softmode.exact.empirical import EmpiricalDenoiser
from softmode.model import Model
from softmode.process import VE

CPU = torch.device("cpu")


class Wrapped(nn.Module):
    """x times 1/2 by way of some layers."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        return self.layers(x) / 2


def check(denoiser: Any, dtype: torch.dtype = torch.float32, sigma: float = 0.5) -> float:
    model = Model("mine", VE(), (2, 4, 4), lambda _label: denoiser)
    return check_denoiser(denoiser, model, dtype, CPU, sigma)


def overwrites(x: Tensor, sigma: Tensor) -> Tensor:
    return x.mul_(0.5).clone()


def overwrites_level(x: Tensor, sigma: Tensor) -> Tensor:
    sigma += 1
    return x / 2


def swapped(sigma: float, x: Tensor) -> Tensor:
    return x / (1 + sigma)


def unnamed(a: float, b: Tensor) -> Tensor:
    return b[:, :1] / 2 if b.shape[1] == 1 else b / (1 + a)


class Answer(NamedTuple):
    mean: Tensor
    variance: Tensor


class Last:
    """What answers as it was last called with something else."""

    def __init__(self) -> None:
        self.seen = self.before = torch.zeros(1)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        if not torch.equal(x, self.seen):
            self.seen, self.before = x.clone(), self.seen
        return x / 2 + 0.01 * self.before.mean()


def second_size(x: Tensor, sigma: Tensor) -> Tensor:
    if len(x) != 3:
        raise RuntimeError("captured for 3 states")
    return x / 2


HALF, META, WIDE = nn.Conv2d(2, 2, 1).half(), nn.Conv2d(2, 2, 1, device="meta"), nn.Conv2d(2, 2, 1).double()


def keyword(x: Tensor, sigma: Tensor, *, prompt: str) -> Tensor:
    return x


def loud(x: Tensor, sigma: Tensor) -> Tensor:
    raise RuntimeError("Expected all tensors\nto be\n" + "on one device " * 1000)


WRONG: dict[str, tuple[Callable[..., Any], str]] = {
    "first state only": (lambda x, sigma: x[:1], r"returned \(1, 2, 4, 4\) torch.float32 for states \(3, 2, 4, 4\)"),
    "mean over the batch": (lambda x, sigma: x.mean(0, keepdim=True).expand_as(x), "mixes its batch"),
    "first state for all": (lambda x, sigma: x[:1].expand_as(x).clone(), "mixes its batch"),
    "batch reversed": (lambda x, sigma: x.flip(0), "mixes its batch"),
    "batch norm in training": (Wrapped(nn.BatchNorm2d(2, affine=False)), r"mixes its batch.*call \.eval\(\)"),
    "dropout in training": (Wrapped(nn.Dropout(0.5)), r"two equal calls at sigma = 0\.5 differently.*call \.eval\(\)"),
    "random": (lambda x, sigma: x + 1e-3 * torch.randn_like(x), "it is random or in training mode"),
    "another type": (lambda x, sigma: x.double(), "returned .* torch.float64 for states .* torch.float32"),
    "another shape": (lambda x, sigma: x.flatten(2), r"returned \(3, 2, 16\)"),
    "a tuple": (lambda x, sigma: (x, x), r"returned tuple, .* give lambda x, sigma: D\(x, sigma\)\[0\], or if that"),
    "another device": (lambda x, sigma: torch.empty_like(x, device="meta"), "returned .* on meta"),
    "nan": (lambda x, sigma: x / 0 * 0, "NaN or infinite values at sigma = 0.5"),
    "overwrites its input": (overwrites, "overwrites the states"),
    "overwrites the level": (overwrites_level, "overwrites the states or the noise level"),
    "swapped arguments": (swapped, r"takes \(sigma, x\); expected the states first: lambda x, sigma: D\(sigma, x\)"),
    "swapped, without names": (unnamed, "takes the noise level first: give lambda x, sigma: D.sigma, x"),
    "a keyword": (
        keyword,
        r"wants prompt besides .* functools.partial\(D, prompt=...\), or if it is the class, sm",
    ),
    "named parts": (lambda x, sigma: Answer(x, x), r"returned Answer, which holds states in \.mean; give lambda"),
    "a dict": (
        lambda x, sigma: {"x0": x},
        r"returned dict, .* give lambda x, sigma: D\(x, sigma\)\['x0'\], or if",
    ),
    "an object": (lambda x, sigma: SimpleNamespace(sample=x), r"D\(x, sigma\)\.sample, or .* sm.from_discrete or"),
    "a variance too": (lambda x, sigma: torch.cat([x, x], 1), r"returned \(3, 4, 4, 4\) .*D\(x, sigma\)\[:, :2\]"),
    "half precision": (lambda x, sigma: HALF(x), r"computes in float16.* give its network in float32, \.float"),
    "half precision returned": (lambda x, sigma: x.bfloat16(), r"returned .* torch.bfloat16: it computes in bfloat16"),
    "half precision within": (
        lambda x, sigma: x.half().float(),
        "rounds: it computes in float16, whose ",
    ),
    "no weights": (
        lambda x, sigma: META(x),
        "are on the meta device, without numbers: load them",
    ),
    "wider weights": (lambda x, sigma: WIDE(x), "its Conv2d is in float64: give dtype='float64', or convert it"),
    "one batch alone": (second_size, r"captured for 3 states.* with states \(1, 2, 4, 4\)"),
    "what was asked before": (Last(), "only until it is called with other states .* depend on x and sigma alone"),
    "too few arguments": (lambda x: x, r"failed at sigma = 0\.5 \(TypeError: "),
    "many lines": (loud, r"failed at sigma = 0\.5 \(RuntimeError: Expected all tensors\)"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_each_fault_is_named(kind: str) -> None:
    """In one line that begins with the model's name."""
    denoiser, message = WRONG[kind]
    with pytest.raises(ValueError, match=f"^model: 'mine'.*{message}") as error:
        check(denoiser)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) <= 300


RIGHT: dict[str, Denoiser] = {
    "identity": lambda x, sigma: x,
    "zero": lambda x, sigma: torch.zeros_like(x),
    "exact": EmpiricalDenoiser(torch.tensor([1.0, -1.0])[:, None, None, None].expand(2, 2, 4, 4)),
    "evaluated": lambda x, sigma: Wrapped(nn.BatchNorm2d(2), nn.Dropout(0.5)).eval().to(x.dtype)(x, sigma),
    "its own buffer": lambda x, sigma: torch.add(x / 2, 0, out=BUFFER.get(x)),
}


class Buffer:
    """Memory that a denoiser uses anew in every call."""

    def __init__(self) -> None:
        self.held: dict[Any, Tensor] = {}

    def get(self, x: Tensor) -> Tensor:
        return self.held.setdefault((x.shape, x.dtype), torch.empty_like(x))


BUFFER = Buffer()


@pytest.mark.parametrize("sigma", [0.01, 1.0, 80.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", RIGHT)
def test_what_is_a_denoiser_passes(kind: str, dtype: torch.dtype, sigma: float) -> None:
    """At every level and in every type; the answer is a time."""
    assert 0 < check(RIGHT[kind], dtype, sigma) < 10


def test_the_check_leaves_the_random_numbers_alone() -> None:
    """A run's numbers do not depend on it."""
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    check(RIGHT["identity"])
    assert torch.equal(torch.randn(4), expected)


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        (lambda x: x.flatten(1).sum(1), r"returned \(2,\) for two states; expected finite logits \(2, classes\)"),
        (lambda x: x.flatten(1)[:1], r"returned \(1, 32\)"),
        (lambda x: x.flatten(1) / 0, "expected finite logits"),
        (lambda x: x.flatten(1)[:, :0], r"returned \(2, 0\)"),
        (lambda x: "dress", "returned str"),
        (lambda x, y: x, r"cannot tell the classes of states \(2, 4, 4\) \(TypeError: "),
        (nn.Linear(3, 2), r"cannot tell the classes of states \(2, 4, 4\) \(RuntimeError: "),
        (nn.Sequential(nn.Flatten(), nn.Dropout(0.5)), r"two equal calls differently; call \.eval\(\)"),
    ],
)  # fmt: skip
def test_each_fault_of_a_classifier_is_named(classifier: Any, message: str) -> None:
    model = Model("mine", VE(), (2, 4, 4), lambda _label: RIGHT["identity"])
    with pytest.raises(ValueError, match=f"^classifier: .*{message}") as error:
        check_classifier(classifier, model, torch.float32, CPU)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) <= 300
    check_classifier(nn.Sequential(nn.Flatten(), nn.Dropout(0.5)).eval(), model, torch.float32, CPU)
