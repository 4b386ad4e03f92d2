"""A picture of a few samples of a model, and of what it makes of them with noise."""

from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.levels import flow_levels
from softmode.model import Model
from softmode.plots.fields import COLOURS, NORM, visible
from softmode.runs.draw import styled
from softmode.runs.files import staged

# noise levels of the rows below the samples, in units of the samples' deviation
ROWS = (0.5, 2.0, 8.0)


@torch.no_grad()
def write_samples(path: str, samples: Tensor, denoiser: Denoiser, model: Model) -> None:
    """Draw a few samples, and below each what D makes of it at rising noise.

    Args:
        path: PNG file.
        samples: Samples [sample, channel, *space], of one axis or more.
        denoiser: The denoiser that made them.
        model: Its model.
    """
    scale, stream = float(samples.double().std()), torch.Generator().manual_seed(4)
    high, low = flow_levels(model)
    levels = list(dict.fromkeys(min(max(row * scale, low), high) for row in ROWS))
    eps = torch.randn(samples.shape, generator=stream, dtype=torch.float64).to(samples)
    rows = [samples, *(denoiser(samples + sigma * eps, sigma) for sigma in levels)]
    titles = ["samples", *(rf"$D$ at $\sigma$ = {sigma:.2g}" for sigma in levels)]
    limit = max(1.0, float(samples.abs().double().quantile(0.99)))
    with styled():
        figure = Figure(figsize=(1.6 * len(samples) + 0.6, 1.6 * len(rows)), layout="constrained")
        panels = figure.subplots(len(rows), len(samples), squeeze=False)
        for row, title, states in zip(panels, titles, rows, strict=True):
            row[0].set_ylabel(title)
            for ax, state in zip(row, states.cpu().numpy(), strict=True):
                field = visible(state / limit)
                if field.ndim == 1:
                    ax.plot(field, color="black", lw=0.8)
                    ax.set_ylim(-1.5, 1.5)
                else:
                    ax.imshow(field, cmap=COLOURS, norm=NORM, interpolation="nearest")
                ax.set_xticks([])
                ax.set_yticks([])
        with staged(Path(path)) as stage:
            FigureCanvasAgg(figure).print_png(str(stage))  # type: ignore[no-untyped-call] # matplotlib leaves it so
