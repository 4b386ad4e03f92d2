"""What a model itself says of a sample's class, where no classifier is at hand."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from softmode.model import Model
from softmode.posterior import noising_path, path_log_posterior

# noise levels of the path, in the units of the states: no class is known above, and below a network is surer than right
FIRST, LAST, LEVELS = 40.0, 1.0, 16
# log-probability of a class that is not told apart
NEVER = -1e4


class OwnPosterior:
    r"""The posterior of the class along a noising path, by the model's own denoisers, as an `ImageClassifier`.

    Its logits are $\log q(z|x_{\sigma_1}, \ldots, x_{\sigma_n})$, the classes equally likely before, with the same
    noise for every sample. Its features are the states themselves. It can be differentiated
    by them.

    Args:
        model: A model of classes.
        labels: The classes that are told apart; any other has no probability.
        device: Device of the states.

    Source: the reverse chain of ho2020 (Eq. 7), see `softmode.posterior`.
    """

    def __init__(self, model: Model, labels: Sequence[int], device: torch.device) -> None:
        self.channels, self.classes = model.shape[0], model.classes
        self._labels, self._shape = torch.tensor(sorted(set(labels)), device=device), model.shape
        self._denoisers = [model.denoiser(label) for label in self._labels.tolist()]
        low, high = model.levels or (LAST, FIRST)
        self._levels = torch.from_numpy(np.geomspace(min(high, FIRST), max(low, LAST), LEVELS))

    def features(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch site"]:
        """Return states flat."""
        return x.flatten(1)

    def head(self, features: Float[Tensor, "batch site"]) -> Float[Tensor, "batch class"]:
        """Return the log-posterior of every class of flat states."""
        x, stream = features.reshape(-1, *self._shape), torch.Generator().manual_seed(0)

        def fill(out: Tensor) -> Tensor:
            drawn = torch.randn(self._shape, generator=stream, dtype=torch.float64)
            return out.copy_(drawn.expand_as(out))

        path = noising_path(x, self._levels, fill)
        known = path_log_posterior(self._denoisers, path, self._levels)[-1]
        logits = known.new_full((len(x), self.classes), NEVER)
        return logits.index_copy(1, self._labels, known)

    def __call__(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch class"]:
        """Return the log-posterior of every class."""
        return self.head(self.features(x))
