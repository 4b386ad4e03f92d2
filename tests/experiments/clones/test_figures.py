"""The clone figures: what is drawn is what the run holds, with and without classes, for every kind of state."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from helpers.clones import SMALL, clones, uniform
from helpers.figures import changed, legend_entries, line
from helpers.models import by_sign
from softmode.estimate import Estimate, bootstrap
from softmode.experiments.clones import analyse
from softmode.experiments.clones.figures import clone_curve, clone_details, spaced
from softmode.process import VE, VP
from softmode.runs.draw import _settle
from softmode.runs.run import Run

CONFIG = replace(SMALL, trajectories=6, block=6, dtype="float32")


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """Spend little time on intervals."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analyse, "bootstrap", partial(bootstrap, resamples=50))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return clones(CONFIG, tmp_path_factory.mktemp("runs") / "run", classifier=by_sign)


def with_levels(run: Run, levels: dict[str, Estimate]) -> Run:
    """The run with other noise levels from which on copies agree, by kind."""
    quantities = tuple(
        replace(q, estimate=levels[q.kind.partition("_")[0]]) if q.kind.endswith("level") else q
        for q in run.results.quantities
    )
    return changed(run, quantities=quantities)


def curve(figure: Figure) -> Axes:
    (found,) = (ax for ax in figure.axes if "agreement" in ax.get_ylabel())
    return found


def test_the_curves_are_the_means_with_their_intervals(run: Run) -> None:
    """Mean agreement, in a band of its 95 % interval, against the falling noise level of copying."""
    ax = curve(clone_curve(run))
    levels = run.dataset["copy_level"].to_numpy()
    for kind in ("class", "sign"):
        np.testing.assert_array_equal(line(ax, kind).get_xdata(), levels)
        mean = run.dataset[f"{kind}_agreement"].to_numpy().mean(0)
        np.testing.assert_allclose(line(ax, kind).get_ydata(), mean, rtol=1e-12)
        (band,) = (each for each in ax.collections if each.get_gid() == f"{kind} band")
        corners = {tuple(corner) for path in band.get_paths() for corner in path.vertices.tolist()}
        estimates = run.results.values["agreement"][kind]
        assert {(x, y) for x, e in zip(levels, estimates, strict=True) for y in (e.low, e.high)} <= corners
    left, right = ax.get_xlim()
    assert left > levels[0] > levels[-1] > right
    assert ax.get_xscale() == "log"


def test_axes_and_threshold_say_what_is_drawn(run: Run) -> None:
    figure = clone_curve(run)
    ax = curve(figure)
    assert r"\sigma/\alpha" in ax.get_xlabel()
    assert list(line(ax, "threshold").get_ydata()) == [0.775, 0.775]
    assert [text.get_text() for text in ax.texts] == ["0.775, two equal classes at speciation"]
    assert figure.get_suptitle() == "two, 6 trajectories, 1 copy each, 40 steps, seed 0"


def test_crossings_are_marked_with_their_intervals(run: Run) -> None:
    """One line a kind at its noise level; the legend says the number, its interval, and whether it is doubtful."""
    levels = {
        "sign": Estimate(2.0, 0.1, 6, 1.8, 2.2),
        "class": Estimate(1.5, 0.1, 6, 1.3, 1.7, "found in 60 % of bootstrap resamples"),
    }
    ax = curve(clone_curve(with_levels(run, levels)))
    for kind, estimate in levels.items():
        assert list(line(ax, f"{kind} level").get_xdata()) == [estimate.value] * 2
        (band,) = (patch for patch in ax.patches if patch.get_gid() == f"{kind} interval")
        assert sorted([band.get_x(), band.get_x() + band.get_width()]) == pytest.approx([estimate.low, estimate.high])
    assert legend_entries(ax.figure) == [
        r"signs agree from $\sigma/\alpha$ = 2 [1.8, 2.2]",
        r"classes agree from $\sigma/\alpha$ = 1.5 [1.3, 1.7], in doubt",
    ]


def test_without_a_crossing_the_legend_says_why(run: Run) -> None:
    none = Estimate.missing(6, "the mean stays below 0.775: it is at most 0.6, at t = 1")
    ax = curve(clone_curve(with_levels(run, {"class": none, "sign": none})))
    assert not [item for item in (*ax.lines, *ax.patches) if str(item.get_gid()).endswith(("level", "interval"))]
    assert legend_entries(ax.figure) == [f"{kind}: the mean stays below 0.775" for kind in ("signs", "classes")]


def test_final_states_of_the_first_trajectory_with_their_classes(run: Run) -> None:
    """The trajectory's image and one per time of copying, titled with its noise level; another class is red."""
    data = run.dataset.isel(trajectory=0)
    times, levels = data["copy_time"].to_numpy(), data["copy_level"].to_numpy()
    expected = np.concatenate([data["parent"].to_numpy()[None], data["first_copy"].to_numpy()])[:, 0]
    own = int(data["parent_class"])
    labels = [own, *data["copy_class"].to_numpy()[:, 0].tolist()]
    titles = {
        clone_curve: [f"{level:.3g}" for level in levels],
        clone_details: [f"$t^*={t:.3g}$\n$\\sigma/\\alpha={s:.3g}$" for t, s in zip(times, levels, strict=True)],
    }
    for draw, named in titles.items():
        panels = [ax for ax in draw(run).axes if ax.images]
        np.testing.assert_allclose([ax.images[0].get_array() for ax in panels], expected, rtol=1e-6)
        assert [ax.get_title() for ax in panels] == ["trajectory", *named]
        assert [ax.texts[0].get_text() for ax in panels] == [f"class {label}" for label in labels]
        assert [ax.texts[0].get_color() for ax in panels] == ["black" if c == own else "tab:red" for c in labels]


def test_the_details_have_every_trajectory(run: Run) -> None:
    """Each one's agreement against the time of copying, and the mean over them."""
    axes = [ax for ax in clone_details(run).axes if ax.lines]
    for ax, kind in zip(axes, ("sign", "class"), strict=True):
        assert "$t^*$" in ax.get_xlabel()
        drawn = [each for each in ax.lines if each.get_gid() == "trajectory"]
        np.testing.assert_array_equal([each.get_ydata() for each in drawn], run.dataset[f"{kind}_agreement"])
        np.testing.assert_array_equal(drawn[0].get_xdata(), run.dataset["copy_time"])
        np.testing.assert_allclose(line(ax, kind).get_ydata(), run.dataset[f"{kind}_agreement"].mean("trajectory"))


@pytest.mark.parametrize(
    ("shape", "process", "change"),
    [
        ((1, 6), VP(), {"trajectories": 1}),
        ((3, 4, 4), VP(), {"times": (1.0,), "copies": 2}),
        ((1, 2, 3, 2), VP(), {"times": tuple(np.geomspace(2.9, 0.2, 12).tolist())}),
        ((1, 2, 2), VE(), {"t_max": 20.0, "t_min": 0.1, "steps": 80, "times": (10.0, 1.0)}),
    ],
    ids=["1d", "rgb", "3d", "ve"],
)
@pytest.mark.parametrize("classifier", [None, by_sign], ids=["no classes", "classes"])
def test_every_kind_of_run_fits_on_its_page_and_is_readable(shape, process, change, classifier, tmp_path: Path) -> None:
    """Nothing is cut off, few entries and lines, texts that half their size leaves readable, all states in details."""
    run = clones(replace(CONFIG, **change), tmp_path / "run", uniform(*shape, process=process), classifier)
    for name in run.figures:
        figure = run.figure(name)
        figure.set_dpi(50)
        page = figure.bbox_inches
        _settle(figure)
        inside = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())
        assert page.x0 <= inside.x0 < inside.x1 <= page.x1
        assert page.y0 <= inside.y0 < inside.y1 <= page.y1
        states = [ax for ax in figure.axes if ax.images or (len(shape) == 2 and ax.lines and not ax.get_xlabel())]
        copied = run.dataset.sizes["copy_time"]
        assert len(states) == 1 + (min(copied, 8) if name == "clones" else copied)
        least = 13 * figure.get_figwidth() / 11
        for ax in (ax for ax in figure.axes if ax.get_xlabel()):
            assert len(legend_entries(figure)) <= 4
            assert len([each for each in ax.lines if str(each.get_gid()).endswith(" level")]) <= 3
            assert any(text.get_text() for text in ax.get_xticklabels())
            labels = [ax.xaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels()]
            assert min(text.get_fontsize() for text in labels) >= math.floor(least)


def test_ticks_keep_their_distance() -> None:
    assert spaced(np.array([5.0, 4.9, 4.0, 3.5, 1.0]), 1.0).tolist() == [0, 2, 4]
    assert spaced(np.array([2.0]), 1.0).tolist() == [0]
