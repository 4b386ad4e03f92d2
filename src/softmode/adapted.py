"""Anybody's denoiser, called with the noise level in the form that it wants."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from softmode.denoiser import Denoiser

# forms of a noise level, of float64 without axes, for some states, in the order in which they are tried
FORMS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "a scalar in float64": lambda level, x: level,
    "a scalar of the states' type": lambda level, x: level.to(x.dtype),
    "[batch]": lambda level, x: level.to(x.dtype).repeat(len(x)),
    "[batch, 1, ...]": lambda level, x: level.to(x.dtype).repeat(len(x), *[1] * (x.ndim - 1)),
    "a number": lambda level, x: float(level),
}


@dataclass(frozen=True, eq=False)
class Adapted:
    """A denoiser of somebody else's making as one of ours: `D(x, sigma)`, whatever form it wants its noise level in.

    The first form that it answers with something of the shape of the states is kept; one that is right for the states
    may be wrong for other numbers of them, so those of several noise levels are asked for one level at a time. An
    answer of a higher precision than the states is rounded to theirs.

    Args:
        denoiser: Called with states and a noise level.
        form: Name of the form that it wants, once that is known.
    """

    denoiser: Callable[..., Any]
    form: list[str] = field(default_factory=list)
    # of a batch bound to its states, see softmode.per_state
    one_level: ClassVar[bool] = True

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Any:
        """Return what the denoiser answers, of the shape and type of x unless it is none."""
        level = torch.as_tensor(sigma, dtype=torch.float64, device=x.device)
        if level.numel() == 1:
            return self._at(x, level.reshape(()))
        rows = [(level == each).nonzero().flatten() for each in level.unique()]
        answers = [self._at(x[places], level[places[0]]) for places in rows]
        return torch.cat(answers)[torch.cat(rows).argsort()]

    def _at(self, x: Tensor, level: Tensor) -> Any:
        """Return the answer at one noise level."""
        if self.form:
            return _widest(self.denoiser(x, FORMS[self.form[0]](level, x)), x)
        failures, others = list[Exception](), list[Any]()
        for name, form in FORMS.items():
            try:
                out = self.denoiser(x, form(level, x))
            except torch.OutOfMemoryError:
                raise
            # whatever the user's code raises of a form that it does not take
            except Exception as error:
                failures.append(error)
                continue
            if isinstance(out, Tensor) and out.shape == x.shape:
                self.form.append(name)
                return _widest(out, x)
            others.append(out)
        # what it says of a level in a form that it takes is told, else what it says first
        if not others:
            raise failures[0]
        return others[0]


def adapted(denoiser: Any) -> Denoiser:
    """Return a denoiser that takes its noise level as ours do: one of somebody else's making is adapted to that."""
    made_of = denoiser
    while isinstance(made_of, partial):
        made_of = made_of.func
    kind = made_of if hasattr(made_of, "__code__") else type(made_of)
    ours = str(getattr(kind, "__module__", "")).partition(".")[0] == "softmode"
    made: Denoiser = denoiser if ours else Adapted(denoiser)
    return made


def _widest(out: Any, x: Tensor) -> Any:
    """Return an answer in the type of the states where it comes in a more precise one."""
    precise = isinstance(out, Tensor) and out.is_floating_point() and torch.promote_types(out.dtype, x.dtype)
    return out.to(x.dtype) if precise == out.dtype != x.dtype else out
