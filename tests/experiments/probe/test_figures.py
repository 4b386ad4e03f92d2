import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import matplotlib.style
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.axes._secondary_axes import SecondaryAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.lines import Line2D
from matplotlib.patches import ConnectionPatch

from softmode import critical, figures
from softmode.config import ProbeConfig
from softmode.critical import fit_dispersion, growth_rate
from softmode.data import Images
from softmode.denoiser import Denoiser
from softmode.estimate import bootstrap, median
from softmode.exact.empirical import EmpiricalDenoiser
from softmode.exact.patch import TwoStatePatch
from softmode.experiments import probe, probe_summary
from softmode.figures import draw
from softmode.figures.critical_dynamics import caption, critical_dynamics
from softmode.figures.curve_lines import OPAQUE, trajectories_and_median
from softmode.figures.fields import visible
from softmode.figures.gains import HIGHEST, gains, mean_excess
from softmode.figures.noise_axis import TICK_DISTANCE, noise_ticks
from softmode.figures.probe_states import SAMPLES_SHOWN, critical_time, samples, states
from softmode.figures.response_kernel import ERRORS, response_kernel
from softmode.lattice import Lattice, ReceptiveField
from softmode.model import Model
from softmode.process import VE, VP
from softmode.store import Run

TINY = {"t_max": 5.0, "t_min": 0.02, "steps": 96, "measure_every": 8, "shells": 3, "snapshots": (4.0, 1.0, 0.1)}
CONFIGS = {
    "reverse": ProbeConfig("exact", **TINY, trajectories=3),
    "forward": ProbeConfig("exact", **TINY, trajectories=4, states="forward"),
    "line": ProbeConfig("exact", **TINY, trajectories=1),
    "cube": ProbeConfig("exact", **TINY, trajectories=1),
    "colour": ProbeConfig("exact", **TINY | {"t_max": 20.0}, trajectories=1),
}
SHAPES = {"line": (2, 16), "cube": (1, 7, 7, 7), "colour": (3, 8, 8)}
NAMES = ("critical_dynamics", "gains", "response_kernel", "states", "samples")


def fields(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).sign()


def model(name: str) -> Model:
    """Return an exact model: with the null model on a square, without it in other dimensions and colour."""
    if name in SHAPES:
        exact: Denoiser = EmpiricalDenoiser(fields(5, *SHAPES[name]))
        return Model(name, VE() if name == "colour" else VP(), SHAPES[name], lambda _label: exact)
    spectrum = 3 / (0.4 + Lattice((8, 8)).wave_vectors().square().sum(-1))
    if name == "reverse":
        exact = TwoStatePatch(ReceptiveField.box(3))
    else:
        # answers more than any exact score at high noise, and less at low
        def exact(x: torch.Tensor, _sigma: torch.Tensor | float) -> torch.Tensor:
            return 0.5 * x

    pixels = (255 * (fields(9, 1, 8, 8) > 0)).to(torch.uint8)
    images = Images(pixels, torch.zeros(9).long(), "binary")
    return Model(
        name, VP(), (1, 8, 8), lambda _label: exact, binary=True, images=images,
        spectrum=spectrum[None].float(), mean=torch.zeros(1, 1, 8, 8),
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        # figures show intervals, whatever they are
        for module in (critical, probe_summary):
            patch.setattr(module, "bootstrap", partial(bootstrap, resamples=30))
        return {name: probe.run(config, folder / name, model(name)) for name, config in CONFIGS.items()}


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spend no time on resolution and layout where a test looks at neither."""
    monkeypatch.setattr(figures, "LAYOUTS", 0)
    monkeypatch.setitem(figures.STYLE, "figure.dpi", 40)


def with_summary(run: Run, directory: Path, change: Callable[[dict], object]) -> Run:
    """Return the run with another summary."""
    directory.mkdir(exist_ok=True)
    (directory / "run.zarr").symlink_to(run.directory / "run.zarr")
    summary = run.summary
    change(summary)
    (directory / "summary.json").write_text(json.dumps(summary))
    return Run.open(directory)


def marked(ax: Axes, gid: str) -> Line2D:
    (found,) = (line for line in ax.lines if line.get_gid() == gid)
    return found


def labelled(ax: Axes, text: str) -> Line2D:
    (found,) = (line for line in ax.lines if text in str(line.get_label()))
    return found


def panel(figure: Figure, label: str) -> Axes:
    (found,) = (ax for ax in figure.axes if label in ax.get_ylabel())
    return found


def legend(figure: Figure) -> str:
    return "\n".join(text.get_text() for found in figure.legends for text in found.get_texts())


def render(figure: Figure) -> Figure:
    """Draw a figure without pixels and layout."""
    figure.set_layout_engine("none")
    figure.draw_without_rendering()
    return figure


@pytest.mark.usefixtures("coarse")
def test_every_figure_of_a_probe_is_drawn_and_drawn_again_is_the_same(
    runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dict(matplotlib.rcParams)
    paths = draw(runs["reverse"])
    assert [path.name for path in paths] == [f"{name}.{kind}" for name in NAMES for kind in ("png", "pdf")]
    assert all(imread(path)[..., :3].std() > 0.05 for path in paths if path.suffix == ".png")
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before
    first = {path.name: path.read_bytes() for path in paths}
    monkeypatch.setattr(figures, "_functions", lambda _run: {"gains": gains, "states": states})
    with matplotlib.rc_context({"lines.linewidth": 7, "font.size": 30}):
        again = {path.name: path.read_bytes() for path in draw(Run.open(runs["reverse"].directory))}
    assert len(again) == 4
    assert again.items() <= first.items()


@pytest.mark.parametrize("name", ["line", "cube", "colour"])
def test_every_figure_is_drawn_in_other_dimensions_and_without_a_null(runs: dict[str, Run], name: str) -> None:
    drawn = figures._functions(runs[name])
    assert tuple(drawn) == NAMES
    for figure in NAMES if name == "colour" else ("response_kernel", "states", "samples"):
        render(drawn[figure](runs[name]))


def test_clones_have_a_figure_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "run.zarr").mkdir()
    identity = {"attributes": {"softmode": {"experiment": "clones"}}}
    (tmp_path / "run.zarr" / "zarr.json").write_text(json.dumps(identity))
    assert tuple(figures._functions(Run.open(tmp_path))) == ("clones",)


def test_many_trajectories_are_fainter() -> None:
    ax = Figure().add_subplot()
    for count in (4, 40):
        trajectories_and_median(ax, np.arange(3.0), np.zeros((count, 3)), "", "black", "blue")
    assert [line.get_alpha() for line in (ax.lines[0], ax.lines[-2])] == [0.3, 0.3 * OPAQUE / 40]


def test_noised_data_have_no_samples(runs: dict[str, Run]) -> None:
    assert tuple(figures._functions(runs["forward"])) == NAMES[:-1]


@pytest.mark.parametrize("figure", [critical_dynamics, gains, states])
def test_nothing_is_clipped_at_the_edge_of_the_page(
    runs: dict[str, Run], figure: Callable[[Run], Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "LAYOUTS", 2)
    with matplotlib.style.context(["default", figures.STYLE]):
        drawn = figure(runs["reverse"])
        page = drawn.bbox_inches
        figures._settle(drawn)
        inside = drawn.get_tightbbox(FigureCanvasAgg(drawn).get_renderer())
    # fewer layouts than in use are off by a hundredth of an inch
    assert page.x0 - 0.01 <= inside.x0 < inside.x1 <= page.x1 + 0.01
    assert page.y0 - 0.01 <= inside.y0 < inside.y1 <= page.y1 + 0.01


def test_the_caption_names_model_process_states_and_seed(runs: dict[str, Run]) -> None:
    assert caption(runs["reverse"]) == (
        "model reverse, process VP (its own), states: sampled, 3 trajectories, gains: multiplexed, seed 0"
    )
    assert "states: noised data, 4 trajectories" in caption(runs["forward"])
    assert "process VE (its own), states: sampled, 1 trajectory," in caption(runs["colour"])


def test_lengths_are_the_runs_arrays_and_the_nulls(runs: dict[str, Run]) -> None:
    data, figure = runs["reverse"].arrays, critical_dynamics(runs["reverse"])
    times = data["time"].to_numpy()
    left, twin = panel(figure, "correlation length"), panel(figure, "equilibrium")
    for ax, text, name in (
        (left, "of sign", "xi_sign"),
        (twin, "of the drift", "xi_eq_drift"),
        (twin, "from $1-G_n$, convention-free", "xi_eq_gain"),
        (twin, "free intercept", "xi_eq_free"),
        (left, "null", "null_xi_x"),
    ):
        curves = data[name].to_numpy()
        line = labelled(ax, text)
        np.testing.assert_array_equal(line.get_xdata(), times)
        np.testing.assert_array_equal(line.get_ydata(), median(curves))
        thin = [line for line in ax.lines if line.get_alpha() == 0.3]
        shown = [any(np.array_equal(line.get_ydata(), curve, equal_nan=True) for line in thin) for curve in curves]
        assert shown == [name != "null_xi_x"] * 3
    length = fit_dispersion(1 - data["null_gain"].to_numpy(), data["k"].to_numpy()).length
    np.testing.assert_array_equal(labelled(twin, "null").get_ydata(), length)
    assert twin.get_ylim()[1] > length.max()
    growth = median(growth_rate(data["null_xi_x"].to_numpy(), times))
    np.testing.assert_array_equal(labelled(panel(figure, "growth"), "null").get_ydata(), growth)


def test_null_eigenvalues_are_drawn_by_size(runs: dict[str, Run]) -> None:
    data, ax = runs["reverse"].arrays, panel(critical_dynamics(runs["reverse"]), "eigenvalues")
    values = abs(data["null_eigenvalue"].to_numpy().mean(-1))
    for n in (0, 2, 3):
        np.testing.assert_array_equal(marked(ax, f"null_{n}").get_ydata(), values[:, n])
    order = sorted((0, 2, 3), key=lambda n: -values[-1, n])
    (text,) = (t.get_text() for t in ax.get_legend().get_texts() if "null" in t.get_text())
    assert f"$n={', '.join(map(str, order))}$" in text


def test_without_a_null_nothing_of_it_is_drawn(runs: dict[str, Run]) -> None:
    for figure in (critical_dynamics(runs["line"]), gains(runs["line"])):
        lines = [line for ax in figure.axes for line in ax.lines]
        assert not [line for line in lines if str(line.get_gid()).startswith(("null", "bound", "violation"))]
        assert "bound" not in legend(figure)
    (ax,) = (ax for ax in gains(runs["line"]).axes if ax.lines)
    assert "second moment" in str(labelled(panel(critical_dynamics(runs["line"]), "correlation"), "median").get_label())
    assert ax.get_ylabel() == "mode gain $G_n$"


def test_measured_times_are_marked_in_their_panel(runs: dict[str, Run]) -> None:
    figure, quantities = critical_dynamics(runs["reverse"]), runs["reverse"].summary["quantities"]
    homes = dict.fromkeys(("xi_eq_drift_peak", "xi_eq_gain_peak", "xi_eq_free_peak"), "correlation length")
    homes |= {"growth_peak": "growth", "lambda_0_zero": "eigenvalues"}
    for kind, home in homes.items():
        values = [q["value"] for q in quantities if q["name"].startswith(f"{kind}_") and q["value"] is not None]
        found = [line.get_xdata()[0] for line in panel(figure, home).lines if line.get_gid() == kind]
        assert found == values
    assert any(q["value"] for q in quantities if q["name"].startswith("xi_eq_gain_peak"))


def top_axes(figure: Figure) -> list[SecondaryAxis]:
    """Return the second axes on top of panels; the images of a strip are children too."""
    return [child for ax in figure.axes for child in ax.child_axes if isinstance(child, SecondaryAxis)]


def test_the_top_axis_shows_noise_levels_where_they_are(runs: dict[str, Run]) -> None:
    times, powers = noise_ticks(runs["reverse"])
    # log sigma is interpolated on the measured grid
    np.testing.assert_allclose(VP().noise_level(torch.tensor(times)), 10.0 ** np.array(powers), rtol=0.06)
    assert {0, 1} <= set(powers) <= {-1, 0, 1}
    assert min(-np.diff(np.log(times[::-1]))) >= TICK_DISTANCE * math.log(5.0 / 0.02)
    figure = critical_dynamics(runs["reverse"])
    tops = top_axes(figure)
    assert [ax.get_xlabel() for ax in tops] == [r"noise level $\sigma/\alpha$"] * 3
    for ax in tops:
        np.testing.assert_allclose(ax.get_xticks(), times)
    # of a variance-exploding process the bottom axis says it all
    figure = critical_dynamics(runs["colour"])
    assert not top_axes(figure)
    assert "sigma" in panel(figure, "correlation length").get_xlabel()


@pytest.mark.parametrize("name", ["reverse", "forward"])
def test_gains_are_medians_with_errors_beside_their_bound(runs: dict[str, Run], name: str) -> None:
    data, figure = runs[name].arrays, gains(runs[name])
    above, below = panel(figure, "mode gain"), panel(figure, "bound")
    levels, table = data["noise_level"].to_numpy(), runs[name].summary["gain"]
    excess = data["gain"].to_numpy() - data["null_gain"].to_numpy()
    for n in range(4):
        curve = marked(above, f"gain_{n}")
        np.testing.assert_array_equal(curve.get_xdata(), levels)
        np.testing.assert_allclose(curve.get_ydata(), np.array(table["median"])[:, n].mean(-1))
        np.testing.assert_allclose(marked(above, f"bound_{n}").get_ydata(), data["null_gain"].to_numpy()[:, n].mean(-1))
        np.testing.assert_allclose(marked(below, f"excess_{n}").get_ydata(), excess[:, :, n].mean((0, -1)), atol=1e-12)
        assert (
            len({str(marked(ax, gid).get_color()) for ax, gid in ((above, f"gain_{n}"), (below, f"excess_{n}"))}) == 1
        )
    assert len(above.collections) == len(below.collections) == 4
    assert above.get_xlim()[0] > above.get_xlim()[1]
    error = excess.mean(-1).std(0, ddof=1) / math.sqrt(len(excess))
    np.testing.assert_allclose(mean_excess(runs[name])[1], error)


def test_violations_are_marked_exactly_where_the_summary_says(runs: dict[str, Run], tmp_path: Path) -> None:
    run = runs["forward"]
    levels, found = run.arrays["noise_level"].to_numpy(), run.summary["bound"]["violations"]
    assert len(found) == 4, "the test needs a model that answers too much at high noise, in every shell"
    figure = gains(run)
    for ax in (panel(figure, "mode gain"), panel(figure, "bound")):
        for band in found:
            inside = (levels <= band["sigma_from"]) & (levels >= band["sigma_to"])
            np.testing.assert_array_equal(marked(ax, f"violation_{band['shell']}").get_xdata(), levels[inside])
    text = legend(figure)
    assert "by more than 4 standard errors" in text
    assert text.endswith("… and 1 more")
    assert f"at most by {found[0]['excess']:.2g}" in text
    none = with_summary(run, tmp_path, lambda summary: summary["bound"].update(violations=[]))
    figure = gains(none)
    assert not [line for ax in figure.axes for line in ax.lines if "violation" in str(line.get_gid())]
    assert "no gain is above the bound" in legend(figure)


def test_sampled_states_are_no_test_of_the_bound(runs: dict[str, Run]) -> None:
    figure = gains(runs["reverse"])
    assert "not checked: sampled states" in legend(figure)
    assert not [line for ax in figure.axes for line in ax.lines if "violation" in str(line.get_gid())]


def test_noise_levels_beyond_all_data_are_out_of_view(runs: dict[str, Run]) -> None:
    run = Run.open(runs["reverse"].directory)
    data = run.arrays
    data["noise_level"] = data["noise_level"] * 1e3
    assert data["noise_level"].to_numpy()[0] > HIGHEST > data["noise_level"].to_numpy()[-1]
    assert panel(gains(run), "mode gain").get_xlim()[0] < 2 * HIGHEST


def test_kernels_are_means_over_trajectories_with_errors(runs: dict[str, Run]) -> None:
    data, figure = runs["reverse"].arrays, response_kernel(runs["reverse"])
    kernel, ax = data["kernel"].to_numpy().astype(float), panel(figure, "response")
    bars = {c.get_label(): c for c in ax.containers}
    assert len(bars) == 3
    for place in range(3):
        (curve,) = (c.lines[0] for c in ax.containers if c.lines[0].get_gid() == f"kernel_{place}")
        np.testing.assert_array_equal(curve.get_xdata(), np.arange(kernel.shape[-1]))
        np.testing.assert_allclose(curve.get_ydata(), kernel[:, place].mean(0))
    error = kernel[:, 0].std(0, ddof=1) / math.sqrt(3)
    segments = ax.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([s[1, 1] - s[0, 1] for s in segments], 2 * error, rtol=1e-6)


def test_the_locality_table_is_drawn_with_its_intervals(runs: dict[str, Run]) -> None:
    figure, rows = response_kernel(runs["reverse"]), runs["reverse"].summary["locality"]
    homes = {"omega": "receptive field", "radius": "radius", **dict.fromkeys(ERRORS, "relative error")}
    for name, home in homes.items():
        ax = panel(figure, home)
        values = np.array([row[name]["value"] for row in rows], dtype=float)
        np.testing.assert_array_equal(marked(ax, name).get_ydata(), values)
        np.testing.assert_allclose(marked(ax, name).get_xdata(), [row["sigma"] for row in rows], rtol=0.06)
    ax = panel(figure, "relative error")
    bars = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert len(bars) == len(ERRORS)
    for name, bar in zip(ERRORS, bars, strict=True):
        ends = [[row[name][end] for end in ("low", "high")] for row in rows]
        drawn = {float(segment[0, 0]): segment[:, 1] for segment in bar.get_segments() if len(segment)}
        np.testing.assert_allclose(list(drawn.values()), [pair for pair in ends if None not in pair])


def test_one_trajectory_has_no_error_bars(runs: dict[str, Run]) -> None:
    figure = response_kernel(runs["colour"])
    assert all(not c.lines[2] for ax in figure.axes for c in ax.containers)
    assert "standard error" not in panel(figure, "response").get_title()
    assert not panel(gains(runs["colour"]), "mode gain").collections


def test_states_stand_above_their_denoised_states(runs: dict[str, Run]) -> None:
    data, figure = runs["reverse"].arrays, states(runs["reverse"])
    images = [ax.images[0] for ax in figure.axes if ax.images]
    shown = np.concatenate([data["snapshots"].to_numpy()[0, :, 0], data["denoised"].to_numpy()[0, :, 0]])
    assert len(images) == len(shown) == 6
    sums = [[float(np.sum(field)) for field in group] for group in ([i.get_array() for i in images], shown)]
    np.testing.assert_allclose(*map(sorted, sums), rtol=1e-4)
    titles = [ax.get_title() for ax in figure.axes if "alpha" in ax.get_title()]
    assert len(titles) == 3
    assert f"{data['snapshot_level'].to_numpy()[0]:.3g}" in titles[0]
    above, below = (next(ax for ax in figure.axes if label in ax.get_ylabel()) for label in ("state", "$D(x)$"))
    np.testing.assert_allclose(above.images[0].get_array(), shown[0], rtol=1e-6)
    np.testing.assert_array_equal(below.images[0].get_array(), shown[3])
    assert {image.get_clim() for image in images} == {(-1.0, 1.0)}
    figure.draw_without_rendering()
    assert above.get_position().y0 > below.get_position().y1


def bars(figure: Figure) -> list[ConnectionPatch]:
    return [artist for artist in figure.artists if artist.get_gid() == "critical_time"]


def test_the_critical_time_is_a_bar_between_its_columns(runs: dict[str, Run], tmp_path: Path) -> None:
    def peaks(values: dict[str, float], reason: str = "") -> Callable[[dict], None]:
        def change(summary: dict) -> None:
            kept = [q for q in summary["quantities"] if "peak" not in q["name"]]
            entry = {"stderr": 0.1, "low": 0.1, "high": 4.0, "samples": 3, "reason": reason, "label": ""}
            summary["quantities"] = kept + [entry | {"name": name, "value": v} for name, v in values.items()]

        return change

    times = runs["reverse"].arrays["snapshot"].to_numpy()
    free = peaks(
        {"xi_eq_gain_peak_1": 3.0, "xi_eq_free_peak_1": 0.5, "xi_eq_free_peak_2": 0.3, "xi_eq_free_peak_3": 9.0}
    )
    run = with_summary(runs["reverse"], tmp_path / "free", free)
    figure = states(run)
    figure.draw_without_rendering()
    (bar,) = bars(figure)
    assert times[1] > 0.5 > times[2]
    left, right = (
        ax.get_window_extent() for ax in figure.axes if "alpha" in ax.get_title() and ax is not figure.axes[0]
    )
    (x, top), (_, bottom) = (bar._get_xy(xy, c) for xy, c in ((bar.xy1, bar.coords1), (bar.xy2, bar.coords2)))
    assert left.x1 < x < right.x0
    assert top == pytest.approx(right.y1)
    assert bottom < right.y0
    assert "free intercept, first of 2: $t$ = 0.5(1)" in legend(figure)
    only = with_summary(runs["reverse"], tmp_path / "gain", peaks({"xi_eq_gain_peak_1": 3.0, "xi_eq_free_peak_1": 9.0}))
    assert "convention-free: $t$ = 3.0(1)" in legend(states(only))
    doubtful = with_summary(runs["reverse"], tmp_path / "doubtful", peaks({"xi_eq_free_peak_1": 0.5}, "found rarely"))
    assert "free intercept: $t$ = 0.5(1)?" in legend(states(doubtful))
    with_sure = peaks({"xi_eq_drift_peak_1": 2.0})
    with_doubt = peaks({"xi_eq_free_peak_1": 0.5}, "found rarely")

    def both(summary: dict) -> None:
        with_doubt(summary)
        doubted = [q for q in summary["quantities"] if q["name"] == "xi_eq_free_peak_1"]
        with_sure(summary)
        summary["quantities"] += doubted

    sure = with_summary(runs["reverse"], tmp_path / "sure", both)
    assert "drift: $t$ = 2.0(1)" in legend(states(sure))
    none = with_summary(runs["reverse"], tmp_path / "none", peaks({}))
    assert critical_time(none) is None
    assert bars(states(none)) == states(none).legends == []


def test_fields_are_drawn_as_curves_slices_and_colours(runs: dict[str, Run]) -> None:
    curve = next(ax for ax in states(runs["line"]).axes if ax.get_ylabel() == "$D(x)$").lines[-1].get_ydata()
    np.testing.assert_array_equal(curve, runs["line"].arrays["denoised"].to_numpy()[0, 0, 0])
    cube = runs["cube"].arrays["denoised"].to_numpy()[:, -1, 0, 3]
    shown = [ax.images[0].get_array() for ax in samples(runs["cube"]).axes if ax.images]
    np.testing.assert_array_equal(shown, cube)
    assert "central slice" in samples(runs["cube"]).get_suptitle()
    assert "channel 0 of 2" in states(runs["line"]).get_suptitle()
    colour = runs["colour"].arrays["denoised"].to_numpy()[0, -1]
    (image,) = (ax.images[0].get_array() for ax in samples(runs["colour"]).axes)
    np.testing.assert_allclose(image, (np.clip(np.moveaxis(colour, 0, -1), -1, 1) + 1) / 2)
    assert visible(np.zeros((4, 8, 8))).shape == (8, 8)


def test_exploding_states_are_shown_at_unit_variance(runs: dict[str, Run]) -> None:
    data = runs["colour"].arrays
    sigma, x = data["snapshot"].to_numpy()[0], data["snapshots"].to_numpy()[0, 0]
    image = panel(states(runs["colour"]), "state").images[0].get_array()
    np.testing.assert_allclose(image, visible(x / math.hypot(1, sigma)), atol=1e-6)


def test_many_samples_and_snapshots_are_broken_into_rows(runs: dict[str, Run]) -> None:
    run = Run.open(runs["reverse"].directory)
    many = run.arrays.isel(trajectory=[0, 1, 2] * 6, snapshot=[0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    vars(run)["arrays"] = many
    figure = samples(run)
    assert len([ax for ax in figure.axes if ax.images]) == SAMPLES_SHOWN
    assert "16 of 18 samples" in figure.get_suptitle()
    assert f"σ/α = {many['snapshot_level'].to_numpy()[-1]:.3g}" in figure.get_suptitle()
    strips = [ax for ax in states(run).axes if ax.images]
    assert len(strips) == 24
    assert {ax.get_subplotspec().get_gridspec().get_geometry() for ax in strips} == {(4, 6)}


def test_curves_that_are_undefined_everywhere(runs: dict[str, Run], tmp_path: Path) -> None:
    def nothing(summary: dict) -> None:
        for entry in summary["quantities"]:
            entry.update(dict.fromkeys(("value", "stderr", "low", "high")))
        for row in summary["locality"]:
            for name in ("omega", "radius", *ERRORS):
                row[name].update(dict.fromkeys(("value", "stderr", "low", "high")))

    run = with_summary(runs["reverse"], tmp_path, nothing)
    data = run.arrays
    for name in ("xi_sign", "null_xi_x", "growth", "xi_eq_drift", "xi_eq_gain", "xi_eq_free", "eigenvalue", "kernel"):
        data[name] = data[name] * np.nan
    for figure in (critical_dynamics(run), gains(run), response_kernel(run), states(run)):
        render(figure)
