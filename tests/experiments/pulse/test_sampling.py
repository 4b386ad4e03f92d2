"""Guided sampling against the exactly solvable mixture, and what a result must not depend on."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.models import Classifier, mixture_model, two_gaussians
from softmode.denoiser import Guided
from softmode.exact.mixture import GaussianMixture
from softmode.experiments.pulse import sampling
from softmode.experiments.pulse.conditions import build
from softmode.experiments.pulse.config import Config
from softmode.experiments.pulse.trials import Condition, Guidance, Weight, find_guidance
from softmode.formulas import guided_flow
from softmode.guidance.weights import AtLevels, Interval, Pulses, log_pulse
from softmode.model import Model
from softmode.process import VE
from softmode.samplers import Heun, initial_state
from softmode.simulation import simulate

SHAPE, SPREAD, NORM = (1, 4, 4), 0.5, 3.0
SIX = sampling.Trials.of(0, range(6))
MU = torch.full(SHAPE, NORM / 4, dtype=torch.float64)


def head(features: Tensor) -> Tensor:
    """Half the log-odds of the two classes +mu and -mu, and minus that: the exact classifier."""
    half = features @ MU.flatten().to(features) / SPREAD**2
    return torch.stack([half, -half], 1)


class Counting:
    """A denoiser that counts the states it is called with."""

    def __init__(self, mixture: GaussianMixture, label: int | None) -> None:
        self.denoiser, self.calls = mixture.denoiser(label), 0

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        self.calls += len(x)
        return self.denoiser(x, sigma)


def setup(guide: Model | None = None, **changes: object) -> Guidance:
    settings = {"trials": 6, "classes": 2, "steps": 24, "sigma_c": 3.0, "dtype": "float64", "weight": 2.0}
    given = {
        "model": mixture_model(two_gaussians(MU, SPREAD)),
        "classifier": Classifier(lambda x: x.flatten(1), head, 2),
    }
    return find_guidance(Config(model="mixture", **settings | changes), given | ({"guide": guide} if guide else {}))


def condition(weight: Weight | None) -> Condition:
    return Condition("tested", "", "", None if weight is None else lambda _label, _trials: weight)


def run(guidance: Guidance, weight: Weight | None, label: int = 0) -> sampling.Twins:
    trials = sampling.Trials.of(label, range(guidance.config.trials))
    return sampling.guided(guidance, trials, condition(weight), sampling.unguided(guidance, trials))


def from_the_start(guidance: Guidance, weight: Weight, label: int = 0) -> Tensor:
    """Return samples of a whole guided trajectory, written out."""
    noise = sampling.trial_noise(guidance, sampling.Trials.of(label, range(guidance.config.trials)))
    x = initial_state(VE(), float(guidance.levels[0]), noise, SHAPE, guidance.dtype)
    return simulate(Guided(*guidance.denoisers[label], weight), VE(), x, guidance.times, sampler=Heun()).state


@pytest.mark.parametrize("weight", [log_pulse(3.0, 1.0, 4.0), Interval(20.0, 1e3, 1.0), Interval(0.0, 0.01, 1.0)])
def test_beginning_at_the_pulse_changes_no_bit(weight: Interval) -> None:
    guidance = setup()
    assert torch.equal(run(guidance, weight).final, from_the_start(guidance, weight))


def test_no_weight_is_no_guidance_and_all_of_them_are_constant_guidance() -> None:
    guidance = setup()
    plain = sampling.unguided(guidance, SIX).final
    for weight in (Interval(1.0, 5.0, 0.0), Interval(0.0, math.inf, 0.0), AtLevels(torch.tensor([7.7]), 3.0)):
        assert torch.equal(run(guidance, weight).final, plain)
        assert torch.equal(from_the_start(guidance, weight), plain)
    constant = run(guidance, lambda sigma: torch.full_like(sigma, 3.0)).final
    assert torch.equal(run(guidance, Interval(0.0, math.inf, 3.0)).final, constant)
    assert not torch.equal(constant, plain)


def test_the_guide_is_called_exactly_at_the_guided_calls() -> None:
    """Also where each trial has a pulse of its own, and where some trials have none."""
    guidance = setup()
    low, high = torch.tensor([[1.0, 9.0], [0.1, 0.5], [3.0, 3.0001], [0.0, 99.0], [50.0, 90.0], [2.0, 4.0]]).T.double()
    for weight in (log_pulse(3.0, 1.0, 4.0), Pulses(low, high, 2.0), Interval(0.0, math.inf, 1.0)):
        counting = Counting(two_gaussians(MU, SPREAD), None)
        watched = replace(guidance, denoisers={0: (guidance.denoisers[0][0], counting)})
        cond = Condition("tested", "", "", lambda _l, trials, w=weight: subset(w, trials))
        values = sampling.measure(watched, range(6), cond, sampling.Cache())
        # two of the calls are for D(x) of the first trial's path
        places = sampling.path_places(guidance.levels)
        path = int((values["weight"][0, places] != 0).sum())
        assert counting.calls - path == values["guide_calls"].sum() > 0


def subset(weight: Weight, trials: list[int]) -> Weight:
    return Pulses(weight.low[trials], weight.high[trials], weight.weight) if isinstance(weight, Pulses) else weight


def test_a_pulse_of_its_own_for_every_trial_is_that_pulse() -> None:
    guidance = setup()
    low, high = torch.tensor(
        [[1.0, 9.0], [0.1, 0.5], [np.nan, np.nan], [0.0, 99.0], [50.0, 90.0], [2.0, 4.0]]
    ).T.double()
    cond = Condition("tested", "", "", lambda _l, trials: Pulses(low[trials], high[trials], 2.0))
    found = sampling.guided(guidance, SIX, cond, sampling.unguided(guidance, SIX)).final
    for i in range(6):
        weight = Interval(float(low[i]), float(high[i]), 2.0) if i != 2 else Interval(0.0, 1.0, 0.0)
        torch.testing.assert_close(found[i], run(guidance, weight).final[i], rtol=1e-12, atol=1e-12)


def test_results_do_not_depend_on_blocks_or_on_other_trials_and_classes() -> None:
    whole, part = setup(), setup(labels=(1,), trials=4)
    starts = [sampling.unguided(whole, sampling.Trials.of(label, range(6))).states[:, 0] for label in (0, 1)]
    assert len(torch.cat(starts).flatten(1).unique(dim=0)) == 12, "every trial of every class has noise of its own"
    conditions = build(replace(whole.config, half_width=1.5), whole.levels, (1.0, 6.0))
    assert [c.name for c in conditions] == [
        "unguided", "critical", "random", "random_log", "random_step", "spread", "constant", "window", "interval"
    ]  # fmt: skip
    for cond in conditions:
        every = sampling.measure(whole, range(12), cond, sampling.Cache())
        two = [sampling.measure(whole, block, cond, sampling.Cache()) for block in (range(4), range(4, 12))]
        fewer = sampling.measure(part, range(4), cond, sampling.Cache())
        for name in ("image", "logit", "weight", "guide_calls", "change"):
            np.testing.assert_allclose(np.concatenate([t[name] for t in two]), every[name], rtol=1e-12, atol=1e-13)
            # class 1 is the second half; its first trials are the same ones
            np.testing.assert_allclose(fewer[name], every[name][6:10], rtol=1e-12, atol=1e-13)


def test_autoguidance_meets_its_closed_form() -> None:
    """Heun takes a sharp pulse half a step early: the bound is a step's share of the pulse's effect."""
    pulse, wide = log_pulse(1.0, 2.0, 0.7), 0.9
    factor = guided_flow.pulse_factor(pulse, SPREAD, wide)
    errors = []
    for steps in (100, 200, 400):
        guidance = setup(mixture_model(two_gaussians(MU, wide)), steps=steps)
        ratio = (run(guidance, pulse).final - MU) / (sampling.unguided(guidance, SIX).final - MU)
        torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-6, atol=0)
        errors.append(abs(float(ratio.mean().log()) / math.log(factor) - 1))
    assert errors[-1] < 0.012
    assert errors[-1] < 0.5 * errors[0]


def test_the_path_is_the_denoised_state_of_first_trials() -> None:
    guidance = setup()
    pulse = log_pulse(3.0, 1.0, 4.0)
    path = sampling.measure(guidance, range(6), condition(pulse), sampling.Cache())["path"]
    assert np.isfinite(path[0]).all()
    assert np.isnan(path[1:]).all()
    places = sampling.path_places(guidance.levels)
    states = run(guidance, pulse).states[:1, places]
    denoiser = Guided(*guidance.denoisers[0], pulse)
    for k, place in enumerate(places):
        np.testing.assert_allclose(path[0, k], denoiser(states[:, k], guidance.levels[place])[0], rtol=1e-12)
