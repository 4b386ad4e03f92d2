"""The critical noise level of an experiment on guidance: given, of a stored window, or of one measured first."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from softmode.estimate import Estimate
from softmode.experiments.pulse.config import GuidedSampling
from softmode.experiments.pulse.trials import Guidance
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.runs.experiment import Experiment, Plan
from softmode.runs.identity import inputs_of
from softmode.runs.results import Results
from softmode.runs.run import Run
from softmode.runs.store import is_run

WINDOW = Experiment("window", "softmode.experiments.window")


class Critical(NamedTuple):
    """What is known of where a model is critical.

    Attributes:
        sigma_c: The critical noise level; exact where it was given.
        window: Lowest and highest noise level of the window around it; None without one.
    """

    sigma_c: Estimate
    window: tuple[float, float] | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """The same as plain data, as a run keeps it, so that it needs the window's own run no more."""
        return {"sigma_c": self.sigma_c.plain(), "window": None if self.window is None else list(self.window)}

    @classmethod
    def stored(cls, run: Run) -> "Critical":
        """Return what a run of an experiment on guidance keeps."""
        ends = run.identity["window"]
        return cls(Estimate.from_plain(run.identity["sigma_c"]), None if ends is None else (ends[0], ends[1]))


def known_level(config: GuidedSampling, guidance: Guidance) -> Critical | None:
    """Return what is given or stored of the critical level; None where a window must be measured first.

    Raises:
        ValueError: If the stored window is of another model, or none was found there and no level is given.
    """
    if config.window:
        home = Path(config.window)
        if not is_run(home):
            raise refusal(f"window: {quote(config.window)} holds no softmode run; make one with softmode window")
        run = Run(home, WINDOW)
        check_same_model("window", run, guidance.model)
        return level_of(config, run.results)
    return None if config.sigma_c is None else Critical(Estimate.exact(config.sigma_c))


def level_of(config: GuidedSampling, window: Results) -> Critical:
    """Return the critical level that a window's results give, unless the config names one.

    Raises:
        ValueError: If no window was found and the config names no level.
    """
    found = window.values["verdict"] != "none"
    if config.sigma_c is None and not found:
        raise refusal(f"sigma_c: {window.answer}; give one with --sigma-c")
    sigma_c = window["sigma_c"].estimate if config.sigma_c is None else Estimate.exact(config.sigma_c)
    low, high = (window[end].estimate.value if found else math.nan for end in ("sigma_lo", "sigma_hi"))
    return Critical(sigma_c, (low, high) if found else None)


def check_same_model(field: str, run: Run, model: Model) -> None:
    """Raise a ValueError unless a run is of a model of this name, made of the same files.

    Args:
        field: What the message calls the run.
        run: The run.
        model: The model; the files that both are made of are compared.
    """
    theirs, name = run.identity.get("model", {}).get("name"), model.name
    if theirs != name:
        what = "no network" if theirs is None else quote(theirs)
        raise refusal(f"{field}: {quote(str(run.directory))} is of {what}, not of {quote(name)}")
    stored = run.identity.get("inputs", {})
    for file, digest in inputs_of(model=model.inputs).items():
        if stored.get(file, digest) != digest:
            raise refusal(
                f"{field}: {quote(str(run.directory))} is of {quote(name)} with another {file}, by its content: make "
                "it again"
            )


def window_plan(guidance: Guidance, clones: int, given: Mapping[str, Any]) -> Plan:
    """Return the plan of the window that an experiment measures for itself: its classes, four trajectories of each.

    Args:
        guidance: What the experiment is of.
        clones: Trajectories that are copied for the window's clone curve; 0 leaves that out.
        given: What is at hand.

    Raises:
        ValueError: If the model cannot be probed.

    Source: paper H.3.
    """
    config, labels = guidance.config, guidance.labels
    # a small lattice has fewer shells than the default
    most = (min(guidance.model.shape[1:]) - 1) // 2
    settings = WINDOW.config(
        model=config.model, labels=tuple(labels), trajectories=max(4 * len(labels), clones), clones=clones,
        shells=min(WINDOW.config.shells, most), seed=config.seed, dtype=config.dtype, precision=config.precision,
        device=config.device, block=config.block, classifier=config.classifier,
    )  # fmt: skip
    told = {"classifier": lambda x: guidance.classifier(x.float())} if "classifier" in given else {}
    return WINDOW.prepare(settings, {"model": guidance.model, **told})
