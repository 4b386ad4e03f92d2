"""Figures of guidance: what is drawn is what the run holds; window, sigma_c and maximum are where it says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from softmode.config import PulseConfig, SusceptibilityConfig, WindowConfig
from softmode.exact.mixture import GaussianMixture
from softmode.experiments import pulse, susceptibility, window
from softmode.figures import draw
from softmode.figures.alignment import NAMES, alignment
from softmode.figures.fields import visible
from softmode.figures.pulse_twins import paths, twins
from softmode.figures.susceptibility import PANELS
from softmode.figures.susceptibility import susceptibility as chi_figure
from softmode.model import Model
from softmode.process import VE
from softmode.store import Run

CONFIG = PulseConfig("two", classes=2, trials=4, sigma_c=2.0, half_width=1.0, steps=24, block=4, weight=1.0)


class Sign:
    """A classifier that looks at the sign of the mean."""

    channels, classes = 1, 2

    def features(self, x: Tensor) -> Tensor:
        return torch.stack([x.mean((1, 2, 3)), x.std((1, 2, 3))], 1)

    def head(self, features: Tensor) -> Tensor:
        return torch.stack([3 * features[:, 0], -3 * features[:, 0]], 1)

    def __call__(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def model() -> Model:
    field = 1 + torch.cos(torch.arange(8) * np.pi / 4).expand(1, 8, 8) / 2
    return Model("two", VE(), (1, 8, 8), GaussianMixture(torch.stack([field, -field]) / 4, 1.0).denoiser, classes=2)


@pytest.fixture(scope="module")
def pulsed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return pulse.run(CONFIG, tmp_path_factory.mktemp("pulse") / "run", model(), None, Sign())


@pytest.fixture(scope="module")
def chi(tmp_path_factory: pytest.TempPathFactory) -> Run:
    home = tmp_path_factory.mktemp("chi")
    settings = WindowConfig("two", labels="0,1", trajectories=4, clones=2, clone_steps=120, shells=3, steps=32)
    window.run(settings, home / "window", model())
    config = SusceptibilityConfig(
        "two", classes=2, trials=3, centres=5, steps=32, highest=20.0, lowest=0.1, weight=1.0,
        window=str(home / "window"), sigma_c=2.0,
    )  # fmt: skip
    return susceptibility.run(config, home / "run", model(), None, Sign())


def images(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for ax in figure.axes for image in ax.get_images()]


def test_twins_are_the_samples_of_first_trials(pulsed: Run) -> None:
    shown = images(twins(pulsed))
    data = pulsed.arrays["image"].to_numpy()
    expected = [visible(data[trajectory, place]) for place in (0, 1) for trajectory in (0, 4)]
    for image, field in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(image, field)
    titles = [ax.get_title() for ax in twins(pulsed).axes]
    assert f"p = {pulsed.arrays['probability'].to_numpy()[4, 1]:.2f}" in titles[3]


def test_paths_part_at_the_framed_levels(pulsed: Run) -> None:
    figure = paths(pulsed)
    levels = pulsed.arrays["snapshot_level"].to_numpy()
    framed = [
        i % len(levels)
        for i, ax in enumerate(figure.axes)
        if any(patch.get_gid() == "pulse" and patch.get_edgecolor()[0] > 0.7 for patch in ax.patches)
    ]
    assert framed == 2 * np.flatnonzero((levels > 1) & (levels <= 3)).tolist()
    shown = images(figure)
    count = len(levels)
    for k in range(count):
        same = np.array_equal(shown[k], shown[count + k])
        assert same == (levels[k] > 3), "twins are one until the pulse begins"


def test_alignment_shows_the_table(pulsed: Run) -> None:
    figure = alignment(pulsed)
    rows = [row for row in pulsed.summary["comparisons"] if row["measure"] == "probability"]
    left, right = figure.axes[:2]
    classes = [line.get_ydata()[0] for line in left.lines if line.get_gid() == "class"]
    assert classes == [e["value"] for row in rows if row["baseline"] == "random" for e in row["by_class"]]
    pooled = [line.get_ydata()[0] for line in right.lines if line.get_gid() == "pooled"]
    assert pooled == [row["pooled"]["value"] for row in rows]
    assert [t.get_text() for t in right.get_xticklabels()] == [NAMES[row["baseline"]] for row in rows]


def test_chi_is_drawn_with_its_maximum_beside_the_window(chi: Run) -> None:
    figure, summary = chi_figure(chi), chi.summary
    answer = window.read(Run.open(chi.config["window"]))
    assert len([ax for ax in figure.axes if ax.get_ylabel().startswith(r"$\xi")]) == 1
    for ax, (measure, _, _) in zip(figure.axes, PANELS, strict=False):
        lines = {line.get_gid(): line for line in ax.lines if line.get_gid()}
        np.testing.assert_array_equal(lines["chi"].get_ydata(), [row["value"] for row in summary["curves"][measure]])
        np.testing.assert_array_equal(lines["chi"].get_xdata(), summary["centres"])
        assert lines["argmax"].get_xdata()[0] == summary["argmax"][measure]["value"]
        assert lines["sigma_c"].get_xdata()[0] == 2.0
        assert any(patch.get_gid() == "window" for patch in ax.patches) == (answer["verdict"] != "none")
    assert any(ax.get_ylabel() == "agreement of clones" for ax in figure.axes)


def test_every_figure_is_written(pulsed: Run, chi: Run) -> None:
    assert {path.name for path in draw(pulsed)} == {
        f"{n}.{e}" for n in ("twins", "alignment", "paths") for e in ("png", "pdf")
    }
    assert {path.name for path in draw(chi)} == {"susceptibility.png", "susceptibility.pdf"}


def test_colours_and_curves_can_be_shown(tmp_path: Path) -> None:
    for shape in ((3, 8, 8), (1, 8)):
        mean = torch.ones(shape)
        made = Model("shaped", VE(), shape, GaussianMixture(torch.stack([mean, -mean]), 0.3).denoiser, classes=2)

        class Mean(Sign):
            def features(self, x: Tensor) -> Tensor:
                return torch.stack([x.flatten(1).mean(1), x.flatten(1).std(1)], 1)

        config = replace(CONFIG, trials=2)
        run = pulse.run(config, tmp_path / f"{len(shape)}", made, None, Mean())
        assert twins(run).axes
        assert paths(run).axes
