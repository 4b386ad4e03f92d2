"""Order parameters: magnetisation and its Binder cumulant, and how undecided a class is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from softmode.observe.state import State, Variable


def magnetisation(x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, " batch"]:
    """Return the mean of the field over channels and sites, [batch]."""
    return x.flatten(1).mean(1)


def binder_cumulant(magnetisations: Float[Tensor, "trajectory *rest"]) -> Float[Tensor, "*rest"]:
    r"""Return $U_4 = 1 - \langle m^4\rangle/(3\langle m^2\rangle^2)$: 0 for Gaussian m, 2/3 for m = ±1.

    Args:
        magnetisations: One value per trajectory, [trajectory, ...].

    Source: binder1981.
    """
    square = magnetisations.square()
    return 1 - square.square().mean(0) / (3 * square.mean(0).square())


def class_entropy(logits: Float[Tensor, "batch class"]) -> Float[Tensor, " batch"]:
    r"""Return the entropy $-\sum_y p_y\log p_y$ of a classifier's probabilities (nats), in float64."""
    log_p = logits.double().log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


@dataclass(frozen=True)
class Magnetisation:
    """The mean of the field."""

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Description of what it returns."""
        return {"magnetisation": Variable((), "mean of x", "1", "sum x / N", "state")}

    def __call__(self, state: State) -> Mapping[str, Tensor]:
        """Return the mean of every trajectory."""
        return {"magnetisation": magnetisation(state.x)}


@dataclass(frozen=True)
class ClassEntropy:
    """How undecided the class of the denoised state is.

    Args:
        classify: Maps states at no noise to logits [batch, class].
    """

    classify: Callable[[Tensor], Tensor]

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Description of what it returns."""
        return {"class_entropy": Variable((), "entropy of the class of D(x)", "nat", "classifier")}

    def __call__(self, state: State) -> Mapping[str, Tensor]:
        """Return the entropy of every trajectory."""
        return {"class_entropy": class_entropy(self.classify(state.denoised))}
