"""What the command prints of a window: its exports, its units, and whether it contains the maximum of chi."""

from pathlib import Path
from typing import Any

from softmode.experiments.window.config import Config, Output
from softmode.guidance.export import Window, export, sampler_levels, units
from softmode.guidance.weights import Interval
from softmode.message import quote, refusal
from softmode.networks.load import DIFFUSERS
from softmode.runs.experiment import Experiment
from softmode.runs.run import Run
from softmode.runs.store import Store, is_run

CHI = Experiment("susceptibility", "softmode.experiments.susceptibility")
# steps of EDM2's published sampler (karras2024)
EDM2_STEPS = 32


def verify(output: Output, config: Config) -> None:
    """Check, before anything is computed, that what is asked for can be printed.

    Raises:
        ValueError: If the run to check against is no finished susceptibility of the same model, or the pipeline's
            sampler cannot take so many steps.
    """
    if output.check:
        _chi(output.check, _model(config))
    if output.sampler_steps is not None:
        sampler_levels(_scheduler(_model(config)), output.sampler_steps)


def text(output: Output, run: Run) -> str | None:
    """Return what is printed in place of the results; None for the results themselves.

    Raises:
        ValueError: If there is nothing to export, or no step of the sampler falls into the window.
    """
    window = window_of(run)
    if output.check:
        from softmode.experiments.susceptibility.analyse import contains

        interval = None if window.verdict == "none" else (window.sigma_lo.value, window.sigma_hi.value)
        found = contains(interval, _chi(output.check, window.model).results)
        return "\n".join([f"window   {window.answer}", *(f"check    {each}" for each in found)])
    if output.format == "table":
        return None
    return export(window, output.format, output.weight, _scheduler(window.model), output.sampler_steps)


def lines(output: Output, run: Run) -> list[tuple[str, str]]:
    """Return what is printed below the results, each with a label: the window in a pipeline's units, and what is next.

    Raises:
        ValueError: If the sampler cannot take so many steps.
    """
    window = window_of(run)
    found = [("note", note) for note in run.results.notes]
    if window.verdict == "none":
        return found
    steps = EDM2_STEPS if output.sampler_steps is None else output.sampler_steps
    interval = Interval(window.sigma_lo.value, window.sigma_hi.value)
    rows = [(unit, inside) for unit, inside in run.results.tables["units"].rows if unit != "sigma/alpha"]
    rows += units(interval, _scheduler(window.model), steps)
    found += [("in", f"{unit}: {inside}") for unit, inside in rows]
    return [*found, ("next", f"softmode window {run.directory} --format json (or sigmas, comfyui, diffusers)")]


def window_of(run: Run) -> Window:
    """Return the window of an analysed run."""
    results = run.results
    sigma_c, low, high = (results[name].estimate for name in ("sigma_c", "sigma_lo", "sigma_hi"))
    return Window(sigma_c, low, high, results.values["verdict"], results.answer, run.identity["model"]["name"])


def _model(config: Config) -> str:
    """Return the name of the model that a window is of."""
    if is_run(config.model):
        return str(Store(Path(config.model)).identity["model"]["name"])
    return config.model


def _chi(directory: str, model: str) -> Run:
    """Return a finished run of softmode susceptibility of a model."""
    if not is_run(directory) or (run := Run(Path(directory), CHI)).identity["experiment"] != CHI.name:
        raise refusal(f"check: {quote(directory)} holds no run of softmode susceptibility; make one with it")
    if (name := run.identity["model"]["name"]) != model:
        raise refusal(f"check: {quote(directory)} is of {quote(name)}, the window of {quote(model)}")
    _ = run.results
    return run


def _scheduler(model: str) -> Any:
    """Return the scheduler of a model, if it is one of diffusers."""
    if not model.startswith(f"{DIFFUSERS}:"):
        return None
    from softmode.networks.diffusers_files import load_scheduler

    return load_scheduler(model)
