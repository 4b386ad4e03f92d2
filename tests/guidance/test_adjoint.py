"""Guidance attributed to noise levels: closed forms, central differences, exact sums, and what has no derivative."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.errors import refused
from softmode.denoiser import Denoiser
from softmode.exact.mixture import GaussianMixture
from softmode.guidance.adjoint import Adjoint
from softmode.process import VE, rho_grid
from softmode.samplers import EulerMaruyama, Heun
from softmode.streams import TrajectoryNoise

HIGHEST = 80.0
SPREAD = 0.5
# two classes in two dimensions, the first guided to
MIXTURE = GaussianMixture(torch.tensor([[[2.0, 1.0]], [[-2.0, -1.0]]], dtype=torch.float64), SPREAD)


def grid(steps: int, lowest: float = 0.002) -> Tensor:
    """Return noise levels, and none at the end."""
    levels = rho_grid(HIGHEST, lowest, steps)
    return torch.cat([levels, levels.new_zeros(1)])


def flow(denoiser: Denoiser, guide: Denoiser, x: Tensor, times: Tensor) -> Adjoint:
    """Return Heun's method on the guided probability flow from states at the first level."""

    def sample(guided: Denoiser) -> Tensor:
        *_, final = Heun().steps(guided, VE(), x.clone(), times)
        return final

    return Adjoint(sample, denoiser, guide, times[:-1])


def starts(count: int, *shape: int) -> Tensor:
    return HIGHEST * torch.randn(count, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def first(final: Tensor) -> Tensor:
    """Return the first value of each sample."""
    return final.flatten(1)[:, 0]


def mixture(steps: int) -> Adjoint:
    return flow(MIXTURE.denoiser(0), MIXTURE.denoiser(), starts(6, 1, 2), grid(steps))


def closed_form(x: Tensor, times: Tensor) -> Tensor:
    r"""Return -d x_0/dw per unit of log sigma, without guidance, at the levels of a grid [trial, level].

    The conditional flow is linear, $x_\sigma - \mu = (x_T - \mu) \sqrt{(s^2 + \sigma^2)/(s^2 + T^2)}$; guidance adds
    $-(D - D_{guide})/\sigma$ to dx/d sigma, which the flow takes to the sample by the same root.
    """
    mean, levels = MIXTURE.means[0], times[:-1]
    root = ((SPREAD**2 + levels.square()) / (SPREAD**2 + HIGHEST**2)).sqrt()
    states = mean + (x[:, None] - mean) * root[:, None, None]
    push = torch.stack(
        [
            MIXTURE.denoiser(0)(s, float(at)) - MIXTURE.denoiser()(s, float(at))
            for s, at in zip(states.unbind(1), levels, strict=True)
        ],
        1,
    )
    return first(push.flatten(0, 1)).reshape(len(x), -1) * SPREAD / (SPREAD**2 + levels.square()).sqrt()


def widths(times: Tensor) -> Tensor:
    """Return the share of log sigma that the trapezium rule gives to each level of a grid."""
    levels = times[:-1]
    edges = torch.cat([levels[:1], (levels[1:] + levels[:-1]) / 2, times[-1:]])
    return (edges[:-1] - edges[1:]) / levels


def test_the_susceptibility_of_a_mixture_is_the_closed_form() -> None:
    """On a fine grid, at every level, to 1e-3 of its largest."""
    x, times = starts(6, 1, 2), grid(500)
    exact = closed_form(x, times)
    sweep = flow(MIXTURE.denoiser(0), MIXTURE.denoiser(), x, times).sweep(
        torch.zeros(6, 500, dtype=torch.float64), first
    )
    found = sweep.gradient / widths(times)
    assert float((found - exact).abs()[:, 1:-1].max()) < 1e-3 * float(exact.abs().max())


def test_on_coarse_grids_it_has_the_order_of_the_sampler() -> None:
    """Summed over levels, the error falls by four where steps are halved."""
    x = starts(6, 1, 2)
    fine = grid(2000)
    exact = (closed_form(x, fine) * widths(fine)).sum(1)
    errors = []
    for steps in (40, 80, 160):
        gradient = mixture(steps).sweep(torch.zeros(6, steps, dtype=torch.float64), first).gradient
        errors.append(float((gradient.sum(1) - exact).abs().max()))
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(1.7 < order < 2.3 for order in orders), errors


class Network(torch.nn.Module):
    """A small network of states and levels, made of differentiable operations."""

    def __init__(self, seed: int, width: int = 6) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = torch.nn.Conv1d(1, width, 3, padding=1, dtype=torch.float64)
        self.last = torch.nn.Conv1d(width, 1, 3, padding=1, dtype=torch.float64)

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return D."""
        scale = 1 / (1 + float(torch.as_tensor(sigma)))
        return self.last(torch.tanh(self.first(x * scale) + scale)) + scale * x * 0.3


SAMPLERS: dict[str, Callable[[], Any]] = {"heun": Heun, "euler-maruyama": EulerMaruyama}


def sampled(name: str, x: Tensor, times: Tensor) -> Adjoint:
    """Return an Adjoint of two small networks with one of the package's samplers."""

    def sample(guided: Denoiser) -> Tensor:
        noise = TrajectoryNoise(3, range(len(x)), x.device)
        *_, final = SAMPLERS[name]().steps(guided, VE(), x.clone(), times, noise)
        return final

    return Adjoint(sample, Network(1), Network(2), times[:-1])


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("strength", [0.0, 1.5])
def test_gradients_are_those_of_central_differences(name: str, strength: float) -> None:
    """Every level of two trials, also where only one is guided; deterministic samplers and those with noise."""
    x, times = starts(2, 1, 5), grid(7, 0.05)
    adjoint = sampled(name, x, times)
    weights = strength * torch.linspace(0.5, 1.5, 14, dtype=torch.float64).reshape(2, 7) * torch.tensor([[1.0], [0.0]])
    outcome = lambda final: final.flatten(1).square().sum(1).log()  # noqa: E731
    found = adjoint.sweep(weights, outcome)
    for level in range(7):
        for trial in range(2):
            moved = torch.zeros_like(weights)
            moved[trial, level] = 1e-5
            both = [outcome(adjoint.guided(weights + sign * moved)) for sign in (1, -1)]
            difference = (both[0] - both[1]) / 2e-5
            scale = float(found.gradient.abs().max())
            assert abs(float(found.gradient[trial, level] - difference[trial])) < 1e-6 * scale
            # one trial's weight moves that trial alone
            assert float(difference[1 - trial]) == 0


def gaussian(variance: float) -> Denoiser:
    return lambda x, sigma: x * variance / (variance + float(sigma) ** 2)


def test_autoguidance_of_a_gaussian_is_its_closed_form() -> None:
    r"""$x_0 = x_T (S/(S + T^2))^{(1 + w)/2} (S'/(S' + T^2))^{-w/2}$: what all levels earn, and its derivative by w."""
    S, wide, strength, steps = 0.8, 1.7, 1.2, 300
    x, times = starts(3, 1, 1), grid(steps, 1e-4)
    adjoint = flow(gaussian(S), gaussian(wide), x, times)
    weights = torch.full((3, steps), strength, dtype=torch.float64)
    final = lambda w: first(x) * (S / (S + HIGHEST**2)) ** ((1 + w) / 2) * (wide / (wide + HIGHEST**2)) ** (-w / 2)  # noqa: E731
    slope = 0.5 * math.log(S / (S + HIGHEST**2)) - 0.5 * math.log(wide / (wide + HIGHEST**2))
    found = adjoint.sweep(weights, first)
    assert torch.allclose(found.value, final(strength), rtol=1e-3)
    assert torch.allclose(found.gradient.sum(1), slope * final(strength), rtol=1e-3)
    along = torch.ones_like(weights)
    assert torch.allclose(adjoint.curvature(weights, along, first), slope**2 * final(strength), rtol=1e-3)


def test_the_response_without_a_classifier_is_the_jacobians() -> None:
    """Averaged over all sign vectors the mean square is exact: that of central differences."""
    x, times = starts(2, 1, 3), grid(5, 0.05)
    adjoint = sampled("heun", x, times)
    weights = torch.full((2, 5), 0.7, dtype=torch.float64)
    signs = torch.cartesian_prod(*3 * [torch.tensor([-1.0, 1.0], dtype=torch.float64)]).reshape(8, 1, 1, 3)
    found = adjoint.mean_square(weights, [v.expand(2, 1, 3) for v in signs])
    for level in range(5):
        moved = torch.zeros_like(weights)
        moved[:, level] = 1e-5
        by_weight = (adjoint.guided(weights + moved) - adjoint.guided(weights - moved)) / 2e-5
        assert torch.allclose(found[:, level], by_weight.flatten(1).square().mean(1), rtol=1e-6)


def test_networks_are_called_no_more_than_the_sweep_needs() -> None:
    """Without guidance the guide is called in the sweep alone: D twice, the guide once, at each call of the sampler."""
    calls = {"own": 0, "guide": 0}

    def counted(name: str, denoiser: Denoiser) -> Denoiser:
        def call(x: Tensor, sigma: Tensor | float) -> Tensor:
            calls[name] += 1
            return denoiser(x, sigma)

        return call

    x, times = starts(2, 1, 5), grid(7, 0.05)
    adjoint = flow(counted("own", Network(1)), counted("guide", Network(2)), x, times)
    adjoint.sweep(torch.zeros(2, 7, dtype=torch.float64), first)
    made = int(Heun().calls(times).sum())
    assert calls == {"own": 2 * made, "guide": made}


@pytest.mark.parametrize("steps", [8, 32])
def test_what_is_kept_is_the_states(steps: int) -> None:
    """On the way down one state for each call of the network is kept, however large the network."""
    x, times = starts(2, 1, 5), grid(steps, 0.05)
    adjoint, kept = sampled("heun", x, times), []
    weights = torch.zeros(2, steps, dtype=torch.float64, requires_grad=True)

    class DoneError(Exception):
        """The way down is over."""

    def outcome(final: Tensor) -> Tensor:
        raise DoneError

    with (
        torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t),
        pytest.raises(DoneError),
    ):
        adjoint.sweep(weights, outcome)
    made = int(Heun().calls(times).sum())
    assert kept.count(x.shape) == made
    assert {shape for shape in kept if shape != x.shape} <= {torch.Size([2])}


def test_a_denoiser_that_cannot_be_differentiated_is_named() -> None:
    """By the operation that loses the gradient, before anything else is said."""
    x, times = starts(2, 1, 5), grid(5, 0.05)
    weights = torch.zeros(2, 5, dtype=torch.float64)
    for cut, name in (
        (lambda d: d.detach(), "detach"),
        (lambda d: torch.sign(d).argmax(-1, keepdim=True) + 0 * d.data, "argmax"),
    ):
        adjoint = flow(lambda y, s, cut=cut: cut(Network(1)(y, s)), Network(2), x, times)
        with refused(rf"^model: cannot be differentiated: .*{name}.* loses the gradient"):
            adjoint.sweep(weights, first)
    with refused("^outcome: does not depend on the sample"):
        mixture(5).sweep(torch.zeros(6, 5, dtype=torch.float64), lambda final: torch.zeros(6))
    with refused("^sigma: got .*expected one of the 4 levels"):
        Adjoint(mixture(5).sample, Network(1), Network(2), grid(4)[:-1] * 1.1).sweep(weights, first)


def test_a_gradient_that_is_not_finite_is_left_out_of_its_trial() -> None:
    """The other trials keep theirs."""
    x, times = starts(2, 1, 5), grid(5, 0.05)
    weights = torch.zeros(2, 5, dtype=torch.float64)
    outcome = lambda final: (first(final) - first(final).detach()[0]).abs().sqrt()  # noqa: E731
    gradient = sampled("heun", x, times).sweep(weights, outcome).gradient
    assert bool(gradient[0].isnan().all())
    assert bool(gradient[1].isfinite().all())
