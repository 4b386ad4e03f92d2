import pytest
import torch

from helpers.errors import refused
from helpers.models import processes, skewed_spectrum
from helpers.random import normal
from softmode.beta import Linear
from softmode.denoiser import Guided, from_flow, from_noise, from_score, from_velocity, per_sample, score
from softmode.exact.empirical import EmpiricalDenoiser, TwoPrototypes
from softmode.exact.gaussian import GaussianDenoiser
from softmode.exact.patch import TwoStatePatch
from softmode.experiments.call import experiment, plan
from softmode.lattice import ReceptiveField
from softmode.process import VP
from softmode.timesteps import from_discrete

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


@pytest.mark.parametrize("data_at", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_flow_is_the_exact_denoiser(data_at, dtype):
    """Of a Gaussian model and of a mixture, whose velocity is that of a straight path; so is its derivative."""
    for exact in (GaussianDenoiser(skewed_spectrum(3, 4), 0.7), prototypes()):
        seen = []

        def network(x_t, t, exact=exact, seen=seen):
            seen.append((x_t.dtype, t.dtype, t.shape, float(t.min()), float(t.max())))
            s = (1 - t if data_at else t).double().reshape(-1, 1, 1, 1)
            x_0 = exact(x_t.double() / (1 - s), (s / (1 - s)).flatten())
            noise = (x_t.double() - (1 - s) * x_0) / s
            return (x_0 - noise if data_at else noise - x_0).to(x_t.dtype)

        denoiser, x = from_flow(network, data_at), normal(4, 2, 3, 4).to(dtype)
        close = {torch.float32: 2e-5, torch.float64: 1e-9}[dtype]
        for sigma in (*LEVELS.tolist(), LEVELS):
            scaled = x * torch.as_tensor(sigma, dtype=dtype).reshape(-1, 1, 1, 1)
            found = denoiser(scaled, sigma)
            assert found.dtype == dtype
            torch.testing.assert_close(found, exact(scaled, sigma), rtol=close, atol=close)
        assert all(each[:3] == (dtype, dtype, (4,)) and each[3] > 0 and each[4] < 1 for each in seen)
    v = normal(4, 2, 3, 4, seed=2).to(dtype)
    response = torch.func.jvp(lambda x: denoiser(x, 1.3), (x,), (v,))[1]
    torch.testing.assert_close(response, exact.jvp(x, 1.3, v), rtol=close, atol=close)


ALPHAS = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 100, dtype=torch.float64) * 10, 0)


def discrete(exact, prediction, learned=0):
    """Return the network of whole timesteps that an exact denoiser would be, with channels of a variance behind."""

    def network(x_t, t):
        square = ALPHAS[t.long()].reshape(-1, 1, 1, 1)
        alpha, sigma = square.sqrt(), (1 - square).sqrt()
        x_0 = exact(x_t.double() / alpha, (sigma / alpha).flatten())
        noise = (x_t.double() - alpha * x_0) / sigma
        made = {"epsilon": noise, "v_prediction": alpha * noise - sigma * x_0, "sample": x_0}[prediction]
        return torch.cat([made, torch.full_like(made[:, :1], 9.0).expand(-1, learned, -1, -1)], 1).to(x_t.dtype)

    return network


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("learned", [0, 2])
@pytest.mark.parametrize("form", [torch.Tensor.clone, torch.Tensor.tolist, torch.Tensor.numpy])
def test_a_network_of_timesteps_is_the_exact_denoiser(prediction, learned, form):
    """At the level of every timestep, one for all states or one for each; so is its derivative."""
    exact, x = prototypes(), normal(4, 2, 3, 4)
    denoiser = from_discrete(discrete(exact, prediction, learned), form(ALPHAS), prediction)
    levels = ((1 - ALPHAS) / ALPHAS).sqrt()
    assert denoiser.levels == pytest.approx((float(levels[0]), float(levels[-1])))
    for at in (0, 1, 37, 99):
        torch.testing.assert_close(denoiser(x, levels[at]), exact(x, levels[at]), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(denoiser(x, float(levels[at])), exact(x, levels[at]), rtol=1e-6, atol=1e-6)
    some = levels[[3, 20, 60, 98]] * (1 + 1e-9)  # whole but for rounding
    torch.testing.assert_close(denoiser(x, some), exact(x, some), rtol=1e-6, atol=1e-6)
    v = normal(4, 2, 3, 4, seed=2)
    response = torch.func.jvp(lambda x: denoiser(x, levels[50] * (1 + 1e-9)), (x,), (v,))[1]
    torch.testing.assert_close(response, exact.jvp(x, levels[50], v), rtol=1e-6, atol=1e-6)


def test_between_two_timesteps_a_network_is_given_a_fraction():
    """As diffusers' networks are: linear in the log of the level; beyond them it is refused."""
    asked = []
    denoiser = from_discrete(lambda x_t, t: asked.append(t) or x_t, ALPHAS.tolist())
    levels = ((1 - ALPHAS) / ALPHAS).sqrt()
    middle = (levels[40] * levels[41]).sqrt()
    denoiser(normal(2, 1, 3, 4).float(), middle)
    assert asked[0].tolist() == pytest.approx([40.5, 40.5])
    assert asked[0].dtype == torch.float32
    for sigma in (0.9 * levels[0], 1.1 * levels[-1]):
        with refused(r"sigma: got .*; this network knows noise levels in \[0.03164, .*\], those of its alphas_cumprod"):
            denoiser(normal(2, 1, 3, 4), float(sigma))


def test_timesteps_without_signal_or_noise_are_left_out():
    """A schedule of zero terminal signal: its last timestep is at no finite level, and nothing is known there."""
    squares = [1.0, 0.9, 0.5, 0.1, 0.0]
    denoiser = from_discrete(lambda x_t, _t: x_t, squares)
    assert denoiser.levels == pytest.approx(((1 / 9) ** 0.5, 3.0))


@pytest.mark.parametrize(
    ("squares", "prediction", "message"),
    [
        (
            [0.1, 0.5, 0.9],
            "epsilon",
            r"alphas_cumprod: got '?\[0.1, 0.5, 0.9\]'?, ... of shape \(3,\); expected numbers",
        ),
        (torch.linspace(1e-4, 0.02, 10), "epsilon", "alphas_cumprod: got .*, the running product of 1 - beta"),
        ([0.9], "epsilon", "alphas_cumprod: got"),
        ([[0.9, 0.5]], "epsilon", r"alphas_cumprod: got .* of shape \(1, 2\)"),
        ([14.0, 3.0, 0.1], "epsilon", "alphas_cumprod: got"),
        ([0.9, float("nan"), 0.1], "epsilon", "alphas_cumprod: got"),
    ],
)
def test_what_is_no_table_of_signal_is_refused(squares, prediction, message):
    with refused(message):
        from_discrete(lambda x_t, _t: x_t, torch.as_tensor(squares), prediction)


def test_a_denoiser_that_knows_its_levels_is_asked_within_them():
    """An experiment takes them from it: nobody has to repeat them."""
    denoiser = from_discrete(discrete(TwoPrototypes(normal(1, 8, 8)), "sample"), ALPHAS[:60])
    ready = plan(experiment("probe"), model=denoiser, shape=(1, 8, 8), trajectories=2, steps=6, shells=3)
    assert ready.model.levels == denoiser.levels
    assert denoiser.levels[1] < 80
    assert (ready.times[0], ready.times[-1]) == pytest.approx((denoiser.levels[1], denoiser.levels[0]))


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
