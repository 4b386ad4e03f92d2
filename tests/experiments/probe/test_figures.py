"""The figures of a probe: what is drawn is what is stored, by the rules that every figure keeps to."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.axes._secondary_axes import SecondaryAxis
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import imread

from helpers.figures import (
    changed,
    check_rules,
    legend_entries,
    line,
    nothing_is_clipped,
    panel,
    replaced,
    vertical_lines,
)
from softmode.critical import fit_dispersion, growth_rate
from softmode.estimate import Estimate, median
from softmode.experiments.probe.figures import FIGURES
from softmode.experiments.probe.gains import HIGHEST, bound_note, gains, mean_excess
from softmode.experiments.probe.response_kernel import ERRORS, response_kernel
from softmode.experiments.probe.states import samples
from softmode.plots.caption import LINE, caption
from softmode.plots.critical_details import critical_details
from softmode.plots.critical_dynamics import critical_dynamics
from softmode.plots.noise_axis import TICK_DISTANCE, noise_ticks
from softmode.process import VP
from softmode.runs import draw
from softmode.runs.run import Run


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spend no time on resolution and layout where a test looks at neither."""
    monkeypatch.setattr(draw, "LAYOUTS", 0)
    monkeypatch.setitem(draw.STYLE, "figure.dpi", 40)


def render(figure: Figure) -> Figure:
    """Draw a figure without pixels and layout."""
    figure.set_layout_engine("none")
    figure.draw_without_rendering()
    return figure


@pytest.mark.usefixtures("coarse")
def test_every_figure_is_drawn_and_drawn_again_is_the_same(runs: dict[str, Run]) -> None:
    paths = runs["reverse"].draw()
    assert [path.name for path in paths] == [f"{name}.{kind}" for name in FIGURES for kind in ("png", "pdf")]
    assert all(imread(path)[..., :3].std() > 0.05 for path in paths if path.suffix == ".png")
    first = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in runs["reverse"].draw()] == first


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_keeps_to_the_rules(runs: dict[str, Run], name: str) -> None:
    for kind in ("reverse", "colour"):
        check_rules(runs[kind].figure(name))


@pytest.mark.parametrize("name", ["line", "cube"])
def test_figures_are_drawn_in_other_dimensions_and_without_a_null(runs: dict[str, Run], name: str) -> None:
    for figure in FIGURES:
        render(runs[name].figure(figure))


def test_noised_data_have_no_samples(runs: dict[str, Run]) -> None:
    assert samples(runs["forward"]) is None


@pytest.mark.parametrize("name", ["critical_dynamics", "critical_dynamics_details", "gains", "states"])
def test_nothing_is_clipped_at_the_edge_of_the_page(
    runs: dict[str, Run], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draw, "LAYOUTS", 2)
    nothing_is_clipped(runs["reverse"].figure(name))


def test_the_caption_names_model_process_states_and_seed(runs: dict[str, Run]) -> None:
    assert caption(runs["reverse"]) == (
        "model reverse, process VP (its own), states: sampled, 3 trajectories, gains: multiplexed, seed 0"
    )
    assert "states: noised data, 4 trajectories" in caption(runs["forward"])
    assert "process VE (its own), states: sampled, 1 trajectory," in caption(runs["colour"])


def test_a_long_caption_is_broken(runs: dict[str, Run]) -> None:
    run = changed(runs["reverse"], runs["reverse"].dataset)
    run.identity["model"]["name"] = "a" * 100
    assert max(map(len, caption(run).split("\n"))) <= LINE


def test_curves_are_the_runs_arrays_and_the_nulls(runs: dict[str, Run]) -> None:
    data, figure = runs["reverse"].dataset, critical_dynamics(runs["reverse"])
    times = data["time"].to_numpy()
    length = fit_dispersion(1 - data["null_gain"].to_numpy(), data["k"].to_numpy()).length
    nulls = {
        "xi_sign": median(data["null_xi_x"].to_numpy()),
        "growth": median(growth_rate(data["null_xi_x"].to_numpy(), times)),
        "xi_eq_gain": length,
    }
    for text, name in (("of sign", "xi_sign"), ("growth", "growth"), ("equilibrium", "xi_eq_gain")):
        ax, curves = panel(figure, text), data[name].to_numpy()
        np.testing.assert_array_equal(line(ax, "median").get_ydata(), median(curves))
        np.testing.assert_array_equal(line(ax, "null").get_ydata(), nulls[name])
        np.testing.assert_array_equal([c.get_ydata() for c in ax.lines if c.get_gid() == "trajectory"], curves)


def test_conventions_and_the_nulls_eigenvalues_are_in_the_details(runs: dict[str, Run]) -> None:
    data, figure = runs["reverse"].dataset, critical_details(runs["reverse"])
    for name in ("xi_eq_drift", "xi_eq_gain", "xi_eq_free"):
        np.testing.assert_array_equal(
            line(panel(figure, "equilibrium"), name).get_ydata(), median(data[name].to_numpy())
        )
    null = abs(data["null_eigenvalue"].to_numpy().mean(-1))
    for n in (0, 2, 3):
        np.testing.assert_array_equal(line(panel(figure, "eigenvalue"), f"null_{n}").get_ydata(), null[:, n])


def test_without_a_null_nothing_of_it_is_drawn(runs: dict[str, Run]) -> None:
    for figure in (critical_dynamics(runs["line"]), critical_details(runs["line"]), gains(runs["line"])):
        lines = [line for ax in figure.axes for line in ax.lines]
        assert not [line for line in lines if str(line.get_gid()).startswith(("null", "bound", "violation"))]
        assert not [entry for entry in legend_entries(figure) if "null" in entry or "bound" in entry]
    (ax,) = (ax for ax in gains(runs["line"]).axes if ax.lines)
    assert ax.get_ylabel() == "mode gain $G_n$"
    assert "bound" not in gains(runs["line"]).get_suptitle()
    assert line(panel(critical_dynamics(runs["line"]), "second moment"), "median")


def test_sure_times_are_marked_in_their_panel(runs: dict[str, Run]) -> None:
    sure, doubtful = Estimate(2.0, 0.1, 3, 1.9, 2.1), Estimate(0.5, 0.1, 3, 0.4, 0.6, "found rarely")
    run = replaced(runs["reverse"], "xi_eq_gain_peak", xi_eq_gain_peak_1=sure, xi_eq_gain_peak_2=doubtful)
    ax = panel(critical_dynamics(run), "equilibrium")
    assert [(mark.get_gid(), mark.get_xdata()[0]) for mark in vertical_lines(ax)] == [("xi_eq_gain_peak", 2.0)]
    assert "peak 2.0(1)" in [text.get_text() for text in ax.texts]


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
    assert [ax.get_xlabel() for ax in tops] == [r"noise level $\sigma/\alpha$"] * 2
    for ax in tops:
        np.testing.assert_allclose(ax.get_xticks(), times)
    # of a variance-exploding process the bottom axis says it all
    figure = critical_dynamics(runs["colour"])
    assert not top_axes(figure)
    assert "sigma" in panel(figure, "growth").get_xlabel()


@pytest.mark.parametrize("name", ["reverse", "forward"])
def test_gains_are_medians_with_errors_beside_their_bound(runs: dict[str, Run], name: str) -> None:
    data, figure = runs[name].dataset, gains(runs[name])
    above, below = panel(figure, "mode gain"), panel(figure, "bound")
    levels, table = data["noise_level"].to_numpy(), runs[name].results.values["gain"]
    excess = data["gain"].to_numpy() - data["null_gain"].to_numpy()
    for n in range(4):
        curve = line(above, f"gain_{n}")
        np.testing.assert_array_equal(curve.get_xdata(), levels)
        np.testing.assert_allclose(curve.get_ydata(), np.array(table["median"])[:, n].mean(-1))
        np.testing.assert_allclose(line(above, f"bound_{n}").get_ydata(), data["null_gain"].to_numpy()[:, n].mean(-1))
        np.testing.assert_allclose(line(below, f"excess_{n}").get_ydata(), excess[:, :, n].mean((0, -1)), atol=1e-12)
        assert len({str(line(ax, gid).get_color()) for ax, gid in ((above, f"gain_{n}"), (below, f"excess_{n}"))}) == 1
    assert len(above.collections) == len(below.collections) == 4
    assert above.get_xlim()[0] > above.get_xlim()[1]
    error = excess.mean(-1).std(0, ddof=1) / math.sqrt(len(excess))
    np.testing.assert_allclose(mean_excess(runs[name])[1], error)


def test_violations_are_marked_exactly_where_the_results_say(runs: dict[str, Run]) -> None:
    run = runs["forward"]
    levels, check = run.dataset["noise_level"].to_numpy(), run.results.values["bound"]
    assert len(check["violations"]) == 4, "the test needs a model that answers too much at high noise, in every shell"
    figure = run.figure("gains")
    for ax in (panel(figure, "mode gain"), panel(figure, "bound")):
        for band in check["violations"]:
            inside = (levels <= band["sigma_from"]) & (levels >= band["sigma_to"])
            np.testing.assert_array_equal(line(ax, f"violation_{band['shell']}").get_xdata(), levels[inside])
    assert f"{check['above']} of {check['comparisons']} mean gains are above" in figure.get_suptitle()
    assert "above the bound" in legend_entries(figure)
    check_rules(figure)
    none = changed(run, values=dict(run.results.values) | {"bound": dict(check) | {"above": 0, "violations": []}})
    figure = gains(none)
    assert not [line for ax in figure.axes for line in ax.lines if "violation" in str(line.get_gid())]
    assert bound_note(none).startswith("none of ")


def test_sampled_states_are_no_test_of_the_bound(runs: dict[str, Run]) -> None:
    figure = gains(runs["reverse"])
    assert "not checked: sampled states" in figure.get_suptitle()
    assert not [line for ax in figure.axes for line in ax.lines if "violation" in str(line.get_gid())]


def test_noise_levels_beyond_all_data_are_out_of_view(runs: dict[str, Run]) -> None:
    data = runs["reverse"].dataset.copy()
    data["noise_level"] = data["noise_level"] * 1e3
    run = changed(runs["reverse"], data)
    assert data["noise_level"].to_numpy()[0] > HIGHEST > data["noise_level"].to_numpy()[-1]
    assert panel(gains(run), "mode gain").get_xlim()[0] < 2 * HIGHEST


def test_kernels_are_means_over_trajectories_with_errors(runs: dict[str, Run]) -> None:
    data, figure = runs["reverse"].dataset, response_kernel(runs["reverse"])
    kernel, ax = data["kernel"].to_numpy().astype(float), panel(figure, "response")
    assert len(ax.containers) == 3
    for place in range(3):
        (curve,) = (c.lines[0] for c in ax.containers if c.lines[0].get_gid() == f"kernel_{place}")
        np.testing.assert_array_equal(curve.get_xdata(), np.arange(kernel.shape[-1]))
        np.testing.assert_allclose(curve.get_ydata(), kernel[:, place].mean(0))
    error = kernel[:, 0].std(0, ddof=1) / math.sqrt(3)
    segments = ax.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([s[1, 1] - s[0, 1] for s in segments], 2 * error, rtol=1e-6)


def test_the_locality_table_is_drawn_with_its_intervals(runs: dict[str, Run]) -> None:
    figure, rows = response_kernel(runs["reverse"]), runs["reverse"].results.values["locality"]
    homes = {"omega": "Omega", "radius": "radius", **dict.fromkeys(ERRORS, "relative error")}
    for name, home in homes.items():
        ax = panel(figure, home)
        values = [row[name].value for row in rows]
        np.testing.assert_array_equal(line(ax, name).get_ydata(), values)
        np.testing.assert_allclose(line(ax, name).get_xdata(), [row["sigma"] for row in rows], rtol=0.06)
    ax = panel(figure, "relative error")
    bars = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert len(bars) == len(ERRORS)
    for name, bar in zip(ERRORS, bars, strict=True):
        ends = [(row[name].low, row[name].high) for row in rows]
        drawn = {float(segment[0, 0]): segment[:, 1] for segment in bar.get_segments() if len(segment)}
        np.testing.assert_allclose(list(drawn.values()), [pair for pair in ends if not math.isnan(sum(pair))])


def test_one_trajectory_has_no_error_bars(runs: dict[str, Run]) -> None:
    figure = response_kernel(runs["colour"])
    assert all(not c.lines[2] for ax in figure.axes for c in ax.containers)
    assert "standard error" not in panel(figure, "response").get_title(loc="left")
    assert not panel(gains(runs["colour"]), "mode gain").collections


def test_curves_that_are_undefined_everywhere(runs: dict[str, Run]) -> None:
    results, missing = runs["reverse"].results, Estimate.missing(3, "nowhere defined")
    rows = [dict(row) | dict.fromkeys(("omega", "radius", *ERRORS), missing) for row in results.values["locality"]]
    data = runs["reverse"].dataset.copy()
    for name in ("xi_sign", "null_xi_x", "growth", "xi_eq_drift", "xi_eq_gain", "xi_eq_free", "eigenvalue", "kernel"):
        data[name] = data[name] * np.nan
    quantities = tuple(replace(q, estimate=missing) for q in results.quantities)
    run = changed(runs["reverse"], data, quantities=quantities, values=dict(results.values) | {"locality": rows})
    for name in ("critical_dynamics", "critical_dynamics_details", "gains", "response_kernel", "states"):
        render(run.figure(name))
