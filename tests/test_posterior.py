"""Information about a label against mixtures whose posterior is known exactly."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from softmode.exact.mixture import GaussianMixture
from softmode.posterior import (
    label_information,
    label_score,
    noising_path,
    path_log_posterior,
    square_error_rates,
)


def levels(count: int, first: float = 80.0, last: float = 0.05) -> Tensor:
    return torch.logspace(math.log10(first), math.log10(last), count, dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(seed: int = 0) -> Callable[[Tensor], Tensor]:
    """What fills tensors with the next numbers of one stream."""
    stream = generator(seed)
    return lambda out: out.normal_(generator=stream)


def point(value: float) -> Callable[[Tensor, Tensor | float], Tensor]:
    return lambda x, sigma: torch.full_like(x, value)


def test_a_path_has_independent_increments_of_the_right_variance() -> None:
    """At each level the noise has variance sigma^2, and what two levels do not share is independent of the lower."""
    x = torch.full((4000, 1, 2), 0.7)
    falling = torch.tensor([5.0, 2.0, 0.5], dtype=torch.float64)
    noise = (noising_path(x, falling, normal()) - 0.7).flatten(1)
    count = noise.shape[1]
    for each, sigma in zip(noise, falling.tolist(), strict=True):
        assert abs(float(each.var()) / sigma**2 - 1) < 4 * math.sqrt(2 / count)
    for high, low in ((0, 1), (1, 2)):
        shared = float(((noise[high] - noise[low]) * noise[low]).mean())
        spread = float((noise[high] - noise[low]).std() * noise[low].std())
        assert abs(shared) < 4 * spread / math.sqrt(count)


def test_the_posterior_of_single_points_is_exact_at_any_number_of_levels() -> None:
    """Each class one point: the likelihood of a path is that of its last state less that of its first."""
    values = (-1.0, 0.5, 2.0)
    x = torch.tensor(values)[torch.arange(60) % 3].reshape(60, 1, 1)
    falling = levels(4, 3.0, 0.3)
    path = noising_path(x, falling, normal())
    found = path_log_posterior([point(v) for v in values], path, falling)

    def log_likelihood(state: Tensor, sigma: float) -> Tensor:
        return -(state.flatten(1) - torch.tensor(values).double()).square() / (2 * sigma**2)

    first = log_likelihood(path[0], 3.0)
    for i, sigma in enumerate(falling.tolist()):
        expected = (log_likelihood(path[i], sigma) - first).log_softmax(-1)
        torch.testing.assert_close(found[i], expected, rtol=1e-9, atol=1e-9)


def mixture() -> GaussianMixture:
    """Two classes of width 1 at +-2 along one site of two, equally likely."""
    means = torch.tensor([[[-2.0, 0.0]], [[2.0, 0.0]]], dtype=torch.float64)
    return GaussianMixture(means, 1.0)


def test_the_posterior_of_gaussian_classes_converges() -> None:
    """To the exact posterior of the last state, with first order in the step in log sigma."""
    exact, count = mixture(), 200
    labels = torch.arange(count) % 2
    x = exact.means[labels] + torch.randn(count, 1, 2, generator=generator(1), dtype=torch.float64)
    errors = []
    for steps in (20, 40, 80):
        falling = levels(steps)
        path = noising_path(x.float(), falling, normal(2))
        found = path_log_posterior([exact.denoiser(0), exact.denoiser(1)], path, falling)
        expected = exact.log_posterior(path[-1], falling[-1])
        errors.append(float((found[-1].exp() - expected.exp()).abs().mean()))
    assert errors[-1] < 0.02
    assert errors[1] < 0.75 * errors[0]
    assert errors[2] < 0.75 * errors[1]


def test_information_is_bounded_and_calibrated() -> None:
    """Between 0 and log 2; its mean is that of the score within four standard errors, for exact denoisers."""
    exact, count, falling = mixture(), 600, levels(60)
    labels = torch.arange(count) % 2
    x = exact.means[labels] + torch.randn(count, 1, 2, generator=generator(3), dtype=torch.float64)
    path = noising_path(x.float(), falling, normal(4))
    posterior = path_log_posterior([exact.denoiser(0), exact.denoiser(1)], path, falling)
    information, score = label_information(posterior), label_score(posterior, labels)
    assert float(information.min()) > -1e-12
    assert float(information.max()) <= math.log(2) + 1e-12
    assert float(information[0].abs().max()) < 1e-12
    for i in (20, 40, 59):
        gap = information[i] - score[i]
        assert abs(float(gap.mean())) < 4 * float(gap.std()) / math.sqrt(count) + 0.01
    assert float(information[-1].mean()) == pytest.approx(0.55, abs=0.1)


def test_both_square_error_forms_integrate_to_the_information() -> None:
    """For one site of +-1 both rates, integrated over log sigma, give log 2 within four standard errors."""
    x = torch.where(torch.arange(2000) % 2 == 0, -1.0, 1.0).reshape(-1, 1, 1).double()
    falling = levels(60, 20.0, 0.1)
    stream, totals = generator(5), []
    for sigma in falling.tolist():
        state = x + sigma * torch.randn(x.shape, generator=stream, dtype=torch.float64)
        totals.append(torch.stack(square_error_rates(x, x, torch.tanh(state / sigma**2), sigma)))
    each = torch.stack(totals).sum(0) * math.log(20.0 / 0.1) / 59
    for form in each:
        error = float(form.std()) / math.sqrt(len(form))
        assert error < 0.05
        assert abs(float(form.mean()) - math.log(2)) < 4 * error + 0.005


def test_the_posterior_of_a_path_can_be_differentiated() -> None:
    """By its states, as central differences say; without that being asked for nothing is kept."""
    mixture = GaussianMixture(torch.tensor([[[1.0, 0.4]], [[-0.7, 0.2]]], dtype=torch.float64), 0.6)
    denoisers = [mixture.denoiser(0), mixture.denoiser(1)]
    falling = levels(5, 4.0, 0.8)

    def known(x: Tensor) -> Tensor:
        return path_log_posterior(denoisers, noising_path(x, falling, normal()), falling)[-1, :, 0]

    x = torch.tensor([[[0.3, -0.2]], [[0.9, 0.5]]], dtype=torch.float64)
    asked = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(known(asked).sum(), asked)
    for site in range(2):
        step = torch.zeros_like(x)
        step[..., site] = 1e-2
        # the denoisers' states are rounded to float32
        difference = (known(x + step) - known(x - step)) / 2e-2
        assert torch.allclose(gradient[:, 0, site], difference, rtol=1e-3, atol=1e-4)
    assert not known(x).requires_grad
    with torch.no_grad():
        assert not known(asked).requires_grad
