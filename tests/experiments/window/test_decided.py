"""The answer: by labels or by extended unstable modes, several where decisions are separate, and none in noise."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import softmode as sm
from helpers.errors import refused
from helpers.models import mixture_model, ornstein_zernike, two_gaussians
from helpers.random import normal
from helpers.runs import run
from softmode.experiments.information.analyse import Known
from softmode.experiments.instability.analyse import Curves
from softmode.experiments.window.decided import by_labels, by_modes, decided, intervals, separations
from softmode.networks.preconditioned import Preconditioned
from softmode.networks.unet import UNet
from softmode.process import VE
from softmode.runs.run import Run

SIDE = 8
SMALL: dict[str, Any] = {"steps": 16, "shells": 3, "trajectories": 16, "block": 64, "clones": 0, "classifier": "none"}
LEVELS = np.geomspace(80, 0.05, 48)


def wave(*k: int) -> torch.Tensor:
    """Return a unit wave at a wave vector in units of the lowest, [1, side, side]."""
    site = torch.arange(SIDE, dtype=torch.float64)
    field = torch.cos(2 * math.pi * (k[0] * site[:, None] + k[1] * site) / SIDE)
    return (field / field.norm())[None]


def unlabelled(mixture: sm.GaussianMixture) -> sm.Model:
    return sm.Model("mixture", VE(), (1, SIDE, SIDE), lambda _label: mixture.denoiser())


def white(spread: float) -> dict[str, torch.Tensor]:
    """Return what a model tells of white data."""
    return {"spectrum": torch.full((1, SIDE, SIDE), spread**2), "mean": torch.zeros(1, 1, SIDE, SIDE)}


def tree(ratio: float) -> torch.Tensor:
    """Return the four leaves of a tree: a coarse difference, and one finer by a ratio in another mode."""
    coarse, fine = 20 * wave(0, 1), 20 / ratio * wave(2, 1)
    return torch.stack([a * coarse + b * fine for a in (1, -1) for b in (1, -1)])


def found(model: sm.Model, folder: Path, **settings: Any) -> Run:
    # a first answer has steps of its own
    small = {name: value for name, value in SMALL.items() if not (settings.get("quick") and name == "steps")}
    return run("window", folder / "run", model=model, **small | settings)


@pytest.mark.parametrize("k", [(0, 0), (0, 1), (2, 1), (4, 4)])
def test_two_classes_without_labels_have_their_window_in_any_mode(tmp_path: Path, k: tuple[int, int]) -> None:
    """Its upper end at sqrt(|mu|^2 - s^2), though most of these modes are in no shell."""
    results = found(unlabelled(two_gaussians(8 * wave(*k), 1.0)), tmp_path).results
    assert results.values["verdict"] == "found"
    assert results["sigma_hi"].estimate.value == pytest.approx(math.sqrt(63), rel=0.06)
    assert results.answer.startswith("guide where ")


def test_labels_come_before_modes(tmp_path: Path) -> None:
    """The same with its classes: half of log 2 at sigma of about |mu|, and the share that was asked for."""
    model = mixture_model(two_gaussians(8 * wave(2, 1), 1.0))
    wide, narrow = (found(model, tmp_path / str(share), share=share).results for share in (0.8, 0.3))
    assert wide.values["by"] == "label"
    assert wide["sigma_c"].estimate.value == pytest.approx(8, rel=0.3)
    assert "0.693" in wide.answer
    ends = [math.log(each["sigma_hi"].estimate.value / each["sigma_lo"].estimate.value) for each in (wide, narrow)]
    assert ends[1] < 0.5 * ends[0]


@pytest.mark.parametrize(
    "denoiser",
    [
        sm.GaussianDenoiser(torch.full((SIDE, SIDE), 4.0, dtype=torch.float64)),
        sm.GaussianDenoiser(ornstein_zernike(SIDE, SIDE, mass=0.05, strength=10.0)),
        lambda x, sigma: torch.tanh(x / sigma**2),
        two_gaussians(0.9 * wave(0, 1), 1.0).denoiser(),
    ],
    ids=["white", "critical field", "pixels", "near classes"],
)
def test_there_is_no_window_in_noise(tmp_path: Path, denoiser: Any) -> None:
    """In the default floating type; pixels are unstable, in modes of one site, and the answer says which it is."""
    model = sm.Model("noise", VE(), (1, SIDE, SIDE), lambda _label: denoiser)
    results = found(model, tmp_path).results
    assert results.values["verdict"] == "none"
    local = "decisions are local: unstable modes take" in results.answer
    assert local == ("lambda" in repr(denoiser))
    assert local or "none of 64 states is unstable" in results.answer


@pytest.mark.parametrize("answer", [0.0, 1.0])
def test_models_that_answer_nothing_or_all_have_none_either(tmp_path: Path, answer: float) -> None:
    """Nothing of them has an error, nothing is undefined in more than one way, and what was noised is said."""
    model = sm.Model("all or nothing", VE(), (1, SIDE, SIDE), lambda _label: lambda x, sigma: answer * x)
    run = found(model, tmp_path, quick=True)
    run.store.verify()
    assert "none of 8 states is unstable" in run.results.answer
    assert "the softest modes are those of 8 states: the model's own samples, noised" in run.results.notes


@pytest.mark.parametrize(("kind", "seed"), [*(("convolutions", seed) for seed in range(3)), ("U-Net", 0)])
def test_an_untrained_network_has_no_window(tmp_path: Path, kind: str, seed: int) -> None:
    """The top eigenvalue of dD/dx exceeds 1 in some, but its mean over states exceeds that of any score too."""
    torch.manual_seed(seed)
    if kind == "U-Net":
        network = UNet(1, width=16).eval().requires_grad_(False)
        white = sm.GaussianDenoiser(torch.full((SIDE, SIDE), 0.5, dtype=torch.float64))
        denoiser: Any = Preconditioned(network, white, 0.7)
    else:
        layers = torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(8, 1, 3, padding=1)
        inner = torch.nn.Sequential(*layers).requires_grad_(False)

        def denoiser(x: torch.Tensor, sigma: Any) -> torch.Tensor:
            scale = (1 + torch.as_tensor(sigma, dtype=x.dtype) ** 2).sqrt()
            return x / scale**2 + sigma / scale * inner(x / scale)

    model = sm.Model("untrained", VE(), (1, SIDE, SIDE), lambda _label: denoiser)
    assert found(model, tmp_path).results.values["verdict"] == "none"


def test_labels_that_the_model_ignores_are_not_decided(tmp_path: Path) -> None:
    """Two labels of one denoiser: information is zero, and so says the answer."""
    alone = two_gaussians(8 * wave(0, 1), 1.0).denoiser()
    model = sm.Model("deaf", VE(), (1, SIDE, SIDE), lambda _label: alone, classes=2)
    results = found(model, tmp_path).results
    assert results.values["verdict"] == "none"
    assert "the model knows nothing of the class for sure" in results.answer


@pytest.mark.parametrize("labelled", [True, False])
def test_both_levels_of_a_tree_are_found(tmp_path: Path, labelled: bool) -> None:
    """A ratio of 10 between them: two windows around 20 and 2, the coarse one first."""
    mixture = sm.GaussianMixture(tree(10), spread=0.05)
    model = mixture_model(mixture) if labelled else unlabelled(mixture)
    results = found(model, tmp_path).results
    windows = results.values["windows"]
    assert len(windows) == 2
    for each, truth in zip(windows, (20, 2), strict=True):
        assert each["low"].value < each["sigma_c"].value <= each["high"].value
        if labelled:
            assert each["sigma_c"].value == pytest.approx(truth, rel=0.35)
            assert each["gained"] == pytest.approx(math.log(2), rel=0.1)
        else:
            assert each["high"].value == pytest.approx(truth, rel=0.1)
    assert {"sigma_c", "sigma_c_2"} <= {q.name for q in results.quantities}
    assert any("of 2 windows" in note for note in results.notes)


def test_a_probe_alone_has_no_answer_and_says_what_to_do(tmp_path: Path) -> None:
    """Thresholds on a probe's curves find windows in noise, so none is given."""
    probe = run("probe", tmp_path / "probe", model=unlabelled(two_gaussians(8 * wave(0, 1), 1.0)), steps=12, shells=3)
    answer = decided(run("window", tmp_path / "other", model=str(probe.directory)))
    assert answer.verdict == "none"
    assert answer.sentence.startswith("no window was looked for")
    assert "softmode window MODEL measures" in answer.sentence


def test_a_window_that_is_not_finished_has_no_answer_yet(tmp_path: Path) -> None:
    """Its probe is, but not what is known of the labels."""
    whole = found(mixture_model(two_gaussians(8 * wave(2, 1), 1.0)), tmp_path, quick=True)
    (whole.directory / "information" / "summary.json").unlink()
    with refused("information is not finished|information.*holds no results|summary.json"):
        run("window", tmp_path / "other", model=str(whole.directory))


def test_a_finished_window_takes_no_settings(tmp_path: Path) -> None:
    """It was measured with its own; nor does a first answer take those of its parts."""
    probe = run("probe", tmp_path / "probe", model=unlabelled(two_gaussians(8 * wave(0, 1), 1.0)), steps=12, shells=3)
    for name, value in (("share", 0.5), ("labels", (2, 4)), ("trajectories", 5), ("quick", True)):
        with refused(f"{name}: got .*; a finished run is analysed as it was measured: leave it out"):
            run("window", tmp_path / "other", model=str(probe.directory), **{name: value})
    with refused("trajectories: got 64; --quick has its own: leave it out"):
        run(
            "window",
            tmp_path / "other",
            model=unlabelled(two_gaussians(8 * wave(2, 1), 1.0)),
            quick=True,
            trajectories=64,
        )


def test_each_value_has_two_images_at_least(tmp_path: Path) -> None:
    """Of many classes a first answer takes more images, so that it has an interval."""
    means = normal(12, 1, 8, 8)
    mixture = sm.GaussianMixture(means, spread=0.5)
    model = sm.Model("many", VE(), (1, 8, 8), mixture.denoiser, classes=12, levels=(0.05, 80.0))
    many = found(model, tmp_path, quick=True)
    assert sm.open(many.directory / "information").dataset.sizes["trajectory"] == 24
    sigma_c = many.results["sigma_c"].estimate
    assert sigma_c.low < sigma_c.value < sigma_c.high


def test_of_very_many_classes_the_softest_modes_answer(tmp_path: Path) -> None:
    """And a line says so, and what to do."""
    mixture = sm.GaussianMixture(normal(40, 1, 8, 8), spread=0.5)
    model = sm.Model("many", VE(), (1, 8, 8), mixture.denoiser, classes=40, levels=(0.05, 80.0))
    with pytest.warns(UserWarning, match="labels: the model takes 40, too many to follow them all"):
        many = found(model, tmp_path, quick=True)
    assert many.results.values["by"] == "softest modes"


def test_quick_is_a_smaller_one(tmp_path: Path) -> None:
    """Fewer states and levels and no clones, the same answer, said to be a first one with what the full one takes."""
    model = mixture_model(two_gaussians(8 * wave(2, 1), 1.0))
    quick = found(model, tmp_path, quick=True, clones=4)
    assert quick.results["sigma_c"].estimate.value == pytest.approx(8, rel=0.5)
    assert quick.dataset.sizes["trajectory"] == 3
    assert not (quick.directory / "clones").exists()
    (note,) = (note for note in quick.results.notes if "first answer" in note)
    assert "the full one takes about" in note


def test_intervals_are_interpolated_and_open_at_the_first_level() -> None:
    """A parabola in log sigma crosses 0 at 100 and 1; one that begins above the grid has no upper end."""
    levels = np.geomspace(1000, 0.1, 18)
    curve = 1 - (np.log10(levels) - 1) ** 2
    assert intervals(curve, levels) == [pytest.approx((100, 1), rel=0.01)]
    assert intervals(-curve, levels) == [pytest.approx((1, 0.1), rel=0.01)]
    assert intervals(curve - 2, levels) == []


def test_intervals_hold_the_error_of_the_interpolation() -> None:
    """All states alike: no error over states, and the interval is what cubics and lines differ by."""
    levels = np.geomspace(1000, 0.1, 18)
    scores = np.tile(1 - (np.log10(levels) - 1) ** 2, (8, 1))
    curves = Curves(levels, np.exp(scores), 0 * scores, 0 * scores, np.full_like(scores, 64.0), levels < 0, 64)
    (window,) = by_modes(curves).windows
    for end, truth in ((window.high, 100), (window.low, 1)):
        assert end.low <= truth <= end.high
        assert 0 < math.log(end.high / end.low) < 0.1
        assert math.sqrt(end.low * end.high) == pytest.approx(end.value, rel=1e-6)


def test_steps_of_information_are_separate_only_if_the_valley_is_sure() -> None:
    """Two steps of log 2 a decade apart, with noise or without them; one broad step is one."""
    rng = np.random.default_rng(0)
    logs = np.log(LEVELS)

    def step(at: float, width: float) -> np.ndarray:
        return math.log(2) / (1 + np.exp((logs - math.log(at)) / width))

    def noisy(curve: np.ndarray) -> np.ndarray:
        # each trajectory decides a little earlier or later
        shift = rng.normal(0, 0.15, 64)
        return np.stack([np.interp(logs[::-1] + s, logs[::-1], curve[::-1])[::-1] for s in shift])

    (cut,) = separations(noisy(step(20, 0.2) + step(1, 0.2)), LEVELS)
    assert 2 < LEVELS[cut] < 10
    assert separations(noisy(2 * step(4, 0.6)), LEVELS) == []


def of_class(norm: float, spread: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return what noising paths tell of one of two classes, in closed form, [path, level]."""
    x = norm * rng.choice([-1, 1], count) + spread * rng.standard_normal(count)
    widths = np.sqrt(np.diff(np.append(LEVELS, 0.0)[::-1] ** 2))
    path = x[:, None] + np.cumsum(widths * rng.standard_normal((count, len(LEVELS))), 1)[:, ::-1]
    odds = 2 * path * norm / (spread**2 + LEVELS**2)
    posterior = np.stack([-np.logaddexp(0, odds), -np.logaddexp(0, -odds)], -1)
    return math.log(2) + np.asarray((np.exp(posterior) * posterior).sum(-1))


@pytest.mark.parametrize(
    ("norms", "fewest", "most"),
    [
        # two levels a decade apart, of 64 paths: missed 1 time in 100
        ((30.0, 3.0), 54, 60),
        # one decision, and many in a row without a gap: 2 or 3 of 100 have a valley by chance
        ((8.0,), 0, 2),
        ((64.0, 32.0, 16.0, 8.0, 4.0, 2.0, 1.0, 0.5), 0, 8),
    ],
    ids=["two", "one", "flat"],
)
def test_separate_steps_are_found_and_not_made_up(norms: tuple[float, ...], fewest: int, most: int) -> None:
    """Of 60 sets of 64 exact paths, as many as a window of 16 trajectories has."""
    rng = np.random.default_rng(0)
    split = [len(separations(sum(of_class(norm, 0.1, 64, rng) for norm in norms), LEVELS)) > 0 for _ in range(60)]
    assert fewest <= sum(split) <= most


def test_a_window_in_few_resamples_is_doubtful() -> None:
    """Of 16 states the one that is unstable is often not drawn."""
    levels = np.geomspace(80, 0.1, 20)
    values = np.where(np.arange(16)[:, None] < 2, 1.4, 0.5) * np.exp(-0.5 * np.log(levels / 5) ** 2)
    one = Curves(levels, values, 0 * values, 0 * values, np.full_like(values, 40.0), levels < 0, 64)
    answer = by_modes(one)
    assert answer.verdict == "doubtful"
    assert "guide where" not in answer.sentence
    assert answer.sentence.startswith("a window is in doubt")
    for changed in ({"antisymmetric": 0 * values + 0.6}, {"wrong": levels > 0}):
        assert "no more than the network's own error" in by_modes(replace(one, **changed)).sentence


def test_several_labels_are_added_up() -> None:
    """Two attributes, decided at 10 and at 5: half of both together lies between."""
    logs = np.log(LEVELS)
    noise = 0.05 * np.random.default_rng(0).standard_normal((2, 32, 1))
    known = [
        Known(name, ["0", "1"], curve, curve, np.zeros(32, dtype=np.int64))
        for name, curve in (
            (f"a{at}", math.log(2) / (1 + np.exp((logs - math.log(at)) / 0.3)) * (1 + each))
            for at, each in zip((10, 5), noise, strict=True)
        )
    ]
    answer = by_labels(known, LEVELS, 0.8)
    assert answer.verdict == "found"
    assert 5 < answer.main.sigma_c.value < 10
    assert "about its labels, of 1.386" in answer.sentence


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    """A share outside (0, 1), one trajectory, a model that never sees its data: before anything is written."""
    noisy = replace(unlabelled(two_gaussians(8 * wave(0, 1), 1.0)), levels=(5.0, 80.0), **white(1.0))
    with refused("model: 'mixture' knows noise levels from 5 up, above the scale of its data, 1"):
        found(noisy, tmp_path)
    with refused("trajectories: got 1; expected at least 2"):
        found(noisy, tmp_path, trajectories=1)
    for share in (0.0, 1.0, -0.2):
        with refused(f"share: got {share:g}"):
            found(mixture_model(two_gaussians(8 * wave(0, 1), 1.0)), tmp_path, share=share)
    assert not (tmp_path / "run").exists()
