"""The three-panel figure of the critical dynamics (paper Fig. 3), and the time axis with its named critical times."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from softmode.critical import ONSET_SHARE, fit_dispersion
from softmode.estimate import Array, median
from softmode.report import estimate_of
from softmode.store import Run

Summary = Mapping[str, Any]

BLUE, DRIFT, GAIN = "tab:blue", "#c00000", "#f08000"
# values of one kind that a legend spells out
VALUES_NAMED = 3


class Mark(NamedTuple):
    """How a critical time is drawn."""

    color: str
    linestyle: str
    label: str = ""


THEORY = {
    "t_c_score_omega": Mark("tab:green", "-"),
    "t_c_score_omega_eff": Mark("tab:green", ":"),
    "t_c_drift_omega": Mark("tab:purple", "-"),
    "t_c_drift_omega_eff": Mark("tab:purple", ":"),
}
MEASURED = {
    "xi_eq_drift_peak": Mark(DRIFT, "--", r"peak of $\xi_{\mathrm{eq}}$, drift"),
    "xi_eq_gain_peak": Mark(GAIN, "-.", r"peak of $\xi_{\mathrm{eq}}$, convention-free"),
    "growth_onset": Mark("tab:cyan", "--", f"onset of growth ({100 * ONSET_SHARE:.0f} % of its peak)"),
    "growth_peak": Mark("tab:blue", "--", "fastest growth"),
    "lambda_0_zero": Mark("tab:red", "--", r"$\lambda_0=0$ measured"),
}


def critical_dynamics(run: Run) -> Figure:
    r"""Draw correlation lengths, growth rate and drift eigenvalues against time, with every critical time named.

    Left: $\xi_x(t)$ and, on an axis of its own, $\xi_{\mathrm{eq}}(t)$ of the drift and convention-free, with the band
    where the former is undefined. Middle: $-d\xi_x/d\log t$. Right: $|\lambda_n(t)|$, negative values dashed.
    Transparent curves are trajectories, opaque ones medians over them.

    Args:
        run: A finished run.

    Source: paper Fig. 3 and E.11.
    """
    summary = run.summary
    figure = Figure(figsize=(15, 6.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3, sharex=True)
    handles = [_lengths(left, run), _growth(middle, run), _eigenvalues(right, run)]
    kinds = (("xi_eq_drift_peak", "xi_eq_gain_peak"), ("growth_onset", "growth_peak"), ("lambda_0_zero",))
    for ax, own, names in zip((left, middle, right), handles, kinds, strict=True):
        own += [line for name in names for line in measured_lines(ax, summary, name)]
        ax.legend(handles=own + doubt_note(own), loc="upper center", bbox_to_anchor=(0.5, -0.16))
    theory = theory_lines((left, middle, right), summary)
    if theory:
        figure.legend(handles=theory, loc="outside lower center", ncols=4, title="critical times at $x=0$")
    for ax in (left, middle, right):
        time_axis(ax, run)
    figure.suptitle(caption(run), parse_math=False, fontsize="medium")
    return figure


def _lengths(ax: Axes, run: Run) -> list[Artist]:
    data, times = run.arrays, run.arrays["time"].to_numpy()
    bands = _undefined(ax, run)
    xi = data["xi_sign"].to_numpy()
    line = trajectories_and_median(ax, times, xi, r"$\xi_x$ of sign$(x)$, median", "black", BLUE)
    ax.set_ylim(bottom=min(0.0, float(np.nanmin(xi, initial=0.0))))
    ax.set_ylabel(r"correlation length $\xi_x$ (sites)")
    ax.set_title("Correlation lengths")
    twin = ax.twinx()
    lines = [
        trajectories_and_median(twin, times, data[f"xi_eq_{name}"].to_numpy(), label, color, color, linestyle)
        for name, label, color, linestyle in (
            ("drift", r"$\xi_{\mathrm{eq}}$ from $\lambda_n$ of the drift (right axis)", DRIFT, "--"),
            ("gain", r"$\xi_{\mathrm{eq}}$ from $1-G_n$, convention-free (right axis)", GAIN, "-."),
        )
    ]
    twin.set_ylim(0, length_limit(*(median(data[f"xi_eq_{name}"].to_numpy()) for name in ("drift", "gain"))))
    twin.set_ylabel(r"equilibrium length $\xi_{\mathrm{eq}}$ (sites)", color=DRIFT)
    twin.tick_params(axis="y", colors=DRIFT)
    twin.spines["right"].set_color(DRIFT)
    return [line, *lines, *bands]


def length_limit(drift: Array, gain: Array) -> float:
    """Return the top of the xi_eq axis: all of the convention-free curve, and the drift's up to 2.5 times that.

    The drift's curve diverges where its lambda_0 vanishes.
    """
    top = float(np.nanmax(drift, initial=0.0))
    bounded = float(np.nanmax(gain, initial=0.0))
    return 1.1 * (min(top, 2.5 * bounded) if bounded > 0 else top) or 1.0


def _undefined(ax: Axes, run: Run) -> list[Artist]:
    """Shade the bands where the drift's xi_eq is undefined; a single measured point is no band."""
    data = run.arrays
    times = data["time"].to_numpy()
    bands = [band for band in run.summary["undefined"]["bands"]["xi_eq_drift"] if band[0] > band[1]]
    spans = [ax.axvspan(*band, color="0.88", linewidth=0, zorder=0, gid="undefined") for band in bands]
    inside = np.any([(times <= first) & (times >= last) for first, last in bands] or [times < 0], axis=0)
    fit = fit_dispersion(data["eigenvalue"].to_numpy(), data["k"].to_numpy())
    bent = ((fit.rate > 0) & (fit.curvature < 0))[:, inside].any()
    why = r"$\lambda_0\leq 0$ or curvature $<0$" if bent else r"$\lambda_0\leq 0$"
    for span in spans[:1]:
        span.set_label(rf"$\xi_{{\mathrm{{eq}}}}$ of the drift undefined ({why})")
    return list(spans[:1])


def _growth(ax: Axes, run: Run) -> list[Artist]:
    data, times = run.arrays, run.arrays["time"].to_numpy()
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    line = trajectories_and_median(ax, times, data["growth"].to_numpy(), r"$-d\xi_x/d\log t$, median", "black", BLUE)
    ax.set_ylabel(r"growth rate $-d\xi_x/d\log t$ (sites)")
    ax.set_title("Growth of correlations")
    return [line]


def _eigenvalues(ax: Axes, run: Run) -> list[Artist]:
    """Draw |lambda_n|, averaged over the axes: medians by shell, a few shells' trajectories, and the shells' median."""
    data, times = run.arrays, run.arrays["time"].to_numpy()
    values = data["eigenvalue"].to_numpy().mean(-1)
    shells = values.shape[2]
    colors = matplotlib.colormaps["viridis"].resampled(shells)
    ax.set_yscale("log")
    for n in range(shells):
        if n in (0, shells // 2, shells - 1):
            for curve in values[:, :, n]:
                signed_line(ax, times, curve, color=colors(n), linewidth=0.7, alpha=0.25)
        signed_line(ax, times, median(values[:, :, n]), color=colors(n), linewidth=1.6, gid=f"lambda_{n}")
    every = median(np.concatenate(np.moveaxis(values, 2, 0)))
    signed_line(ax, times, every, color="black", linewidth=1.2, gid="lambda_median")
    ax.set_ylim(*_magnitudes(every))
    ax.set_ylabel(r"drift eigenvalues $|\lambda_n|$ (1 / time)")
    ax.set_title("Softening of Fourier modes")
    norm = BoundaryNorm(np.arange(shells + 1) - 0.5, shells)
    ticks = np.arange(0, shells, -(-shells // 10))
    ax.figure.colorbar(ScalarMappable(norm, colors), ax=ax, label="shell $n$", ticks=ticks, aspect=30)
    return [
        Line2D([], [], color="black", linewidth=1.2, label="median over shells and trajectories"),
        Line2D([], [], color="0.4", linewidth=1.6, label=r"$\lambda_n>0$, mode decays (median)"),
        Line2D([], [], color="0.4", linewidth=1.6, linestyle="--", label=r"$\lambda_n<0$, mode grows (median)"),
    ]


def _magnitudes(values: Array) -> tuple[float, float]:
    """Return limits of a log axis for |values| that a dip through zero does not stretch."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if len(sizes) == 0:
        return 0.1, 1.0
    return 0.2 * float(np.quantile(sizes, 0.05)), 2.0 * float(sizes.max())


def signed_line(ax: Axes, times: Array, values: Array, **style: Any) -> list[Line2D]:
    """Plot |values| [time]: positive parts solid, negative parts dashed.

    Returns:
        The solid and the dashed line.
    """
    lines = []
    for sign, linestyle in ((1, "-"), (-1, "--")):
        part = np.where(sign * values > 0, sign * values, np.nan)
        gaps = np.isnan(np.concatenate([[np.nan], part, [np.nan]]))
        # a point between two gaps would draw nothing
        alone = np.flatnonzero(~gaps[1:-1] & gaps[:-2] & gaps[2:])
        lines += ax.plot(times, part, linestyle=linestyle, marker=".", markersize=3, markevery=alone, **style)
    return lines


def trajectories_and_median(
    ax: Axes, times: Array, curves: Array, label: str, color: str, faint: str, linestyle: str = "-"
) -> Line2D:
    """Plot curves [trajectory, time] transparently and their median over them.

    Returns:
        The median's line.
    """
    for curve in curves:
        ax.plot(times, curve, color=faint, linewidth=0.8, alpha=0.3)
    return ax.plot(times, median(curves), color=color, linewidth=2.0, linestyle=linestyle, label=label)[0]


def theory_lines(axes: Sequence[Axes], summary: Summary) -> list[Line2D]:
    """Mark the critical times that have a label, each by a thin line in every panel; equal times share one.

    Returns:
        One line per time, labelled with its names and value.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for quantity in summary["quantities"]:
        if quantity["label"] and quantity["value"] is not None:
            groups.setdefault(f"{quantity['value']:.9g}", []).append(quantity)
    lines = []
    for group in groups.values():
        first = group[0]
        mark = THEORY.get(first["name"], Mark("0.5", "-"))
        drawn = [
            ax.axvline(
                first["value"], color=mark.color, linestyle=mark.linestyle, linewidth=1.2, zorder=1.5, gid=first["name"]
            )
            for ax in axes
        ]
        names = " and ".join(
            quantity["label"] + (" (the paper's $t_c$)" if quantity["name"] == "t_c_score_omega" else "")
            for quantity in group
        )
        drawn[0].set_label(f"{names}: {first['value']:.4g}")
        lines.append(drawn[0])
    return lines


def measured_lines(ax: Axes, summary: Summary, kind: str) -> list[Line2D]:
    """Mark the measured times of one kind, each by a line with its 95 % interval as a band.

    Returns:
        One line labelled with the kind's name and its values, or none if the run has no such time.
    """
    mark = MEASURED[kind]
    estimates = [
        estimate_of(quantity)
        for quantity in summary["quantities"]
        if quantity["name"].rpartition("_")[0] == kind and quantity["value"] is not None
    ]
    lines = []
    for estimate in estimates:
        lines.append(ax.axvline(estimate.value, color=mark.color, linestyle=mark.linestyle, linewidth=1.4, gid=kind))
        if math.isfinite(estimate.low) and math.isfinite(estimate.high):
            ax.axvspan(estimate.low, estimate.high, color=mark.color, alpha=0.1, linewidth=0, zorder=0)
    values = [f"{e}" + ("?" if e.reason else "") if math.isfinite(e.stderr) else f"{e.value:.3g}" for e in estimates]
    more = f", … ({len(values)} in all)" if len(values) > VALUES_NAMED else ""
    for line in lines[:1]:
        line.set_label(f"{mark.label}: {', '.join(values[:VALUES_NAMED])}{more}")
    return lines[:1]


def doubt_note(handles: Sequence[Artist]) -> list[Line2D]:
    """Return a legend entry that explains the question mark of a doubtful value, if one of the handles has it."""
    if not any("?" in str(handle.get_label()) for handle in handles):
        return []
    return [Line2D([], [], linestyle="", label="?: in fewer than 95 % of bootstrap resamples")]


def time_axis(ax: Axes, run: Run) -> None:
    """Make the x axis log t over the run's times, falling from left to right as generation runs."""
    times = run.arrays["time"].to_numpy()
    ax.set_xscale("log")
    ax.set_xlim(times[0], times[-1])
    name = r"noise level $t=\sigma$" if run.config["schedule"] == "ve" else "diffusion time $t$"
    ax.set_xlabel(rf"{name} (generation $\rightarrow$)")


def caption(run: Run) -> str:
    """Return one line that says which run a figure shows."""
    config, count = run.config, run.arrays.sizes["trajectory"]
    sites = " × ".join([str(config["size"])] * config["dimensions"])
    trajectories = "1 trajectory" if count == 1 else f"{count} trajectories"
    return (
        f"{sites} sites, receptive field {config['receptive_field']}, dictionary {Path(config['dictionary']).name}, "
        f"schedule {config['schedule']}, {trajectories}, seed {config['seed']}"
    )
