"""A denoiser of a batch in which every state has a label of its own: it takes no other batch than that."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from softmode.misreading import Checked

Denoise = Callable[[Tensor, Tensor | float], Tensor]


@dataclass(frozen=True, eq=False)
class PerState:
    """A denoiser of states with a label each, in a network's one call.

    A label belongs to a place in the batch, so that no batch of another size is taken. Whoever asks for some of the
    states, or for several points around each, says which state is in which place: `of_rows`.

    Args:
        bind: Maps the labels of a batch's states, one after the other, to a denoiser of that batch.
        labels: The labels.
    """

    bind: Callable[[Sequence[Any]], Denoise]
    labels: tuple[Any, ...]

    @cached_property
    def _bound(self) -> Denoise:
        made = self.bind(self.labels)
        # what its network is read as is checked for each label
        return made.denoiser if isinstance(made, Checked) else made

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x_0 | x] of every state under its own label, of the shape of x.

        Raises:
            ValueError: If the batch has another number of states.
        """
        if len(x) != len(self.labels):
            raise ValueError(
                f"x: got {len(x)} states; this denoiser is of {len(self.labels)}, each with its label: of_rows says "
                "which state is in which place"
            )
        level = torch.as_tensor(sigma, dtype=torch.float64, device=x.device)
        if level.numel() == 1 or not getattr(self._bound, "one_level", False):
            return self._bound(x, sigma)
        rows = [(level == each).nonzero().flatten() for each in level.unique()]
        answers = [self.of_rows(places)(x[places], level[places[0]]) for places in rows]
        return torch.cat(answers)[torch.cat(rows).argsort()]

    def of_rows(self, rows: Int[Tensor, " row"]) -> "PerState":
        """Return the denoiser of a batch with state rows[i] in place i."""
        return PerState(self.bind, tuple(self.labels[row] for row in rows.tolist()))


def of_rows(denoiser: Denoise, rows: Int[Tensor, " row"]) -> Any:
    """Return a denoiser of a batch that is made of another batch's states.

    Args:
        denoiser: Of the other batch; one that treats all states alike is returned as it is.
        rows: Which state of the other batch is in each place.
    """
    own: Callable[[Tensor], Denoise] | None = getattr(denoiser, "of_rows", None)
    return denoiser if own is None else own(rows)


def twice(count: int) -> Int[Tensor, " row"]:
    """Return the rows of a batch of so many states that comes twice, one whole batch after the other."""
    return torch.arange(count).repeat(2)
