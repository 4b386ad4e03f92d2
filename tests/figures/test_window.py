"""The figure of the window: the band, the line and the rows are where window.json has them; the strip is D(x)."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from softmode.config import WindowConfig
from softmode.figures.critical_dynamics import critical_dynamics
from softmode.figures.fields import visible
from softmode.figures.window import NAMES
from softmode.figures.window import window as window_figure
from softmode.store import Run

from softmode.exact.empirical import EmpiricalDenoiser
from softmode.experiments import window
from softmode.figures import draw
from softmode.model import Model
from softmode.networks.edm2 import EDM2, EDM2Config
from softmode.process import VE

TINY = WindowConfig("tiny", steps=32, shells=3, trajectories=4, block=4, clones=0)


def two_states() -> Model:
    field = torch.cos(2 * math.pi * torch.arange(12) / 12).expand(12, 12).T + 1.2
    data = torch.stack([field, -field]).unsqueeze(1)
    return Model("two", VE(), (1, 12, 12), lambda _label: EmpiricalDenoiser(data), binary=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return window.run(TINY, tmp_path_factory.mktemp("figure") / "run", two_states())


def panels(figure: Figure) -> tuple:
    return tuple(figure.axes[:3])


def test_the_band_and_the_line_are_the_window(found: Run) -> None:
    answer = window.read(found)
    _, curve, notions = panels(window_figure(found))
    for ax in (curve, notions):
        (band,) = (patch for patch in ax.patches if patch.get_gid() == "window")
        ends = sorted(
            {float(x) for x in np.asarray(band.get_window_extent().transformed(ax.transData.inverted()).intervalx)}
        )
        assert ends == pytest.approx([answer["sigma_lo"]["value"], answer["sigma_hi"]["value"]], rel=1e-3)
        (line,) = (line for line in ax.lines if line.get_gid() == "sigma_c")
        assert line.get_xdata()[0] == answer["sigma_c"]["value"]
    assert curve.get_xlim()[0] > curve.get_xlim()[1], "generation runs to the right"


def test_every_notion_has_a_row(found: Run) -> None:
    answer = window.read(found)
    _, _, notions = panels(window_figure(found))
    shown = {line.get_gid(): line.get_xdata()[0] for line in notions.lines if line.get_gid() in NAMES}
    expected = {n["name"]: n["value"] for n in answer["notions"] if n["value"] is not None}
    assert shown == expected | {"critical": answer["sigma_c"]["value"]}
    labels = [text.get_text() for text in notions.get_yticklabels()]
    assert set(labels) == {NAMES[name] for name in shown}


def test_without_a_window_nothing_is_marked(found: Run, tmp_path: Path) -> None:
    answer = window.read(found)
    for name in ("sigma_c", "sigma_lo", "sigma_hi"):
        answer[name]["value"] = None
    path = found.directory / "window.json"
    before = path.read_text()
    path.write_text(json.dumps(answer | {"verdict": "none", "answer": "no critical window found"}))
    try:
        _, curve, _ = panels(window_figure(found))
    finally:
        path.write_text(before)
    assert not [item for item in [*curve.patches, *curve.lines] if item.get_gid() in ("window", "sigma_c")]


def test_the_strip_is_the_denoised_trajectory(found: Run) -> None:
    """In both figures, in order of falling noise; in the window's each image is centred over its own level."""
    data = found.arrays
    fields = data["denoised"].to_numpy()[0]
    figures = {"window": window_figure(found), "critical": critical_dynamics(found)}
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


def test_an_edm2_network_of_two_classes_goes_through_everything(tmp_path: Path) -> None:
    """A random small one in colour: probe, clones, window and all of its figures."""
    torch.manual_seed(0)
    shape = EDM2Config(8, 3, 5, model_channels=16, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(4,),
                       channels_per_head=8)  # fmt: skip
    network = EDM2(shape).eval().requires_grad_(False)
    model = Model(
        "edm2", VE(), (3, 8, 8), lambda label: lambda x, sigma: network(x, sigma, label), classes=5
    )  # fmt: skip
    config = replace(TINY, labels="1,4", clones=2, clone_steps=120, steps=6, precision="bfloat16")
    run = window.run(config, tmp_path / "run", model)
    assert window.read(run)["null"]["from"] == "samples"
    names = {path.name for path in draw(run)}
    assert {"window.png", "critical_dynamics.png", "gains.png", "states.png", "samples.png"} <= names
