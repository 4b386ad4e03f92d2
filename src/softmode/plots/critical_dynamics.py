"""The three-panel figure of the critical dynamics (Figs. 3, 6, 7), and the time axis with its named critical times."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from softmode.critical import ONSET_SHARE
from softmode.estimate import Estimate, median
from softmode.plots.curve_lines import (
    magnitudes,
    shell_colourbar,
    shell_colours,
    shown_shells,
    signed_line,
    trajectories_and_median,
)
from softmode.plots.length_panel import BLUE, DRIFT, FREE, GAIN, correlation_lengths, drawn_lengths, is_probe
from softmode.plots.noise_axis import top_noise_axis, variance_exploding
from softmode.plots.null_lines import null_eigenvalue_lines, null_growth_lines
from softmode.plots.strip import even_strip, has_images
from softmode.runs.results import Quantity, Results
from softmode.runs.run import Run

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
    "xi_eq_free_peak": Mark(FREE, ":", r"peak of $\xi_{\mathrm{eq}}$, free intercept"),
    "growth_onset": Mark("tab:cyan", "--", f"onset of growth ({100 * ONSET_SHARE:.0f} % of its peak)"),
    "growth_peak": Mark("tab:blue", "--", "fastest growth"),
    "lambda_0_zero": Mark("tab:red", "--", r"$\lambda_0=0$ measured"),
}


def critical_dynamics(run: Run) -> Figure:
    r"""Draw correlation lengths, growth rate and drift eigenvalues against time, with every critical time named.

    Left: $\xi_x(t)$ and, on an axis of its own, $\xi_{\mathrm{eq}}(t)$ of the drift and convention-free, with the band
    where the former is undefined. Middle: $-d\xi_x/d\log t$. Right: $|\lambda_n(t)|$, negative values dashed.
    Transparent curves are trajectories, opaque ones medians over them.

    A probed model has, besides, the denoised state of one trajectory as a strip of images, the $\xi_{\mathrm{eq}}$ that
    never uses the constant mode, the noise level on top, and the Gaussian null model in grey; its critical time is the
    peak of $\xi_{\mathrm{eq}}$, as it has no closed form.

    Args:
        run: A finished run of a patch model or a probe.

    Source: paper Figs. 1, 3, 6 and 7; E.11 and G.7.
    """
    results, probed = run.results, is_probe(run)
    strip = probed and has_images(run)
    figure = Figure(figsize=(15, (8.6 if probed else 6.4) + (1.9 if strip else 0)), layout="constrained")
    grid = figure.add_gridspec(1 + strip, 3, height_ratios=[0.25, 1] if strip else [1])
    left = figure.add_subplot(grid[-1, 0])
    middle, right = (figure.add_subplot(grid[-1, column], sharex=left) for column in (1, 2))
    if strip:
        even_strip(figure.add_subplot(grid[0, :]), run)
    handles = [correlation_lengths(left, run), _growth(middle, run), _eigenvalues(right, run)]
    kinds = (tuple(f"{name}_peak" for name in drawn_lengths(run)), ("growth_onset", "growth_peak"), ("lambda_0_zero",))
    for ax, own, names in zip((left, middle, right), handles, kinds, strict=True):
        own += [line for name in names for line in measured_lines(ax, results, name)]
        ax.legend(handles=own + doubt_note(own), loc="upper center", bbox_to_anchor=(0.5, -0.16))
    theory = theory_lines((left, middle, right), results)
    if theory:
        figure.legend(handles=theory, loc="outside lower center", ncols=4, title="critical times at $x=0$")
    for ax in (left, middle, right):
        time_axis(ax, run)
        if probed:
            top_noise_axis(ax, run)
    figure.suptitle(caption(run), parse_math=False, fontsize="medium")
    return figure


def _growth(ax: Axes, run: Run) -> list[Artist]:
    data, times = run.dataset, run.dataset["time"].to_numpy()
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    line = trajectories_and_median(ax, times, data["growth"].to_numpy(), r"$-d\xi_x/d\log t$, median", "black", BLUE)
    null = null_growth_lines(ax, run)
    ax.set_ylabel(r"growth rate $-d\xi_x/d\log t$ (sites)")
    ax.set_title("Growth of correlations")
    return [line, *null]


def _eigenvalues(ax: Axes, run: Run) -> list[Artist]:
    """Draw |lambda_n|, averaged over the axes: medians by shell, a few shells' trajectories, and the shells' median."""
    data, times = run.dataset, run.dataset["time"].to_numpy()
    values = data["eigenvalue"].to_numpy().mean(-1)
    shells = values.shape[2]
    colors = shell_colours(shells)
    ax.set_yscale("log")
    for n in range(shells):
        if n in shown_shells(shells):
            for curve in values[:, :, n]:
                signed_line(ax, times, curve, color=colors(n), linewidth=0.7, alpha=0.25)
        signed_line(ax, times, median(values[:, :, n]), color=colors(n), linewidth=1.6, gid=f"lambda_{n}")
    every = median(np.concatenate(np.moveaxis(values, 2, 0)))
    signed_line(ax, times, every, color="black", linewidth=1.2, gid="lambda_median")
    ax.set_ylim(*magnitudes(every))
    ax.set_ylabel(r"drift eigenvalues $|\lambda_n|$ (1 / time)")
    ax.set_title("Softening of Fourier modes")
    null = null_eigenvalue_lines(ax, run)
    shell_colourbar(ax, shells)
    return [
        Line2D([], [], color="black", linewidth=1.2, label="median over shells and trajectories"),
        Line2D([], [], color="0.4", linewidth=1.6, label=r"$\lambda_n>0$, mode decays (median)"),
        Line2D([], [], color="0.4", linewidth=1.6, linestyle="--", label=r"$\lambda_n<0$, mode grows (median)"),
        *null,
    ]


def theory_lines(axes: Sequence[Axes], results: Results) -> list[Line2D]:
    """Mark the critical times of the theory, each by a thin line in every panel; equal times share one.

    Returns:
        One line per time, labelled with its names and value.
    """
    groups: dict[str, list[Quantity]] = {}
    for quantity in results.quantities:
        if quantity.kind in THEORY and math.isfinite(quantity.estimate.value):
            groups.setdefault(f"{quantity.estimate.value:.9g}", []).append(quantity)
    lines = []
    for group in groups.values():
        kind, value = group[0].kind, group[0].estimate.value
        mark = THEORY[kind]
        drawn = [
            ax.axvline(value, color=mark.color, linestyle=mark.linestyle, linewidth=1.2, zorder=1.5, gid=kind)
            for ax in axes
        ]
        names = " and ".join(q.symbol + (" (the paper's $t_c$)" if q.kind == "t_c_score_omega" else "") for q in group)
        drawn[0].set_label(f"{names}: {value:.4g}")
        lines.append(drawn[0])
    return lines


def value_text(estimate: Estimate) -> str:
    """Return a measured value with its error as a legend shows it, with a question mark if it is doubtful."""
    if not math.isfinite(estimate.stderr):
        return f"{estimate.value:.3g}"
    return f"{estimate}" + ("?" if estimate.reason else "")


def measured_lines(ax: Axes, results: Results, kind: str) -> list[Line2D]:
    """Mark the measured times of one kind, each by a line with its 95 % interval as a band.

    Returns:
        One line labelled with the kind's name and its values, or none if the run has no such time.
    """
    mark = MEASURED[kind]
    estimates, lines = [q.estimate for q in results.of(kind)], []
    for estimate in estimates:
        lines.append(ax.axvline(estimate.value, color=mark.color, linestyle=mark.linestyle, linewidth=1.4, gid=kind))
        if math.isfinite(estimate.low) and math.isfinite(estimate.high):
            ax.axvspan(estimate.low, estimate.high, color=mark.color, alpha=0.1, linewidth=0, zorder=0)
    values = [value_text(estimate) for estimate in estimates]
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
    times = run.dataset["time"].to_numpy()
    ax.set_xscale("log")
    ax.set_xlim(times[0], times[-1])
    name = r"noise level $t=\sigma$" if variance_exploding(run) else "diffusion time $t$"
    ax.set_xlabel(rf"{name} (generation $\rightarrow$)")


def caption(run: Run) -> str:
    """Return one line that says which run a figure shows."""
    config, count = run.config, run.dataset.sizes["trajectory"]
    trajectories = "1 trajectory" if count == 1 else f"{count} trajectories"
    if is_probe(run):
        model = run.identity["model"]
        states = "sampled" if config["states"] == "reverse" else "noised data"
        return (
            f"model {'/'.join(Path(model['name']).parts[-2:])}{_class(config)}, "
            f"process {config['schedule'] or model['process'] + ' (its own)'}, states: {states}, "
            f"{trajectories}, gains: {config['method']}, seed {config['seed']}"
        )
    sites = " × ".join([str(config["size"])] * config["dimensions"])
    return (
        f"{sites} sites, receptive field {config['receptive_field']}, dictionary {Path(config['dictionary']).name}, "
        f"schedule {config['schedule']}, {trajectories}, seed {config['seed']}"
    )


def _class(config: Mapping[str, Any]) -> str:
    return f" (class {', '.join(map(str, config['labels']))})" if config["labels"] else ""
