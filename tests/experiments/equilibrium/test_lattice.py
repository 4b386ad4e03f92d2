"""Finite-size runs of frozen patch models: their stages, what they find, and what they refuse."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.errors import refused
from helpers.resamples import short_stages
from softmode.exact.patch_dynamics import TwoStatePatch
from softmode.experiments.call import call, experiment, plan
from softmode.experiments.equilibrium import lattice_figures, lattice_stages
from softmode.experiments.equilibrium.lattice_found import Found
from softmode.experiments.equilibrium.lattice_measure import _moments
from softmode.experiments.equilibrium.lattice_stages import Seen, coarse_work, near, planned, refined, transition
from softmode.finite_size.moments import Moments
from softmode.runs.run import Run

RNG = np.random.default_rng(0)


def point(side: int, t: float, binder: float) -> Moments:
    """Return a point with some U4, with m^2 = 1 and a length that follows U4."""
    length = 0.9 * side * math.exp(8 * (binder - 0.61))
    structure = side**2 / (1 + (2 * math.sin(math.pi / side) * length) ** 2)
    return Moments(
        side, 2, t, np.array([1.0, 1.0, 3 * (1 - binder), structure]) * (1 + 0.01 * RNG.normal(size=(40, 4)))
    )


def seen(times: np.ndarray, binder: Sequence[np.ndarray], sides: tuple[int, ...] = (8, 12, 16)) -> Seen:
    """Return a stage whose points have some U4."""
    points = [
        [point(side, float(t), float(u)) for t, u in zip(times, values, strict=True)]
        for side, values in zip(sides, binder, strict=True)
    ]
    count = len(sides)
    return Seen(sides, np.tile(times, (count, 1)), points, np.full((count, len(times)), 100.0), np.full(count, 1e5))


def falling(times: np.ndarray, t_c: float, sides: tuple[int, ...] = (8, 12, 16)) -> list[np.ndarray]:
    """Return curves of U4 that cross at t_c with 0.61."""
    return [0.33 - 0.33 * np.tanh((times - t_c) * side - 1.25) for side in sides]


def test_the_search_finds_where_curves_cross() -> None:
    times = np.linspace(0.4, 3.0, 24)
    for t_c in (1.0, 1.7):
        found = transition(seen(times, falling(times, t_c)))
        assert found is not None
        centre, width = found
        assert centre == pytest.approx(t_c, abs=0.12)
        # U4 of the smallest side falls to a half so far beyond
        edge = t_c + (math.atanh((0.33 - 0.5) / 0.33) + 1.25) / 8
        assert centre + width == pytest.approx(edge, abs=0.1)


def test_no_transition_is_found_where_there_is_none() -> None:
    times = np.linspace(0.4, 3.0, 24)
    noisy = 0.1 * RNG.normal(size=24)
    for values in (np.full(24, 0.66), np.full(24, 0.01), 0.66 - 0.2 * times / 3, noisy):
        assert transition(seen(times, [values] * 3)) is None


def test_windows_shrink_with_the_side() -> None:
    times = near(1.6, 0.3, (16, 32, 64), 2, 7)
    assert np.allclose(times[:, [0, -1]], 1.6 + 0.3 * np.array([[1], [0.5], [0.25]]) * [-1.3, 0.9])
    assert np.ptp(near(1.6, 0.3, (16, 32), 3, 7)[1]) == pytest.approx(0.66 * 2 ** (-1 / 0.63))


def test_the_main_windows_are_around_what_half_the_step_fits() -> None:
    times = near(1.65, 0.2, (8, 12, 16), 2, 7)
    points = [seen(row, falling(row, 1.6)).points[s] for s, row in enumerate(times)]
    known = Seen((8, 12, 16), times, points, np.full((3, 7), 100.0), np.full(3, 1e5))
    centre, width = refined(known, 2)
    assert width == pytest.approx(0.2)
    assert centre == pytest.approx(1.6, abs=0.015)


def test_lengths_follow_the_wanted_error() -> None:
    times = np.linspace(1.4, 1.8, 7)
    known = seen(times, falling(times, 1.6))
    wanted = [planned(known, near(1.6, 0.2, (8, 16, 32), 2, 7), (8, 16, 32), error, 1.0, 16) for error in (1e-4, 2e-4)]
    for fine, coarse in zip(*(np.array(work.steps) for work in wanted), strict=True):
        assert fine / coarse == pytest.approx(4, rel=0.1)
    # a side that was not measured takes as much longer as it remembers longer
    assert wanted[0].steps[2] / wanted[0].steps[1] == pytest.approx(2**2.17, rel=0.1)
    # half the step takes twice as many
    finer = planned(known, near(1.6, 0.2, (8, 16), 2, 7), (8, 16), 1e-4, 2.0, 16)
    assert finer.steps[0] / wanted[0].steps[0] == pytest.approx(2, rel=0.05)
    # whatever the error, a series is long enough to be quoted
    short = planned(known, near(1.6, 0.2, (8, 16), 2, 7), (8, 16), 0.1, 1.0, 16)
    assert min(e * n for e, n in zip(short.every, short.counts, strict=True)) >= lattice_stages.LEAST * 100


def test_every_side_of_the_search_has_all_points() -> None:
    work = coarse_work(np.array([1.0, 2.0]), (8, 12))
    assert work.times.tolist() == [[1.0, 2.0]] * 2
    assert work.steps == [lattice_stages.EVERY * lattice_stages.COARSE * 5 // 4] * 2


def test_moments_are_those_of_the_state_with_its_own_kick() -> None:
    """Test m^2, m^4 and S against states to which the kick is really given."""
    sites, kick, count = 16, 0.7, 400_000
    m, structure = 0.4, 2.5
    rng = np.random.default_rng(1)
    kicked = m + kick * rng.standard_normal(count) / math.sqrt(sites)
    series = np.array([[[m, structure]]])
    found = _moments(series, kick, sites)[0, 0]
    for value, sample in ((found[1], kicked**2), (found[2], kicked**4)):
        assert abs(value - sample.mean()) < 4 * sample.std() / math.sqrt(count)
    assert found[0] == pytest.approx(m)
    assert found[3] == pytest.approx(structure + kick**2)


def test_the_frozen_score_orders_below_tree_level(run: Run) -> None:
    results, found = run.results, Found.of(run)
    t_c, tree = results["t_c"].estimate, results["t_c_tree"].estimate.value
    assert tree == pytest.approx(math.log(10))
    # 0.86 with larger sides and small errors
    assert t_c.value == pytest.approx(0.86, abs=4 * t_c.stderr + 0.05)
    assert t_c.stderr < 0.06
    assert results["U4_star"].estimate.value == pytest.approx(0.61, abs=0.05)
    assert results["t_c"].level == pytest.approx(math.sqrt(math.expm1(t_c.value)))
    assert (found.lengths >= 40).all()
    assert len(found.quoted) >= 15
    assert all(found.apart(side) < 6 for side in range(3))
    assert "not at the tree-level 2.303" in results.answer


def test_half_a_step_shifts_the_transition_little(run: Run) -> None:
    shift = run.results["shift"].estimate
    assert abs(shift.value) < 4 * shift.stderr + 0.02
    assert 0 < shift.stderr < 0.03


def test_figures_are_drawn(run: Run) -> None:
    for name in lattice_figures.FIGURES:
        assert run.figure(name).axes
    assert run.plot().axes
    stage = Run(run.directory / "half", run.experiment)
    assert "stage" in stage.results.answer
    with refused("nothing to draw"):
        stage.figure("equilibrium")


def test_a_chain_has_no_transition(tmp_path: Path) -> None:
    """Test that none is told where curves of short chains cross, which are correlated from end to end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lattice_stages, "COARSE", 500)
        patch.setattr(lattice_stages, "LEAST", 60)
        patch.setitem(lattice_stages.ROUNDS, "half", 2)
        patch.setitem(lattice_stages.ROUNDS, "main", 4)
        found = call(experiment("equilibrium"), tmp_path / "chain", receptive_field="box:3", dimensions=1,
                     sizes=(12, 18, 24), error=0.03)  # fmt: skip
    assert "no transition" in found.results.answer
    assert "t_c" not in found.results
    assert "|m|" in found.results.answer
    assert [row[0] for row in found.results.tables["balance"].rows] == ["least noise", "most", "most noise"]
    assert found.figure("balance").axes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": (4, 8, 16)}, "sizes: got 4; expected sides of at least 5"),
        ({"sizes": (16, 8, 32)}, "sizes: got .* expected at least 3 rising"),
        ({"sizes": (16, 32)}, "sizes: got .* expected at least 3 rising"),
        ({"step": 3.0}, "step: got 3; .*use 0.5"),
        ({"sigma_range": "3:1"}, "sigma_range: got .*0.3:6"),
        ({"sigma_range": "3"}, "sigma_range: got .*0.3:6"),
        ({"receptive_field": "box:1"}, "receptive_field: got one site"),
        ({"shells": 4}, "shells: got 4, which says nothing of a patch model; expected a network"),
        (
            {"model": "fashion-mnist-binary", "sizes": (8, 16, 32)},
            "sizes: got .* says nothing of a network; expected it without --model",
        ),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with refused(message):
        plan(experiment("equilibrium"), **settings)


@pytest.fixture
def short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lattice_stages, "COARSE", 160)
    monkeypatch.setitem(lattice_stages.ROUNDS, "coarse", 2)


@pytest.mark.usefixtures("short_search")
@pytest.mark.parametrize("levels", ["0.2:0.4", "0.01:0.05", "6:12"])
def test_a_range_without_a_transition_says_what_the_order_does(levels: str, tmp_path: Path) -> None:
    with refused(r"sigma_range: got .*, in which no transition is seen: .*\|m\|"):
        call(experiment("equilibrium"), tmp_path / "run", receptive_field="box:3", sizes=(6, 8, 10), sigma_range=levels)
    assert not (tmp_path / "run" / "run.zarr").exists()


@pytest.mark.usefixtures("short_search")
def test_an_error_that_takes_too_long_says_what_can_be_had(tmp_path: Path) -> None:
    with refused(r"error: got 0.0001, which takes about .* minutes; in the 0.05 of --minutes .* can be had"):
        call(experiment("equilibrium"), tmp_path / "run", receptive_field="box:3", sizes=(6, 8, 10), error=1e-4,
             minutes=0.05)  # fmt: skip


def test_a_model_is_built_of_what_is_asked_for() -> None:
    made: Any = plan(experiment("equilibrium"), receptive_field="cross:1")
    assert isinstance(made.model, TwoStatePatch)
    assert made.model.receptive_field.size == 5
    random: Any = plan(experiment("equilibrium"), receptive_field="box:3", dictionary="random:2")
    assert len(random.model.dictionary.prior) == 4


def test_blocks_and_a_resume_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short_stages(monkeypatch)
    settings: dict[str, Any] = {"receptive_field": "box:3", "sizes": (6, 8, 10), "error": 0.19}
    whole = call(experiment("equilibrium"), tmp_path / "whole", block=3, **settings)
    made: Any = plan(experiment("equilibrium"), **settings)
    interrupted, asked = type(made).measure, []

    def measure(self: Any, block: Any, advance: Any = lambda: None) -> Any:
        asked.append((self.stage, block.index))
        if len(asked) == 5:
            raise KeyboardInterrupt
        return interrupted(self, block, advance)

    monkeypatch.setattr(type(made), "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        call(experiment("equilibrium"), tmp_path / "parts", **settings)
    monkeypatch.setattr(type(made), "measure", interrupted)
    again = call(experiment("equilibrium"), tmp_path / "parts", **settings)
    for name in ("means", "tau", "time"):
        assert np.allclose(again.dataset[name], whole.dataset[name], rtol=1e-4)
