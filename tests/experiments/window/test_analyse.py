"""The window: found where there is a peak, not where there is none or the null shares it; where every criterion is."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.errors import refused
from helpers.models import cosine_field, null_model, ornstein_zernike, two_states
from helpers.probes import by_mean
from helpers.runs import run
from softmode.critical import highest_window, peak_windows, prominences
from softmode.exact.gaussian import GaussianDenoiser
from softmode.experiments.window import criteria
from softmode.experiments.window.softness import critical_window, null_softness, p_value, resolved, simulated_null
from softmode.model import Model
from softmode.process import VE, VP, Process, log_grid
from softmode.runs.run import Run

LEVELS = log_grid(80.0, 0.002, 200).numpy()
SMALL: dict[str, Any] = {"steps": 48, "shells": 3, "trajectories": 8, "block": 8, "dtype": "float64", "clones": 0}
ENDS = ("sigma_c", "sigma_lo", "sigma_hi")


def bump(centre: float, height: float = 1.0, width: float = 0.6) -> np.ndarray:
    """Return a Gaussian bump in log sigma."""
    return height * np.exp(-0.5 * (np.log(LEVELS / centre) / width) ** 2)


def two(process: Process | None = None, **known: object) -> Model:
    """Return a model of two opposite smooth fields: it decides between them at a finite noise level."""
    return two_states(cosine_field(12), process or VE(), binary=True, **known)


def gaussian() -> Model:
    null = GaussianDenoiser(ornstein_zernike(12, 12, mass=0.4))
    return Model("null", VE(), (1, 12, 12), lambda _label: null, **null_model(12, 12))


def value(found: Run, name: str) -> float:
    return found.results[name].estimate.value


def test_the_window_of_a_bump_is_its_width_at_half_prominence() -> None:
    """A Gaussian bump on a flat ground, smoothed with a kernel of 0.15: all in closed form."""
    (found,) = peak_windows(0.2 + bump(3.0), LEVELS)
    half = math.sqrt(2 * math.log(2)) * math.hypot(0.6, 0.15)
    np.testing.assert_allclose(found, [3.0, 3 * math.exp(half), 3 * math.exp(-half)], rtol=5e-3)


def test_the_highest_peak_is_taken_and_an_end_is_none() -> None:
    """Of two peaks the higher; a curve that ends higher still has no peak there; a monotone curve has none."""
    rise = 3 * np.log(LEVELS[0] / LEVELS) ** 2 / np.log(LEVELS[0] / LEVELS[-1]) ** 2
    two = bump(20.0, 1.0, 0.3) + bump(2.0, 1.5, 0.3)
    assert highest_window(two, LEVELS)[0] == pytest.approx(2.0, rel=0.01)
    assert highest_window(bump(20.0, 1.2, 0.3) + rise, LEVELS)[0] == pytest.approx(20.0, rel=0.1)
    assert np.isnan(highest_window(rise, LEVELS)).all()


def test_sigma_c_covers_the_truth_with_its_error() -> None:
    """Of noisy curves around one bump; the error is that of repeated draws, within a factor of two."""
    rng, values, errors = np.random.default_rng(0), [], []
    for _ in range(24):
        shift = rng.normal(0, 0.3, 24)
        curves = np.stack([bump(3 * math.exp(s)) for s in shift])
        sigma_c, low, high = critical_window(curves, LEVELS)
        assert low.value < sigma_c.value < high.value
        values.append(math.log(sigma_c.value))
        errors.append(sigma_c.stderr / sigma_c.value)
    spread = np.std(values, ddof=1)
    assert abs(np.mean(values) - math.log(3)) < 4 * spread / math.sqrt(24)
    assert 0.02 < spread < 0.2
    assert 0.5 < np.mean(errors) / spread < 2


def test_a_peak_of_few_trajectories_is_doubtful() -> None:
    """Where a resample often has no peak, the estimate says in how many it has."""
    flat = np.zeros_like(LEVELS)
    curves = np.stack([bump(3.0)] * 4 + [flat] * 3)
    sigma_c, _, _ = critical_window(curves, LEVELS)
    assert sigma_c.value == pytest.approx(3.0, rel=0.01)
    assert "of bootstrap resamples" in sigma_c.reason


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings = SMALL | {"clones": 8, "clone_steps": 120}
    model = two(**null_model(12, 12))
    return run("window", tmp_path_factory.mktemp("window") / "run", model=model, classifier=by_mean, **settings)


def test_two_states_have_a_window_around_their_decision(found: Run) -> None:
    """Unlabelled: from |field| = sigma, where the first states are unstable, down; clones agree near it."""
    results, norm = found.results, float(cosine_field(12).norm())
    sigma_c, low, high = (value(found, name) for name in ENDS)
    assert (results.values["verdict"], results.values["by"]) == ("found", "softest modes")
    assert high == pytest.approx(norm, rel=0.05)
    assert norm / 4 < low < sigma_c < high
    assert results.answer.startswith("guide where ")
    by_name = {row["name"]: row for row in results.values["criteria"]}
    assert set(by_name) == {
        "growth_of_xi_x", "departure_from_null", "clone_sign_agreement", "clone_class_agreement",
        "posterior_class_entropy", "peak_of_xi_eq", "peak_without_constant_mode", "first_unstable_state",
        "half_of_states_unstable",
    }  # fmt: skip
    assert by_name["first_unstable_state"]["sigma"].value == pytest.approx(norm, rel=0.03)
    clones = by_name["clone_sign_agreement"]
    assert norm / 4 < clones["sigma"].value < 4 * norm
    assert clones["distance"].value == pytest.approx(math.log(clones["sigma"].value / sigma_c))
    assert len(results.tables["criteria"].rows) == 10


def test_a_criterion_outside_the_window_is_said_to_disagree_and_how_far(found: Run) -> None:
    low, high = value(found, "sigma_lo"), value(found, "sigma_hi")
    rows = found.results.values["criteria"]
    outside = [row for row in rows if math.isfinite(row["sigma"].value) and not low <= row["sigma"].value <= high]
    told = [note for note in found.results.notes if "disagrees" in note]
    assert len(told) == len(outside)
    for row, note in zip(outside, told, strict=True):
        assert note.startswith(row["name"].replace("_", " ").replace("xi ", "xi_"))
        assert f"a factor {math.exp(abs(row['distance'].value)):.3g} from sigma_c" in note


def test_a_gaussian_has_no_window(tmp_path: Path) -> None:
    """The null itself, in the default floating type: no number, and the answer says so."""
    found = run("window", tmp_path / "run", model=gaussian(), **SMALL | {"dtype": "float32"})
    assert found.results.values["verdict"] == "none"
    assert found.results.answer.startswith("no critical window found")
    assert all(math.isnan(value(found, name)) for name in ENDS)
    assert found.results.tables["units"].rows == ()


def test_the_null_is_measured_as_the_model_is(tmp_path: Path) -> None:
    """A Gaussian's gains and those of its simulated null agree to the noise of single precision, which both have."""
    found = run("window", tmp_path / "run", model=gaussian(), **SMALL | {"dtype": "float32"})
    levels = found.dataset["noise_level"].to_numpy()
    own, null = found.dataset["gain"].to_numpy(), simulated_null(found, levels)
    assert null is not None
    assert null.shape == (19, *own.shape)
    noise, simulated = own.std(0), null.std(1).mean(0)
    low = levels < 0.1
    np.testing.assert_array_less(0, noise[low])
    assert 0.4 < float(np.median(noise[low] / simulated[low])) < 2.5
    assert float(np.abs(own.mean(0) - null.mean((0, 1))).max()) < 1e-3


def test_a_peak_that_the_null_often_has_has_a_large_p() -> None:
    """Against peaks of 0.1 one of 0.8 has the least p that 99 of them can give; against its like p is about a half."""
    rng = np.random.default_rng(0)
    curves = 0.2 + 0.8 * np.stack([bump(3.0) for _ in range(8)]) + 0.05 * rng.standard_normal((8, len(LEVELS)))
    height = float(prominences(np.median(curves, 0), LEVELS).max())
    assert height == pytest.approx(0.8, abs=0.1)
    assert p_value(curves, LEVELS, 3.0, np.full(99, 0.1)) == pytest.approx(0.01)
    assert 0.2 < p_value(curves, LEVELS, 3.0, np.linspace(height - 0.2, height + 0.2, 99)) < 0.8
    flat = np.where(np.arange(8)[:, None] < 5, curves, 0.2)
    assert p_value(flat, LEVELS, 3.0, np.full(99, 0.1)) > 0.1, "resamples that lose the peak count against it"


def test_low_noise_where_nothing_is_resolved_is_left_out() -> None:
    """1 - G = sigma^2 with rounding of 1e-4: from sigma of about 0.01 down there is nothing to see."""
    rounding = 1e-4 * np.random.default_rng(0).standard_normal((16, len(LEVELS)))
    rate = LEVELS**2 / (1 + LEVELS**2)
    seen = resolved(rate - rounding)
    assert 0.006 < LEVELS[seen - 1] < 0.03
    assert resolved(rate - 0 * rounding) == len(LEVELS)


def test_without_data_the_null_is_that_of_the_samples(tmp_path: Path) -> None:
    """Its curve agrees with the null of the data's spectrum, which many samples of a Gaussian have."""
    settings = {name: SMALL[name] for name in ("shells", "dtype")} | {"trajectories": 64, "block": 64, "steps": 24}
    model = gaussian()
    known = run("probe", tmp_path / "known", model=model, **settings)
    bare = run("probe", tmp_path / "bare", model=replace(model, spectrum=None, mean=None), **settings)
    levels = known.dataset["noise_level"].to_numpy()
    exact, origin = null_softness(known, levels)
    sampled, guessed = null_softness(bare, levels)
    assert (origin, guessed) == ("data", "samples")
    assert exact is not None
    assert sampled is not None
    # 64 samples: each spectrum to 20 %
    assert float(np.abs(exact - sampled).max()) < 0.6


def test_vp_and_edm_have_one_sigma_c(tmp_path: Path) -> None:
    """Two formulations of one denoiser, on the same noised data: sigma_c and the window to 1e-5."""
    np.savez(tmp_path / "own.npz", images=torch.randn(8, 1, 12, 12, generator=torch.Generator().manual_seed(0)).numpy())
    settings = SMALL | {"states": "forward", "data": str(tmp_path / "own.npz")}
    vp, edm = (
        run("window", tmp_path / type(process).__name__, model=two(process), **settings) for process in (VP(), VE())
    )
    for name in ENDS:
        assert value(vp, name) == pytest.approx(value(edm, name), rel=1e-5)
    assert vp.results.values["times"]["sigma_c"] == pytest.approx(math.log1p(value(vp, "sigma_c") ** 2), rel=1e-9)


def test_the_entropys_fall_is_found(tmp_path: Path) -> None:
    """Half of a step in log sigma is its middle; an entropy that never falls has no place."""
    found = run("window", tmp_path / "run", model=two(), **SMALL)
    levels = found.dataset["noise_level"].to_numpy()
    step = 1 / (1 + np.exp(-np.log(levels / 5.0) / 0.5))
    data = found.dataset

    def criterion(curves: np.ndarray) -> criteria.Criterion:
        vars(found.store)["arrays"] = data.assign(class_entropy=(("trajectory", "time"), curves))
        at = criteria.entropy_criterion(found, levels)
        assert at is not None
        return at

    falls = criterion(np.tile(step, (8, 1)))
    assert falls.sigma.value == pytest.approx(5.0, rel=0.05)
    assert falls.low == pytest.approx(5 * math.exp(-0.5 * math.log(3)), rel=0.1)
    assert falls.high == pytest.approx(5 * math.exp(0.5 * math.log(3)), rel=0.1)
    flat = criterion(np.ones((8, len(levels))))
    assert math.isnan(flat.sigma.value)
    assert "falls by less than" in flat.sigma.reason


def test_a_departure_is_where_the_curves_part_for_good() -> None:
    """Two curves that part at sigma = 1 by a slope: the crossing of PROMINENCE, whatever they did before."""
    null = np.log(80 / LEVELS)
    curves = np.tile(np.minimum(null, math.log(80)), (4, 1))
    parted = criteria.departure_criterion(curves, null, LEVELS)
    assert parted.sigma.value == pytest.approx(math.exp(-0.3), rel=0.03)
    together = criteria.departure_criterion(np.tile(null, (4, 1)), null, LEVELS)
    assert "within that distance" in together.sigma.reason


def test_a_finished_probe_is_analysed_where_it_is(found: Run, tmp_path: Path) -> None:
    """As MODEL, a directory of a probe: nothing is computed and nothing else is written; one of clones is refused."""
    before = (found.directory / "summary.json").read_bytes(), found.results_file.read_text()
    found.results_file.unlink()
    again = run("window", tmp_path / "other", model=str(found.directory))
    assert again.directory == found.directory
    assert not (tmp_path / "other").exists()
    assert ((found.directory / "summary.json").read_bytes(), found.results_file.read_text()) == before
    with refused("holds a run of clones; softmode window takes one of softmode probe"):
        run("window", tmp_path / "other", model=str(found.directory / "clones"))


def test_bad_settings_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    """Those of the clones, too, which come last."""
    changes = {"clones: got -1": {"clones": -1}, "clone_steps: got 0": {"clones": 4, "clone_steps": 0}}
    for message, change in changes.items():
        with refused(message):
            run("window", tmp_path / "run", model=two(), **SMALL | change)
    assert not (tmp_path / "run").exists()
