"""Finite-size runs of frozen patch models: their stages, what they find, and what they refuse."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from helpers.errors import refused
from helpers.resamples import short_stages
from softmode.exact.patch_dynamics import TwoStatePatch
from softmode.experiments.call import call, experiment, plan
from softmode.experiments.equilibrium import lattice_figures, lattice_stages
from softmode.experiments.equilibrium.config import OF_LATTICES, OF_NETWORKS, Config
from softmode.experiments.equilibrium.lattice_analyse import _answer
from softmode.experiments.equilibrium.lattice_found import Found
from softmode.experiments.equilibrium.lattice_measure import _moments
from softmode.experiments.equilibrium.lattice_stages import Seen, coarse_work, near, planned, refined, transition
from softmode.finite_size.exponents import Collapse
from softmode.finite_size.moments import MOMENTS, Moments
from softmode.finite_size.series import Thermalised
from softmode.runs.run import Run
from softmode.settings import described

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
    return stage(sides, np.tile(times, (len(sides), 1)), points)


def stage(sides: tuple[int, ...], times: np.ndarray, points: list[list[Moments]], tau: float = 100.0) -> Seen:
    """Return a stage of ten series of 10,000 steps, at equilibrium."""
    full = np.full(times.shape, 1.0)
    starts = [[Thermalised(0, 0.0, 0.0, 15)] * times.shape[1]] * len(sides)
    return Seen(sides, times, points, tau * full, 1e4 * full, 0 * full, 10, starts)


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
    known = stage((8, 12, 16), times, points)
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


def stored(times: np.ndarray, steps: float, tau: float, approach: np.ndarray) -> xr.Dataset:
    """Return a stored stage of 16 rounds at one side, whose m^2 approaches its mean from above and from below."""
    rounds, blocks, points = 16, lattice_stages.BLOCKS, len(times)
    series = 1 + 0.1 * np.random.default_rng(4).normal(size=(rounds, 1, points, 2, blocks, len(MOMENTS)))
    series += np.array([1, -1])[:, None, None] * approach[:, None]
    of, each = ("trajectory", "size", "point"), ("trajectory", "size", "point", "unit", "moment")
    return xr.Dataset({
        "time": (of, np.tile(times, (rounds, 1, 1))), "tau": (of, np.full((rounds, 1, points), tau)),
        "steps": (of[:2], np.full((rounds, 1), steps)), "means": (each, series.reshape(rounds, 1, points, -1, 4)),
    })  # fmt: skip


def test_the_start_is_cut_where_the_series_says_and_blocks_follow_tau() -> None:
    """An approach within some of 32 parts is cut, one that never ends is not quoted; blocks hold 10 tau."""
    times, parts = np.linspace(1.0, 2.0, 3), np.arange(lattice_stages.BLOCKS)
    for approach, cut, sure in ((0 * parts, (0, 0), True), (np.exp(-parts), (3, 16), True), (0.2, (0, 16), False)):
        found = Seen.of(stored(times, 3200.0, 20.0, approach + 0.0 * parts), [8], 2)
        first = np.array([[each.first for each in row] for row in found.starts])
        assert (cut[0] <= first).all()
        assert (first <= cut[1]).all()
        assert np.allclose(found.steps, 3200 - 100 * first)
        assert np.allclose(found.cut, 100 * first)
        assert np.allclose(found.lengths, found.steps / 20)
        assert (found.sure == sure).all()
        assert [point.side for point in found.quoted(0)] == [8] * 3 * sure
        # 10 tau are two parts of 100 steps
        assert [len(point.means) for point in found.points[0]] == (32 * ((32 - first[0]) // 2)).tolist()
    # a longer memory: longer blocks, and below 50 of it nothing is quoted
    assert [len(p.means) for p in Seen.of(stored(times, 3200.0, 60.0, 0.0 * parts), [8], 2).points[0]] == [32 * 5] * 3
    assert not Seen.of(stored(times, 3200.0, 65.0, 0.0 * parts), [8], 2).sure.any()


def test_every_side_of_the_search_has_all_points() -> None:
    work = coarse_work(np.array([1.0, 2.0]), (8, 12))
    assert work.times.tolist() == [[1.0, 2.0]] * 2
    kept = lattice_stages.COARSE // lattice_stages.BLOCKS * lattice_stages.BLOCKS
    assert work.counts == (kept, kept)
    assert work.steps == [lattice_stages.EVERY * (kept + lattice_stages.COARSE // 4)] * 2


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
    assert (found.seen.lengths >= 40).all()
    assert found.at_transition.any()
    assert len(found.quoted) >= 15
    assert all(abs(each.apart) < 6 for row in found.seen.starts for each in row)
    assert "not at the tree-level 2.303" in results.answer


def test_a_misfit_is_said_in_the_answer(run: Run) -> None:
    """That of the fit, of powers and of collapses, with chi^2; and nothing of a good one."""
    found = Found.of(run)
    fit = found.fit
    assert fit is not None

    def said(fit_square: float, power_square: float, collapse_square: float) -> str:
        found.__dict__.pop("misfits", None)
        powers = {name: each._replace(chi2=10.0, dof=10) for name, each in found.powers.items()}
        powers["chi"] = powers["chi"]._replace(chi2=power_square)
        made = {"U4": Collapse(*[np.ones(1)] * 4, collapse_square, 20)}
        found.__dict__.update(described=replace(fit, chi2=fit_square), powers=powers, collapses=made)
        return _answer(found, 2.3)

    assert "chi^2" not in said(float(fit.dof), 10.0, 20.0)
    collapse = said(float(fit.dof), 10.0, 90.0)
    assert "do not collapse: U4 (chi^2 = 90 for 20 degrees of freedom)." in collapse
    assert "too small" not in collapse
    bad = said(900.0, 30.0, 20.0)
    assert f"errors are too small: the joint fit of U4 and xi/L (chi^2 = 900 for {fit.dof} degrees" in bad
    assert "the power of chi (chi^2 = 30 for 10 degrees of freedom)" in bad


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


def test_nothing_is_quoted_of_series_that_are_too_short(tmp_path: Path) -> None:
    """Where no side has 50 autocorrelation times at the transition there is no number, but what to do about it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lattice_stages, "COARSE", 500)
        patch.setattr(lattice_stages, "LEAST", 12)
        patch.setitem(lattice_stages.ROUNDS, "half", 2)
        patch.setitem(lattice_stages.ROUNDS, "main", 4)
        found = call(experiment("equilibrium"), tmp_path / "short", receptive_field="box:3", sizes=(8, 12, 16),
                     error=0.19)  # fmt: skip
    answer = found.results.answer
    assert answer.startswith("Nothing is quoted")
    assert "of 50 that a number needs" in answer
    assert "--error, for example 0.095" in answer
    assert not len(found.results)
    assert "sides" in found.results.tables
    assert any("series shorter than 50" in note for note in found.results.notes)
    for name in ("equilibrium", "states"):
        assert found.figure(name).axes
    longest = Found.of(found)
    assert longest.refused
    assert longest.fit is None


def test_one_side_that_is_long_enough_is_quoted_and_the_others_are_named(run: Run) -> None:
    """The same run with the memory of the two larger sides made longer, and of all."""
    for sides, nothing in (([1, 2], False), ([0, 1, 2], True)):
        found = Found.of(run)
        found.seen.tau[sides] *= 10
        assert found.refused == nothing
        if not nothing:
            assert found.at_transition.tolist() == [True, False, False]


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


def test_options_say_what_they_are_for() -> None:
    """Those of one kind of model alone begin with it, in the help as in the source."""
    words = described(Config)
    for names, kind in ((OF_LATTICES, "Patch model: "), (OF_NETWORKS, "Network: ")):
        for name in words:
            assert words[name].startswith(kind) == (name in names), name


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
    # what differs is found in a stage, but the directory that is named is the user's own
    with refused(rf"out: '{tmp_path}/parts' holds a run with receptive_field 'box:3' instead of 'cross:1'; choose"):
        call(experiment("equilibrium"), tmp_path / "parts", **settings | {"receptive_field": "cross:1"})
    (tmp_path / "full" / "half").mkdir(parents=True)
    (tmp_path / "full" / "half" / "notes").write_text("")
    with refused(rf"out: '{tmp_path}/full' is not empty"):
        call(experiment("equilibrium"), tmp_path / "full", **settings)
    for name in ("means", "tau", "time"):
        assert np.allclose(again.dataset[name], whole.dataset[name], rtol=1e-4)
