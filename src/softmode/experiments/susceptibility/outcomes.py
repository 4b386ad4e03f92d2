"""What guidance is to gain, as a differentiable function of final samples: of a class, their change, or a user's."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.experiments.pulse.trials import Guidance
from softmode.experiments.susceptibility.config import ALIGNMENTS
from softmode.guidance.adjoint import Outcome
from softmode.message import first_line, quote, refusal
from softmode.networks.python import find_function, source_of
from softmode.runs.identity import fingerprint, inputs_of

CHANGE = "change"
PYTHON = "python:"
# log-odds of a class of 99 %, beyond which a sample is as good as sure
SURE = math.log(99)
FORM = "a function of (samples [trial, channel, *space], class) that returns [trial]"

# A of samples [trial, channel, *space] of a class, [trial]
Measure = Callable[[Tensor, int], Tensor]


class Own(NamedTuple):
    """A user's own A.

    Attributes:
        function: A.
        inputs: Digest of its source file, by what that is.
    """

    function: Measure
    inputs: Mapping[str, str]

    def identity(self, guidance: Guidance) -> dict[str, Any]:
        """Return a number that another function would not give."""
        label = guidance.labels[0]
        made = fingerprint(lambda x: self.function(x, label), guidance.model.shape, guidance.device, guidance.dtype)
        return {"alignment": made}


def check_alignment(name: str, given: Measure | None) -> None:
    """Raise a ValueError if an alignment is neither one of ours nor a function; before anything is loaded."""
    if given is None and name not in ALIGNMENTS and not name.startswith(PYTHON):
        raise refusal(f"alignment: got {quote(name)}; expected {', '.join(ALIGNMENTS)}, or python:module:function")


def own_measure(name: str, given: Measure | None, guidance: Guidance) -> Own | None:
    """Return a user's own A; None where the alignment is one of ours.

    Args:
        name: The alignment that the config names.
        given: The function, where it is at hand.
        guidance: What is guided.

    Raises:
        ValueError: If there is no such alignment or function, or it is none of each sample.
    """
    if given is None and name in ALIGNMENTS:
        return None
    if given is not None:
        found = Own(given, {})
    else:
        function, module = find_function(name, "alignment")
        found = Own(function, inputs_of(alignment=source_of(module)))
    _check(found.function, name, guidance.labels[0], guidance.model.shape, guidance.dtype, guidance.device)
    return found


def _check(
    function: Any, name: str, label: int, shape: Sequence[int], dtype: torch.dtype, device: torch.device
) -> None:
    """Raise a ValueError unless a function is a finite number of each sample alone that can be differentiated."""
    field, stream = f"alignment: {quote(name)}", torch.Generator().manual_seed(0)
    x = torch.randn(2, *shape, generator=stream, dtype=torch.float64).to(device, dtype).requires_grad_()
    with torch.enable_grad():
        try:
            value = function(x, label)
        # whatever the user's code raises
        except Exception as error:
            raise refusal(
                f"{field} fails on samples {tuple(x.shape)} ({first_line(error)}); expected {FORM}"
            ) from error
        if not isinstance(value, Tensor) or value.shape != (2,):
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise refusal(f"{field} returned {got} for two samples; expected {FORM}")
        if not value.requires_grad:
            raise refusal(f"{field} does not depend on the sample by differentiable operations; use some of torch's")
        if not bool(value.isfinite().all()):
            raise refusal(f"{field} is {value.tolist()} of random samples; expected finite numbers: clip it")
        try:
            (gradient,) = torch.autograd.grad(value[0], x, materialize_grads=True)
        # whatever torch says of an operation without a derivative
        except RuntimeError as error:
            raise refusal(f"{field} cannot be differentiated ({first_line(error)}); use torch's operations") from error
    # where it is not finite it says nothing of who depends on whom
    if bool(gradient[1].nan_to_num().any()):
        raise refusal(f"{field} of one sample depends on the others of its batch; expected {FORM}")
    one, other = value.tolist()
    if one == other and not bool(gradient.any()):
        raise refusal(f"{field} does not depend on the sample: it is {one:g} of any; use one that does")


def class_outcome(guidance: Guidance, label: int, name: str) -> Outcome:
    """Return the alignment of samples with a class, in float64: its probability, the logarithm, or clipped log-odds."""

    def outcome(final: Tensor) -> Tensor:
        known = guidance.classifier(final.float()).double().log_softmax(1)
        own = known[:, label]
        if name != "logit":
            return own.exp() if name == "probability" else own
        others = torch.cat([known[:, :label], known[:, label + 1 :]], 1).logsumexp(1)
        return (own - others).clamp(-SURE, SURE)

    return outcome


def change_at_rest(motion: Float[Tensor, "trial channel *space"]) -> Outcome:
    r"""Return the rms change of samples where guidance begins, from the way that each of them sets out.

    The rms change has no derivative there but one to the right, $|\dot x|/\sqrt n$ along the way $\dot x$ of the
    guidance in use; so has each level the share $\dot x \cdot \partial x/\partial w_i / (|\dot x| \sqrt n)$ in it.

    Args:
        motion: Differences along the way.
    """
    flat = motion.flatten(1)
    along = flat / (flat.norm(dim=1, keepdim=True) * math.sqrt(flat.shape[1]))

    def outcome(final: Tensor) -> Tensor:
        moved = final.double().flatten(1)
        return ((moved - moved.detach()) * along).sum(1)

    return outcome
