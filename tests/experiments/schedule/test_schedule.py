"""Schedules through the experiment: the best interval of an exact mixture, costs, and what cannot be searched."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.errors import refused
from helpers.figures import line
from helpers.guidance import corners, guide, nearest
from helpers.models import Classifier, mixture_model, two_gaussians
from softmode.denoiser import Denoiser
from softmode.experiments.pulse.trials import find_guidance
from softmode.experiments.schedule.conditions import budget_of, pairs_of, published, span
from softmode.experiments.schedule.config import Config, Output
from softmode.experiments.schedule.figures import gains, schedule, twins
from softmode.experiments.schedule.gradient import strengths
from softmode.experiments.schedule.measure import prepare
from softmode.experiments.schedule.output import text
from softmode.experiments.schedule.rounds import home_of, rounds_of
from softmode.guidance.adjoint import Adjoint
from softmode.model import Model
from softmode.process import VE
from softmode.runs.run import Run
from softmode.samplers import Heun

SHAPE = (1, 2, 2)
MU = torch.full(SHAPE, 0.5, dtype=torch.float64)
EXACT = Config(
    model="mixture", classes=2, trials=2, search_trials=12, block=24, steps=16, guided_steps=4, dtype="float64"
)
CORNERS = Config(
    model="corners", classes=3, trials=3, search_trials=2, block=9, weight=1.0, steps=8, guided_steps=2, dtype="float64"
)


def head(features: Tensor) -> Tensor:
    """Half the log-odds of the two classes +mu and -mu of width 1, and minus that: the exact classifier."""
    half = features @ MU.flatten().to(features)
    return torch.stack([half, -half], 1)


def mixture() -> dict[str, Any]:
    model = mixture_model(two_gaussians(MU, 1.0))
    return {"model": model, "classifier": Classifier(lambda x: x.flatten(1), head, 2)}


def exact_gains(weights: np.ndarray, levels: Tensor) -> np.ndarray:
    """Return the mean gain in the probability of class 0 of schedules [schedule, level], by the exact sampler."""
    known, count = two_gaussians(MU, 1.0), 300
    start = 80 * torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    times = torch.cat([levels, levels.new_zeros(1)])

    def sample(denoiser: Denoiser) -> Tensor:
        *_, final = Heun().steps(denoiser, VE(), start.repeat(len(weights), 1, 1, 1), times)
        return final

    every = torch.from_numpy(weights).repeat_interleave(count, 0)
    final = Adjoint(sample, known.denoiser(0), known.denoiser(), levels).guided(every)
    p = head(final.flatten(1)).softmax(1)[:, 0].reshape(len(weights), count).mean(1).numpy()
    return p - p[0]


@pytest.mark.parametrize("seed", range(3))
def test_the_schedule_of_a_mixture_is_the_best_interval(seed: int, tmp_path: Path) -> None:
    """At least 95 % of what the best of all pairs of levels gains, by brute force."""
    run = guide("schedule", replace(EXACT, seed=seed), tmp_path / "run", **mixture())
    levels = torch.tensor(run.dataset["level"].to_numpy())
    pairs = pairs_of(16, 4, 10**4)
    assert len(pairs) == 16 + 15 + 14 + 13
    every = np.stack([np.zeros(16), next(iter(run.identity["schedules"].values())),
                      *(span(levels, first, last, budget_of(EXACT)) for first, last in pairs)])  # fmt: skip
    _, own, *others = exact_gains(every, levels)
    assert own > 0.95 * max(others) > 0
    # the search's last round predicts what its schedule gains on its own trials: right beyond first order
    last = rounds_of(Run(home_of(run), run.experiment))[-1].tried["interval"]
    assert last.planned.gain == pytest.approx(last.gain, rel=0.5)


def test_nodes_average_the_gradient_along_the_way() -> None:
    """2 v f(v^2), with v in a part of its own for each trial, has the mean of f, whatever the seed."""
    found = [strengths(seed, 3, range(4), 4) for seed in range(400)]
    assert all(np.floor(4 * v).tolist() == [0, 1, 2, 3] for v in found)
    means = np.array([(2 * v * np.exp(-3 * v**2)).mean() for v in found])
    assert means.mean() == pytest.approx((1 - np.exp(-3)) / 3, abs=4 * means.std() / 20)
    np.testing.assert_array_equal(strengths(5, 3, [2], 4), strengths(5, 3, range(4), 4)[2:3])


class Counted:
    """A denoiser that counts the states that it is called with."""

    total = 0

    def __init__(self, inner: Denoiser) -> None:
        self.inner = inner

    def __call__(self, x: Tensor, sigma: Any) -> Tensor:
        Counted.total += len(x)
        return self.inner(x, sigma)


def test_network_calls_are_counted(tmp_path: Path) -> None:
    """Of samples to the last; of derivatives, whose forward calls are half of what is charged for those guided."""
    model = Model("corners", VE(), (1, 8, 8), lambda z: Counted(corners().denoiser(z)), classes=3)
    plan = prepare(replace(CORNERS, grid=4), {"model": model, "classifier": nearest()})
    assert plan.grid is not None
    for each in (plan.grid, plan.search):
        Counted.total = 0
        for block in each.blocks():
            each.measure(block)
        assert Counted.total == each.calls
    gradient = plan.search.gradient
    Counted.total = 0
    for block in gradient.blocks():
        gradient.measure(block)
    # every level is guided on the first way: down and again, of the denoiser and of the guide
    assert 2 * Counted.total == gradient.identity["calls"] == gradient.trajectories * 15 * 8


def test_trials_of_the_search_the_grid_and_the_test_are_apart(tmp_path: Path) -> None:
    """No sample of one is one of another, and what the search kept stands when the test changes."""
    run = guide("schedule", replace(CORNERS, grid=4), tmp_path / "run")
    unguided = [Run(tmp_path / "run" / place, run.experiment).dataset["logit"].to_numpy()[:, 0]
                for place in ("", "round-2", "grid")]  # fmt: skip
    assert len(set(np.concatenate(unguided).tolist())) == sum(map(len, unguided))
    weights = run.dataset["weight"].to_numpy()[0]
    names = [condition["name"] for condition in run.identity["conditions"]]
    assert names == ["unguided", *run.identity["schedules"], "constant", "all", "published", "grid"]
    calls = np.array([1, *[2] * 7])
    constant, best = weights[names.index("constant")], weights[1]
    assert constant @ calls == pytest.approx(best @ calls)
    assert (np.count_nonzero(weights, axis=1)[[1, 2, -2, -1]] <= 2).all()
    assert json.loads(text(Output(format="json"), run) or "")["weights"] == best.tolist()
    figure = schedule(run)
    assert figure is not None
    shown = run.dataset["search_gradient"].to_numpy().mean(0)
    drawn = np.asarray(line(figure.axes[0], "gradient").get_ydata())
    assert (np.sign(drawn) == np.sign(shown)).all()
    best_pair = run.dataset["grid_pair"].to_numpy()[run.dataset["grid_gain"].to_numpy().argmax()]
    assert run.identity["grid"]["best"] == best_pair.tolist()
    assert gains(run) is not None
    assert twins(run) is not None


def test_a_dose_bounds_every_form(tmp_path: Path) -> None:
    """Free weights are a form of their own then."""
    run = guide("schedule", replace(CORNERS, dose=0.5), tmp_path / "run")
    assert run.identity["schedules"].keys() == {"interval", "steps", "free"}
    edges = np.log(run.dataset["level"].to_numpy())
    widths = -np.diff([edges[0], *(edges[1:] + edges[:-1]) / 2, edges[-1] - 1])
    for weights in run.identity["schedules"].values():
        assert np.square(weights) @ widths <= 0.5 * (1 + 1e-6)


def test_no_gain_recommends_nothing(tmp_path: Path) -> None:
    """Where all samples are sure of their class already, nothing is made up."""
    flat = Classifier(nearest().features, lambda f: 0 * f, 3)
    run = guide("schedule", CORNERS, tmp_path / "run", None, flat)
    assert run.results.answer.startswith("This run recommends no schedule: at none of the levels does guidance raise")
    assert run.identity["schedules"] == {}
    with refused("^schedule: there is nothing to export"):
        text(Output(format="json"), run)


def rootless(x: Tensor) -> Tensor:
    """Return the features of the three corners; those of dark samples have no finite derivative."""
    mean = x.mean((1, 2, 3))
    dark = (mean < -0.2).to(x)
    root = (dark * (mean - mean.detach()) + 1 - dark).sqrt()
    return nearest().features(x) + 0 * root[:, None]


def test_derivatives_that_are_not_finite_are_named_and_left_out(tmp_path: Path) -> None:
    run = guide("schedule", CORNERS, tmp_path / "run", None, Classifier(rootless, nearest().head, 3))
    (note,) = (each for each in run.results.notes if each.startswith("derivatives of the search"))
    assert "trial 0 of class 2 from sigma = 0.002; trial 1 of class 2" in note
    assert run.identity["schedules"]


@pytest.mark.parametrize(
    ("change", "denoiser", "features", "message"),
    [
        ({"guided_steps": 9}, None, None, "^guided_steps: got 9; expected at most 8, the levels of the sampler"),
        ({"guided_steps": 0}, None, None, "^guided_steps: got 0; expected at least 1"),
        ({"dose": -1.0}, None, None, "^dose: got -1; expected above 0"),
        ({"interval": (0.3, 0.31)}, None, None, "^interval: got 0.3 to 0.31; expected one that holds a level"),
        ({}, lambda d: d.detach(), None, "^model: cannot be differentiated: .*detach"),
        ({}, None, Tensor.detach, "^classifier: its answer does not depend on the sample.*--alignment change"),
    ],
)
def test_bad_input(change: dict[str, Any], denoiser: Any, features: Any, message: str, tmp_path: Path) -> None:
    """In one line, before anything is written."""
    known = corners()
    model = known if denoiser is None else Model(
        "corners", VE(), (1, 8, 8), lambda z: lambda x, sigma: denoiser(known.denoiser(z)(x, sigma)), classes=3
    )  # fmt: skip
    judge = Classifier(lambda x: nearest().features(features(x)), nearest().head, 3) if features else nearest()
    with refused(message):
        guide("schedule", replace(CORNERS, **change), tmp_path / "run", model, judge)
    assert not (tmp_path / "run").exists()


def test_a_guide_of_another_shape_is_refused() -> None:
    other = Model("wide", VE(), (1, 9, 8), lambda z: lambda x, sigma: x, classes=3)
    with refused("^guide: 'wide' has states .1, 9, 8."):
        prepare(replace(CORNERS, guide="wide"), {"model": corners(), "guide": other, "classifier": nearest()})


def test_pairs_of_a_grid() -> None:
    """About as many as asked for, all of the longest, none beyond the budget; a published interval fits it too."""
    assert pairs_of(32, 8, 10**4)[-1] == (31, 31)
    some = pairs_of(32, 8, 100)
    assert 80 <= len(some) <= 120
    assert {last - first + 1 for first, last in some} == {8, 6, 4, 2}
    assert [pair for pair in some if pair[1] - pair[0] == 7] == [(i, i + 7) for i in range(25)]
    assert len(pairs_of(32, 8, 5)) == 5
    levels = find_guidance(replace(CORNERS, steps=32), {"model": corners(), "classifier": nearest()}).levels
    guided = np.flatnonzero(published(replace(CORNERS, guided_steps=3), levels))
    assert len(guided) == 3
    assert 0.19 < levels[guided[-1]] < levels[guided[0]] <= 1.61
