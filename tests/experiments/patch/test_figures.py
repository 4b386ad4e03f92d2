"""The figures of a patch run: what is drawn is what is stored, by the rules that every figure keeps to."""

import math
from dataclasses import replace
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread

from helpers.figures import changed, check_rules, line, nothing_is_clipped, panel, vertical_lines
from helpers.runs import run as run_of
from softmode.estimate import Estimate, median
from softmode.experiments.call import open as open_run
from softmode.experiments.patch.dispersion import dispersion, relative_eigenvalue
from softmode.experiments.patch.figures import FIGURES, on_offsets, snapshots
from softmode.lattice import Lattice
from softmode.plots.critical_details import critical_details
from softmode.plots.critical_dynamics import critical_dynamics
from softmode.plots.intervals import WRITTEN
from softmode.plots.length_panel import LENGTHS
from softmode.plots.snapshots import number
from softmode.runs import draw
from softmode.runs.run import Run

NAMES = {f"{name}.{kind}" for name in FIGURES for kind in ("png", "pdf")}
SMALL = {"size": 12, "t_max": 10.0, "steps": 320, "measure_every": 6, "trajectories": 2, "shells": 3}
CONFIGS = {
    1: SMALL | {"dimensions": 1, "receptive_field": "offsets:-1;0;1"},
    2: SMALL | {"dimensions": 2},
    3: SMALL | {"dimensions": 3, "receptive_field": "box:3", "dictionary": "random:8"},
}
EXPLODING = SMALL | {
    "trajectories": 1, "t_max": 80.0, "t_min": 0.002, "schedule": "ve", "dictionary": "random:8",
    "receptive_field": "ball:1.5", "snapshots": (80.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.1),
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Run]:
    return {d: run_of("patch", tmp_path_factory.mktemp("runs") / f"d{d}", **config) for d, config in CONFIGS.items()}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of("patch", tmp_path_factory.mktemp("runs") / "one", **EXPLODING)


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spend no time on resolution and layout where a test looks at neither."""
    monkeypatch.setattr(draw, "LAYOUTS", 1)
    monkeypatch.setitem(draw.STYLE, "figure.dpi", 50)


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("d", CONFIGS)
def test_every_figure_of_a_run_is_drawn_without_touching_global_state(runs: dict[int, Run], d: int) -> None:
    before = dict(matplotlib.rcParams)
    paths = runs[d].draw()
    folder = runs[d].directory / "figures"
    assert {path.name for path in paths} == NAMES == {path.name for path in folder.iterdir()}
    assert len(paths) == len(NAMES)
    for path in paths:
        if path.suffix == ".png":
            pixels = imread(path)[..., :3]
            assert pixels.std() > 0.05
            assert np.ptp(pixels, axis=-1).max() > 0.5
        else:
            assert path.read_bytes().startswith(b"%PDF")
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


@pytest.mark.usefixtures("coarse")
def test_drawing_again_gives_the_same_bytes(runs: dict[int, Run]) -> None:
    run = open_run(runs[1].directory)
    folder = run.directory / "figures"
    run.draw()
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    with matplotlib.rc_context({"lines.linewidth": 7, "font.size": 30}):
        run.draw()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


@pytest.mark.usefixtures("coarse")
def test_an_interrupted_draw_leaves_no_file(runs: dict[int, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = runs[3].directory / "figures"
    for path in folder.glob("*"):
        path.unlink()

    def interrupted(_canvas: FigureCanvasAgg, path: Path) -> None:
        path.write_bytes(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(FigureCanvasAgg, "print_png", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runs[3].draw()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_keeps_to_the_rules(runs: dict[int, Run], one: Run, name: str) -> None:
    for run in (*runs.values(), one):
        check_rules(run.figure(name))


@pytest.mark.parametrize("name", ["critical_dynamics", "critical_dynamics_details"])
def test_nothing_is_clipped_at_the_edge_of_the_page(one: Run, name: str) -> None:
    nothing_is_clipped(one.figure(name))


def test_curves_are_the_runs_arrays_and_their_medians(runs: dict[int, Run]) -> None:
    data = runs[2].dataset
    figure = critical_dynamics(runs[2])
    for text, name in (("of sign", "xi_sign"), ("growth", "growth"), ("equilibrium", "xi_eq_gain")):
        ax, curves = panel(figure, text), data[name].to_numpy()
        thick = line(ax, "median")
        np.testing.assert_array_equal(thick.get_xdata(), data["time"].to_numpy())
        np.testing.assert_array_equal(thick.get_ydata(), median(curves))
        thin = [line.get_ydata() for line in ax.lines if line.get_gid() == "trajectory"]
        np.testing.assert_array_equal(thin, curves)


def test_every_convention_is_in_the_details(runs: dict[int, Run]) -> None:
    ax = panel(critical_details(runs[2]), "equilibrium")
    for name in ("xi_eq_drift", "xi_eq_gain"):
        np.testing.assert_array_equal(line(ax, name).get_ydata(), median(runs[2].dataset[name].to_numpy()))
    # an exact constant mode needs no fit without it
    assert "xi_eq_free" not in {line.get_gid() for line in ax.lines}
    assert {"xi_eq_free", "xi_eq_drift", "xi_eq_gain"} == set(LENGTHS)


def test_negative_eigenvalues_are_the_dashed_parts(runs: dict[int, Run]) -> None:
    values = runs[2].dataset["eigenvalue"].to_numpy().mean(-1)
    assert (median(values[:, :, 0]) < 0).any(), "the test needs a run whose constant mode grows for a while"
    for draw_figure, shells in ((critical_dynamics, (0, 2, 3)), (critical_details, range(4))):
        ax = panel(draw_figure(runs[2]), "eigenvalue")
        assert {line.get_gid() for line in ax.lines} >= {f"lambda_{n}" for n in shells}
        for n in shells:
            curve = median(values[:, :, n])
            solid, dashed = (np.asarray(line(ax, f"lambda_{n}", style).get_ydata()) for style in ("-", "--"))
            np.testing.assert_array_equal(solid, np.where(curve > 0, curve, np.nan))
            np.testing.assert_array_equal(dashed, np.where(curve < 0, -curve, np.nan))


def test_times_are_marked_in_the_panel_of_their_curve(runs: dict[int, Run]) -> None:
    figure, results = critical_dynamics(runs[2]), runs[2].results
    homes = {
        "t_c_score_omega": "of sign",
        "xi_eq_gain_peak": "equilibrium",
        "growth_onset": "growth",
        "growth_peak": "growth",
        "lambda_0_zero": "eigenvalue",
    }
    for kind, home in homes.items():
        for ax in figure.axes:
            found = [mark.get_xdata()[0] for mark in vertical_lines(ax) if mark.get_gid() == kind]
            sure = [q.estimate.value for q in results.of(kind) if not q.estimate.reason]
            assert found == (sure if home in ax.get_ylabel() else [])
    assert results.of("lambda_0_zero")
    (paper,) = (text.get_text() for text in panel(figure, "of sign").texts)
    assert paper.endswith(f"{math.log(26):.4g}")


def rows(figure: Figure) -> dict[str, list[float]]:
    """Return the times in the rows of the details, by kind."""
    (ax,) = (ax for ax in figure.axes if "critical time" in ax.get_title(loc="left"))
    points = [line for line in ax.lines if line.get_marker() == "o" and line.get_gid()]
    found: dict[str, list[float]] = {}
    for point in points:
        found.setdefault(point.get_gid(), []).append(float(np.ravel(point.get_xdata())[0]))
    return found


def test_every_time_is_a_row_of_the_details(runs: dict[int, Run]) -> None:
    found = rows(critical_details(runs[2]))
    results = runs[2].results
    kinds = {q.kind for q in results.quantities if results.of(q.kind)} - {"xi_eq_free_peak"}
    assert found == {kind: [q.estimate.value for q in results.of(kind)] for kind in kinds}
    assert {"t_c_score_omega", "t_c_score_softest", "t_c_drift_omega", "t_c_drift_softest"} <= kinds


def test_times_in_doubt_are_in_the_details_only(runs: dict[int, Run]) -> None:
    doubtful = Estimate(2.0, 0.1, 4, 1.9, 2.1, "found in 60 % of resamples")
    quantities = [q for q in runs[2].results.quantities if q.kind != "growth_peak"]
    several = [replace(q, kind="growth_peak", index=n, estimate=doubtful) for n, q in enumerate(quantities[:5], 1)]
    run = changed(runs[2], quantities=(*quantities, *several))
    marks = [mark.get_gid() for ax in critical_dynamics(run).axes for mark in vertical_lines(ax)]
    assert "growth_peak" not in marks
    figure = run.figure("critical_dynamics_details")
    assert rows(figure)["growth_peak"] == [2.0] * 5
    (ax,) = (ax for ax in figure.axes if "critical time" in ax.get_title(loc="left"))
    assert any(text.get_text() == "2.0(1)?, " * WRITTEN + "… (5 in all)" for text in ax.texts)
    check_rules(figure)


def test_bands_where_xi_eq_is_undefined_are_shaded_unless_a_single_point(runs: dict[int, Run]) -> None:
    bands = [[3.0, 1.0], [0.5, 0.5]]
    values = dict(runs[2].results.values) | {"undefined": {"xi_eq_drift": bands, "xi_eq_gain": bands}}
    run = changed(runs[2], values=values)
    for figure in (critical_dynamics(run), critical_details(run)):
        ax = panel(figure, "equilibrium")
        (band,) = (patch for patch in ax.patches if patch.get_gid() == "undefined")
        assert (band.get_x(), band.get_width()) in {(1.0, 2.0), (3.0, -2.0)}
        assert any("undefined" in text.get_text() for text in ax.get_legend().get_texts())


@pytest.mark.parametrize("d", CONFIGS)
def test_dispersion_agrees_with_the_measured_modes(runs: dict[int, Run], d: int) -> None:
    data = runs[d].dataset
    k = Lattice((12,) * d).wavenumbers(3)[:, 0].numpy()
    times = data["time"].to_numpy()
    measured = data["eigenvalue"].to_numpy().mean(-1)
    bare = 1 / -np.expm1(-times) - 0.5
    np.testing.assert_allclose(relative_eigenvalue(runs[d], k, np.eye(d)) * bare[:, None], measured, rtol=1e-9)


def test_dispersion_maps_show_the_median_over_time_and_wavenumber(runs: dict[int, Run]) -> None:
    for d, directions in ((1, [np.eye(1)]), (2, [np.eye(2), np.array([[1.0, 1.0], [1.0, -1.0]])])):
        figure = dispersion(runs[d])
        maps = [ax for ax in figure.axes if "time" in ax.get_xlabel()]
        assert len(maps) == len(directions)
        for ax, vectors in zip(maps, directions, strict=True):
            values = median(relative_eigenvalue(runs[d], np.linspace(0, np.pi, 181), vectors)).T
            np.testing.assert_array_equal(ax.collections[0].get_array(), values)
            assert ax.get_xlim() == (10.0, 1e-3)
            assert ax.get_ylim() == (0.0, math.pi)
    edge = median(runs[2].dataset["growing_edge"].to_numpy())
    np.testing.assert_allclose(line(maps[0], "growing_edge", "--").get_ydata(), edge)
    np.testing.assert_allclose(line(maps[1], "growing_edge", "--").get_ydata(), edge / math.sqrt(2))


def test_snapshots_show_the_first_trajectory(runs: dict[int, Run]) -> None:
    for d in (2, 3):
        states = runs[d].dataset["snapshots"].isel(trajectory=0).to_numpy()
        images = [ax.images[0].get_array() for ax in snapshots(runs[d]).axes if ax.images and "alpha" in ax.get_title()]
        for image, state in zip(images, states if d == 2 else states[:, 6], strict=True):
            np.testing.assert_allclose(image, state, rtol=1e-6)
    states = runs[1].dataset["snapshots"].isel(trajectory=0).to_numpy()
    curves = [ax.lines[-1].get_ydata() for ax in snapshots(runs[1]).axes if ax.lines]
    np.testing.assert_allclose(curves, states, rtol=1e-6)


def test_exploding_states_are_shown_at_unit_variance(one: Run) -> None:
    data = one.dataset
    images = [ax.images[0].get_array() for ax in snapshots(one).axes if ax.images and "alpha" in ax.get_title()]
    sigma = data["snapshot"].to_numpy()[:, None, None]
    np.testing.assert_allclose(images, data["snapshots"].to_numpy()[0] / np.sqrt(1 + sigma**2), rtol=1e-6)
    assert np.std(images[0]) == pytest.approx(1, abs=0.2)


def test_patterns_lie_on_their_offsets() -> None:
    cross = np.array([[-1, 0], [0, -1], [0, 0], [0, 1], [1, 0]])
    image = on_offsets(np.arange(5.0), cross)
    np.testing.assert_array_equal(image, [[np.nan, 0, np.nan], [1, 2, 3], [np.nan, 4, np.nan]])
    np.testing.assert_array_equal(on_offsets(np.arange(3.0), np.array([[0], [1], [3]])), [[0, 1, np.nan, 2]])
    cube = np.array([(z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)])
    np.testing.assert_array_equal(on_offsets(np.arange(27.0), cube), np.arange(9.0, 18.0).reshape(3, 3))


def test_the_most_probable_patterns_are_shown_with_their_prior(runs: dict[int, Run]) -> None:
    figure = snapshots(runs[3])
    shown = [ax for ax in figure.axes if ax.images and "alpha" not in ax.get_title()]
    assert [ax.get_title() for ax in shown] == ["0.0625"] * 12
    assert "12 most probable of 16" in figure.subfigs[0].get_suptitle()
    data = runs[2].dataset
    shown = [ax for ax in snapshots(runs[2]).axes if ax.images and "alpha" not in ax.get_title()]
    assert [ax.get_title() for ax in shown] == ["0.45"] * 2 + ["0.0125"] * 8
    patterns = data["patterns"].to_numpy().reshape(-1, 5, 5)
    order = np.argsort(-data["prior"].to_numpy(), kind="stable")
    for ax, k in zip(shown, order, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), patterns[k])


def test_numbers_far_from_one_get_a_power_of_ten() -> None:
    assert number(7.2004e10) == r"7.2\times 10^{10}"
    assert number(0.0316) == "0.0316"
    assert number(1234.0) == "1230"


def test_one_trajectory_without_error_bars(one: Run) -> None:
    figure = critical_dynamics(one)
    figure.draw_without_rendering()
    assert len([ax for ax in dispersion(one).axes if "noise level" in ax.get_xlabel()]) == 2
    assert panel(figure, "of sign").get_xlim() == (80.0, 0.002)
    assert "sigma" in panel(figure, "growth").get_xlabel()
    assert not [patch for ax in figure.axes for patch in ax.patches if patch.get_gid() == "growth_peak"]


def test_curves_that_are_undefined_everywhere(runs: dict[int, Run]) -> None:
    data = runs[2].dataset.copy()
    for name in ("xi_sign", "growth", "xi_eq_drift", "xi_eq_gain", "growing_edge", "eigenvalue"):
        data[name] = data[name] * np.nan
    results = runs[2].results
    missing = tuple(replace(q, estimate=Estimate.missing(2, "nowhere defined")) for q in results.quantities)
    everywhere = {name: [[10.0, 1e-3]] for name in LENGTHS}
    run = changed(runs[2], data, quantities=missing, values=dict(results.values) | {"undefined": everywhere})
    for figure in (critical_dynamics(run), critical_details(run), dispersion(run)):
        figure.draw_without_rendering()
