"""The panel of correlation lengths: of the states, and at equilibrium in every convention, beside the null model's."""

from collections.abc import Mapping

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from softmode.critical import fit_dispersion
from softmode.estimate import Array, median
from softmode.plots.curve_lines import trajectories_and_median
from softmode.plots.null_lines import null_correlation_lines, null_equilibrium_lines, null_length
from softmode.runs.run import Run

BLUE, DRIFT, GAIN, FREE = "tab:blue", "#c00000", "#f08000", "tab:green"
# share of the free-intercept curve that is no divergence
FREE_SHARE = 0.9
# name of xi_eq's array -> its label, colour and line
LENGTHS = {
    "xi_eq_drift": (r"$\xi_{\mathrm{eq}}$ from $\lambda_n$ of the drift (right axis)", DRIFT, "--"),
    "xi_eq_gain": (r"$\xi_{\mathrm{eq}}$ from $1-G_n$, convention-free (right axis)", GAIN, "-."),
    "xi_eq_free": (r"$\xi_{\mathrm{eq}}$ from $1-G_{n\geq 1}$, free intercept (right axis)", FREE, ":"),
}
CORRELATIONS = {"xi_sign": r"$\xi_x$ of sign$(x)$, median", "xi_moment": r"$\xi_x$, second moment of $x$, median"}


def is_probe(run: Run) -> bool:
    """Return whether a run probed a model rather than sampled a patch model."""
    return bool(run.identity["experiment"] == "probe")


def drawn_lengths(run: Run) -> list[str]:
    """Return the arrays of xi_eq that are drawn; a patch model's constant mode is exact, so two are enough for it."""
    return [name for name in LENGTHS if is_probe(run) or name != "xi_eq_free"]


def correlation_lengths(ax: Axes, run: Run) -> list[Artist]:
    r"""Draw $\xi_x$ and, on an axis of its own, $\xi_{\mathrm{eq}}$ against time; return the legend's entries.

    Args:
        ax: Where.
        run: A run of a patch model or a probe, whose null model comes along in grey.

    Source: paper Figs. 3, 6 and 7, left; Eqs. 63 and 69.
    """
    data, times = run.dataset, run.dataset["time"].to_numpy()
    bands = _undefined(ax, run)
    name = run.identity["model"]["xi"] if is_probe(run) else "xi_sign"
    xi = data[name].to_numpy()
    line = trajectories_and_median(ax, times, xi, CORRELATIONS[name], "black", BLUE)
    null = null_correlation_lines(ax, run)
    ax.set_ylim(bottom=min(0.0, float(np.nanmin(xi, initial=0.0))))
    ax.set_ylabel(r"correlation length $\xi_x$ (sites)")
    ax.set_title("Correlation lengths")
    twin = ax.twinx()
    curves = {name: data[name].to_numpy() for name in drawn_lengths(run)}
    lines = []
    for name, values in curves.items():
        label, color, linestyle = LENGTHS[name]
        lines.append(trajectories_and_median(twin, times, values, label, color, color, linestyle))
    null += null_equilibrium_lines(twin, run)
    twin.set_ylim(0, _length_limit(run, {name: median(values) for name, values in curves.items()}))
    twin.set_ylabel(r"equilibrium length $\xi_{\mathrm{eq}}$ (sites)", color=DRIFT)
    twin.tick_params(axis="y", colors=DRIFT)
    twin.spines["right"].set_color(DRIFT)
    return [line, *lines, *null, *bands]


def _length_limit(run: Run, medians: Mapping[str, Array]) -> float:
    """Return the top of the xi_eq axis: for a probe, all of the null and of the free intercept but its divergence."""
    drift, gain = medians["xi_eq_drift"], medians["xi_eq_gain"]
    if not is_probe(run):
        return length_limit(drift, gain)
    free, null = medians["xi_eq_free"], null_length(run)
    defined = free[np.isfinite(free)]
    bounded = [gain, np.quantile(defined, FREE_SHARE, keepdims=True) if len(defined) else defined]
    bounded += [] if null is None else [null]
    return length_limit(np.concatenate([drift, free, *bounded]), np.concatenate(bounded))


def length_limit(drift: Array, gain: Array) -> float:
    """Return the top of the xi_eq axis: all of the convention-free curve, and the drift's up to 2.5 times that.

    The drift's curve diverges where its lambda_0 vanishes.
    """
    top = float(np.nanmax(drift, initial=0.0))
    bounded = float(np.nanmax(gain, initial=0.0))
    return 1.1 * (min(top, 2.5 * bounded) if bounded > 0 else top) or 1.0


def _undefined(ax: Axes, run: Run) -> list[Artist]:
    """Shade the bands where the drift's xi_eq is undefined; a single measured point is no band."""
    data = run.dataset
    times = data["time"].to_numpy()
    bands = [band for band in run.results.values["undefined"]["xi_eq_drift"] if band[0] > band[1]]
    spans = [ax.axvspan(*band, color="0.88", linewidth=0, zorder=0, gid="undefined") for band in bands]
    inside = np.any([(times <= first) & (times >= last) for first, last in bands] or [times < 0], axis=0)
    fit = fit_dispersion(data["eigenvalue"].to_numpy(), data["k"].to_numpy())
    bent = ((fit.rate > 0) & (fit.curvature < 0))[:, inside].any()
    why = r"$\lambda_0\leq 0$ or curvature $<0$" if bent else r"$\lambda_0\leq 0$"
    for span in spans[:1]:
        span.set_label(rf"$\xi_{{\mathrm{{eq}}}}$ of the drift undefined ({why})")
    return list(spans[:1])
