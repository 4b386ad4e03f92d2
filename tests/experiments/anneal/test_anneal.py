"""Corrector steps in several places: what they cost, what they do to a sampler, and what is refused."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import softmode as sm
from helpers.documented import ROOT
from helpers.errors import refused
from helpers.guidance import cheap_window, corners, nearest, stored_window, window_results
from helpers.random import normal
from softmode.denoiser import Denoiser
from softmode.estimate import Estimate
from softmode.exact.gaussian import GaussianDenoiser
from softmode.experiments.anneal import analyse
from softmode.experiments.anneal.analyse import verdict
from softmode.experiments.anneal.conditions import ABOVE, BELOW, MORE, PLAIN, SPREAD, WINDOW, conditions, dealt
from softmode.experiments.anneal.window import DOCUMENTED, find_window
from softmode.experiments.pulse import critical
from softmode.langevin import Corrected
from softmode.process import VE, VP, Process, rho_grid
from softmode.samplers import Heun
from softmode.streams import TrajectoryNoise

LEVELS = rho_grid(80.0, 0.002, 11).numpy()


def images(path: Path) -> str:
    np.savez(path, images=normal(30, 1, 8, 8).float().numpy())
    return str(path)


def anneal(path: Path, **settings: Any) -> sm.Run:
    chosen = {"window": "0.5:5", "trajectories": 6, "steps": 7, "correctors": (0, 2), "data": images(path / "data.npz")}
    return sm.anneal(corners(), classifier=nearest(), **chosen | settings)


@pytest.mark.parametrize("window", [(0.97, 16.6), (2.0, 20.0)])
def test_every_way_to_spend_an_effort_costs_the_same(window: tuple[float, float]) -> None:
    """2 n - 1 calls of Heun and one for each corrector: c (n - 1) more than the plain sampler, wherever they are."""
    made = conditions((0, 1, 4, 16), LEVELS, window)
    assert made[0].kind == PLAIN
    assert made[0].calls == 21
    assert [each.kind for each in made[1:6]] == [MORE, SPREAD, WINDOW, ABOVE, BELOW]
    for each in made[1:]:
        assert each.calls == 21 + 10 * each.effort
        times = torch.cat([rho_grid(80.0, 0.002, each.levels), torch.zeros(1, dtype=torch.float64)])
        assert each.calls == int(Corrected(correctors=each.correctors).calls(times).sum())
        where = np.flatnonzero(each.correctors)
        low, high = {WINDOW: window, ABOVE: (window[1], 79.0), BELOW: (0.0, window[0])}.get(each.kind, (0.0, 79.0))
        assert ((LEVELS[where] > low) & (LEVELS[where] <= high)).all()


def test_steps_are_dealt_out_evenly() -> None:
    """The rest goes to the highest noise."""
    assert dealt(7, np.array([False, True, False, True, True])) == [0, 3, 0, 2, 2]


class Counting:
    """A denoiser that counts how often each level is asked for."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.calls = denoiser, list[float]()

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
        self.calls.append(float(sigma))
        return self.denoiser(x, sigma)


@pytest.mark.parametrize("process", [VE(), VP()])
def test_the_network_is_called_as_often_as_is_said_at_the_levels_that_are_said(process: Process) -> None:
    """Heun's calls, and at each level its correctors."""
    denoiser = Counting(GaussianDenoiser(torch.full((4, 4), 2.0, dtype=torch.float64)))
    times = process.time(torch.tensor([20.0, 5.0, 1.0, 0.2], dtype=torch.float64))
    sampler = Corrected(correctors=(0, 3, 0, 2))
    noise = TrajectoryNoise(0, [0, 1])
    list(sampler.steps(denoiser, process, normal(2, 1, 4, 4), times, noise))
    assert len(denoiser.calls) == int(sampler.calls(times).sum()) == 7 - 1 + 5 + 0 + 1 - 1
    assert sum(abs(call - 5) < 1e-6 for call in denoiser.calls) == 2 + 3
    assert sum(abs(call - 0.2) < 1e-6 for call in denoiser.calls) == 1 + 2


def test_without_correctors_it_is_heun_s_method() -> None:
    """To the last bit."""
    denoiser, times = GaussianDenoiser(torch.full((4, 4), 2.0, dtype=torch.float64)), torch.tensor([9.0, 2.0, 0.0])
    x, noise = 9 * normal(2, 1, 4, 4), TrajectoryNoise(0, [0, 1])
    corrected = list(Corrected(correctors=(0, 0, 0)).steps(denoiser, VE(), x, times, noise))
    plain = list(Heun().steps(denoiser, VE(), x, times))
    assert all(torch.equal(a, b) for a, b in zip(corrected, plain, strict=True))


@pytest.mark.parametrize("process", [VE(), VP()])
def test_correctors_bring_a_wrong_state_to_the_law_of_its_level(process: Process) -> None:
    """A start of three times the width keeps it on the flow; many short correctors leave S + sigma^2, 4 errors."""
    spectrum, sigma = 4.0, 2.0
    denoiser = GaussianDenoiser(torch.full((16, 16), spectrum, dtype=torch.float64))
    times = process.time(torch.tensor([3.0, sigma], dtype=torch.float64))
    x = float(process.alpha(times[0])) * 3 * math.sqrt(spectrum + 9) * normal(32, 1, 16, 16)

    def variance(count: int) -> float:
        sampler, noise = Corrected(correctors=(0, count), length=0.05), TrajectoryNoise(1, range(32))
        return float(next(sampler.steps(denoiser, process, x, times, noise)).var() / process.alpha(times[1]) ** 2)

    wrong, right = variance(0), variance(300)
    truth, error = spectrum + sigma**2, math.sqrt(2 / x.numel())
    assert wrong / truth == pytest.approx(9, rel=0.1)
    # the exponential step's own error: the variance of a mode of gain G is off by about h G / 2
    assert right / truth == pytest.approx(1, abs=4 * error + 0.05 * 0.5)


def test_what_is_found_is_of_the_samples_that_are_stored(tmp_path: Path) -> None:
    """Shares, distances and lengths against their definitions, the difference of one pair too."""
    run = anneal(tmp_path)
    data, rows = run.dataset, run.results.values["conditions"]
    assert [row["kind"] for row in rows] == [PLAIN, MORE, SPREAD, WINDOW, ABOVE, BELOW]
    logits = nearest()(torch.from_numpy(data["image"].to_numpy()[:, 3]))
    right = (logits.argmax(1).numpy() == data["label"].to_numpy()).mean()
    assert rows[3]["recognised"].value == pytest.approx(right)
    features, real = data["features"].to_numpy(), data["real_features"].to_numpy()
    distances = [sm.frechet_distance(features[:, i], real) for i in range(6)]
    for row, distance in zip(rows, distances, strict=True):
        assert row["frechet"].value == pytest.approx(distance)
    (more,) = (row for row in run.results.values["differences"] if row["minus"] == MORE)
    assert more["frechet"].value == pytest.approx(distances[3] - distances[1])
    assert more["xi_x"].value == pytest.approx(float((data["xi_x"][:, 3] - data["xi_x"][:, 1]).mean()))
    assert "With 25 network calls a sample" in run.results.answer
    # 20 of these would say nothing of other runs, and tables speak as the caption does
    table = run.results.tables["conditions"]
    assert "only differences count" in table.caption
    assert any("biased: too large" in note for note in run.results.notes)
    assert [row[0] for row in table.rows[:3]] == ["sampler alone", "more levels", "at every level"]
    assert "correctors at every level, or all of them in the window" in table.caption


def test_distances_of_many_samples_are_told_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bias goes as the dimensions over the samples: the bar is on their ratio."""
    run = anneal(tmp_path)
    share = run.dataset.sizes["trajectory"] / run.dataset["features"].shape[-1]
    for many, warned in ((share, False), (1.1 * share, True)):
        monkeypatch.setattr(analyse, "MANY", many)
        results = analyse.analyse(run)
        assert bool(results.notes) == warned
        assert ("only differences count" in results.tables["conditions"].note) == warned


def test_the_samples_of_a_condition_start_from_the_same_noise(tmp_path: Path) -> None:
    """And are those of any other block size."""
    first = anneal(tmp_path, block=2).dataset["image"].to_numpy()
    other = anneal(tmp_path, block=6).dataset["image"].to_numpy()
    np.testing.assert_allclose(first, other, atol=1e-5)
    # one more level apart, two conditions of one sample are far more alike than two samples of one class
    assert np.abs(first[0, 0] - first[0, 1]).mean() < 0.5 * np.abs(first[0, 0] - first[3, 0]).mean()


def test_an_exact_model_gains_from_correctors_where_the_sampler_is_coarse(tmp_path: Path) -> None:
    """Class spread of corners is 0.3: five levels of Heun narrow it, and correctors at all levels give it back."""
    run = anneal(tmp_path, trajectories=60, block=60, steps=5, correctors=(0, 16), window="0.5:5", length=0.3)
    within = run.dataset["image"].to_numpy() - 0.7 * np.sign(run.dataset["image"].to_numpy())
    rows = {each["kind"]: i for i, each in enumerate(run.identity["conditions"])}
    spread = {kind: float(np.abs(within[:, i]).mean()) for kind, i in rows.items()}
    truth = 0.3 * math.sqrt(2 / math.pi)
    assert abs(spread[SPREAD] - truth) < abs(spread[PLAIN] - truth)


def test_verdicts_are_by_the_interval() -> None:
    """Below 0 is better, above 0 worse, and 0 inside is not known."""
    for low, high, word in ((-2.0, -1.0, "better"), (1.0, 2.0, "worse"), (-1.0, 2.0, "not known")):
        assert verdict(Estimate((low + high) / 2, 0.3, 9, low, high)) == word


def test_documented_windows_are_those_of_the_page() -> None:
    """docs/window.md says them of the two shipped networks."""
    page = (ROOT / "docs" / "window.md").read_text()
    found = re.findall(r"guide where ([\d.]+) \[[^]]*\] < sigma <= ([\d.]+)", page)
    assert [tuple(map(float, each)) for each in found] == list(DOCUMENTED.values())


def test_a_window_is_that_of_a_stored_run(tmp_path: Path) -> None:
    """Of the same model; one of another is refused."""
    with cheap_window(window_results()):
        stored_window(tmp_path / "window")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("softmode.experiments.anneal.window.WINDOW", critical.WINDOW)
            assert find_window(str(tmp_path / "window"), corners()) == (1.0, 6.0)
            with refused("window: .* is of 'corners', not of 'others'"):
                find_window(str(tmp_path / "window"), corners("others"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"window": ""}, "window: got nothing, and none is documented for 'corners'"),
        ({"window": "5:1"}, "window: got '5:1'; expected two rising noise levels"),
        ({"window": "runs/none"}, "window: got 'runs/none'; expected two rising noise levels"),
        ({"window": "0.97:1.02"}, "steps: 7 noise levels have none inside the window"),
        ({"window": "1:100"}, "steps: 7 noise levels have none above the window"),
        ({"steps": 8}, "steps: got 8; expected an odd number"),
        ({"correctors": (0,)}, "correctors: got \\[0\\]; expected different numbers, one of them above 0"),
        ({"correctors": (2, 2)}, "correctors: got \\[2, 2\\]; expected different"),
        ({"trajectories": 3}, "trajectories: got 3; expected at least 4"),
        ({"labels": (7,)}, "labels: got 7; expected 0 to 2"),
        ({"data": ""}, "data: 'corners' comes without real images"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    """In one line, before anything is computed."""
    with refused(words):
        anneal(tmp_path, **settings)
