"""A pipeline's own loop, guided in a window of noise levels and nowhere else, whatever it makes of its scale.

Many pipelines read their guidance scale once, before the loop begins, or take no callback. Here nothing is asked of
them: outside the window the answer to the negative branch is replaced by that to the condition, so that guidance of any
scale is none.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from softmode.guidance.weights import Interval
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
    interval, module = Interval(low, high), network_of(pipe)[1]
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
        inside = bool(interval(step_levels(scheduler)[at]))
        out, fed = first_output(output), first_output([given[first.state]]).chunk(2)
        made = out
        if apart:
            held.append(out)
            made = out if inside or len(held) == 1 else held[0]
        # a call without guidance has one branch only
        elif not inside and len(fed) == 2 and torch.equal(fed[0], fed[1]):
            made = torch.cat([out.chunk(2)[place]] * 2)
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
