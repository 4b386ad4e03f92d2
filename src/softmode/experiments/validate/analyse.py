"""The score card: how often each criterion finds what is not there, misses what is, and how far off it is."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from softmode.estimate import Array, Estimate, of_mean, of_share
from softmode.experiments.validate.flaws import FLAWS
from softmode.experiments.validate.measure import CRITERIA, KINDS, WINDOWED
from softmode.experiments.validate.suite import HIERARCHY
from softmode.runs.results import Cell, Quantity, Results, Table
from softmode.runs.run import Run

# a level that is off by more than this factor misses its transition
FACTOR = 2.0
# the rows of the score card: the window by its sigma_c, then the other criteria
SHOWN = tuple(name for name in CRITERIA if name not in WINDOWED[1:])


@dataclass(frozen=True, eq=False)
class Scores:
    """What was found of every model of the suite.

    Args:
        level: What each criterion gives without doubt; NaN where it gives nothing, [model, criterion].
        truth: What it should give.
        measured: Whether the criterion was looked for.
        covered: 1 where its 95 % interval holds the truth, 0 where not, NaN where there is none of either.
        null: Whether the model has no transition, [model].
        kind: Its kind.
        flaw: What is wrong with it.
        labelled: Whether it has classes.
        separate: Levels of a tree; 0 of any other model.
        separate_found: Those with a window of their own.
        windows: Windows that were found.
    """

    level: Float[Array, "model criterion"]
    truth: Float[Array, "model criterion"]
    measured: Bool[Array, "model criterion"]
    covered: Float[Array, "model criterion"]
    null: Bool[Array, " model"]
    kind: Array
    flaw: Array
    labelled: Array
    separate: Array
    separate_found: Array
    windows: Array

    @classmethod
    def of(cls, run: Run) -> "Scores":
        """Return those of a run."""
        data = run.dataset
        names = "kind", "flaw", "labelled", "separate", "separate_found", "windows"
        told = {name: data[name].to_numpy() for name in names}
        level, low, high, truth = (data[name].to_numpy() for name in ("level", "low", "high", "truth"))
        level = np.where(data["doubt"].to_numpy() > 0, np.nan, level)
        inside = np.where((low <= truth) & (truth <= high), 1.0, 0.0)
        covered = np.where(np.isfinite(level + low + high + truth), inside, np.nan)
        # the first of some states is one of them, and has no interval
        covered[:, CRITERIA.index("first_unstable_state")] = np.nan
        return cls(level, truth, data["measured"].to_numpy() > 0, covered, data["transition"].to_numpy() == 0, **told)

    def off(self, name: str) -> Float[Array, " model"]:
        """Return log(level / truth) of a criterion; NaN where one of both is undefined, and of windows of trees."""
        i = CRITERIA.index(name)
        off = np.log(self.level[:, i] / self.truth[:, i])
        return np.where(self.separate > 0, np.nan, off) if name in WINDOWED else off

    def alarms(self, name: str) -> Bool[Array, " null"]:
        """Return on which models without a transition, of those where it was looked for, a criterion gives a level."""
        i = CRITERIA.index(name)
        return np.isfinite(self.level[self.null & self.measured[:, i], i])

    def missed(self, name: str) -> Bool[Array, " model"]:
        """Return on which models a criterion misses the transition: it gives nothing, or is off by FACTOR.

        A window misses a tree unless every level of it has a window of its own, and any model if there are more windows
        than transitions; a hierarchy may have several.
        """
        off = np.log(self.level / self.truth)[:, CRITERIA.index(name)]
        missed = ~(np.abs(off) <= math.log(FACTOR))
        if name not in WINDOWED:
            return missed
        several = (self.windows > np.maximum(self.separate, 1)) & (self.kind != KINDS.index(HIERARCHY))
        return np.where(self.separate > 0, self.separate_found < self.separate, missed) | several

    def asked(self, name: str) -> Bool[Array, " model"]:
        """Return which models have a transition of which the criterion's level is known."""
        i = CRITERIA.index(name)
        return ~self.null & self.measured[:, i] & np.isfinite(self.truth[:, i])


def analyse(run: Run) -> Results:
    """Return the score card of every criterion, and that of the window by kind of model and by flaw."""
    scores = Scores.of(run)
    return Results(
        answer=_answer(scores),
        quantities=_quantities(scores),
        tables={
            "scores": _card(scores), "ends": _ends(scores), "nulls": _nulls(scores), "misses": _misses(scores),
            "flaws": _flaws(scores),
        },
        notes=_notes(run),
    )  # fmt: skip


def rate(found: Array) -> Estimate:
    """Return a share with its exact binomial 95 % interval; undefined of none."""
    return of_share(int(np.sum(found)), len(found))


def _share(found: Array) -> str:
    """Return a share as a cell."""
    share = rate(found)
    return "" if math.isnan(share.value) else f"{share.value:.1%} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def _mean(off: Array) -> Estimate:
    off = off[np.isfinite(off)]
    if len(off) < 2:
        return Estimate.missing(len(off), "too few models")
    return of_mean(off)


def title(name: str) -> str:
    """Return a criterion in words."""
    return "the window" if name == "sigma_c" else name.replace("_", " ").replace("xi ", "xi_")


def _answer(scores: Scores) -> str:
    parts = []
    if scores.null.any():
        alarms = scores.alarms("sigma_c")
        parts.append(f"gives a window on {alarms.sum()} of {len(alarms)} models without a transition")
    if (asked := scores.asked("sigma_c")).any():
        parts.append(f"misses {scores.missed('sigma_c')[asked].sum()} of {asked.sum()} models with one")
    covered = _of_windows(scores, scores.covered[:, 0])
    covered = covered[np.isfinite(covered)]
    said = "softmode window " + " and ".join(parts)
    if not len(covered):
        return f"{said}."
    return f"{said}; the 95 % interval of sigma_c holds the truth in {covered.sum():.0f} of {len(covered)}."


def _of_windows(scores: Scores, values: Array) -> Array:
    """Return the values of the models that have one window, those of trees left out."""
    return values[~scores.null & (scores.separate == 0)]


def _quantities(scores: Scores) -> tuple[Quantity, ...]:
    asked = scores.asked("sigma_c")
    found = [
        Quantity("false_alarms", 0, rate(scores.alarms("sigma_c")), "share of models without a transition with one"),
        Quantity("misses", 0, rate(scores.missed("sigma_c")[asked]), "share of models with a transition without it"),
    ]
    for i, name in enumerate(WINDOWED):
        covered = _of_windows(scores, scores.covered[:, i])
        covered = covered[np.isfinite(covered)]
        found.append(Quantity(f"coverage_{name}", 0, rate(covered), f"share of intervals of {name} with the truth"))
        found.append(Quantity(f"bias_{name}", 0, _mean(scores.off(name)), f"mean of log({name} / truth)"))
    return tuple(found)


def _row(scores: Scores, name: str, title: str) -> tuple[Cell, ...]:
    asked, off = scores.asked(name), scores.off(name)
    known = np.isfinite(off)
    covered = scores.covered[known, CRITERIA.index(name)]
    covered = covered[np.isfinite(covered)]
    spread = f"{off[known].std(ddof=1):.2f}" if known.sum() > 1 else ""
    bias = f"{_mean(off)}" if known.sum() > 1 else ""
    return (title, _share(scores.alarms(name)), _share(scores.missed(name)[asked]), bias, spread, _share(covered))


COLUMNS = ("criterion", "false alarms", "misses", "bias, log sigma", "spread", "coverage of 95 %")


def _card(scores: Scores) -> Table:
    note = (
        f"misses: nothing without doubt within a factor {FACTOR:g} of the truth; bias and spread of log(level / truth) "
        "where there is a level, coverage where there is an interval; truth: the criterion's own quantity, of the "
        "first unstable state where any can be, of the lower five where 5 % of the states are; 95 % intervals in "
        "brackets; pixels and random weights are unstable, and count as false alarms of the second and third row"
    )
    rows = tuple(_row(scores, name, title(name)) for name in SHOWN)
    return Table("Every criterion on models whose answer is known", COLUMNS, rows, note)


def _ends(scores: Scores) -> Table:
    rows = []
    for kind, labelled in (("label", 1), ("softest modes", 0)):
        chosen = _chosen(scores, scores.labelled == labelled)
        rows += [_row(chosen, name, f"{name}, {kind}") for name in WINDOWED]
    return Table("The ends of the window", COLUMNS, tuple(rows))


def _chosen(scores: Scores, which: Array) -> Scores:
    return Scores(**{name: values[which] for name, values in vars(scores).items()})


def _nulls(scores: Scores) -> Table:
    """Return the false alarms of every criterion that has its own test, by kind of model."""
    tested = ("sigma_c", "first_unstable_state", "half_of_states_unstable", "peak_of_xi_eq")
    rows = []
    for kind in np.unique(scores.kind[scores.null]):
        of = _chosen(scores, scores.null & (scores.kind == kind))
        rows.append((KINDS[kind], len(of.kind), *(int(of.alarms(name).sum()) for name in tested)))
    note = "pixels are unstable, one by one, and random weights in a mode that is the same at all states: no window"
    return Table("Models without a transition", ("model", "count", *map(title, tested)), tuple(rows), note)


def _misses(scores: Scores) -> Table:
    asked, missed, rows = scores.asked("sigma_c"), scores.missed("sigma_c"), list[tuple[Cell, ...]]()
    for kind in np.unique(scores.kind[~scores.null]):
        for labelled, by in ((1, "label"), (0, "softest modes")):
            of = asked & (scores.kind == kind) & (scores.labelled == labelled)
            if of.any():
                levels = (
                    f"{scores.separate_found[of].sum()} of {scores.separate[of].sum()}" if "tree" in KINDS[kind] else ""
                )
                rows.append((KINDS[kind], by, int(of.sum()), int(missed[of].sum()), levels))
    return Table("Windows by kind of transition", ("model", "by", "count", "missed", "levels found"), tuple(rows))


def _flaws(scores: Scores) -> Table:
    rows, asked, missed = list[tuple[Cell, ...]](), scores.asked("sigma_c"), scores.missed("sigma_c")
    for place, flaw in enumerate(FLAWS):
        own = scores.flaw == place
        alarms = _chosen(scores, own).alarms("sigma_c")
        rows.append((flaw, f"{alarms.sum()} of {len(alarms)}", f"{missed[own & asked].sum()} of {(own & asked).sum()}"))
    note = "errors of the output that vary rapidly with the state, in units of the data's standard deviation"
    return Table("Windows of flawed models", ("flaw", "false alarms", "misses"), tuple(rows), note)


def _notes(run: Run) -> tuple[str, ...]:
    made = "each with the first answer of softmode window --quick" if run.config["quick"] else "each in the settings "
    made += "" if run.config["quick"] else f"of softmode window, {run.config['trajectories']} trajectories"
    return (f"models of 16x16 sites, {made}",)
