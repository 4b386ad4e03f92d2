"""Crossings, the collapse, and states at, above and below the transition of a frozen patch model."""

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from softmode.estimate import Array
from softmode.experiments.equilibrium.lattice_balance import Balance
from softmode.experiments.equilibrium.lattice_found import ISING, Found
from softmode.experiments.equilibrium.lattice_measure import EQUILIBRIUM
from softmode.plots.fields import draw_signs
from softmode.plots.palette import BLUE, GREY, SHADE, VERMILLION
from softmode.runs.run import Run

# times whose states are drawn, relative to t_c
SHOWN = (0.7, 1.0, 1.4)


def _colours(sides: Array) -> Array:
    """Return a colour for every side, darker for larger ones."""
    return colormaps["viridis_r"](np.linspace(0.12, 0.95, len(sides)))


def crossing(run: Run) -> Figure | None:
    """Draw U4 and xi/L against the time at which the score is frozen, a curve for every side.

    Args:
        run: A finished run; a stage of one has nothing to draw.

    Source: binder1981.
    """
    if run.identity["stage"] != "main":
        return None
    found = Found.of(run)
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for ax, name, label in zip(panels, ("U4", "xi/L"), (r"Binder's cumulant $U_4$", r"$\xi/L$"), strict=True):
        sides = np.unique(found.curves.side)
        for side, color in zip(sides, _colours(sides), strict=True):
            own = found.curves.where(found.curves.side == side).select(name)
            ax.errorbar(own.control, own.values[:, 0], own.replicates[..., 0].std(0), fmt="o-", color=color,
                        markersize=4, linewidth=1.4, label=f"{side}")  # fmt: skip
        if found.fit is not None:
            at = found.fit.t_c
            ax.axvspan(at.low, at.high, color=SHADE, zorder=0)
            if found.dimensions in ISING:
                ax.axhline(ISING[found.dimensions][name], color=GREY, linestyle="--", linewidth=1.2, zorder=0)
        ax.set_xlabel("process time $t$ at which the score is frozen")
        ax.set_ylabel(label)
    panels[1].legend(title="side $L$", ncols=2)
    ising = ", dashed: Ising" if found.dimensions in ISING else ""
    figure.suptitle(f"{_caption(found)}\ngrey: $t_c$ with this step, 95 %{ising}", fontsize="medium")
    return figure


def scaled(run: Run) -> Figure | None:
    """Draw U4 and |m| of all sides against the scaled distance from the transition.

    Args:
        run: A finished run with a transition.

    Source: binder1981.
    """
    if run.identity["stage"] != "main":
        return None
    found = Found.of(run)
    if found.fit is None or len(found.collapses) < 2:
        return None
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    panels = figure.subplots(1, 2)
    falls = found.powers["|m|"].exponent.value
    for ax, name, label in (
        (panels[0], "U4", r"Binder's cumulant $U_4$"),
        (panels[1], "|m|", rf"$\langle|m|\rangle\,L^{{\beta/\nu}}$, $\beta/\nu = {-falls:.3f}$"),
    ):
        drawn = found.collapses[name]
        sides = np.unique(drawn.side)
        for side, color in zip(sides, _colours(sides), strict=True):
            at = drawn.side == side
            ax.errorbar(drawn.x[at], drawn.y[at], drawn.stderr[at], fmt="o", color=color, markersize=5, label=f"{side}")
        ax.set_xlabel(rf"$(t - t_c)\,L^{{1/\nu}}$, $\nu = {found.fit.nu.value:.3f}$")
        ax.set_ylabel(label)
        ax.set_title(rf"$\chi^2$ of one curve: {drawn.chi2:.0f} for {drawn.dof} degrees of freedom", fontsize="medium")
    panels[0].legend(title="side $L$", ncols=2)
    figure.suptitle(_caption(found), fontsize="medium")
    return figure


def states(run: Run) -> Figure | None:
    """Draw signs of states below, at and above the transition, on the largest lattice of the first search.

    Args:
        run: A finished run; chains are no images, and of three dimensions the first plane is drawn.
    """
    if run.identity["stage"] != "main" or run.config["dimensions"] == 1:
        return None
    found = Found.of(run)
    search = Run(run.directory / "half" / "coarse", EQUILIBRIUM).dataset
    times, fields = search["time"].to_numpy()[0, -1], search["field"].to_numpy()[0]
    centre = found.fit.t_c.value if found.fit is not None else float(np.median(times))
    figure = Figure(figsize=(11, 4.3), layout="constrained")
    for ax, share in zip(figure.subplots(1, len(SHOWN)), SHOWN, strict=True):
        place = int(np.argmin(np.abs(times - share * centre)))
        draw_signs(ax, fields[place])
        where = f" = {times[place] / centre:.2f} $t_c$" if found.fit is not None else ""
        ax.set_title(f"$t$ = {times[place]:.3g}{where}")
    figure.suptitle(_caption(found), fontsize="medium")
    return figure


def balance(run: Run) -> Figure | None:
    """Draw the entropy production and the irreciprocity of the Jacobian against the noise level.

    Args:
        run: A finished run; one that was made before it was measured has nothing to draw.

    Source: seifert2012.
    """
    if run.identity["stage"] != "main":
        return None
    found = Found.of(run)
    seen = Balance.of(found)
    if seen is None:
        return None
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for points, color, label in (
        (seen.curve, BLUE, "search, small sides"), (seen.largest, VERMILLION, f"side {found.seen.sides[-1]}"),
    ):  # fmt: skip
        levels = [point.level for point in points]
        values, errors = ([getattr(p.production, part) for p in points] for part in ("value", "stderr"))
        panels[0].errorbar(levels, values, errors, fmt="o-", color=color, markersize=4, linewidth=1.4, label=label)
        shares, spreads = ([getattr(p.share, part) for p in points] for part in ("value", "stderr"))
        panels[1].errorbar(levels, shares, spreads, fmt="o-", color=color, markersize=4, linewidth=1.4)
    for ax in panels:
        if found.fit is not None:
            low, high = (float(found.process.noise_level(end)) for end in (found.t_c.low, found.t_c.high))
            ax.axvspan(low, high, color=SHADE, zorder=0)
        ax.axhline(0, color=GREY, linewidth=1, zorder=0)
        ax.set_xlabel(r"noise level $\sigma$ at which the score is frozen")
    panels[0].set_ylabel(r"entropy production ($k_B$ per site and $\sigma^2$)")
    panels[1].set_ylabel(r"irreciprocity, $|J - J^\top|^2/4|J|^2$")
    panels[0].legend()
    where = "\ngrey: $t_c$, 95 %" if found.fit is not None else ""
    figure.suptitle(_caption(found) + where, fontsize="medium")
    return figure


def _caption(found: Found) -> str:
    config = found.run.config
    return (
        f"frozen {config['dictionary']} patch model, {config['receptive_field']}, d = {config['dimensions']}, "
        f"step {config['step']:g} $\\sigma^2$, seed {config['seed']}"
    )


FIGURES = {"equilibrium": crossing, "collapse": scaled, "states": states, "balance": balance}
