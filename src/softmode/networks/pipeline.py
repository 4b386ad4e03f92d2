"""A live pipeline of diffusers as a model: what its own loop does with its network is recorded, bound and checked."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from softmode.denoiser import Denoiser
from softmode.message import refusal
from softmode.model import Model
from softmode.networks.diffusers_denoiser import DiffusersDenoiser
from softmode.networks.pipeline_check import Checked, fit_together
from softmode.networks.pipeline_live import LivePipeline, sized
from softmode.networks.pipeline_stack import bound_of, stacked
from softmode.process import parse_process

# names under which pipelines keep by how much their states are smaller than their images
FACTORS = ("vae_scale_factor", "vae_scale_factor_spatial", "vae_spatial_compression_ratio")
FRAME_FACTORS = ("vae_scale_factor_temporal", "vae_temporal_compression_ratio")


class Opened(NamedTuple):
    """A model of a pipeline.

    Attributes:
        model: The model.
        checked: How far it is from the pipeline.
        live: The pipeline, watched.
    """

    model: Model
    checked: Checked
    live: "LivePipeline"


def from_pipeline(
    pipe: Any,
    prompts: Sequence[str] = (),
    negative: str | None = None,
    size: Sequence[int] = (),
    schedule: str = "",
    **call: Any,
) -> Model:
    """Return the model of a live pipeline of diffusers, as its own loop calls its network.

    The pipeline is called for a few steps, once for each prompt, and left before it decodes. What it calls its network
    with is bound: prompts in its own encoding, ids, masks, sizes, guidance embeddings, further channels. That the
    denoiser gives to the network what the loop does, and makes of it what the scheduler does, is checked each time.

    Args:
        pipe: The pipeline; left as it is.
        prompts: Its prompts, the classes 0, 1, ... of the model; none for a pipeline without text.
        negative: What guidance pushes away from; the pipeline's own when left out, mostly the empty prompt.
        size: Height and width of its images (pixels), before them the number of frames of a video; its own when left
            out.
        schedule: Process in which to sample; ve, the coordinates of a denoiser, when left out.
        **call: Further arguments of the pipeline's call, such as an image and a mask.

    Raises:
        ValueError: If it is of a kind that is not known, or its denoiser differs from what its loop does.
    """
    return open_pipeline(pipe, prompts, negative, size, schedule, **call).model


def open_pipeline(
    pipe: Any,
    prompts: Sequence[str] = (),
    negative: str | None = None,
    size: Sequence[int] = (),
    schedule: str = "",
    **call: Any,
) -> Opened:
    """Return the model of a pipeline with how far it is from the pipeline; the arguments are those of from_pipeline."""
    text = tuple(prompts)
    live = LivePipeline(pipe, call | sized(pipe, size), text, negative)
    checked = live.checked
    for remark in checked.remarks:
        warnings.warn(f"model: {remark}", stacklevel=3)
    for prompt in text[1:]:
        live.denoiser(prompt)

    @cache
    def of_label(label: int | None) -> DiffusersDenoiser:
        if label is None and text:
            few = ",".join(map(str, range(len(text))))
            raise refusal(f"labels: {len(text)} prompts have no sample of all of them; name theirs: --labels {few}")
        if label is None and live.classes:
            return live.other_branch(0)
        return live.denoiser(text[label] if text and label is not None else label)

    def of_each(labels: Sequence[int | None]) -> Denoiser:
        made = [of_label(label) for label in labels]
        network = stacked([bound_of(each) for each in made])
        if network is None:
            raise refusal(f"labels: the conditions of {live.name} do not fit into one batch; name one label at a time")
        return replace(made[0], network=network)

    together = not text or fit_together([bound_of(live.denoiser(prompt)) for prompt in text], live.guidance.without)
    model = Model(
        name=live.name,
        process=parse_process(schedule or "ve"),
        shape=live.first.layouts.network.field,
        bind=of_label,
        batched=of_each if together else None,
        classes=len(text) or live.classes,
        levels=live.table.range,
        dropped=(lambda label: live.other_branch(text[label])) if text else None,
        scheduler=live.scheduler,
    )
    return Opened(model, checked, live)


def size_of(pipe: Any, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the size of images, frames first for a video, whose states have a shape (channel, *space).

    Raises:
        ValueError: If the pipeline does not say by how much its states are smaller.
    """
    if not shape:
        return ()
    found = [next((int(f) for n in names if (f := getattr(pipe, n, None))), 0) for names in (FACTORS, FRAME_FACTORS)]
    factor, frames = found
    if len(shape) not in (3, 4) or not factor or (len(shape) == 4 and not frames):
        raise refusal(
            f"shape: got {tuple(shape)}; {type(pipe).__name__} does not say by how much its states are smaller than "
            "its images: leave it out"
        )
    sides = tuple(factor * side for side in shape[-2:])
    return ((shape[1] - 1) * frames + 1, *sides) if len(shape) == 4 else sides
