r"""The averaged gradient along the way to a schedule: how much each level gains per unit of weight.

Along the way u s from no guidance to a schedule s, $\bar g_i = \int_0^1 \partial A/\partial w_i(u s)\,du$, and
$A(s) - A(0) = \sum_i s_i \bar g_i$. Every trial is differentiated once, at u = v^2, with v uniform in a part of [0, 1]
of its own: $2 v\,\partial A/\partial w_i$ has the mean $\bar g_i$, and most nodes are near no guidance, where a strong
guidance acts first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from softmode.estimate import Array
from softmode.experiments.pulse.trials import SAMPLER, Guidance
from softmode.experiments.susceptibility.adjoint_measure import CALLS, WITHOUT, adjoint_of
from softmode.experiments.susceptibility.outcomes import CHANGE, class_outcome
from softmode.guidance.adjoint import Adjoint, Outcome
from softmode.networks.own_posterior import LEVELS
from softmode.observe.alignment import change
from softmode.observe.state import Variable
from softmode.runs.classifier import NONE
from softmode.runs.layout import layout
from softmode.runs.store import ArraySpec
from softmode.streams import node_seed


def strengths(seed: int, label: int, trials: Sequence[int], count: int) -> Float[Array, " trial"]:
    """Return v of some trials of a class, each uniform in its own of `count` parts of [0, 1]."""
    parts = [np.random.default_rng(node_seed(seed, trial, label)).uniform() for trial in trials]
    return (np.array(trials) + np.array(parts)) / count


def judged(guidance: Guidance) -> int:
    """Return the network evaluations that a sample's alignment takes: none of a classifier of its own."""
    return (LEVELS - 1) * len(guidance.labels) if guidance.config.classifier == NONE else 0


@dataclass(frozen=True, eq=False)
class Sweeps:
    """Trials of some classes, each differentiated at one strength on the way to a schedule.

    Args:
        guidance: What is guided, and how.
        alignment: What guidance is to gain.
        way: The schedule, its weight at each level [level].
    """

    guidance: Guidance
    alignment: str
    way: Float[Array, " level"]

    @property
    def calls(self) -> int:
        """Network evaluations of a trial, a derivative counted as two."""
        each = SAMPLER.calls(self.guidance.times)[:-1].numpy()
        own, twin = CALLS * each.sum(), each.sum() if self.alignment == CHANGE else 0
        guide = np.where(self.way != 0, CALLS, WITHOUT) @ each
        scored = 0 if self.alignment == CHANGE else CALLS * judged(self.guidance)
        return int(own + guide + twin + scored)

    @property
    def passes(self) -> int:
        """Times that the sampler's levels are passed: down and back, and down for the unguided twin."""
        return 3 if self.alignment == CHANGE else 2

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """What is kept of every trial."""
        guidance = self.guidance
        sizes = {"trajectory": len(guidance.labels) * guidance.config.trials, "level": len(guidance.levels)}
        described = {
            "gradient": Variable(("level",), "2 v times the derivative of the value by the weight at each level"),
            "value": Variable((), "what guidance is to gain"),
            "strength": Variable((), "share u = v^2 of the schedule that was in use"),
        }
        return layout(sizes, described, guidance.config.dtype)

    def measure(self, label: int, trials: list[int], advance: Callable[[], None]) -> dict[str, Array]:
        """Return every array of some trials of a class."""
        guidance = self.guidance
        config, adjoint = guidance.config, adjoint_of(guidance, label, trials, advance)
        v = strengths(config.seed, label, trials, config.trials)
        weights = torch.from_numpy(v[:, None] ** 2 * self.way).to(guidance.device)
        found = adjoint.sweep(weights, self._outcome(label, adjoint, weights))
        return {"gradient": 2 * v[:, None] * found.gradient.cpu().numpy(), "value": found.value.cpu().numpy(),
                "strength": v**2}  # fmt: skip

    def _outcome(self, label: int, adjoint: Adjoint, weights: Tensor) -> Outcome:
        if self.alignment != CHANGE:
            return class_outcome(self.guidance, label, self.alignment)
        twin = adjoint.guided(0 * weights)
        return lambda final: change(final, twin)
