"""Reverse sweeps through the experiment: closed forms, the sum rule, weak pulses, and what cannot be differentiated."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.errors import refused
from helpers.figures import legend_entries, line
from helpers.guidance import SUSCEPTIBILITY, corners, guide, nearest
from helpers.models import Classifier, mixture_model, two_gaussians
from softmode.estimate import Estimate
from softmode.experiments.pulse.sampling import Trials, trial_noise
from softmode.experiments.pulse.trials import find_guidance
from softmode.experiments.susceptibility.adjoint_figures import susceptibility
from softmode.experiments.susceptibility.adjoint_measure import prepare
from softmode.experiments.susceptibility.adjoint_trials import edges_of, place_of, trials_of, typical
from softmode.experiments.susceptibility.config import Config
from softmode.experiments.susceptibility.maximum import contains
from softmode.experiments.susceptibility.outcomes import SURE
from softmode.formulas import guided_flow
from softmode.guidance.weights import Interval
from softmode.model import Model
from softmode.process import VE
from softmode.runs.run import Run
from softmode.samplers import initial_state

SHAPE, SPREAD, NORM = (1, 2, 2), 1.0, 1.0
MU = torch.full(SHAPE, NORM / 2, dtype=torch.float64)
MIXTURE = Config(model="mixture", classes=2, trials=12, block=12, weight=2.0, steps=64, dtype="float64")
CORNERS = Config(model="corners", classes=3, trials=4, weight=1.5, steps=12, nodes=3, dtype="float64")


def head(features: Tensor) -> Tensor:
    """Half the log-odds of the two classes +mu and -mu, and minus that: the exact classifier."""
    half = features @ MU.flatten().to(features) / SPREAD**2
    return torch.stack([half, -half], 1)


def mixture(out: Path, **changes: Any) -> Run:
    model, classifier = mixture_model(two_gaussians(MU, SPREAD)), Classifier(lambda x: x.flatten(1), head, 2)
    return guide("susceptibility", replace(MIXTURE, **changes), out, model, classifier)


def test_the_response_of_a_mixture_is_the_closed_form(tmp_path: Path) -> None:
    """Every trial's log-odds at every level, to 1 % of the largest; the levels' shares are those of the integral."""
    run = mixture(tmp_path / "run", steps=160, alignment="logit", nodes=3)
    model = mixture_model(two_gaussians(MU, SPREAD))
    guidance = find_guidance(
        replace(MIXTURE, steps=160), {"model": model, "classifier": Classifier(lambda x: x.flatten(1), head, 2)}
    )
    noise = trial_noise(guidance, Trials.of(0, range(12)))
    start = initial_state(VE(), 80.0, noise, SHAPE, torch.float64).flatten(1) @ MU.flatten() / NORM
    ends = edges_of(run.dataset["level"].to_numpy())
    # the last step goes to no noise
    ends[-1] = 0.0
    exact = np.stack([
        guided_flow.pulse_response(Interval(low, high, 1.0), start, NORM, SPREAD, 80.0).log_odds.numpy()
        for high, low in pairwise(ends)
    ], 1)  # fmt: skip
    found, value = (run.dataset[name].to_numpy()[:12, 0] for name in ("gradient", "value"))
    inside = np.abs(value) < SURE
    assert inside.sum() > 6
    assert np.abs(found - exact)[inside].max() < 0.01 * exact.max()
    # beyond 99 % a sample gains nothing
    assert not found[~inside].any()


@pytest.mark.parametrize("alignment", ["probability", "log-probability", "change"])
def test_shares_add_up_to_what_guidance_gains(alignment: str, tmp_path: Path) -> None:
    """To 1 % of the gain, of trials and of their mean, and the first table says so."""
    run = mixture(tmp_path / "run", alignment=alignment, nodes=5, tolerance=1e-4)
    trials = trials_of(run)
    defect = trials.gain - trials.share.sum(1)
    assert np.abs(defect).max() < 0.01 * np.abs(trials.gain).max()
    assert abs(defect.mean()) < 0.01 * trials.gain.mean()
    gain, total, left = (row[1].value for row in run.results.tables["gain"].rows[:3])
    assert gain == pytest.approx(trials.gain.mean())
    assert gain - total == pytest.approx(left)
    np.testing.assert_array_equal(run.results.values["trials"]["defect"], defect)
    if alignment == "change":
        image = run.dataset["image"].to_numpy()
        moved = np.sqrt(np.square(image[:, -1] - image[:, 0]).reshape(24, -1).mean(1))
        np.testing.assert_allclose(trials.gain, moved)


def test_it_is_the_limit_of_weak_pulses(tmp_path: Path) -> None:
    """Trial by trial: weak pulses change what the derivatives at the levels that they guide add up to."""
    run = guide("susceptibility", CORNERS, tmp_path / "adjoint")
    weak = replace(SUSCEPTIBILITY, weight=0.01, steps=12, centres=3, lowest=3.0, width=2.0, dtype="float64")
    pulses = guide("susceptibility", weak, tmp_path / "pulses").dataset
    found, weights = pulses["probability"].to_numpy(), pulses["weight"].to_numpy()
    for place in (1, 2, 3):
        expected = (run.dataset["gradient"].to_numpy()[:, 0] * weights[:, place]).sum(1)
        made = found[:, place] - found[:, 0]
        assert np.corrcoef(expected, made)[0, 1] > 0.99
        assert made.sum() == pytest.approx(expected.sum(), rel=0.05)


def test_the_rms_change_begins_along_the_guidance_in_use(tmp_path: Path) -> None:
    """Its derivative to the right of no guidance is that of what weak guidance really changes."""
    run = mixture(tmp_path / "run", alignment="change", nodes=3, trials=3, steps=12)
    weak = mixture(tmp_path / "weak", alignment="change", nodes=3, trials=3, steps=12, weight=2e-4)
    slope = (run.dataset["gradient"].to_numpy()[:, 0]).sum(1)
    np.testing.assert_allclose(slope, weak.dataset["value"].to_numpy()[:, -1] / 2e-4, rtol=1e-3)


def test_the_model_s_own_posterior_is_an_alignment(tmp_path: Path) -> None:
    """No classifier is needed: guidance raises what the model itself says of the class, and the shares add up."""
    mixture_of_two = mixture_model(two_gaussians(MU, SPREAD))
    config = replace(MIXTURE, classifier="none", trials=2, steps=24)
    plan = prepare(config, {"model": mixture_of_two})
    (block,) = plan.blocks()
    found = plan.measure(block)
    assert found["gradient"][:, 0].max() > 0
    gain = found["value"][:, -1] - found["value"][:, 0]
    assert (gain > 0).all()
    np.testing.assert_allclose(found["share"].sum(1), gain, atol=0.01)


def test_what_is_not_asked_for_is_not_measured(tmp_path: Path) -> None:
    """Without sigma_c there is no window before, and no word of either; with one, the distance from it."""
    run = guide("susceptibility", CORNERS, tmp_path / "run")
    assert not (tmp_path / "run" / "window").exists()
    assert "sigma_c" not in run.results.answer
    assert "distance" not in run.results
    known = guide("susceptibility", replace(CORNERS, sigma_c=3.0), tmp_path / "known")
    assert known.results.answer.startswith(run.results.answer)
    assert "From sigma_c = 3 that is" in known.results.answer
    top = run.results["argmax"].estimate
    assert known.results["distance"].estimate.value == pytest.approx(math.log(top.value / 3.0))
    (found,) = contains((0.01, 100.0), run.results)
    assert found.inside is True


def test_shares_that_miss_the_gain_are_not_said_to_be_it(tmp_path: Path) -> None:
    """A response that ends long before the weight in use is not integrated by three strengths alone."""
    run = mixture(tmp_path / "run", weight=20.0, nodes=3, steps=12, trials=4, tolerance=10.0)
    assert not run.dataset["further"].any()
    assert "but this run cannot tell at which noise levels: their shares add up to" in run.results.answer


def rootless(x: Tensor) -> Tensor:
    """Return the features of the three corners; those of dark samples have no finite derivative."""
    mean = x.mean((1, 2, 3))
    dark = (mean < -0.2).to(x)
    root = (dark * (mean - mean.detach()) + 1 - dark).sqrt()
    return nearest().features(x) + 0 * root[:, None]


def test_a_derivative_that_is_not_finite_is_told_and_left_out(tmp_path: Path) -> None:
    """Which trial, and at which level; the other classes' trials count."""
    run = guide("susceptibility", CORNERS, tmp_path / "run", None, Classifier(rootless, nearest().head, 3))
    whole = guide("susceptibility", CORNERS, tmp_path / "whole")
    (note,) = (each for each in run.results.notes if each.startswith("derivatives that are not finite"))
    assert "trial 0 of class 2 at w = 0 from sigma = 0.002" in note
    assert note.endswith("and 7 others")
    kept = trials_of(run).whole
    assert kept.tolist() == [True] * 8 + [False] * 4
    np.testing.assert_array_equal(trials_of(run).share[:8], trials_of(whole).share[:8])
    assert np.isfinite(run.results["argmax"].estimate.value)


def cut(denoiser: Any, operation: Any) -> Any:
    return lambda x, sigma: operation(denoiser(x, sigma))


def lost(label: int | None) -> Any:
    """Denoise without a class in whole steps, which have no derivative."""
    known = corners().denoiser(label)
    return cut(known, lambda d: (1e6 * d).long().to(d) / 1e6) if label is None else known


@pytest.mark.parametrize(
    ("denoiser", "features", "change", "message"),
    [
        (lambda z: cut(corners().denoiser(z), Tensor.detach), None, {}, "^model: cannot be differentiated: .*detach"),
        (lambda z: cut(corners().denoiser(z), lambda d: torch.from_numpy(d.numpy())), None, {}, "^model: .*numpy"),
        (lost, None, {}, "^guide: cannot be differentiated: .*long"),
        (None, Tensor.detach, {}, "^classifier: its answer does not depend on the sample by differentiable"),
        (None, lambda x: torch.from_numpy(x.numpy()), {}, "^classifier: cannot be differentiated .*numpy"),
        (None, None, {"centres": 5}, "^centres: got 5; expected none beside --method adjoint.*use --method pulses"),
        (None, None, {"method": "pulses"}, "^nodes: got 3; expected none beside --method pulses"),
    ],
)
def test_bad_input(denoiser: Any, features: Any, change: dict[str, Any], message: str, tmp_path: Path) -> None:
    """In one line, before anything is written; without a classifier's derivative the rms change still has one."""
    model = Model("corners", VE(), (1, 8, 8), denoiser, classes=3) if denoiser else corners()
    judge = Classifier(lambda x: nearest().features(features(x)), nearest().head, 3) if features else nearest()
    with refused(message):
        guide("susceptibility", replace(CORNERS, **change), tmp_path / "run", model, judge)
    assert not (tmp_path / "run").exists()
    if features:
        assert prepare(replace(CORNERS, alignment="change"), {"model": model, "classifier": judge}).trajectories == 12


def test_heavy_tails_are_shown() -> None:
    """One trial of twenty that carries all moves the mean alone."""
    values = np.append(np.zeros(19), 20.0)
    found = typical(values, np.zeros(20, int))
    assert [e.value for e in found] == [1.0, 0.0, 0.0, 1.0]
    alike = typical(np.ones(40), np.arange(40) % 2)
    assert [e.value for e in alike] == [1.0, 1.0, 1.0, 0.05]


def test_a_loss_has_its_place_too(tmp_path: Path) -> None:
    """Guidance away from the class loses what guidance to it gains, most at the same level."""
    run = guide("susceptibility", replace(CORNERS, weight=-0.1), tmp_path / "run")
    assert "lowers the probability of the class by" in run.results.answer
    trials = trials_of(run)
    at, away = (place_of(sign * trials.share, trials, trials.whole) for sign in (1, -1))
    assert at == away
    assert isinstance(at.top, Estimate)
    assert at.low.value < at.top.value < at.high.value


def test_the_figure_shows_the_means_and_every_trial(tmp_path: Path) -> None:
    run = guide("susceptibility", replace(CORNERS, sigma_c=3.0), tmp_path / "run")
    figure, trials = susceptibility(run), trials_of(run)
    for ax, shares in zip(figure.axes, (trials.share, trials.response / 1.5), strict=True):
        np.testing.assert_allclose(line(ax, "chi").get_ydata(), (shares / trials.widths).mean(0))
        assert len([drawn for drawn in ax.lines if drawn.get_gid() == "trial"]) == 12
        assert line(ax, "sigma_c").get_xdata()[0] == 3.0
    assert len(legend_entries(figure)) <= 4
