r"""How the final sample answers to guidance at every noise level: one reverse sweep through the sampler.

Guided by $D_w = D + w(\sigma)(D - D_{\mathrm{guide}})$, a deterministic sampler takes noise to a sample x_0, and any
scalar A(x_0) is a function of the weights $w_i$ at the levels $\sigma_i$. Reverse-mode differentiation gives
$\partial A/\partial w_i$ at all levels at once: the susceptibility to a weak pulse at each.

Only the states at the network's calls are kept on the way down; the sweep calls the networks again. So memory is that
of one call, and of one or two states for each step.

Source: the linear response of a sample to guidance at a level is what a pulse of the paper's H.4 measures.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from softmode.denoiser import Denoiser, per_sample
from softmode.message import first_line, refusal
from softmode.rounding import rounding_at

# samples with a denoiser, from fixed noise: final states [trial, channel, *space]
Sampling = Callable[[Denoiser], Tensor]
# a scalar A of each final sample, [trial], made of differentiable operations
Outcome = Callable[[Tensor], Tensor]

REMEDY = "the reverse sweep needs D(x, sigma) made of torch's differentiable operations; pulses need none"


class Sweep(NamedTuple):
    """What one reverse sweep tells.

    Attributes:
        final: Samples [trial, channel, *space].
        value: A of each, float64 [trial].
        gradient: Its derivative by the weight at each level, float64 [trial, level]; NaN where it is not finite.
    """

    final: Tensor
    value: Float[Tensor, " trial"]
    gradient: Float[Tensor, "trial level"]


@dataclass(frozen=True, eq=False)
class Adjoint:
    """A guided sampler that can be differentiated by the weights of its guidance.

    Args:
        sample: The sampler, for instance of `softmode.samplers.Heun`; deterministic, or with the same noise each time.
        denoiser: The denoiser D.
        guide: The denoiser that is pushed away from.
        levels: Noise levels at which the sampler calls, float64 [level].
    """

    sample: Sampling
    denoiser: Denoiser
    guide: Denoiser
    levels: Float[Tensor, " level"]

    def guided(self, weights: Float[Tensor, "trial level"]) -> Tensor:
        """Return samples [trial, channel, *space] at some weights, without derivatives."""
        with torch.no_grad():
            return self.sample(_Weighted(self, weights))

    def sweep(self, weights: Float[Tensor, "trial level"], outcome: Outcome) -> Sweep:
        r"""Return A of guided samples and its derivative by the weight at every level, by one reverse sweep.

        Args:
            weights: Weights at which to differentiate, float64 [trial, level].
            outcome: A of final samples.

        Raises:
            ValueError: If D cannot be differentiated, naming the operation, or A does not depend on the sample.
        """
        weights = weights.detach().clone().requires_grad_()
        with torch.enable_grad():
            final = self.sample(_Weighted(self, weights))
            found = outcome(final)
            if not found.requires_grad:
                raise refusal("outcome: does not depend on the sample by differentiable operations; use one that does")
            (gradient,) = torch.autograd.grad(found.sum(), weights)
        return Sweep(final.detach(), found.detach().double(), torch.where(gradient.isfinite(), gradient, math.nan))

    def mean_square(
        self, weights: Float[Tensor, "trial level"], vectors: Iterable[Tensor]
    ) -> Float[Tensor, "trial level"]:
        r"""Return how much a sample's values answer, $|\partial x_0/\partial w_i|^2/n$ of its n values.

        Of a random vector v with independent components of unit variance, $(v \cdot \partial x_0/\partial w_i)^2$ has
        the mean $|\partial x_0/\partial w_i|^2$. No classifier is needed.

        Args:
            weights: Weights at which to differentiate, float64 [trial, level].
            vectors: Random vectors [trial, channel, *space]; each takes a sweep.

        Returns:
            Mean over the vectors, float64 [trial, level].
        """
        squares = [self.sweep(weights, _Along(v)).gradient.square() / v[0].numel() for v in vectors]
        return torch.stack(squares).mean(0)

    def curvature(
        self,
        weights: Float[Tensor, "trial level"],
        direction: Float[Tensor, "trial level"],
        outcome: Outcome,
        step: float = 1e-2,
    ) -> Float[Tensor, " trial"]:
        r"""Return $d^2 A(w + s d)/ds^2$ at s = 0, by a central difference of two sweeps, float64 [trial].

        Where s times it is no longer small beside the first derivative, linear response ends.

        Args:
            weights: The weights w, float64 [trial, level].
            direction: The direction d, [trial, level].
            outcome: A of final samples.
            step: Step in s on either side.
        """
        above, below = (self.sweep(weights + s * direction, outcome).gradient for s in (step, -step))
        return ((above - below) * direction).sum(1) / (2 * step)


@dataclass(frozen=True, eq=False)
class _Along:
    """The component of samples along vectors of their own."""

    vectors: Tensor

    def __call__(self, final: Tensor) -> Tensor:
        """Return it, [trial]."""
        return (final * self.vectors).flatten(1).sum(1)


class _Weighted:
    """The guided denoiser of a sweep, D + w (D - D_guide) with a weight for each trial and level."""

    def __init__(self, adjoint: Adjoint, weights: Float[Tensor, "trial level"]) -> None:
        self.adjoint, self.weights = adjoint, weights

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return the guided posterior mean, of the shape of x.

        Raises:
            ValueError: If sigma is none of the levels.
        """
        level, levels = float(torch.as_tensor(sigma).flatten()[0]), self.adjoint.levels
        place = int((levels - level).abs().argmin())
        if abs(float(levels[place]) - level) > level * rounding_at(level):
            raise refusal(f"sigma: got {level:.6g}; expected one of the {len(levels)} levels of the weights")
        guided: Tensor = _Recomputed.apply(x, self.weights[:, place], self.adjoint, level)  # type: ignore[no-untyped-call] # without types in its package
        return guided


class _Recomputed(torch.autograd.Function):
    """A guided call that keeps its states alone, and is made again when its derivative is asked for."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, adjoint: Adjoint, level: float) -> Tensor:
        """Return the guided posterior mean."""
        ctx.save_for_backward(x, weight)
        ctx.adjoint, ctx.level = adjoint, level
        # so that what cannot be differentiated, such as x.numpy(), is found in the sweep, where it is named
        state = x.detach()
        denoised = adjoint.denoiser(state, level)
        if not weight.any():
            # a fresh tensor, should the denoiser return its input
            return denoised.clone()
        return denoised + per_sample(weight, x).to(x.dtype) * (denoised - adjoint.guide(state, level))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Return the derivatives by the states and by the weights."""
        (gradient,), (x, weight), adjoint, level = gradients, ctx.saved_tensors, ctx.adjoint, ctx.level
        try:
            with torch.enable_grad():
                x, weight = x.detach().requires_grad_(), weight.detach()
                denoised = adjoint.denoiser(x, level)
                # without weight what the guide makes of the state changes nothing
                with torch.set_grad_enabled(bool(weight.any())):
                    guide = adjoint.guide(x, level)
                    push = denoised - guide
                _check_carries("model", adjoint.denoiser, denoised, x, level)
                if weight.any():
                    _check_carries("guide", adjoint.guide, guide, x, level)
                out = denoised + per_sample(weight, x).to(x.dtype) * push
                (by_state,) = torch.autograd.grad(out, x, gradient, materialize_grads=True)
        # whatever torch says of an operation without a derivative
        except RuntimeError as error:
            raise refusal(f"model: cannot be differentiated ({first_line(error)}); {REMEDY}") from error
        by_weight = (gradient.double() * push.detach().double()).flatten(1).sum(1)
        return by_state, by_weight.to(weight), None, None


class _Watch(TorchFunctionMode):
    """Notes the first operation on numbers with a gradient that returns some without; comparisons may."""

    cut = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operation."""
        out = func(*args, **(kwargs or {}))
        # of what is given besides, as x in means.to(x), no gradient is due
        carried = bool(args) and isinstance(args[0], Tensor) and args[0].requires_grad
        lost = isinstance(out, Tensor) and not out.requires_grad and out.dtype != torch.bool
        if carried and lost and not self.cut:
            self.cut = resolve_name(func) or str(func)
        return out


def _check_carries(field: str, denoiser: Denoiser, denoised: Tensor, x: Tensor, level: float) -> None:
    """Raise a ValueError if what a denoiser made of a state carries no gradient."""
    if denoised.requires_grad:
        return
    with _Watch() as watch:
        denoiser(x, level)
    raise refusal(f"{field}: cannot be differentiated: {watch.cut or 'it'} loses the gradient; {REMEDY}")
