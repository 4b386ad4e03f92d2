"""What a pulse experiment found (paper H.7): the critical pulse against every other condition, and what each does."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from softmode.comparison import compare, holm, is_least, over_classes
from softmode.estimate import Array, Estimate, jackknife
from softmode.experiments.pulse.critical import Critical
from softmode.experiments.pulse.tables import (
    LEVEL,
    by_class_table,
    comparison_table,
    condition_tables,
    every_class_table,
)
from softmode.observe.alignment import diversity, frechet_distance
from softmode.runs.classifier import NONE
from softmode.runs.results import Quantity, Results
from softmode.runs.run import Run

CRITICAL = "critical"
# the paper's baseline (H.4)
RANDOM = "random"
# what is compared: name -> what it is
MEASURES = {
    "probability": "probability of the target class",
    "logit": "logit of the target class",
    "top1": "share of samples whose most probable class is the target",
}


def analyse(run: Run) -> Results:
    """Return the critical pulse against every other condition, and what each condition does to samples."""
    sigma_c, conditions, comparisons = Critical.stored(run).sigma_c, condition_rows(run), comparison_rows(run)
    of = {measure: [row for row in comparisons if row["measure"] == measure] for measure in MEASURES}
    tables = {"probability": comparison_table(of["probability"], "probability")}
    tables |= condition_tables(conditions) | {
        "logit": comparison_table(of["logit"], "logit"),
        "top1": comparison_table(of["top1"], "share of samples whose most probable class is the target"),
        "by_class": by_class_table([row for row in comparisons if row["baseline"] == RANDOM], "the random pulse"),
    }
    tables |= {f"{measure}_by_class": every_class_table(rows, MEASURES[measure]) for measure, rows in of.items()}
    found = real_diversity(run)
    return Results(
        answer=_answer(sigma_c, of["probability"]),
        quantities=(
            Quantity("sigma_c", 0, sigma_c, "centre of the critical pulse, a noise level", r"$\sigma_c$", "H.3",
                     sigma_c.value),
            *(
                Quantity(f"{row['measure']}_minus_{row['baseline']}", 0, row["pooled"],
                         f"{MEASURES[row['measure']]}, critical minus {row['baseline']}", "", "H.7")
                for row in comparisons
            ),
        ),
        tables=tables,
        notes=(*few_classes(len(run.identity["model"]["labels"]), len(of["probability"])), *judged_by(run),
               *([] if found is None else [f"diversity of real images within a class: {found:.3g}"])),
        values={"conditions": conditions, "comparisons": comparisons, "real_diversity": found},
    )  # fmt: skip


def _answer(sigma_c: Estimate, rows: Sequence[Mapping[str, Any]]) -> str:
    row = next(row for row in rows if row["baseline"] == RANDOM)
    pooled, p = row["pooled"], row["p_holm"]
    sure = p is not None and p < LEVEL
    way, side = ("higher", "better") if pooled.value >= 0 else ("lower", "worse")
    least = ", the smallest possible" * is_least(row["p"], pooled.samples)
    said = "" if p is None else f" (p = {p:.2g}{least}, corrected for {len(rows)} comparisons)"
    evidence = f"the probability of the class is {way} by {abs(pooled.value):.2g}{_turned(pooled)}{said}"
    pulse = f"a pulse of guidance at sigma_c = {_short(sigma_c)}"
    if not sure:
        return (
            f"This run cannot tell whether {pulse} aligns samples with their class better than the same pulse at a "
            f"random place: {evidence}."
        )
    rest = [other for other in rows if other is not row and other["p_holm"] < LEVEL]
    better, worse = ([o["baseline"] for o in rest if (o["pooled"].value > 0) == sign] for sign in (True, False))
    lost = f" ({', '.join(worse)})" if worse else ""
    return (
        f"{pulse[0].upper()}{pulse[1:]} aligns samples with their class {side} than the same pulse at a random place: "
        f"{evidence}. Of the {len(rows) - 1} other conditions it is better than {len(better)} and worse than "
        f"{len(worse)}{lost}."
    )


def _turned(estimate: Estimate) -> str:
    """Return the interval of the size of a difference."""
    ends = sorted((estimate.low, estimate.high)) if estimate.value >= 0 else sorted((-estimate.low, -estimate.high))
    return f" [{ends[0]:.2g}, {ends[1]:.2g}]" if math.isfinite(estimate.low) else ""


def _short(estimate: Estimate) -> str:
    """Return a noise level with its error, or to three digits where it was given."""
    return f"{estimate}" if estimate.samples and math.isfinite(estimate.stderr) else f"{estimate.value:.3g}"


def judged_by(run: Run) -> list[str]:
    """Return notes on what the classes are, of a model of attributes, and on what told them if no classifier did."""
    names = run.identity["model"].get("names", ())
    told = [", ".join(f"class {place} is {name}" for place, name in enumerate(names))] if names else []
    if run.config["classifier"] != NONE:
        return told
    return [
        *told,
        "no classifier: probability and logit of a class are the model's own posterior of it along a noising path, and "
        "diversity and Fréchet distance are those of the states themselves",
    ]


def few_classes(classes: int, comparisons: int) -> list[str]:
    """Return a note if no difference could be significant, however large: signs of classes flip in 2^n ways."""
    least = 2.0 ** (1 - classes)
    if comparisons * least < LEVEL:
        return []
    return [
        f"with {classes} {'class' if classes == 1 else 'classes'} no p-value over classes is below {least:.2g}, or "
        f"{min(1.0, comparisons * least):.2g} corrected for {comparisons} comparisons: use more classes"
    ]


def by_trial(run: Run, name: str) -> Float[Array, "condition class trial ..."]:
    """Return a measure of every sample; `top1` is whether its most probable class is the target."""
    data, (classes, trials) = run.dataset, shape_of(run)
    if name == "top1":
        values = (data["predicted"] == data["label"]).to_numpy().astype(float)
    else:
        values = data[name].to_numpy().astype(float)
    return np.moveaxis(values.reshape(classes, trials, *values.shape[1:]), 2, 0)


def shape_of(run: Run) -> tuple[int, int]:
    """Return the numbers of classes and of trials of each."""
    return len(run.identity["model"]["labels"]), int(run.config["trials"])


def names_of(run: Run) -> list[str]:
    """Return the names of the conditions, in order."""
    return [condition["name"] for condition in run.identity["conditions"]]


def about(run: Run) -> str:
    """Return one line that says which experiment on guidance a figure shows."""
    config = run.config
    classes, trials = shape_of(run)
    name = "/".join(Path(run.identity["model"]["name"]).parts[-2:])
    return (
        f"model {name}, guide {Path(config['guide']).name}, w = {config['weight']:g}, "
        f"{classes} classes × {trials} trials, {config['steps']} levels, seed {config['seed']}"
    )


def condition_rows(run: Run) -> list[dict[str, Any]]:
    """Return what every condition did: its alignment, its cost, and what it did to diversity and quality."""
    measured = {name: by_trial(run, name) for name in (*MEASURES, "change", "guide_calls", "weight")}
    features, real = by_trial(run, "features"), real_features(run)
    rows = []
    for place, condition in enumerate(run.identity["conditions"]):
        at = {name: values[place] for name, values in measured.items()}
        guided = (at["weight"] != 0).sum(-1)
        row: dict[str, Any] = {
            **condition,
            **{name: over_classes(at[name].mean(1)) for name in (*MEASURES, "change")},
            "guided_steps": {"mean": float(guided.mean()), "least": int(guided.min()), "most": int(guided.max())},
            "unguided_trials": int((guided == 0).sum()),
            "guide_calls": float(at["guide_calls"].mean()),
            "dose": float(dose(at["weight"], run.dataset["level"].to_numpy()).sum(-1).mean()),
            "diversity": _over_trials(_mean_diversity, features[place]),
        }
        # against the unguided twins, on the same trials
        both = np.stack([features[0], features[place]])
        row["diversity_ratio"] = _over_trials(lambda f: _mean_diversity(f[1]) / _mean_diversity(f[0]), both)
        if real is not None:
            row["frechet"] = _over_trials(lambda f: _frechet(f, real), features[place])
            row["frechet_change"] = _over_trials(lambda f: _frechet(f[1], real) - _frechet(f[0], real), both)
        rows.append(row)
    return rows


def real_features(run: Run) -> Float[Array, "image feature"] | None:
    """Return the features of real images of the run's classes, of all where these are not known."""
    if "real_features" not in run.dataset:
        return None
    features, known = run.dataset["real_features"].to_numpy(), run.dataset["real_label"].to_numpy()
    return features if (known < 0).any() else features[np.isin(known, run.identity["model"]["labels"])]


def dose(weight: Float[Array, "*any level"], levels: Float[Array, " level"]) -> Array:
    r"""Return the guidance $\int w\,d\log\sigma$ of each step, by Heun's trapezoid rule, [*any, step].

    Args:
        weight: Weights at the levels.
        levels: Falling noise levels; the last step, to no noise, is left out.
    """
    return 0.5 * (weight[..., 1:] + weight[..., :-1]) * -np.diff(np.log(levels))


def comparison_rows(run: Run, chosen: str = CRITICAL) -> list[dict[str, Any]]:
    """Return one condition minus every other, for every measure: by class, pooled, and corrected."""
    names, labels = names_of(run), run.identity["model"]["labels"]
    centre, rows = names.index(chosen), []
    for measure in MEASURES:
        values = by_trial(run, measure)
        baselines = [place for place in range(len(names)) if place != centre]
        found = [compare(values[centre], values[place]) for place in baselines]
        corrected = holm([comparison.p for comparison in found])
        for place, each, p_holm in zip(baselines, found, corrected, strict=True):
            by_class = zip(labels, each.by_class, each.by_class_p, strict=True)
            rows.append({
                "measure": measure, "baseline": names[place], "pooled": each.pooled, "p": _defined(each.p),
                "p_holm": _defined(p_holm),
                "by_class": [{"label": label, "estimate": e, "p": _defined(p)} for label, e, p in by_class],
            })  # fmt: skip
    return rows


def _defined(p: float) -> float | None:
    return p if math.isfinite(p) else None


def _over_trials(statistic: Callable[[Array], float], features: Array) -> Estimate:
    """Estimate a number from features [..., class, trial, feature], leaving out one trial of every class at a time."""
    return jackknife(features.shape[-2], lambda keep: statistic(features[..., keep, :]))


def _mean_diversity(features: Array) -> float:
    """Return the mean over classes of the mean distance of two samples of a class; features [class, trial, feature]."""
    return float(np.mean([diversity(rows) for rows in features]))


def _frechet(features: Array, real: Array) -> float:
    return frechet_distance(features.reshape(-1, features.shape[-1]), real)


def real_diversity(run: Run) -> float | None:
    """Return the diversity of real images within a class, the mean over classes; None where these are not known."""
    if "real_label" not in run.dataset:
        return None
    features, known = run.dataset["real_features"].to_numpy(), run.dataset["real_label"].to_numpy()
    labels = [label for label in run.identity["model"]["labels"] if (known == label).sum() > 1]
    return float(np.mean([diversity(features[known == label]) for label in labels])) if labels else None
