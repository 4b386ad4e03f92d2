"""The figure of the window: band, line and rows are where the results have them; the strip is D(x)."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from helpers import resamples
from helpers.drawing import COARSE
from helpers.figures import changed, check_rules, line, nothing_is_clipped, vertical_lines
from helpers.runs import run as run_of
from softmode.estimate import Estimate
from softmode.exact.empirical import EmpiricalDenoiser
from softmode.experiments.call import looks
from softmode.experiments.window.figures import FIGURES, NAMES, window
from softmode.model import Model
from softmode.networks.edm2 import EDM2, EDM2Config
from softmode.plots.critical_dynamics import critical_dynamics
from softmode.plots.fields import visible
from softmode.process import VE
from softmode.runs import draw
from softmode.runs.run import Run

TINY = {"steps": 32, "shells": 3, "trajectories": 4, "block": 4, "clones": 0}


def two_states() -> Model:
    field = torch.cos(2 * math.pi * torch.arange(12) / 12).expand(12, 12).T + 1.2
    data = torch.stack([field, -field]).unsqueeze(1)
    return Model("two", VE(), (1, 12, 12), lambda _label: EmpiricalDenoiser(data), binary=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of("window", tmp_path_factory.mktemp("figure") / "run", model=two_states(), **TINY)


def panels(figure: Figure) -> tuple:
    return tuple(figure.axes[:3])


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_keeps_to_the_rules(found: Run, name: str) -> None:
    check_rules(found.figure(name))
    nothing_is_clipped(found.figure(name))


def test_the_band_and_the_line_are_the_window(found: Run) -> None:
    sigma_c, low, high = (found.results[name].estimate.value for name in ("sigma_c", "sigma_lo", "sigma_hi"))
    _, curve, criteria = panels(window(found))
    assert curve.get_ylabel() == "top eigenvalue of $dD/dx$"
    for ax in (curve, criteria):
        (band,) = (patch for patch in ax.patches if patch.get_gid() == "window")
        assert sorted((band.get_x(), band.get_x() + band.get_width())) == pytest.approx([low, high])
    assert [mark.get_xdata()[0] for mark in vertical_lines(curve)] == [sigma_c]
    assert len(line(curve, "median").get_xdata()) == 20
    assert curve.get_xlim()[0] > curve.get_xlim()[1], "generation runs to the right"


def test_every_criterion_has_a_row(found: Run) -> None:
    _, _, criteria = panels(window(found))
    shown = {point.get_gid(): point.get_xdata()[0] for point in criteria.lines if point.get_gid() in NAMES}
    values = {row["name"]: row["sigma"].value for row in found.results.values["criteria"]}
    expected = {name: value for name, value in values.items() if math.isfinite(value)}
    assert shown == expected | {"critical": found.results["sigma_c"].estimate.value}
    labels = [text.get_text() for text in criteria.get_yticklabels()]
    assert set(labels) == {NAMES[name] for name in shown}


def test_without_a_window_nothing_is_marked(found: Run) -> None:
    missing = tuple(replace(q, estimate=Estimate.missing(4, "none")) for q in found.results.quantities)
    none = changed(found, quantities=missing, values=dict(found.results.values) | {"verdict": "none", "windows": []})
    _, curve, criteria = panels(window(none))
    for ax in (curve, criteria):
        assert not [item for item in [*ax.patches, *ax.lines] if item.get_gid() in ("sigma_c", "critical")]
        assert not [patch for patch in ax.patches if patch.get_gid() == "window"]


def test_the_strip_is_the_denoised_trajectory(found: Run) -> None:
    """In both figures, in order of falling noise; in the window's each image is centred over its own level."""
    data = found.dataset
    fields = data["denoised"].to_numpy()[0]
    figures = {"window": window(found), "critical": critical_dynamics(looks(found.directory)[0])}
    for name, figure in figures.items():
        # the strip's images are children of its axes
        strip = next(ax for ax in figure.axes if ax.child_axes and ax.child_axes[0].images)
        images = [ax.images[0].get_array() for ax in strip.child_axes]
        assert len(images) == data.sizes["snapshot"]
        for image, field in zip(images, fields, strict=True):
            np.testing.assert_array_equal(np.asarray(image), visible(field))
        if name == "window":
            first, last = np.log(strip.get_xlim())
            centres = [ax.get_position().x0 + ax.get_position().width / 2 for ax in strip.child_axes]
            box = strip.get_position()
            wanted = (np.log(data["snapshot_level"].to_numpy()) - first) / (last - first)
            np.testing.assert_allclose(centres, box.x0 + box.width * wanted, atol=0.02)


def test_an_edm2_network_of_two_classes_goes_through_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random small one in colour: probe, information, window and all of its figures."""
    resamples.tiny_windows(monkeypatch)
    monkeypatch.setattr(draw, "LAYOUTS", 1)
    monkeypatch.setitem(draw.STYLE, "figure.dpi", COARSE)
    torch.manual_seed(0)
    shape = EDM2Config(8, 3, 5, model_channels=16, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(4,),
                       channels_per_head=8)  # fmt: skip
    network = EDM2(shape).eval().requires_grad_(False)
    model = Model(
        "edm2", VE(), (3, 8, 8), lambda label: lambda x, sigma: network(x, sigma, label), classes=5
    )  # fmt: skip
    settings = {"shells": 3, "labels": (1, 4), "quick": True, "precision": "bfloat16"}
    run = run_of("window", tmp_path / "run", model=model, **settings)
    assert run.results.values["null"]["from"] == "samples"
    names = {path.name for look in looks(run.directory) for path in look.draw()}
    assert {"window.png", "critical_dynamics.png", "gains.png", "states.png", "samples.png"} <= names
