"""What the command prints of a schedule: its exports, and what is next."""

from softmode.experiments.schedule.config import Config, Output
from softmode.guidance.export import check_export
from softmode.guidance.weight_export import exported
from softmode.guidance.weights import Weights
from softmode.message import refusal
from softmode.networks.diffusers_sampling import NOTHING, Asked, Sampling, load_sampling
from softmode.networks.load import DIFFUSERS
from softmode.runs.run import Run


def verify(output: Output, config: Config) -> None:
    """Check, before anything is computed, that what is asked for can be printed.

    Raises:
        ValueError: If the pipeline's sampler cannot take so many steps, or its scheduler is of no known kind, needs a
            mu or has none.
    """
    sampling = _sampling(config.model, output)
    check_export(output.format, config.weight, sampling.scheduler, output.sampler_steps, _asked(sampling, output))


def text(output: Output, run: Run) -> str | None:
    """Return what is printed in place of the results; None for the results themselves.

    Raises:
        ValueError: If there is no schedule to export, or no step of the sampler is guided by it.
    """
    if output.format == "table":
        return None
    if not run.identity["schedules"]:
        raise refusal(f"schedule: there is nothing to export, {run.results.answer}")
    sampling, about = (
        _sampling(run.config["model"], output),
        {"model": run.config["model"], "answer": run.results.answer},
    )
    asked = _asked(sampling, output)
    return exported(weights_of(run), output.format, sampling.scheduler, output.sampler_steps, asked, about)


def lines(_output: Output, run: Run) -> list[tuple[str, str]]:
    """Return what is printed below the results, each with a label."""
    found = [("note", note) for note in run.results.notes]
    again = "the same command with --format json (or sigmas, flow, comfyui, diffusers) prints the schedule alone"
    return [*found, *([("next", again)] if run.identity["schedules"] else [])]


def weights_of(run: Run) -> Weights:
    """Return the recommended schedule of a run."""
    import torch

    levels, weights = run.dataset["level"].to_numpy(), next(iter(run.identity["schedules"].values()))
    return Weights(torch.tensor(levels), torch.tensor(weights, dtype=torch.float64))


def _sampling(model: str, output: Output) -> Sampling:
    """Return the scheduler of a model, none if it is no pipeline of diffusers, and how it is asked for steps."""
    if not model.startswith(f"{DIFFUSERS}:"):
        return Sampling(None, output.mu)
    return load_sampling(model, (), output.mu)


def _asked(sampling: Sampling, output: Output) -> Asked:
    """Return what the scheduler is asked for besides the steps, if any are asked for."""
    if output.sampler_steps is None:
        return NOTHING._replace(mu=sampling.mu)
    return sampling.asked(output.sampler_steps)
