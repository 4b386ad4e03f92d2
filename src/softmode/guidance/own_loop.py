"""A pipeline's own loop, guided by noise level, in a window or by any w(sigma), whatever it makes of its scale.

Many pipelines read their guidance scale once, before the loop begins, or take no callback. Here nothing is asked of
them: the answer to the negative branch is moved towards that to the condition, until its own scale guides by the weight
of the level. Where that is 0, the two answers are one, so that guidance of any scale is none.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from softmode.guidance.weights import Interval, Weight
from softmode.message import refusal
from softmode.networks.diffusers_scheduler import step_levels
from softmode.networks.pipeline_live import LivePipeline, prompted, sized
from softmode.networks.pipeline_record import first_output, network_of


@contextmanager
def guided_within(pipe: Any, low: float, high: float, size: Sequence[int] = (), **call: Any) -> Iterator[None]:
    """Let a pipeline of diffusers guide only where low < sigma <= high, as long as the context lasts.

    The pipeline is called inside as always, with the guidance scale that is wanted in the window. Which branch of its
    guidance is the condition is learnt first, by a recording of a few steps.

    Args:
        pipe: The pipeline.
        low: Lower end of the window, EDM noise level sigma/alpha.
        high: Upper end.
        size: Size of its images in the recording, (height, width) or (frames, height, width); its own when left out.
        **call: What else its call takes in the recording, such as an image and a mask.

    Raises:
        ValueError: If it is of a kind that is not known, or has no branch to guide away from.
    """
    with guided_by(pipe, Interval(low, high), 1.0, size, **call):
        yield


@contextmanager
def guided_by(pipe: Any, weights: Weight, own_weight: float, size: Sequence[int] = (), **call: Any) -> Iterator[None]:
    """Let a pipeline of diffusers guide by a weight w(sigma), as long as the context lasts.

    The pipeline is called inside as always, with one guidance scale; its negative answer N becomes
    D - (w(sigma) / own_weight) (D - N) of its answer D to the condition. Which of its branches is the condition is
    learnt first, by a recording of a few steps.

    Args:
        pipe: The pipeline.
        weights: The weight w(sigma), such as a schedule's `Weights`.
        own_weight: Weight of the guidance scale s that it is called with: s - 1, or s if it adds s (D - N) to D.
        size: Size of its images in the recording, (height, width) or (frames, height, width); its own when left out.
        **call: What else its call takes in the recording, such as an image and a mask.

    Raises:
        ValueError: If it is of a kind that is not known, has no branch to guide away from, or own_weight is 0 or less.
    """
    if not own_weight > 0:
        raise refusal(f"own_weight: got {own_weight:g}; expected the weight of the pipeline's scale s, s - 1, above 0")
    module = network_of(pipe)[1]
    text = "prompt" in LivePipeline.taken_by(pipe) and not prompted(call)
    live = LivePipeline(pipe, call | sized(pipe, size), ("a photograph",) if text else ())
    place, apart = live.place, len(live.guidance.guided.steps[0].calls) == 2  # type: ignore[union-attr] # place checks it
    if apart and place:
        raise refusal(f"guide: {live.name} asks its negative branch before the condition: this kind is not known")
    scheduler, first, held, step = pipe.scheduler, live.first, list[Tensor](), pipe.scheduler.step
    signature = inspect.signature(getattr(module, "_orig_mod", module).forward)
    # which step the loop is at, and the first that it has not done
    at, due = 0, 0

    def answered(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        nonlocal at
        given = signature.bind(*args, **kwargs).arguments
        # a loop may begin late, and timesteps may come twice
        times = first.to_time(scheduler.timesteps.double().cpu()[due:])
        at = due + int((times - float(torch.as_tensor(given[first.time]).flatten()[0])).abs().argmin())
        share = float(weights(step_levels(scheduler)[at])) / own_weight
        out, fed = first_output(output), first_output([given[first.state]]).chunk(2)
        made = out
        if apart:
            held.append(out)
            made = out if len(held) == 1 else _towards(held[0], out, share)
        # a call without guidance has one branch only
        elif share != 1 and len(fed) == 2 and torch.equal(fed[0], fed[1]):
            both = list(out.chunk(2))
            both[1 - place] = _towards(both[place], both[1 - place], share)
            made = torch.cat(both)
        if made is out:
            return None
        own = output if isinstance(output, Tensor) else output[0]
        # some return one answer after another in a list
        given_back = made if isinstance(own, Tensor) else type(own)(made)
        if isinstance(output, Tensor):
            return given_back
        if isinstance(output, tuple):
            return (given_back, *output[1:])
        return type(output)(**{**output, next(iter(output)): given_back})

    def stepped(*args: Any, **kwargs: Any) -> Any:
        nonlocal due
        held.clear()
        # the pipeline may be called again
        due = 0 if at == len(scheduler.timesteps) - 1 else at + 1
        return step(*args, **kwargs)

    hook = module.register_forward_hook(answered, with_kwargs=True)
    scheduler.step = stepped
    try:
        yield
    finally:
        hook.remove()
        del scheduler.step


def _towards(own: Tensor, other: Tensor, share: float) -> Tensor:
    """Return the negative answer that is a share as far from the condition's, either itself where it is 0 or 1."""
    if share in (0, 1):
        return other if share else own
    return own - share * (own - other)
