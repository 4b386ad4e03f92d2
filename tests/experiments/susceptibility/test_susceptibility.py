"""The susceptibility curve against its exact integral, its maximum against a window, and what it refuses."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.errors import refused
from helpers.guidance import SUSCEPTIBILITY, guide
from helpers.models import Classifier, mixture_model, two_gaussians
from softmode.estimate import Estimate
from softmode.experiments.pulse.critical import Critical
from softmode.experiments.pulse.sampling import Trials, trial_noise
from softmode.experiments.pulse.trials import find_guidance
from softmode.experiments.susceptibility.config import Config
from softmode.experiments.susceptibility.maximum import Contained, contains, distance
from softmode.experiments.susceptibility.pulses_analyse import _answer
from softmode.formulas import guided_flow
from softmode.guidance.weights import Interval, log_pulse
from softmode.process import VE
from softmode.runs.report import print_table
from softmode.runs.results import Results
from softmode.samplers import initial_state

SHAPE, SPREAD, NORM = (1, 4, 4), 0.5, 3.0
MU = torch.full(SHAPE, NORM / 4, dtype=torch.float64)


def head(features: Tensor) -> Tensor:
    """Half the log-odds of the two classes +mu and -mu, and minus that: the exact classifier."""
    half = features @ MU.flatten().to(features) / SPREAD**2
    return torch.stack([half, -half], 1)


def test_susceptibility_is_the_exact_one(tmp_path: Path) -> None:
    """A weak pulse changes each trial's log-odds as its one-dimensional integral says, and their mean as chi does."""
    config = Config(
        model="mixture", method="pulses", classes=2, trials=100, steps=200, sigma_c=3.0, dtype="float64", weight=0.01,
        centres=6, highest=20.0, lowest=2.0, width=0.5, block=100,
    )  # fmt: skip
    model, classifier = mixture_model(two_gaussians(MU, SPREAD)), Classifier(lambda x: x.flatten(1), head, 2)
    stored = guide("susceptibility", config, tmp_path / "chi", model, classifier)
    results, logit = stored.results, stored.dataset["logit"].to_numpy()
    guidance = find_guidance(config, {"model": model, "classifier": classifier})
    noise = trial_noise(guidance, Trials.of(0, range(100)))
    start = initial_state(VE(), 80.0, noise, SHAPE, torch.float64).flatten(1) @ MU.flatten() / NORM
    for place, centre in enumerate(np.geomspace(20.0, 2.0, 6)):
        # a weight at a level acts, by Heun's steps, from the middle of the step before to the middle of the one after
        inside = log_pulse(float(centre), 0.5, 0.01)(guidance.levels).nonzero().flatten().tolist()
        high, low = (float(guidance.levels[[i, i + 1]].log().mean().exp()) for i in (inside[0] - 1, inside[-1]))
        exact = guided_flow.pulse_response(Interval(low, high, 0.01), start, NORM, SPREAD, 80.0).log_odds.numpy() / 2
        found = (logit[:, place + 1] - logit[:, 0])[:100]
        # the classifier computes in float32
        np.testing.assert_allclose(found, exact, atol=0.01 * exact.max() + 1e-5)
    centres = np.array(results.values["centres"])
    np.testing.assert_allclose(centres, np.geomspace(20.0, 2.0, 6), rtol=0.1)
    chi = guided_flow.susceptibility(torch.tensor(centres), NORM, SPREAD, 80.0).numpy() / 2
    found = np.array([[e.value, e.stderr] for e in results.values["curves"]["logit"]])
    assert (found[:, 1] < 0.15 * chi).all(), "the error is small enough to see a wrong factor"
    # the pulse's finite width changes chi by a few per cent
    assert (np.abs(found[:, 0] - chi) < 4 * found[:, 1] + 0.05 * chi).all()
    assert results["argmax_logit"].estimate.value == pytest.approx(results["sigma_c"].estimate.value, rel=0.6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centres": 2}, "centres: got 2; expected at least 3"),
        ({"width": 0.0}, "width: got 0; expected above 0"),
        ({"width": 1e-3}, "holds no level of the sampler: use a wider one or more steps"),
        ({"highest": 100.0}, "lowest, highest: got 0.1 and 100"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with refused(message):
        guide("susceptibility", replace(SUSCEPTIBILITY, **change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_window_contains_a_maximum_with_all_of_its_interval_or_not() -> None:
    """Windows are open below and closed above, up to rounding."""
    results = Results("", values={"argmax": {"logit": Estimate(4.0, 0.4, 9, 3.0, 5.0)}})
    for window, inside, certain in (
        ((2.0, 8.0), True, True),
        ((2.0, 4.5), True, False),
        ((2.0, 4.0 * (1 - 1e-12)), True, False),
        ((4.0, 8.0), False, False),
        ((6.0, 8.0), False, True),
        (None, None, False),
    ):
        (found,) = contains(window, results)
        assert (found.inside, found.certain) == (inside, certain), window
    assert f"{contains((2.0, 4.5), results)[0]}" == (
        "chi of logit of the target class is largest at sigma = 4.0(4) [3, 5]: inside the window, but not all of its "
        "interval"
    )
    assert f"{contains(None, results)[0]}".endswith("4.0(4) [3, 5]: there is no window")


def test_a_maximum_without_an_interval_is_not_certain() -> None:
    one = Results("", values={"argmax": {"logit": Estimate(4.0, math.nan, 1, reason="one trajectory")}})
    assert contains((1.0, 9.0), one) == [Contained("logit", one.values["argmax"]["logit"], True, False)]


def test_the_distance_is_a_log_ratio_with_both_errors() -> None:
    found = distance(Estimate(2.0, 0.2, 40), Estimate(4.0, 0.8, 20))
    assert found.value == pytest.approx(math.log(0.5))
    assert found.stderr == pytest.approx(math.hypot(0.1, 0.2))


MOST = "Guidance aligns samples with their class most at sigma = 4.0(4) [3, 5]"
INSIDE = "inside the window 1 to 6 that was found without guiding any sample"


@pytest.mark.parametrize(
    ("heights", "window", "expected"),
    [
        ((0.1, 0.9, 0.2), (1.0, 6.0), f"{MOST}, {INSIDE}. From sigma_c = 2.9(6) that is 0.3(2) in log sigma."),
        ((0.1, 0.9, 0.2), (1.0, 3.0), f"{MOST}, outside the window 1 to 3 that"),
        ((0.1, 0.9, 0.2), None, f"{MOST}. From sigma_c"),
        # two standard errors, which one of three places reaches by chance in 7 % of runs
        ((0.0, 0.2, 0.1), None, "This run cannot tell where guidance aligns samples with their class"),
        ((-0.9, -0.5, -0.8), None, "This run cannot tell"),
    ],
)
def test_the_answer_claims_no_maximum_of_noise(
    heights: tuple[float, ...], window: tuple[float, float] | None, expected: str
) -> None:
    curve = [Estimate(height, 0.1, 9) for height in heights]
    results = Results("", values={"argmax": {"probability": Estimate(4.0, 0.4, 9, 3.0, 5.0)}})
    critical = Critical(Estimate(2.91, 0.6, 8, 2.0, 4.0), window)
    (top,) = contains(window, results)
    assert _answer(curve, top, Estimate(0.32, 0.2, 9), critical).startswith(expected)


def test_the_terminal_shows_the_maxima_in_eighty_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = guide("susceptibility", SUSCEPTIBILITY, tmp_path / "chi")
    monkeypatch.setenv("COLUMNS", "80")
    print_table(next(iter(run.results.tables.values())))
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert all(name in printed for name in ("probability", "logit", "rms change", "no window"))
    computed = run.experiment.analyse(run)
    assert Results.from_plain(computed.plain()).plain() == run.results.plain()
    assert len(run.results.tables["curve"].rows) == 4
