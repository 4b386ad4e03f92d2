import pytest
import torch

from helpers.errors import refused
from helpers.models import processes
from helpers.random import normal
from softmode.denoiser import Guided, from_noise, from_score, from_velocity, per_sample, score
from softmode.exact.empirical import EmpiricalDenoiser, TwoPrototypes
from softmode.exact.patch import TwoStatePatch
from softmode.lattice import ReceptiveField
from softmode.process import VP
from softmode.schedule import Linear

LEVELS = torch.tensor([0.05, 0.4, 2.0, 30.0], dtype=torch.float64)


def prototypes():
    return TwoPrototypes(normal(2, 3, 4, seed=5))


@pytest.mark.parametrize("sigma", [0.3, 1.0, 7.0])
def test_score_is_the_gradient_of_a_mixture(sigma):
    """(D - x) / sigma^2 of a finite data set is the autograd gradient of log sum_j pi_j N(x; x_j, sigma^2)."""
    data, x = normal(4, 1, 5), normal(3, 1, 5, seed=1).requires_grad_()
    prior = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    squared = (x[:, None] - data).flatten(2).square().sum(2)
    density = torch.logsumexp(prior.log() - squared / (2 * sigma**2), 1)
    (expected,) = torch.autograd.grad(density.sum(), x)
    torch.testing.assert_close(
        score(EmpiricalDenoiser(data, prior), x.detach(), sigma), expected, rtol=1e-12, atol=1e-12
    )


def test_score_takes_noise_levels_per_state():
    """With one noise level per state the score divides each state by its own sigma^2, and keeps float32."""
    denoiser, x = prototypes(), normal(4, 2, 3, 4)
    expected = torch.cat([score(denoiser, x[i : i + 1], float(LEVELS[i])) for i in range(4)])
    torch.testing.assert_close(score(denoiser, x, LEVELS), expected, rtol=1e-13, atol=1e-13)
    assert score(denoiser, x.float(), LEVELS).dtype == torch.float32


def synthetic(target, denoiser, process):
    """Return the network that an exact denoiser would be if it predicted `target` in the process's own coordinates."""
    seen = []

    def network(x_t, t):
        seen.append((x_t.shape, t.shape, t.dtype))
        alpha, sigma = (f(t.double()).reshape(-1, *[1] * (x_t.ndim - 1)) for f in (process.alpha, process.sigma))
        x_0 = denoiser(x_t / alpha, (sigma / alpha).flatten())
        noise = (x_t - alpha * x_0) / sigma
        return {"score": -noise / sigma, "noise": noise, "velocity": alpha * noise - sigma * x_0}[target]

    return network, seen


@processes
@pytest.mark.parametrize(
    ("target", "convert"),
    [("score", from_score), ("noise", from_noise), ("velocity", from_velocity)],
    ids=["score", "noise", "velocity"],
)
def test_converters_recover_the_exact_denoiser(process, target, convert):
    """A network made of an exact model, seen through its converter, is that model, and so is its derivative."""
    exact, x = prototypes(), normal(4, 2, 3, 4)
    network, seen = synthetic(target, exact, process)
    denoiser = convert(network, process)
    for sigma in (*LEVELS.tolist(), LEVELS):
        expected = exact(x, sigma)
        torch.testing.assert_close(denoiser(x, sigma), expected, rtol=1e-9, atol=1e-9)
    assert set(seen) == {(x.shape, (4,), torch.float64)}
    v = normal(4, 2, 3, 4, seed=2)
    response = torch.func.jvp(lambda x: denoiser(x, 1.3), (x,), (v,))[1]
    torch.testing.assert_close(response, exact.jvp(x, 1.3, v), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("convert", [from_score, from_noise, from_velocity])
def test_converters_call_the_network_in_its_own_coordinates(convert):
    """The network sees alpha x and the process's time of each state, in the dtype of the states."""
    process, calls = VP(Linear()), []

    def network(x_t, t):
        calls.append((x_t, t))
        return torch.zeros_like(x_t)

    x = normal(4, 1, 6, dtype=torch.float32)
    out = convert(network, process)(x, LEVELS)
    (x_t, t) = calls.pop()
    expected = process.time(LEVELS)
    assert x_t.dtype == t.dtype == out.dtype == torch.float32
    torch.testing.assert_close(t.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(x_t.double(), process.alpha(expected)[:, None, None] * x.double(), rtol=1e-5, atol=1e-7)


def guided(weight):
    """Return a guided pair of exact models, its two parts, and the list of the guide's calls."""
    denoiser, other = prototypes(), TwoPrototypes(normal(2, 3, 4, seed=6))
    calls = []

    def guide(x, sigma):
        calls.append(sigma)
        return other(x, sigma)

    return Guided(denoiser, guide, weight), denoiser, other, calls


def test_no_weight_is_no_guidance():
    """With w = 0 the guided denoiser is bit for bit the unguided one, and the guide is never called."""
    x = normal(4, 2, 3, 4)
    model, denoiser, _, calls = guided(torch.zeros_like)
    for sigma in (0.7, LEVELS):
        assert torch.equal(model(x, sigma), denoiser(x, sigma))
    assert calls == []


@pytest.mark.parametrize("w", [0.5, 2.0, -1.0])
def test_constant_weight_is_the_formula(w):
    """With constant w the guided denoiser is D + w (D - D_guide), for scalar and per-state sigma."""
    x = normal(4, 2, 3, 4)
    model, denoiser, other, calls = guided(lambda sigma: torch.full_like(sigma, w))
    for sigma in (0.7, LEVELS):
        expected = (1 + w) * denoiser(x, sigma) - w * other(x, sigma)
        torch.testing.assert_close(model(x, sigma), expected, rtol=1e-13, atol=1e-13)
    assert len(calls) == 2
    assert model(x.float(), LEVELS).dtype == torch.float32


def test_interval_weight_acts_on_its_own_states_only():
    """An interval pushes the states inside it and leaves the others bit for bit; outside it the guide is not called."""
    x = normal(4, 2, 3, 4)
    model, denoiser, other, calls = guided(lambda sigma: 2.0 * ((sigma > 0.1) & (sigma <= 2.0)))
    out, plain = model(x, LEVELS), denoiser(x, LEVELS)
    assert torch.equal(out[[0, 3]], plain[[0, 3]])
    expected = plain + 2 * (plain - other(x, LEVELS))
    torch.testing.assert_close(out[1:3], expected[1:3], rtol=1e-13, atol=1e-13)
    assert (out[1:3] != plain[1:3]).any()
    for sigma, times in ((2.0, 1), (2.01, 0), (0.1, 0), (0.11, 1)):
        calls.clear()
        model(x, sigma)
        assert len(calls) == times


def test_the_guide_sees_only_the_states_that_are_guided():
    """With a weight of its own for every state, at one noise level or at one of each; the others keep every bit."""
    x, weights = normal(4, 2, 3, 4), torch.tensor([0.0, 2.0, 0.0, -1.0], dtype=torch.float64)
    denoiser, other, seen = prototypes(), TwoPrototypes(normal(2, 3, 4, seed=6)), []

    def guide(states, sigma):
        seen.append((states, sigma))
        return other(states, sigma)

    model = Guided(denoiser, guide, lambda sigma: weights)
    for sigma in (0.7, LEVELS):
        seen.clear()
        out, plain = model(x, sigma), denoiser(x, sigma)
        assert torch.equal(out[[0, 2]], plain[[0, 2]])
        expected = plain + weights[:, None, None, None] * (plain - other(x, sigma))
        torch.testing.assert_close(out, expected, rtol=1e-13, atol=1e-13)
        ((states, level),) = seen
        assert torch.equal(states, x[[1, 3]])
        assert torch.equal(level, LEVELS[[1, 3]] if sigma is LEVELS else torch.tensor(0.7, dtype=torch.float64))


def test_guidance_is_a_denoiser_again():
    """A guided denoiser can be guided: the weights of nested guidance by one guide multiply up as 1 + w."""
    x = normal(4, 2, 3, 4)
    denoiser, guide = prototypes(), TwoPrototypes(normal(2, 3, 4, seed=6))
    inner = Guided(denoiser, guide, lambda sigma: torch.full_like(sigma, 0.5))
    outer = Guided(inner, guide, lambda sigma: torch.full_like(sigma, 1.0))
    once = Guided(denoiser, guide, lambda sigma: torch.full_like(sigma, 2.0))
    torch.testing.assert_close(outer(x, LEVELS), once(x, LEVELS), rtol=1e-13, atol=1e-13)


def test_per_sample_broadcasts_against_states():
    """Scalars, [1] and [batch] become float64 tensors of the states' rank."""
    x = normal(3, 2, 4, 5, dtype=torch.float32)
    for sigma, shape in ((2.0, (1, 1, 1, 1)), (torch.tensor(2.0), (1, 1, 1, 1)), (torch.ones(1), (1, 1, 1, 1)),
                         (torch.ones(3), (3, 1, 1, 1))):  # fmt: skip
        out = per_sample(sigma, x)
        assert (out.shape, out.dtype) == (shape, torch.float64)
    assert per_sample(torch.tensor([1.0, 2.0, 3.0]), x).flatten().tolist() == [1, 2, 3]


@pytest.mark.parametrize("shape", [(2,), (4,), (0,), (3, 1), (3, 1, 1, 1), (1, 1)])
def test_per_sample_refuses_other_shapes(shape):
    """Any other shape of sigma is refused in one line, also by every function that takes sigma."""
    x = normal(3, 1, 4, 5)
    denoiser = TwoStatePatch(ReceptiveField.box(3, 2))
    for call in (per_sample, lambda sigma, x: denoiser(x, sigma), lambda sigma, x: score(denoiser, x, sigma)):
        with refused(r"^sigma: got shape \("):
            call(torch.ones(shape), x)
