"""Noise schedules: the rate beta(t) of a variance-preserving process, its integral and the inverse of that."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from softmode.rounding import TABLE, above, within

Time = Tensor | float


def as_time(t: Time) -> Tensor:
    """Return `t` as a tensor, Python numbers in float64."""
    return t if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64)


class Schedule(ABC):
    """A noise rate beta(t) > 0 of a variance-preserving process, with its integral and the inverse of that."""

    t_end: float = math.inf

    @abstractmethod
    def beta(self, t: Time) -> Tensor:
        """Return the noise rate, per unit of the process's own time."""

    @abstractmethod
    def integral(self, t: Time) -> Tensor:
        r"""Return $B(t) = \int_0^t \beta(s)\,ds$."""

    @abstractmethod
    def time(self, integral: Time) -> Tensor:
        """Return the time t at which the integral of beta reaches `integral`."""


@dataclass(frozen=True)
class Constant(Schedule):
    """beta(t) = rate. Source: paper Eq. 50, rate 1."""

    rate: float = 1.0

    def beta(self, t: Time) -> Tensor:
        """Return the noise rate."""
        return torch.full_like(as_time(t), self.rate)

    def integral(self, t: Time) -> Tensor:
        """Return rate * t."""
        return self.rate * as_time(t)

    def time(self, integral: Time) -> Tensor:
        """Return integral / rate."""
        return as_time(integral) / self.rate


@dataclass(frozen=True)
class Linear(Schedule):
    """beta(t) = start + (end - start) t on t in [0, 1]. Source: song2021, start 0.1, end 20."""

    start: float = 0.1
    end: float = 20.0
    t_end: float = 1.0

    def beta(self, t: Time) -> Tensor:
        """Return the noise rate."""
        return self.start + (self.end - self.start) * as_time(t)

    def integral(self, t: Time) -> Tensor:
        """Return start t + (end - start) t^2 / 2."""
        t = as_time(t)
        return self.start * t + 0.5 * (self.end - self.start) * t.square()

    def time(self, integral: Time) -> Tensor:
        """Return the positive root of the quadratic in its stable form; NaN beyond `t_end`."""
        integral = as_time(integral)
        root = (self.start**2 + 2 * (self.end - self.start) * integral).sqrt()
        t = 2 * integral / (self.start + root)
        return torch.where(above(t, self.t_end, TABLE), math.nan, t)


@dataclass(frozen=True)
class Cosine(Schedule):
    r"""$\alpha^2(t) = \cos^2(\theta(t))/\cos^2(\theta(0))$, $\theta = \frac{\pi}{2}\frac{t+s}{1+s}$, t in [0, 1).

    Source: nichol2021, offset s = 0.008.
    """

    offset: float = 0.008
    t_end: float = 1.0

    def _angle(self, t: Time) -> Tensor:
        return 0.5 * math.pi * (as_time(t) + self.offset) / (1 + self.offset)

    def beta(self, t: Time) -> Tensor:
        """Return the noise rate."""
        return math.pi / (1 + self.offset) * self._angle(t).tan()

    def integral(self, t: Time) -> Tensor:
        """Return -log alpha^2(t), free of cancellation at small t."""
        angle, turn = self._angle(t), 0.5 * math.pi * as_time(t) / (1 + self.offset)
        return torch.log1p((2 * angle - turn).sin() * turn.sin() / angle.cos().square())

    def time(self, integral: Time) -> Tensor:
        """Return the time at which -log alpha^2 reaches `integral`."""
        start = float(self._angle(0.0))
        growth = torch.expm1(as_time(integral)) / math.cos(start) ** 2
        tangent = (math.tan(start) ** 2 + growth).sqrt()
        turn = torch.atan(growth / (tangent + math.tan(start)) / (1 + tangent * math.tan(start)))
        return turn * (1 + self.offset) * 2 / math.pi


@dataclass(frozen=True)
class Custom(Schedule):
    """Any positive beta(t), integrated by adaptive quadrature and inverted by bracketing (relative error below 1e-12).

    Args:
        rate: The function beta(t), called with Python floats.
        t_end: End of the range on which beta is defined.
    """

    rate: Callable[[float], float]
    t_end: float = 1.0

    def beta(self, t: Time) -> Tensor:
        """Return the noise rate."""
        return self._map(self.rate, t)

    def integral(self, t: Time) -> Tensor:
        """Return the integral of beta from 0 to t."""
        return self._map(self._integral, t)

    def time(self, integral: Time) -> Tensor:
        """Return the time at which the integral of beta reaches `integral`; NaN beyond `t_end`."""
        from scipy.optimize import brentq

        def invert(target: float) -> float:
            last = self._integral(self.t_end)
            if not within(target, 0.0, last, TABLE):
                return math.nan
            if target >= last:
                return self.t_end
            return float(brentq(lambda t: self._integral(t) - target, 0.0, self.t_end, xtol=1e-30, rtol=1e-14))

        return self._map(invert, integral)

    def _integral(self, t: float) -> float:
        from scipy.integrate import quad

        return float(quad(self.rate, 0.0, t, epsabs=0.0, epsrel=1e-13, limit=500)[0])

    @staticmethod
    def _map(function: Callable[[float], float], values: Time) -> Tensor:
        values = as_time(values)
        return values.new_tensor([function(v) for v in values.flatten().tolist()]).reshape(values.shape)
