"""Quenches whose lengths are known: other samplers, other steps, other blocks, and power laws that are made up."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import softmode as sm
from helpers import resamples
from helpers.errors import refused
from helpers.figures import changed, check_rules, nothing_is_clipped
from softmode.estimate import Estimate
from softmode.experiments.quench import frozen
from softmode.experiments.quench.analyse import _answer
from softmode.experiments.quench.config import Config
from softmode.experiments.quench.figures import FIGURES
from softmode.experiments.quench.found import ESTIMATORS, PAPER, WALLS, XI, Exponent, Found, Lengths, chosen
from softmode.experiments.quench.measure import prepare
from softmode.experiments.quench.theory import Theory
from softmode.observe.domains import unlike_neighbours, wall_spacing
from softmode.runs.draw import styled

SMALL: dict[str, Any] = {"rates": (0.25, 1.0, 8.0), "size": 48, "receptive_field": "box:3", "trajectories": 16,
                         "block": 16, "step": 0.4}  # fmt: skip


def last_defects(run: sm.Run) -> np.ndarray:
    """Return the defects at the end of every trajectory and rate."""
    return np.asarray(run.dataset["defects"].to_numpy()[:, :, -1])


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether means over trajectories agree within 4 standard errors."""
    error = math.hypot(*(each.std(ddof=1) / math.sqrt(len(each)) for each in (one, other)))
    return bool(abs(one.mean() - other.mean()) < 4 * error)


@pytest.fixture(scope="module", autouse=True)
def little_time() -> Iterator[None]:
    """Freeze scores for little more than the longest lag, and resample little."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frozen, "BEFORE", 4.0)
        patch.setattr(frozen, "DURING", 42.0)
        resamples.few_resamples(patch)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> sm.Run:
    """A small run with its critical level."""
    return sm.quench(**SMALL, critical=1.2, out=tmp_path_factory.mktemp("quench") / "run")


def test_rate_one_is_the_reverse_sde_and_beta_is_no_rate(run: sm.Run) -> None:
    """The paper's sampler in its own coordinates, Euler-Maruyama of the VP process, at beta = 1 and at 4: R = 1."""
    defects = last_defects(run)
    for beta in (1, 4):
        other = sm.patch(
            size=48, receptive_field="box:3", dictionary="two-state", schedule=f"vp:{beta}", t_max=8 / beta,
            t_min=1e-3 / beta, steps=300, trajectories=16, block=16, measure_every=300, snapshots=(1e-3 / beta,),
        )  # fmt: skip
        states = torch.from_numpy(other.dataset["snapshots"].to_numpy()[:, -1])[:, None]
        theirs = unlike_neighbours(states).numpy()
        assert same(defects[:, 1], theirs)
        assert not same(defects[:, 0], theirs)
        assert not same(defects[:, 2], theirs)


def test_half_the_step_gives_the_same_lengths(run: sm.Run) -> None:
    """At every rate, at the critical level and at the end."""
    critical = int(np.argmin(abs(run.dataset["level"].to_numpy() - 1.2)))
    finer = sm.quench(**SMALL | {"step": 0.2, "seed": 1, "critical": 1.2})
    for rate in range(3):
        for level in (critical, -1):
            one, other = (each.dataset["defects"].to_numpy()[:, rate, level] for each in (run, finer))
            assert same(one, other)


def test_results_do_not_depend_on_blocks() -> None:
    """Trajectories have numbers of their own, whichever are computed together."""
    tiny = SMALL | {"trajectories": 3, "size": 12, "rates": (0.5, 1.0, 2.0), "step": 1.0}
    together = prepare(Config(**tiny | {"block": 3}))
    apart = prepare(Config(**tiny | {"block": 1}))
    whole = together.measure(together.blocks()[0])
    parts = [apart.measure(block) for block in apart.blocks()]
    for name, values in whole.items():
        np.testing.assert_allclose(values, np.concatenate([part[name] for part in parts]), atol=1e-6)


def test_states_start_in_disorder_and_end_in_domains(run: sm.Run) -> None:
    """Half of the neighbours differ at first, few in the end, the fewer the slower the quench; x is +-1 then."""
    defects = run.dataset["defects"].to_numpy().mean(0)
    # D of independent signs sums three by three sites: neighbours share two thirds of them
    assert (abs(defects[:, 0] - math.acos(2 / 3) / math.pi) < 0.02).all()
    assert (np.diff(defects[:, -1]) < 0).all()
    assert defects[-1, -1] < 0.15
    assert set(np.unique(run.dataset["states"].to_numpy())) == {-1, 1}


def test_the_answer_says_what_the_tables_hold(run: sm.Run) -> None:
    """Both exponents, the paper's rate, and a warning of lengths that the lattice does not hold."""
    results = run.results
    assert "sigma = 1.2" in results.answer
    assert set(results.values["verdicts"]) == {"critical", "own", "beyond", "end"}
    assert "At R = 1, the reverse SDE, xi_x ends at" in results.answer
    found = results["xi_x_reverse_sde"].estimate
    mean = run.dataset["xi_sign"].to_numpy()[:, 1, -1].mean()
    assert found.value == pytest.approx(mean)
    walls = results.values["lengths"]["end"][WALLS]
    expected = wall_spacing(last_defects(run).mean(0), 2)
    np.testing.assert_allclose([each.value for each in walls], expected)
    assert any("exceed 0.1 of the side, 48 sites" in note for note in results.notes)
    freeze_out = results.tables["freeze_out"].rows
    assert [row[0] for row in freeze_out] == [0.25, 1.0, 8.0]


@pytest.mark.parametrize(("misfit", "words"), [(1.0, "chi^2/dof = 0.5)"), (60.0, "chi^2/dof = 30: no power law)")])
def test_the_answer_says_how_well_a_power_law_fits(run: sm.Run, misfit: float, words: str) -> None:
    """With every exponent its chi^2 per degree of freedom, and where that is too large, that it is no power law."""
    found = Found.of(run)
    each = Exponent(Estimate(0.4, 0.01, 8, 0.38, 0.42), 1.0, 8.0, misfit, 2)
    lengths = {"end": found.at(found["level"][-1]).estimates}
    answer = _answer(found, Theory.of(found), lengths, {"end": each})
    assert f"R^0.4 [0.38, 0.42] for R = 1 to 8 (between the two; {words}" in answer


def test_without_the_critical_level_the_end_alone_is_told() -> None:
    """No freeze-out, no collapse, and a note that says what is missing."""
    run = sm.quench(**SMALL | {"trajectories": 2, "size": 12, "rates": (0.5, 1.0, 2.0), "step": 1.0})
    assert set(run.results.values["verdicts"]) == {"end"}
    assert "freeze_out" not in run.results.tables
    assert any("--critical" in note for note in run.results.notes)
    assert FIGURES["collapse"](run) is None


def made_up(exponent: float, error: float, most: float = math.inf) -> Lengths:
    """Return lengths on a power law of R, 1 to 64, with errors."""
    rates = 2.0 ** np.arange(7)
    rng = np.random.default_rng(3)
    exact = np.broadcast_to(5 * rates**exponent, (len(ESTIMATORS), 7))
    values = exact * np.exp(error * rng.uniform(-1, 1, exact.shape))
    return Lengths(values, values * np.exp(error * rng.standard_normal((400, *exact.shape))), 16, rates, most)


@pytest.mark.parametrize(
    ("exponent", "words"),
    [(0.3158, "Kibble-Zurek"), (0.5, "coarsening"), (0.41, "between the two"), (0.2, "below Kibble-Zurek"),
     (0.7, "above coarsening")],
)  # fmt: skip
def test_a_verdict_is_that_of_the_exponent(exponent: float, words: str) -> None:
    """Of lengths with known power laws; none where the error is as large as what the theories differ by."""
    theory = Theory(1.0, 2.1665, *[np.empty(0)] * 3)
    found = chosen(made_up(exponent, 0.01).exponents(XI))
    assert found is not None
    assert (found.first, found.last, found.freedom) == (1, 64, 5)
    assert abs(found.estimate.value - exponent) < 4 * found.estimate.stderr
    assert theory.verdict(found.estimate) == words
    assert theory.verdict(Estimate(exponent, 0.1, 16)) == "undecided"
    nothing_orders = Theory(math.nan, math.nan, *[np.empty(0)] * 3)
    assert nothing_orders.verdict(Estimate(0.3158, 0.01)) == "not coarsening"


def test_a_fit_leaves_out_what_is_no_power_law_and_what_the_lattice_does_not_hold() -> None:
    """Rates that bend the law from below by their misfit, from above by a tenth of the side."""
    lengths = made_up(0.4, 0.005)
    lengths.values[:, :2] *= [1.3, 1.15]
    lengths.replicates[:, :, :2] *= [1.3, 1.15]
    found = chosen(lengths.exponents(WALLS))
    assert found is not None
    assert (found.first, found.last) == (4, 64)
    assert abs(found.estimate.value - 0.4) < 4 * found.estimate.stderr
    smaller = chosen(made_up(0.4, 0.005, most=5 * 16**0.41).exponents(PAPER))
    assert smaller is not None
    assert smaller.last == 16
    assert chosen(made_up(0.4, 0.005, most=8.0).exponents(PAPER)) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rates": (4.0, 2.0, 8.0)}, r"rates: got \(4.0, 2.0, 8.0\); expected at least 3 rising numbers"),
        ({"rates": (1.0, 2.0)}, "rates: got .*; expected at least 3 rising numbers"),
        ({"size": 2}, r"receptive_field: spans \(3, 3\) sites; expected to fit the lattice"),
        ({"critical": 7.0}, "critical: got 7; expected a noise level between 0.03 and 6"),
        ({"step": 1.5}, "step: got 1.5; expected at least 0.01 and at most 1"),
        ({"trajectories": 1}, "trajectories: got 1; expected at least 2"),
        ({"dictionary": "mine"}, "dictionary: got 'mine'"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    """In one line, before anything is computed."""
    with refused(words):
        sm.quench(**SMALL | settings)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_keep_to_the_rules(run: sm.Run, name: str) -> None:
    """Few entries, readable at half width, nothing beyond the page; with lengths the lattice does not hold too."""
    with styled():
        figure = FIGURES[name](changed(run))
        assert figure is not None
        nothing_is_clipped(figure)
        check_rules(figure)
