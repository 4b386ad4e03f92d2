"""What holds for every posterior mean, on exact ones and on what is often taken for one."""

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import softmode as sm
from helpers.errors import refused
from helpers.guidance import corners
from softmode.denoiser import Denoiser, per_sample
from softmode.experiments.probe.config import Config as ProbeConfig
from softmode.experiments.probe.measure import prepare as prepare_probe
from softmode.experiments.pulse.config import Config as PulseConfig
from softmode.experiments.pulse.measure import prepare as prepare_pulse
from softmode.model import Model
from softmode.process import VE
from softmode.soundness import UnsoundWarning, gain_and_change, look, relative_error, warn_if_unsound

CPU = torch.device("cpu")
GAUSSIAN = sm.GaussianDenoiser(torch.full((8, 8), 0.25), torch.zeros(1, 8, 8))
EXACT: dict[str, Denoiser] = {
    "gaussian": GAUSSIAN,
    "patches": sm.TwoStatePatch(sm.ReceptiveField.box(3)),
    "mixture": corners().denoiser(None),
}


def model_of(denoiser: Denoiser, **changes: Any) -> Model:
    return replace(Model("mine", VE(), (1, 8, 8), lambda _label: denoiser), **changes)


def found_wrong(denoiser: Denoiser, **changes: Any) -> set[str]:
    findings, _ = look(denoiser, model_of(denoiser, **changes), torch.float32, CPU)
    return {finding.name for finding in findings if finding.fine is False}


def level(sigma: Tensor | float, x: Tensor) -> Tensor:
    return per_sample(sigma, x).to(x.dtype)


def noise(x: Tensor, sigma: Tensor | float) -> Tensor:
    return (x - EXACT["mixture"](x, sigma)) / level(sigma, x)


def velocity(x: Tensor, sigma: Tensor | float) -> Tensor:
    s = level(sigma, x)
    return (noise(x, sigma) - s * EXACT["mixture"](x, sigma)) / (1 + s.square()).sqrt()


def rounded(x: Tensor, sigma: Tensor | float) -> Tensor:
    return EXACT["mixture"](x.bfloat16().float(), sigma).bfloat16().to(x.dtype)


# what is wrong -> (what is called D, a property that gives it away)
MISTAKEN: dict[str, tuple[Callable[[Tensor, Tensor | float], Tensor], str]] = {
    "the noise": (noise, "error of D"),
    "a velocity": (velocity, "error of D"),
    "the score": (lambda x, sigma: -noise(x, sigma) / level(sigma, x), "error of D"),
    "x itself, twice": (lambda x, sigma: 2 * EXACT["mixture"](x, sigma), "error of D"),
    "half precision": (rounded, "rounding"),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_denoisers_have_every_property(name: str) -> None:
    assert found_wrong(EXACT[name]) == set()


@pytest.mark.parametrize("name", MISTAKEN)
def test_what_is_no_posterior_mean_is_given_away(name: str) -> None:
    """By the thorough look and, in words that name the remedy, by the quick one at the start of an experiment."""
    mistaken, property_ = MISTAKEN[name]
    assert found_wrong(mistaken) & {property_, "samples"}
    with pytest.warns(UnsoundWarning, match=r"of 'mine': .*softmode check tells more"):
        warn_if_unsound(mistaken, model_of(mistaken), torch.float32, CPU)


def test_a_sampler_that_starts_inside_the_data_is_noticed() -> None:
    """Highest level 1.3, where the classes of the mixture are 0.7 apart in each of 64 sites."""
    assert found_wrong(EXACT["mixture"], levels=(0.002, 1.3)) == {"highest noise level"}
    with pytest.warns(UnsoundWarning, match="sampling starts inside the data"):
        warn_if_unsound(EXACT["mixture"], model_of(EXACT["mixture"], levels=(0.002, 1.3)), torch.float32, CPU)


def test_the_error_of_x_itself_is_the_noise() -> None:
    """D = x has the error 1 at any level; the Gaussian's posterior mean has sqrt(S / (S + sigma^2))."""
    x0 = 0.5 * torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for sigma in (0.1, 1.0, 10.0):
        assert relative_error(lambda x, _sigma: x, x0, sigma) == pytest.approx(1, rel=0.03)
        expected = (0.25 / (0.25 + sigma**2)) ** 0.5
        assert relative_error(GAUSSIAN, x0, sigma) == pytest.approx(expected, rel=0.03)
    gain, change = gain_and_change(GAUSSIAN, x0, 1.0, 1)
    assert gain == pytest.approx(0.2, abs=1e-3)
    assert change < 1e-3


def test_a_label_that_does_not_arrive_is_noticed() -> None:
    """In Python, as from the command line: the answer first, then a row for every property, then what it costs."""
    told = sm.check(corners(), classifier="none")
    assert told.values["sound"]
    assert re.search("is a denoiser as far as 6 properties can tell", told.answer)
    assert [row[0] for row in told.tables["cost"].rows] == ["softmode window", "softmode probe", "softmode pulse"]
    deaf = Model("deaf", VE(), (1, 8, 8), lambda _label: EXACT["mixture"], classes=2)
    told = sm.check(deaf)
    assert not told.values["sound"]
    assert "answer to the label" in told.answer
    assert any("may not reach the network" in note for note in told.notes)


def test_nothing_is_warned_of_where_nothing_is_wrong() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for denoiser in EXACT.values():
            warn_if_unsound(denoiser, model_of(denoiser), torch.float32, CPU)


def test_experiments_warn_before_they_compute() -> None:
    """A probe and pulses of what returns the noise; nothing stops them, for a user may know better."""
    bad = Model("mine", VE(), (1, 8, 8), lambda _label: noise, classes=2)
    with pytest.warns(UnsoundWarning, match="error of D of 'mine'"):
        prepare_probe(ProbeConfig(model="mine", shells=3), {"model": bad})
    with pytest.warns(UnsoundWarning, match="error of D of 'mine'"):
        prepare_pulse(PulseConfig(model="mine", classes=2, sigma_c=1.0, classifier="none"), {"model": bad})


def test_bad_settings_of_a_check_are_refused() -> None:
    for settings, message in (
        ({"figure": "check.pdf"}, "figure: got 'check.pdf'; expected a name that ends in .png"),
        ({"figure": "nowhere/check.png"}, "figure: 'nowhere' is no directory"),
        ({"labels": (7,)}, "label"),
        ({"steps": 3}, "steps: is no setting"),
    ):
        with refused(message):
            sm.check(corners(), **settings)
