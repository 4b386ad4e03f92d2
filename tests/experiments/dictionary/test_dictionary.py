"""Dictionaries whose order is known are told apart; numbers of realisations are those of their definitions."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import softmode as sm
from helpers.errors import refused
from softmode.exact.dictionary import PatchDictionary, random_dictionary
from softmode.exact.site_patches import SitePatchDenoiser
from softmode.experiments.dictionary import states
from softmode.experiments.dictionary.analyse import bragg_exponent
from softmode.experiments.dictionary.config import Config
from softmode.experiments.dictionary.measure import DictionaryPlan, prepare
from softmode.experiments.dictionary.realisation import Realisation
from softmode.experiments.dictionary.verdict import VERDICTS, near, verdicts
from softmode.formulas.softest_wave import softest_wave
from softmode.lattice import ReceptiveField
from softmode.runs import provenance

BOX = ReceptiveField.box(3)
# box:3 goes soft below the noise level 3, and t = 8 has 55
SMALL: dict[str, Any] = {"receptive_field": "box:3", "t_max": 8.0, "steps": 170, "replicas": 6}


def plan(**settings: Any) -> DictionaryPlan:
    return prepare(Config(**SMALL | settings))


@dataclass(frozen=True, eq=False)
class Stripes(Realisation):
    """Every translate of stripes of period 4 along the first axis, two sites of either sign."""

    def dictionary(self, mass: float) -> PatchDictionary:
        place = self.field.tensor()[:, 0]
        rows = torch.stack([torch.where((place + phase) % 4 < 2, 1.0, -1.0).double() for phase in range(4)])
        return PatchDictionary(self.field, rows, torch.full((4,), 0.25, dtype=torch.float64))


def verdict_of(made: DictionaryPlan, realisation: Realisation) -> tuple[str, states.Measured]:
    """Return the verdict on a realisation, and what is measured on the largest lattice."""
    strength = softest_wave(realisation.dictionary(0.0)).strength
    found = states.measure(made.setting, realisation, 0.0, made.config.sizes[-1], math.log(1 + strength), strength)
    height, area = (
        (np.asarray(found.arrays[name][1]), np.asarray(found.arrays[f"{name}_error"][1]))
        for name in ("bragg", "susceptibility")
    )
    return VERDICTS[int(verdicts(height, area, found.arrays["peak"][1], made.field))], found


def test_uniform_patterns_order_uniformly() -> None:
    """Two uniform patterns with most of the mass, beside one random pattern: at k = 0, in most replicas all sites."""
    run = sm.dictionary(
        **SMALL | {"patterns": 1, "uniform": (0.9,), "disorder": 3, "sizes": (8, 16), "waits": (1.0, 40.0)}
    )
    assert run.results.values["verdicts"] == {"0.9": {"uniform": 3, "modulated": 0, "frustrated": 0, "undecided": 0}}
    assert run.results["bragg_frozen"].estimate.value > 0.5
    assert run.results["bragg_exponent_frozen"].estimate.value < 0.4
    assert "100% [29, 100] order (3 uniformly, 0 in a modulated wave)" in run.results.answer
    assert not (np.abs(run.dataset["peak"].to_numpy()[:, 0, -1, 1]) > math.pi / 3).any()


def test_stripes_order_in_their_wave() -> None:
    """All translates of stripes: modulated, at their k, with half of the power at each of +-k and phases alike."""
    made = plan(disorder=2, sizes=(16,), waits=(1.0, 60.0), receptive_field="box:5")
    name, found = verdict_of(made, Stripes(made.config, made.field, 0))
    assert name == "modulated"
    assert np.abs(found.arrays["peak"][1]) == pytest.approx([math.pi / 2, 0])
    assert found.arrays["bragg"][1] > 0.25
    # their overlaps as they stand depend on the phase, moved they are the same state
    assert found.arrays["overlap"][states.PAIRS.index("frozen")] > 0.8


def test_above_the_transition_there_is_no_order() -> None:
    """Stripes under a score frozen at 0.9 of the tree-level value are correlated over less than a patch."""
    made = plan(disorder=2, sizes=(16,), waits=(1.0, 20.0), level=0.9, receptive_field="box:5")
    name, found = verdict_of(made, Stripes(made.config, made.field, 0))
    assert name == "frustrated"
    assert 1 < found.arrays["susceptibility"][1] < 15


def test_verdicts_are_those_of_the_numbers() -> None:
    """On either side of each threshold by two standard errors, and of a wave of two patches of nine sites."""
    height, error = np.array([0.4, 0.4, 0.02, 0.04, 0.4, 0.06]), np.array([0.01] * 3 + [0.0, 0.2, 0.01])
    area, spread = np.array([99.0, 99.0, 8.0, 8.0, 12.0, 8.0]), np.array([0.0, 0.0, 0.4, 0.6, 0.0, 0.4])
    k = np.array([[0.0, 1.0], [0.0, 1.1], [0.0, 0.0], [0.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
    found = verdicts((height, error), (area, spread), k, BOX)
    assert [VERDICTS[i] for i in found] == ["uniform", "modulated", "frustrated"] + ["undecided"] * 3


def test_waves_are_near_up_to_sign_and_lattice() -> None:
    """k and -k are one wave, and so are pi and -pi."""
    k = np.array([[1.0, -2.0], [3.1, 0.0], [1.0, 1.0]])
    other = np.array([[-1.0, 2.1], [-3.1, 0.0], [1.0, -1.0]])
    assert near(k, other, 0.2).tolist() == [True, True, False]


def test_the_exponent_of_the_peak_is_that_of_a_power_law() -> None:
    """1/N gives 1, a constant 0, with intervals that hold them; of one lattice there is none."""
    rng = np.random.default_rng(0)
    sizes = np.array([8, 16, 32])
    noise = 1 + 0.1 * rng.standard_normal((20, 3))
    for power in (0.0, 1.0):
        found = bragg_exponent(0.3 * noise * (sizes**-2.0) ** power, sizes, 2)
        assert found.value == pytest.approx(power, abs=4 * found.stderr)
        assert found.stderr < 0.05
    assert math.isnan(bragg_exponent(noise[:, :1], sizes[:1], 2).value)


def test_copies_remember_what_was_decided_before_them() -> None:
    """Made at the last step they are the sample; at the first they are strangers."""
    made = plan(disorder=2, sizes=(16,), replicas=30, waits=(0.4,))
    realisation, times = Realisation(made.config, BOX, 0), made.setting.times
    for t, least, most in ((float(times[-2]), 0.97, 1.0), (float(times[0]), -0.1, 0.1)):
        found = states.measure(made.setting, realisation, 0.0, 16, t, 4.0)
        assert least <= float(found.arrays["edwards_anderson"]) <= most


def test_a_moving_wave_forgets_where_it_is_and_not_what_it_is() -> None:
    """Stripes that move by one site each step: C is the wave's own, and the largest over translations 1."""
    made = plan(disorder=2, sizes=(16,), waits=(0.4, 1.6))
    site = torch.arange(16)
    wave = torch.where(site % 8 < 4, 1.0, -1.0)[:, None].expand(16, 16)
    seen = {step: torch.stack([wave.roll(step, 0)] * 4) for step in range(20)}
    for translations in (True, False):
        found = states._aged(made.setting, seen, translations)
        expected = [1 - abs((lag + 4) % 8 - 4) / 2 for lag in made.setting.lags]
        np.testing.assert_allclose(found["ageing"], [expected] * 2, atol=1e-12)
        moved = np.ones(len(expected)) if translations else np.abs(expected)
        np.testing.assert_allclose(found["ageing_moved"], [moved] * 2, atol=1e-12)
    assert found["spread"].tolist() == [256, 256]
    assert found["ageing"].min() == -1


@pytest.mark.parametrize("disorder_of", ["uniform", "site"])
def test_the_covariances_of_many_realisations_have_their_statistics(disorder_of: Any) -> None:
    """Mean 0 and mean square 1/M off the diagonal over 200 realisations, within 4 standard errors (Eqs. 38, 39, 45)."""
    made = plan(disorder=2, patterns=4, disorder_of=disorder_of, sizes=(4,))
    found = [Realisation(made.config, BOX, i).covariances().mean(0) for i in range(200)]
    off = torch.stack(found)[:, *torch.triu_indices(9, 9, 1)].numpy()
    assert abs(off.mean()) < 4 * off.mean(1).std() / math.sqrt(200)
    squares = np.array(
        [
            float(Realisation(made.config, BOX, i).closed_form(made.setting.process)["covariance_square"])
            for i in range(200)
        ]
    )
    assert abs(squares.mean() - 1 / 4) < 4 * squares.std() / math.sqrt(200)
    assert squares.std() / math.sqrt(200) < 0.05 / 4


def test_a_realisation_is_a_random_dictionary_by_its_seed() -> None:
    """Whoever takes the seed of the table to softmode theory gets the same times, and every realisation is another."""
    made = plan(disorder=2, patterns=3, uniform=(0.0, 0.4), sizes=(8,))
    first, second = (Realisation(made.config, BOX, i) for i in (0, 1))
    dictionary = random_dictionary(3, first.seed, BOX)
    assert torch.equal(first.dictionary(0.0).patterns, dictionary.patterns)
    assert not torch.equal(second.dictionary(0.0).patterns, dictionary.patterns)
    found = first.closed_form(made.setting.process)
    wave = softest_wave(dictionary)
    assert found["t_c"][0, 0] == pytest.approx(math.log(1 + wave.strength))
    assert found["k_star"][0].tolist() == list(wave.k)
    top = torch.linalg.eigvalsh(0.6 * first.covariances()[0] + 0.4)[-1]
    assert found["lambda_max"][1] == pytest.approx(float(top))
    assert found["t_c_patch"][1] == pytest.approx(math.log(1 + float(top)))


def test_dictionaries_of_sites_differ_and_share_their_uniform_patterns() -> None:
    """Every site has M patterns of its own, their flips, and the two uniform ones with their mass."""
    made = plan(disorder=2, patterns=3, disorder_of="site", uniform=(0.0, 0.4), sizes=(4, 6))
    realisation = Realisation(made.config, BOX, 0)
    denoiser = realisation.denoiser(0.4, 6, torch.float64, torch.device("cpu"))
    assert isinstance(denoiser, SitePatchDenoiser)
    assert denoiser.patterns.shape == (36, 8, 9)
    assert torch.equal(denoiser.patterns[:, 6:], torch.tensor([[1.0], [-1.0]]).double().expand(36, 2, 9))
    assert denoiser.prior.tolist() == pytest.approx([0.1] * 6 + [0.2] * 2)
    assert len({tuple(row) for row in denoiser.patterns[:, 0].tolist()}) > 30
    found = realisation.closed_form(made.setting.process)
    assert found["strength"][1, 1] == pytest.approx(denoiser.strength())
    assert np.isnan(found["k_star"]).all()
    assert (found["strength"][1] > found["strength"][0]).all()


def test_a_run_of_sites_compares_states_as_they_are() -> None:
    """Independent signs then overlap by sqrt(2/pi N) on average, not by the largest of N translations."""
    run = sm.dictionary(**SMALL | {"disorder": 8, "disorder_of": "site", "patterns": 2, "sizes": (8,), "waits": (0.4,)})
    control = run.dataset["overlap"].to_numpy()[:, 0, 0, states.PAIRS.index("random signs")]
    expected = math.sqrt(2 / (math.pi * 64))
    assert abs(control.mean() - expected) < 4 * control.std() / math.sqrt(8)
    assert "one of every site" in run.results.answer
    assert any("no spin glass exists at a finite temperature" in note for note in run.results.notes)
    assert any("not symmetric" in note for note in run.results.notes)
    assert "glass" not in run.results.answer


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sizes": (16, 8)}, r"sizes: got \(16, 8\); expected rising numbers"),
        ({"uniform": ()}, r"uniform: got \(\); expected rising numbers, at least one"),
        ({"waits": (0.1,)}, "waits: got 0.1; expected at least 0.2, a step"),
        ({"sizes": (2, 8)}, "receptive_field: spans"),
        ({"receptive_field": "box:1"}, "receptive_field: got 1 sites; expected 2 to 400"),
        ({"receptive_field": "box:21"}, "receptive_field: got 441 sites; expected 2 to 400"),
        ({"t_max": 2.0}, "t_max: got 2, noise level 2.53; expected a level of at least 6"),
        ({"t_min": 0.5}, "t_min: got 0.5, noise level 0.805; expected a level of at most 0.5"),
        ({"patterns": 10**7}, "patterns: got 10000000; expected at most"),
        ({"uniform": tuple(i / 20 for i in range(9))}, "uniform: got 9 masses; expected at most 8"),
        ({"replicas": 3}, "replicas: got 3; expected at least 4"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    """In one line that names the setting and the remedy, before anything is computed."""
    with refused(words):
        plan(**settings)


def test_more_replicas_than_memory_holds_are_refused_with_how_many_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And that many are taken."""
    room = 2e9
    monkeypatch.setattr(provenance, "free_memory", lambda: room)
    settings = SMALL | {"disorder": 2, "sizes": (8, 64), "waits": (0.4,), "block": 1}
    with refused("replicas: got 100000; expected at most [0-9]+: one trajectory takes about") as caught:
        sm.dictionary(out=tmp_path / "run", **settings | {"replicas": 100_000})
    assert list(tmp_path.iterdir()) == []
    fits = int(str(caught.value).split("at most ")[1].split(":")[0])
    made = plan(**settings | {"replicas": fits})
    assert 0.9 * room < made.memory < room
    assert replace(made, config=replace(made.config, replicas=2 * fits)).memory > room
