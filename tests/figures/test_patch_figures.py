import json
import math
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import matplotlib.style
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from softmode.config import PatchConfig
from softmode.figures.critical_dynamics import critical_dynamics, measured_lines, signed_line, theory_lines
from softmode.figures.dispersion import dispersion, relative_eigenvalue
from softmode.figures.length_panel import length_limit
from softmode.figures.patch_states import number, on_offsets, snapshots
from softmode.store import Run

from softmode import figures
from softmode.estimate import median
from softmode.experiments import patch
from softmode.figures import draw
from softmode.lattice import Lattice

NAMES = {f"{name}.{kind}" for name in ("snapshots", "critical_dynamics", "dispersion") for kind in ("png", "pdf")}
SMALL = {"size": 12, "t_max": 10.0, "steps": 320, "measure_every": 6, "trajectories": 2, "shells": 3}
CONFIGS = {
    1: PatchConfig(**SMALL, dimensions=1, receptive_field="offsets:-1;0;1"),
    2: PatchConfig(**SMALL, dimensions=2),
    3: PatchConfig(**SMALL, dimensions=3, receptive_field="box:3", dictionary="random:8"),
}
EXPLODING = PatchConfig(
    **SMALL | {"trajectories": 1, "t_max": 80.0, "t_min": 0.002}, schedule="ve", dictionary="random:8",
    receptive_field="ball:1.5", snapshots=(80.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.1),
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Run]:
    return {d: patch.run(config, tmp_path_factory.mktemp("runs") / f"d{d}") for d, config in CONFIGS.items()}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return patch.run(EXPLODING, tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spend no time on resolution and layout where a test looks at neither."""
    monkeypatch.setattr(figures, "LAYOUTS", 1)
    monkeypatch.setitem(figures.STYLE, "figure.dpi", 50)


def line(ax: Axes, gid: str, linestyle: str):
    (found,) = (line for line in ax.lines if line.get_gid() == gid and line.get_linestyle() == linestyle)
    return found


def labelled(ax: Axes, text: str):
    (found,) = (line for line in ax.lines if text in str(line.get_label()))
    return found


def panels(figure: Figure, label: str) -> list[Axes]:
    return [ax for ax in figure.axes if label in ax.get_ylabel()]


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("d", CONFIGS)
def test_every_figure_of_a_run_is_drawn_without_touching_global_state(runs: dict[int, Run], d: int) -> None:
    before = dict(matplotlib.rcParams)
    paths = draw(runs[d])
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
    run = Run.open(runs[1].directory)
    folder = run.directory / "figures"
    if not folder.exists():
        draw(run)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    with matplotlib.rc_context({"lines.linewidth": 7, "font.size": 30}):
        draw(run)
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
        draw(runs[3])
    assert list(folder.iterdir()) == []


def test_nothing_is_clipped_at_the_edge_of_the_page(one: Run) -> None:
    with matplotlib.style.context(["default", figures.STYLE]):
        figure = critical_dynamics(one)
        page = figure.bbox_inches
        figures._settle(figure)
        inside = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())
    assert page.x0 <= inside.x0 < inside.x1 <= page.x1
    assert page.y0 <= inside.y0 < inside.y1 <= page.y1


def test_a_run_without_summary_is_refused(runs: dict[int, Run], tmp_path: Path) -> None:
    (tmp_path / "run.zarr").symlink_to(runs[1].directory / "run.zarr")
    with pytest.raises(ValueError, match="no summary"):
        draw(Run.open(tmp_path))
    assert not list(tmp_path.glob("figures/*"))


def test_curves_are_the_runs_arrays_and_their_medians(runs: dict[int, Run]) -> None:
    data = runs[2].arrays
    figure = critical_dynamics(runs[2])
    (left,), (middle,), (twin,) = (panels(figure, label) for label in ("correlation length", "growth", "equilibrium"))
    for ax, text, name in (
        (left, r"$\xi_x$ of sign", "xi_sign"),
        (middle, ", median", "growth"),
        (twin, "drift (right axis)", "xi_eq_drift"),
        (twin, "convention-free (right axis)", "xi_eq_gain"),
    ):
        curves = data[name].to_numpy()
        thick = labelled(ax, text)
        np.testing.assert_array_equal(thick.get_xdata(), data["time"].to_numpy())
        np.testing.assert_array_equal(thick.get_ydata(), median(curves))
        thin = [line for line in ax.lines if line.get_alpha() == 0.3]
        for curve in curves:
            assert any(np.array_equal(line.get_ydata(), curve, equal_nan=True) for line in thin)


def test_negative_eigenvalues_are_the_dashed_parts(runs: dict[int, Run]) -> None:
    data = runs[2].arrays
    (ax,) = panels(critical_dynamics(runs[2]), "eigenvalues")
    values = data["eigenvalue"].to_numpy().mean(-1)
    assert (median(values[:, :, 0]) < 0).any(), "the test needs a run whose constant mode grows for a while"
    expected = {f"lambda_{n}": median(values[:, :, n]) for n in range(values.shape[2])}
    expected["lambda_median"] = np.median(values, axis=(0, 2))
    for gid, curve in expected.items():
        solid, dashed = (np.asarray(line(ax, gid, style).get_ydata()) for style in ("-", "--"))
        np.testing.assert_array_equal(solid, np.where(curve > 0, curve, np.nan))
        np.testing.assert_array_equal(dashed, np.where(curve < 0, -curve, np.nan))


def test_a_point_between_two_gaps_is_marked() -> None:
    ax = Figure().add_subplot()
    solid, dashed = signed_line(ax, np.arange(5.0), np.array([1.0, 2.0, -3.0, 4.0, np.nan]), color="black")
    assert list(solid.get_markevery()) == [3]
    assert list(dashed.get_markevery()) == [2]


def test_theory_times_are_marked_in_every_panel_and_named(runs: dict[int, Run]) -> None:
    figure = critical_dynamics(runs[2])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    theory = [q for q in runs[2].summary["quantities"] if q["label"]]
    assert {q["name"] for q in theory} >= {"t_c_score_omega", "t_c_drift_omega"}
    for quantity in theory:
        for name in ("correlation length", "growth", "eigenvalues"):
            (ax,) = panels(figure, name)
            assert list(line(ax, quantity["name"], ax_style(quantity["name"])).get_xdata()) == [quantity["value"]] * 2
        assert any(quantity["label"] in label and f"{quantity['value']:.4g}" in label for label in labels)
    (paper,) = (label for label in labels if "the paper's $t_c$" in label)
    assert f"{math.log(26):.4g}" in paper


def ax_style(name: str) -> str:
    return ":" if name.endswith("_eff") else "-"


def test_measured_times_are_marked_where_their_curve_is(runs: dict[int, Run]) -> None:
    figure = critical_dynamics(runs[2])
    quantities = runs[2].summary["quantities"]
    homes = {
        "xi_eq_drift_peak": "correlation length",
        "xi_eq_gain_peak": "correlation length",
        "growth_onset": "growth",
        "growth_peak": "growth",
        "lambda_0_zero": "eigenvalues",
    }
    for kind, home in homes.items():
        values = [q["value"] for q in quantities if q["name"].startswith(f"{kind}_") and q["value"] is not None]
        for ax in figure.axes:
            marked = [line.get_xdata()[0] for line in ax.lines if line.get_gid() == kind]
            assert marked == (values if home in ax.get_ylabel() else [])
    assert any(q["name"].startswith("lambda_0_zero") and q["value"] for q in quantities)


def quantity(name: str, value: float | None, reason: str = "", label: str = "") -> dict[str, object]:
    stderr = None if value is None else 0.1
    low, high = (None, None) if value is None else (value - 0.1, value + 0.1)
    return {"name": name, "value": value, "stderr": stderr, "samples": 4, "low": low, "high": high, "reason": reason,
            "label": label}  # fmt: skip


def test_undefined_times_are_skipped_and_doubtful_ones_questioned() -> None:
    ax = Figure().add_subplot()
    none = {"quantities": [quantity("growth_peak_1", None), quantity("t_c_score_omega", None, label="$r=0$")]}
    assert measured_lines(ax, none, "growth_peak") == theory_lines([ax], none) == []
    assert len(ax.lines) == len(ax.patches) == 0
    some = {"quantities": [quantity("growth_peak_1", 2.0), quantity("growth_peak_2", 1.0, "found in 60 %")]}
    (marked,) = measured_lines(ax, some, "growth_peak")
    assert str(marked.get_label()).endswith("2.0(1), 1.0(1)?")
    assert len(ax.lines) == len(ax.patches) == 2


def test_equal_theory_times_share_a_line() -> None:
    ax = Figure().add_subplot()
    same = {"quantities": [quantity("t_c_score_omega", 2.0, label="one"), quantity("other", 2.0, label="two")]}
    (shared,) = theory_lines([ax], same)
    assert shared.get_label() == "one (the paper's $t_c$) and two: 2"


def test_bands_where_xi_eq_is_undefined_are_shaded_unless_a_single_point(runs: dict[int, Run], tmp_path: Path) -> None:
    run = copy_of(runs[2], tmp_path)
    summary = run.summary
    summary["undefined"]["bands"]["xi_eq_drift"] = [[3.0, 1.0], [0.5, 0.5]]
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (left,) = panels(critical_dynamics(run), "correlation length")
    (band,) = (patch for patch in left.patches if patch.get_gid() == "undefined")
    assert (band.get_x(), band.get_width()) in {(1.0, 2.0), (3.0, -2.0)}
    assert "undefined" in str(band.get_label())


def copy_of(run: Run, directory: Path) -> Run:
    (directory / "run.zarr").symlink_to(run.directory / "run.zarr")
    (directory / "summary.json").write_text((run.directory / "summary.json").read_text())
    return Run.open(directory)


def test_the_axis_of_xi_eq_holds_the_convention_free_curve_not_the_divergence() -> None:
    nothing = np.full(3, np.nan)
    assert length_limit(np.array([0.5, 100.0, np.nan]), np.array([0.4, 2.0, 1.0])) == pytest.approx(5.5)
    assert length_limit(np.array([0.5, 3.0]), np.array([0.4, 2.0])) == pytest.approx(3.3)
    assert length_limit(nothing, nothing) == 1.0


@pytest.mark.parametrize("d", CONFIGS)
def test_dispersion_agrees_with_the_measured_modes(runs: dict[int, Run], d: int) -> None:
    data = runs[d].arrays
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
    edge = median(runs[2].arrays["growing_edge"].to_numpy())
    np.testing.assert_allclose(line(maps[0], "growing_edge", "--").get_ydata(), edge)
    np.testing.assert_allclose(line(maps[1], "growing_edge", "--").get_ydata(), edge / math.sqrt(2))


def test_snapshots_show_the_first_trajectory(runs: dict[int, Run]) -> None:
    for d in (2, 3):
        states = runs[d].arrays["snapshots"].isel(trajectory=0).to_numpy()
        images = [ax.images[0].get_array() for ax in snapshots(runs[d]).axes if ax.images and "alpha" in ax.get_title()]
        for image, state in zip(images, states if d == 2 else states[:, 6], strict=True):
            np.testing.assert_allclose(image, state, rtol=1e-6)
    states = runs[1].arrays["snapshots"].isel(trajectory=0).to_numpy()
    curves = [ax.lines[-1].get_ydata() for ax in snapshots(runs[1]).axes if ax.lines]
    np.testing.assert_allclose(curves, states, rtol=1e-6)


def test_exploding_states_are_shown_at_unit_variance(one: Run) -> None:
    data = one.arrays
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
    data = runs[2].arrays
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
    (left,) = panels(figure, "correlation length")
    assert left.get_xlim() == (80.0, 0.002)
    assert "sigma" in left.get_xlabel()


def test_curves_that_are_undefined_everywhere(runs: dict[int, Run], tmp_path: Path) -> None:
    run = copy_of(runs[2], tmp_path)
    data = run.arrays
    for name in ("xi_sign", "growth", "xi_eq_drift", "xi_eq_gain", "growing_edge", "eigenvalue"):
        data[name] = data[name] * np.nan
    summary = run.summary
    summary["undefined"]["bands"]["xi_eq_drift"] = [[10.0, 1e-3]]
    for entry in summary["quantities"]:
        entry.update(dict.fromkeys(("value", "stderr", "low", "high")))
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    for figure in (critical_dynamics(run), dispersion(run)):
        figure.draw_without_rendering()
