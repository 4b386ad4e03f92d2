"""Figures of pulses: what is drawn is what the run holds, in letters that one can read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from helpers.guidance import PULSE, guide, nearest
from helpers.models import Classifier
from softmode.exact.mixture import GaussianMixture
from softmode.experiments.pulse.figures import NAMES, alignment
from softmode.experiments.pulse.twins import paths, twins
from softmode.model import Model
from softmode.plots.fields import visible
from softmode.process import VE
from softmode.runs.draw import styled
from softmode.runs.run import Run

CONFIG = replace(PULSE, trials=4, sigma_c=2.0, half_width=1.0, steps=24, weight=1.0)


@pytest.fixture(scope="module")
def pulsed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return guide("pulse", CONFIG, tmp_path_factory.mktemp("pulse") / "run")


def images(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for ax in figure.axes for image in ax.get_images()]


def test_twins_are_the_samples_of_first_trials(pulsed: Run) -> None:
    shown = images(twins(pulsed))
    data = pulsed.dataset["image"].to_numpy()
    expected = [visible(data[trajectory, place]) for place in (0, 1) for trajectory in (0, 4, 8)]
    for image, field in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(image, field)
    titles = [ax.get_title() for ax in twins(pulsed).axes]
    assert f"p = {pulsed.dataset['probability'].to_numpy()[4, 1]:.2f}" in titles[4]


def test_paths_part_at_the_framed_levels(pulsed: Run) -> None:
    figure = paths(pulsed)
    levels = pulsed.dataset["snapshot_level"].to_numpy()
    framed = [
        i % len(levels) for i, ax in enumerate(figure.axes) if any(patch.get_gid() == "pulse" for patch in ax.patches)
    ]
    assert framed == 3 * np.flatnonzero((levels > 1) & (levels <= 3)).tolist()
    shown = images(figure)
    count = len(levels)
    for k in range(count):
        same = np.array_equal(shown[k], shown[count + k])
        assert same == (levels[k] > 3), "twins are one until the pulse begins"


def test_alignment_shows_the_table(pulsed: Run) -> None:
    figure = alignment(pulsed)
    rows = [row for row in pulsed.results.values["comparisons"] if row["measure"] == "probability"]
    pooled, _, by_class, _ = figure.axes
    classes = [line.get_ydata()[0] for line in by_class.lines if line.get_gid() == "class"]
    assert classes == [e["estimate"].value for row in rows if row["baseline"] == "random" for e in row["by_class"]]
    drawn = [line for line in pooled.lines if line.get_gid() == "pooled"]
    assert [line.get_xdata()[0] for line in drawn] == [row["pooled"].value for row in rows]
    assert {line.get_markerfacecolor() for line in drawn} == {"white"}, "three classes have no p-value below 0.25"
    assert [t.get_text() for t in pooled.get_yticklabels()] == [NAMES[row["baseline"]] for row in rows]
    values = [text.get_text() for text in pooled.texts if text.get_gid() == "p"]
    assert values == [f"{row['p_holm']:.2g}" for row in rows]


@pytest.mark.parametrize("draw", [alignment, twins, paths])
def test_letters_are_readable_at_half_width(draw: object, pulsed: Run) -> None:
    """13 points on 11 inches, and no text leaves the figure."""
    with styled():
        figure = draw(pulsed)  # type: ignore[operator]
        FigureCanvasAgg(figure).draw()
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    assert min(text.get_fontsize() for text in shown) >= 13 * figure.get_figwidth() / 11
    drawn = figure.get_tightbbox()
    assert drawn.x0 >= 0
    assert drawn.x1 <= figure.get_figwidth()


def test_every_figure_is_written(pulsed: Run) -> None:
    assert [path.name for path in pulsed.draw()] == [
        f"{n}.{e}" for n in ("alignment", "twins", "paths") for e in ("png", "pdf")
    ]


def test_colours_and_curves_can_be_shown(tmp_path: Path) -> None:
    for shape in ((3, 8, 8), (1, 8)):
        mean = torch.ones(shape)
        made = Model("shaped", VE(), shape, GaussianMixture(torch.stack([mean, -mean]), 0.3).denoiser, classes=2)
        features = Classifier(lambda x: x.flatten(1)[:, :3], nearest().head, 3)
        run = guide("pulse", replace(CONFIG, classes=2, trials=2), tmp_path / f"{len(shape)}", made, features)
        assert twins(run).axes
        assert paths(run).axes
