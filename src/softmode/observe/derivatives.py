"""Whether a model can be differentiated, and its derivatives are those of its values."""

from collections.abc import Sequence

import torch
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.message import first_line, quote, refusal
from softmode.observe.softest import linear_maps

# noise levels at which derivatives are compared with differences, and their steps in noise levels
TRIED, STEPS = 5, (0.05, 0.1)
# least answer to a unit push that a difference sees, and how well both steps must agree on it to be believed
SEEN, AGREED = 1e-3, 0.1
# how far a derivative may be from the difference
WRONG = 0.3


def check_derivatives(denoiser: Denoiser, name: str, shape: Sequence[int], levels: Tensor) -> None:
    """Raise a ValueError if products with the Jacobian cannot be had, or do not belong to what the model answers.

    A model without gradients, or with a detached input, has derivatives of 0, or of half of what it does: all of its
    states would be stable.

    Args:
        denoiser: The denoiser.
        name: What the user calls it.
        shape: Shape of a state.
        levels: Noise levels in the dtype and on the device of the states, of which a few are tried.
    """
    stream = torch.Generator().manual_seed(0)
    v = torch.randn(1, *shape, generator=stream, dtype=torch.float64).to(levels)
    v = v / torch.linalg.vector_norm(v)
    for place in torch.linspace(0, len(levels) - 1, TRIED).long().unique().tolist():
        sigma = float(levels[place])
        x = sigma * torch.randn(1, *shape, generator=stream, dtype=torch.float64).to(levels)
        try:
            ahead, back = linear_maps(denoiser, x, sigma)
            forward = ahead(v.flatten(1))
            size = float(torch.linalg.vector_norm(forward))
            # u.(J v) = v.(J^T u)
            along = forward if size > 0 else v.flatten(1)
            backward = float((back(along) * v.flatten(1)).sum()) / max(size, torch.finfo(x.dtype).tiny)
        # whatever the user's code raises
        except Exception as error:
            raise refusal(
                f"model: {quote(name)} cannot be differentiated ({first_line(error)}); its Jacobian is needed, "
                "forward and backward: leave out torch.no_grad, inference_mode and what has no derivative"
            ) from error
        with torch.no_grad():
            moved = denoiser(torch.cat([x + h * sigma * v for h in (*STEPS, *(-h for h in STEPS))]), sigma)
        # one row of each step
        difference = moved[: len(STEPS)].flatten(1) - moved[len(STEPS) :].flatten(1)
        near, far = (difference[[i]] / (2 * h * sigma) for i, h in enumerate(STEPS))
        answer = float(torch.linalg.vector_norm(near))
        believed = answer > SEEN and float(torch.linalg.vector_norm(near - far)) < AGREED * answer
        off = float(torch.linalg.vector_norm(forward - near))
        if believed and (off > WRONG * answer or abs(backward - size) > WRONG * answer):
            raise refusal(
                f"model: {quote(name)} answers {answer:.3g} to a unit push at sigma = {sigma:.3g}, but its derivative "
                f"is {size:.3g} forward and {backward:.3g} backward; leave out torch.no_grad, inference_mode and detach"
            )
