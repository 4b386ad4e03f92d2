"""The denoiser of a network of whole timesteps, such as those of a DDPM."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from softmode.denoiser import Network, per_sample, predicted
from softmode.message import quote, refusal
from softmode.of_classes import of_classes
from softmode.rounding import rounding_at, within

# fraction of a timestep that is taken for rounding: levels of 1e-6 where they rise by 1e-3 from one to the next
WHOLE = 1e-3
Prediction = Literal["epsilon", "v_prediction", "sample"]


@dataclass(frozen=True, eq=False, repr=False)
class _Discrete:
    """A network of whole timesteps, seen as a denoiser.

    Args:
        network: Called with states and timesteps.
        prediction: What it returns.
        timesteps: Those with signal and noise, float64 [entry].
        logs: Logs of their noise levels, rising, [entry].
    """

    network: Network
    prediction: Prediction
    timesteps: Tensor
    logs: Tensor

    @property
    def levels(self) -> tuple[float, float]:
        """Lowest and highest noise level at which it can be asked."""
        return math.exp(float(self.logs[0])), math.exp(float(self.logs[-1]))

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        level = per_sample(sigma, x)
        alpha, noise = (1 + level.square()).rsqrt(), level * (1 + level.square()).rsqrt()
        alpha, noise, t = alpha.to(x.dtype), noise.to(x.dtype), self._timestep(level.flatten()).to(x.dtype)
        out = predicted(self.network(alpha * x, t.expand(x.shape[0])))
        # one that has learned its variance too returns it after the mean
        out = out[:, : x.shape[1]]
        match self.prediction:
            case "sample":
                return out
            case "epsilon":
                return x - noise / alpha * out
            case _:
                return alpha.square() * x - noise * out

    def _timestep(self, level: Tensor) -> Tensor:
        """Return the timesteps of noise levels [level], between the entries linear in the log of the level."""
        low, high = self.levels
        if not bool(within(level, low, high, rounding_at(level)).all()):
            raise refusal(
                f"sigma: got {float(level.min()):.4g} to {float(level.max()):.4g}; this network knows noise levels in "
                f"[{low:.4g}, {high:.4g}], those of its alphas_cumprod"
            )
        logs, timesteps = self.logs.to(level.device), self.timesteps.to(level.device)
        right = torch.searchsorted(logs, level.log()).clamp(1, len(logs) - 1)
        share = ((level.log() - logs[right - 1]) / (logs[right] - logs[right - 1])).clamp(0, 1)
        found = torch.lerp(timesteps[right - 1], timesteps[right], share)
        # whole up to rounding is whole, or a network that cuts the rest off is asked for the one before
        return torch.where((found - found.round()).abs() < WHOLE, found.round(), found)


def from_discrete(
    network: Callable[..., Any],
    alphas_cumprod: Tensor | np.ndarray | Sequence[float],
    prediction: Prediction = "epsilon",
    *,
    classes: int = 0,
    null_label: int | None = None,
) -> Any:
    r"""Return the denoiser of a network of N timesteps 0, 1, ..., as of DDPM, with the levels that it knows.

    | prediction | network | denoiser |
    |---|---|---|
    | epsilon | the noise | $(x_t - \sigma\epsilon)/\alpha$ |
    | v_prediction | $v = \alpha\epsilon - \sigma x_0$ | $\alpha x_t - \sigma v$ |
    | sample | $x_0$ | itself |

    Here $x_t = \alpha x_0 + \sigma\epsilon$, $\alpha^2 = \bar\alpha_t$, $\sigma^2 = 1 - \bar\alpha_t$. Between two
    timesteps the network is given a fraction, linear in the log of the noise level. What it returns beyond the channels
    of the state, a variance that it has learned, is left out.

    Args:
        network: Called with states x_t, [batch, channel, *space], and timesteps [batch] in the type of the states.
        alphas_cumprod: $\bar\alpha_t$ of every timestep, falling from near 1 to near 0. One without any signal or
            noise is left out, as nothing is known there.
        prediction: What the network returns.
        classes: Number of classes of a network that is called with a class [batch] as its third argument; 0 for none.
        null_label: The one of them that stands for all samples together; None for none.

    Returns:
        The denoiser; its `levels` are the lowest and highest noise level at which it can be asked.

    Raises:
        ValueError: If the numbers do not fall between 1 and 0, the prediction is none, or there is no such class.

    Source: ho2020; salimans2022.
    """
    if prediction not in get_args(Prediction):
        raise refusal(f"prediction: got {quote(prediction)}; expected {', '.join(get_args(Prediction))}")
    squares = torch.as_tensor(alphas_cumprod, dtype=torch.float64, device="cpu").detach()
    falling = squares.ndim == 1 and len(squares) > 1 and bool((squares.diff() < 0).all())
    if not falling or not bool(within(squares, 0.0, 1.0).all()):
        few = quote([float(f"{each:.4g}") for each in squares.flatten()[:3].tolist()])
        raise refusal(
            f"alphas_cumprod: got {few}, ... of shape {tuple(squares.shape)}; expected numbers that fall from near 1 "
            "to near 0, the running product of 1 - beta"
        )
    kept = (squares > 0) & (squares < 1)
    squares, timesteps = squares[kept], torch.arange(len(squares), dtype=torch.float64)[kept]
    logs = 0.5 * ((1 - squares) / squares).log()
    return of_classes(network, lambda each: _Discrete(each, prediction, timesteps, logs), classes, null_label)
