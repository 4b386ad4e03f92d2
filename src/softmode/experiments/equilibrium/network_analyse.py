r"""What a frozen network does: its susceptibility by noise level, how long it remembers its start, and the null.

The susceptibility of a mode is $\chi_k = \mathrm{Var}(v_k\cdot x)/\sigma^2$, v_k the unit mode: 1 for noise alone,
$1/(1 - G_k)$ for a Gaussian model. Within a chain it is that of the valley where the chain is; over all chains and
times that of the whole law, $(S_k + \sigma^2)/\sigma^2$ of an exact score that has forgotten its start, S_k the
variance of the data.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from softmode.estimate import Array, Estimate, bootstrap, jackknife, of_mean
from softmode.experiments.equilibrium.network_measure import STARTS
from softmode.experiments.equilibrium.network_memory import Memory, Remembered
from softmode.finite_size.series import correlated_steps
from softmode.lattice import Lattice
from softmode.runs.results import Cell, Quantity, Results, Table
from softmode.runs.run import Run

# shares of a chain that may be cut as thermalisation, and what is left out at least
CUTS = (0.1, 0.2, 0.3, 0.4, 0.5)
# standard errors by which the two halves of what is left may differ, and two starts before they count as apart
APART = 3.0
# autocorrelation times, over all chains, below which a susceptibility is in doubt
ENOUGH = 50
# levels that a peak needs
FEWEST = 3
ROWS = 8


@dataclass(frozen=True, eq=False)
class Level:
    """The chains of one start at one noise level.

    Args:
        sigma: Noise level.
        step: Time between two measurements, in units of sigma^2.
        order: Mean of D, [chain, time].
        amplitude: Parts of x along unit modes, [chain, time, shell, axis, phase].
        k_min: Smallest wavenumber of each axis (radians per site).
    """

    sigma: float
    step: float
    order: Array
    amplitude: Array
    k_min: Array

    @cached_property
    def cut(self) -> tuple[int, bool]:
        """First step that is kept, and whether the chains have settled from there on."""
        count = self.order.shape[1]
        for share in CUTS:
            first = round(share * count)
            if self._settled(first):
                return first, True
        return round(CUTS[-1] * count), False

    def _settled(self, first: int) -> bool:
        """Whether order and power of the lowest shells have the same mean in both halves of what is left."""
        middle = (first + self.order.shape[1]) // 2
        power = np.square(self.amplitude[:, :, :2]).mean((3, 4))
        for series in (self.order[:, :, None], power):
            drift = series[:, middle:].mean(1) - series[:, first:middle].mean(1)
            error = drift.std(0, ddof=1) / math.sqrt(len(drift))
            if (np.abs(drift.mean(0)) > APART * error).any():
                return False
        return True

    @property
    def kept(self) -> Array:
        """Amplitudes after the cut."""
        return self.amplitude[:, self.cut[0] :].astype(float)

    @cached_property
    def within(self) -> Float[Array, "chain shell"]:
        """Variance over time of each chain, over axes and phases, in units of sigma^2."""
        return self.kept.var(1, ddof=1).mean((2, 3)) / self.sigma**2

    def whole(self, shell: int) -> Estimate:
        """Variance over all chains and times, in units of sigma^2."""
        kept = self.kept[:, :, shell]
        return jackknife(
            len(kept), lambda chosen: float(kept[chosen].reshape(-1, *kept.shape[2:]).var(0).mean()) / self.sigma**2
        )

    @cached_property
    def time(self) -> float:
        """Integrated autocorrelation time of the constant mode within a chain, in units of sigma^2, by emcee."""
        return self.step * correlated_steps(self.kept[:, :, 0, 0, 0])

    @property
    def times(self) -> float:
        """Autocorrelation times in all chains together."""
        kept = self.kept
        return kept.shape[0] * kept.shape[1] * self.step / self.time

    def length(self) -> Estimate:
        r"""Second-moment length of what fluctuates within chains, $\sqrt{S_0/S_1 - 1}/2\sin(k_{\min}/2)$ (sites)."""

        def statistic(chosen: Array) -> float:
            power = self.within[chosen].mean(0)
            ratio = power[0] / power[1] - 1
            return math.sqrt(ratio) / (2 * math.sin(float(self.k_min.mean()) / 2)) if ratio > 0 else math.nan

        found = jackknife(len(self.within), statistic)
        undefined = math.isnan(found.value) or math.isnan(found.stderr)
        return (
            Estimate.missing(len(self.within), "the constant mode is no softer than the next") if undefined else found
        )


def levels_of(run: Run, start: str) -> list[Level]:
    """Return the chains of one start at every noise level."""
    data, place = run.dataset, STARTS.index(start)
    order, amplitude = (data[name].to_numpy()[:, place] for name in ("order", "amplitude"))
    step = float(data["time"].to_numpy()[1])
    k_min = np.array(Lattice(tuple(run.identity["model"]["shape"][1:])).k_min)
    sigmas = data["level"].to_numpy()
    return [Level(float(s), step, order[:, i], amplitude[:, i], k_min) for i, s in enumerate(sigmas)]


def analyse(run: Run) -> Results:
    """Return susceptibility, memory and hysteresis by noise level, and from where on the start is remembered."""
    starts = STARTS[: run.dataset.sizes["condition"]]
    of, memory = {start: levels_of(run, start) for start in starts}, Memory.of(run)
    left = [memory.left(i) for i in range(len(of["ordered"]))]
    remembered = Remembered.of([each.sigma for each in of["ordered"]], left)
    rows = [_row(run, of, memory, i, remembered) for i in range(len(left))]
    free = remembered.above
    peaks = {start: settled_peak(each[free:]) for start, each in of.items()}
    level = remembered.level
    return Results(
        answer=_answer(run, remembered, rows[free:], peaks["disordered"]),
        quantities=(
            Quantity("memory_level", 0, level, "noise level below which chains remember their start", "",
                     "paper Sec. 5", level.value),
            *(
                Quantity(f"peak_{start.replace(' ', '_')}", 0, found,
                         f"noise level of the largest susceptibility where the start is forgotten, {start}", "",
                         "paper Sec. 5", found.value)
                for start, found in peaks.items()
            ),
        ),
        tables={"levels": _levels(run, rows), **_details(rows)},
        notes=_notes(run, rows),
        values={"rows": rows, "peaks": peaks, "memory_level": level},
    )  # fmt: skip


def _row(run: Run, of: Mapping[str, list[Level]], memory: Memory, i: int, remembered: Remembered) -> dict[str, Any]:
    """Return everything that is known of one noise level."""
    free, fine, bound = of["disordered"][i], of["half step"][i], of["ordered"][i]
    reason = remembered.doubt(i) or (
        "not settled" if not free.cut[1]
        else f"only {free.times:.0f} autocorrelation times" if free.times < ENOUGH
        else ""
    )  # fmt: skip
    chi = [_doubt(of_mean(free.within[:, shell]), reason) for shell in range(free.within.shape[1])]
    chi_fine = of_mean(fine.within[:, 0])
    row: dict[str, Any] = {
        "sigma": free.sigma, "chi": chi, "chi_ordered": of_mean(bound.within[:, 0]), "whole": free.whole(0),
        "chi_fine": chi_fine, "chi_extrapolated": extrapolated(chi[0], chi_fine), "xi": free.length(),
        "order": of_mean(free.order[:, free.cut[0] :].mean(1)), "order_ordered": of_mean(_late(bound)),
        "difference": _difference(_late(bound), _late(free)), "time": free.time, "times": free.times,
        "cut": free.cut[0] * free.step, "settled": free.cut[1], "memory": remembered.left[i],
        "memory_time": memory.time(i), "class": memory.same_class(i), "data": None, "null": None,
    }  # fmt: skip
    if "null" in of:
        variance = float(run.dataset["data_variance"].to_numpy()[0].mean())
        row["data"] = 1 + variance / free.sigma**2
        row["null"] = of_mean(of["null"][i].within[:, 0])
    return row


def _late(level: Level) -> Array:
    """Return the mean order of each chain over the second half of its time."""
    return np.asarray(level.order[:, level.order.shape[1] // 2 :].mean(1), float)


def _difference(one: Array, other: Array) -> Estimate:
    """Return the difference of two independent means."""
    a, b = of_mean(one), of_mean(other)
    error = math.hypot(a.stderr, b.stderr)
    value = a.value - b.value
    return Estimate(value, error, len(one), value - 1.96 * error, value + 1.96 * error)


def _doubt(estimate: Estimate, reason: str) -> Estimate:
    return Estimate(estimate.value, estimate.stderr, estimate.samples, estimate.low, estimate.high, reason)


def extrapolated(coarse: Estimate, fine: Estimate) -> Estimate:
    r"""Return a value at no step from those at h and h/2, $(4f(h/2) - f(h))/3$, of a scheme of second order.

    Source: leimkuhler2013 for the order.
    """
    value = (4 * fine.value - coarse.value) / 3
    error = math.hypot(4 * fine.stderr, coarse.stderr) / 3
    return Estimate(value, error, coarse.samples, value - 1.96 * error, value + 1.96 * error, coarse.reason)


def settled_peak(levels: list[Level]) -> Estimate:
    """Return the noise level of the largest susceptibility of the constant mode, down to where chains settle."""
    unsettled = [i for i, each in enumerate(levels) if not each.cut[1]]
    own = levels[max(unsettled, default=-1) + 1 :]
    if len(own) < FEWEST:
        return Estimate.missing(len(levels[0].order), "too few levels settle")
    return peak(np.stack([each.within[:, 0] for each in own], 1), np.array([each.sigma for each in own]))


def peak(chains: Float[Array, "chain level"], levels: Array) -> Estimate:
    """Return the noise level at which the mean over chains is largest, by a parabola through three points, in logs."""
    logs = np.log(levels)

    def statistic(curve: Array) -> Array:
        place = int(np.argmax(curve))
        if place in (0, len(curve) - 1):
            return np.array([math.nan])
        y = np.log(curve[place - 1 : place + 2])
        bend = y[0] - 2 * y[1] + y[2]
        return np.array([math.exp(logs[place] + 0.5 * (y[0] - y[2]) / bend * (logs[1] - logs[0]))])

    (found,) = bootstrap(chains, statistic, centre=lambda sample: sample.mean(0))
    if math.isnan(found.value):
        return Estimate.missing(len(chains), "largest at an end of the range")
    return found


def _levels(run: Run, rows: list[dict[str, Any]]) -> Table:
    """Return the evidence, at few enough levels."""
    places = sorted({round(float(i)) for i in np.linspace(0, len(rows) - 1, min(len(rows), ROWS))})
    cells: list[tuple[Cell, ...]] = [
        (round(row["sigma"], 3), row["chi"][0], row["chi_ordered"], row["null"], row["data"], row["xi"],
         round(row["time"], 1), row["memory"], _time(row["memory_time"], run))
        for row in (rows[i] for i in places)
    ]  # fmt: skip
    return Table(
        "The frozen network by noise level",
        ("sigma", "noise", "image", "null", "exact", "xi", "tau", "memory", "lost at"),
        tuple(cells),
        "noise, image: susceptibility of the constant mode within a chain, from noise and from one image; null: of the "
        "Gaussian null, run alike; exact: of an exact score without limit of time; xi in sites; tau: autocorrelation "
        f"time; memory after {run.config['duration']:g} (1: none lost), and when it falls below 1/e, in sigma^2",
    )


def _time(value: float, run: Run) -> str:
    return f"> {run.config['duration']:g}" if math.isnan(value) else f"{value:.2g}"


def _details(rows: list[dict[str, Any]]) -> dict[str, Table]:
    """Return everything else by noise level."""
    shells = len(rows[0]["chi"])
    return {
        "hysteresis": Table(
            "Where two starts differ: mean of D over the second half",
            ("sigma", "from one image", "from noise", "difference", "beyond 3 errors", "class kept"),
            tuple((round(r["sigma"], 3), r["order_ordered"], r["order"], r["difference"],
                   bool(abs(r["difference"].value) > APART * r["difference"].stderr), r["class"]) for r in rows),
            "class kept: share of the chains from one image that are seen as its class at the end",
        ),
        "shells": Table(
            "Susceptibility by Fourier shell", ("sigma", *(f"shell {n}" for n in range(shells)), "all chains", "data"),
            tuple((round(r["sigma"], 3), *r["chi"], r["whole"], r["data"]) for r in rows),
            "within a chain; all chains: of the constant mode over chains and times; data: of an exact score",
        ),
        "control": Table(
            "Control of step, settling and length",
            ("sigma", "chi, h", "chi, h/2", "no step", "cut", "settled", "autocorrelation times"),
            tuple((round(r["sigma"], 3), r["chi"][0], r["chi_fine"], r["chi_extrapolated"], r["cut"], r["settled"],
                   round(r["times"])) for r in rows),
            f"cut: time that is left out; below {ENOUGH} autocorrelation times in all chains a value is in doubt",
        ),
    }  # fmt: skip


def _notes(run: Run, rows: list[dict[str, Any]]) -> tuple[str, ...]:
    why = [f"{row['sigma']:.2g} ({row['chi'][0].reason})" for row in rows if row["chi"][0].reason]
    found = [f"in doubt: sigma = {', '.join(why)}"] if why else []
    if run.config["dynamics"] != "langevin":
        found.append(
            "the reverse SDE with its time frozen has half the temperature, and is no equilibrium of the score"
        )
    return tuple(found)


def _answer(run: Run, remembered: Remembered, rows: list[dict[str, Any]], peak: Estimate) -> str:
    """Say where the start is remembered, and what the susceptibility does where it is forgotten."""
    said = f"Frozen for {run.config['duration']:g} sigma^2, {remembered}"
    if len(rows) < FEWEST:
        return (
            f"{said} Too few levels to tell whether the susceptibility has a peak where the start is forgotten: "
            f"{len(rows)} of the {FEWEST} that it takes; raise --levels or --duration."
        )
    top = max(rows, key=lambda row: row["chi"][0].value)
    sure = math.isfinite(peak.value) and not peak.reason
    how = f"peaks at sigma = {peak.value:.3g} {peak.interval}" if sure else "has no peak that is sure"
    doubt = f" (in doubt: {top['chi'][0].reason})" if top["chi"][0].reason else ""
    beside = "" if top["data"] is None else f", where an exact score has {top['data']:.3g}"
    return (
        f"{said} Where it is forgotten, the susceptibility of the constant mode {how}: it is {top['chi'][0]}{doubt} at "
        f"most, at sigma = {top['sigma']:.3g}{beside}."
    )
