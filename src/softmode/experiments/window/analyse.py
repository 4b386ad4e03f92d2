"""In which noise window to guide a model, or that none is seen, beside every other criterion, from a finished probe."""

import math
from typing import NamedTuple

import torch

from softmode.critical import peak_windows
from softmode.estimate import Array, Estimate, median
from softmode.exact.gaussian import null_model
from softmode.experiments.window.criteria import (
    PROBE,
    Criterion,
    Intercept,
    argmax_level,
    clone_criteria,
    critical_window,
    departure_criterion,
    entropy_criterion,
    growth_criterion,
    peak_criterion,
    softness,
    softness_of,
)
from softmode.observe.gains import exact_gains
from softmode.rounding import within
from softmode.runs.clock import Clock
from softmode.runs.results import Quantity, Results, Table
from softmode.runs.run import Run

# fits of xi_eq, in the order in which a peak is sought
INTERCEPTS: tuple[Intercept, ...] = ("constant mode", "free")
SOURCE = "paper G.7, H.3"


class Peak(NamedTuple):
    """A peak of the median softness with its window.

    Attributes:
        intercept: Fit of xi_eq that has it.
        sigma_c: Its noise level; undefined where there is none.
        low: Lower end of its window.
        high: Upper end.
        shared: Level of the null model's peak that is the same; 0 without one.
    """

    intercept: Intercept
    sigma_c: Estimate
    low: Estimate
    high: Estimate
    shared: float

    @property
    def verdict(self) -> str:
        """Whether it gives a window: found, doubtful or none."""
        if math.isnan(self.sigma_c.value) or self.shared:
            return "none"
        return "doubtful" if self.sigma_c.reason else "found"


def analyse(run: Run) -> Results:
    """Find the window of a finished probe and set every other criterion beside it.

    `values` has the `verdict` (found, doubtful or none), the `intercept` of the fit that shows the peak, all `peaks` of
    the median, its `argmax`, the `null` model's peaks and origin, and the `criteria`. Without a window the quantities
    sigma_c, sigma_lo and sigma_hi are undefined: what the median shows is under `peaks`.

    Args:
        run: A probe; clones are taken from the directory `clones` in it, if there are any.

    Raises:
        ValueError: If the probe is not finished.
    """
    _ = run.of(PROBE).results
    levels, clock = run.dataset["noise_level"].to_numpy(), Clock.of(run)
    peak = first_peak(run, levels)
    curves = softness(run, peak.intercept)
    null, origin = null_softness(run, levels, peak.intercept)
    criteria, argmax = _criteria(run, curves, null, levels, peak.intercept), argmax_level(curves, levels)
    quantities, shown = _quantities(peak), _shown(peak, criteria)
    return Results(
        answer=_sentence(peak),
        quantities=quantities,
        tables={"criteria": _table(shown), "definitions": _definitions(shown), "units": _units(peak, clock)},
        notes=tuple(_remarks(peak, criteria, origin, argmax)),
        values={
            "verdict": peak.verdict,
            "intercept": peak.intercept,
            "times": {q.kind: clock.time(q.estimate.value) for q in quantities},
            "peaks": peak_windows(median(curves), levels).tolist(),
            "argmax": argmax,
            "null": {"from": origin, "peaks": [] if null is None else peak_windows(null, levels).tolist()},
            "criteria": [criterion.plain(peak.sigma_c) for criterion in criteria],
        },
    )


def first_peak(run: Run, levels: Array) -> Peak:
    """Return the peak of the first fit of xi_eq that has one which the null lacks.

    Eq. 69 first; where it has none, the fit that never uses the constant mode, which a trained network may get wrong.
    Without either, what Eq. 69 says.
    """
    found = []
    for intercept in INTERCEPTS:
        sigma_c, low, high = critical_window(softness(run, intercept), levels)
        null, _ = null_softness(run, levels, intercept)
        shared = _shared_peak(null, levels, (low.value, sigma_c.value, high.value))
        found.append(Peak(intercept, sigma_c, low, high, shared))
        if math.isfinite(sigma_c.value) and not shared:
            return found[-1]
    return found[0]


def null_softness(run: Run, levels: Array, intercept: Intercept = "constant mode") -> tuple[Array | None, str]:
    """Return the softness of the Gaussian null [level], and where its spectrum is from: data, samples or none.

    Without data of the model's it is the spectrum of the run's own samples, D(x) at the last snapshot.
    """
    data = run.dataset
    if "null_gain" in data:
        gain, origin = data["null_gain"].to_numpy(), "data"
    else:
        samples = torch.from_numpy(data["denoised"].isel(snapshot=-1).to_numpy())
        if run.config["states"] != "reverse" or len(samples) < 2:
            return None, "none"
        null, x = null_model(samples), torch.zeros(1, *samples.shape[1:], dtype=torch.float64)
        shells = int(run.config["shells"])
        gain, origin = torch.cat([exact_gains(null, x, s, shells) for s in levels]).numpy(), "samples"
    return softness_of(gain, data["k"].to_numpy(), intercept), origin


def _shared_peak(null: Array | None, levels: Array, window: tuple[float, float, float]) -> float:
    """Return the level of a peak of the null's that is the model's too, or 0 without one."""
    low, centre, high = window
    if null is None or math.isnan(centre):
        return 0.0
    for peak, begin, end in peak_windows(null, levels):
        if within(peak, low, high) or within(centre, end, begin):
            return float(peak)
    return 0.0


def _criteria(run: Run, curves: Array, null: Array | None, levels: Array, intercept: Intercept) -> list[Criterion]:
    """Return every criterion beside the one that the window is of."""
    (other,) = (way for way in INTERCEPTS if way != intercept)
    found: list[Criterion | None] = [
        peak_criterion(run, levels, other),
        growth_criterion(run, levels),
        None if null is None else departure_criterion(curves, null, levels),
        entropy_criterion(run, levels),
        *clone_criteria(run),
    ]
    return [criterion for criterion in found if criterion is not None]


def _quantities(peak: Peak) -> tuple[Quantity, ...]:
    """Return sigma_c and the ends of the window as noise levels."""
    described = (
        ("sigma_c", peak.sigma_c, "noise level at which the median xi_eq peaks", r"$\sigma_c$"),
        ("sigma_lo", peak.low, "lower end of the window of noise levels, not included", r"$\sigma_{\mathrm{lo}}$"),
        ("sigma_hi", peak.high, "upper end of the window of noise levels, included", r"$\sigma_{\mathrm{hi}}$"),
    )
    missing = Estimate.missing(peak.sigma_c.samples, _sentence(peak)) if peak.verdict == "none" else None
    return tuple(
        Quantity(name, 0, missing or e, what, sign, SOURCE, (missing or e).value) for name, e, what, sign in described
    )


def _shown(peak: Peak, criteria: list[Criterion]) -> list[Criterion]:
    """Return sigma_c and the criteria from the highest noise level down, those that are not met last."""
    rows = [*criteria]
    if peak.verdict != "none":
        what = "peak of the median xi_eq, that of the window"
        rows.append(Criterion("sigma_c", peak.sigma_c, what, SOURCE, peak.low.value, peak.high.value))
    return sorted(rows, key=lambda row: -row.sigma.value if math.isfinite(row.sigma.value) else math.inf)


def _table(rows: list[Criterion]) -> Table:
    cells = tuple((row.title, row.sigma, row.sigma.interval, _ends(row)) for row in rows)
    doubt = "?: in doubt, as the report says" if any(row.sigma.reason for row in rows) else ""
    columns = ("criterion", "sigma/alpha", "95 % interval", "its window")
    return Table("Noise levels at which a sample is decided", columns, cells, doubt)


def _definitions(rows: list[Criterion]) -> Table:
    cells = tuple((row.title, row.definition, row.source, row.sigma.reason) for row in rows)
    return Table("What the criteria are", ("criterion", "definition", "source", "in doubt, why"), cells)


def _ends(row: Criterion) -> str:
    return f"{row.low:.3g} to {row.high:.3g}" if math.isfinite(row.low) and math.isfinite(row.high) else ""


def _units(peak: Peak, clock: Clock) -> Table:
    """Return the window in noise levels and in the process's own time."""
    rows: tuple[tuple[str, str], ...] = ()
    if peak.verdict != "none":
        low, high = peak.low.value, peak.high.value
        rows = (
            ("sigma/alpha", f"{low:.4g} < sigma <= {high:.4g}"),
            ("time", f"{clock.time(low):.4g} < t <= {clock.time(high):.4g}, of the process"),
        )
    return Table("The window in other units", ("unit", "window"), rows)


def _sentence(peak: Peak) -> str:
    """Return the answer in one sentence."""
    if peak.shared:
        return (
            f"no critical window found: the median xi_eq has a peak at sigma = {peak.sigma_c}, but so has the Gaussian "
            f"null model, which has no transition, at sigma = {peak.shared:.3g}"
        )
    if peak.verdict == "none":
        return f"no critical window found: {peak.sigma_c.reason}"
    doubt = f", in doubt: {peak.sigma_c.reason}" if peak.verdict == "doubtful" else ""
    what = "xi_eq" if peak.intercept == "constant mode" else "xi_eq of shells n >= 1"
    ends = f"{peak.low.value:.3g} < sigma <= {peak.high.value:.3g}"
    return f"guide where {ends}; the median {what} peaks at sigma_c = {peak.sigma_c}{doubt}"


def _remarks(peak: Peak, criteria: list[Criterion], origin: str, argmax: Estimate) -> list[str]:
    """Say what a reader must know: what the null is, where criteria disagree and how far."""
    remarks = {
        "data": [],
        "samples": ["the null model has the power spectrum of this run's samples: give --data for that of the data"],
        "none": ["there is no null model to compare with: give --data"],
    }[origin]
    if peak.verdict == "none":
        return remarks
    low, high = peak.low.value, peak.high.value
    if peak.intercept == "free":
        remarks.append(
            "Eq. 69 itself shows no peak here: the window is that of shells n >= 1 alone, which never use the constant "
            "mode"
        )
    if not within(argmax.value, low, high):
        remarks.append(
            f"the median xi_eq is higher at sigma = {argmax.value:.3g}, where no peak stands out: at low noise a "
            "network's gains are not to be trusted, the constant mode's least"
        )
    for criterion in criteria:
        sigma = criterion.sigma.value
        if math.isfinite(sigma) and not within(sigma, low, high):
            remarks.append(_disagreement(criterion, peak))
    return remarks


def _disagreement(criterion: Criterion, peak: Peak) -> str:
    sigma, distance = criterion.sigma.value, criterion.distance(peak.sigma_c)
    side = "above" if sigma > peak.high.value else "below"
    errors = f", {abs(distance.value) / distance.stderr:.1f} standard errors" if distance.stderr > 0 else ""
    return (
        f"{criterion.title} disagrees: sigma = {criterion.sigma} is {side} the window, "
        f"a factor {math.exp(abs(distance.value)):.3g} from sigma_c{errors}"
    )
