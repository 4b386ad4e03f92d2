"""Order parameters: magnetisation, what its moments tell on a finite lattice, and how undecided a class is."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from softmode.lattice import Lattice
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


def binder_of_moments(
    second: Float[np.ndarray, "*any"], fourth: Float[np.ndarray, "*any"]
) -> Float[np.ndarray, "*any"]:
    r"""Return $U_4 = 1 - \langle m^4\rangle/(3\langle m^2\rangle^2)$ of averaged moments; NaN where nothing fluctuates.

    Args:
        second: Averages of m^2.
        fourth: Averages of m^4.

    Source: binder1981.
    """
    return 1 - fourth / (3 * np.where(second > 0, second, np.nan) ** 2)


def susceptibility(
    absolute: Float[np.ndarray, "*any"], second: Float[np.ndarray, "*any"], sites: int
) -> Float[np.ndarray, "*any"]:
    r"""Return $\chi = N(\langle m^2\rangle - \langle|m|\rangle^2)$, which has a maximum near the transition.

    Args:
        absolute: Averages of |m|.
        second: Averages of m^2.
        sites: N.

    Source: binder1981; with |m| in place of m, whose mean vanishes on a finite lattice.
    """
    return sites * (second - absolute**2)


def second_moment_length(
    second: Float[np.ndarray, "*any"], structure: Float[np.ndarray, "*any"], side: int, sites: int
) -> Float[np.ndarray, "*any"]:
    r"""Return $\xi = \frac{1}{2\sin(k_{\min}/2)}\sqrt{N\langle m^2\rangle/S(k_{\min}) - 1}$ (sites).

    Args:
        second: Averages of m^2.
        structure: Averages of `lowest_structure_factor`.
        side: L, with k_min = 2 pi / L.
        sites: N.

    Returns:
        NaN where the lowest wave is stronger than the uniform one, as noise makes it where nothing is correlated.

    Source: cooper1982.
    """
    excess = sites * second / np.where(structure > 0, structure, np.nan) - 1
    return np.sqrt(np.where(excess >= 0, excess, np.nan)) / (2 * math.sin(math.pi / side))


def lowest_structure_factor(x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, " batch"]:
    r"""Return $S(k_{\min}) = |\sum_i x_i e^{ik\cdot i}|^2/N$, the mean over the axes' lowest wave vectors, in float64.

    Args:
        x: Fields; of several channels the mean is taken, as the magnetisation is over all.

    Source: cooper1982; paper E.9 for k_min.
    """
    field = x.double().mean(1)
    factors = []
    for axis in range(1, field.ndim):
        others = [other for other in range(1, field.ndim) if other != axis]
        profile = field.sum(others) if others else field
        wave = torch.exp(1j * Lattice((profile.shape[1],)).phase((1,)).to(x.device))
        factors.append((profile * wave).sum(1).abs().square())
    return torch.stack(factors).mean(0) / field[0].numel()


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
