"""Anybody's denoiser: in whatever form it wants its noise level, compiled, and through the command line."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import softmode as sm
from helpers.commands import Terminal
from softmode.adapted import FORMS, Adapted, adapted
from softmode.contract import check_denoiser
from softmode.denoiser import Autocast
from softmode.experiments.call import experiment, plan
from softmode.misuse import watch
from softmode.model import Model

CPU = torch.device("cpu")
EXACT = sm.GaussianDenoiser(torch.full((4, 4), 0.25), torch.zeros(1, 4, 4))


class Net(nn.Module):
    """A small network that is told its noise level through a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.level, self.inside = nn.Linear(1, 1), nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return torch.tanh(self.inside(x) + self.level(sigma.reshape(-1, 1)).reshape(-1, 1, 1, 1))


def wants(fits: Callable[[Any, Tensor], bool]) -> Callable[[Tensor, Any], Tensor]:
    """Return an exact denoiser that takes a noise level in one form alone."""

    def denoiser(x: Tensor, sigma: Any) -> Tensor:
        if not fits(sigma, x):
            raise IndexError("too many indices")
        return EXACT(x, float(torch.as_tensor(sigma).flatten()[0]))

    return denoiser


WANTED: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "a scalar in float64": wants(lambda s, x: s.ndim == 0 and s.dtype == torch.float64),
    "a scalar of the states' type": wants(lambda s, x: s.ndim == 0 and s.dtype == x.dtype),
    "[batch]": wants(lambda s, x: s.shape == x.shape[:1] and s.dtype == x.dtype),
    "[batch, 1, ...]": wants(lambda s, x: s.shape == (len(x), 1, 1, 1) and s.dtype == x.dtype),
    "a number": wants(lambda s, x: isinstance(s, float)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("given", [0.7, torch.tensor(0.7), torch.tensor([0.7])])
def test_a_noise_level_comes_in_the_form_that_is_wanted(form: str, given: Any) -> None:
    """Found at the first call and kept for batches of another size, whatever the level is given as."""
    denoiser, x = Adapted(WANTED[form]), torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for states in (x, x[:1]):
        torch.testing.assert_close(denoiser(states, given), EXACT(states, given))
    assert denoiser.form == [form]


def test_levels_of_each_state_never_spread_over_its_sites() -> None:
    """x / sigma with as many states as columns would divide columns: each level is asked for alone, in any order."""
    x = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([2.0, 0.5, 2.0, 0.1])
    found = adapted(lambda x, sigma: x / (1 + sigma**2))(x, levels)
    assert torch.equal(found, x / (1 + levels.double()[:, None, None, None] ** 2).float())


def test_what_fails_in_every_form_says_what_it_said_first() -> None:
    def fails(x: Tensor, sigma: Any) -> Tensor:
        raise RuntimeError(f"{type(sigma).__name__} {sigma}")

    with pytest.raises(RuntimeError, match=r"Tensor 0\.5"):
        Adapted(fails)(torch.zeros(1, 1, 4, 4), 0.5)


def test_our_own_denoisers_stay_as_they_are() -> None:
    """Exact ones have derivatives of their own, which an experiment asks for."""
    for own in (EXACT, sm.from_noise(Net(), sm.VP()), Autocast(Net(), torch.bfloat16)):
        assert adapted(own) is own
    assert isinstance(Model("mine", sm.VE(), (1, 4, 4), lambda _label: Net()).denoiser(), Adapted)


def test_answers_in_float64_are_rounded_to_the_states() -> None:
    x = torch.randn(2, 1, 4, 4)
    assert adapted(lambda x, sigma: EXACT(x.double(), sigma))(x, 0.5).dtype == torch.float32
    assert adapted(lambda x, sigma: EXACT(x.float(), sigma))(x.double(), 0.5).dtype == torch.float32


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_module_has_the_values_and_derivatives_of_its_own(backend: str) -> None:
    """Derivatives run the module that was compiled, and the network inside is that one."""
    network = Net().eval().requires_grad_(False)
    compiled, x = torch.compile(network, backend=backend), torch.randn(2, 1, 4, 4)
    model = Model("mine", sm.VE(), (1, 4, 4), lambda _label: compiled)
    check_denoiser(model.denoiser(), model, torch.float32, CPU, 0.5)
    torch.testing.assert_close(model.denoiser()(x, 0.5), network(x, torch.tensor(0.5)))
    found, expected = (
        torch.func.jvp(lambda z, d=d: d(z, torch.tensor(0.5)), (x,), (torch.ones_like(x),))[1]
        for d in (compiled, network)
    )
    torch.testing.assert_close(found, expected)
    half = torch.compile(Net().bfloat16(), backend=backend)
    _, seen = watch(lambda x, sigma: half(x.bfloat16(), sigma.bfloat16()).float(), x, torch.tensor(0.5))
    assert seen.half == torch.bfloat16


ANSWERS = Net().eval().requires_grad_(False)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("name", ["probe", "instability"])
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_that_is_hidden_is_refused_where_derivatives_are_taken(name: str, precision: Any) -> None:
    """An autocast or casts in a wrapper answer without a complaint; pulses take no differences."""
    cast = partial(lambda n, x, sigma: n(x.to(precision), sigma.to(precision)).float(), ANSWERS.to(precision))
    told = f"computes in {str(precision)[6:]}, whose rounding differences enlarge: .*, .float.*precision="
    hidden = [cast] if precision == torch.float16 else [cast, lambda x, s: Autocast(Net(), precision)(x, s.float())]
    for each in hidden:
        with pytest.raises(ValueError, match=f"^model: .*{told}"):
            plan(experiment(name), model=each, shape=(1, 16, 16), states="reverse")
    ANSWERS.float()


@pytest.mark.usefixtures("unchecked_shapes")
def test_a_faulty_function_is_refused_by_the_command_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, exit code 2, nothing written; a Model's own denoisers as those that come alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    Path("faulty_denoisers.py").write_text(
        "import softmode as sm\nimport torch\n"
        "def keyword():\n    def mine(x, sigma, *, y):\n        return x\n    return mine\n"
        "def meta():\n    network = torch.nn.Conv2d(1, 1, 1, device='meta')\n"
        "    return sm.Model('mine', sm.VE(), (1, 16, 16), lambda label: lambda x, sigma: network(x))\n"
    )
    for function, told in (("keyword", "wants y besides"), ("meta", "meta device, without numbers: load them first")):
        shape = ["--shape", "1", "16", "16"] if function == "keyword" else []
        assert told in Terminal(capsys).refuse("probe", f"python:faulty_denoisers:{function}", *shape)


@pytest.mark.parametrize("out", [lambda x: SimpleNamespace(sample=x), lambda x: (x,), lambda x: x])
def test_networks_may_return_what_those_of_diffusers_do(out: Callable[[Tensor], Any]) -> None:
    """An object with a `sample`, or that alone in a tuple, by every converter."""
    x, betas = torch.randn(2, 1, 4, 4), torch.linspace(1e-3, 0.2, 30)
    makers = [partial(make, process=sm.VP()) for make in (sm.from_noise, sm.from_score, sm.from_velocity)]
    makers += [sm.from_flow, partial(sm.from_discrete, alphas_cumprod=(1 - betas).cumprod(0))]
    for make in makers:
        plain, wrapped = make(lambda x, t: x / 2), make(lambda x, t: out(x / 2))
        assert torch.equal(wrapped(x, 0.7), plain(x, 0.7))
