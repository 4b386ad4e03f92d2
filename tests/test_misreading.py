"""Velocities: each kind read rightly raises no alarm, and read as another kind it is noticed."""

import warnings
from functools import partial
from typing import Any

import pytest
import torch

from helpers.errors import refused
from helpers.models import cosine_field
from helpers.random import normal
from softmode.beta import Cosine, Linear
from softmode.contract import check_denoiser
from softmode.denoiser import Denoiser, Network, from_flow, from_velocity
from softmode.exact.empirical import TwoPrototypes
from softmode.exact.gaussian import GaussianDenoiser
from softmode.exact.patch import TwoStatePatch
from softmode.lattice import ReceptiveField
from softmode.misreading import LEVELS, Checked, echo
from softmode.model import Model
from softmode.networks.load import load_model
from softmode.process import VE, VP, Process


def white(variance: float) -> Denoiser:
    return GaussianDenoiser(torch.full((8, 8), variance, dtype=torch.float64), 0.0)


def pixels(x: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
    """Return the posterior mean of independent pixels of +-1."""
    level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    return torch.tanh(x / level.square())


EXACT: dict[str, tuple[Denoiser, tuple[int, ...]]] = {
    "white-0.01": (white(0.01), (1, 8, 8)),
    "white-1": (white(1.0), (1, 8, 8)),
    "white-4": (white(4.0), (1, 8, 8)),
    "white-100": (white(100.0), (1, 8, 8)),
    "two": (TwoPrototypes(cosine_field(8)), (1, 8, 8)),
    "patch": (TwoStatePatch(ReceptiveField.box(3)), (1, 12, 12)),
    "pixels": (pixels, (1, 8, 8)),
}
SHIPPED = ("fashion-mnist", "fashion-mnist-binary", "fashion-mnist-binary-f4", "avatars")
PROCESSES = {"vp": VP(), "linear": VP(Linear()), "cosine": VP(Cosine())}


@pytest.fixture(scope="module")
def models() -> dict[str, tuple[Denoiser, tuple[int, ...]]]:
    shipped = {name: load_model(name) for name in SHIPPED}
    return EXACT | {name: (model.denoiser(), model.shape) for name, model in shipped.items()}


def velocity(denoiser: Denoiser, process: Process) -> Network:
    """Return the network that predicts alpha eps - sigma x_0 of a model."""

    def network(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alpha, sigma = (
            f(t.double()).reshape(-1, *[1] * (x_t.ndim - 1)).to(x_t) for f in (process.alpha, process.sigma)
        )
        return (alpha * x_t - denoiser(x_t / alpha, (sigma / alpha).flatten())) / sigma

    return network


def flow(denoiser: Denoiser, data_at: int) -> Network:
    """Return the network that predicts the velocity of a straight flow; beyond its times it answers as at their end."""

    def network(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        t = t.double().clamp(1e-3, 1 - 1e-3).reshape(-1, *[1] * (x_t.ndim - 1))
        s = 1 - t if data_at else t
        speed = (x_t - denoiser((x_t / (1 - s)).to(x_t), (s / (1 - s)).flatten())) / s
        return (-speed if data_at else speed).to(x_t)

    return network


def told(denoiser: Denoiser, shape: tuple[int, ...], highest: float = 80.0) -> str:
    """Return what is said of a denoiser that is asked at a noise level: refused, warned or nothing."""
    x = torch.zeros(1, *shape)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            denoiser(x, highest)
        except ValueError as error:
            message = str(error)
            return "refused" if "network: read as" in message and len(message) <= 300 else message
    return "warned" if any("it answers noise with the noise" in str(each.message) for each in said) else ""


@pytest.mark.parametrize("name", [*EXACT, *SHIPPED])
def test_a_velocity_that_is_what_it_is_read_as_raises_no_alarm(name: str, models: dict[str, Any]) -> None:
    """Exact models of any spread up to 10, and the trained ones, through both velocities and every process."""
    exact, shape = models[name]
    for process in PROCESSES.values():
        assert told(from_velocity(velocity(exact, process), process), shape) == ""
    for data_at in (0, 1):
        assert told(from_flow(flow(exact, data_at), data_at), shape) == ""


@pytest.mark.parametrize("name", [*EXACT, *SHIPPED])
def test_a_flow_s_velocity_is_refused_by_from_velocity(name: str, models: dict[str, Any]) -> None:
    """With data at 0, on every process but for data that are wider than most of the noise that they are asked at."""
    exact, shape = models[name]
    wide = {("white-4", "linear"): "", ("white-100", "linear"): "warned", ("white-100", "cosine"): ""}
    for each, process in PROCESSES.items():
        assert told(from_velocity(flow(exact, 0), process), shape) == wide.get((name, each), "refused"), each


@pytest.mark.parametrize("name", ["two", "patch", "pixels", "fashion-mnist-binary", "avatars"])
def test_what_from_flow_reads_wrongly_is_warned_of(name: str, models: dict[str, Any]) -> None:
    """The other end of the data, and a velocity alpha eps - sigma x_0."""
    exact, shape = models[name]
    for network, data_at in (
        (flow(exact, 0), 1),
        (flow(exact, 1), 0),
        (velocity(exact, PROCESSES["cosine"]), 0),
        (velocity(exact, PROCESSES["linear"]), 0),
    ):
        assert told(from_flow(network, data_at), shape) == "warned"
        assert told(from_flow(network, data_at, check=False), shape) == ""


def test_the_error_that_the_mix_up_makes() -> None:
    """Of white data of unit variance: 42 % at sigma 0.5 and 150 % at 2, as the two velocities give by hand."""
    exact, x = white(1.0), normal(2, 1, 8, 8)

    def straight(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        t = t.reshape(-1, 1, 1, 1)
        return (2 * t - 1) / (t**2 + (1 - t) ** 2) * x_t

    wrong, right = from_velocity(straight, VP(), check=False), from_flow(straight)
    for sigma, error in ((0.5, 0.42), (2.0, 1.50)):
        expected = exact(x, sigma)
        assert float((wrong(x, sigma) - expected).norm() / expected.norm()) == pytest.approx(error, abs=0.01)
        torch.testing.assert_close(right(x, sigma), expected)


@pytest.mark.parametrize("variance", [0.01, 1.0, 100.0])
def test_the_echo_of_white_data(variance: float) -> None:
    r"""$\sigma S/(S + \sigma^2)$, whatever the noise."""
    for level in LEVELS:
        expected = level * variance / (variance + level**2)
        assert echo(white(variance), normal(2, 1, 8, 8), level) == pytest.approx(expected)


def test_it_is_asked_no_higher_than_the_caller_asks_and_no_more_than_once() -> None:
    """A network that knows levels up to 5 is asked up to there; the stream of random numbers is left alone."""
    asked: list[float] = []

    def network(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        asked.append(float(t.max()) / (1 - float(t.max())))
        return velocity_of(x_t, t)

    velocity_of = flow(white(1.0), 0)
    denoiser, x = from_flow(network), normal(1, 1, 8, 8)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    denoiser(x, 1.0)
    assert asked == pytest.approx([1.0])
    denoiser(x, 5.0)
    assert max(asked) == pytest.approx(5.0)
    assert len(asked) == 2 + 2 * 3
    denoiser(x, 5.0)
    assert len(asked) == 3 + 2 * 3
    assert torch.equal(torch.get_rng_state(), before)


def test_a_refusal_stands_and_comes_before_a_run() -> None:
    """Asked again it is refused again; an experiment's check of its denoisers asks for it at once."""
    wrong = from_velocity(flow(white(1.0), 0), VP())
    assert [told(wrong, (1, 8, 8)) for _ in range(2)] == ["refused", "refused"]
    model = Model("mine", VE(), (1, 8, 8), lambda _label: wrong)
    with refused("network: read as the velocity alpha eps - sigma x_0 it is no denoiser: for a straight flow's, use"):
        check_denoiser(wrong, model, torch.float32, torch.device("cpu"), 0.4)
    low = Model("mine", VE(), (1, 8, 8), lambda _label: wrong, levels=(0.01, 1.0))
    check_denoiser(wrong, low, torch.float32, torch.device("cpu"), 0.4)


def test_a_network_that_fails_at_a_level_is_not_judged_there() -> None:
    def network(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if float(t.max()) > 0.8:
            raise IndexError("beyond the table")
        return flow(white(1.0), 0)(x_t, t)

    denoiser = from_flow(network)
    with pytest.raises(IndexError, match="beyond the table"):
        denoiser(torch.zeros(1, 1, 8, 8), 80.0)
    assert isinstance(denoiser, Checked)
    assert sum(value == value for value in denoiser.echoes.values()) == 3


def test_derivatives_go_through(models: dict[str, Any]) -> None:
    """The first call may be inside a transform of torch."""
    exact, shape = models["patch"]
    x, v = normal(2, *shape), normal(2, *shape, seed=3)
    expected, pushed = exact(x, 70.0), exact.jvp(x, 70.0, v)
    for make in (lambda: from_flow(flow(exact, 1), 1), lambda: from_velocity(velocity(exact, VP()), VP())):
        inside, outside = partial(make(), sigma=70.0), make()
        torch.testing.assert_close(torch.func.jvp(inside, (x,), (v,))[1], pushed, rtol=1e-6, atol=1e-9)
        each = torch.func.vmap(lambda one, denoiser=outside: denoiser(one[None], 70.0)[0])(x)
        torch.testing.assert_close(each, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("data_at", [2, -1, 0.5, "0", None])
def test_data_are_at_one_end(data_at: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="data_at"):
        from_flow(flow(white(1.0), 0), data_at)
