"""What a denoiser and a classifier must do, checked once before anything is computed or written."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from softmode.denoiser import Autocast, Denoiser
from softmode.labels import Label
from softmode.message import first_line, quote, refusal
from softmode.misreading import Checked
from softmode.misuse import META_REMEDY, check_arguments, described, half_remedy, watch, what_it_returned, why_it_failed
from softmode.model import Model

# maps states [batch, channel, *space], at no noise, to logits [batch, class]
Classify = Callable[[Tensor], Tensor]

STATES = 3
# largest differences between two equal calls, and of a state alone and in a batch, in units of the largest value; the
# second beyond the last bit of bfloat16, 2^-8, which a sum in another order turns over
SAME_CALL, SAME_STATE = 1e-5, 1e-2
# labels that are asked for in one call for trial
MIXED = 7


def check_denoiser(
    denoiser: Denoiser, model: Model, dtype: torch.dtype, device: torch.device, sigma: float, rounded: bool = False
) -> float:
    """Raise a ValueError unless a denoiser is one at a noise level; return how long it takes.

    It must return finite states of the shape, type and device that it is given, leave these as they are, answer two
    equal calls alike, also after other ones, and treat the states of a batch apart. Nothing in it may be computed in
    half precision, as a difference of rounded numbers is noise.

    Args:
        denoiser: Called six times, on three states of pure noise and on single ones of them; of `from_velocity` and
            `from_flow` more often.
        model: The model that it is of, for its shape and name.
        dtype: Floating type of the states.
        device: Device of the states.
        sigma: Noise level.
        rounded: Whether it may compute in half precision inside, where no differences are taken.

    Returns:
        Seconds per state of the second call (s).
    """
    if isinstance(denoiser, Checked):
        # here, before it is asked so high for the first time in the midst of a run
        denoiser.check(_states(1, model, dtype, device), model.levels[1] if model.levels else math.inf)
    x = _states(STATES, model, dtype, device) * sigma
    level = torch.tensor(sigma, dtype=torch.float64)
    where = f"model: {quote(model.name)}"
    at = f"at sigma = {sigma:.4g}"
    check_arguments(denoiser, where)

    def asked(states: Tensor, level: Tensor) -> Any:
        with torch.no_grad():
            return denoiser(states, level)

    def call(states: Tensor, watched: bool = False) -> Tensor:
        given, given_level = states.clone(), level.clone()
        try:
            out, seen = watch(denoiser, given, given_level) if watched else (asked(given, given_level), None)
        # whatever the user's code raises
        except Exception as error:
            remedy = why_it_failed(denoiser, states, level)
            called = f"it is called as D(x, sigma) with states {described(states)} and a noise level"
            raise refusal(f"{where} failed {at} ({first_line(error)}); {remedy or called}") from error
        if seen is not None and seen.meta:
            raise refusal(f"{where}: {META_REMEDY}")
        if not isinstance(out, Tensor) or (out.shape, out.dtype, out.device) != (states.shape, dtype, states.device):
            raise refusal(f"{where} returned {what_it_returned(out, states)}")
        # Autocast, or a control that is there to round, is a choice that the caller sees
        chosen = rounded or isinstance(denoiser, Autocast) or getattr(denoiser, "rounds", False)
        if seen is not None and seen.half is not None and not chosen:
            raise refusal(f"{where} rounds: {half_remedy(seen.half)}")
        if not bool(torch.isfinite(out).all()):
            raise refusal(f"{where} returned NaN or infinite values {at}; check it there")
        if not torch.equal(given, states) or not torch.equal(given_level, level):
            raise refusal(f"{where} overwrites the states or the noise level that it is given; let it copy them first")
        return out

    first = call(x, watched=True).clone()
    began = time.perf_counter()
    second = call(x)
    seconds = (time.perf_counter() - began) / STATES
    # at a high level the answer is the small difference of large numbers
    rounding = 64 * torch.finfo(dtype).eps * float(x.abs().max())
    if (apart := _apart(second, first, rounding)) > SAME_CALL:
        raise refusal(
            f"{where} answers two equal calls {at} differently, by {apart:.2g} of its largest value: it is random or "
            "in training mode (call .eval() on its network), or keeps something between calls"
        )
    # the ends of the batch: a batch in reverse order has the middle one in its place
    for i in (0, STATES - 1):
        if (apart := _apart(call(x[i : i + 1]), first[i : i + 1], rounding)) > SAME_STATE:
            raise refusal(
                f"{where} returns another answer for a state alone than in a batch of {STATES} {at}, by {apart:.2g} of "
                "its largest value: it mixes its batch, as BatchNorm does in training mode: call .eval() on its network"
            )
    if (apart := _apart(call(x), first, rounding)) > SAME_CALL:
        raise refusal(
            f"{where} answers as before only until it is called with other states {at}, by {apart:.2g} of its largest "
            "value: it keeps something between calls; make its answer depend on x and sigma alone"
        )
    return seconds


def check_batched(
    model: Model, labels: Sequence[Label], dtype: torch.dtype, device: torch.device, sigma: float
) -> None:
    """Raise a ValueError if states with a label each are answered otherwise in one call than label by label.

    Args:
        model: The model; nothing is asked of one that takes one label at a time.
        labels: Labels that are dealt out, of which a few are asked for, the first of them twice.
        dtype: Floating type of the states.
        device: Device of the states.
        sigma: Noise level.
    """
    if model.batched is None or len(labels) < 2:
        return
    few = labels[:: -(-len(labels) // MIXED)]
    # neither sorted nor the same backwards
    asked = [*few[::-1], few[0]]
    # one state for all labels: which of them an answer is of can be told
    x = (_states(1, model, dtype, device) * sigma).expand(len(asked), *model.shape).clone()
    level = torch.tensor(sigma, dtype=torch.float64)
    where = f"model: {quote(model.name)}"
    with torch.no_grad():
        try:
            together = model.of_states(asked)(x, level)
        # whatever the user's code raises
        except Exception as error:
            raise refusal(
                f"{where} failed for several labels in one call ({first_line(error)}); `batched` maps the labels of a "
                "batch's states to its denoiser: mend it, or leave it out"
            ) from error
        if not isinstance(together, Tensor) or together.shape != x.shape:
            got = described(together) if isinstance(together, Tensor) else type(together).__name__
            raise refusal(f"{where} returned {got} for several labels in one call, of states {described(x)}")
        alone = torch.cat([model.denoiser(label)(x[:1], level) for label in few])
    rounding = 64 * torch.finfo(dtype).eps * float(x.abs().max())
    for answer, label in zip(together, asked, strict=True):
        off, *others = [_apart(answer, alone[place], rounding) for place in _first(few, label)]
        # not beyond the rounding of batches, nor nearer to what another label answers
        if not off <= SAME_STATE or (off > SAME_CALL and any(3 * other < off for other in others)):
            raise refusal(
                f"{where} answers a state of label {label} otherwise among others in one call than label by label "
                f"at sigma = {sigma:.4g}; `batched` is to keep the order of the labels: mend it, or leave it out"
            )


def _first(labels: Sequence[Label], label: Label) -> list[int]:
    """Return the places of labels, that of one label first."""
    place = labels.index(label)
    return [place, *(other for other in range(len(labels)) if other != place)]


def check_classifier(classify: Classify, model: Model, dtype: torch.dtype, device: torch.device) -> None:
    """Raise a ValueError unless a classifier returns finite logits for states of the model's shape, twice the same."""
    x = _states(2, model, dtype, device).clamp(-1, 1)

    def call() -> Tensor:
        try:
            with torch.no_grad():
                out = classify(x.clone())
        # whatever the user's code raises
        except Exception as error:
            raise refusal(
                f"classifier: cannot tell the classes of states {model.shape} ({first_line(error)}); use another"
            ) from error
        fits = isinstance(out, Tensor) and out.ndim == 2 and len(out) == 2 and out.shape[1] > 0
        if not fits or not bool(torch.isfinite(out).all()):
            got = f"{tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
            raise refusal(f"classifier: returned {got} for two states; expected finite logits (2, classes)")
        return out

    first = call().clone()
    if _apart(call(), first, 0.0) > SAME_CALL:
        raise refusal("classifier: answers two equal calls differently; call .eval() on its network")


def _states(count: int, model: Model, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return normal numbers of the shape of some states, the same for every type and device."""
    stream = torch.Generator().manual_seed(0)
    return torch.randn(count, *model.shape, generator=stream, dtype=torch.float64).to(device, dtype)


def _apart(a: Tensor, b: Tensor, rounding: float) -> float:
    """Return the largest difference beyond rounding, in units of the largest value; 0 of two zeros."""
    difference = float((a.double() - b.double()).abs().max()) - rounding
    return max(difference, 0.0) / max(float(b.abs().max()), torch.finfo(b.dtype).tiny)
