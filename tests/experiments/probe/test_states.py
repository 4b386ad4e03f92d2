"""The figures of a probe's states: which are shown, in which part, and where the critical time is."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch

from helpers.figures import changed, legend_entries, panel, replaced
from softmode.estimate import Estimate
from softmode.experiments.probe.states import SAMPLES_SHOWN, critical_time, samples, states
from softmode.plots.fields import visible
from softmode.runs.run import Run


def test_states_stand_above_their_denoised_states(runs: dict[str, Run]) -> None:
    data, figure = runs["reverse"].dataset, states(runs["reverse"])
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


def peak(value: float, reason: str = "") -> Estimate:
    return Estimate(value, 0.1, 3, 0.1, 4.0, reason)


def test_the_critical_time_is_a_bar_between_its_columns(runs: dict[str, Run]) -> None:
    times = runs["reverse"].dataset["snapshot"].to_numpy()
    run = replaced(
        runs["reverse"], "peak",
        xi_eq_gain_peak_1=peak(3.0), xi_eq_free_peak_1=peak(0.5), xi_eq_free_peak_2=peak(0.3),
        xi_eq_free_peak_3=peak(9.0),
    )  # fmt: skip
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
    assert any("free intercept, first of 2: $t$ = 0.5(1)" in entry for entry in legend_entries(figure))


@pytest.mark.parametrize(
    ("peaks", "text"),
    [
        ({"xi_eq_gain_peak_1": peak(3.0), "xi_eq_free_peak_1": peak(9.0)}, "convention-free: $t$ = 3.0(1)"),
        ({"xi_eq_free_peak_1": peak(0.5, "found rarely")}, "free intercept: $t$ = 0.5(1)?"),
        ({"xi_eq_free_peak_1": peak(0.5, "found rarely"), "xi_eq_drift_peak_1": peak(2.0)}, "drift: $t$ = 2.0(1)"),
    ],
    ids=["within the snapshots", "doubtful", "sure before doubtful"],
)
def test_the_peak_to_trust_is_marked(runs: dict[str, Run], peaks: dict[str, Estimate], text: str) -> None:
    assert any(text in entry for entry in legend_entries(states(replaced(runs["reverse"], "peak", **peaks))))


def test_without_a_peak_there_is_no_bar(runs: dict[str, Run]) -> None:
    none = replaced(runs["reverse"], "peak")
    assert critical_time(none) is None
    assert bars(states(none)) == states(none).legends == []


def test_fields_are_drawn_as_curves_slices_and_colours(runs: dict[str, Run]) -> None:
    curve = next(ax for ax in states(runs["line"]).axes if ax.get_ylabel() == "$D(x)$").lines[-1].get_ydata()
    np.testing.assert_array_equal(curve, runs["line"].dataset["denoised"].to_numpy()[0, 0, 0])
    cube = runs["cube"].dataset["denoised"].to_numpy()[:, -1, 0, 3]
    shown = [ax.images[0].get_array() for ax in samples(runs["cube"]).axes if ax.images]
    np.testing.assert_array_equal(shown, cube)
    assert "central slice" in samples(runs["cube"]).get_suptitle()
    assert "channel 0 of 2" in states(runs["line"]).get_suptitle()
    colour = runs["colour"].dataset["denoised"].to_numpy()[0, -1]
    (image,) = (ax.images[0].get_array() for ax in samples(runs["colour"]).axes)
    np.testing.assert_allclose(image, (np.clip(np.moveaxis(colour, 0, -1), -1, 1) + 1) / 2)
    assert visible(np.zeros((4, 8, 8))).shape == (8, 8)


def test_exploding_states_are_shown_at_unit_variance(runs: dict[str, Run]) -> None:
    data = runs["colour"].dataset
    sigma, x = data["snapshot"].to_numpy()[0], data["snapshots"].to_numpy()[0, 0]
    image = panel(states(runs["colour"]), "state").images[0].get_array()
    np.testing.assert_allclose(image, visible(x / math.hypot(1, sigma)), atol=1e-6)


def test_many_samples_and_snapshots_are_broken_into_rows(runs: dict[str, Run]) -> None:
    many = runs["reverse"].dataset.isel(trajectory=[0, 1, 2] * 6, snapshot=[0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    run = changed(runs["reverse"], many)
    figure = samples(run)
    assert len([ax for ax in figure.axes if ax.images]) == SAMPLES_SHOWN
    assert "16 of 18 samples" in figure.get_suptitle()
    assert f"σ/α = {many['snapshot_level'].to_numpy()[-1]:.3g}" in figure.get_suptitle()
    strips = [ax for ax in states(run).axes if ax.images]
    assert len(strips) == 24
    assert {ax.get_subplotspec().get_gridspec().get_geometry() for ax in strips} == {(4, 6)}
