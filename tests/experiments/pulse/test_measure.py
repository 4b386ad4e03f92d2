"""Plans of pulses: what they need and refuse, how they resume, and what a run of theirs is a function of."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import softmode as sm
from helpers import resamples
from helpers.errors import refused
from helpers.guidance import (
    CONDITIONS,
    PULSE,
    SUSCEPTIBILITY,
    cheap_window,
    corners,
    guide,
    nearest,
    stored_window,
    window_results,
)
from helpers.models import Classifier
from softmode.estimate import Estimate
from softmode.experiments.call import experiment
from softmode.experiments.pulse.config import Config
from softmode.experiments.pulse.critical import Critical, check_same_model, level_of
from softmode.experiments.pulse.measure import TrialsPlan, prepare
from softmode.experiments.pulse.sampling import Trials, path_places, weight_table
from softmode.model import Model
from softmode.process import VE
from softmode.runs.engine import execute
from softmode.runs.results import Results
from softmode.runs.run import Run

NINE = [name for name in CONDITIONS if name != "window"]


def plan(model: Model | None = None, classifier: Any = None, **changes: Any) -> TrialsPlan:
    return prepare(replace(PULSE, **changes), {"model": model or corners(), "classifier": classifier or nearest()})


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return guide("pulse", PULSE, tmp_path_factory.mktemp("pulse") / "run")


def test_an_interrupted_run_resumes_at_the_condition_where_it_was(
    stored: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twins of a block that was begun are sampled again, and all arrays come out the same."""
    done, measure = [], TrialsPlan.measure

    def failing(self: TrialsPlan, block: Any, *rest: Any) -> Any:
        done.append(self.conditions[block.part].name)
        if len(done) == 12:
            raise KeyboardInterrupt
        return measure(self, block, *rest)

    monkeypatch.setattr(TrialsPlan, "measure", failing)
    with pytest.raises(KeyboardInterrupt):
        guide("pulse", PULSE, tmp_path / "cut")
    assert done[:8] == NINE
    cut = Run(tmp_path / "cut", experiment("pulse"))
    assert cut.dataset.sizes["trajectory"] == 4, "only trials with every condition are shown"
    del done[:]
    monkeypatch.setattr(
        TrialsPlan, "measure", lambda self, block, *rest: done.append(block.part) or measure(self, block, *rest)
    )
    resumed = guide("pulse", PULSE, tmp_path / "cut")
    assert NINE[done[0]] == "random_log"
    assert len(done) == 5 * 8 - 11
    for name in stored.dataset.data_vars:
        np.testing.assert_array_equal(resumed.dataset[name].to_numpy(), stored.dataset[name].to_numpy())


@pytest.mark.parametrize("first", [0, 1, 11])
def test_steps_are_counted_as_they_are_made(first: int) -> None:
    """Whole, from the first condition after the twins, and from the middle of a block."""
    whole = plan(steps=16)
    pending, made = whole.blocks()[first:], []
    for block in pending:
        whole.measure(block, lambda: made.append(1))
    assert len(made) == whole.steps(pending)


def test_the_time_is_that_of_every_network_call() -> None:
    """The denoiser's calls and its guide's, for each state of them."""
    calls = []

    class Counting:
        def __init__(self, label: int | None) -> None:
            self.own = corners().denoiser(label)

        def __call__(self, x: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
            calls.append(len(x))
            return self.own(x, sigma)

    counted = plan(Model("counting", VE(), (1, 8, 8), Counting, classes=3), labels=(1,), steps=16)
    counted = replace(counted, guidance=replace(counted.guidance, call_seconds=1.0))
    blocks = counted.blocks()
    del calls[:]
    for block in blocks:
        counted.measure(block)
    # D(x) along the way of the first trial comes on top
    levels = counted.guidance.levels
    tables = [weight_table(counted.guidance, Trials.of(1, [0]), condition)[0] for condition in counted.conditions]
    path = sum(1 + int(table[place] != 0) for table in tables for place in path_places(levels))
    assert sum(calls) - path == counted.seconds(blocks)


def test_sigma_c_is_measured_first_and_the_window_is_a_condition(tmp_path: Path) -> None:
    """Without one, a window is found in the run's own directory over all classes; a second run takes it from there."""
    config = replace(PULSE, sigma_c=None, trials=2)
    with cheap_window(window_results(2.5)):
        open_plan = plan(sigma_c=None, trials=2)
        assert open_plan.variables["logit"].shape == (6, 9), "room for all conditions before they are known"
        (needed,) = open_plan.needs().values()
        assert needed[1].config.labels == (0, 1, 2)
        assert needed[1].config.trajectories == 12
        run = guide("pulse", config, tmp_path / "run")
        assert (run.config["sigma_c"], run.config["half_width"]) == (2.5, 1.25)
        assert [c["name"] for c in run.identity["conditions"]] == CONDITIONS
        assert Critical.stored(run) == Critical(Estimate(2.5, 0.25, 8, 2.0, 3.0), (1.0, 6.0))
        again = replace(config, window=str(tmp_path / "run" / "window"))
        other = guide("pulse", again, tmp_path / "other")
        np.testing.assert_array_equal(other.dataset["logit"], run.dataset["logit"])
        assert not (tmp_path / "other" / "window").exists()
        named = plan(sigma_c=2.0, window=again.window).critical
        assert named == Critical(Estimate.exact(2.0), (1.0, 6.0)), "a given sigma_c is taken, and has no error"
        with refused(r"window: .* is of 'corners', not of 'others'"):
            plan(corners("others"), sigma_c=None, window=again.window)


def test_a_window_of_other_weights_is_refused(tmp_path: Path) -> None:
    with cheap_window(window_results()):
        home = str(stored_window(tmp_path / "window", corners(inputs={"weights": "a"})).directory)
        assert plan(corners(inputs={"weights": "a"}), sigma_c=None, window=home).critical is not None
        with refused("window: .* is of 'corners' with another model weights, by its content"):
            plan(corners(inputs={"weights": "b"}), sigma_c=None, window=home)


def test_other_files_of_a_run_may_differ(tmp_path: Path) -> None:
    """A window has a classifier and data of its own."""
    with cheap_window(window_results()):
        window = stored_window(tmp_path / "window", corners(inputs={"weights": "a", "scheduler": "b"}))
    check_same_model("check", window, corners(inputs={"weights": "a", "prompt": "c"}))


def test_a_run_without_a_network_is_of_no_model(tmp_path: Path) -> None:
    """One of a patch model, which has an identity without a model."""
    settings: dict[str, Any] = {"size": 12, "receptive_field": "box:3", "steps": 100, "trajectories": 2, "shells": 3}
    patches = sm.patch(out=tmp_path / "patch", t_max=5.0, t_min=0.1, **settings)
    with refused("window: '.*patch' is of no network, not of 'corners'"):
        check_same_model("window", patches, corners())


def test_without_a_window_sigma_c_must_be_given(tmp_path: Path) -> None:
    with cheap_window(window_results(verdict="none")):
        with refused("sigma_c: no critical window found; give one with --sigma-c"):
            guide("pulse", replace(PULSE, sigma_c=None), tmp_path / "run")
        assert not (tmp_path / "run" / "run.zarr").exists()
        stored_window(tmp_path / "window")
        given = plan(window=str(tmp_path / "window"))
        assert given.critical == Critical(Estimate.exact(3.0), None)
        assert [c.name for c in given.conditions] == NINE


def test_a_run_is_of_all_its_files(tmp_path: Path) -> None:
    """Another model file, another data file: a resume with one is refused by its name."""
    for name in ("a", "b"):
        images = torch.randn(30, 1, 8, 8, generator=torch.Generator().manual_seed(ord(name))).numpy()
        np.savez(tmp_path / f"{name}.npz", images=images)
    config = replace(PULSE, trials=2, data=str(tmp_path / "a.npz"))
    guide("pulse", config, tmp_path / "run", corners(inputs={"weights": "a"}))
    with refused("out: .* another model weights than this one, by its content"):
        guide("pulse", config, tmp_path / "run", corners(inputs={"weights": "b"}))
    (tmp_path / "b.npz").replace(tmp_path / "a.npz")
    with refused("out: .* another data than this one, by its content"):
        guide("pulse", config, tmp_path / "run", corners(inputs={"weights": "a"}))


def test_a_change_of_any_class_changes_the_identity() -> None:
    """The denoiser of the last class, and the guide."""

    def bind(changed: int | None, label: int | None) -> Any:
        own = corners().denoiser(label)
        return (lambda x, sigma: 0.9 * own(x, sigma)) if label == changed else own

    plain = plan().identity["model"]
    for changed, where in ((2, "fingerprints"), (None, "guide")):
        model = Model("corners", VE(), (1, 8, 8), lambda label, c=changed: bind(c, label), classes=3)
        found = plan(model).identity["model"]
        assert {key for key in plain if plain[key] != found[key]} == {where}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": math.inf}, "weight: got inf; expected a finite number"),
        ({"weight": 0.0}, "weight: got 0; expected another number"),
        ({"trials": 0}, "trials: got 0; expected at least 1"),
        ({"classes": 4}, "classes: got 4; expected at most 3"),
        ({"labels": (1, 5)}, "labels: got 5; expected 0 to 2"),
        ({"half_width": 3.5}, "half_width: got 3.5; expected less than sigma_c = 3"),
        ({"half_width": 0.01}, "half_width: got 0.01; .* the nearest is"),
        ({"half_width": -1.0}, "half_width: got -1; expected above 0"),
        ({"sigma_c": -1.0}, "sigma_c: got -1; expected above 0"),
        ({"interval": (2.0, 1.0)}, r"interval: got \(2, 1\]; expected 0 <= low < high"),
        ({"steps": 1}, "steps: got 1; expected at least 2"),
        ({"window": "nowhere"}, "window: 'nowhere' holds no softmode run; make one with softmode window"),
        ({"guide": "nothing-such"}, "guide: cannot use 'nothing-such'"),
        ({"data": "none.npz"}, "data: cannot read 'images' from 'none.npz' "),
    ],
)
def test_bad_input(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with refused(message):
        guide("pulse", replace(PULSE, **change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_too_many_trials_are_refused_before_they_are_allocated(tmp_path: Path) -> None:
    with refused("trials: got 1000000000; expected at most [0-9]+: the run takes up to .* of disk"):
        guide("pulse", replace(PULSE, trials=10**9), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_experiments_directory_is_left_alone(stored: Run) -> None:
    """No window is measured into it first."""
    before = sorted(path.name for path in stored.directory.iterdir())
    with cheap_window(window_results()), refused(r"out: .* holds a run with experiment 'pulse'"):
        guide("susceptibility", replace(SUSCEPTIBILITY, sigma_c=None), stored.directory)
    assert sorted(path.name for path in stored.directory.iterdir()) == before


def test_models_that_cannot_be_guided_are_refused() -> None:
    free = Model("free", VE(), (1, 8, 8), lambda _label: corners().denoiser(0))
    with refused("model: 'free' has no classes"):
        plan(free)

    def bind(label: int | None) -> Any:
        if label is None:
            raise ValueError("labels: this model has no class for all of them")
        return corners().denoiser(label)

    with refused(r"guide: 'stubborn' cannot drop its label .* name another model"):
        plan(Model("stubborn", VE(), (1, 8, 8), bind, classes=3))
    for other, message in (
        (Model("wide", VE(), (1, 9, 9), bind, classes=3), r"guide: 'wide' has states \(1, 9, 9\)"),
        (Model("more", VE(), (1, 8, 8), bind, classes=7), "guide: 'more' knows 7 classes; expected none or"),
    ):
        with refused(message):
            prepare(PULSE, {"model": corners(), "guide": other, "classifier": nearest()})


def test_classifiers_that_cannot_judge_are_refused() -> None:
    for config, given, message in (
        (
            PULSE,
            None,
            "classifier: no agreement of classes: no classifier is known for .* or none: the model",
        ),
        (PULSE, lambda x: x, "classifier: function returned .* for two states; expected logits"),
        (PULSE, Classifier(nearest().features, nearest().head, 2), "classifier: .* tells 2 classes; labels has 2"),
    ):
        with refused(message):
            prepare(config, {"model": corners()} | ({} if given is None else {"classifier": given}))


def test_without_a_classifier_the_model_judges_itself(stored: Run, tmp_path: Path) -> None:
    """The same samples; of these exact classes its posterior names the same ones, and a note says whose it is."""
    chosen = experiment("pulse")
    alone = execute(chosen, chosen.prepare(replace(PULSE, classifier="none"), {"model": corners()}), tmp_path / "run")
    np.testing.assert_array_equal(alone.dataset["image"], stored.dataset["image"])
    assert float((alone.dataset["predicted"] == stored.dataset["predicted"]).mean()) > 0.95
    assert any("own posterior" in note for note in alone.results.notes)
    assert not any("own posterior" in note for note in stored.results.notes)


def test_a_plan_writes_nothing_and_has_no_open_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = plan()
    assert made.config == Config(**{**vars(PULSE), "half_width": 1.5})
    assert list(tmp_path.iterdir()) == []
    run = execute(experiment("pulse"), made, tmp_path / "run")
    assert run.dataset["image"].dims == ("trajectory", "condition", "channel", "y", "x")


def test_the_window_is_softmode_window_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is measured first, and sigma_c is where half of the label is known; without any, that ends the experiment."""
    resamples.few_resamples(monkeypatch)
    resamples.few_levels(monkeypatch)
    config = replace(PULSE, sigma_c=None, trials=1, dtype="float64")
    run = guide("pulse", config, tmp_path / "run")
    window = Run(tmp_path / "run" / "window", experiment("window"))
    assert window.config["labels"] == [0, 1, 2]
    assert (window.results.values["verdict"], window.results.values["by"]) == ("found", "label")
    low, high = (window.results[end].estimate.value for end in ("sigma_lo", "sigma_hi"))
    assert Critical.stored(run) == Critical(window.results["sigma_c"].estimate, (low, high))
    given = plan(window=str(window.directory))
    assert given.critical == Critical(Estimate.exact(3.0), (low, high))
    none = Results("no critical window found: there is none", values={"verdict": "none"})
    with refused("sigma_c: no critical window found: there is none; give one with --sigma-c"):
        level_of(config, none)
