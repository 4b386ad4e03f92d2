"""What the command prints of a window: its exports, its units, and whether it contains the maximum of chi."""

from collections.abc import Sequence
from pathlib import Path

from softmode.experiments.window.config import Config, Output
from softmode.guidance.export import Window, check_export, export, units
from softmode.guidance.weights import Interval
from softmode.message import quote, refusal
from softmode.networks.diffusers_sampling import NOTHING, Asked, Sampling, load_sampling
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
        ValueError: If the run to check against is no finished susceptibility of the same model, the pipeline's sampler
            cannot take so many steps, its scheduler is of no known kind, needs a mu or has none, or the weight is not
            finite.
    """
    model, shape = _model(config)
    if output.check:
        _chi(output.check, model)
    sampling = _sampling(model, shape, output)
    check_export(output.format, output.weight, sampling.scheduler, output.sampler_steps, _asked(sampling, output))


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
    sampling = _sampling(window.model, run.identity["model"]["shape"], output)
    asked = _asked(sampling, output)
    return export(window, output.format, output.weight, sampling.scheduler, output.sampler_steps, asked)


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
    sampling = _sampling(window.model, run.identity["model"]["shape"], output)
    required = output.sampler_steps is not None
    rows += units(interval, sampling.scheduler, steps, sampling.asked(steps), required)
    found += [("in", f"{unit}: {inside}") for unit, inside in rows]
    return [*found, ("next", f"softmode window {run.directory} --format json (or sigmas, flow, comfyui, diffusers)")]


def window_of(run: Run) -> Window:
    """Return the window of an analysed run."""
    results = run.results
    sigma_c, low, high = (results[name].estimate for name in ("sigma_c", "sigma_lo", "sigma_hi"))
    return Window(sigma_c, low, high, results.values["verdict"], results.answer, run.identity["model"]["name"])


def _model(config: Config) -> tuple[str, Sequence[int]]:
    """Return the name of the model that a window is of, and the shape of its states; nothing where it is its own."""
    if is_run(config.model):
        model = Store(Path(config.model)).identity["model"]
        return str(model["name"]), model["shape"]
    return config.model, config.shape


def _chi(directory: str, model: str) -> Run:
    """Return a finished run of softmode susceptibility of a model."""
    if not is_run(directory) or (run := Run(Path(directory), CHI)).identity["experiment"] != CHI.name:
        raise refusal(f"check: {quote(directory)} holds no run of softmode susceptibility; make one with it")
    if (name := run.identity["model"]["name"]) != model:
        raise refusal(f"check: {quote(directory)} is of {quote(name)}, the window of {quote(model)}")
    _ = run.results
    return run


def _sampling(model: str, shape: Sequence[int], output: Output) -> Sampling:
    """Return the scheduler of a model, none if it is no pipeline of diffusers, and how it is asked for steps."""
    if not model.startswith(f"{DIFFUSERS}:"):
        return Sampling(None, output.mu)
    return load_sampling(model, shape, output.mu)


def _asked(sampling: Sampling, output: Output) -> Asked:
    """Return what the scheduler is asked for besides the steps, if any are asked for."""
    if output.sampler_steps is None:
        return NOTHING._replace(mu=sampling.mu)
    return sampling.asked(output.sampler_steps)
