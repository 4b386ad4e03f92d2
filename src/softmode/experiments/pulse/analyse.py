"""The summary of a pulse experiment (paper H.7): every condition, and the critical pulse against each of them."""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from softmode.runs import provenance
from softmode.comparison import compare, holm, over_classes
from softmode.estimate import Array, Estimate, jackknife
from softmode.observe.alignment import diversity, frechet_distance
from softmode.runs.run import Run

CRITICAL = "critical"
# what is compared: name -> what it is
MEASURES = {
    "probability": "probability of the target class",
    "logit": "logit of the target class",
    "top1": "share of samples whose most probable class is the target",
}


def by_trial(run: Run, name: str) -> Array:
    """Return a measure of every sample, [condition, class, trial]."""
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


def summarise(run: Run, seconds: float) -> dict[str, Any]:
    """Return the summary of a finished run."""
    return {
        **run.identity,
        "machine": provenance.machine(),
        "wall_seconds": round(seconds, 3),
        "conditions": condition_table(run),
        "comparisons": comparison_table(run),
        "real_diversity": _real_diversity(run),
    }  # fmt: skip


def condition_table(run: Run) -> list[dict[str, Any]]:
    """Return what every condition did: its alignment, its cost, and what it did to diversity and quality."""
    measured = {name: by_trial(run, name) for name in (*MEASURES, "change", "guide_calls", "weight")}
    features, real = by_trial(run, "features"), real_features(run)
    rows = []
    for place, condition in enumerate(run.identity["conditions"]):
        at = {name: values[place] for name, values in measured.items()}
        guided = (at["weight"] != 0).sum(-1)
        row: dict[str, Any] = {
            **condition,
            **{name: asdict(over_classes(at[name].mean(1))) for name in (*MEASURES, "change")},
            "guided_steps": {"mean": float(guided.mean()), "least": int(guided.min()), "most": int(guided.max())},
            "unguided_trials": int((guided == 0).sum()),
            "guide_calls": float(at["guide_calls"].mean()),
            "dose": float(dose(at["weight"], run.dataset["level"].to_numpy()).sum(-1).mean()),
            "diversity": asdict(_over_trials(_mean_diversity, features[place])),
        }
        if real is not None:
            row["frechet"] = asdict(_over_trials(lambda f: _frechet(f, real), features[place]))
        # against the unguided twins, on the same trials
        both = np.stack([features[0], features[place]])
        row["diversity_ratio"] = asdict(_over_trials(lambda f: _mean_diversity(f[1]) / _mean_diversity(f[0]), both))
        if real is not None:
            row["frechet_change"] = asdict(_over_trials(lambda f: _frechet(f[1], real) - _frechet(f[0], real), both))
        rows.append(row)
    return rows


def real_features(run: Run) -> Array | None:
    """Return the features of real images of the run's classes, of all where these are not known, [image, feature]."""
    if "real_features" not in run.dataset:
        return None
    features, known = run.dataset["real_features"].to_numpy(), run.dataset["real_label"].to_numpy()
    return features if (known < 0).any() else features[np.isin(known, run.identity["model"]["labels"])]


def dose(weight: Array, levels: Array) -> Array:
    r"""Return the guidance $\int w\,d\log\sigma$ of each step, by Heun's trapezoid rule, [..., step].

    Args:
        weight: Weights at the levels [..., level].
        levels: Falling noise levels [level]; the last step, to no noise, is left out.
    """
    return 0.5 * (weight[..., 1:] + weight[..., :-1]) * -np.diff(np.log(levels))


def comparison_table(run: Run) -> list[dict[str, Any]]:
    """Return the critical pulse less every other condition, for every measure: by class, pooled, and corrected."""
    names = names_of(run)
    if CRITICAL not in names:
        return []
    centre, rows = names.index(CRITICAL), []
    for measure in MEASURES:
        values = by_trial(run, measure)
        baselines = [place for place in range(len(names)) if place != centre]
        found = [compare(values[centre], values[place]) for place in baselines]
        corrected = holm([comparison.p for comparison in found])
        for place, comparison, p_holm in zip(baselines, found, corrected, strict=True):
            rows.append({
                "measure": measure, "baseline": names[place], "pooled": asdict(comparison.pooled),
                "p": comparison.p, "p_holm": p_holm,
                "by_class": [
                    {"label": label, **asdict(estimate), "p": p}
                    for label, estimate, p in zip(
                        run.identity["model"]["labels"], comparison.by_class, comparison.by_class_p, strict=True
                    )
                ],
            })  # fmt: skip
    return rows


def _over_trials(statistic: Callable[[Array], float], features: Array) -> Estimate:
    """Estimate a number from features [..., class, trial, feature], leaving out one trial of every class at a time."""
    return jackknife(features.shape[-2], lambda keep: statistic(features[..., keep, :]))


def _mean_diversity(features: Array) -> float:
    """Return the mean over classes of the mean distance of two samples of a class; features [class, trial, feature]."""
    return float(np.mean([diversity(rows) for rows in features]))


def _frechet(features: Array, real: Array) -> float:
    return frechet_distance(features.reshape(-1, features.shape[-1]), real)


def _real_diversity(run: Run) -> float:
    """Return the diversity of real images within a class, the mean over classes; NaN where these are not known."""
    if "real_label" not in run.dataset:
        return math.nan
    features, known = run.dataset["real_features"].to_numpy(), run.dataset["real_label"].to_numpy()
    labels = [label for label in run.identity["model"]["labels"] if (known == label).sum() > 1]
    return float(np.mean([diversity(features[known == label]) for label in labels])) if labels else math.nan
