"""What a check finds: every property of a posterior mean, the answer to labels, and what experiments would cost."""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from softmode.bounds import check as check_bounds
from softmode.contract import check_denoiser
from softmode.experiments import EXPERIMENTS
from softmode.experiments.check.config import Config
from softmode.experiments.check.figures import write_samples
from softmode.labels import Label
from softmode.levels import flow_levels
from softmode.message import first_line
from softmode.model import Model
from softmode.runs.draw import check_picture
from softmode.runs.engine import seconds_left
from softmode.runs.opening import open_model
from softmode.runs.progress import duration
from softmode.runs.results import Results, Table
from softmode.soundness import Finding, label_response, look
from softmode.targets import targets

VERDICTS = {True: "yes", False: "NO", None: "not told"}


def check(config: Config, given: Mapping[str, Any] | None = None) -> Results:
    """Return what a model does of all that a posterior mean does, and what experiments on it would cost.

    Args:
        config: The model.
        given: The `model` and the `classifier` that are at hand.

    Raises:
        ValueError: If there is no such model, or it cannot be called.
    """
    check_bounds(config)
    check_picture(config.figure)
    given = given or {}
    model, device, dtype = open_model(config, given)
    labels = _labels(config, model)
    denoiser = model.denoiser(labels[0])
    high, low = flow_levels(model)
    levels = high, (high * low) ** 0.5, low
    seconds = max(check_denoiser(denoiser, model, dtype, device, sigma, True) for sigma in levels)
    findings = [Finding("two equal calls", "the same answer", "the same", True)]
    seen, samples = look(denoiser, model, dtype, device)
    findings += seen
    if samples is not None and len(labels) > 1:
        findings.append(label_response(denoiser, model.denoiser(labels[1]), samples, model))
    if config.figure and samples is not None:
        write_samples(config.figure, samples, denoiser, model)
    costs = _costs(config, {**given, "model": model})
    return Results(
        answer=_answer(model, findings),
        tables={
            "findings": Table(
                f"What {model.name} does of all that a posterior mean does", ("property", "found", "expected", "fine"),
                tuple((each.name, each.found, each.expected, VERDICTS[each.fine]) for each in findings),
            ),
            "cost": Table(
                "What it would cost on this machine, by default settings", ("command", "about"), costs,
                f"one call of the network takes {1e3 * seconds:.3g} ms per state",
            ),
        },
        notes=tuple(f"{each.name}: {each.remedy}" for each in findings if each.fine is False),
        values={"sound": all(each.fine is not False for each in findings), "seconds_per_call": seconds,
                "findings": [vars(each) for each in findings]},
    )  # fmt: skip


def _labels(config: Config, model: Model) -> list[Label]:
    """Return the labels that are told apart: two of the user's, or the first two of a label; else all samples."""
    if config.labels:
        return [*config.labels[:2]]
    asked: Sequence[Any] = targets(model)
    return list(asked[0].labels[:2]) if asked else [None]


def _answer(model: Model, findings: Sequence[Finding]) -> str:
    wrong = [each for each in findings if each.fine is False]
    if not wrong:
        return f"{model.name} is a denoiser as far as {len(findings)} properties can tell."
    first = wrong[0] if wrong[0].name != "highest noise level" or len(wrong) == 1 else wrong[1]
    fail = "1 fails:" if len(wrong) == 1 else f"{len(wrong)} fail, among them"
    return (
        f"{model.name} is not what softmode takes it for: of {len(findings)} properties {fail} "
        f"{first.name} ({first.found}; expected {first.expected})."
    )


def _costs(config: Config, given: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return how long each experiment would take, or why it cannot be had."""
    shared = {"model": config.model, "device": config.device, "dtype": config.dtype}
    high, low = flow_levels(given["model"])
    # a small lattice has fewer shells than the default
    usual: int = import_module(f"{EXPERIMENTS['probe']}.config").Config.shells
    probed = {"labels": config.labels, "shells": min(usual, (min(given["model"].shape[1:]) - 1) // 2)}
    settings: dict[str, dict[str, Any]] = {
        "window": probed | {"classifier": config.classifier},
        "probe": probed,
        # its own window, which would be measured first, is in the first row
        "pulse": {"labels": config.labels, "classifier": config.classifier, "sigma_c": (high * low) ** 0.5},
    }
    rows = []
    for name, own in settings.items():
        options, measure = (import_module(f"{EXPERIMENTS[name]}.{part}") for part in ("config", "measure"))
        try:
            with warnings.catch_warnings(), tempfile.TemporaryDirectory() as nowhere:
                warnings.simplefilter("ignore")
                plan = measure.prepare(options.Config(**shared, **own), given)
                rows.append((f"softmode {name}", duration(seconds_left(plan, Path(nowhere) / name))))
        except ValueError as error:
            rows.append((f"softmode {name}", first_line(error)))
    return tuple(rows)
