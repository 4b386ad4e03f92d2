"""The clone curve: what is drawn is what the run holds, with and without classes, for every kind of state."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import matplotlib.style
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from softmode import figures
from softmode.config import ClonesConfig
from softmode.estimate import bootstrap
from softmode.exact.empirical import EmpiricalDenoiser
from softmode.experiments import clones, clones_summary
from softmode.figures.clone_curve import clone_curve, spaced
from softmode.model import Model
from softmode.process import VE, VP, Process
from softmode.store import Run

CONFIG = ClonesConfig(
    model="two", classifier="none", trajectories=6, times=(2.5, 1.0, 0.3), t_max=3.0, t_min=0.05, steps=40
)


def two(*shape: int, process: Process | None = None) -> Model:
    data = torch.stack([torch.ones(shape), -torch.ones(shape)])
    return Model("two", process or VP(), shape, lambda _label: EmpiricalDenoiser(data))


def by_sign(x: torch.Tensor) -> torch.Tensor:
    total = x.flatten(1).sum(1)
    return torch.stack([-total, total], 1)


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """Spend little time on intervals."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clones_summary, "bootstrap", partial(bootstrap, resamples=50))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return clones.run(CONFIG, tmp_path_factory.mktemp("runs") / "run", two(1, 2, 2), by_sign)


def changed(run: Run, directory: Path, **changes: object) -> Run:
    """The run with other entries in its summary."""
    (directory / "run.zarr").symlink_to(run.directory / "run.zarr")
    (directory / "summary.json").write_text(json.dumps(run.summary | changes))
    return Run.open(directory)


def quantities(at: dict[str, float | None], reason: str = "") -> dict[str, list]:
    """Times, and noise levels twice as large, of the kinds in `at`."""
    numbers = {
        kind: dict.fromkeys(("value", "stderr", "low", "high"))
        if t is None
        else {"value": t, "stderr": 0.1, "low": t - 0.2, "high": t + 0.2}
        for kind, t in at.items()
    }
    times = [{"name": f"{kind}_agreement_time", "samples": 6, "reason": reason} | numbers[kind] for kind in at]
    levels = [entry | {key: 2 * entry[key] for key in ("value", "stderr") if entry[key] is not None} for entry in times]
    return {"quantities": times, "noise_levels": levels}


def curve(figure: Figure) -> Axes:
    (found,) = (ax for ax in figure.axes if "agreement" in ax.get_ylabel())
    return found


def line(ax: Axes, gid: str):
    (found,) = (line for line in ax.lines if line.get_gid() == gid)
    return found


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for part in figure.subfigs for box in part.legends for text in box.get_texts()]


def test_the_curves_are_the_means_with_their_errors_and_points(run: Run) -> None:
    """Mean, standard error and every trajectory's sign agreement, against falling t*."""
    figure = clone_curve(run)
    ax, data = curve(figure), run.arrays
    times = data["copy_time"].to_numpy()
    for kind in ("class", "sign"):
        values = data[f"{kind}_agreement"].to_numpy()
        np.testing.assert_array_equal(line(ax, kind).get_xdata(), times)
        np.testing.assert_allclose(line(ax, kind).get_ydata(), values.mean(0), rtol=1e-12)
    rows = run.summary["agreement"]["sign"]
    bars = ax.containers[1].lines[2][0].get_segments()
    np.testing.assert_allclose([(b[1, 1] - b[0, 1]) / 2 for b in bars], [row["stderr"] for row in rows], atol=1e-12)
    points = [line.get_ydata() for line in ax.lines if line.get_gid() == "trajectory"]
    np.testing.assert_array_equal(points, data["sign_agreement"])
    left, right = ax.get_xlim()
    assert left > times[0] > times[-1] > right
    assert ax.get_xscale() == "log"


def test_axes_and_legend_say_what_is_drawn(run: Run) -> None:
    figure = clone_curve(run)
    ax = curve(figure)
    assert "$t^*$" in ax.get_xlabel()
    (top,) = ax.child_axes
    assert r"\sigma/\alpha" in top.get_xlabel()
    levels = run.arrays["copy_level"].to_numpy()
    FigureCanvasAgg(figure).draw()
    assert [text.get_text() for text in top.get_xticklabels()] == [f"{level:.3g}" for level in levels]
    np.testing.assert_allclose(top.get_xticks(), run.arrays["copy_time"])
    assert list(line(ax, "threshold").get_ydata()) == [0.775, 0.775]
    texts = legend(figure)
    assert "0.775 (speciation of two equal classes, Biroli et al. 2024)" in texts
    assert any("agreement of classes, mean ± standard error of 6" in text for text in texts)
    assert any("agreement of signs, mean ± standard error of 6" in text for text in texts)
    assert "two, 6 trajectories, 1 copy each, 40 steps, seed 0" in figure.get_suptitle()


def test_crossings_are_marked_with_their_intervals(run: Run, tmp_path: Path) -> None:
    other = changed(run, tmp_path, **quantities({"class": 1.5, "sign": 2.0}, "found in 60 % of bootstrap resamples"))
    figure = clone_curve(other)
    ax = curve(figure)
    for kind, t in (("class", 1.5), ("sign", 2.0)):
        assert list(line(ax, f"{kind} time").get_xdata()) == [t, t]
        (band,) = (patch for patch in ax.patches if patch.get_gid() == f"{kind} interval")
        assert sorted([band.get_x(), band.get_x() + band.get_width()]) == pytest.approx([t - 0.2, t + 0.2])
    texts = legend(figure)
    assert r"agreement of classes rises through 0.775 at $t^*=$1.5(1)?, $\sigma/\alpha=$3.0(2)?" in texts
    assert "?: in fewer than 95 % of bootstrap resamples" in texts


def test_without_a_crossing_the_legend_says_why(run: Run, tmp_path: Path) -> None:
    none = quantities({"class": None, "sign": None}, "the mean stays below 0.775: it is at most 0.6, at t = 1")
    figure = clone_curve(changed(run, tmp_path, **none))
    ax = curve(figure)
    assert not [item for item in (*ax.lines, *ax.patches) if str(item.get_gid()).endswith(("time", "interval"))]
    assert "mean agreement of classes stays below 0.775" in legend(figure)
    assert "mean agreement of signs stays below 0.775" in legend(figure)


def test_final_states_of_the_first_trajectory_with_their_classes(run: Run) -> None:
    """The trajectory's image and one per t*, titled with time and noise level; another class is red."""
    data = run.arrays.isel(trajectory=0)
    panels = [ax for ax in clone_curve(run).axes if ax.images]
    expected = np.concatenate([data["parent"].to_numpy()[None], data["first_copy"].to_numpy()])[:, 0]
    np.testing.assert_allclose([ax.images[0].get_array() for ax in panels], expected, rtol=1e-6)
    assert panels[0].get_title() == "trajectory"
    for ax, t in zip(panels[1:], data["copy_time"].to_numpy(), strict=True):
        assert f"t^*={t:.3g}" in ax.get_title()
        assert r"\sigma/\alpha=" in ax.get_title()
    own = int(data["parent_class"])
    labels = [own, *data["copy_class"].to_numpy()[:, 0]]
    assert [ax.texts[0].get_text() for ax in panels] == [f"class {label}" for label in labels]
    assert [ax.texts[0].get_color() for ax in panels] == ["black" if c == own else "tab:red" for c in labels]


@pytest.mark.parametrize(
    ("shape", "process", "change"),
    [
        ((1, 6), VP(), {"trajectories": 1}),
        ((3, 4, 4), VP(), {"times": (1.0,), "copies": 2}),
        ((1, 2, 3, 2), VP(), {"times": tuple(np.geomspace(3, 0.2, 9))}),
        ((1, 2, 2), VE(), {"t_max": 20.0, "t_min": 0.1, "steps": 80, "times": (10.0, 1.0)}),
    ],
    ids=["1d", "rgb", "3d", "ve"],
)
def test_every_kind_of_run_without_a_classifier_fits_on_its_page(shape, process, change, tmp_path: Path) -> None:
    run = clones.run(ClonesConfig(**vars(CONFIG) | change), tmp_path / "run", two(*shape, process=process))
    with matplotlib.style.context(["default", figures.STYLE]):
        figure = clone_curve(run)
        figure.set_dpi(50)
        page = figure.bbox_inches
        figures._settle(figure)
        inside = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())
    assert page.x0 <= inside.x0 < inside.x1 <= page.x1
    assert page.y0 <= inside.y0 < inside.y1 <= page.y1
    ax = curve(figure)
    assert not [line for line in ax.lines if line.get_gid() == "class"]
    assert len([text for text in legend(figure) if "classes" in text]) == 1, "the threshold's label"
    assert bool(ax.child_axes) == isinstance(process, VP)
    assert ("sigma" in ax.get_xlabel()) == isinstance(process, VE)
    assert any(text.get_text() for text in ax.get_xticklabels())
    drawn = [ax for ax in figure.axes if ax.images or (len(shape) == 2 and ax.lines and not ax.get_ylabel())]
    assert len(drawn) == 1 + run.arrays.sizes["copy_time"]


def test_a_run_without_summary_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run.zarr").symlink_to(run.directory / "run.zarr")
    with pytest.raises(ValueError, match="no summary"):
        clone_curve(Run.open(tmp_path))


def test_ticks_keep_their_distance() -> None:
    assert spaced(np.array([5.0, 4.9, 4.0, 3.5, 1.0]), 1.0).tolist() == [0, 2, 4]
    assert spaced(np.array([2.0]), 1.0).tolist() == [0]
