"""What a clone run measures: reproducible, resumable, independent of batches, and of nothing but its inputs."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import softmode
from helpers.clones import SMALL, classifier_file, clones, uniform
from helpers.errors import refused
from helpers.models import by_sign
from helpers.runs import digest
from softmode.contract import Classify
from softmode.estimate import Array, bootstrap
from softmode.experiments.call import experiment
from softmode.experiments.clones import analyse
from softmode.experiments.clones.config import Config
from softmode.experiments.clones.measure import ClonesPlan, evaluations, prepare
from softmode.model import Model
from softmode.process import VE, VP
from softmode.runs.run import Run
from softmode.samplers import CoarseStepWarning


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """Spend little time on intervals."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analyse, "bootstrap", partial(bootstrap, resamples=50))
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return clones(SMALL, tmp_path_factory.mktemp("small") / "run", classifier=by_sign)


def states(run: Run) -> dict[str, Array]:
    names = ("parent", "first_copy", "sign_agreement", "class_agreement")
    return {name: run.dataset[name].to_numpy() for name in names}


def test_stored_arrays_belong_together(tmp_path: Path) -> None:
    """Classes are those of the stored states, agreements those of the classes, with names, units and coordinates."""
    data = clones(replace(SMALL, trajectories=40, block=40, copies=2), tmp_path / "run", classifier=by_sign).dataset
    assert data["first_copy"].dims == ("trajectory", "copy_time", "channel", "y", "x")
    assert data["parent"].dims == ("trajectory", "channel", "y", "x")
    own, copied = data["parent_class"].to_numpy(), data["copy_class"].to_numpy()
    np.testing.assert_array_equal(own, data["parent"].to_numpy().sum((1, 2, 3)) > 0)
    np.testing.assert_array_equal(copied[:, :, 0], data["first_copy"].to_numpy().sum((2, 3, 4)) > 0)
    pairs = [own[:, None] == copied[..., 0], own[:, None] == copied[..., 1], copied[..., 0] == copied[..., 1]]
    np.testing.assert_allclose(data["class_agreement"], np.mean(pairs, axis=0), rtol=1e-12)
    np.testing.assert_allclose(data["sign_agreement"], data["class_agreement"], rtol=1e-12)
    np.testing.assert_allclose(data["copy_level"], np.sqrt(np.expm1(data["copy_time"])), rtol=1e-12)
    np.testing.assert_array_equal(data["step_time"][data["copy_step"]], data["copy_time"])
    np.testing.assert_array_equal(data["step_level"][data["copy_step"]], data["copy_level"])
    assert data["step_time"].to_numpy()[[0, -1]].tolist() == [3.0, 0.05]
    assert (np.diff(data["copy_time"]) < 0).all()
    assert all(data[name].attrs["units"] and data[name].attrs["long_name"] for name in data.variables)


def test_every_evaluation_and_every_step_is_counted(tmp_path: Path) -> None:
    """The results count the states that go through the network; the plan the steps of all blocks, and their time."""
    honest, seen, steps = uniform(1, 2, 2), [], []

    def bind(_label: int | None) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        def counting(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            seen.append(len(x))
            return honest.bind(None)(x, sigma)

        return counting

    plan = prepare(replace(SMALL, copies=2), {"model": replace(honest, bind=bind)})
    seen.clear()
    for block in plan.blocks():
        plan.measure(block, lambda: steps.append(1))
    assert len(steps) == plan.steps(plan.blocks())
    assert plan.seconds(plan.blocks()) == pytest.approx(sum(seen) * plan.call_seconds)
    cost = clones(replace(SMALL, copies=2), tmp_path / "run", honest).results.values["evaluations"]
    assert cost["total"] == sum(seen)
    assert cost["trajectories"] == 5 * 40


def test_steps_of_several_classes_are_those_of_each(tmp_path: Path) -> None:
    """A block of two classes moves twice, one with a single trajectory once."""
    plan, steps = prepare(replace(SMALL, labels=(0, 1)), {"model": uniform(1, 2, 2, classes=2)}), []
    for block in plan.blocks():
        plan.measure(block, lambda: steps.append(1))
    assert len(steps) == plan.steps(plan.blocks()) == 5 * plan.steps(plan.blocks()[-1:])


def test_evaluations_of_copies() -> None:
    assert evaluations(torch.arange(11, 0, -1.0), 3, [0, 4, 10]) == (10, 3 * (10 + 6 + 0))


def test_interrupted_and_resumed_is_bit_identical(small: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that dies in its second block keeps the first, and ends with the bytes of another run of its config."""
    honest = ClonesPlan.measure

    def dies(plan, block, advance):
        if block.index == 1:
            raise KeyboardInterrupt
        return honest(plan, block, advance)

    monkeypatch.setattr(ClonesPlan, "measure", dies)
    with pytest.raises(KeyboardInterrupt):
        clones(SMALL, tmp_path / "run", classifier=by_sign)
    assert softmode.open(tmp_path / "run").dataset.sizes["trajectory"] == 2
    assert not (tmp_path / "run" / "summary.json").exists()
    monkeypatch.setattr(ClonesPlan, "measure", honest)
    resumed = clones(SMALL, tmp_path / "run", classifier=by_sign)
    assert digest(resumed.directory) == digest(small.directory)
    assert resumed.results == small.results


def test_repeating_a_finished_run_computes_nothing(small: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClonesPlan, "measure", lambda *_: pytest.fail("simulated again"))
    clones(SMALL, small.directory, classifier=by_sign)


@pytest.mark.parametrize(
    ("model", "classifier", "named"),
    [
        (uniform(1, 2, 2, scale=0.9), by_sign, "model fingerprint"),
        (uniform(1, 2, 2, inputs={"weights": "1f"}), by_sign, "another model weights"),
        (uniform(1, 2, 2), lambda x: 2 * by_sign(x), "classifier fingerprint"),
        (uniform(1, 2, 2), None, "classifier used True instead of False"),
    ],
)
def test_a_run_is_not_resumed_with_other_inputs(
    model: Model, classifier: Classify | None, named: str, small: Run
) -> None:
    """The message names what is another: the model, a file of it, or the classifier."""
    with pytest.raises(ValueError, match=f"^out: .* holds a run with .*{named}"):
        clones(SMALL, small.directory, model, classifier)


def test_a_run_is_not_resumed_with_another_class_or_classifier_file(tmp_path: Path) -> None:
    """Every class's denoiser counts, not the first one's alone; so does the file behind a classifier's path."""
    config = replace(SMALL, labels=(0, 1), times=(1.0,), trajectories=2, classifier=classifier_file(tmp_path))
    model = uniform(1, 8, 8, classes=2)
    clones(config, tmp_path / "run", model)
    other = replace(model, bind=lambda label: uniform(1, 8, 8, scale=0.9 if label else 1.0).bind(label))
    with pytest.raises(ValueError, match="holds a run with model fingerprint"):
        clones(config, tmp_path / "run", other)
    classifier_file(tmp_path, seed=1)
    with pytest.raises(ValueError, match="another classifier weights than this one"):
        clones(config, tmp_path / "run", model)


@pytest.mark.parametrize("block", [1, 3])
def test_results_do_not_depend_on_batching(block: int, small: Run, tmp_path: Path) -> None:
    other = states(clones(replace(SMALL, block=block), tmp_path / "run", classifier=by_sign))
    for name, values in states(small).items():
        np.testing.assert_allclose(other[name], values, rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_copy_depends_on_nothing_but_its_own_key(small: Run, tmp_path: Path) -> None:
    """More trajectories, more copies or other times leave a trajectory and its first copies as they are."""
    config = replace(SMALL, trajectories=6, copies=2, times=(3.0, 2.5, 1.7, 1.0, 0.3))
    more = states(clones(config, tmp_path / "run", classifier=by_sign))
    np.testing.assert_allclose(more["parent"][:5], small.dataset["parent"], rtol=1e-12)
    np.testing.assert_allclose(more["first_copy"][:5, [1, 3, 4]], small.dataset["first_copy"], rtol=1e-12)


def test_copies_trajectories_and_seeds_are_all_different(small: Run, tmp_path: Path) -> None:
    """No final state occurs twice, within a run or in one of another seed."""
    other = clones(replace(SMALL, seed=1), tmp_path / "run", classifier=by_sign)
    final = [
        state
        for run in (small, other)
        for name in ("parent", "first_copy")
        for state in states(run)[name].reshape(-1, 4).tolist()
    ]
    assert len({tuple(state) for state in final}) == len(final) == 2 * (5 + 15)


def test_copies_at_the_end_are_the_trajectory(tmp_path: Path) -> None:
    data = clones(replace(SMALL, times=(0.05, 3.0), copies=2), tmp_path / "run").dataset
    np.testing.assert_array_equal(data["first_copy"][:, 1], data["parent"])
    assert (data["sign_agreement"][:, 1] == 1).all()
    assert data["copy_step"].to_numpy().tolist() == [0, 40]


def test_classes_are_dealt_out_in_turn(tmp_path: Path) -> None:
    """Every trajectory and its copies end in the one state of their class, whatever the block."""
    config = replace(SMALL, labels=(1, 0))
    data = clones(config, tmp_path / "run", uniform(1, 2, 2, classes=2), by_sign).dataset
    assert data["parent_class"].to_numpy().tolist() == [0, 1, 0, 1, 0]
    assert (data["class_agreement"] == 1).all()


def test_a_classifier_by_path_tells_the_classes(tmp_path: Path) -> None:
    """Its card says which data set the classes are of; grey images of training are noted for binary states."""
    config = replace(SMALL, classifier=classifier_file(tmp_path), trajectories=2, times=(1.0,))
    run = clones(config, tmp_path / "run", uniform(1, 8, 8))
    told = run.identity["classifier"]
    assert (told["used"], told["data"], told["note"]) == (True, "Fashion-MNIST", "")
    assert run.dataset["copy_class"].isin(np.arange(10)).all()
    assert "trained on grey images" in prepare(config, {"model": uniform(1, 8, 8, binary=True)}).told.note


def test_none_leaves_classes_out_and_the_config_is_kept(tmp_path: Path) -> None:
    run = clones(SMALL, tmp_path / "run")
    assert "parent_class" not in run.dataset
    assert "on request" in run.identity["classifier"]["note"]
    assert run.config == asdict(SMALL) | {"times": [2.5, 1.0, 0.3], "shape": [], "labels": [], "prompt": []}


def test_default_times_are_even_in_the_log_of_the_noise_level() -> None:
    for process, span in ((VP(), (20, 0.2)), (VE(), (10, 0.2))):
        config = replace(SMALL, times=(), t_max=10.0, t_min=1e-3, steps=2000)
        plan = prepare(config, {"model": uniform(1, 2, 2, process=process)})
        levels = process.noise_level(plan.times[plan.starts]).numpy()
        np.testing.assert_allclose(levels[[0, -1]], span, rtol=0.02)
        if isinstance(process, VP):
            np.testing.assert_allclose(levels, np.geomspace(20, 0.2, 8), rtol=0.02)


def test_default_ends_stay_within_what_the_model_knows() -> None:
    bare = Config(model="two", classifier="none", steps=2000)
    for process, levels, ends in (
        (VP(), None, (10.0, 1e-3)),
        (VE(), None, (80.0, 0.002)),
        (VE(), (0.03, 14.6), (14.6, 0.03)),
        (VP(), (0.1, 14.6), (math.log1p(14.6**2), math.log1p(0.01))),
    ):
        plan = prepare(bare, {"model": uniform(1, 2, 2, process=process, levels=levels)})
        assert (plan.config.t_max, plan.config.t_min) == pytest.approx(ends)


def test_a_grid_that_is_too_coarse_is_warned_of_before_anything_is_computed() -> None:
    with pytest.warns(CoarseStepWarning, match="steps: 3 are too coarse"):
        prepare(replace(SMALL, steps=3, t_max=10.0), {"model": uniform(1, 2, 2)})


def test_a_live_denoiser_is_enough(tmp_path: Path) -> None:
    """From Python, with plain values and a classifier of one's own; the run is that of the same Model."""
    denoiser = uniform(1, 2, 2).bind(None)
    settings = {"trajectories": 5, "times": [2.5, 1.0, 0.3], "t_max": 3.0, "t_min": 0.05, "steps": 40, "block": 2,
                "dtype": "float64"}  # fmt: skip
    run = softmode.clones(
        denoiser, out=tmp_path / "bare", shape=(1, 2, 2), process=VP(), classifier=by_sign, **settings
    )
    again = softmode.clones(uniform(1, 2, 2), out=tmp_path / "model", classifier=by_sign, **settings)
    for name, values in states(run).items():
        np.testing.assert_array_equal(values, states(again)[name])
    assert run.experiment == experiment("clones")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"trajectories": 0}, "trajectories: got 0"),
        ({"copies": 0}, "copies: got 0"),
        ({"block": 0}, "block: got 0"),
        ({"seed": -1}, "seed: got -1"),
        ({"steps": 0}, "steps: got 0"),
        ({"t_max": 0.001}, "t_max: got 0.001"),
        ({"t_max": 150.0, "dtype": "float32"}, "t_max: got 150"),
        ({"times": (30.0,)}, "times: got"),
        ({"times": (1.0, math.nan)}, "times: got"),
        ({"times": (1e-4,)}, "times: got"),
        ({"device": "abacus"}, "device: got 'abacus'"),
        ({"labels": (3,)}, "labels: got 3"),
        ({"labels": (3,), "classes": 2}, "labels: got 3; expected 0 to 1"),
        ({"classifier": "nobody"}, "classifier: cannot use 'nobody'"),
        ({"classifier": "8x8"}, r"classifier: '.*' tells the classes of states \(1, 8, 8\), not \(1, 2, 2\)"),
        ({"t_max": 4.0, "levels": (0.1, 5.0)}, r"t_max: got 4, noise level 7.321; 'two' knows those in \[0.1, 5\]"),
        ({"levels": (0.5, 9.0)}, "t_min: got 0.05, noise level 0.2264; 'two' knows"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(change: dict, named: str, tmp_path: Path) -> None:
    """One line that starts with the argument and its value; the directory is not even made."""
    known = {name: value for name, value in change.items() if name in ("classes", "levels")}
    change = {name: value for name, value in change.items() if name not in known}
    if change.get("classifier") == "8x8":
        change = {"classifier": classifier_file(tmp_path)}
    with refused(f"^{named}"):
        clones(replace(SMALL, **change), tmp_path / "run", uniform(1, 2, 2, **known))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("classifier", "named"),
    [
        (torch.nn.Linear(3, 2).double(), "classifier: cannot tell the classes of states"),
        (lambda x: x.flatten(1).sum(1), r"classifier: returned \(2,\) for two states"),
        (lambda x: by_sign(x) / 0, r"classifier: returned \(2, 2\) for two states; expected finite"),
        (lambda x: "dress", "classifier: returned str"),
    ],
)
def test_a_classifier_that_does_not_fit_is_an_error(classifier: Classify, named: str, tmp_path: Path) -> None:
    with refused(f"^{named}"):
        clones(SMALL, tmp_path / "run", classifier=classifier)
    assert not (tmp_path / "run").exists()


def test_a_model_of_another_shape_is_an_error(tmp_path: Path) -> None:
    with refused("^model: 'two' failed"):
        clones(SMALL, tmp_path / "run", replace(uniform(1, 2, 2), shape=(1, 3, 3)))
    assert not (tmp_path / "run").exists()
