"""The score card from made-up findings, counted by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.runs import run
from softmode.experiments.validate.analyse import Scores, rate
from softmode.experiments.validate.config import Config
from softmode.experiments.validate.measure import CRITERIA, KINDS, prepare

C = CRITERIA.index("sigma_c")


def scores(**changed: Any) -> Scores:
    """Return three models without a transition and four with one at 10, of which all criteria know nothing."""
    shape = (7, len(CRITERIA))
    truth = np.full(shape, np.nan)
    truth[3:] = 10.0
    made: dict[str, Any] = {
        "level": np.full(shape, np.nan), "truth": truth, "covered": np.full(shape, np.nan),
        "measured": np.ones(shape, bool), "windows": np.ones(7, int),
        "null": np.arange(7) < 3, "kind": np.zeros(7, int), "flaw": np.zeros(7, int), "labelled": np.zeros(7, int),
        "separate": np.zeros(7, int), "separate_found": np.zeros(7, int),
    }  # fmt: skip
    return Scores(**made | changed)


def test_alarms_misses_and_bias_are_counted() -> None:
    """One alarm of three; of four transitions one is not found, one off by three, two within a factor of 2."""
    level = np.full((7, len(CRITERIA)), np.nan)
    level[:, C] = [np.nan, 2.0, np.nan, 9.0, 19.0, 30.0, np.nan]
    found = scores(level=level)
    assert found.alarms("sigma_c").tolist() == [False, True, False]
    assert found.missed("sigma_c")[found.asked("sigma_c")].tolist() == [False, False, True, True]
    np.testing.assert_allclose(found.off("sigma_c")[3:6], np.log([0.9, 1.9, 3.0]))


def test_a_tree_is_missed_unless_every_level_has_its_window() -> None:
    """Whatever sigma_c is of it; other criteria are judged by their level, and its window has no bias."""
    level = np.full((7, len(CRITERIA)), 10.0)
    found = scores(
        level=level, separate=np.array([0, 0, 0, 0, 2, 2, 3]), separate_found=np.array([0, 0, 0, 0, 1, 2, 3])
    )
    assert found.missed("sigma_c")[3:].tolist() == [False, True, False, False]
    assert not found.missed("peak_of_xi_eq")[3:].any()
    assert np.isfinite(found.off("sigma_c")).tolist() == [False, False, False, True, False, False, False]


def test_what_was_not_looked_for_is_neither_an_alarm_nor_a_miss() -> None:
    """A first answer has no clones: their row is empty, not 0 and 100 %."""
    measured = np.ones((7, len(CRITERIA)), bool)
    i = CRITERIA.index("clone_sign_agreement")
    measured[:, i] = False
    found = scores(measured=measured)
    assert len(found.alarms("clone_sign_agreement")) == 0
    assert not found.asked("clone_sign_agreement").any()
    assert len(found.alarms("sigma_c")) == 3


def test_more_windows_than_transitions_are_a_miss() -> None:
    """Two windows of two classes are one too many, of a hierarchy not."""
    level = np.full((7, len(CRITERIA)), 10.0)
    kind = np.full(7, KINDS.index("two classes"))
    kind[4] = KINDS.index("random hierarchy")
    found = scores(level=level, windows=np.array([0, 0, 0, 2, 2, 1, 1]), kind=kind)
    assert found.missed("sigma_c")[3:].tolist() == [True, False, False, False]


def test_a_share_has_its_exact_interval() -> None:
    """0 of 300 is at most 1.2 %, by (1 - p)^300 = 0.025."""
    share = rate(np.zeros(300, bool))
    assert share.value == share.low == 0
    assert (1 - share.high) ** 300 == pytest.approx(0.025)
    assert math.isnan(rate(np.zeros(0)).value)


def test_a_suite_is_scored(tmp_path: Path) -> None:
    """White data have no window and two classes have theirs, in the settings of softmode window --quick."""
    found = run("validate", tmp_path / "run", nulls=1, transitions=1, quick=True)
    data = found.dataset
    assert data["transition"].to_numpy().tolist() == [0, 1]
    assert np.isnan(data["level"].to_numpy()[0, : C + 3]).all()
    assert np.isfinite(data["truth"].to_numpy()[1, C])
    assert "gives a window on 0 of 1 models without a transition" in found.results.answer
    assert found.results["false_alarms"].estimate.samples == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nulls": 0, "transitions": 0}, "nulls: got 0, and no transitions"),
        ({"trajectories": 1}, "trajectories: got 1"),
    ],
)
def test_nothing_to_score_is_refused(settings: dict[str, Any], message: str) -> None:
    """One line says what is wrong and what to do."""
    with pytest.raises(ValueError, match=message):
        prepare(Config(**settings))
