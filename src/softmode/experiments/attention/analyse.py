"""What an attention run found: what carries the coupling of distant sites, and which case its modes are."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from softmode.estimate import Array, Estimate
from softmode.experiments.attention.networks import FROZEN, NULL, WHOLE
from softmode.experiments.attention.verdict import NONE, Verdict, verdict
from softmode.runs.results import Cell, Quantity, Results, Table
from softmode.runs.run import Run

# names of what carries the long-range rest, and what tells of each
SOURCES = ("attention", "norms", "both", "neither")
TOLD = {
    "attention": "share of the long-range rest through attention and no norm's statistics",
    "norms": "share through norms' statistics and no attention",
    "both": "share through both",
    "neither": "share through neither: what convolutions reach",
}
ROWS = 8
UNDECIDED = "undecided"


@dataclass(frozen=True, eq=False)
class Found:
    """What was measured.

    Args:
        run: The run.
    """

    run: Run

    @property
    def levels(self) -> Array:
        """Falling noise levels."""
        return np.asarray(self.run.dataset["level"].to_numpy())

    @property
    def networks(self) -> list[str]:
        """Names of the networks, the whole one first and the null last."""
        return list(self.run.identity["networks"])

    def array(self, name: str, network: str = "") -> Array:
        """Return an array [state, level, ...], of one network where it is of several."""
        values = np.asarray(self.run.dataset[name].to_numpy())
        return values[:, :, self.networks.index(network)] if network else values

    def share(self, part: int, network: str) -> Array:
        """Return a part of a network's power over the whole network's, [state, level]."""
        return np.asarray(self.array("power", network)[..., part] / self.array("power", WHOLE).sum(-1))

    def verdicts(self, network: str) -> list[list[Verdict]]:
        """Return the case of every state at every level, [level][state]."""
        names = ("gamma", "coherence", "uniform", "edge")
        gamma, alike, uniform, edge = (self.array(name, network) for name in names)
        null = self.array("uniform", NULL)
        states, levels = edge.shape
        return [
            [verdict(gamma[i, j], alike[i, j], uniform[i, j], null[i, j], edge[i, j]) for i in range(states)]
            for j in range(levels)
        ]


def analyse(run: Run) -> Results:
    """Return the shares of attention, norms and convolutions, the modes beyond the edges, and the case of each level.

    `values` has the `verdicts`, one for each level.
    """
    found = Found(run)
    cases = [case(each) for each in found.verdicts(WHOLE)]
    return Results(
        answer=_answer(found),
        quantities=_quantities(found),
        tables={
            "levels": _levels(found, cases),
            "networks": _networks(found),
            "modes": _modes(found),
            "soft": _soft(found),
        },
        notes=_notes(run),
        values={"verdicts": [word for word, _ in cases], "radius": run.config["radius"]},
    )


def mean_of(values: Float[Array, " state"]) -> Estimate:
    """Return the mean of a number over states, with Student's interval: the states are few."""
    count, value = len(values), float(values.mean())
    if count < 2:
        return Estimate(value, math.nan, count, reason="one state has no error bar")
    stderr = float(values.std(ddof=1)) / math.sqrt(count)
    half = float(stats.t.ppf(0.975, count - 1)) * stderr
    return Estimate(value, stderr, count, value - half, value + half)


def case(verdicts: list[Verdict]) -> tuple[str, int]:
    """Return the case of most states and how many they are; undecided where no case is that of more than half."""
    word, count = Counter(each.word for each in verdicts).most_common(1)[0]
    return (word, count) if 2 * count > len(verdicts) else (UNDECIDED, count)


def source(found: Found, name: str, level: int) -> Estimate:
    """Return a share of the long-range rest at a level; undefined where the network lacks what carries it."""
    values = found.array("source")[:, level, SOURCES.index(name)]
    if not np.isfinite(values).all():
        lacking = "no such part" if np.isnan(values).all() else "some states have no long-range rest"
        return Estimate.missing(len(values), lacking)
    return mean_of(values)


def _answer(found: Found) -> str:
    parts = found.run.identity["parts"]
    chosen = sorted({0, len(found.levels) // 2, len(found.levels) - 1})
    carried = "; ".join(
        f"{words} {_told(found, name, chosen)}"
        for name, words in (("attention", "attention carries"), ("norms", "the norms' statistics carry"))
        if parts[name]
    )
    lacking = "" if parts["attention"] else ", and there is no attention"
    radius = found.run.config["radius"]
    whole, without = found.verdicts(WHOLE), found.verdicts(FROZEN) if parts["attention"] else None
    words = "; ".join(
        f"at {found.levels[j]:.3g} {_counted(whole[j])}"
        + (f", without attention {_counted(without[j])}" if without else "")
        for j in chosen
    )
    return (
        f"Of what couples particular places more than {radius:g} sites apart, {carried}{lacking}. "
        f"Its modes beyond the Wiener null and noise are {words}."
    )


def _counted(verdicts: list[Verdict]) -> str:
    counts = Counter(each.word for each in verdicts)
    if len(counts) == 1:
        return next(iter(counts))
    return " and ".join(f"{word} in {count}" for word, count in counts.items()) + f" of {len(verdicts)} states"


def _told(found: Found, name: str, levels: list[int]) -> str:
    estimates = {float(found.levels[j]): source(found, name, j) for j in levels}
    return ", ".join(f"{_percent(each)} at sigma = {level:.3g}" for level, each in estimates.items())


def _percent(estimate: Estimate) -> str:
    value, low, high = (
        round(100 * each) if math.isfinite(each) else None for each in (estimate.value, estimate.low, estimate.high)
    )
    return "an undefined share" if value is None else f"{value} [{low}, {high}] %"


def _quantities(found: Found) -> tuple[Quantity, ...]:
    """Return every share and measure of the whole network by level, numbered as noise falls."""
    quantities = []
    for j, level in enumerate(found.levels.tolist()):
        far = mean_of(found.share(3, WHOLE)[:, j])
        quantities.append(Quantity("far", j + 1, far, "share of |J|^2 in the long-range rest", "", "paper D.2", level))
        for name, what in TOLD.items():
            quantities.append(Quantity(name, j + 1, source(found, name, j), what, "", "paper D.2", level))
        rank = mean_of(found.array("rank", WHOLE)[:, j])
        quantities.append(Quantity("rank", j + 1, rank, "effective rank of that rest", "", "paper D.3", level))
        number = mean_of(np.isfinite(found.array("gamma", WHOLE)[:, j]).sum(1).astype(float))
        quantities.append(Quantity("modes", j + 1, number, "modes of it beyond the edges", "", "paper D.3", level))
    return tuple(quantities)


def _levels(found: Found, cases: list[tuple[str, int]]) -> Table:
    """Return what carries the long-range rest, and its case, at few enough levels."""
    rows: list[tuple[Cell, ...]] = []
    verdicts = found.verdicts(WHOLE)
    for j in shown(found.levels):
        word, count = cases[j]
        positive, negative = (np.mean([getattr(v, n) for v in verdicts[j]]) for n in ("positive", "negative"))
        rows.append(
            (float(found.levels[j]), mean_of(found.share(3, WHOLE)[:, j]), *(source(found, n, j) for n in SOURCES),
             f"{positive:.1f}/{negative:.1f}", f"{word} {count}/{len(verdicts[j])}")
        )  # fmt: skip
    note = (
        "rest: share of |J|^2 that couples particular sites beyond the radius; of it what goes through attention, the "
        "norms' statistics, both, neither (convolutions); mean number of modes beyond the "
        "edges with gamma > 0 / < 0; case of most states"
    )
    return Table(
        "What couples distant places",
        ("sigma", "rest", *SOURCES, "modes +/-", "case"),
        tuple(rows),
        note,
    )


def _networks(found: Found) -> Table:
    """Return every measure of every network."""
    rows: list[tuple[Cell, ...]] = []
    for j in shown(found.levels):
        for name in found.networks:
            if np.isnan(found.array("power", name)).all():
                continue
            modes = np.isfinite(found.array("gamma", name)[:, j]).sum(1).mean()
            rows.append(
                (float(found.levels[j]), name, *(mean_of(found.share(part, name)[:, j]) for part in range(4)),
                 mean_of(found.array("uniform", name)[:, j]), mean_of(found.array("rank", name)[:, j]),
                 mean_of(found.array("strongest", name)[:, j]), "" if name == NULL else f"{modes:.1f}")
            )  # fmt: skip
    note = (
        "parts in units of the whole network's |J|^2: what moves with the site within and beyond the radius, the rest "
        "likewise; uniform: gain of the constant mode through distant sites; rank, largest eigenvalue of the far rest"
    )
    columns = ("sigma", "network", "average", "beyond", "rest", "far rest", "uniform", "rank", "strongest", "modes")
    return Table("The network without a part of it", columns, tuple(rows), note)


def _modes(found: Found) -> Table:
    """Return the strongest modes of the first state, beside their edges."""
    rows: list[tuple[Cell, ...]] = []
    gamma, alike = found.array("gamma", WHOLE), found.array("coherence", WHOLE)
    held = found.array("gamma", FROZEN) if FROZEN in found.networks else None
    for j in shown(found.levels):
        edges = (float(found.array("noise_edge", WHOLE)[0, j]), float(found.array("null_edge")[0, j]))
        values = ", ".join(f"{value:.3g}" for value in gamma[0, j, :6] if math.isfinite(value)) or NONE
        without = "" if held is None else ", ".join(f"{v:.3g}" for v in held[0, j, :6] if math.isfinite(v)) or NONE
        sites = f"{alike[0, j, 0]:.2g}" if math.isfinite(alike[0, j, 0]) else ""
        rows.append((float(found.levels[j]), *edges, values, sites, without))
    note = "first state; coherence |sum_i u_i|^2/N of the strongest: 1 where all sites move alike, 1/N at random"
    columns = ("sigma", "noise", "null", "gamma, strongest first", "coherence", f"gamma, {FROZEN}")
    return Table("Modes of the long-range rest beyond both edges", columns, tuple(rows), note)


def _soft(found: Found) -> Table:
    """Return the long-range rest in the basis of the whole network's softest modes, and without attention."""
    rows: list[tuple[Cell, ...]] = []
    values, coupling = found.array("soft_value"), found.array("soft_coupling", WHOLE)
    without = found.array("soft_coupling", FROZEN) if FROZEN in found.networks else None
    for j in shown(found.levels):
        for a in range(2):
            others = np.delete(coupling[:, j, a], a, axis=1)
            rows.append(
                (float(found.levels[j]), a + 1, mean_of(values[:, j, a]), mean_of(coupling[:, j, a, a]),
                 mean_of(np.sqrt((others**2).mean(1))),
                 "no attention" if without is None else mean_of(without[:, j, a, a]))
            )  # fmt: skip
    columns = ("sigma", "mode", "eigenvalue", "J^glob, itself", "rms with the others", FROZEN)
    note = "J^glob_ab = v_a . F v_b of the far rest F between the softest modes v_a, eigenvectors of (J + J^T)/2"
    return Table("The long-range rest between the softest modes", columns, tuple(rows), note)


def shown(levels: Array) -> list[int]:
    """Return the places of a few of so many levels, evenly spread."""
    return sorted({round(float(i)) for i in np.linspace(0, len(levels) - 1, min(ROWS, len(levels)))})


def _notes(run: Run) -> tuple[str, ...]:
    parts, data, shape = run.identity["parts"], run.identity["data"], run.identity["model"]["shape"]
    tiles = "" if data["tile"] == shape[1:] else f", tiled to {' x '.join(map(str, shape[1:]))}, tiles independent"
    null = (
        f"the linear denoiser of the covariance of {data['images']} images{tiles}, shrunk to what moves with the site"
        if np.isfinite(run.dataset["null_edge"].to_numpy()).all()
        else "not known for want of data: modes are compared with noise alone"
    )
    return (
        f"Taken out: {parts['attention']} blocks of attention, {parts['norms']} norms with statistics over the field. "
        "What is frozen keeps its value at the state and responds to nothing; attention that is off adds nothing, so "
        "that the network's answer changes too.",
        f"Sites are near up to {run.config['radius']:g} sites, periodic. What convolutions reach beyond that goes "
        "through neither attention nor norms.",
        f"Wiener null: {null}. Modes exceed its strongest eigenvalue by two standard errors, and that of a matrix of "
        "the same entries with random signs; what lies within the radius is completed (mazumder2010).",
        "Cases: none; Curie-Weiss-like where one mode has two thirds of the squared strengths, is positive and moves "
        "all sites alike; Mattis-like where its sites have both signs; mixed where it is negative; Hopfield-like where "
        "no mode has two thirds.",
    )
