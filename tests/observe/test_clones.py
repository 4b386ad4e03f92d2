"""Clones of an exactly solvable mixture agree as its posterior says, and copies are what they claim to be."""

import math

import pytest
import torch
from scipy import integrate, stats

from helpers.errors import refused
from helpers.random import normal
from softmode.exact.empirical import EmpiricalDenoiser
from softmode.observe.clones import class_agreement, over_pairs, sign_agreement
from softmode.process import VE, VP, log_grid
from softmode.samplers import initial_state
from softmode.simulation import Clones, clone, simulate
from softmode.streams import TrajectoryNoise

TRAJECTORIES = 1000
# pure noise holds less than 1e-4 of the signal's power at the start, and 3 % of the noise is left at the end
SPANS = {"vp": (VP(), 14.0, 1e-3), "ve": (VE(), 300.0, 0.03)}


def exact_agreement(ratio: float) -> float:
    r"""Return E[p^2 + (1 - p)^2] for two equal classes ±mu at alpha |mu| / sigma = ratio.

    Along mu the state is z = ±ratio + N(0, 1) in units of sigma, and p = 1/(1 + exp(-2 ratio z)) is its posterior; two
    continuations of one state choose their classes independently with it.
    """

    def integrand(z: float) -> float:
        p = 1 / (1 + math.exp(-2 * ratio * z))
        return (p**2 + (1 - p) ** 2) * stats.norm.pdf(z, ratio)

    return integrate.quad(integrand, ratio - 12, ratio + 12)[0]


def prototypes(*space: int) -> tuple[torch.Tensor, EmpiricalDenoiser]:
    """Return a random mu of ±1 and the denoiser of the two points ±mu."""
    mu = normal(1, *space, seed=3).sign()
    return mu, EmpiricalDenoiser(torch.stack([mu, -mu]))


class OneStream(TrajectoryNoise):
    """Numbers of many trajectories from one stream, which is faster than one stream each."""

    def __init__(self, trajectories: int, copy: tuple[int, ...] = ()) -> None:
        super().__init__(0, [0], key=copy)
        self.trajectories = list(range(trajectories))

    def fill_(self, out: torch.Tensor) -> torch.Tensor:
        return out.normal_(generator=self._generators[0])


def run(denoiser, process, times, starts, shape, trajectories, copies=1) -> Clones:
    noise = OneStream(trajectories)
    x = initial_state(process, float(times[0]), noise, shape, torch.float64)
    return clone(
        denoiser, process, x, times, noise, starts, copies, lambda k, c: OneStream(trajectories, (k, c))
    )  # fmt: skip


@pytest.mark.parametrize("name", SPANS)
def test_two_classes_agree_as_often_as_their_posterior_says(name: str) -> None:
    """Class agreement is the Gaussian integral within four standard errors, at the speciation and around it."""
    process, t_max, t_min = SPANS[name]
    mu, denoiser = prototypes(2, 2)
    times = log_grid(t_max, t_min, 200)
    # levels sigma/alpha = |mu| / ratio
    wanted = [float(process.time(2 / ratio)) for ratio in (0.4, 1.0, 1.8)]
    starts = [int((times - t).abs().argmin()) for t in wanted]
    clones = run(denoiser, process, times, starts, mu.shape, TRAJECTORIES, copies=2)

    def classes(states: torch.Tensor) -> torch.Tensor:
        return ((states * mu).flatten(-3).sum(-1) > 0).long()

    found = over_pairs(class_agreement, classes(clones.parent), classes(clones.copies))
    exact = [exact_agreement(float(2 / process.noise_level(times[k]))) for k in starts]
    stderr = found.std(0) / math.sqrt(TRAJECTORIES)
    assert stderr.max() < 0.014
    assert ((found.mean(0) - torch.tensor(exact)).abs() < 4 * stderr).all()
    # every site follows its class, so that signs agree wherever classes do
    torch.testing.assert_close(over_pairs(sign_agreement, clones.parent, clones.copies), found)
    # and both classes are found equally often
    assert abs(float(classes(clones.parent).double().mean()) - 0.5) < 4 * 0.5 / math.sqrt(TRAJECTORIES)


def test_the_agreement_at_the_speciation_of_two_equal_classes_is_0_775() -> None:
    """At t_S = log Lambda, with Lambda = |mu|^2 large, the integral is the published 0.775."""
    for size in (100.0, 1e4, 1e6):
        t = math.log(size)
        ratio = float(math.sqrt(size) / VP().noise_level(t))
        assert exact_agreement(ratio) == pytest.approx(0.7752, abs=0.3 / size + 1e-4)
    assert exact_agreement(1.0) == pytest.approx(0.7752, abs=5e-5)
    assert exact_agreement(0.0) == pytest.approx(0.5)
    assert exact_agreement(6.0) == pytest.approx(1.0, abs=1e-6)


def test_clones_of_many_sites_agree_as_said_at_their_speciation() -> None:
    """16 sites copied at log 16."""
    mu, denoiser = prototypes(4, 4)
    times = torch.cat([log_grid(14.0, math.log(16), 40), log_grid(math.log(16), 1e-3, 200)[1:]])
    clones = run(denoiser, VP(), times, [40], mu.shape, TRAJECTORIES, copies=2)
    found = over_pairs(sign_agreement, clones.parent, clones.copies)[:, 0]
    stderr = float(found.std()) / math.sqrt(TRAJECTORIES)
    assert stderr < 0.014
    assert abs(float(found.mean()) - exact_agreement(float(4 / VP().noise_level(math.log(16))))) < 4 * stderr


def test_a_copy_is_the_trajectory_run_on_from_its_state_with_other_noise() -> None:
    """Every copy is what simulate gives from the parent's snapshot with the copy's own stream, in the order asked."""
    mu, denoiser = prototypes(6)
    times, noise = log_grid(8.0, 0.01, 40), TrajectoryNoise(5, range(3))
    x = initial_state(VP(), 8.0, noise, mu.shape, torch.float64)
    before, calls, steps = x.clone(), [], []

    def noise_of_copy(k: int, c: int) -> TrajectoryNoise:
        calls.append((k, c))
        return TrajectoryNoise(5, range(3), key=(k, c))

    clones = clone(denoiser, VP(), x, times, noise, [30, 10], 2, noise_of_copy, on_step=lambda: steps.append(1))
    assert torch.equal(x, before)
    assert clones.copies.shape == (3, 2, 2, 1, 6)
    assert calls == [(30, 0), (30, 1), (10, 0), (10, 1)]
    assert len(steps) == 40 + 2 * 10 + 2 * 30
    again = TrajectoryNoise(5, range(3))
    parent = simulate(denoiser, VP(), initial_state(VP(), 8.0, again, mu.shape, torch.float64), times, again,
                      snapshots_at=[10, 30])  # fmt: skip
    assert torch.equal(clones.parent, parent.state)
    for place, (k, snapshot) in enumerate([(30, 1), (10, 0)]):
        for c in range(2):
            own = TrajectoryNoise(5, range(3), key=(k, c))
            alone = simulate(denoiser, VP(), parent.snapshots[:, snapshot], times[k:], own).state
            assert torch.equal(clones.copies[:, place, c], alone)


def test_copies_differ_and_agree_ever_more_until_they_are_the_trajectory() -> None:
    """Copies differ from the trajectory and each other; copied at the end they are the trajectory itself."""
    mu, denoiser = prototypes(8)
    times = log_grid(8.0, 1e-3, 120)
    clones = run(denoiser, VP(), times, [0, 90, 120], mu.shape, 20, copies=2)
    first, second = clones.copies[:, :, 0], clones.copies[:, :, 1]
    for a, b in ((clones.parent[:, None], first), (clones.parent[:, None], second), (first, second)):
        different = (a != b).flatten(2).any(-1)
        assert different[:, :2].all()
        assert not different[:, 2].any()
    agreement = over_pairs(sign_agreement, clones.parent, clones.copies)
    assert 0.2 < agreement[:, 0].mean() < 0.8
    assert (agreement[:, 1:] == 1).all()


def test_a_start_outside_the_grid_is_refused() -> None:
    mu, denoiser = prototypes(4)
    with refused(r"snapshots_at: got indices \[41\]"):
        run(denoiser, VP(), log_grid(8.0, 0.01, 40), [41], mu.shape, 2)


def test_sign_agreement_is_the_share_of_sites_of_equal_sign() -> None:
    """Counted one by one over sites and channels; an exact zero counts half."""
    a, b = normal(2, 5, 2, 3, 4).unbind()
    found = sign_agreement(a, b)
    for n in range(5):
        same = sum((p > 0) == (q > 0) for p, q in zip(a[n].flatten().tolist(), b[n].flatten().tolist(), strict=True))
        assert float(found[n]) == pytest.approx(same / 24, abs=1e-13)
    assert found.dtype == torch.float64
    assert (sign_agreement(a, a) == 1).all()
    assert (sign_agreement(a, -a) == 0).all()
    assert (sign_agreement(a, torch.zeros_like(a)) == 0.5).all()


def test_agreement_is_the_mean_over_all_pairs_of_each_trajectory() -> None:
    """With classes 0 (trajectory) and 0, 1, 0 (copies) three of six pairs agree; trajectories stay apart."""
    parent = torch.tensor([0, 1])
    copies = torch.tensor([[[0, 1, 0], [0, 0, 0]], [[0, 0, 2], [1, 1, 0]]])
    found = over_pairs(class_agreement, parent, copies)
    torch.testing.assert_close(found, torch.tensor([[3, 6], [1, 3]], dtype=torch.float64) / 6)
    assert over_pairs(class_agreement, parent, copies[:, :, :1]).tolist() == [[1, 1], [0, 1]]
