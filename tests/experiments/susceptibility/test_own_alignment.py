"""What guidance gains of a user's own function, by name or live: what is told of it, and what is refused."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import softmode as sm
from helpers.errors import refused
from helpers.guidance import corners, guide, nearest
from softmode.experiments.call import experiment, plan
from softmode.experiments.susceptibility.adjoint_figures import FIGURES
from softmode.experiments.susceptibility.adjoint_trials import trials_of
from softmode.experiments.susceptibility.config import Config
from softmode.experiments.susceptibility.maximum import contains
from softmode.experiments.susceptibility.measure import prepare
from softmode.files import sha256

CORNERS = Config(model="corners", classes=3, trials=3, weight=1.0, steps=8, nodes=3, dtype="float64")
SOURCE = '''"""An A of my own."""


def brightness(samples, label):
    """Return the mean of the left half, times one more than the class."""
    return (label + 1) * samples[..., :4].mean((1, 2, 3))
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the user's."""
    path = tmp_path / "own_alignment.py"
    path.write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_alignment", raising=False)
    return path


def test_it_is_attributed_and_named(module: Path, tmp_path: Path) -> None:
    """By name, with the digest of its file; the class reaches it, and everything says what it is."""
    run = guide("susceptibility", replace(CORNERS, alignment="python:own_alignment:brightness"), tmp_path / "run")
    trials = trials_of(run)
    left = run.dataset["image"].to_numpy()[..., :4].mean((2, 3, 4))
    gain = (run.dataset["label"].to_numpy() + 1) * (left[:, -1] - left[:, 0])
    np.testing.assert_allclose(trials.gain, gain, rtol=1e-12)
    assert np.abs(trials.gain - trials.share.sum(1)).max() < 0.01 * np.abs(trials.gain).max()
    assert run.identity["inputs"]["alignment source"] == sha256(module)
    results = run.results
    assert results.tables["gain"].rows[0][0] == "gain of brightness"
    assert "brightness" in results.answer
    assert "chi of brightness is largest" in str(contains(None, results)[0])
    drawn = [draw(run) for draw in FIGURES.values()]
    assert any("gain of brightness" in text.get_text() for text in drawn[0].axes[0].texts)


def test_a_live_function_is_the_same(module: Path) -> None:
    """Bit by bit; in Python it is given as it is."""
    import own_alignment

    settings = vars(CORNERS) | {"model": corners(), "classifier": nearest()}
    live, named = (
        plan(experiment("susceptibility"), **settings | {"alignment": given})
        for given in (own_alignment.brightness, "python:own_alignment:brightness")
    )
    assert live.config.alignment == "python:brightness"
    assert live.identity["alignment"] == named.identity["alignment"]
    (block,) = live.blocks()
    np.testing.assert_array_equal(live.measure(block)["gradient"], named.measure(block)["gradient"])


def mean(samples: Tensor) -> Tensor:
    return samples.mean((1, 2, 3))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, label: x.mean(), r"returned shape \(\) for two samples; expected a function of \(samples"),
        (lambda x, label: x, r"returned shape \(2, 1, 8, 8\)"),
        (lambda x, label: 3.0, "returned float for two samples"),
        (mean, "fails on samples .*TypeError"),
        (lambda x, label: torch.ones(len(x)), "does not depend on the sample by differentiable operations"),
        (lambda x, label: 0 * mean(x) + 2, "does not depend on the sample: it is 2 of any"),
        (lambda x, label: mean(x.detach()), "does not depend on the sample by differentiable"),
        (lambda x, label: mean(x) / 0, "is .*inf.* of random samples; expected finite numbers: clip it"),
        (lambda x, label: mean(x) - mean(x).mean(), "of one sample depends on the others of its batch"),
        (lambda x, label: torch.from_numpy(x.numpy()).mean((1, 2, 3)), "fails on samples .*numpy"),
    ],
)
def test_what_is_no_number_of_each_sample_is_refused(function: Any, message: str) -> None:
    given = {"model": corners(), "classifier": nearest(), "alignment": function}
    with refused(f"^alignment: 'python:mine' {message}"):
        prepare(replace(CORNERS, alignment="python:mine"), given)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sharpness", "^alignment: got 'sharpness'; expected probability, .*or python:module:function"),
        ("python:nowhere", "^alignment: got 'python:nowhere'; expected python:module:function"),
        ("python:no_such_module:f", "^alignment: cannot import"),
    ],
)
def test_what_cannot_be_found_is_refused(name: str, message: str) -> None:
    with refused(message):
        prepare(replace(CORNERS, alignment=name), {"model": corners(), "classifier": nearest()})


def test_a_value_that_is_not_finite_is_left_out(tmp_path: Path) -> None:
    """A trial whose A is infinite is named with its level, and the rest is kept."""
    given = {"model": corners(), "classifier": nearest()}
    dark = lambda x, label: (mean(x) + 0.5).clamp(min=0).log()  # noqa: E731
    run = sm.susceptibility(
        given["model"], classifier=given["classifier"], alignment=dark, out=tmp_path / "run",
        classes=3, trials=3, weight=1.0, steps=8, nodes=3, dtype="float64",
    )  # fmt: skip
    kept = trials_of(run).whole
    assert kept.tolist() == [True] * 6 + [False] * 3
    assert np.isfinite(run.results["gain"].estimate.value)
    (note,) = (each for each in run.results.notes if "not finite" in each)
    assert note.startswith(
        "values of what guidance is to gain that are not finite, left out: trial 0 of class 2 at w = 0;"
    )
