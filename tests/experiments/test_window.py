"""The window: found where there is a peak, not where there is none or the null shares it; every notion's position."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import softmode as sm
from softmode.config import WindowConfig
from softmode.critical import highest_window, peak_windows
from softmode.exact.empirical import EmpiricalDenoiser
from softmode.exact.gaussian import GaussianDenoiser
from softmode.experiments import notions, probe_setup, window
from softmode.lattice import Lattice
from softmode.model import Model
from softmode.process import VE, VP, Process, log_grid
from softmode.store import Run

LEVELS = log_grid(80.0, 0.002, 200).numpy()
SMALL = WindowConfig("exact", steps=48, shells=3, trajectories=8, block=8, dtype="float64", clones=0)


def bump(centre: float, height: float = 1.0, width: float = 0.6) -> np.ndarray:
    """Return a Gaussian bump in log sigma."""
    return height * np.exp(-0.5 * (np.log(LEVELS / centre) / width) ** 2)


def spectrum(side: int) -> torch.Tensor:
    return 3 / (0.4 + Lattice((side, side)).wave_vectors().square().sum(-1))


def two_states(process: Process | None = None, **known: object) -> Model:
    """Return a model of two opposite smooth fields: it decides between them at a finite noise level."""
    field = torch.cos(2 * math.pi * torch.arange(12) / 12).expand(12, 12).T + 1.2
    data = torch.stack([field, -field]).unsqueeze(1).double()
    return Model("two", process or VE(), (1, 12, 12), lambda _label: EmpiricalDenoiser(data), binary=True, **known)  # type: ignore[arg-type]


def gaussian(process: Process | None = None) -> Model:
    null = GaussianDenoiser(spectrum(12))
    return Model(
        "null", process or VE(), (1, 12, 12), lambda _label: null,
        spectrum=spectrum(12)[None].float(), mean=torch.zeros(1, 1, 12, 12),
    )  # fmt: skip


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
    for _ in range(40):
        shift = rng.normal(0, 0.3, 24)
        curves = np.stack([bump(3 * math.exp(s)) for s in shift])
        sigma_c, low, high = notions.critical_window(curves, LEVELS)
        assert low.value < sigma_c.value < high.value
        values.append(math.log(sigma_c.value))
        errors.append(sigma_c.stderr / sigma_c.value)
    spread = np.std(values, ddof=1)
    assert abs(np.mean(values) - math.log(3)) < 4 * spread / math.sqrt(40)
    assert 0.02 < spread < 0.2
    assert 0.5 < np.mean(errors) / spread < 2


def test_a_peak_of_few_trajectories_is_doubtful() -> None:
    """Where a resample often has no peak, the estimate says in how many it has."""
    flat = np.zeros_like(LEVELS)
    curves = np.stack([bump(3.0)] * 4 + [flat] * 3)
    sigma_c, _, _ = notions.critical_window(curves, LEVELS)
    assert sigma_c.value == pytest.approx(3.0, rel=0.01)
    assert "of bootstrap resamples" in sigma_c.reason


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = replace(SMALL, clones=8, clone_steps=120)
    known = {"spectrum": spectrum(12)[None].float(), "mean": torch.zeros(1, 1, 12, 12)}
    return window.run(config, tmp_path_factory.mktemp("window") / "run", two_states(**known))


def test_two_states_have_a_window_around_their_decision(found: Run) -> None:
    """The peak lies where the two fields become distinguishable, |field| = sigma within a factor of two."""
    answer = window.read(found)
    norm = float(found.arrays["denoised"].isel(snapshot=-1).to_numpy()[0].__pow__(2).sum() ** 0.5)
    assert answer["verdict"] == "found"
    assert norm / 2.5 < answer["sigma_c"]["value"] < 2.5 * norm
    assert answer["sigma_lo"]["value"] < answer["sigma_c"]["value"] < answer["sigma_hi"]["value"]
    assert answer["answer"].startswith("guide where ")
    by_name = {notion["name"]: notion for notion in answer["notions"]}
    assert {"growth_of_xi_x", "departure_from_null", "clone_sign_agreement", "peak_without_constant_mode"} <= set(
        by_name
    )
    clones = by_name["clone_sign_agreement"]
    assert norm / 4 < clones["value"] < 4 * norm
    expected = math.log(clones["value"] / answer["sigma_c"]["value"])
    assert clones["distance"] == pytest.approx(expected)


def test_a_notion_outside_the_window_is_said_to_disagree_and_how_far(found: Run) -> None:
    answer = window.read(found)
    low, high = answer["sigma_lo"]["value"], answer["sigma_hi"]["value"]
    outside = [n for n in answer["notions"] if n["value"] is not None and not low <= n["value"] <= high]
    told = [remark for remark in answer["remarks"] if "disagrees" in remark]
    assert len(told) == len(outside)
    for notion, remark in zip(outside, told, strict=True):
        factor = math.exp(abs(notion["distance"]))
        assert remark.startswith(f"{notion['name']} disagrees")
        assert f"a factor {factor:.3g} from sigma_c" in remark


def test_a_gaussian_has_no_window(tmp_path: Path) -> None:
    """The null itself: no number, and the answer says so."""
    answer = window.read(window.run(SMALL, tmp_path / "run", gaussian()))
    assert answer["verdict"] == "none"
    assert answer["answer"].startswith("no critical window found")
    assert answer["sigma_c"]["value"] is None


def test_a_peak_that_the_null_has_too_is_no_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = window.run(SMALL, tmp_path / "run", two_states())
    assert window.read(run)["verdict"] == "found"
    peak, levels = window.read(run)["sigma_c"]["value"], run.arrays["noise_level"].to_numpy()
    same = np.exp(-0.5 * np.log(levels / peak) ** 2)
    monkeypatch.setattr(window, "null_softness", lambda *_: (same, "data"))
    answer = window.analyse(run)
    assert (answer["verdict"], answer["sigma_c"]["value"]) == ("none", None)
    assert "so has the Gaussian null model" in answer["answer"]
    far = np.exp(-0.5 * (np.log(levels / peak / 100) / 0.3) ** 2)
    monkeypatch.setattr(window, "null_softness", lambda *_: (far, "data"))
    assert window.analyse(run)["verdict"] == "found"


def test_without_data_the_null_is_that_of_the_samples(tmp_path: Path) -> None:
    """Its curve agrees with the null of the data's spectrum, which many samples of a Gaussian have."""
    model = gaussian()
    config = replace(SMALL, trajectories=64, block=64, steps=24)
    known = window.run(config, tmp_path / "known", model)
    bare = window.run(config, tmp_path / "bare", replace(model, spectrum=None, mean=None))
    levels = known.arrays["noise_level"].to_numpy()
    exact, origin = window.null_softness(known, levels)
    sampled, guessed = window.null_softness(bare, levels)
    assert (origin, guessed) == ("data", "samples")
    assert exact is not None
    assert sampled is not None
    # 64 samples: each spectrum to 20 %
    assert float(np.abs(exact - sampled).max()) < 0.6
    assert any("power spectrum of this run's samples" in remark for remark in window.read(bare)["remarks"])


def test_vp_and_edm_have_one_sigma_c(tmp_path: Path) -> None:
    """Two formulations of one denoiser, on the same noised data: sigma_c and the window to 1e-5."""
    np.savez(tmp_path / "own.npz", images=torch.randn(8, 1, 12, 12, generator=torch.Generator().manual_seed(0)).numpy())
    config = replace(SMALL, states="forward", data=str(tmp_path / "own.npz"))
    answers = [
        window.read(window.run(config, tmp_path / type(process).__name__, two_states(process)))
        for process in (VP(), VE())
    ]
    for name in ("sigma_c", "sigma_lo", "sigma_hi"):
        vp, edm = (answer[name]["value"] for answer in answers)
        assert vp == pytest.approx(edm, rel=1e-5)
    assert answers[0]["times"]["c"] == pytest.approx(math.log1p(answers[0]["sigma_c"]["value"] ** 2), rel=1e-2)


def test_the_entropys_fall_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Half of a step in log sigma is its middle; an entropy that never falls has no place."""
    run = window.run(SMALL, tmp_path / "run", two_states())
    levels = run.arrays["noise_level"].to_numpy()
    step = 1 / (1 + np.exp(-np.log(levels / 5.0) / 0.5))
    data = run.arrays.assign(class_entropy=(("trajectory", "time"), np.tile(step, (8, 1))))
    monkeypatch.setitem(run.__dict__, "arrays", data)
    found = notions.entropy_notion(run, levels)
    assert found is not None
    assert found.sigma.value == pytest.approx(5.0, rel=0.05)
    assert found.low == pytest.approx(5 * math.exp(-0.5 * math.log(3)), rel=0.1)
    assert found.high == pytest.approx(5 * math.exp(0.5 * math.log(3)), rel=0.1)
    even = data.assign(class_entropy=(("trajectory", "time"), np.ones((8, len(levels)))))
    monkeypatch.setitem(run.__dict__, "arrays", even)
    flat = notions.entropy_notion(run, levels)
    assert flat is not None
    assert math.isnan(flat.sigma.value)
    assert "falls by less than" in flat.sigma.reason


def test_a_departure_is_where_the_curves_part_for_good() -> None:
    """Two curves that part at sigma = 1 by a slope: the crossing of PROMINENCE, whatever they did before."""
    null = np.log(80 / LEVELS)
    curves = np.tile(np.minimum(null, math.log(80)), (4, 1))
    found = notions.departure_notion(curves, null, LEVELS)
    assert found.sigma.value == pytest.approx(math.exp(-0.3), rel=0.03)
    together = notions.departure_notion(np.tile(null, (4, 1)), null, LEVELS)
    assert "within that distance" in together.sigma.reason


def test_bad_input(tmp_path: Path) -> None:
    """Nothing is written when the clones cannot run, and a run that is no probe is refused."""
    with pytest.raises(ValueError, match="clones: got -1; expected at least 0"):
        window.run(replace(SMALL, clones=-1), tmp_path / "run", two_states())
    with pytest.raises(ValueError, match="steps: got 0"):
        window.run(replace(SMALL, clones=4, clone_steps=0), tmp_path / "run", two_states())
    assert not (tmp_path / "run").exists()
    made = window.run(replace(SMALL, clones=2, trajectories=2, clone_steps=120), tmp_path / "run", two_states())
    with pytest.raises(ValueError, match="holds a run of clones; a window needs one of softmode probe"):
        window.analyse(Run.open(made.directory / "clones"))
    (made.directory / "window.json").unlink()
    with pytest.raises(ValueError, match=r"has no window.json yet; say softmode window"):
        window.read(made)


def test_in_python(tmp_path: Path) -> None:
    """A bare callable with a shape is enough; labels may be numbers; what is missing is named."""
    settings = {"steps": 12, "shells": 3, "trajectories": 4, "dtype": "float64"}
    denoiser = two_states().denoiser()
    run = sm.probe(denoiser, shape=(1, 12, 12), process=VP(), out=tmp_path / "probe", sampler="heun", **settings)
    assert run.identity["model"]["process"] == "VP"
    answer = sm.window(denoiser, shape=(1, 12, 12), out=tmp_path / "window", clones=0, **settings)
    assert answer == json.loads((tmp_path / "window" / "window.json").read_text())
    labelled = replace(two_states(), classes=2)
    assert sm.probe(labelled, out=tmp_path / "labels", labels=(1, 0), **settings).config["labels"] == "1,0"
    with pytest.raises(ValueError, match="shape: got"):
        sm.probe(denoiser)
    prepared = probe_setup.settle(SMALL, two_states())
    assert prepared.sampler == "heun"
