"""What a probe must not depend on, and what it must refuse to go on with."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.errors import refused
from helpers.models import null_model
from helpers.probes import FLOW, TINY, by_mean, exact_model, plan, two_classes
from helpers.random import normal
from helpers.runs import digest, run
from softmode.exact.empirical import EmpiricalDenoiser
from softmode.experiments.probe.measure import ProbePlan
from softmode.process import VP
from softmode.runs.experiment import Experiment
from softmode.runs.run import Run

PROBE = Experiment("probe", "softmode.experiments.probe")


def test_repeated_and_resumed_runs_are_bit_identical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that fails in its second block keeps the first, and ends as one that did not fail."""
    exact, honest = exact_model("prototypes"), ProbePlan.measure
    whole = run("probe", tmp_path / "whole", model=exact, **TINY)

    def dies(self, block, advance):
        if block.trajectories.start == 2:
            raise KeyboardInterrupt
        return honest(self, block, advance)

    monkeypatch.setattr(ProbePlan, "measure", dies)
    with pytest.raises(KeyboardInterrupt):
        run("probe", tmp_path / "resumed", model=exact, **TINY)
    assert Run(tmp_path / "resumed", PROBE).dataset.sizes["trajectory"] == 2
    monkeypatch.setattr(ProbePlan, "measure", honest)
    run("probe", tmp_path / "resumed", model=exact, **TINY)
    assert digest(tmp_path / "resumed") == digest(whole.directory)


@pytest.mark.parametrize("states", ["reverse", "forward"])
def test_curves_do_not_depend_on_the_batch(states: str, tmp_path: Path) -> None:
    """The same noise and signs whatever the block: curves equal to rounding."""
    exact = exact_model("empirical")
    one, five = (
        run("probe", tmp_path / str(block), model=exact, **TINY | {"states": states, "block": block}).dataset
        for block in (1, 5)
    )
    for name in one:
        np.testing.assert_allclose(one[name], five[name], rtol=1e-7, atol=1e-7, err_msg=str(name))


def test_classes_are_dealt_out_in_turn(tmp_path: Path) -> None:
    """Trajectory i has class i modulo the classes, whatever the block; each is what a run of its class alone gives."""
    model, settings = two_classes(), FLOW | {"trajectories": 6, "method": "difference"}

    def data(name: str, **changes):
        return run("probe", tmp_path / name, model=model, **settings | changes).dataset

    both, small = data("both", labels=(1, 0)), data("small", labels=(1, 0), block=1)
    alone = [data(str(n), labels=(n,)) for n in range(2)]
    for name in ("gain", "xi_moment", "denoised", "kernel", "null_xi_x"):
        np.testing.assert_allclose(both[name].to_numpy(), small[name].to_numpy(), rtol=1e-8, atol=1e-10)
        for i in range(6):
            expected = alone[1 - i % 2][name].to_numpy()[i]
            np.testing.assert_allclose(both[name].to_numpy()[i], expected, rtol=1e-8, atol=1e-10)
    assert float(np.abs(alone[0]["gain"] - alone[1]["gain"]).max()) > 1e-3
    null = both["null_gain"].to_numpy()
    np.testing.assert_allclose(null, (alone[0]["null_gain"] + alone[1]["null_gain"]) / 2, rtol=1e-12)
    uneven = data("uneven", labels=(1, 0), trajectories=3)
    expected = (alone[0]["null_gain"] + 2 * alone[1]["null_gain"]) / 3
    np.testing.assert_allclose(uneven["null_gain"], expected, rtol=1e-12)


def test_noised_data_are_of_the_trajectorys_class(tmp_path: Path) -> None:
    """At the lowest noise level the states of trajectory i are the next image of its class."""
    model = two_classes()
    assert model.images is not None
    settings = FLOW | {"states": "forward", "labels": (1, 0), "snapshots": (0.002,)}
    states = run("probe", tmp_path / "run", model=model, **settings).dataset["snapshots"].to_numpy()[:, 0]
    # of images 0 .. 7 the odd ones are of class 1
    expected = model.images.tensor()[[1, 0, 3, 2]].numpy()
    assert float(np.abs(states - expected).max()) < 0.02


def test_the_entropy_of_classes_is_that_of_the_denoised_state(tmp_path: Path) -> None:
    """From a classifier's own logits at D(x): undecided at high noise for two classes that it tells by the mean."""
    field = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    model = replace(two_classes(), bind=lambda _label: EmpiricalDenoiser(torch.cat([field, -field])))
    found = run("probe", tmp_path / "run", model=model, classifier=by_mean, **FLOW | {"snapshots": (80.0, 0.002)})
    entropy = found.dataset["class_entropy"].to_numpy()
    p = torch.softmax(by_mean(torch.tensor(found.dataset["denoised"].to_numpy()[:, 0])), 1).numpy()
    np.testing.assert_allclose(entropy[:, 0], -(p * np.log(p)).sum(1), rtol=1e-9)
    assert entropy[:, 0].min() > 0.5
    assert entropy[:, -1].max() < 0.05
    assert found.results.values["evaluations"]["classes"] == 4 * 13
    assert found.identity["model"]["classifier"] is not None


def test_precision_is_for_sampling_alone(tmp_path: Path) -> None:
    """A network that computes in bfloat16 moves the states a little, and its gains are still float32's: smooth."""
    torch.manual_seed(0)
    network = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")
    seen = []

    def denoiser(x: Tensor, sigma: Tensor | float) -> Tensor:
        out = network(x / (1 + torch.as_tensor(sigma, dtype=x.dtype)))
        seen.append(out.dtype)
        return out

    model = replace(two_classes(), bind=lambda _label: denoiser, images=None, spectrum=None, mean=None, classes=0)
    full, half = (
        run("probe", tmp_path / precision, model=model, **FLOW | {"dtype": "float32", "precision": precision}).dataset
        for precision in ("full", "bfloat16")
    )
    assert {torch.float32, torch.bfloat16} == set(seen)
    assert 1e-6 < float(np.abs(full["snapshots"] - half["snapshots"]).max()) < 0.5
    # a linear network: its gains are the same at every state, unless a difference was taken in bfloat16
    np.testing.assert_allclose(half["gain"], full["gain"], atol=2e-3)


def test_other_inputs_do_not_resume_a_run(tmp_path: Path) -> None:
    """One class's weights, the null, the data, a file of them or the classifier replaced: refused by name."""
    model, settings = two_classes(), FLOW | {"labels": (0, 1)}
    run("probe", tmp_path / "run", model=model, classifier=by_mean, **settings)
    other = EmpiricalDenoiser(normal(3, 1, 8, 8, seed=7))
    for changed, classifier in (
        (replace(model, bind=lambda label: other if label == 1 else model.denoiser(label)), by_mean),
        (replace(model, spectrum=2 * model.spectrum), by_mean),
        (model, lambda x: 2 * by_mean(x)),
    ):
        with refused("holds a run with .*model (fingerprints|null|classifier)|config classifier"):
            run("probe", tmp_path / "run", model=changed, classifier=classifier, **settings)
    own = tmp_path / "own.npz"
    np.savez(own, images=normal(7, 1, 8, 8).numpy())
    forward = FLOW | {"states": "forward", "data": str(own)}
    run("probe", tmp_path / "forward", model=model, **forward)
    np.savez(own, images=normal(7, 1, 8, 8, seed=1).numpy())
    with refused("holds a run with another data than this one"):
        run("probe", tmp_path / "forward", model=model, **forward)


def test_defaults_stay_within_what_the_model_knows() -> None:
    """EDM's range, cut to the model's; the paper's times for the reverse SDE; 63 steps of Heun, 2000 of the other."""

    def settled(model, **settings):
        found = plan(model, shells=3, dtype="float64", **settings).config
        return found.sampler, found.t_max, found.t_min, found.steps, found.measure_every

    assert settled(two_classes()) == ("heun", 80.0, 0.002, 63, 1)
    assert settled(two_classes(process=VP())) == ("euler-maruyama", 50.0, 1e-3, 2000, 20)
    assert settled(replace(two_classes(), levels=(0.03, 14.6)))[1:3] == (14.6, 0.03)
    narrow = settled(replace(two_classes(process=VP()), levels=(0.03, 14.6)))
    assert narrow[1:3] == (pytest.approx(math.log1p(14.6**2)), pytest.approx(1e-3))
    assert settled(two_classes(), t_max=7.0, steps=9, measure_every=3)[1:] == (7.0, 0.002, 9, 3)


def test_data_of_ones_own_give_states_and_a_null(tmp_path: Path) -> None:
    """A file of images serves a model that came without data."""
    bare = replace(exact_model("empirical"), images=None, spectrum=None, mean=None)
    with refused("--states forward needs data"):
        plan(bare, **TINY | {"states": "forward"})
    assert not plan(bare, **TINY).has_null
    np.savez(tmp_path / "own.npz", images=normal(7, 1, 8, 8).numpy())
    settings = TINY | {"states": "forward", "data": str(tmp_path / "own.npz")}
    assert "null_gain" in run("probe", tmp_path / "run", model=bare, **settings).dataset
    np.savez(tmp_path / "other.npz", images=np.zeros((7, 1, 4, 4)))
    with refused("expected finite images"):
        plan(bare, **settings | {"data": str(tmp_path / "other.npz")})


ONE = {"model": exact_model("prototypes"), **TINY}
TWO = {"model": replace(two_classes(), levels=(0.03, 14.6)), **FLOW}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trajectories": 0}, "trajectories: got 0"),
        ({"measure_every": 0}, "measure_every: got 0"),
        ({"seed": -1}, "seed: got -1"),
        ({"shells": 2}, "shells: got 2; expected at least 3"),
        ({"shells": 4}, "shells: got 4"),
        ({"labels": (1,)}, "labels: got 1; expected none: the model has no classes"),
        ({"snapshots": (100.0,)}, "snapshots: got"),
        ({"data": "no.npz"}, "data: cannot read 'images' from 'no.npz'"),
        ({"states": "forward", "trajectories": 10}, "trajectories: got 10; expected at most 9"),
        ({"device": "abacus"}, "device: got 'abacus'"),
        ({"t_max": 2000.0}, "t_max"),
        ({"steps": 10**9}, "steps: got 1000000000"),
        (TWO | {"t_max": 20.0}, r"t_max: got 20, noise level 20; 'two' knows those in \[0.03, 14.6\]: leave t_max out"),
        (TWO | {"t_min": 0.01}, r"t_min: got 0.01, noise level 0.01; 'two' knows"),
        (TWO | {"labels": (0, 2)}, "labels: got 2; expected 0 to 1"),
        (TWO | {"labels": (0, 0)}, "a class comes twice"),
        (TWO | {"labels": (0, 1), "trajectories": 1}, "trajectories: got 1; expected at least 2, one of each class"),
        (TWO | {"classifier": "nobody"}, "classifier: cannot use 'nobody'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_settings_are_refused_before_anything_is_written(change: dict, message: str, tmp_path: Path) -> None:
    """One line that names the field and its value."""
    with refused(message):
        run("probe", tmp_path / "run", **(change if "model" in change else ONE | change))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("denoiser", "message"),
    [
        (lambda x, sigma: x[:, :, :4], r"returned \(3, 1, 4, 8\)"),
        (lambda x, sigma: x[:1], r"returned \(1, 1, 8, 8\)"),
        (lambda x, sigma: x.float(), "torch.float32"),
        (lambda x, sigma: x / 0, "NaN or infinite values at sigma"),
        (lambda x, sigma: None, "returned NoneType"),
        (lambda x, sigma: x.mul_(0.5), "overwrites the states"),
        (lambda x, sigma: torch.rand_like(x), "answers two equal calls"),
    ],
    ids=["shape", "one", "dtype", "nan", "none", "overwrites", "random"],
)
def test_denoisers_that_are_none_are_refused(denoiser: object, message: str, tmp_path: Path) -> None:
    """Another shape, type or NaN is found before anything is written."""
    with refused(message):
        run("probe", tmp_path / "run", model=replace(exact_model("prototypes"), bind=lambda _label: denoiser), **TINY)
    assert not (tmp_path / "run").exists()


def test_a_state_that_does_not_fit_is_refused_before_it_is_made(tmp_path: Path) -> None:
    """The model is never called, though 8192^2 sites themselves would still fit."""
    model = replace(exact_model("gaussian"), shape=(1, 2**20, 2**20), bind=lambda _label: pytest.fail("called"))
    with refused("shape: got .* takes about"):
        run("probe", tmp_path / "run", model=replace(model, images=None, **null_model(8, 8)), **TINY)


def test_a_coarse_grid_keeps_as_many_snapshots_as_it_has() -> None:
    """Eight by default; noised data have only the measured times, some of which several of the eight fall on."""
    few = plan(exact_model("gaussian"), **TINY | {"states": "forward", "snapshots": (), "measure_every": 40})
    assert len(few.times) == 4
    assert 1 <= len(few.snapshots) <= 4
    assert len(plan(exact_model("gaussian"), **TINY | {"snapshots": ()}).snapshots) == 8
