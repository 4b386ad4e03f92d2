"""What a pulse experiment says: its numbers by hand, and an answer that claims no more than they do."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.guidance import CONDITIONS, PULSE, guide
from softmode.comparison import over_classes
from softmode.estimate import Estimate
from softmode.experiments.pulse.analyse import _answer, by_trial, dose, few_classes
from softmode.experiments.pulse.tables import by_class_table, comparison_table
from softmode.observe.alignment import diversity, frechet_distance
from softmode.process import rho_grid
from softmode.runs.report import print_table
from softmode.runs.results import Results
from softmode.runs.run import Run


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Run:
    images = torch.randn(30, 1, 8, 8, generator=torch.Generator().manual_seed(0)).numpy()
    home = tmp_path_factory.mktemp("pulse")
    np.savez(home / "real.npz", images=images)
    return guide("pulse", replace(PULSE, data=str(home / "real.npz")), home / "run")


def test_conditions_are_counted_by_hand(stored: Run) -> None:
    data, rows = stored.dataset, {row["name"]: row for row in stored.results.values["conditions"]}
    assert list(rows) == [name for name in CONDITIONS if name != "window"], "no window without one"
    real = data["real_features"].to_numpy()
    for place, (name, row) in enumerate(rows.items()):
        weight = data["weight"].to_numpy()[:, place]
        assert row["unguided_trials"] == int((weight == 0).all(1).sum())
        assert row["guided_steps"]["mean"] == pytest.approx((weight != 0).sum(1).mean())
        probability = data["probability"].to_numpy()[:, place].reshape(3, 6)
        assert row["probability"].value == pytest.approx(probability.mean())
        assert row["probability"].stderr == pytest.approx(probability.mean(1).std(ddof=1) / math.sqrt(3))
        features = data["features"].to_numpy()[:, place].reshape(3, 6, -1)
        assert row["diversity"].value == pytest.approx(np.mean([diversity(f) for f in features]))
        without = [np.mean([diversity(np.delete(f, i, 0)) for f in features]) for i in range(6)]
        assert row["diversity"].stderr == pytest.approx(math.sqrt(5) * np.std(without))
        assert row["frechet"].value == pytest.approx(frechet_distance(features.reshape(18, -1), real))
        assert row["frechet_change"].value == pytest.approx(row["frechet"].value - rows["unguided"]["frechet"].value)
        assert name != "random" or 0 < row["unguided_trials"] < 18, "some pulses fall between the levels"
    # weight times the log of the ratio of its ends, but for half a step
    assert rows["critical"]["dose"] == pytest.approx(1.5 * math.log(3), rel=0.3)
    assert (rows["unguided"]["diversity_ratio"].value, rows["unguided"]["diversity_ratio"].stderr) == (1.0, 0.0)
    top1, labels = by_trial(stored, "top1"), np.repeat([0, 1, 2], 6)
    assert top1[1].mean() == pytest.approx((data["predicted"].to_numpy()[:, 1] == labels).mean())


def test_comparisons_are_paired_differences(stored: Run) -> None:
    results = stored.results
    rows = {(row["measure"], row["baseline"]): row for row in results.values["comparisons"]}
    assert len(rows) == 3 * 7
    logit = by_trial(stored, "logit")
    row = rows["logit", "random"]
    difference = (logit[1] - logit[2]).mean(1)
    assert [entry["estimate"].value for entry in row["by_class"]] == pytest.approx(difference.tolist())
    assert row["pooled"].value == pytest.approx(difference.mean())
    assert results["logit_minus_random"].estimate == row["pooled"]
    assert [entry["label"] for entry in row["by_class"]] == [0, 1, 2]
    assert row["p_holm"] >= row["p"]


def test_the_dose_of_a_constant_weight_is_the_log_of_the_range() -> None:
    levels = rho_grid(levels=32).numpy()
    assert dose(np.full(32, 2.0), levels).sum() == pytest.approx(2 * math.log(80 / 0.002))


def comparison(baseline: str, differences: list[float], p: float | None) -> dict[str, Any]:
    return {"baseline": baseline, "pooled": over_classes(np.array(differences)), "p": p, "p_holm": p}


PULSE_AT = "pulse of guidance at sigma_c = 2.9(6) aligns samples with their class"
ELSEWHERE = "than the same pulse at a random place: the probability of the class is"


@pytest.mark.parametrize(
    ("differences", "p", "expected"),
    [
        (
            [0.1, 0.13, 0.16],
            0.016,
            f"A {PULSE_AT} better {ELSEWHERE} higher by 0.13 [0.055, 0.2] (p = 0.016, corrected for 3 comparisons). "
            "Of the 2 other conditions it is better than 0 and worse than 1 (window).",
        ),
        ([-0.1, -0.13, -0.16], 0.016, f"A {PULSE_AT} worse {ELSEWHERE} lower by 0.13 [0.055, 0.2] (p = 0.016, "),
        ([0.1, 0.13, 0.16], 0.25, f"This run cannot tell whether a {PULSE_AT} better {ELSEWHERE} higher by 0.13 "),
        ([0.1], None, f"This run cannot tell whether a {PULSE_AT} better {ELSEWHERE} higher by 0.1."),
    ],
)
def test_the_answer_has_the_sign_and_the_significance_of_the_comparison(
    differences: list[float], p: float | None, expected: str
) -> None:
    rows = [
        comparison("random", differences, p),
        comparison("window", [-0.1, -0.2], p),
        comparison("spread", [0.1, -0.1], 1.0),
    ]
    assert _answer(Estimate(2.91, 0.6, 8, 2.0, 4.0), rows).startswith(expected)


def test_a_p_value_at_the_floor_of_its_test_is_called_the_smallest_possible() -> None:
    """Ten classes that agree have 2^-9, and 7 times that corrected: in the answer and, marked, in the tables."""
    rows = [comparison(f"{i}" if i else "random", [0.1 + 0.01 * j for j in range(10)], 2.0**-9) for i in range(7)]
    rows[-1]["p"] = 0.004
    for row in rows:
        row["p_holm"] = 7 * row["p"]
        classes = [over_classes(np.array([0.1, 0.2, 0.3, 0.4])) for _ in range(2)]
        row["by_class"] = [
            {"label": i, "estimate": e, "p": p} for i, e, p in zip("ab", classes, (0.125, 0.25), strict=True)
        ]
        row["measure"] = "probability"
    said = "(p = 0.014, the smallest possible, corrected for 7 comparisons)"
    assert said in _answer(Estimate(2.91, 0.6, 8, 2.0, 4.0), rows)
    pooled, by_class = comparison_table(rows, "probability"), by_class_table(rows[:1], "the random pulse")
    assert [row[3:] for row in pooled.rows] == 6 * [("0.001953†", "0.01367†")] + [(0.004, 0.028)]
    assert [row[3] for row in by_class.rows] == ["0.125†", 0.25]
    for table in (pooled, by_class):
        assert "†: the smallest possible p-value" in table.note
    assert "†" not in comparison_table(rows[-1:], "probability").note


def test_too_few_classes_for_any_significance_are_named() -> None:
    """Signs of n classes flip in 2^n ways, of which two are as extreme as the most extreme."""
    assert few_classes(9, 8) == []
    assert few_classes(8, 8) == [
        "with 8 classes no p-value over classes is below 0.0078, or 0.062 corrected for 8 comparisons: use more classes"
    ]
    assert few_classes(1, 7)[0].startswith("with 1 class no p-value over classes is below 1, or 1 corrected")


def test_the_results_read_themselves_back(stored: Run) -> None:
    """Also those that were just computed: nothing is lost or rounded on the way through JSON."""
    computed = stored.experiment.analyse(stored)
    assert Results.from_plain(computed.plain()).plain() == computed.plain() == stored.results.plain()


def test_one_class_has_no_errors_and_no_verdict(tmp_path: Path) -> None:
    run = guide("pulse", replace(PULSE, labels=(1,), trials=2), tmp_path / "run")
    assert run.results.answer.startswith("This run cannot tell")
    assert math.isnan(run.results["probability_minus_random"].estimate.stderr)
    assert run.results.values["real_diversity"] is None


def test_the_terminal_shows_one_table_of_eighty_columns(
    stored: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(next(iter(stored.results.tables.values())))
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert all(name in printed for name in CONDITIONS if name not in ("critical", "window"))
    assert {"conditions", "effects", "definitions", "by_class", "logit_by_class"} < set(stored.results.tables)
    assert len(next(iter(stored.results.tables.values())).rows) <= 8
