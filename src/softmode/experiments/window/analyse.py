"""The window: probe a model, copy its trajectories, and say in which noise window to guide it, or that none is seen."""

import json
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from softmode import provenance
from softmode.config import ClonesConfig, ProbeConfig, WindowConfig
from softmode.critical import peak_windows
from softmode.device import parse_device
from softmode.estimate import Array, Estimate
from softmode.experiments import clones, probe
from softmode.experiments.notions import (
    Intercept,
    Notion,
    argmax_level,
    clone_notions,
    critical_window,
    departure_notion,
    entropy_notion,
    growth_notion,
    peak_notion,
    softness,
    softness_of,
)
from softmode.experiments.probe_setup import null_model
from softmode.guidance import Format
from softmode.model import Model
from softmode.networks.load import DIFFUSERS, load_model
from softmode.observe.gains import exact_gains
from softmode.rounding import within
from softmode.store import Run, write_json

FILE = "window.json"
CLONES = "clones"
# fits of xi_eq, in the order in which a peak is sought
INTERCEPTS: tuple[Intercept, ...] = ("constant mode", "free")


def run(config: WindowConfig, out: str | Path, model: Model | None = None, progress: bool = False) -> Run:
    """Probe the model, copy trajectories, analyse both, and return the probe's run with its window beside.

    Args:
        config: What to probe and how.
        out: Directory of the probe; the clones go to a directory in it, the answer to its window.json.
        model: The model, where it is at hand; loaded by the config's name when left out.
        progress: Whether to show progress bars.

    Raises:
        ValueError: If the config, the model or the directory is unusable; nothing is written then.
        NonFiniteStateError: If a state becomes NaN or infinite; finished blocks stay readable.
    """
    device, dtype = parse_device(config.device), getattr(torch, config.dtype)
    model = model or load_model(config.model, config.schedule, config.shape, device, dtype, prompt=config.prompt)
    copied = _clones_config(config)
    if config.clones < 0:
        raise ValueError(f"clones: got {config.clones}; expected at least 0, which leaves them out")
    if config.clones:
        # before the probe writes anything
        clones.prepare(copied, model)
    stored = probe.run(
        ProbeConfig(**{field.name: getattr(config, field.name) for field in fields(ProbeConfig)}), out, model, progress
    )
    if config.clones:
        clones.run(copied, Path(out) / CLONES, model, progress=progress)
    analyse(stored)
    return stored


def _clones_config(config: WindowConfig) -> ClonesConfig:
    """Return the config of the clones that belong to a window's probe."""
    shared = {field.name: getattr(config, field.name) for field in fields(ClonesConfig) if hasattr(config, field.name)}
    return ClonesConfig(
        **shared | {"trajectories": config.clones, "steps": config.clone_steps, "t_max": None, "t_min": None}
    )


def analyse(run: Run) -> dict[str, Any]:
    """Find the window of a finished probe, set every other notion beside it, and write both to window.json.

    Args:
        run: A probe; clones are taken from the directory `clones` in it, if there are any.

    Raises:
        ValueError: If the run is no probe or is not finished.
    """
    if run.identity["experiment"] != "probe":
        raise ValueError(
            f"directory: {str(run.directory)!r} holds a run of {run.identity['experiment']}; a window needs one of "
            "softmode probe or softmode window"
        )
    _ = run.summary
    levels = run.dataset["noise_level"].to_numpy()
    intercept, (sigma_c, low, high), shared = _first_peak(run, levels)
    curves = softness(run, intercept)
    null, origin = null_softness(run, levels, intercept)
    notions = _notions(run, curves, null, levels, intercept)
    answer = {
        "verdict": "none" if math.isnan(sigma_c.value) or shared else "doubtful" if sigma_c.reason else "found",
        "intercept": intercept,
        "sigma_c": asdict(sigma_c), "sigma_lo": asdict(low), "sigma_hi": asdict(high),
        "times": {name: _time(run, e.value) for name, e in (("c", sigma_c), ("begin", high), ("end", low))},
        "peaks": peak_windows(np.median(curves, 0), levels).tolist(),
        "argmax": asdict(argmax_level(curves, levels)),
        "null": {"from": origin, "peaks": [] if null is None else peak_windows(null, levels).tolist()},
        "notions": [notion.plain(sigma_c) for notion in notions],
        "model": run.identity["model"], "config": run.config, "versions": provenance.versions(),
    }  # fmt: skip
    if answer["verdict"] == "none":
        # not a number: what the median shows is kept under `peaks`
        for name in ("sigma_c", "sigma_lo", "sigma_hi"):
            answer[name]["value"] = math.nan
    answer["answer"] = _sentence(answer, sigma_c, shared)
    answer["remarks"] = _remarks(answer, notions, sigma_c, (low.value, high.value))
    write_json(run.directory / FILE, answer)
    return read(run)


def read(run: Run) -> dict[str, Any]:
    """Return the window of a run; analysed before.

    Raises:
        ValueError: If it was not.
    """
    path = run.directory / FILE
    if not path.is_file():
        raise ValueError(f"directory: {str(run.directory)!r} has no {FILE} yet; say softmode window {run.directory}")
    return dict(json.loads(path.read_text()))


def _first_peak(run: Run, levels: Array) -> tuple[Intercept, tuple[Estimate, Estimate, Estimate], float]:
    """Return the fit whose xi_eq has a peak that the null lacks, (sigma_c, sigma_lo, sigma_hi), and the shared peak.

    Eq. 69 first; where it has none, the fit that never uses the constant mode, which a trained network may get wrong.
    Without either, what Eq. 69 says.
    """
    found = []
    for intercept in INTERCEPTS:
        window = critical_window(softness(run, intercept), levels)
        null, _ = null_softness(run, levels, intercept)
        shared = _shared_peak(null, levels, (window[1].value, window[0].value, window[2].value))
        found.append((intercept, window, shared))
        if math.isfinite(window[0].value) and not shared:
            return found[-1]
    return found[0]


def null_softness(run: Run, levels: Array, intercept: Intercept = "constant mode") -> tuple[Array | None, str]:
    """Return the softness of the Gaussian null [level], and where its spectrum is from: data, samples or none.

    Without data of the model's it is the spectrum of the run's own samples, D(x) at the last snapshot.
    """
    data = run.dataset
    if "null_gain" in data:
        gain, origin = data["null_gain"].to_numpy(), "data"
    else:
        samples = torch.from_numpy(data["denoised"].isel(snapshot=-1).to_numpy())
        if run.config["states"] != "reverse" or len(samples) < 2:
            return None, "none"
        null, x = null_model(samples), torch.zeros(1, *samples.shape[1:], dtype=torch.float64)
        shells = int(run.config["shells"])
        gain, origin = torch.cat([exact_gains(null, x, s, shells) for s in levels]).numpy(), "samples"
    return softness_of(gain, data["k"].to_numpy(), intercept), origin


def _shared_peak(null: Array | None, levels: Array, window: tuple[float, float, float]) -> float:
    """Return the level of a peak of the null's that is the model's too, or 0 without one."""
    low, centre, high = window
    if null is None or math.isnan(centre):
        return 0.0
    for peak, begin, end in peak_windows(null, levels):
        if within(peak, low, high) or within(centre, end, begin):
            return float(peak)
    return 0.0


def _notions(run: Run, curves: Array, null: Array | None, levels: Array, intercept: Intercept) -> list[Notion]:
    """Return every notion beside the one that the window is of."""
    (other,) = (way for way in INTERCEPTS if way != intercept)
    found: list[Notion | None] = [
        peak_notion(run, levels, other),
        growth_notion(run, levels),
        None if null is None else departure_notion(curves, null, levels),
        entropy_notion(run, levels),
    ]
    if (run.directory / CLONES / "summary.json").is_file():
        found += clone_notions(Run.open(run.directory / CLONES))
    return [notion for notion in found if notion is not None]


def _time(run: Run, level: float) -> float:
    """Return the process's own time of a noise level, from the run's grid."""
    times, levels = (np.log(run.dataset[name].to_numpy()[::-1]) for name in ("time", "noise_level"))
    return float(np.exp(np.interp(math.log(level), levels, times))) if level > 0 else math.nan


def _sentence(answer: dict[str, Any], sigma_c: Estimate, shared: float) -> str:
    """Return the answer in one sentence."""
    if shared:
        return (
            f"no critical window found: the median xi_eq has a peak at sigma = {sigma_c}, but so has the Gaussian null "
            f"model, which has no transition, at sigma = {shared:.3g}"
        )
    if answer["verdict"] == "none":
        return f"no critical window found: {sigma_c.reason}"
    ends = f"{answer['sigma_lo']['value']:.3g} < sigma <= {answer['sigma_hi']['value']:.3g}"
    doubt = f", in doubt: {sigma_c.reason}" if answer["verdict"] == "doubtful" else ""
    what = "xi_eq" if answer["intercept"] == "constant mode" else "xi_eq of shells n >= 1"
    return f"guide where {ends}; the median {what} peaks at sigma_c = {sigma_c}{doubt}"


def _remarks(
    answer: dict[str, Any], notions: list[Notion], sigma_c: Estimate, window: tuple[float, float]
) -> list[str]:
    """Say what a reader must know: what the null is, where notions disagree and how far."""
    origin = answer["null"]["from"]
    remarks = {
        "data": [],
        "samples": ["the null model has the power spectrum of this run's samples: give --data for that of the data"],
        "none": ["there is no null model to compare with: give --data"],
    }[origin]
    if answer["verdict"] == "none":
        return remarks
    argmax, (low, high) = answer["argmax"]["value"], window
    if answer["intercept"] == "free":
        remarks.append(
            "Eq. 69 itself shows no peak here: the window is that of shells n >= 1 alone, which never use the constant "
            "mode"
        )
    if not within(argmax, low, high):
        remarks.append(
            f"the median xi_eq is higher at sigma = {argmax:.3g}, where no peak stands out: at low noise a network's "
            "gains are not to be trusted, the constant mode's least"
        )
    for notion in notions:
        sigma = notion.sigma.value
        if not math.isfinite(sigma) or within(sigma, low, high):
            continue
        plain = notion.plain(sigma_c)
        side, factor = ("above", sigma / sigma_c.value) if sigma > high else ("below", sigma_c.value / sigma)
        error = plain["distance_stderr"]
        errors = f", {abs(plain['distance']) / error:.1f} standard errors" if error > 0 else ""
        remarks.append(
            f"{notion.name} disagrees: sigma = {notion.sigma} is {side} the window, "
            f"a factor {factor:.3g} from sigma_c{errors}"
        )
    return remarks


def export(run: Run, form: pipelines.Format, weight: float, steps: int | None) -> str:
    """Return the window of a run in a form that a pipeline takes; a model of diffusers lends its scheduler.

    Raises:
        ValueError: If there is no window, or no step falls into it.
    """
    return pipelines.export(read(run), form, weight, _scheduler(run), steps)


def pipeline_units(run: Run, steps: int) -> list[tuple[str, str]]:
    """Return the window of a run in its pipeline's timesteps, where it has one, and in steps of its sampler.

    Returns:
        Pairs of a unit and the window in it, in words; none without a window.

    Raises:
        ValueError: If there are too few or too many steps.
    """
    found = read(run)
    if found["verdict"] == "none":
        return []
    return pipelines.units(Interval(found["sigma_lo"]["value"], found["sigma_hi"]["value"]), _scheduler(run), steps)


def _scheduler(run: Run) -> Any:
    """Return the scheduler of a run's model, if it is one of diffusers."""
    source = run.identity["model"]["name"]
    if source.partition(":")[0] != DIFFUSERS:
        return None
    from softmode.networks.diffusers_files import load_scheduler

    return load_scheduler(source)
