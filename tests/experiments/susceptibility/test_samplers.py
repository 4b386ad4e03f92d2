"""Samplers of the susceptibility: Euler's steps, a pipeline's own scheduler without a classifier, and refusals."""

import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.errors import refused
from helpers.guidance import corners, guide, nearest
from helpers.pipeline_parts import latent_scheduler
from helpers.pipelines import stable_diffusion
from softmode.experiments.call import experiment, plan
from softmode.experiments.pulse.sampling import Trials, trial_noise
from softmode.experiments.susceptibility.adjoint_trials import trials_of
from softmode.experiments.susceptibility.config import Config
from softmode.experiments.susceptibility.measure import prepare
from softmode.runs.engine import execute

CORNERS = Config(model="corners", classes=3, trials=2, weight=1.0, steps=10, nodes=3, dtype="float64")


def test_euler_takes_the_steps_of_ddim(tmp_path: Path) -> None:
    r"""$x' = D + (\sigma'/\sigma)(x - D)$ with the guided D; shares add up all the same."""
    run = guide("susceptibility", replace(CORNERS, sampler="euler", tolerance=1e-4), tmp_path / "run")
    trials, model = trials_of(run), corners()
    assert np.abs(trials.gain - trials.share.sum(1)).max() < 0.02 * np.abs(trials.gain).max()
    ready: Any = prepare(replace(CORNERS, sampler="euler"), {"model": model, "classifier": nearest()})
    guidance = ready.guidance
    x = 80.0 * trial_noise(guidance, Trials.of(1, [0, 1])).fill_(torch.empty(2, 1, 8, 8, dtype=torch.float64))
    own, other = model.denoiser(1), model.denoiser(None)
    levels = [*guidance.levels.tolist(), 0.0]
    for level, below in pairwise(levels):
        denoised = 2 * own(x, level) - other(x, level)
        x = denoised + below / level * (x - denoised)
    np.testing.assert_allclose(run.dataset["image"].to_numpy()[2:4, -1], x, rtol=1e-9, atol=1e-12)
    # one call at each level, the first and the last too
    assert guidance.sampler.calls.tolist() == [1] * 10


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sampler", ["heun", "scheduler"])
def test_a_pipeline_of_text_needs_no_classifier(sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two prompts and a negative one, judged by the model's own posterior, along either sampler."""
    # of the path of the posterior, which costs most here
    monkeypatch.setattr("softmode.networks.own_posterior.LEVELS", 3)
    pipe = stable_diffusion(latent_scheduler("DPMSolverMultistepScheduler"))
    settings = {
        "model": pipe, "prompts": ["a b", "c"], "negative": "d", "classifier": "none", "sampler": sampler, "steps": 3,
        "trials": 2, "block": 4, "nodes": 3, "weight": 0.5,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen = experiment("susceptibility")
        ready: Any = plan(chosen, **settings)
        run = execute(chosen, ready, tmp_path / "run")
    trials = trials_of(run)
    assert trials.whole.all()
    assert np.abs(trials.share).max() > 0
    pipe.scheduler.set_timesteps(3)
    if sampler == "scheduler":
        sigmas = pipe.scheduler.sigmas[:3].numpy()
        np.testing.assert_allclose(trials.levels, sigmas, rtol=1e-6)
        assert run.identity["scheduler"]["class"] == "DPMSolverMultistepScheduler"
    else:
        assert "scheduler" not in run.identity
        assert trials.levels[0] > 14
    assert any(note.startswith("no classifier") for note in run.results.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampler": "scheduler"}, "^sampler: got 'scheduler'; 'corners' is no pipeline of diffusers with one"),
        ({"sampler": "ddim"}, "^sampler: got 'ddim'; expected"),
        ({"sampler": "euler", "method": "pulses", "nodes": 5}, "^sampler: got euler; expected none beside --method"),
        ({"information": "i", "method": "pulses", "nodes": 5}, "^information: got i; expected none beside --method"),
    ],
)  # fmt: skip
def test_bad_input(change: dict[str, Any], message: str) -> None:
    with refused(message):
        prepare(replace(CORNERS, **change), {"model": corners(), "classifier": nearest()})
