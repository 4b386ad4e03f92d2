"""The commands on a model of one's own: any callable D(x, sigma) that returns E[x_0 | x], in one call."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from softmode.config import ProbeConfig, WindowConfig
from softmode.denoiser import Denoiser
from softmode.experiments import probe as probing
from softmode.experiments import window as windows
from softmode.model import Model
from softmode.process import VE, Process
from softmode.store import Run

EDM = VE()


def probe(
    denoiser: Denoiser | Model,
    *,
    shape: Sequence[int] = (),
    process: Process = EDM,
    out: str | Path = "runs/probe",
    progress: bool = False,
    **settings: Any,
) -> Run:
    """Measure the critical dynamics of a denoiser, as `softmode probe` does, and return the stored run.

    Args:
        denoiser: D(x, sigma) in EDM coordinates, or a `Model`.
        shape: Channels and sides of a state; a `Model` has its own.
        process: Process in which to sample; a `Model` has its own.
        out: Directory of the run; one that holds an unfinished run of the same settings is resumed.
        progress: Whether to show a progress bar.
        **settings: Any field of `ProbeConfig`, for example `trajectories=16`; `labels` may be numbers.

    Raises:
        ValueError: If a setting or the denoiser is unusable; nothing is written then.
    """
    model = _model(denoiser, tuple(shape), process)
    return probing.run(ProbeConfig(model.name, **_settings(settings)), out, model, progress)


def window(
    denoiser: Denoiser | Model,
    *,
    shape: Sequence[int] = (),
    process: Process = EDM,
    out: str | Path = "runs/window",
    progress: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Find the noise window in which to guide a denoiser, as `softmode window` does, and return the answer.

    Args:
        denoiser: D(x, sigma) in EDM coordinates, or a `Model`.
        shape: Channels and sides of a state; a `Model` has its own.
        process: Process in which to sample; a `Model` has its own.
        out: Directory of the run, where the answer is kept as window.json.
        progress: Whether to show progress bars.
        **settings: Any field of `WindowConfig`, for example `clones=0`; `labels` may be numbers.

    Returns:
        `verdict` (found, doubtful or none), `answer` (a sentence), `sigma_c`, `sigma_lo` and `sigma_hi` with their
        intervals, `notions`, `remarks` and more.

    Raises:
        ValueError: If a setting or the denoiser is unusable; nothing is written then.
    """
    model = _model(denoiser, tuple(shape), process)
    return windows.read(windows.run(WindowConfig(model.name, **_settings(settings)), out, model, progress))


def _model(denoiser: Denoiser | Model, shape: tuple[int, ...], process: Process) -> Model:
    if isinstance(denoiser, Model):
        return denoiser
    if not callable(denoiser):
        raise ValueError(f"denoiser: got {type(denoiser).__name__}; expected a callable D(x, sigma) or a Model")
    if len(shape) < 2:
        raise ValueError(f"shape: got {shape}; expected channels and sides of a state, for example (1, 28, 28)")
    name = getattr(denoiser, "__name__", type(denoiser).__name__)
    return Model(name, process, shape, lambda _label: denoiser)


def _settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with labels written as on the command line."""
    labels = settings.get("labels", "")
    return settings | {"labels": labels if isinstance(labels, str) else ",".join(str(label) for label in labels)}
