"""Observables of one line."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from softmode.observe.state import State, Variable


@dataclass(frozen=True)
class Function:
    """One array of a state, by a function of it."""

    name: str
    function: Callable[[State], Tensor]

    @property
    def variables(self):
        return {self.name: Variable((), self.name)}

    def __call__(self, state):
        return {self.name: self.function(state)}
