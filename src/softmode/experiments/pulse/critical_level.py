"""Running an experiment on guidance: its critical noise level, then every condition of every block of trials."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from softmode.runs import provenance
from softmode.experiments import window as windows
from softmode.experiments.curves import fingerprint
from softmode.experiments.guided import Cache, arrays, constants, measure, steps_of
from softmode.experiments.guided_setup import Condition, Guidance, window_config
from softmode.runs.progress import progress_bar
from softmode.runs.store import Run, check_directory, is_run

WINDOW = "window"


def critical_level(
    experiment: str, guidance: Guidance, out: str | Path, clones: int, progress: bool
) -> tuple[float, tuple[float, float] | None]:
    """Return the critical noise level and the window, if one was found: given, of a stored window, or measured now.

    Args:
        experiment: Name of the experiment.
        guidance: What it needs.
        out: Its directory; a window that is measured now goes to the directory `window` in it.
        clones: Trajectories that are copied for the window's clone curve; 0 leaves that out.
        progress: Whether to show progress bars.

    Raises:
        ValueError: If the stored window is of another model, the directory holds something else, or no window is found
            and no level is given.

    Source: paper H.3.
    """
    config = guidance.config
    if config.sigma_c is not None and not 0 < config.sigma_c < math.inf:
        raise ValueError(f"sigma_c: got {config.sigma_c}; expected a positive noise level")
    if config.window:
        answer = windows.read(Run.open(config.window))
        if (name := answer["model"]["name"]) != guidance.model.name:
            raise ValueError(f"window: {config.window!r} is of {name!r}, not of {guidance.model.name!r}")
    elif config.sigma_c is not None:
        return config.sigma_c, None
    else:
        if not is_run(out):
            check_directory(out, {})
        elif (held := Run.open(out).identity["experiment"]) != experiment:
            raise ValueError(f"out: {str(out)!r} holds a run of {held}; choose another directory or remove it")
        settings = window_config(guidance, clones)
        answer = windows.read(windows.run(settings, Path(out) / WINDOW, guidance.model, progress))
    found = answer["verdict"] != "none"
    if config.sigma_c is None and not found:
        raise ValueError(f"sigma_c: {answer['answer']}; give one with --sigma-c")
    sigma_c = config.sigma_c if config.sigma_c is not None else float(answer["sigma_c"]["value"])
    return sigma_c, (answer["sigma_lo"]["value"], answer["sigma_hi"]["value"]) if found else None


def run(
    experiment: str,
    guidance: Guidance,
    conditions: Sequence[Condition],
    out: str | Path,
    summarise: Callable[[Run, float], dict[str, Any]],
    progress: bool,
) -> Run:
    """Sample and score every condition of every trial, or what is left of them, and return the stored run.

    Args:
        experiment: Name of the experiment.
        guidance: What it needs.
        conditions: Its conditions, the first one unguided.
        out: Directory of the run.
        summarise: Makes the summary of a finished run that took some seconds.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If the directory is unusable.
        NonFiniteStateError: If a state becomes NaN or infinite; finished blocks stay readable.
    """
    config, model = guidance.config, guidance.model
    denoiser, guide = next(iter(guidance.denoisers.values()))
    made = model.shape, guidance.device, guidance.dtype
    identity = {
        "experiment": experiment, "config": asdict(config), "versions": provenance.versions(),
        "conditions": [{"name": c.name, "definition": c.definition, "source": c.source} for c in conditions],
        "model": {"name": model.name, "shape": list(model.shape), "labels": guidance.labels,
                  "fingerprint": fingerprint(lambda x: denoiser(x, 1.0), *made),
                  "guide": fingerprint(lambda x: guide(x, 1.0), *made),
                  "classifier": fingerprint(lambda x: guidance.classifier(x.float()), *made)},
    }  # fmt: skip
    stored = Run.create(out, identity, constants(guidance), arrays(guidance, conditions), config.block, len(conditions))
    start = time.perf_counter()
    trajectories = len(guidance.labels) * config.trials
    pending = list(stored.pending_parts(config.block, trajectories))
    work = sum(steps_of(guidance, which, conditions[part]) for _, part, which in pending)
    # the twins of a block that was begun before are sampled again
    begun = {which for _, part, which in pending} - {which for _, part, which in pending if part == 0}
    work += sum(steps_of(guidance, which, conditions[0]) for which in begun)
    cache = Cache()
    with progress_bar(progress and bool(pending), work) as advance:
        for index, part, which in pending:
            stored.write(index, which, measure(guidance, which, conditions[part], cache, advance), part)
    stored.finish()
    stored.write_summary(summarise(stored, time.perf_counter() - start))
    return stored
