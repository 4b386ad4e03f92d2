"""The figures of a probe's states: what the model sees, what it makes of it, and its samples."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import ConnectionPatch
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from softmode.estimate import Array, Estimate
from softmode.plots.caption import caption
from softmode.plots.critical_details import MEASURED
from softmode.plots.critical_dynamics import WIDTH
from softmode.plots.fields import COLOURS, NORM, visible
from softmode.plots.marks import SIZE, doubt_note, value_text
from softmode.plots.snapshots import shown_states, snapshot_title, state_symbol
from softmode.runs.run import Run

SAMPLES_SHOWN = 16
COLUMNS = 8
# fewest columns that fill a sheet of panels
FEWEST = 4
# inches around a panel, in which the bar of the critical time fits
PAD = 0.09
# what marks the critical time among the snapshots, in this order of trust (the constant mode of a network has least)
CRITICAL = ("xi_eq_free_peak", "xi_eq_gain_peak", "xi_eq_drift_peak")


def states(run: Run) -> Figure:
    r"""Draw the first trajectory's state above what the denoiser makes of it, D(x), at every snapshot.

    States are shown as $x_t/\sqrt{\alpha^2+\sigma^2}$, both on a colour scale from -1 to 1; three channels are a
    colour, of other numbers the first is shown. In d = 1 they are curves, in d = 3 their central slice. A bar between
    two columns is the critical time: the first peak of $\xi_{\mathrm{eq}}$ within the snapshots.

    Args:
        run: A finished run of a probe.

    Source: paper Fig. 2, here with D(x); the bar G.7.
    """
    data = run.dataset
    fields = shown_states(run), data["denoised"].isel(trajectory=0).to_numpy()
    times, levels = data["snapshot"].to_numpy(), data["snapshot_level"].to_numpy()
    strips = -(-len(times) // COLUMNS)
    columns = -(-len(times) // strips)
    figure, panels = _sheet(2 * strips, columns, room=0.5 * strips + 0.35)
    # the row of x and the row of D(x) of every strip, [strip, 2, column]
    pairs = panels.reshape(strips, 2, columns)
    places = [divmod(i, columns) for i in range(len(times))]
    for row, name in enumerate((f"state {state_symbol(run)}", "$D(x)$")):
        _draw_fields([pairs[strip, row, column] for strip, column in places], fields[row])
        for ax in pairs[:, row, 0]:
            ax.set_ylabel(name)
    for (strip, column), t, level in zip(places, times, levels, strict=True):
        pairs[strip, 0, column].set_title(snapshot_title(t, level), fontsize=SIZE)
    _colourbar(figure, panels, fields, f"{state_symbol(run)}, $D(x)$")
    found = critical_time(run)
    if found is not None:
        strip, column = places[int((times > found[0].value).sum())]
        bar = _bar(figure, pairs[strip, 0, column], pairs[strip, 1, column], found[1])
        figure.legend(handles=[bar, *doubt_note([bar])], loc="outside lower center", ncols=2)
    what = "State of trajectory" if run.config["states"] == "reverse" else "Noised datum"
    first = int(data["trajectory"].to_numpy()[0])
    _title(figure, run, f"{what} {first} and its D(x){_part(fields[1][0])} along the generation →")
    return figure


def samples(run: Run) -> Figure | None:
    """Draw the final denoised state D(x) of up to SAMPLES_SHOWN trajectories, which is that of the last snapshot.

    Noised data are no samples.

    Args:
        run: A finished run of a probe.

    Source: paper F.5.
    """
    if run.config["states"] != "reverse":
        return None
    data = run.dataset
    fields = data["denoised"].isel(snapshot=-1).to_numpy()
    shown = fields[:SAMPLES_SHOWN]
    columns = min(len(shown), COLUMNS)
    figure, panels = _sheet(-(-len(shown) // columns), columns)
    _draw_fields(list(panels.flat), shown)
    _colourbar(figure, panels, [shown], "$D(x)$")
    t, level = (float(data[name].to_numpy()[-1]) for name in ("snapshot", "snapshot_level"))
    count = f"{len(shown)} of {len(fields)} samples" if len(fields) > len(shown) else _count(len(fields), "sample")
    _title(figure, run, f"D(x){_part(shown[0])} of {count} at t = {t:.3g}, σ/α = {level:.3g}")
    return figure


def critical_time(run: Run) -> tuple[Estimate, str] | None:
    r"""Return the first peak of $\xi_{\mathrm{eq}}$ within the snapshots, with its label, or None without one.

    Peaks that never use the constant mode come first: a trained network gets that mode wrong at low noise, which lifts
    $\xi_{\mathrm{eq}}$ again. A first peak that few resamples show gives way to a sure one of the next kind.

    Source: paper G.7.
    """
    times = run.dataset["snapshot"].to_numpy()
    found = []
    for kind in CRITICAL:
        peaks = [q.estimate for q in run.results.of(kind) if times[-1] < q.estimate.value < times[0]]
        if peaks:
            several = f", first of {len(peaks)}" if len(peaks) > 1 else ""
            found.append((peaks[0], f"{MEASURED[kind][0]}{several}: $t$ = {value_text(peaks[0])}"))
    return min(found, key=lambda peak: bool(peak[0].reason), default=None)


def _sheet(rows: int, columns: int, room: float = 0.0) -> tuple[Figure, Array]:
    """Return a figure of square panels [row, column], blank until drawn on, and inches of room for what is beside."""
    # a colour bar takes two inches, a title of two lines less than one
    height = 0.8 + rows * (WIDTH - 2) / max(columns, FEWEST) + room
    figure = Figure(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(w_pad=PAD, h_pad=PAD / 2))
    panels = figure.subplots(rows, columns, squeeze=False)
    for ax in panels.flat:
        ax.set_axis_off()
    return figure, panels


def _part(field: Array) -> str:
    """Say which part of a field [channel, *space] is drawn; nothing if all of it is."""
    parts = ["central slice"] if field.ndim == 4 else []
    if len(field) > 1 and visible(field).ndim != 3:
        parts.append(f"channel 0 of {len(field)}")
    return f" ({', '.join(parts)})" if parts else ""


def _draw_fields(panels: Sequence[Axes], fields: Array) -> None:
    """Draw fields [field, channel, *space] on as many panels, curves with one scale."""
    limit = 1.05 * max(1.0, float(np.nanmax(np.abs(fields), initial=0.0)))
    for ax, field in zip(panels, fields, strict=False):
        ax.set_axis_on()
        shown = visible(field)
        if shown.ndim == 1:
            ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
            ax.plot(shown, color="black", linewidth=0.8)
            ax.set_ylim(-limit, limit)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.set_xlabel("site")
            ax.label_outer()
            continue
        ax.imshow(shown, cmap=COLOURS, norm=NORM, interpolation="nearest")
        ax.set_xticks([])
        ax.set_yticks([])


def _colourbar(figure: Figure, panels: Array, fields: Sequence[Array], label: str) -> None:
    """Add the colour bar of images of one channel, with arrows if values lie beyond it."""
    shown = [visible(field) for row in fields for field in row]
    if shown[0].ndim != 2:
        return
    beyond = any(bool((np.abs(image) > NORM.vmax).any()) for image in shown)
    figure.colorbar(
        ScalarMappable(NORM, COLOURS), ax=list(panels.flat), label=label, extend="both" if beyond else "neither",
        aspect=25,
    )  # fmt: skip


def _bar(figure: Figure, above: Axes, below: Axes, label: str) -> Line2D:
    """Draw a bar to the left of two panels, one above the other; return its entry in a legend."""
    left = ScaledTranslation(-PAD, 0, figure.dpi_scale_trans)
    bar = ConnectionPatch((0, 1), (0, 0), above.transAxes + left, below.transAxes + left, color="black", linewidth=4)
    bar.set_gid("critical_time")
    bar.set_in_layout(False)
    figure.add_artist(bar)
    return Line2D([], [], color="black", linewidth=4, label=label)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("s" if count != 1 else "")


def _title(figure: Figure, run: Run, text: str) -> None:
    figure.suptitle(f"{caption(run)}\n{text}", parse_math=False, fontsize="medium")
