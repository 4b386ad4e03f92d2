"""The second figure of the critical dynamics: every convention, every shell and every critical time."""

from matplotlib.figure import Figure

from softmode.critical import ONSET_SHARE
from softmode.plots.caption import caption
from softmode.plots.critical_dynamics import WIDTH, lettered
from softmode.plots.eigenvalue_panel import all_eigenvalues
from softmode.plots.intervals import Row, interval_rows
from softmode.plots.length_panel import DRIFT, FREE, GAIN, drawn_lengths, length_by_convention
from softmode.plots.marks import STYLES, raise_top
from softmode.plots.noise_axis import time_axis, top_noise_axis
from softmode.plots.palette import GREEN
from softmode.runs.results import Results
from softmode.runs.run import Run

TITLES = (r"$\xi_{\mathrm{eq}}$ in every convention, medians", "all shells, medians", "every critical time")
# inches of a row of panels, and of a row of times
PANELS, ROW = 5.4, 0.4
THEORY = ("t_c_score_omega", "t_c_score_softest", "t_c_drift_omega", "t_c_drift_softest")
MEASURED = {
    "growth_onset": (f"onset of growth, {100 * ONSET_SHARE:.0f} % of its peak", STYLES["growth_onset"].color),
    "growth_peak": ("fastest growth", STYLES["growth_peak"].color),
    "lambda_0_zero": (r"measured $\lambda_0=0$", STYLES["lambda_0_zero"].color),
    "xi_eq_gain_peak": (r"peak of $\xi_{\mathrm{eq}}$, convention-free", GAIN),
    "xi_eq_drift_peak": (r"peak of $\xi_{\mathrm{eq}}$, drift", DRIFT),
    "xi_eq_free_peak": (r"peak of $\xi_{\mathrm{eq}}$, free intercept", FREE),
}


def critical_details(run: Run) -> Figure:
    r"""Draw $\xi_{\mathrm{eq}}$ in every convention, the drift's eigenvalues of all shells, and every critical time.

    (a) Medians over trajectories; the bands are where the drift's is undefined. (b) Medians, negative ones dashed; the
    null model dotted. (c) Theory at the symmetric point x = 0 and what was measured, with 95 % intervals.

    Args:
        run: A finished run of a patch model or a probe.

    Source: paper Figs. 3, 6 and 7; Eqs. 18-22, 58, 64 and 69; E.7.
    """
    rows = time_rows(run)
    heights = [PANELS, ROW * (len(rows) + 3)]
    figure = Figure(figsize=(WIDTH, 0.5 + sum(heights)), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    panels = [*above.subplots(1, 2).flat, below.subplots()]
    lettered(panels, TITLES)
    for ax in panels:
        time_axis(ax, run)
    length_by_convention(panels[0], run)
    all_eigenvalues(panels[1], run)
    interval_rows(panels[2], rows)
    for ax in panels[:2]:
        top_noise_axis(ax, run)
    raise_top(panels[0], len(panels[0].get_legend_handles_labels()[1]))
    panels[0].legend(loc="upper right")
    if panels[1].get_legend_handles_labels()[1]:
        panels[1].legend(loc="best")
    figure.suptitle(caption(run), parse_math=False, fontsize="medium")
    return figure


def time_rows(run: Run) -> list[Row]:
    """Return every kind of critical time that a run has, from the theory's to the measured, each in falling order."""
    results = run.results
    rows = [_theory(results, kind) for kind in THEORY]
    shown = [f"{name}_peak" for name in drawn_lengths(run)]
    for kind, (text, color) in MEASURED.items():
        if kind in shown or not kind.startswith("xi_eq"):
            rows.append(Row(text, [q.estimate for q in results.of(kind)], color, gid=kind))
    return [row for row in rows if row.estimates]


def _theory(results: Results, kind: str) -> Row:
    found = results.of(kind)
    paper = " (the paper's $t_c$)" if kind == THEORY[0] else ""
    text = f"theory, {found[0].symbol}{paper}" if found else ""
    return Row(text, [q.estimate for q in found], GREEN, gid=kind)
