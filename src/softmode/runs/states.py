"""States at falling noise levels: data with noise, or those of the probability flow."""

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.data import read_images
from softmode.denoiser import Denoiser
from softmode.labels import Label
from softmode.levels import flow_levels
from softmode.message import refusal
from softmode.model import Model
from softmode.process import VE
from softmode.samplers import Heun
from softmode.simulation import simulate

# levels of the flow from noise to the first level that is measured, and between the others at least
FLOW_STEPS = 64

States = Float[Tensor, "batch channel *space"]


def images_of(data: str, count: int, model: Model, labels: tuple[Label, ...]) -> dict[Label, Tensor]:
    """Return the data of each class.

    Args:
        data: File of the data; the model's held-out data when empty.
        count: Number of states, which are dealt out to the classes in turn.
        model: The model.
        labels: The classes.

    Raises:
        ValueError: If there are no data, or too few.
    """
    given = read_images(data, model.shape) if data else None
    found = {}
    for place, label in enumerate(labels):
        images = model.held_out(label) if given is None else given
        if images is None:
            raise refusal(
                "data: --states forward needs data, which this model lacks; name a file with --data, or use "
                "--states reverse"
            )
        wanted = len(range(place, count, len(labels)))
        if wanted > len(images):
            raise refusal(
                f"trajectories: got {count}; expected at most {len(images) * len(labels)}, the held-out "
                "data; name more with --data"
            )
        found[label] = images
    return found


def noised_states(images: States, levels: Float[Tensor, " level"], noise: States) -> list[States]:
    """Return data with the same noise at every level, on the device and in the dtype of the noise."""
    return [images.to(noise) + sigma * noise for sigma in levels.tolist()]


def sampled_states(model: Model, denoiser: Denoiser, levels: Float[Tensor, " level"], noise: States) -> list[States]:
    """Return states of the probability flow at every level.

    Args:
        model: The model, which knows where its flow begins.
        denoiser: Its denoiser of one class.
        levels: Falling noise levels.
        noise: Normal random numbers from which the flow begins.
    """
    first = max(flow_levels(model)[0], float(levels[0]))
    flow = Heun().grid(VE(), first, float(levels[-1]), FLOW_STEPS)
    times = torch.cat([flow, levels]).unique().flip(0)
    wanted = [int((times - level).abs().argmin()) for level in levels]
    run = simulate(denoiser, VE(), first * noise, times, sampler=Heun(), snapshots_at=wanted)
    return [state.to(noise.device) for state in run.snapshots.unbind(1)]
